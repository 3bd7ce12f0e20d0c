"""Which type a plain YAML scalar has, as the OpenTelemetry Collector reads it (Go's yaml.v3).

Near YAML 1.2: only true and false are booleans; `yes`, `no`, `on`, `off`, `1:30` and dates are strings. Whole numbers
may have a base prefix (`0x1f`, `0o17`, `0b1`; a leading 0 is octal as well) and underscores.
"""

from __future__ import annotations

import re
from typing import Final

_FIXED: Final[dict[str, bool | float | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INTEGERS: Final = (
    (10, re.compile(r"([-+]?)()(0|[1-9][0-9]*)")),
    (8, re.compile(r"([-+]?)(0[oO]?)([0-7]+)")),
    (16, re.compile(r"([-+]?)(0[xX])([0-9a-fA-F]+)")),
    (2, re.compile(r"([-+]?)(0[bB])([01]+)")),
)
_MOST_DIGITS: Final = 64
_MAXIMUM: Final = 2**64 - 1
_MINIMUM: Final = -(2**63)


def resolve(text: str) -> str | int | float | bool | None:
    """The value of the plain scalar `text`."""
    if text in _FIXED:
        return _FIXED[text]
    if text[0] not in "+-.0123456789":
        return text
    digits = text.replace("_", "")
    number = _integer(digits)
    if number is not None:
        return number
    return float(digits) if _FLOAT.fullmatch(digits) else text


def _integer(digits: str) -> int | None:
    for base, pattern in _INTEGERS:
        match = pattern.fullmatch(digits)
        if match and len(match[3]) <= _MOST_DIGITS:
            number = int(match[1] + match[3], base)
            return number if _MINIMUM <= number <= _MAXIMUM else None
    return None
