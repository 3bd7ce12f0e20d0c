"""Numbers with the units the dashboards use, written as Grafana writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_THOUSANDS: Final = ("", " K", " Mil", " Bil")
_MIB: Final = 2.0**20


@dataclass(frozen=True, slots=True)
class Scale:
    """A unit at one size: values are divided by `factor` and followed by `suffix`."""

    factor: float
    suffix: str

    def text(self, value: float) -> str:
        """`value` with three significant digits and the suffix."""
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
        return f"{digits(value / self.factor)}{self.suffix}"


def digits(value: float) -> str:
    """Three significant digits, without an exponent; whole numbers stay whole."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if abs(value) >= 100:
        return f"{value:.0f}"
    places = 2 if abs(value) >= 0.1 else min(6, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}".rstrip("0").rstrip(".")
    return text if abs(value) < 10 else f"{value:.1f}".removesuffix(".0")


def _stepped(value: float, step: float, names: tuple[str, ...], suffix: str = "") -> Scale:
    power = 0
    while abs(value) >= step and power < len(names) - 1:
        value /= step
        power += 1
    return Scale(step**power, f"{names[power]}{suffix}")


def _bytes(value: float, suffix: str = "") -> Scale:
    found = _stepped(value, 1024, _BINARY)
    return Scale(found.factor, f" {found.suffix}{suffix}")


def _seconds(value: float) -> Scale:
    size = abs(value)
    if 0 < size < 1:
        return Scale(1e-3, " ms") if size >= 1e-3 else Scale(1e-6, " µs")
    for factor, name in ((86_400.0, " days"), (3600.0, " hours"), (60.0, " mins")):
        if size >= factor:
            return Scale(factor, name)
    return Scale(1.0, " s")


def _mebibytes(value: float) -> Scale:
    found = _bytes(value * _MIB)
    return Scale(found.factor / _MIB, found.suffix)


def _per_second(name: str) -> Callable[[float], Scale]:
    return lambda value: _stepped(value, 1000, ("", "K", "M"), f" {name}")


_SCALES: Final[Mapping[str, Callable[[float], Scale]]] = {
    "short": lambda value: _stepped(value, 1000, _THOUSANDS),
    "s": _seconds,
    "bytes": _bytes,
    "mbytes": _mebibytes,
    "binBps": lambda value: _bytes(value, "/s"),
    "cps": _per_second("c/s"),
    "reqps": _per_second("req/s"),
    "percentunit": lambda _: Scale(0.01, "%"),
}

UNITS: Final = tuple(_SCALES)
"""The units that are drawn, by Grafana's names."""


def scale(unit: str, value: float) -> Scale:
    """The size at which `unit` shows `value`, or all values up to it; raises ValueError for an unknown unit."""
    if unit not in _SCALES:
        raise ValueError(f"{unit} is no unit that is drawn; there are {', '.join(UNITS)}")
    return _SCALES[unit](value if math.isfinite(value) else 0.0)


def text(unit: str, value: float) -> str:
    """`value` in the size of `unit` that suits it."""
    return scale(unit, value).text(value)
