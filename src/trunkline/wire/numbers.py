"""Numbers as Prometheus reads and writes them.

Prometheus reads a sample with Go's `strconv.ParseFloat` after refusing every text that contains `p`, `P` or `_`
(`model/textparse/promparse.go`, version 3). So hexadecimal numbers and digit separators are errors, as are a signed
NaN and a decimal number too large for a float64; `inf` and `infinity` are accepted in any case. Python's `float`
accepts more (`1_0`, `+nan`, `1e999`, white space around) and must not decide alone.
"""

from __future__ import annotations

import re
from typing import Final

from trunkline.model import NAN

_DECIMAL: Final = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INFINITY: Final = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_INT64_MAX: Final = 2**63 - 1


def parse_value(text: bytes) -> float:
    """The float64 that Prometheus makes of a sample's text; every NaN is `model.NAN`. Raises ValueError."""
    if _DECIMAL.fullmatch(text):
        value = float(text)
        if value - value != 0.0:
            raise ValueError(f"the number {_shown(text)} is too large for a float64")
        return value
    if _INFINITY.fullmatch(text):
        return float(text)
    if text.lower() == b"nan":
        return NAN
    raise ValueError(f"{_shown(text)} is not a number")


def parse_milliseconds(text: bytes) -> int:
    """A timestamp of text format 0.0.4: digits only, milliseconds since the epoch. Raises ValueError."""
    if not text.isdigit() or len(text) > 19 or int(text) > _INT64_MAX:
        raise ValueError(f"the timestamp {_shown(text)} is not a number of milliseconds")
    return int(text)


def parse_seconds(text: bytes) -> int:
    """A timestamp of OpenMetrics, seconds since the epoch, cut (not rounded) to milliseconds. Raises ValueError."""
    milliseconds = parse_value(text) * 1000.0
    if not -(2.0**63) <= milliseconds < 2.0**63:
        raise ValueError(f"the timestamp {_shown(text)} is out of range")
    return int(milliseconds)


def format_bound(text: str) -> str:
    """The value of a histogram's `le` or a summary's `quantile` label as Prometheus 3 stores it.

    A number is rewritten as OpenMetrics writes floats (`1` becomes `1.0`, `1000000` becomes `1e+06`), so that a
    target gives the same series in both formats; anything else stays (`normalizeFloatsInLabelValues` there).
    """
    try:
        value = parse_value(text.encode())
    except ValueError:
        return text
    if value != value:  # noqa: PLR0124 (NaN)
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return _format_general(value)


def _format_general(value: float) -> str:
    """Go's shortest `%g` (an exponent from 1e+06 up and from 1e-05 down), never without fraction or exponent."""
    sign, digits, exponent = _shortest(value or 0.0)
    if not -4 <= exponent < 6:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{fraction}e{exponent:+03d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    return f"{sign}{whole}.{digits[exponent + 1 :] or '0'}"


def _shortest(value: float) -> tuple[str, str, int]:
    """Sign, significant digits without trailing zeros, and the decimal exponent of the first digit."""
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return sign, "0", 0
    leading = len(whole) - 1 if whole.strip("0") else len(digits) - len(fraction) - 1
    return sign, digits.rstrip("0"), leading + int(exponent or 0)


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "replace"))
