"""Whose the series of each target are, among all jobs whose series go the same way: two of one key would clash."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from weakref import WeakSet

from trunkline.receivers.prometheus.job import Job

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context

_ESTATE: Final = "owners of targets"


class Owner(NamedTuple):
    """A job of a receiver."""

    receiver: str
    job: Job


class Owners:
    """The owner of each target key, for the receivers that share a downstream."""

    def __init__(self, downstream: Consumer) -> None:
        self.downstream = downstream
        self._by_key: dict[str, Owner] = {}
        self._waiting: dict[str, Callable[[], None]] = {}

    @classmethod
    def among(cls, context: Context, downstream: Consumer) -> Owners:
        """Those of all receivers of the process that feed `downstream`.

        Receivers in other pipelines may have series of the same labels: they may go to another workspace, or get
        labels on the way.
        """
        known = cast("WeakSet[Owners]", context.estate.setdefault(_ESTATE, WeakSet()))
        found = next((one for one in known if one.downstream == downstream), None)
        if found is None:
            found = cls(downstream)
            known.add(found)
        return found

    def of(self, key: str) -> Owner | None:
        return self._by_key.get(key)

    def take(self, key: str, owner: Owner) -> None:
        self._by_key[key] = owner

    def give(self, key: str) -> None:
        """Nobody has this key any more."""
        self._by_key.pop(key, None)

    def join(self, receiver: str, released: Callable[[], None]) -> None:
        """Call `released` from now on when a key is free again."""
        self._waiting[receiver] = released

    def leave(self, receiver: str) -> None:
        """A receiver has ended, and with it all that it owned."""
        self._waiting.pop(receiver, None)
        self._by_key = {key: owner for key, owner in self._by_key.items() if owner.receiver != receiver}

    def released(self) -> None:
        """Keys are free again: others may have waited for them."""
        for call in list(self._waiting.values()):
            call()
