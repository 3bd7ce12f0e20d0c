"""How what is wrong with a fleet is said; a path is that of the key in `fleet.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from trunkline.errors import Problem


def matching(path: str, pattern: re.Pattern[str], values: Iterable[str], example: str) -> Iterator[Problem]:
    """Each value that is not like the example, or is there twice."""
    values = list(values)
    for value in values:
        if not pattern.fullmatch(value):
            yield wrong(path, value, f"write it like {example}")
    yield from repeated(path, values)


def repeated(
    path: str, values: Sequence[str], what: str = "", remedy: str = "name it once"
) -> Iterator[Problem]:
    """Each value that is there more than once; `what` goes before it."""
    for value in sorted({value for value in values if values.count(value) > 1}):
        yield Problem("", path, f"{what}{value!r} is named more than once", remedy)


def wrong(path: str, value: str, remedy: str) -> Problem:
    """A value that is not taken, whatever the reason."""
    return Problem("", path, f"{value!r} is not accepted", remedy)


def below(path: str, problem: Problem, place: str = "") -> Problem:
    """A problem of a part, as one of the whole; `place` is used if it has none."""
    return Problem(problem.place or place, f"{path}::{problem.path}", problem.message, problem.remedy)
