"""The exposition parser: what it accepts, what it refuses, and what it asks only once."""

import json
import math
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as client_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from trunkline.errors import ExpositionError
from trunkline.model import NAN, Kind
from trunkline.wire.exposition import DROPPED, Exposed, ExpositionParser, Parsed
from trunkline.wire.numbers import format_bound, parse_value

Sample: TypeAlias = tuple[dict[str, str], str, int | None]

CASES = json.loads((Path(__file__).parent / "data" / "exposition_cases.json").read_text())["cases"]


class Target:
    """A parser with an owner that gives every new label set the next slot."""

    def __init__(
        self, parser_type: type[ExpositionParser], *, drop: str = "", honor_timestamps: bool = True
    ) -> None:
        self.asked: list[Exposed] = []
        self.slots: dict[tuple[tuple[str, str], ...], int] = {}
        self._drop = drop
        self.parser = parser_type(self._decide, honor_timestamps=honor_timestamps)

    def _decide(self, exposed: Exposed) -> int:
        self.asked.append(exposed)
        if exposed.name == self._drop:
            return DROPPED
        labels = tuple(sorted([("__name__", exposed.name), *exposed.labels]))
        return self.slots.setdefault(labels, len(self.slots))

    def parse(self, body: str | bytes, *, openmetrics: bool = False) -> Parsed:
        raw = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else body
        return self.parser.parse(raw, openmetrics=openmetrics)

    def samples(self, parsed: Parsed) -> list[Sample]:
        """Every sample as (labels, bits, timestamp), in an order of their own."""
        labels = {slot: dict(pairs) for pairs, slot in self.slots.items()}
        stamps = parsed.timestamps_ms
        found: list[Sample] = [
            (labels[slot], bits(parsed.values[slot]), (stamps[slot] if stamps else 0) or None)
            for slot, present in enumerate(parsed.present)
            if present
        ]
        found += [(labels[extra.slot], bits(extra.value), extra.timestamp_ms) for extra in parsed.extras]
        return ordered(found)


def ordered(samples: list[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda one: (sorted(one[0].items()), one[2] or 0, one[1]))


def bits(value: float) -> str:
    return struct.pack(">d", value).hex()


@pytest.mark.parametrize("case", CASES, ids=[f"{case['format']}: {case['name']}" for case in CASES])
def test_prometheus_agrees(parser_type: type[ExpositionParser], case: dict[str, Any]) -> None:
    target = Target(parser_type)
    openmetrics = case["format"] == "openmetrics"
    if "error" in case:
        known = 'foo 1\nfoo{a="b"} 2\nfoo_total 3\n' + ("# EOF\n" if openmetrics else "")
        for before in ([], [known]):
            target = Target(parser_type)
            for body in before:
                target.parse(body, openmetrics=openmetrics)
            with pytest.raises(ExpositionError):
                target.parse(case["body"], openmetrics=openmetrics)
        return
    for _ in range(2):  # by grammar, then by look-up
        parsed = target.parse(case["body"], openmetrics=openmetrics)
        expected = [(labels, value, stamp) for labels, value, stamp in case["samples"]]
        assert target.samples(parsed) == ordered(expected)
        assert parsed.samples == len(expected)
        assert parsed.exemplars == case["exemplars"]
    assert len(target.asked) == len(target.slots)


def test_errors_name_the_line(parser_type: type[ExpositionParser]) -> None:
    def check(body: str, message: str, *, openmetrics: bool = False) -> None:
        with pytest.raises(ExpositionError) as caught:
            Target(parser_type).parse(body, openmetrics=openmetrics)
        assert str(caught.value) == message

    check("foo 1\nbar x\n", "line 2: 'x' is not a number: 'bar x'")
    check("foo 1_0\n", "line 1: '1_0' is not a number: 'foo 1_0'")
    check(
        "foo 1e999\n",
        "line 1: the number '1e999' is too large for a float64, or a NaN with a sign: 'foo 1e999'",
    )
    check("foo\n", "line 1, column 4: expected a value and at most a timestamp after the series: 'foo'")
    check(
        "foo 1 x\n", "line 1, column 4: expected a value and at most a timestamp after the series: 'foo 1 x'"
    )
    check(
        'foo{a="b",b=c} 1\n',
        """line 1, column 11: expected name="value", a closing brace, or one quoted name: 'foo{a="b",b=c} 1'""",
    )
    check('{a="b"} 1\n', """line 1: expected the name of a series: '{a="b"} 1'""")
    check('foo{"bar"} 1\n', """line 1: the series has a name before and inside its braces: 'foo{"bar"} 1'""")
    check('foo{a="1",a="2"} 1\n', """line 1: the series has a label name twice: 'foo{a="1",a="2"} 1'""")
    check('foo{a="\udcff"} 1\n', """line 1: a name or label value is not valid UTF-8: 'foo{a="\ufffd"} 1'""")
    check('a{b="1\n2"} 1\nfoo x\n', "line 3: 'x' is not a number: 'foo x'")
    check(
        "# TYPE foo Counter\n", "line 1: 'Counter' is not a metric type of this format: '# TYPE foo Counter'"
    )
    check("# HELP {}\n", "line 1: expected the name of a metric after HELP: '# HELP {}'")
    check(f"foo {'9' * 300}x\n", f"line 1: '{'9' * 40}' is not a number: 'foo {'9' * 116}…'")
    check("foo 1\n", "the body does not end with '# EOF', so it may be cut short", openmetrics=True)
    check("foo 1\n\n# EOF\n", "line 2: OpenMetrics has no blank lines: ''", openmetrics=True)
    check("# EOF\nfoo 1\n# EOF\n", "line 1: there is something after '# EOF': '# EOF'", openmetrics=True)
    check(
        "# UNIT a_bytes seconds\n# EOF\n",
        "line 1: the unit 'seconds' is not the end of the name 'a_bytes': '# UNIT a_bytes seconds'",
        openmetrics=True,
    )
    check(
        'foo 1 # {a="b"}\n# EOF\n',
        "line 1, column 15: expected labels in braces, a value and at most a timestamp in the exemplar: "
        """'foo 1 # {a="b"}'""",
        openmetrics=True,
    )
    check(
        "foo 1 1e51\n# EOF\n", "line 1: the timestamp '1e51' is out of range: 'foo 1 1e51'", openmetrics=True
    )


def test_where_we_differ_from_prometheus(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type)
    target.parse("  foo 1\n\tbar 2\n")  # it makes the white space part of the name
    assert [exposed.name for exposed in target.asked] == ["foo", "bar"]
    with pytest.raises(ExpositionError):  # it ends the body there and is content
        target.parse("foo 1\n\x00bar 2\n")
    target = Target(parser_type)
    target.parse('# TYPE h histogram\nother{le="1"} 1\n')  # it goes by the last TYPE line
    assert target.asked[0].labels == (("le", "1"),)


def test_families(parser_type: type[ExpositionParser]) -> None:
    def check(body: str, *expected: tuple[str, str, Kind], openmetrics: bool = False) -> None:
        target = Target(parser_type)
        target.parse(body + ("# EOF\n" if openmetrics else ""), openmetrics=openmetrics)
        assert [(one.name, one.family, one.kind) for one in target.asked] == list(expected)

    check("x 1\n", ("x", "x", Kind.UNKNOWN))
    check("# TYPE x_total counter\nx_total 1\n", ("x_total", "x_total", Kind.COUNTER))
    check("# TYPE x counter\nx_total 1\n", ("x_total", "x_total", Kind.COUNTER))
    check(
        "# TYPE x histogram\nx_bucket 1\nx_sum 1\nx_count 1\nx_total 1\nx_max 1\n",
        ("x_bucket", "x", Kind.HISTOGRAM),
        ("x_sum", "x", Kind.HISTOGRAM),
        ("x_count", "x", Kind.HISTOGRAM),
        ("x_total", "x_total", Kind.UNKNOWN),
        ("x_max", "x_max", Kind.UNKNOWN),
    )
    check(
        "# TYPE x summary\nx 1\nx_sum 1\nx_count 1\nx_bucket 1\nx_created 1\n",
        ("x", "x", Kind.SUMMARY),
        ("x_sum", "x", Kind.SUMMARY),
        ("x_count", "x", Kind.SUMMARY),
        ("x_bucket", "x_bucket", Kind.UNKNOWN),
        ("x_created", "x_created", Kind.UNKNOWN),
    )
    check("# TYPE x untyped\nx 1\n", ("x", "x", Kind.UNKNOWN))
    check(
        "# TYPE x histogram\n# TYPE x_count gauge\nx_count 1\nx_sum 1\n",
        ("x_count", "x_count", Kind.GAUGE),
        ("x_sum", "x", Kind.HISTOGRAM),
    )
    check(
        "# TYPE x info\nx_info 1\n# TYPE y gaugehistogram\ny_gsum 1\ny_sum 1\n# TYPE z stateset\nz 1\n",
        ("x_info", "x_info", Kind.INFO),
        ("y_gsum", "y", Kind.GAUGE_HISTOGRAM),
        ("y_sum", "y_sum", Kind.UNKNOWN),
        ("z", "z", Kind.STATE_SET),
        openmetrics=True,
    )


def test_created_series_are_marked(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type)
    target.parse(
        "# TYPE a counter\na_total 1\na_created 2\n# TYPE h histogram\nh_created 3\n# TYPE g gauge\ng_created 4\n# EOF\n",
        openmetrics=True,
    )
    found = {one.name: (one.family, one.kind, one.created) for one in target.asked}
    assert found == {
        "a_total": ("a_total", Kind.COUNTER, False),
        "a_created": ("a_total", Kind.COUNTER, True),
        "h_created": ("h", Kind.HISTOGRAM, True),
        "g_created": ("g_created", Kind.UNKNOWN, False),
    }


def test_help_and_unit_reach_the_decision(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type)
    target.parse('# HELP x a\\\\b\\nc\\"\n# TYPE x gauge\nx 1\n')
    assert target.asked == [Exposed("x", (), "x", Kind.GAUGE, "", 'a\\b\nc\\"')]
    target = Target(parser_type)
    target.parse(
        '# TYPE "x.s_seconds" gauge\n# UNIT "x.s_seconds" seconds\n# HELP "x.s_seconds" a\\"\n{"x.s_seconds"} 1\n# EOF\n',
        openmetrics=True,
    )
    assert target.asked == [Exposed("x.s_seconds", (), "x.s_seconds", Kind.GAUGE, "seconds", 'a"')]


def test_a_known_series_is_not_asked_for_again(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type)
    first = target.parse('# TYPE a gauge\na 1\na{x="y"} 2 1000\n{"c.d",x=" # {"} 3\na{x="new\nline"} 4\n')
    assert (len(target.asked), list(first.values)) == (4, [1, 2, 3, 4])
    second = target.parse('# TYPE a gauge\na 5\na{x="y"} 6 2000\n{"c.d",x=" # {"} 7\na{x="new\nline"} 8\n')
    assert (len(target.asked), list(second.values)) == (4, [5, 6, 7, 8])
    assert second.timestamps_ms is not None
    assert list(second.timestamps_ms) == [0, 2000, 0, 0]
    target.parse("# TYPE a gauge\na 1\nnew 2\n")
    assert [one.name for one in target.asked[4:]] == ["new"]


def test_columns_reach_the_highest_slot(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type)
    target.parse("a 1\nb 2\n")
    parsed = target.parse("b 3\n")
    assert (list(parsed.present), list(parsed.values), parsed.timestamps_ms) == ([0, 1], [0, 3], None)
    parser = parser_type(lambda _: 5)
    parsed = parser.parse(b"a 1 7\n", openmetrics=False)
    assert (len(parsed.values), len(parsed.present), len(parsed.timestamps_ms or ())) == (6, 6, 6)


def test_a_changed_type_or_unit_is_decided_anew(parser_type: type[ExpositionParser]) -> None:
    def check(first: str, second: str, *asked: tuple[str, str, str], openmetrics: bool = True) -> None:
        target = Target(parser_type)
        target.parse(first + "# EOF\n", openmetrics=openmetrics)
        del target.asked[:]
        target.parse(second + "# EOF\n", openmetrics=openmetrics)
        assert [(one.name, one.kind, one.unit) for one in target.asked] == list(asked)
        target.parse(second + "# EOF\n", openmetrics=openmetrics)
        assert len(target.asked) == len(asked)

    gauge, counter = ("# TYPE x gauge\n# TYPE y gauge\ny 1\n", "# TYPE x counter\n# TYPE y gauge\ny 1\n")
    check(gauge + "x 1\n", gauge + "x 1\n")
    check(
        gauge + "x 1\nx_total 1\n",
        counter + "x 1\nx_total 1\n",
        ("x", "counter", ""),
        ("x_total", "counter", ""),
    )
    check("x 1\n", gauge + "x 1\n", ("y", "gauge", ""), ("x", "gauge", ""))
    check("# HELP x one\nx 1\n", "# HELP x two\nx 1\n")
    check("a_s 1\n", "# UNIT a_s s\na_s 1\n", ("a_s", "unknown", "s"))
    check('{a="b","x"} 1\n', '# TYPE x gauge\n{a="b","x"} 1\n', ("x", "gauge", ""))


def test_a_type_that_is_no_longer_said_is_forgotten_after_that_body(
    parser_type: type[ExpositionParser],
) -> None:
    target = Target(parser_type)
    target.parse("# TYPE x counter\n# HELP x text\nx 1\n")
    target.parse("# HELP x text\nx 1\n")
    assert len(target.asked) == 1
    target.parse("# HELP x text\nx 1\n")
    assert [(one.kind, one.help) for one in target.asked] == [(Kind.COUNTER, "text"), (Kind.UNKNOWN, "text")]
    target.parse("# HELP x text\nx 1\n")
    assert len(target.asked) == 2


def test_forgotten_slots_are_decided_anew(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type)
    target.parse('a 1\nb{c="d"} 2\nb 3\n')
    target.parser.forget([1, 7])
    target.parse('a 1\nb{c="d"} 2\nb 3\n')
    assert [(one.name, one.labels) for one in target.asked[3:]] == [("b", (("c", "d"),))]


def test_dropped_series_are_asked_for_once_and_counted(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type, drop="b")
    for _ in range(2):
        parsed = target.parse("a 1\nb 2\nb 3 1000\n")
        assert (parsed.samples, parsed.duplicates, list(parsed.present)) == (3, 0, [1])
    assert len(target.asked) == 2
    with pytest.raises(ExpositionError, match="line 1: 'x' is not a number"):
        target.parse("b x\n")


def test_dropped_series_that_come_and_go_do_not_fill_the_map(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type, drop="b")
    for number in range(3000):
        target.parse(f'a 1\nb{{id="{number}"}} 1\n')
    assert len(target.parser._slots) < 1100
    assert len(target.asked) < 3010


def test_later_samples_of_a_series(parser_type: type[ExpositionParser]) -> None:
    def check(
        body: str,
        present: tuple[float, int] | None,
        extras: list[tuple[int, float, int]],
        duplicates: int,
        *,
        honor_timestamps: bool = True,
    ) -> None:
        target = Target(parser_type, honor_timestamps=honor_timestamps)
        for _ in range(2):
            parsed = target.parse(body)
            stamps = list(parsed.timestamps_ms or [0])
            assert (parsed.values[0], stamps[0]) == present if parsed.present[0] else present is None
            assert [(one.slot, one.value, one.timestamp_ms) for one in parsed.extras] == extras
            assert parsed.duplicates == duplicates
            assert parsed.samples == body.count("\n")

    check("a 1\na 2\na 2\n", (1, 0), [], 2)
    check("a 1 10\na 2 20\na 3 30\n", (1, 10), [(0, 2, 20), (0, 3, 30)], 0)
    check("a 1\na 2 20\n", (1, 0), [(0, 2, 20)], 0)
    check("a 1 10\na 2\n", (1, 10), [], 1)
    check("a 1 0\n", None, [(0, 1, 0)], 0)
    check("a 1 10\na 2 20\n", (1, 0), [], 1, honor_timestamps=False)
    check('a{} 1\na{b="c",} 2\n', (1, 0), [], 0)


def test_the_same_series_written_in_two_ways(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type)
    for _ in range(2):
        parsed = target.parse('a{x="1",y="2"} 1\na{y="2",x="1"} 2\n')
        assert (list(parsed.values), parsed.duplicates) == ([1], 1)
    assert len(target.asked) == 2


def test_nothing_of_a_failed_body_sticks(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type)
    before = target.parse("a 1\nb 2\n")
    with pytest.raises(ExpositionError):
        target.parse("a 10\nb 20 30\nc 30\noops\n")
    assert (list(before.values), list(before.present), before.timestamps_ms) == ([1, 2], [1, 1], None)
    after = target.parse("b 3\n")
    assert (list(after.values), list(after.present), after.timestamps_ms) == ([0, 3, 0], [0, 1, 0], None)
    target.parse("c 1\n")
    assert [one.name for one in target.asked] == ["a", "b", "c"]


def test_changing_the_format_starts_anew(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type)
    target.parse("# TYPE a counter\na_total 1\n a_created 2\n")
    target.parse("# TYPE a counter\na_total 1\na_created 2\n# EOF\n", openmetrics=True)
    assert [one.created for one in target.asked] == [False, False, False, True]


def test_timestamps_are_checked_though_not_honoured(parser_type: type[ExpositionParser]) -> None:
    with pytest.raises(ExpositionError):
        Target(parser_type, honor_timestamps=False).parse("a 1 99999999999999999999\n")
    assert Target(parser_type, honor_timestamps=False).parse("a 1 5\n").timestamps_ms is None


def test_a_memoryview_will_do(parser_type: type[ExpositionParser]) -> None:
    parsed = parser_type(lambda _: 0).parse(memoryview(b"a 1\n"), openmetrics=False)
    assert list(parsed.values) == [1]


def test_nan_is_the_one_of_prometheus(parser_type: type[ExpositionParser]) -> None:
    target = Target(parser_type)
    for _ in range(2):
        assert bits(target.parse("a nAn\n").values[0]) == bits(NAN) == "7ff8000000000001"


def test_bounds() -> None:
    def check(text: str, expected: str) -> None:
        assert format_bound(text) == expected

    check("1", "1.0")
    check("-0", "0.0")
    check("0.50", "0.5")
    check("100000", "100000.0")
    check("999999.5", "999999.5")
    check("1000000", "1e+06")
    check("1234567.5", "1.2345675e+06")
    check("0.0001", "0.0001")
    check("0.00001", "1e-05")
    check("-12345e-10", "-1.2345e-06")
    check("1e100", "1e+100")
    check("5e-324", "5e-324")
    check("1.7976931348623157e308", "1.7976931348623157e+308")
    check("iNf", "+Inf")
    check("-Infinity", "-Inf")
    check("nan", "NaN")
    check("", "")
    check("1_0", "1_0")
    check("high", "high")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive(value: float) -> None:
    assert bits(parse_value(repr(value).encode())) == bits(value)
    assert float(format_bound(repr(value))) == value


NAMES = st.from_regex(r"\A[a-zA-Z_:][a-zA-Z0-9_:]{0,8}\Z").filter(
    lambda name: (
        not name.endswith(("_total", "_created", "_info", "_bucket", "_sum", "_count", "_gsum", "_gcount"))
    )
)
LABEL_NAMES = st.from_regex(r"\A[a-zA-Z][a-zA-Z0-9_]{0,5}\Z")
LABEL_VALUES = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\\"\n ,{}#='), max_size=8
)
LABELS = st.dictionaries(LABEL_NAMES, LABEL_VALUES, max_size=3)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**18), 10**18).map(float)


EIGHTHS = st.integers(1, 10**11).map(
    lambda number: number * 125
)  # milliseconds that are exact in seconds too


def number_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value) or repr(value)


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def block(labels: dict[str, str]) -> str:
    return (
        "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""
    )


@st.composite
def expositions(draw: st.DrawFn, *, openmetrics: bool) -> str:
    """A body of gauges, counters and unknowns that prometheus_client reads too."""
    lines = []
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        kind = draw(st.sampled_from(["gauge", "counter", "unknown" if openmetrics else "untyped"]))
        sample = name + "_total" if kind == "counter" else name
        lines.append(f"# TYPE {name if openmetrics else sample} {kind}")
        for labels in draw(st.lists(LABELS, unique_by=lambda one: tuple(sorted(one.items())), max_size=4)):
            value = draw(NUMBERS)
            if kind == "counter":
                value = 0.0 if math.isnan(value) else abs(value)
            line = f"{sample}{block(labels)} {number_text(value)}"
            stamp = draw(st.none() | EIGHTHS)
            if stamp is not None:
                line += f" {stamp / 1000!r}" if openmetrics else f" {stamp}"
            if openmetrics and kind == "counter" and draw(st.booleans()):
                example = draw(st.sampled_from(["", "b", "ä ,="]))
                line += f' # {{a="{example}"}} {number_text(draw(st.floats(-1, 1)))}'
            lines.append(line)
    return "".join(line + "\n" for line in lines)


def expected_of(families: Iterable[Any]) -> list[Sample]:
    found = []
    for family in families:
        for one in family.samples:
            stamp = None if one.timestamp is None else int(float(one.timestamp) * 1000)
            value = NAN if math.isnan(one.value) else one.value
            found.append(({"__name__": one.name, **one.labels}, bits(value), stamp))
    return ordered(found)


@settings(deadline=None, max_examples=50)
@given(expositions(openmetrics=False))
def test_prometheus_client_agrees_on_text(parser_type: type[ExpositionParser], body: str) -> None:
    target = Target(parser_type)
    expected = expected_of(text_string_to_metric_families(body))
    for _ in range(2):
        assert target.samples(target.parse(body)) == expected
    assert len(target.asked) == len(expected)


@settings(deadline=None, max_examples=50)
@given(expositions(openmetrics=True))
def test_prometheus_client_agrees_on_openmetrics(parser_type: type[ExpositionParser], body: str) -> None:
    target = Target(parser_type)
    body += "# EOF\n"
    expected = expected_of(client_openmetrics.text_string_to_metric_families(body))  # type: ignore[no-untyped-call]
    for _ in range(2):
        parsed = target.parse(body, openmetrics=True)
        assert target.samples(parsed) == expected
        assert parsed.exemplars == body.count(" # {")
    assert len(target.asked) == len(expected)


PIECES = st.sampled_from(
    [
        *(
            b"foo",
            b"bar",
            b" ",
            b"  ",
            b"\t",
            b"{",
            b"}",
            b'{a="b"}',
            b'{a="c",}',
            b"a",
            b"=",
            b",",
            b'"',
            b"\\",
        ),
        *(b"1", b"-2.5", b"NaN", b"1_0", b"\n", b"# ", b"#", b"TYPE ", b"HELP ", b"counter", b"# EOF\n"),
        *(
            b"\xc3\xa4",
            b"\xff",
            b"\x00",
            b"foo 1\n",
            b'foo{a="b"} 2 3\n',
            b' # {a="b"} 1',
            b" 123",
            b"\r",
            b'{"x.y"',
        ),
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | st.lists(PIECES, max_size=12).map(b"".join), st.booleans())
def test_any_bytes_parse_alike_known_or_not_or_raise_only_exposition_errors(
    parser_type: type[ExpositionParser], body: bytes, openmetrics: bool
) -> None:
    end = b"# EOF\n" if openmetrics else b""

    def outcome(target: Target) -> list[Sample] | str:
        try:
            return target.samples(target.parse(body + end, openmetrics=openmetrics))
        except ExpositionError as error:
            return str(error)

    fresh, primed = Target(parser_type), Target(parser_type)
    primed.parse(b'foo 1\nbar 2\nfoo{a="b"} 3\nfoo{a="c",} 4\n{"x.y"} 5\n' + end, openmetrics=openmetrics)
    assert outcome(fresh) == outcome(primed)


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 20)), min_size=1, max_size=8))
def test_churn_asks_only_for_what_is_new(
    parser_type: type[ExpositionParser], scrapes: list[set[int]]
) -> None:
    target = Target(parser_type)
    known: set[int] = set()
    for present in scrapes:
        target.parse("".join(f'a{{n="{number}"}} {number}\n' for number in sorted(present)))
        assert {int(dict(one.labels)["n"]) for one in target.asked} == present - known
        del target.asked[:]
        gone = known - present
        target.parser.forget([target.slots[("__name__", "a"), ("n", str(number))] for number in gone])
        known = set(present)
