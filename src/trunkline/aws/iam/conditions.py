"""The `Condition` block of a statement.

Source: IAM user guide, "IAM JSON policy elements: Condition operators" and "Single-valued vs. multivalued
context keys".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Final, TypeAlias

from trunkline.aws.iam.patterns import Context, arn_matches, matches, same_text, values_of

Test: TypeAlias = Callable[[str, str, Context], bool]
"""(value in the policy, value in the request, context) → whether they agree."""


def _string_equals(wanted: str, given: str, context: Context) -> bool:
    return same_text(wanted, given, context)


def _string_equals_ignore_case(wanted: str, given: str, context: Context) -> bool:
    return same_text(wanted, given, context, ignore_case=True)


def _string_like(wanted: str, given: str, context: Context) -> bool:
    return matches(wanted, given, context)


def _bool(wanted: str, given: str, _: Context) -> bool:
    return wanted.lower() == given.lower()


def _ip_address(wanted: str, given: str, _: Context) -> bool:
    try:
        return ip_address(given) in ip_network(wanted, strict=False)
    except ValueError:
        return False


def _number(text: str) -> float:
    return float(text)


def _date(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 date and time, or of a number that is that already."""
    try:
        return float(text)
    except ValueError:
        when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _compared(read: Callable[[str], float], compare: Callable[[float, float], bool]) -> Test:
    def test(wanted: str, given: str, _: Context) -> bool:
        try:
            return compare(read(given), read(wanted))
        except ValueError:
            return False

    return test


_TESTS: Final[Mapping[str, Test]] = {
    "stringequals": _string_equals,
    "stringequalsignorecase": _string_equals_ignore_case,
    "stringlike": _string_like,
    "arnequals": arn_matches,
    "arnlike": arn_matches,
    "bool": _bool,
    "ipaddress": _ip_address,
    **{
        f"{kind}{name}": _compared(read, compare)
        for kind, read in (("numeric", _number), ("date", _date))
        for name, compare in (
            ("equals", operator.eq),
            ("lessthan", operator.lt),
            ("lessthanequals", operator.le),
            ("greaterthan", operator.gt),
            ("greaterthanequals", operator.ge),
        )
    },
}

_NEGATIONS: Final[Mapping[str, str]] = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
    "notipaddress": "ipaddress",
    "numericnotequals": "numericequals",
    "datenotequals": "dateequals",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of one operator, with the values of which one has to agree (or, negated, none may)."""

    operator: str
    key: str
    values: tuple[str, ...]
    quantifier: str = ""
    if_exists: bool = False

    def holds(self, context: Context) -> bool:
        """Whether the request's `context` fulfils it."""
        given = values_of(context, self.key)
        if self.operator == "null":
            return any((value.lower() == "true") == (not given) for value in self.values)
        if not given:
            return self._holds_without_key()
        quantify = all if self.quantifier == "forallvalues" else any
        return quantify(self._agrees(value, context) for value in given)

    def _holds_without_key(self) -> bool:
        if self.quantifier:
            return self.quantifier == "forallvalues"
        return self.if_exists or self.operator in _NEGATIONS

    def _agrees(self, given: str, context: Context) -> bool:
        negated = self.operator in _NEGATIONS
        test = _TESTS[_NEGATIONS.get(self.operator, self.operator)]
        return any(test(wanted, given, context) for wanted in self.values) != negated


def parse_operator(text: str) -> tuple[str, str, bool] | None:
    """`ForAnyValue:StringLikeIfExists` as (operator, quantifier, whether IfExists); None if there is no such."""
    name = text.lower()
    quantifier, colon, rest = name.partition(":")
    name = rest if colon else name
    if_exists = name.endswith("ifexists")
    name = name.removesuffix("ifexists")
    known = name in _TESTS or name in _NEGATIONS or (name == "null" and not if_exists)
    if not known or (colon and quantifier not in {"forallvalues", "foranyvalue"}):
        return None
    return name, quantifier if colon else "", if_exists
