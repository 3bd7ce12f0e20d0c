"""How names, labels and numbers are written in exposition text: format 0.0.4 and 1.0.0, and OpenMetrics 1.0.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, the OpenMetrics specification 1.0, and for numbers
Go's `strconv.FormatFloat(x, 'g', -1, 64)`, with which Prometheus' own libraries write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from trunkline.model import Kind, Labels

_METRIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NOT_IN_METRIC: Final = re.compile(r"[^a-zA-Z0-9_:]")
_NOT_IN_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")
_LABEL_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})

_TEXT_KINDS: Final = {
    Kind.COUNTER: "counter",
    Kind.GAUGE: "gauge",
    Kind.HISTOGRAM: "histogram",
    Kind.SUMMARY: "summary",
    Kind.INFO: "gauge",
    Kind.STATE_SET: "gauge",
}


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write; `utf8` keeps names that need quotes, else they are made of underscores."""

    openmetrics: bool = False
    utf8: bool = False

    @property
    def content_type(self) -> str:
        if self.openmetrics:
            escaping = "; escaping=allow-utf-8" if self.utf8 else ""
            return f"application/openmetrics-text; version=1.0.0; charset=utf-8{escaping}"
        if self.utf8:
            return "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
        return "text/plain; version=0.0.4; charset=utf-8"

    @property
    def end(self) -> str:
        """What a body ends with."""
        return "# EOF\n" if self.openmetrics else ""

    def head(self, name: str, kind: Kind, help_: str, unit: str) -> str:
        """The lines before the samples of a family; `name` is that of its samples in text format."""
        family = self.metric_name(family_name(name, kind) if self.openmetrics else name)
        said = self._kind(name, kind)
        lines = [f"# HELP {family} {self._help(help_)}\n"] if help_ else []
        lines.append(f"# TYPE {family} {said}\n")
        if self.openmetrics and unit and family.endswith(f"_{unit}"):
            lines.append(f"# UNIT {family} {unit}\n")
        return "".join(lines)

    def series(self, name: str, labels: Labels, kind: Kind) -> str:
        """What stands before the value: the name, the labels, and a space."""
        if self.openmetrics and kind is Kind.COUNTER and not name.endswith(("_total", "_created")):
            name = f"{name}_total"
        pairs = ",".join(
            f'{self._label_name(label)}="{value.translate(_LABEL_ESCAPES)}"'
            for label, value in labels
            if label != "__name__"
        )
        if self.utf8 and not _METRIC_NAME.fullmatch(name):
            return f"{{{_quoted(name)}{',' if pairs else ''}{pairs}}} "
        name = self.metric_name(name)
        return f"{name}{{{pairs}}} " if pairs else f"{name} "

    def value(self, value: float) -> str:
        """A float as this format has it; OpenMetrics always with a fraction or an exponent."""
        if -1e6 < value < 1e6:
            text = repr(value)
            return text if self.openmetrics else text.removesuffix(".0")
        return _large(value)

    def timestamp(self, milliseconds: int) -> str:
        """Milliseconds since the epoch; in OpenMetrics seconds."""
        if not self.openmetrics:
            return str(milliseconds)
        whole, rest = divmod(milliseconds, 1000)
        return f"{whole}.{rest:03d}"

    def metric_name(self, name: str) -> str:
        """`name` as it can be written outside braces."""
        if _METRIC_NAME.fullmatch(name):
            return name
        return _quoted(name) if self.utf8 else _started(_NOT_IN_METRIC.sub("_", name))

    def _label_name(self, name: str) -> str:
        if _LABEL_NAME.fullmatch(name):
            return name
        return _quoted(name) if self.utf8 else _started(_NOT_IN_LABEL.sub("_", name))

    def _kind(self, name: str, kind: Kind) -> str:
        if not self.openmetrics:
            return _TEXT_KINDS.get(kind, "untyped")
        return "gauge" if kind is Kind.INFO and not name.endswith("_info") else str(kind)

    def _help(self, text: str) -> str:
        return text.translate(_LABEL_ESCAPES if self.openmetrics else _HELP_ESCAPES)


def family_name(name: str, kind: Kind) -> str:
    """What OpenMetrics calls the family whose samples are called `name` in text format."""
    if kind is Kind.COUNTER:
        return name.removesuffix("_total")
    return name.removesuffix("_info") if kind is Kind.INFO else name


def _large(value: float) -> str:
    """A million and more, infinities and NaN: shortest digits, from a million up with an exponent."""
    if value - value != 0.0:
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"  # noqa: PLR0124
    text = repr(value)
    if "e" in text:
        return text
    sign = "-" if value < 0 else ""
    whole, _, fraction = text.lstrip("-").partition(".")
    digits = (whole + fraction).rstrip("0")
    return f"{sign}{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e+{len(whole) - 1:02d}"


def _quoted(name: str) -> str:
    return f'"{name.translate(_LABEL_ESCAPES)}"'


def _started(name: str) -> str:
    """A name that does not begin with a digit."""
    return f"_{name}" if not name or "0" <= name[0] <= "9" else name
