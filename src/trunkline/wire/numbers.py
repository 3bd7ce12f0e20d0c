"""Numbers as Prometheus reads and writes them.

Prometheus reads a sample with Go's `strconv.ParseFloat` after refusing every text that contains `p`, `P` or `_`
(`model/textparse/promparse.go`, version 3). So hexadecimal numbers and digit separators are errors, as are a signed
NaN and a decimal number too large for a float64; `inf` and `infinity` are accepted in any case. Python's `float`
accepts more (`1_0`, `+nan`, `1e999`, white space around) and must not decide alone.
"""

from __future__ import annotations

from typing import Final

from trunkline.model import NAN

_INT64_MAX: Final = 2**63 - 1
_UNDERSCORE: Final = 0x5F
_SPACE: Final = 0x20
_INFINITIES: Final = frozenset((b"inf", b"infinity"))


def parse_value(text: bytes) -> float:
    """The float64 that Prometheus makes of a sample's text; every NaN is `model.NAN`. Raises ValueError."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{_shown(text)} is not a number") from None
    if text[0] <= _SPACE or text[-1] <= _SPACE or _UNDERSCORE in text:
        raise ValueError(f"{_shown(text)} is not a number")
    if value - value == 0.0:
        return value
    word = text.lower()
    if word == b"nan":
        return NAN
    if word.lstrip(b"+-") in _INFINITIES:
        return value
    raise ValueError(f"the number {_shown(text)} is too large for a float64, or a NaN with a sign")


def parse_milliseconds(text: bytes) -> int:
    """A timestamp of text format 0.0.4: digits only, milliseconds since the epoch. Raises ValueError."""
    if text.isdigit() and (len(text) <= 19 or len(text.lstrip(b"0")) <= 19):
        milliseconds = int(text.lstrip(b"0") or b"0")
        if milliseconds <= _INT64_MAX:
            return milliseconds
    raise ValueError(f"the timestamp {_shown(text)} is not a number of milliseconds")


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
