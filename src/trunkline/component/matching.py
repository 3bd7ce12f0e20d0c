"""Which metrics a section of a processor means: by name, and by attributes of their resource (components.md 2.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from trunkline.component.patterns import Matches, problem_of, searcher
from trunkline.component.points import text_of
from trunkline.component.settings import setting
from trunkline.model import AttributeValue

MatchType: TypeAlias = Literal["strict", "regexp", "expr", ""]
Wrong: TypeAlias = Iterator[tuple[str, str]]
"""What a check yields: key paths below the component, and what is wrong there."""

_GO_TYPES = {bool: "Bool", int: "Int", float: "Double"}


@dataclass(frozen=True, kw_only=True)
class AttributeMatch:
    """A resource attribute that must exist and, where a value is given, have it."""

    key: str = setting(default="", doc="The attribute's name.")
    value: AttributeValue | None = setting(
        default=None, doc="Its value; left out, the attribute must only exist."
    )


@dataclass(frozen=True, kw_only=True)
class RegexpOptions:
    """Accepted for compatibility; results need no cache, since every series is decided once."""

    cacheenabled: bool = setting(default=False, doc="Without effect.")
    cachemaxnumentries: int = setting(default=0, doc="Without effect.")


def check_type(
    match_type: str, names: Sequence[str], attributes: Sequence[AttributeMatch], path: str
) -> Wrong:
    """A match type is needed where there is something to compare."""
    if match_type == "expr":
        yield (
            f"{path}::match_type",
            "match_type expr is not supported: write OTTL conditions instead, such as metrics: {metric: ['name == \"x\"']}",
        )
    elif not match_type and (names or any(match.value is not None for match in attributes)):
        yield (
            f"{path}::match_type",
            f"unrecognized match_type: '{match_type}', valid types are: [regexp strict]",
        )


def check_names(match_type: str, names: Sequence[str], path: str) -> Wrong:
    """Patterns must be patterns."""
    if match_type == "regexp":
        for index, pattern in enumerate(names):
            if wrong := problem_of(pattern):
                yield f"{path}::{index}", wrong


def check_attributes(match_type: str, matches: Sequence[AttributeMatch], path: str) -> Wrong:
    """Attributes need a key, and patterns are strings."""
    for index, match in enumerate(matches):
        if not match.key:
            yield f"{path}::{index}", "can't have empty key in the list of attributes"
        if match_type != "regexp" or match.value is None:
            continue
        if not isinstance(match.value, str):
            found = _GO_TYPES[type(match.value)]
            yield (
                f"{path}::{index}",
                f'match_type=regexp for "{match.key}" only supports Str, but found {found}',
            )
        elif wrong := problem_of(match.value):
            yield f"{path}::{index}::value", wrong


def name_matcher(match_type: str, names: Sequence[str]) -> Matches | None:
    """Whether a metric's name is one of `names`, or None if there are none. Patterns are not anchored."""
    if not names:
        return None
    if match_type == "strict":
        return frozenset(names).__contains__
    searches = [searcher(pattern) for pattern in names]
    return lambda name: any(search(name) for search in searches)


def attributes_match(
    match_type: str, matches: Sequence[AttributeMatch], attributes: Mapping[str, AttributeValue]
) -> bool:
    """Whether every listed attribute is there with its value; strictly, of its type too."""
    return all(_matches(match_type, match, attributes.get(match.key)) for match in matches)


def _matches(match_type: str, match: AttributeMatch, actual: AttributeValue | None) -> bool:
    if actual is None or match.value is None:
        return actual is not None
    if match_type == "regexp":
        return searcher(str(match.value))(text_of(actual))
    return type(actual) is type(match.value) and actual == match.value
