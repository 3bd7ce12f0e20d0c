"""The contract of a discovery, and the list of target groups that files and HTTP servers hold.

A discovery is asked once for its updates and yields everything it knows of, again and again. It never ends and never
raises for what the outside world does: what it cannot learn anew stays as it was, and the log says so once.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from trunkline.component.schedule import Clock
from trunkline.errors import FetchError

log = logging.getLogger(__name__)

LabelSet: TypeAlias = Mapping[str, str]

ADDRESS: Final = "__address__"
_KEYS: Final = frozenset(("targets", "labels"))


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Targets, each with labels of its own (`__address__` among them), and labels they share."""

    targets: Sequence[LabelSet]
    labels: LabelSet = field(default_factory=dict)


class Discovery(Protocol):
    """One source of targets."""

    def updates(self, clock: Clock) -> AsyncIterator[Sequence[TargetGroup]]:
        """Yield all target groups there are now, whenever they have been read."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


class Trouble:
    """Says that something does not work when it begins not to, and when it works again."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said = ""

    def began(self, why: object) -> None:
        """It does not work: said once for each reason."""
        if self._said != str(why):
            log.warning("%s: %s; the targets known so far stay", self._what, why)
            self._said = str(why)

    def ended(self) -> None:
        if self._said:
            log.info("%s works again", self._what)
            self._said = ""


async def refreshed(
    read: Callable[[], Awaitable[Sequence[TargetGroup]]], interval_s: float, clock: Clock, trouble: Trouble
) -> AsyncIterator[Sequence[TargetGroup]]:
    """Yield what `read` returns, at once and every `interval_s`; errors of the world are told and passed over."""
    while True:
        try:
            groups = await read()
        except (FetchError, OSError, ValueError) as error:
            trouble.began(error)
        else:
            trouble.ended()
            yield groups
        await clock.sleep(interval_s)


def groups_of(document: Any, extra: LabelSet, *, any_case: bool = False) -> list[TargetGroup]:
    """The groups of a decoded document `[{targets: […], labels: {…}}]`, each with `extra` labels too.

    Null is nothing, or an empty text, as in Go; `any_case` takes keys in any case, as Go does in JSON. Raises
    ValueError, saying which part is not as it has to be.
    """
    if document is None:
        return []
    if not isinstance(document, list):
        raise ValueError(f"a list of target groups is expected, not {_kind(document)}")  # noqa: TRY004 (the document's fault)
    return [_group(index, one, extra, any_case=any_case) for index, one in enumerate(document)]


def _group(index: int, group: Any, extra: LabelSet, *, any_case: bool) -> TargetGroup:
    if not isinstance(group, dict):
        raise ValueError(f"nil target group item found: item {index} is {_kind(group)}")  # noqa: TRY004
    if any_case:
        group = {key.casefold(): value for key, value in group.items()}
    if unknown := group.keys() - _KEYS:
        raise ValueError(
            f"item {index} has an unknown key {min(map(str, unknown))!r}; targets and labels are known"
        )
    targets, labels = (() if group.get(key) is None else group[key] for key in ("targets", "labels"))
    if not isinstance(targets, list | tuple) or not all(map(_is_text, targets)):
        raise ValueError(f"the targets of item {index} must be a list of texts")
    labels = labels or {}
    if not isinstance(labels, dict) or not all(map(_is_text, labels.values())):
        raise ValueError(f"the labels of item {index} must be texts by name")
    if not all(labels):
        raise ValueError(f"a label of item {index} has no name")
    for text in (*targets, *labels, *labels.values()):
        (text or "").encode()  # a lone surrogate is no text, and its UnicodeEncodeError a ValueError
    named = {name: value or "" for name, value in labels.items()}
    return TargetGroup([{ADDRESS: one or ""} for one in targets], {**named, **extra})


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
