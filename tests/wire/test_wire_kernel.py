"""The compiled kernel does what its pure-Python twin does, on anything; and gives memory back."""

import os
import struct
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.conftest import kernel

from trunkline.errors import ExpositionError, WireError
from trunkline.wire import exposition, remote_write, template, varint
from trunkline.wire.exposition import Exposed, ExpositionParser
from trunkline.wire.numbers import parse_value

Outcome: TypeAlias = str | tuple[Any, ...]


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    return kernel()


class Owner:
    """Gives every label set the next slot, drops what is named `dropped`, and notes what it is asked."""

    def __init__(self, parser_type: type[ExpositionParser], *, honor_timestamps: bool) -> None:
        self.asked: list[Exposed] = []
        self._slots: dict[tuple[Any, ...], int] = {}
        self.parser = parser_type(self._decide, honor_timestamps=honor_timestamps)

    def _decide(self, exposed: Exposed) -> int:
        self.asked.append(exposed)
        if exposed.name == "dropped":
            return exposition.DROPPED
        return self._slots.setdefault((exposed.name, *sorted(exposed.labels)), len(self._slots))

    def outcome(self, body: bytes | bytearray | memoryview, *, openmetrics: bool) -> Outcome:
        """Everything that can be seen of reading one body, also what stays behind."""
        asked = len(self.asked)
        try:
            parsed = self.parser.parse(body, openmetrics=openmetrics)
        except ExpositionError as error:
            return str(error), self.asked[asked:], self._kept()
        return (
            parsed.values.tobytes(),
            parsed.present,
            parsed.timestamps_ms,
            parsed.extras,
            (parsed.samples, parsed.duplicates, parsed.exemplars),
            self.asked[asked:],
            self._kept(),
        )

    def _kept(self) -> tuple[Any, ...]:
        return sorted(self.parser._slots.items()), sorted(self.parser._metadata.lines)


NUMBERS = st.sampled_from(
    [
        "0",
        "-0",
        "1",
        "12345678",
        "123456789012345678",
        "0.30000000000000004",
        "1.7976931348623157e+308",
        "NaN",
        "+Inf",
        "-inf",
        "Infinity",
        "-nan",
        "1_0",
        "0x1p3",
        "1e999",
        "1e-400",
        "99999999999999999999.5",
        "",
        "+",
    ]
) | st.floats().map(repr)
SERIES = st.sampled_from(
    [
        "foo",
        "foo_total",
        "foo_bucket",
        "dropped",
        "bar_seconds",
        'foo{a="b"}',
        'foo{a="b",}',
        'foo{ a = "b" }',
        '{"x.y"}',
        '{"x.y",a="\\n"}',
        'foo{a=" 1 # {"}',
        'foo{a="x\ny"}',
        ' foo{c="ä"}',
        'foo{le="1"}',
        "foo ",
    ]
)
STAMPS = st.sampled_from(
    ["", "", "", " 1700000000000", " 0", " 1.5", " -3", " nan", " 99999999999999999999", "  7"]
)
EXEMPLARS = st.sampled_from(["", "", "", "", ' # {a="b"} 1', ' # {a="b"} 0.5 1.5', " # {} x"])
SAMPLES = st.tuples(SERIES, st.sampled_from([" ", " ", " ", "  ", "\t"]), NUMBERS, STAMPS, EXEMPLARS).map(
    "".join
)
PLAIN = st.tuples(SERIES, st.just(" "), st.integers(-9, 10**19).map(str) | st.floats(0, 1).map(repr)).map(
    "".join
)
LINES = st.sampled_from(
    [
        "# TYPE foo gauge",
        "# TYPE foo counter",
        "# TYPE foo histogram",
        "# TYPE dropped gauge",
        "# HELP foo text",
        "# HELP foo other",
        "# UNIT bar_seconds seconds",
        " # TYPE foo gauge",
        "# a comment",
        "",
        " ",
        "# EOF",
    ]
)
BODIES = st.lists(PLAIN | PLAIN | SAMPLES | LINES, max_size=12).map("\n".join).map(str.encode)
TEXT_BODIES = st.tuples(BODIES, st.sampled_from([b"", b"\n"])).map(b"".join)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A body with a few bytes cut out, put in or changed."""
    body = draw(TEXT_BODIES)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(start + 4, len(body))))
        body = body[:start] + draw(st.binary(max_size=3) | st.sampled_from([b"\n", b" ", b'"'])) + body[end:]
    return body


@settings(deadline=None, max_examples=400)
@given(
    st.lists(spoilt() | TEXT_BODIES, min_size=1, max_size=4),
    st.sets(st.integers(-1, 8)),
    st.booleans(),
    st.booleans(),
)
def test_both_parsers_do_the_same(
    compiled: ModuleType, bodies: list[bytes], freed: set[int], openmetrics: bool, honor_timestamps: bool
) -> None:
    twin = Owner(exposition.ExpositionParser, honor_timestamps=honor_timestamps)
    fast = Owner(compiled.ExpositionParser, honor_timestamps=honor_timestamps)
    end = b"\n# EOF\n" if openmetrics else b""
    for body in bodies:
        for _ in range(2):
            assert fast.outcome(body + end, openmetrics=openmetrics) == twin.outcome(
                body + end, openmetrics=openmetrics
            )
        twin.parser.forget(freed)
        fast.parser.forget(freed)
    assert fast.outcome(bodies[0], openmetrics=False) == twin.outcome(bodies[0], openmetrics=False)


def test_ends_of_bodies(compiled: ModuleType) -> None:
    endings = (
        b"",
        b"\n",
        b"# EOF",
        b"# EOF\n",
        b"\n# EOF",
        b"a 1\n# EOF\n",
        b"a 1\n# EOF\n\n",
        b"a 1# EOF",
        b"# EOF ",
    )
    for body in endings:
        twin = Owner(exposition.ExpositionParser, honor_timestamps=True)
        fast = Owner(compiled.ExpositionParser, honor_timestamps=True)
        assert fast.outcome(body, openmetrics=True) == twin.outcome(body, openmetrics=True)


@settings(deadline=None, max_examples=1000)
@given(
    st.from_regex(r"\A[+-]?\d{0,24}\.?\d{0,24}([eE][+-]?\d{1,5})?\Z", alphabet="+-.eE0123456789")
    | st.floats().map(repr)
    | st.integers(0, 2**54).map(lambda number: str(2 * number + 1))
    | st.text("+-.eE059naifty_ x", max_size=8)
)
def test_a_number_the_kernel_reads_is_the_number(compiled: ModuleType, text: str) -> None:
    found = compiled.read_decimal(text.encode())
    if found is not None:
        assert struct.pack("<d", found) == struct.pack("<d", parse_value(text.encode()))


def test_the_kernel_reads_ordinary_numbers_itself(compiled: ModuleType) -> None:
    for text in (
        "0",
        "1",
        "-1.5",
        "1e3",
        "1.7e+09",
        "0.30000000000000004",
        "123456789012345678",
        "NaN",
        "+Inf",
    ):
        assert compiled.read_decimal(text.encode()) is not None


LABELS = st.lists(
    st.binary(max_size=5)
    | st.sampled_from([b"\x0a\x01a\x12\x01b", b"instance-0001", b"instance-0002", b"x" * 200]),
    max_size=5,
).map(lambda labels: b"".join(b"\x0a" + varint.encode(len(one)) + one for one in labels))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(LABELS, st.floats(), st.integers(-5, 2**62)), max_size=12),
    st.sampled_from([0, 1_760_000_000_123, -1]),
)
def test_both_templates_are_the_same_bytes(
    compiled: ModuleType, lane: list[tuple[bytes, float, int]], stamp: int
) -> None:
    labels = [labels for labels, _, _ in lane]
    values, stamps = array("d", [value for _, value, _ in lane]), array("q", [each for _, _, each in lane])
    slots = array("I", reversed(range(len(lane))))
    twin, fast = template.Template(labels), compiled.Template(labels)

    def agree(fill: Callable[[Any], bytes]) -> None:
        assert fill(fast) == fill(twin)
        assert (fast.raw_bytes, fast.compressed_bytes) == (twin.raw_bytes, twin.compressed_bytes)
        assert fast.span_ms == twin.span_ms
        assert fast.labels() == twin.labels() == labels

    agree(lambda one: one.fill(values, slots, stamp))
    agree(lambda one: one.fill_each(values, slots, stamps))
    agree(lambda one: one.fill(values, list(slots), 1))
    assert len(fast) == len(twin)


@given(st.binary(max_size=20))
def test_both_templates_refuse_the_same(compiled: ModuleType, labels: bytes) -> None:
    def outcome(make: Callable[[list[bytes]], Any]) -> str | bytes:
        try:
            filled: bytes = make([labels]).fill(array("d", [1.0]), [0], 1_760_000_000_123)
        except WireError as error:
            return str(error)
        return filled

    assert outcome(compiled.Template) == outcome(template.Template)


@given(st.lists(st.tuples(st.text(max_size=200), st.text(max_size=200)), max_size=4))
def test_both_encode_the_same_labels(compiled: ModuleType, labels: list[tuple[str, str]]) -> None:
    assert compiled.encode_labels(tuple(labels)) == remote_write.encode_labels(labels)


def test_large_lanes_are_the_same_bytes(compiled: ModuleType) -> None:
    """Past what a copy reaches, and with tables that have to grow."""
    labels = [
        b"".join(
            b"\x0a" + varint.encode(len(text)) + text
            for text in (b"job-of-everybody", b"name_%d" % (number % 37), b"%d" % number * (number % 50 + 1))
        )
        for number in range(3000)
    ]
    values, stamps = array("d", range(3000)), array("q", range(3000))
    twin, fast = template.Template(labels), compiled.Template(labels)
    assert fast.fill(values, range(3000), 5) == twin.fill(values, range(3000), 5)
    assert fast.fill_each(values, range(3000), stamps) == twin.fill_each(values, range(3000), stamps)


def test_a_template_reads_nothing_beyond_its_columns(compiled: ModuleType) -> None:
    one = compiled.Template([b"\x0a\x01a"])
    with pytest.raises(IndexError, match="slot 3 is beyond the column of 2 values"):
        one.fill(array("d", [1, 2]), [3], 5)
    with pytest.raises(IndexError, match="slot 1 is beyond the column of 1 timestamps"):
        one.fill_each(array("d", [1, 2]), [1], [5])
    with pytest.raises(OverflowError):
        one.fill(array("d", [1]), [-1], 5)
    with pytest.raises(TypeError, match="expected an array of 'd', not of 'f'"):
        one.fill(array("f", [1]), [0], 5)


def test_texts_that_come_and_go_give_their_memory_back(compiled: ModuleType) -> None:
    owner = Owner(compiled.ExpositionParser, honor_timestamps=True)
    texts = [f'a{{path="{"x" * 100}{number}"}} 1\n'.encode() for number in range(2000)]
    owner.outcome(b"".join(texts), openmetrics=False)
    full = sys.getsizeof(owner.parser._slots)
    for turn in range(20):
        owner.parser.forget(range(100 * turn, 100 * turn + 100))
        assert len(owner.parser._slots) == 1900 - 100 * turn
    assert sys.getsizeof(owner.parser._slots) < full / 50
    for turn in range(200):
        owner.outcome(
            b"".join(b'b{n="%d"} 1\n' % number for number in range(turn * 10, turn * 10 + 100)),
            openmetrics=False,
        )
        owner.parser.forget(range(2000 + turn * 10, 2000 + turn * 10 + 10))
    assert len(owner.parser._slots) == 90
    assert sys.getsizeof(owner.parser._slots) < full / 10


def test_a_parser_serves_one_thread_at_a_time(compiled: ModuleType) -> None:
    """The map cannot change while a body is read without the interpreter's lock: no crash, only its own error."""
    owner = Owner(compiled.ExpositionParser, honor_timestamps=True)
    body = b"".join(b'a{n="%d"} 1\n' % number for number in range(20_000))
    owner.outcome(body, openmetrics=False)
    errors: list[str] = []

    def forget_meanwhile() -> None:
        for number in range(3000):
            try:
                owner.parser.forget([20_000 + number])
            except RuntimeError as error:
                errors.append(str(error))

    thread = threading.Thread(target=forget_meanwhile)
    thread.start()
    while thread.is_alive():
        parsed = owner.parser.parse(body, openmetrics=False)
        assert parsed.samples == 20_000
    thread.join()
    assert all("one thread at a time" in error for error in errors)


def test_the_environment_chooses(compiled: ModuleType) -> None:
    def chosen(wanted: str) -> str:
        code = "from trunkline.wire import kernel; print(kernel.COMPILED, kernel.Template.__module__)"
        environment = {**os.environ, "TRUNKLINE_KERNEL": wanted}
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        return run.stdout.strip() or run.stderr.strip().rpartition("\n")[2]

    assert compiled.__name__ == "trunkline.wire._kernel"
    assert chosen("") == "True trunkline.wire._kernel"
    assert chosen("compiled") == "True trunkline.wire._kernel"
    assert chosen("python") == "False trunkline.wire.template"
    assert (
        chosen("fast")
        == "ImportError: TRUNKLINE_KERNEL is 'fast': say 'python', 'compiled', or nothing at all"
    )


@pytest.mark.parametrize("parser_type", ["python", "compiled"])
def test_a_body_may_be_any_buffer_and_is_let_go(compiled: ModuleType, parser_type: str) -> None:
    parsers = {"python": exposition.ExpositionParser, "compiled": compiled.ExpositionParser}
    body = b'# TYPE a counter\na{b="x\ny"} 1\na{b="\\n", c="d"} 2 5\nb 3 # {x="y"} 1\n c 4\nd 5\nd 6\n'
    bad = b'# TYPE a counter\na{b="x\ny"} 1\ne x\n'
    for openmetrics in (False, True):
        end = b"# EOF\n" if openmetrics else b""
        for text in (
            body.replace(b"\nb ", b"\n#b ") + end,
            body + end,
            b"a 1\n" + end,
            b"",
            b"# EO",
            bad + end,
        ):
            expected = Owner(exposition.ExpositionParser, honor_timestamps=True)
            found = Owner(parsers[parser_type], honor_timestamps=True)
            buffer = bytearray(b"??" + text + b"1\nmore 1\n")
            with memoryview(buffer)[2 : 2 + len(text)] as view:
                outcomes = [
                    found.outcome(one, openmetrics=openmetrics) for one in (view, view, bytearray(text))
                ]
            buffer.clear()  # fails while anybody holds the buffer
            assert outcomes == [expected.outcome(text, openmetrics=openmetrics) for _ in outcomes]


def test_a_buffer_that_is_not_contiguous_is_refused(compiled: ModuleType) -> None:
    owner = Owner(compiled.ExpositionParser, honor_timestamps=True)
    with pytest.raises(TypeError):
        owner.outcome(memoryview(b"a 1\nb 2\n")[::2], openmetrics=False)
