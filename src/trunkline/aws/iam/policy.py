"""Policy documents, read into what the evaluator works with.

Source: IAM user guide, "Grammar of the IAM JSON policy language".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trunkline.aws.iam.conditions import Condition, parse_operator
from trunkline.errors import TrunklineError

_STATEMENT_KEYS: Final = frozenset(
    (
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    )
)


class PolicyError(TrunklineError):
    """A document that is not a policy; says which part is wrong."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `negated_*` tells `NotAction`, `NotResource` and `NotPrincipal` from their opposites.

    `principals` are (kind, name) pairs such as `("AWS", "111111111111")`; None in identity policies.
    """

    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    principals: tuple[tuple[str, str], ...] | None = None
    conditions: tuple[Condition, ...] = ()
    negated_actions: bool = False
    negated_resources: bool = False
    negated_principals: bool = False
    sid: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy: its statements. One without any grants and denies nothing."""

    statements: tuple[Statement, ...] = ()


def parse_policy(document: str | Mapping[str, Any]) -> Policy:
    """Read a policy from JSON text or from what JSON text stands for; raises PolicyError."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError as error:
            raise PolicyError(f"Syntax errors in policy: {error}") from None
    if not isinstance(document, Mapping) or "Statement" not in document:
        raise PolicyError("Syntax errors in policy: it has no Statement.")
    return Policy(tuple(_statement(item) for item in _list(document["Statement"])))


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _texts(value: Any) -> tuple[str, ...]:
    """One text or a list of them; JSON's booleans and numbers as policies write them."""
    return tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in _list(value))


def _statement(item: Any) -> Statement:
    if not isinstance(item, Mapping) or item.get("Effect") not in {"Allow", "Deny"}:
        raise PolicyError("Syntax errors in policy: a statement needs an Effect of Allow or Deny.")
    if unknown := set(item) - _STATEMENT_KEYS:
        raise PolicyError(f"Syntax errors in policy: unknown key {min(unknown)} in a statement.")
    actions, negated_actions = _either(item, "Action")
    if not actions:
        raise PolicyError("Policy statement must contain actions.")
    resources, negated_resources = _either(item, "Resource")
    principals, negated_principals = _principals(item)
    return Statement(
        allows=item["Effect"] == "Allow",
        actions=actions,
        resources=resources,
        principals=principals,
        conditions=tuple(_conditions(item.get("Condition") or {})),
        negated_actions=negated_actions,
        negated_resources=negated_resources,
        negated_principals=negated_principals,
        sid=str(item.get("Sid", "")),
    )


def _either(item: Mapping[str, Any], name: str) -> tuple[tuple[str, ...], bool]:
    """The values of `name` or of its opposite, and whether it was the opposite."""
    if f"Not{name}" in item:
        return _texts(item[f"Not{name}"]), True
    return _texts(item[name]) if name in item else (), False


def _principals(item: Mapping[str, Any]) -> tuple[tuple[tuple[str, str], ...] | None, bool]:
    negated = "NotPrincipal" in item
    value = item.get("NotPrincipal" if negated else "Principal")
    if value is None:
        return None, False
    if value == "*":
        return (("AWS", "*"),), negated
    if not isinstance(value, Mapping):
        raise PolicyError('Invalid principal in policy: it is "*" or has a kind, such as AWS or Service.')
    return tuple((kind, name) for kind, names in value.items() for name in _texts(names)), negated


def _conditions(block: Any) -> Iterator[Condition]:
    if not isinstance(block, Mapping):
        raise PolicyError("Syntax errors in policy: Condition is not an object.")
    for text, keys in block.items():
        parsed = parse_operator(text)
        if parsed is None or not isinstance(keys, Mapping):
            raise PolicyError(f"Invalid Condition type : {text}.")
        name, quantifier, if_exists = parsed
        for key, values in keys.items():
            yield Condition(name, key.lower(), _texts(values), quantifier, if_exists)
