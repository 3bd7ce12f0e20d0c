"""What is checked where it is written: forms of values, and problems pointed at their keys in a `fleet.yaml`."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from typing import Annotated, Any, Final, NamedTuple, Union, get_args, get_origin

from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Node, Place, nearest_place
from trunkline.component.settings import settings_of
from trunkline.errors import Problem
from trunkline.fleet.checks import near_region
from trunkline.fleet.declarations import AtLeast, Existing, Form
from trunkline.fleet.regions import partition_of

_PLACE: Final = re.compile(r"(.*?)(?::(\d+):(\d+))?")

Keys = tuple[str, ...]


class Report:
    """Problems of a fleet's file, each at the place of its key; what has been said is not said again of others."""

    def __init__(self, root: Node, findings: Findings) -> None:
        self.findings = findings
        self._root = root
        self._said: set[tuple[str, str]] = set()

    def place(self, keys: Sequence[str]) -> Place:
        """Of the value under `keys`, or of what is nearest above."""
        return nearest_place(self._root, keys, self._root.place)

    def problem(self, keys: Sequence[str], message: str, remedy: str) -> None:
        self.add(Problem("", "::".join(keys), message, remedy))

    def add(self, problem: Problem, keys: Sequence[str] = ()) -> None:
        """A problem with a place of its own, or at that of its path below `keys`."""
        below = [*keys, *(problem.path.split("::") if problem.path else ())]
        place = place_of(problem.place) if problem.place else self.place(below)
        self._said.add((problem.message, problem.remedy))
        self.findings.problem(place, "::".join(below), problem.message, problem.remedy)

    def add_news(self, problem: Problem) -> None:
        """A problem of the whole fleet, unless it was found where it is written."""
        if (problem.message, problem.remedy) not in self._said:
            self.add(problem)


def place_of(text: str) -> Place:
    """A problem's place, as it was before it was text."""
    match = _PLACE.fullmatch(text)
    assert match is not None
    return Place(match[1], int(match[2] or 0), int(match[3] or 0))


class _Spot(NamedTuple):
    node: Node
    hint: Any
    keys: Keys


def form_problems(root: Node, config: type) -> Iterator[Problem]:
    """Values that do not look as their declarations in `config` say."""
    open_ = [_Spot(root, config, ())]
    while open_:
        spot = open_.pop(0)
        if get_origin(spot.hint) is Annotated:
            yield from _marked(spot)
        elif spot.node.value is not None:
            open_ += _below(spot)


def _below(spot: _Spot) -> Iterator[_Spot]:
    node, hint, keys = spot
    origin, members = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        yield from (_Spot(node, member, keys) for member in members)
    elif origin is tuple and isinstance(node.value, list):
        yield from (_Spot(item, members[0], (*keys, str(i))) for i, item in enumerate(node.value))
    elif isinstance(node.value, dict) and origin is dict:
        yield from (_Spot(child, members[1], (*keys, key)) for key, child in node.value.items())
    elif isinstance(node.value, dict) and isinstance(hint, type) and is_dataclass(hint):
        settings = settings_of(hint)
        yield from (
            _Spot(child, settings[key].type, (*keys, key))
            for key, child in node.value.items()
            if key in settings
        )


def _marked(spot: _Spot) -> Iterator[Problem]:
    text, path, place = spot.node.text, "::".join(spot.keys), str(spot.node.place)
    if not text:
        return
    for mark in get_args(spot.hint)[1:]:
        if isinstance(mark, Form) and not re.search(mark.pattern, text):
            yield Problem(place, path, f"{text!r} is not accepted", mark.remedy)
            return
        if isinstance(mark, Existing) and not partition_of(text):
            yield Problem(place, path, f"there is no region {text!r}", near_region(text))
        if isinstance(mark, AtLeast) and isinstance(spot.node.value, int) and spot.node.value < mark.least:
            yield Problem(place, path, f"{text!r} is not accepted", f"use {mark.least} or more")
