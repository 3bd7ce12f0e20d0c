"""The `# TYPE`, `# UNIT` and `# HELP` lines of exposition text, and which series belong to which family."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from trunkline.model import Kind

_Field = Literal["TYPE", "UNIT", "HELP"]

_QUOTED: Final = rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"'
_NAME: Final = rb"([a-zA-Z_:][a-zA-Z0-9_:]*+|" + _QUOTED + rb")"
_TEXT: Final = re.compile(rb"[ \t]*+#[ \t]++(HELP|TYPE)[ \t]++(?:" + _NAME + rb")?+(.*)", re.DOTALL)
_OPENMETRICS: Final = re.compile(rb"# (HELP|TYPE|UNIT) " + _NAME + rb"( .*)", re.DOTALL)
_HELP_ESCAPE: Final = re.compile(r"\\([\\n])")
_LABEL_ESCAPE: Final = re.compile(r'\\(["\\n])')

_TEXT_KINDS: Final = {
    "counter": Kind.COUNTER,
    "gauge": Kind.GAUGE,
    "histogram": Kind.HISTOGRAM,
    "summary": Kind.SUMMARY,
    "untyped": Kind.UNKNOWN,
}
_OPENMETRICS_KINDS: Final = {kind.value: kind for kind in Kind}

_ENDINGS: Final = {
    Kind.COUNTER: ("_total",),
    Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
    Kind.GAUGE_HISTOGRAM: ("_bucket", "_gsum", "_gcount"),
    Kind.SUMMARY: ("_sum", "_count"),
    Kind.INFO: ("_info",),
}
_CREATED: Final = "_created"
_CREATED_KINDS: Final = frozenset({Kind.COUNTER, Kind.HISTOGRAM, Kind.SUMMARY})
_ALL_ENDINGS: Final = ("_total", "_bucket", "_sum", "_count", "_gsum", "_gcount", "_info", _CREATED)


class Found(NamedTuple):
    """What is known of the family a series belongs to; `family` is its name as filters see it."""

    family: str
    kind: Kind = Kind.UNKNOWN
    unit: str = ""
    help: str = ""
    created: bool = False


@dataclass(slots=True)
class _Described:
    """What the lines of one family say, and the line itself by its keyword."""

    kind: Kind = Kind.UNKNOWN
    unit: str = ""
    help: str = ""
    lines: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Line:
    """A line in force: which family it describes, and the last body that had it."""

    family: str
    keyword: str
    seen: int


class Metadata:
    """The metadata of one target's families; remembers each line, so that one met again costs a look-up.

    `lines` holds the lines in force. The parser marks those it meets with `generation`.
    """

    def __init__(self, *, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._families: dict[str, _Described] = {}
        self.lines: dict[bytes, _Line] = {}
        self.generation = 0
        self._last: tuple[str, Found] | None = None  # series of one name follow each other

    def begin(self) -> None:
        """A new body begins."""
        self.generation += 1

    def end(self) -> list[str]:
        """A body has been read: give up the lines it did not have; returns the families whose type or unit went."""
        gone = [line for line, entry in self.lines.items() if entry.seen != self.generation]
        changed = []
        self._last = None
        for line in gone:
            entry = self.lines.pop(line)
            family = self._families[entry.family]
            del family.lines[entry.keyword]
            if _assign(family, entry.keyword, ""):
                changed.append(entry.family)
            if not family.lines:
                del self._families[entry.family]
        return changed

    def read(self, line: bytes) -> list[str]:
        """Take in a comment or blank line; returns the families whose type or unit changed.

        Raises ValueError saying what is wrong with the line.
        """
        match = (_OPENMETRICS if self._openmetrics else _TEXT).match(line)
        if match is None:
            if self._openmetrics:
                raise ValueError(_why_not_openmetrics(line))
            return []
        if match[2] is None:
            raise ValueError(f"expected the name of a metric after {match[1].decode()}")
        keyword, name = match[1].decode(), self._name(match[2])
        value = self._value(keyword, name, match[3][1:])
        self._last = None
        family = self._families.setdefault(name, _Described())
        self.lines.pop(family.lines.get(keyword, b""), None)
        family.lines[keyword] = line
        self.lines[line] = _Line(name, keyword, self.generation)
        return [name] if _assign(family, keyword, value) else []

    def find(self, name: str) -> Found:
        """The family a series of this name belongs to; its own, of unknown type, if nothing was said."""
        if self._last is None or self._last[0] != name:
            self._last = name, self._find(name)
        return self._last[1]

    def _find(self, name: str) -> Found:
        family = self._families.get(name)
        if family is not None:
            return Found(name, family.kind, family.unit, family.help)
        for ending in _ALL_ENDINGS:
            if name.endswith(ending):
                return self._find_base(name, name[: -len(ending)], ending)
        return Found(name)

    def members(self, family: str) -> list[str]:
        """Every name a series of the family may have, whatever its type."""
        return [family, *(family + ending for ending in _ALL_ENDINGS)]

    def _find_base(self, name: str, base: str, ending: str) -> Found:
        family = self._families.get(base)
        if family is None:
            return Found(name)
        created = ending == _CREATED and self._openmetrics and family.kind in _CREATED_KINDS
        if not created and ending not in _ENDINGS.get(family.kind, ()):
            return Found(name)
        if family.kind is Kind.COUNTER:
            base += "_total"
        elif family.kind is Kind.INFO:
            base = name
        return Found(base, family.kind, family.unit, family.help, created)

    def _name(self, raw: bytes) -> str:
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise ValueError("the name of the metric is not valid UTF-8") from None
        return _unescaped(name[1:-1], _LABEL_ESCAPE) if name.startswith('"') else name

    def _value(self, keyword: str, name: str, raw: bytes) -> str:
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            raise ValueError(f"the text after {keyword} is not valid UTF-8") from None
        if keyword == "HELP":
            return _unescaped(value, _LABEL_ESCAPE if self._openmetrics else _HELP_ESCAPE)
        if keyword == "TYPE" and value not in (_OPENMETRICS_KINDS if self._openmetrics else _TEXT_KINDS):
            raise ValueError(f"{value!r} is not a metric type of this format")
        if keyword == "UNIT" and value and not name.endswith("_" + value):
            raise ValueError(f"the unit {value!r} is not the end of the name {name!r}")
        return value


def _assign(family: _Described, keyword: str, value: str) -> bool:
    """Set what a line says; returns whether series have to be decided anew."""
    if keyword == "HELP":
        family.help = value
        return False
    if keyword == "UNIT":
        changed, family.unit = family.unit != value, value
        return changed
    kind = _OPENMETRICS_KINDS.get(value) or _TEXT_KINDS.get(value, Kind.UNKNOWN)
    changed, family.kind = family.kind is not kind, kind
    return changed


def _unescaped(text: str, escape: re.Pattern[str]) -> str:
    if "\\" not in text:
        return text
    return escape.sub(lambda match: "\n" if match[1] == "n" else match[1], text)


def _why_not_openmetrics(line: bytes) -> str:
    if line.startswith(b"# EOF"):
        return "there is something after '# EOF'"
    if not line.strip():
        return "OpenMetrics has no blank lines"
    return "OpenMetrics has no comments but '# HELP name text', '# TYPE name type' and '# UNIT name unit'"
