"""Exposition text to columns: Prometheus text format 0.0.4 and 1.0.0, and OpenMetrics 1.0.

What is accepted follows the parsers of Prometheus 3 (`model/textparse`), which are the judge: whitespace, trailing
commas, quoted UTF-8 names, numbers, what ends a body. Deliberate differences: white space before a name is not made
part of the name; a NUL outside a label value or a comment is an error instead of a silent end of the body; and
`le` and `quantile` are rewritten (`numbers.format_bound`) by the family a series belongs to, not by the last
`# TYPE` line above it.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import length_hint
from typing import Final, NamedTuple

from trunkline.errors import ExpositionError
from trunkline.model import Extra, Kind
from trunkline.wire.metadata import Metadata
from trunkline.wire.numbers import format_bound, parse_milliseconds, parse_seconds, parse_value

DROPPED: Final = -1
"""What `decide` returns for a series nobody wants."""


class Exposed(NamedTuple):
    """What is known of a series when it is first seen.

    `labels` are unescaped, in the order as scraped, without `__name__`; empty values are kept; `le` of a histogram
    and `quantile` of a summary are written as Prometheus 3 stores them. `family` is the metric as filters see it:
    `x` for `x_bucket`, but `x_total` and `x_info` keep their endings. `created` marks OpenMetrics' `x_created`, whose
    value is the time in seconds at which the series of its family (`x_total`, or `x`) began.
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    family: str
    kind: Kind = Kind.UNKNOWN
    unit: str = ""
    help: str = ""
    created: bool = False


@dataclass(slots=True)
class Parsed:
    """One body as columns by slot, as long as the highest slot known plus one; valid until the next parse.

    `present` is 1 where there is a sample. `timestamps_ms` is given only when a sample came with a timestamp and
    holds 0 for those that did not. `extras` are further timestamped samples of a series (and a sample at time 0,
    which the column cannot say). `samples` counts what was exposed, dropped series included; `duplicates` the later
    samples without timestamp of a series already seen, which are dropped; `exemplars` those read and left out.
    """

    values: array[float]
    present: bytearray
    timestamps_ms: array[int] | None = None
    extras: list[Extra] = field(default_factory=list)
    samples: int = 0
    duplicates: int = 0
    exemplars: int = 0

    def grow(self, slot: int) -> None:
        """Make the columns reach `slot`."""
        missing = slot + 1 - len(self.present)
        if missing > 0:
            self.present.extend(bytes(missing))
            self.values.frombytes(bytes(8 * missing))
            if self.timestamps_ms is not None:
                self.timestamps_ms.frombytes(bytes(8 * missing))

    def cut(self, size: int) -> None:
        """Make the columns at most so long."""
        for column in (self.values, self.present, self.timestamps_ms):
            if column is not None:
                del column[size:]

    def put(self, slot: int, value: float, timestamp_ms: int | None) -> None:
        """Keep one sample."""
        if slot < 0:
            return
        if timestamp_ms is None:
            if self.present[slot]:
                self.duplicates += 1
                return
        elif self.present[slot] or timestamp_ms == 0:
            self.extras.append(Extra(slot, value, timestamp_ms))
            return
        else:
            if self.timestamps_ms is None:
                self.timestamps_ms = array("q", bytes(8 * len(self.present)))
            self.timestamps_ms[slot] = timestamp_ms
        self.values[slot] = value
        self.present[slot] = 1


class _Syntax:
    """The regular expressions of one format. Every repetition is possessive, so no text is read twice."""

    _NAME = rb"[a-zA-Z_][a-zA-Z0-9_]*+"
    _QUOTED = rb'"[^"\\\x00]*+(?:\\.[^"\\\x00]*+)*+"'
    _QUOTED_ON_LINE = rb'"[^"\\\n\x00]*+(?:\\.[^"\\\n\x00]*+)*+"'

    def __init__(self, *, space: bytes, label_value: bytes) -> None:
        name = rb"(" + self._NAME + rb"|" + self._QUOTED + rb")"
        self.start = re.compile(space + rb"([a-zA-Z_:][a-zA-Z0-9_:]*+)?" + space + rb"(\{)?")
        self.close = re.compile(space + rb"\}")
        self.label = re.compile(space + name + space + rb"=" + space + rb'"(' + label_value + rb')"' + space)
        self.quoted_name = re.compile(space + rb"(" + self._QUOTED + rb")" + space + rb"(,|(?=\}))")
        self.exemplar_label = re.compile(
            rb"("
            + self._NAME
            + rb"|"
            + self._QUOTED_ON_LINE
            + rb')="([^"\\\n\x00]*+(?:\\.[^"\\\n\x00]*+)*+)"(?:,|(?=\}))'
        )


_TEXT: Final = _Syntax(space=rb"[ \t]*+", label_value=rb'[^"\\]*+(?:\\.[^"\\]*+)*+')
_OPENMETRICS: Final = _Syntax(space=rb"", label_value=rb'[^"\\\n]*+(?:\\.[^"\\\n]*+)*+')
_TEXT_REST: Final = re.compile(rb"[ \t]*+([^{ \t\n]++)[ \t]*+(?:([0-9]++)[ \t]*+)?(?:\n|\Z)")
_OPENMETRICS_REST: Final = re.compile(rb" ([^ \n]++)(?: (?!# \{)([^ \n]++))?(?:( # \{)|\n)")
_EXEMPLAR_REST: Final = re.compile(rb"\} ([^ \n]++)(?: ([^ \n]++))?(?:\n|\Z)")
_CUT_SHORT: Final = "the body does not end with '# EOF', so it may be cut short"
_ESCAPE: Final = re.compile(r'\\(["\\n])')
_BOUND_LABEL: Final = {Kind.HISTOGRAM: "le", Kind.SUMMARY: "quantile"}
_ODD_SPACE: Final = (0x0D, 0x09, 0x0B, 0x0C)
_UNDERSCORE: Final = 0x5F


class _Scan:
    """One pass over one body: the lines still to come, and where the current one lies."""

    __slots__ = ("_index", "_offset", "body", "lines", "parsed", "rest")

    def __init__(self, body: bytes, lines: list[bytes], parsed: Parsed) -> None:
        self.body: bytes | memoryview = body
        self.lines = lines
        self.parsed = parsed
        self.rest: Iterator[bytes] = iter(lines)
        self._index = 0
        self._offset = 0

    def line(self) -> int:
        """The 1-based number of the line last taken from `rest`."""
        return len(self.lines) - length_hint(self.rest)

    def offset(self) -> int:
        """Where in the body the line last taken begins; cheap, because it goes on from the last answer."""
        index = self.line() - 1
        self._offset += sum(map(len, self.lines[self._index : index])) + index - self._index
        self._index = index
        return self._offset

    def skip_to(self, end: int) -> None:
        """Take the further lines of a sample that ends at `end` in the body: a quoted text may hold line ends."""
        for _ in range(bytes(self.body[self._offset : end - 1]).count(b"\n")):
            next(self.rest, None)

    def error(self, why: str, position: int | None = None) -> ExpositionError:
        line = self.lines[self.line() - 1]
        column = "" if position is None else f", column {position - self.offset() + 1}"
        return ExpositionError(f"line {self.line()}{column}: {why}: {_shown(line)}")


class ExpositionParser:
    """Reads the bodies of one target; owns the map from the text of a series to its slot, and the columns.

    `decide` is asked once for every new text of a series and returns its slot or DROPPED. It is asked again, for a
    series it has seen, when the type or unit of the family changed, when the same labels are written differently,
    after `forget`, and rarely when the map has filled with texts that are no longer exposed: whoever decides knows
    a series by its labels. What it decided during a body that then failed stays decided.

    A `# TYPE`, `# UNIT` or `# HELP` line holds for what follows it, and in later bodies until one comes without it.
    """

    def __init__(self, decide: Callable[[Exposed], int], *, honor_timestamps: bool = True) -> None:
        self._decide = decide
        self._honor_timestamps = honor_timestamps
        self._slots: dict[bytes, int] = {}
        self._names: set[str] = set()
        self._size = 0
        self._openmetrics = False
        self._metadata = Metadata(openmetrics=False)

    def parse(self, body: bytes | bytearray | memoryview, *, openmetrics: bool) -> Parsed:
        """Read one body. Raises ExpositionError naming the line; the columns handed out before are untouched then.

        The body may be any contiguous buffer; nothing of it is kept when this returns.
        """
        if openmetrics is not self._openmetrics:
            self._start_anew(openmetrics=openmetrics)
        body = bytes(body)
        parsed = Parsed(array("d", bytes(8 * self._size)), bytearray(self._size))
        scan = _Scan(body, self._split(body), parsed)
        self._metadata.begin()
        others = self._read(scan)
        parsed.samples = len(scan.lines) - others
        self._forget_vanished(parsed.samples)
        return parsed

    def forget(self, slots: Iterable[int]) -> None:
        """The owner freed these slots: a series that comes back is decided anew. Costs one pass over the map."""
        freed = set(slots)
        self._drop_texts([text for text, slot in self._slots.items() if slot in freed])
        if len(self._names) > len(self._slots):
            self._names = {_name_of(text) for text in self._slots}

    def _start_anew(self, *, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._metadata = Metadata(openmetrics=openmetrics)
        self._slots.clear()
        self._names.clear()

    def _split(self, body: bytes) -> list[bytes]:
        lines = body.split(b"\n")
        if not self._openmetrics:
            return lines
        if not lines[-1]:
            lines.pop()
        if not lines or lines.pop() != b"# EOF":
            raise ExpositionError(_CUT_SHORT)
        return lines

    def _read(self, scan: _Scan) -> int:
        """Read every line; returns how many lines are not samples. A known series costs one look-up."""
        find = self._slots.get
        metadata = self._metadata.lines
        generation = self._metadata.generation
        parsed = scan.parsed
        values, present = parsed.values, parsed.present
        number = parse_value if any(space in scan.body for space in _ODD_SPACE) else float
        others = 0
        for line in scan.rest:
            series, _, text = line.rpartition(b" ")
            slot = find(series)
            if slot is None:
                known = metadata.get(line)
                if known is None:
                    others += self._read_odd(scan, line, series, text)
                else:
                    known.seen = generation
                    others += 1
                continue
            try:
                value = number(text)
                if value - value != 0.0 or _UNDERSCORE in text:
                    value = parse_value(text)
            except ValueError:
                self._read_sample(scan, scan.offset(), series)
                continue
            if slot >= 0:
                if present[slot]:
                    parsed.duplicates += 1
                else:
                    values[slot] = value
                    present[slot] = 1
        return others

    def _read_odd(self, scan: _Scan, line: bytes, series: bytes, text: bytes) -> int:
        """Any line that is not a known series and its value; returns how many lines it had beside a sample."""
        if self._read_known(scan, line, series, text):
            return 0
        if line.lstrip(b" \t")[:1] in (b"", b"#"):
            self._read_metadata(scan, line)
            return 1
        before = scan.line()
        self._read_sample(scan, scan.offset(), series)
        return scan.line() - before

    def _read_known(self, scan: _Scan, line: bytes, series: bytes, text: bytes) -> bool:
        """Read a known series with a timestamp, or with an exemplar, without looking at its labels."""
        exemplar = line.find(b" # {") if self._openmetrics else -1
        if exemplar >= 0:
            series, _, text = line[:exemplar].rpartition(b" ")
        slot, timestamp = self._slots.get(series), b""
        if slot is None:
            timestamp = text
            series, _, text = series.rpartition(b" ")
            slot = self._slots.get(series)
            if slot is None or not timestamp:
                return False
        try:
            value = parse_value(text)
            timestamp_ms = self._timestamp(timestamp) if timestamp else None
        except ValueError:
            return False
        if exemplar >= 0:
            self._check_exemplar(scan, scan.offset() + exemplar + 4)
        scan.parsed.put(slot, value, timestamp_ms)
        return True

    def _read_metadata(self, scan: _Scan, line: bytes) -> None:
        try:
            changed = self._metadata.read(line)
        except ValueError as error:
            raise scan.error(str(error)) from None
        if changed:
            self._decide_anew(changed)

    def _read_sample(self, scan: _Scan, start: int, series: bytes) -> None:
        """Read a sample by its grammar, deciding its series if its text is new."""
        end, name, labels = self._read_series(scan, start)
        rest = (_OPENMETRICS_REST if self._openmetrics else _TEXT_REST).match(scan.body, end)
        if rest is None:
            raise scan.error("expected a value and at most a timestamp after the series", end)
        try:
            value = parse_value(rest[1])
            timestamp_ms = self._timestamp(rest[2]) if rest[2] else None
        except ValueError as error:
            raise scan.error(str(error)) from None
        if self._openmetrics and rest[3]:
            self._check_exemplar(scan, rest.end())
        key = bytes(scan.body[start:end])
        if series and start + len(series) + 1 == rest.start(1) and rest[2] is None:
            key = series  # what stands before the last space, so that the next body finds it with one look-up
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = self._decide_series(scan, name, labels)
            scan.parsed.grow(slot)
        scan.parsed.put(slot, value, timestamp_ms)
        scan.skip_to(rest.end())

    def _timestamp(self, text: bytes) -> int | None:
        milliseconds = parse_seconds(text) if self._openmetrics else parse_milliseconds(text)
        return milliseconds if self._honor_timestamps else None

    def _read_series(self, scan: _Scan, start: int) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        """Where the series beginning at `start` ends, its name, and its labels, both still escaped."""
        syntax = _OPENMETRICS if self._openmetrics else _TEXT
        match = syntax.start.match(scan.body, start)
        assert match is not None
        name, end = match[1], match.end()
        labels: list[tuple[bytes, bytes]] = []
        if match[2] is None:
            end = match.end(1) if name else start
        else:
            end, quoted, labels = self._read_labels(scan, end)
            if name and quoted:
                raise scan.error("the series has a name before and inside its braces")
            name = name or quoted
        if not name:
            raise scan.error("expected the name of a series")
        return end, name, labels

    def _read_labels(self, scan: _Scan, position: int) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        """Read a label block from after its brace: where it ends, a quoted name in it (or empty), the labels."""
        syntax = _OPENMETRICS if self._openmetrics else _TEXT
        body, name = scan.body, b""
        labels: list[tuple[bytes, bytes]] = []
        while not (close := syntax.close.match(body, position)):
            if label := syntax.label.match(body, position):
                labels.append((label[1], label[2]))
                position = label.end()
                if body[position : position + 1] == b",":
                    position += 1
                elif self._openmetrics and body[position : position + 1] != b"}":
                    raise scan.error("expected a comma or a closing brace after the label", position)
            elif (quoted := syntax.quoted_name.match(body, position)) and not name:
                name, position = quoted[1], quoted.end()
            else:
                raise scan.error('expected name="value", a closing brace, or one quoted name', position)
        return close.end(), name, labels

    def _check_exemplar(self, scan: _Scan, position: int) -> None:
        """Check the exemplar whose labels begin at `position`; its line ends the sample."""
        while label := _OPENMETRICS.exemplar_label.match(scan.body, position):
            _decoded(scan, label[2])
            position = label.end()
        rest = _EXEMPLAR_REST.match(scan.body, position)
        if rest is None:
            raise scan.error(
                "expected labels in braces, a value and at most a timestamp in the exemplar", position
            )
        try:
            parse_value(rest[1])
            if rest[2]:
                parse_seconds(rest[2])
        except ValueError as error:
            raise scan.error(str(error)) from None
        scan.parsed.exemplars += 1

    def _decide_series(self, scan: _Scan, raw_name: bytes, raw_labels: list[tuple[bytes, bytes]]) -> int:
        name = _name(scan, raw_name)
        labels = tuple((_name(scan, key), _decoded(scan, value)) for key, value in raw_labels)
        names = {"__name__", *(key for key, _ in labels)}
        if len(names) <= len(labels):
            raise scan.error("the series has a label name twice")
        if not name or "" in names:
            raise scan.error("the series has an empty name or label name")
        return self._decide_labels(name, labels)

    def _decide_labels(self, name: str, labels: tuple[tuple[str, str], ...]) -> int:
        family, kind, unit, help_, created = self._metadata.find(name)
        if kind in _BOUND_LABEL:
            labels = _with_bound(labels, _BOUND_LABEL[kind])
        self._names.add(name)
        slot = self._decide(Exposed(name, labels, family, kind, unit, help_, created))
        self._size = max(self._size, slot + 1)
        return slot

    def _decide_anew(self, families: Iterable[str]) -> None:
        """Forget the texts of every series that belongs, or may now belong, to one of these families."""
        affected = {member for family in families for member in self._metadata.members(family)} & self._names
        if affected:
            self._drop_texts([text for text in self._slots if _name_of(text) in affected])
            self._names -= affected

    def _drop_texts(self, texts: list[bytes]) -> None:
        for text in texts:
            del self._slots[text]

    def _forget_vanished(self, samples: int) -> None:
        """Drop what later bodies no longer say: metadata at once, texts when most of the map is unused."""
        vanished = self._metadata.end()
        if vanished:
            self._decide_anew(vanished)
        if len(self._slots) > 4 * samples + 1000:
            self._slots.clear()
            self._names.clear()


def _with_bound(labels: tuple[tuple[str, str], ...], bound: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, format_bound(value) if key == bound else value) for key, value in labels)


def _shown(line: bytes) -> str:
    text = line[:120].decode("utf-8", "replace")
    return repr(text + "…" if len(line) > 120 else text)


def _decoded(scan: _Scan, raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise scan.error("a name or label value is not valid UTF-8") from None
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], text)


def _name(scan: _Scan, raw: bytes) -> str:
    return _decoded(scan, raw[1:-1] if raw.startswith(b'"') else raw)


def _name_of(series: bytes) -> str:
    """The name in a text that has been read before."""
    name = series.partition(b"{")[0].strip(b" \t")
    if name:
        return name.decode()
    position = series.index(b"{") + 1
    while (match := _TEXT.quoted_name.match(series, position)) is None:
        label = _TEXT.label.match(series, position)
        assert label is not None
        position = label.end() + (series[label.end() : label.end() + 1] == b",")
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], match[1][1:-1].decode())
