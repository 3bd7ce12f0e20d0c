"""The tree of a configuration between reading and decoding: every value with its place in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias


class Place(NamedTuple):
    """Where something is written; lines and columns count from 1, and line 0 means the whole source."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Broken(Enum):
    """Stands for a value that could not be expanded; reported once, then passed over in silence."""

    VALUE = "broken"


BROKEN: Final = Broken.VALUE

Scalar: TypeAlias = str | int | float | bool | Broken | None


@dataclass(frozen=True, slots=True)
class Node:
    """One value.

    `text` is a scalar as it was written. If `expanded`, the value came out of `${…}`, and `text` is what stood
    there, for a field that wants a string. `keys` are the places of a map's keys. `size` counts the values in the
    tree below, shared ones each time they occur.
    """

    value: Scalar | list[Node] | dict[str, Node]
    place: Place
    text: str | None = None
    expanded: bool = False
    keys: Mapping[str, Place] = field(default_factory=dict)
    size: int = 1

    def spot(self, key: str) -> Place:
        """Where to point at for what is under `key`: its value where that is a scalar, else the key."""
        assert isinstance(self.value, dict)
        child = self.value[key]
        if child.value is None or isinstance(child.value, list | dict):
            return self.keys.get(key, child.place)
        return child.place


def empty_map(place: Place) -> Node:
    """A map without keys."""
    return Node({}, place)


def merge(left: Node, right: Node) -> Node:
    """`right` over `left`: maps deeply, everything else replaced, by an explicit null too (components.md 7.2)."""
    if not isinstance(left.value, dict) or not isinstance(right.value, dict):
        return right
    merged = dict(left.value)
    for key, node in right.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return Node(merged, right.place, keys={**left.keys, **right.keys})


def nearest_place(node: Node, path: Sequence[str], start: Place) -> Place:
    """The place of what `path` leads to, or of its nearest ancestor that exists; `start` is `node`'s own."""
    place = start
    for key in path:
        if isinstance(node.value, dict) and key in node.value:
            place, node = node.spot(key), node.value[key]
        elif isinstance(node.value, list) and key.isdecimal() and int(key) < len(node.value):
            node = node.value[int(key)]
            place = node.place
        else:
            break
    return place


def plain(node: Node) -> Any:
    """The value as ordinary Python data."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return None if node.value is BROKEN else node.value
