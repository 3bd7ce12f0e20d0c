"""Several bodies in a row for one parser: kernel and twin give the same samples, errors, questions and memory.

An input is a list of steps, each begun by a line of words after `%`:

    %text ignore 0 2        a body of text format; `ignore` in any step: timestamps are not honoured;
    foo{a="b"} 1 1700       numbers: slots that are forgotten after the body
    %openmetrics x40        a body of OpenMetrics, here 40 times its lines with `@` replaced by 0 to 39
    foo{a="@"} 1
    %whole bytes            OpenMetrics, whose end is as it stands here instead of being added; `bytes`: the body
                            is `bytes`, and not a buffer that ends where the body does

A line end before `%` belongs to neither; what comes before the first `%` is a body of text format.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterable
from random import Random
from typing import Any, Final, NamedTuple, TypeAlias

from fuzz.kernels import TWIN, Kernel
from trunkline.errors import ExpositionError
from trunkline.wire.exposition import DROPPED, Exposed, ExpositionParser

Outcome: TypeAlias = tuple[Any, ...]
_MAX_STEPS: Final = 12
_MAX_BODY_BYTES: Final = 100_000
_TIMES = re.compile(rb"x[0-9]{1,4}")
_SLOT = re.compile(rb"[0-9]{1,4}|-1")


class Step(NamedTuple):
    """What is done with a parser: a body, then slots to forget."""

    body: bytes | memoryview
    openmetrics: bool = False
    freed: tuple[int, ...] = ()


class Owner:
    """Gives every label set a slot, freed ones first; drops what is named `dropped`; notes what it is asked."""

    def __init__(self, parser: type[ExpositionParser], *, honor_timestamps: bool) -> None:
        self._asked: list[Exposed] = []
        self._slots: dict[tuple[Any, ...], int] = {}
        self._free: list[int] = []
        self._used = 0
        self._parser = parser(self._decide, honor_timestamps=honor_timestamps)

    def _decide(self, exposed: Exposed) -> int:
        self._asked.append(exposed)
        if exposed.name == "dropped":
            return DROPPED
        key = (exposed.name, *sorted(exposed.labels))
        if key not in self._slots:
            self._slots[key] = self._free.pop() if self._free else self._used
            self._used = max(self._used, self._slots[key] + 1)
        return self._slots[key]

    def take(self, step: Step) -> tuple[Outcome, Outcome]:
        """What depends on this body alone, and everything that can be seen, also what stays behind."""
        self._asked.clear()
        try:
            parsed = self._parser.parse(step.body, openmetrics=step.openmetrics)
        except ExpositionError as error:
            alone: Outcome = (str(error),)
            seen: Outcome = ()
        else:
            alone = (parsed.samples, parsed.exemplars)
            seen = (
                parsed.values.tobytes(),
                parsed.present,
                parsed.timestamps_ms,
                [(one.slot, struct.pack("<d", one.value), one.timestamp_ms) for one in parsed.extras],
                parsed.duplicates,
            )
        asked = tuple(self._asked)
        self._forget(step.freed)
        return alone, (alone, seen, asked, self._kept())

    def _forget(self, freed: Iterable[int]) -> None:
        self._parser.forget(freed)
        for key, slot in list(self._slots.items()):
            if slot in freed:
                del self._slots[key]
                self._free.append(slot)

    def _kept(self) -> Outcome:
        return sorted(self._parser._slots.items()), sorted(self._parser._metadata.lines)  # noqa: SLF001


def check(data: bytes, kernel: Kernel) -> None:
    """Take the steps of an input with both parsers, and each body with a parser that has seen nothing."""
    agree(steps(data), kernel, honor_timestamps=not any(b"ignore" in _words(part) for part in _parts(data)))


def agree(taken: Iterable[Step], kernel: Kernel, *, honor_timestamps: bool) -> None:
    """Whether a body is accepted, and how many samples it has, does not depend on the bodies before it."""
    fast = Owner(kernel.parser, honor_timestamps=honor_timestamps)
    twin = Owner(TWIN.parser, honor_timestamps=honor_timestamps)
    for step in taken:
        alone, seen = fast.take(step)
        assert seen == twin.take(step)[1]
        assert alone == Owner(TWIN.parser, honor_timestamps=honor_timestamps).take(step)[0]


def steps(data: bytes) -> list[Step]:
    return [_step(part) for part in _parts(data)[:_MAX_STEPS]]


def _parts(data: bytes) -> list[bytes]:
    """Each step, its words as the first line."""
    return data[1:].split(b"\n%") if data.startswith(b"%") else (b"\n" + data).split(b"\n%")


def _words(part: bytes) -> list[bytes]:
    return part.partition(b"\n")[0].split()


def _step(part: bytes) -> Step:
    words, body = _words(part), part.partition(b"\n")[2]
    times = [int(word[1:]) for word in words if _TIMES.fullmatch(word)]
    if times and body:
        count = min(times[0], _MAX_BODY_BYTES // len(body))
        body = b"\n".join(body.replace(b"@", b"%d" % index) for index in range(count))
    if b"openmetrics" in words:
        body += b"\n# EOF\n" if body else b"# EOF\n"
    freed = tuple(int(word) for word in words if _SLOT.fullmatch(word))
    exact = body if b"bytes" in words else memoryview(array("B", list(body)))
    return Step(exact, openmetrics=b"openmetrics" in words or b"whole" in words, freed=freed)


# ---- inputs that look like bodies ----

_NUMBERS = (
    rb"0 -0 1 12345678 123456789012345678 0.30000000000000004 1.7976931348623157e+308 NaN +Inf -inf".split()
)
_ODD_NUMBERS = rb"Infinity -nan 1_0 0x1p3 1e999 1e-400 99999999999999999999.5 + . 1. .5 1e 1e+ 1,0 @".split()
_SERIES = (
    *rb'foo foo_total foo_bucket foo_sum foo_created foo_info dropped dropped{a="@"} bar_seconds {"x.y"}'.split(),
    *rb'foo{a="b"} foo{a="b",} foo{a="@"} foo{b="@",c="d"} foo_bucket{le="1"} foo_bucket{le="1.0"}'.split(),
    *rb'foo{quantile="0.5"} foo{a="\\"} foo{a="\n\""} {"x.y",a="\n"} {a="b","x.y"} foo{} foo{,} foo{a="b",a="c"}'.split(),
    *rb'foo{__name__="x"} foo{""="x"} foo{"x y"="z"} {"foo"} _: foo:bar'.split(),
    b'foo{ a = "b" }',
    b'foo{a=" 1 # {"}',
    b'foo{a="x\ny"}',
    b' foo{c="\xc3\xa4"}',
    b'foo{c="\xff"}',
    b"foo ",
    b"foo\t",
)
_STAMPS = (
    rb"1700000000000 0 1.5 -3 nan 99999999999999999999 9223372036854775807 9223372036854775808 1e3".split()
)
_EXEMPLARS = (b'# {a="b"} 1', b'# {a="b"} 0.5 1.5', b"# {} x", b"# {", b'# {a="\xff"} 1')
_LINES = (
    *(
        b"# TYPE foo " + kind
        for kind in rb"gauge counter histogram summary untyped unknown info stateset x".split()
    ),
    *rb"# HELP foo text|# HELP foo other|# HELP foo|# TYPE foo|# TYPE|# EOF|#|# a comment||".split(b"|"),
    *rb"# TYPE foo_total counter|# TYPE dropped gauge|# UNIT bar_seconds seconds|# UNIT bar_seconds x".split(
        b"|"
    ),
    b" # TYPE foo gauge",
    b"\t#\tTYPE\tfoo\tcounter",
    b'# TYPE "x.y" gauge',
    b"# HELP foo \xff",
    b" ",
    b"\r",
)
_WORDS = rb"openmetrics openmetrics whole ignore bytes x3 x40 x100 0 1 2 3 7 -1".split()


def mutate(data: bytes, random: Random) -> bytes:
    """One change to a line, or to what is done: most of what matters takes several equal lines or bodies."""
    parts = [part.split(b"\n") for part in _parts(data)]
    place = random.randrange(len(parts))
    if random.random() < 0.3:
        _change_step(parts, place, random)
    else:
        _change_line(parts[place], random)
    return b"".join(b"%" + b"\n".join(lines) + b"\n" for lines in parts)[:-1]


def _change_step(parts: list[list[bytes]], place: int, random: Random) -> None:
    words = parts[place][0].split()
    match random.randrange(5):
        case 0:
            parts.insert(random.randrange(len(parts) + 1), list(parts[place]))
        case 1:
            parts.append(list(parts[place]))
        case 2 if len(parts) > 1:
            del parts[place]
        case 3 if words:
            words.pop(random.randrange(len(words)))
            parts[place][0] = b" ".join(words)
        case _:
            parts[place][0] = b" ".join([*words, random.choice(_WORDS)])


def _change_line(lines: list[bytes], random: Random) -> None:
    """The first line are the words."""
    place = random.randrange(1, len(lines) + 1)
    at = min(place, len(lines) - 1)
    match random.randrange(6):
        case 0:
            lines.insert(place, lines[at] if at else _line(random))
        case 1 if at:
            del lines[at]
        case 2 if at:
            lines.insert(random.randrange(1, len(lines)), lines.pop(at))
        case 3 if at:
            series, _, rest = lines[at].partition(b" ")
            lines[at] = series + b" " + _number(random) + random.choice((b"", b" " + rest))
        case 4 if at:
            lines[at] += b" " + random.choice((random.choice(_STAMPS), random.choice(_EXEMPLARS)))
        case _:
            lines.insert(place, _line(random))


def _line(random: Random) -> bytes:
    if random.random() < 0.4:
        return random.choice(_LINES)
    line = random.choice(_SERIES) + random.choice((b" ", b" ", b" ", b"  ", b"\t", b"")) + _number(random)
    if random.random() < 0.3:
        line += b" " + random.choice(_STAMPS)
    return line + b" " + random.choice(_EXEMPLARS) if random.random() < 0.2 else line


def _number(random: Random) -> bytes:
    kind = random.random()
    if kind < 0.2:
        return random.choice(_ODD_NUMBERS)
    return random.choice(_NUMBERS) if kind < 0.6 else repr(random.uniform(-1e3, 1e12)).encode()
