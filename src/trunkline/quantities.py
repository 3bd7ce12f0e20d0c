"""Durations and sizes as people write them: `15s`, `1h30m`, `1d12h`, `64MiB`.

A component's settings are annotated with `Duration`, `PrometheusDuration` or `Size`. For the type checker these are
plain `float` (seconds) and `int` (bytes); the configuration loader finds the `Quantity` in the annotation and reads
the text by its grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
"""Go's units; the micro sign and the Greek letter are different characters, and both are accepted."""

PROMETHEUS_MILLISECONDS: Final = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}

SIZE_STEPS: Final = "KMGTPE"
LARGEST: Final = 2**63 - 1

_GO_PART = re.compile(r"([0-9]+)?(?:\.([0-9]*))?([^0-9.]*)")
_PROMETHEUS = re.compile(
    "".join(rf"(?:(?P<{unit}>[0-9]+){unit})?" for unit in PROMETHEUS_MILLISECONDS), re.ASCII
)


def parse_go_duration(text: str) -> float:
    """Seconds of a Go duration: signed decimals with units, such as `1h30m`, `1.5s`, `0`.

    Raises ValueError with the words of Go's `time.ParseDuration`.
    """
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return 0.0
    nanoseconds = sum(_go_parts(text, unsigned))
    if not unsigned or nanoseconds > LARGEST:
        raise ValueError(f'time: invalid duration "{text}"')
    return (-nanoseconds if text.startswith("-") else nanoseconds) / 1e9


def _go_parts(text: str, unsigned: str) -> Iterator[int]:
    position = 0
    while position < len(unsigned):
        match = _GO_PART.match(unsigned, position)
        if match is None or not (match[1] or match[2]):
            raise ValueError(f'time: invalid duration "{text}"')
        yield _nanoseconds(text, match)
        position = match.end()


def _nanoseconds(text: str, match: re.Match[str]) -> int:
    """One part of a duration; digits too fine or too many to matter are cut off before they cost anything."""
    whole, fraction, unit = match[1] or "0", (match[2] or "")[:18], match[3]
    if not unit:
        raise ValueError(f'time: missing unit in duration "{text}"')
    if unit not in NANOSECONDS:
        raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
    if len(whole.lstrip("0")) > 19:
        raise ValueError(f'time: invalid duration "{text}"')
    scale = NANOSECONDS[unit]
    return int(whole) * scale + int(fraction or "0") * scale // int(10 ** len(fraction))


def format_go_duration(seconds: float) -> str:
    """The shortest usual spelling, to the nanosecond: `1h30m`, `1.5s`, `250ms`."""
    nanoseconds = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 and nanoseconds else ""
    if 0 < nanoseconds < NANOSECONDS["s"]:
        unit = next(unit for unit in ("ms", "µs", "ns") if nanoseconds >= NANOSECONDS[unit])
        return f"{sign}{_decimal(nanoseconds, NANOSECONDS[unit])}{unit}"
    hours, rest = divmod(nanoseconds, NANOSECONDS["h"])
    minutes, rest = divmod(rest, NANOSECONDS["m"])
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else ""]
    parts.append(f"{_decimal(rest, NANOSECONDS['s'])}s" if rest else "")
    return sign + ("".join(parts) or "0s")


def _decimal(number: int, scale: int) -> str:
    whole, rest = divmod(number, scale)
    digits = str(scale + rest)[1:].rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def parse_prometheus_duration(text: str) -> float:
    """Seconds of a Prometheus duration: whole numbers with units in descending order, such as `1d12h`, or `0`.

    Raises ValueError with the words of Prometheus.
    """
    if text == "0":
        return 0.0
    if not text:
        raise ValueError("empty duration string")
    match = _PROMETHEUS.fullmatch(text)
    if match is None:
        raise ValueError(f'not a valid duration string: "{text}"')
    found = {unit: digits for unit, digits in match.groupdict().items() if digits}
    if any(len(digits.lstrip("0")) > 19 for digits in found.values()):
        raise ValueError("duration out of range")
    milliseconds = sum(int(digits) * PROMETHEUS_MILLISECONDS[unit] for unit, digits in found.items())
    if milliseconds * NANOSECONDS["ms"] > LARGEST:
        raise ValueError("duration out of range")
    return milliseconds / 1000


def format_prometheus_duration(seconds: float) -> str:
    """As Prometheus prints it, to the millisecond: `1d12h`, `90s` as `1m30s`; years and weeks only when exact."""
    rest = round(seconds * 1000)
    if rest <= 0:
        return "0s"
    parts = []
    for unit, scale in PROMETHEUS_MILLISECONDS.items():
        if unit in ("y", "w") and rest % scale:
            continue
        count, rest = divmod(rest, scale)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


_SIZE_PART = re.compile(r"([0-9]+)?(?:\.([0-9]*))?([^0-9.]*)")


def parse_size(text: str) -> int:
    """Bytes of a size such as `64MiB` or `1.5MB`.

    Both spellings are powers of 1024, as in Prometheus' `body_size_limit`; they cannot be mixed in one size, and `kB`
    is refused because it would mean 1000. Raises ValueError with Prometheus' words.
    """
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return 0
    if not unsigned:
        raise ValueError(f"units: invalid {text}")
    try:
        total = sum(_size_parts(text, unsigned, "iB"))
    except ValueError:
        total = sum(_size_parts(text, unsigned, "B"))
    if total >= 2.0**63:
        raise ValueError("units: overflow parsing unit")
    return -int(total) if text.startswith("-") else int(total)


def _size_parts(text: str, unsigned: str, suffix: str) -> Iterator[float]:
    position = 0
    while position < len(unsigned):
        match = _SIZE_PART.match(unsigned, position)
        if match is None or not (match[1] or match[2]) or max(len(match[1] or ""), len(match[2] or "")) > 18:
            raise ValueError(f"units: invalid {text}")
        yield float(f"{match[1] or 0}.{match[2] or 0}") * _size_unit(text, match[3], suffix)
        position = match.end()


def _size_unit(text: str, unit: str, suffix: str) -> int:
    if unit == "B":
        return 1
    if unit[:1] in SIZE_STEPS and unit[1:] == suffix:
        return int(1024 ** (SIZE_STEPS.index(unit[0]) + 1))
    raise ValueError(f"units: unknown unit {unit} in {text}")


def format_size(size: int) -> str:
    """With the largest unit that divides it: `64MiB`, `1500B`."""
    exponent = 0
    while size and size % 1024 == 0 and exponent < len(SIZE_STEPS):
        size //= 1024
        exponent += 1
    return f"{size}{SIZE_STEPS[exponent - 1]}iB" if exponent else f"{size}B"


@dataclass(frozen=True, slots=True)
class Quantity:
    """How a number with a unit is read and printed; found in the annotation of a setting.

    `bare` is what one unit of a bare whole number in YAML is worth, or None if a unit has to be written.
    """

    name: str
    parse: Callable[[str], float]
    format: Callable[[float], str]
    example: str
    bare: float | None = None


Duration: TypeAlias = Annotated[
    float, Quantity("duration", parse_go_duration, format_go_duration, "15s", bare=1e-9)
]
"""Seconds, in Go's grammar. A bare whole number is nanoseconds, as in the OpenTelemetry Collector."""

PrometheusDuration: TypeAlias = Annotated[
    float, Quantity("Prometheus duration", parse_prometheus_duration, format_prometheus_duration, "15s")
]
"""Seconds, in Prometheus' grammar."""

Size: TypeAlias = Annotated[int, Quantity("size", parse_size, lambda size: format_size(int(size)), "64MiB")]
"""Bytes, with a unit."""
