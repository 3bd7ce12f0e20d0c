"""`*`, `?` and `${key}` in actions, resources and condition values.

Source: IAM user guide, "IAM policy elements: Variables and tags" and "IAM JSON policy elements: Resource".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

Context: TypeAlias = Mapping[str, str | Sequence[str]]
"""Condition keys in lower case, and their value or values."""

_TOKEN: Final = re.compile(r"\$\{(?P<name>[^}]*)\}|(?P<wild>[*?])")
_LITERAL_NAMES: Final = frozenset("*?$")


def values_of(context: Context, key: str) -> tuple[str, ...]:
    """All values of a key, given in lower case; empty when the key is absent."""
    value = context.get(key)
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def expand(pattern: str, context: Context) -> str | None:
    """`pattern` as a regular expression, its variables filled in literally; None if one has no single value."""
    pieces, end = [], 0
    for token in _TOKEN.finditer(pattern):
        pieces.append(re.escape(pattern[end : token.start()]))
        end = token.end()
        if token["wild"]:
            pieces.append(".*" if token["wild"] == "*" else ".")
            continue
        value = _variable(token["name"], context)
        if value is None:
            return None
        pieces.append(re.escape(value))
    return "".join([*pieces, re.escape(pattern[end:])])


def _variable(name: str, context: Context) -> str | None:
    """The value of `${name}` or `${name, 'default'}`; `${*}`, `${?}` and `${$}` stand for themselves."""
    if name in _LITERAL_NAMES:
        return name
    key, comma, default = name.partition(",")
    values = values_of(context, key.strip().lower())
    if len(values) == 1:
        return values[0]
    return default.strip().strip("'") if comma and not values else None


@lru_cache(maxsize=4096)
def _compiled(expression: str, ignore_case: bool) -> re.Pattern[str]:
    return re.compile(expression, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def matches(pattern: str, text: str, context: Context, *, ignore_case: bool = False) -> bool:
    """Whether `text` as a whole fits `pattern`."""
    expression = expand(pattern, context)
    return expression is not None and _compiled(expression, ignore_case).fullmatch(text) is not None


def same_text(value: str, text: str, context: Context, *, ignore_case: bool = False) -> bool:
    """Whether `text` equals `value` with its variables filled in; wildcards mean themselves."""
    plain = _TOKEN.sub(lambda token: f"${{{token[0]}}}" if token["wild"] else token[0], value)
    return matches(plain, text, context, ignore_case=ignore_case)


def arn_matches(pattern: str, arn: str, context: Context) -> bool:
    """ArnLike and ArnEquals: each of the six parts between colons is compared by itself, with wildcards."""
    wanted, given = pattern.split(":", 5), arn.split(":", 5)
    if len(wanted) != 6:
        return pattern == "*"
    return len(given) == 6 and all(
        matches(want, have, context) for want, have in zip(wanted, given, strict=True)
    )
