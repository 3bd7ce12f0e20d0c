"""Which names an expression uses: enough of PromQL's grammar for our own expressions."""

from __future__ import annotations

import re
from dataclasses import dataclass

KEYWORDS = frozenset(
    ("and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset")
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_MATCHERS = re.compile(r"\{([^}]*)\}")
_WORD = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")


@dataclass(frozen=True)
class Names:
    """Of metrics and of labels; a metric that is chosen by a matcher on its name counts as one."""

    metrics: frozenset[str]
    labels: frozenset[str]


def names_in(expr: str) -> Names:
    metrics = set(re.findall(r'__name__="([^"]*)"', expr))
    bare = _RANGE.sub("", _STRING.sub("", expr))
    labels: set[str] = set()
    for group in (_GROUPING, _MATCHERS):
        for listed in group.findall(bare):
            labels |= set(_WORD.findall(listed))
        bare = group.sub(" ", bare)
    metrics |= set(_WORD.findall(bare)) - KEYWORDS
    return Names(frozenset(metrics), frozenset(labels))
