"""Type, help and unit of families, told to the receiver in requests of remote write 1.0 (`send_metadata`).

Metadata travel as fragments without samples among the others: they wait in the same queue, are retried the same way,
and cost nothing while no family is new.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from trunkline.component.contract import Fragment
from trunkline.wire import snappy, varint
from trunkline.wire.remote_write import FamilyMetadata, encode_metadata, encode_write_request

if TYPE_CHECKING:
    from trunkline.component.contract import Encoder
    from trunkline.component.translation import Translation
    from trunkline.model import Batch, Family, Table

RESEND_S: Final = 300.0
"""How often everything is told again: receivers forget families after about ten minutes."""
FORGET_S: Final = 3 * RESEND_S
"""When a family that nobody has told of again is gone."""
FRAGMENT_FAMILIES: Final = 256


class Announcements:
    """What one receiver has been told, and when."""

    def __init__(self, translation: Translation, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._translation = translation
        self.monotonic = monotonic
        self._told: dict[str, tuple[FamilyMetadata, float]] = {}
        self._swept_s = monotonic()

    @property
    def known(self) -> int:
        """How many families it remembers to have told of."""
        return len(self._told)

    def news(self, families: Iterable[Family]) -> list[FamilyMetadata]:
        """What is to be told of `families`; it counts as told from now on."""
        now_s = self.monotonic()
        self._forget_old(now_s)
        found = []
        for one in map(self._describe, families):
            if one is not None and self._is_due(one, now_s):
                self._told[one.family] = (one, now_s)
                found.append(one)
        return found

    def _forget_old(self, now_s: float) -> None:
        """Families come and go without end; those of now are told again and again."""
        if now_s - self._swept_s >= RESEND_S:
            self._swept_s = now_s
            self._told = {name: told for name, told in self._told.items() if now_s - told[1] < FORGET_S}

    def _is_due(self, one: FamilyMetadata, now_s: float) -> bool:
        told = self._told.get(one.family)
        return told is None or told[0] != one or now_s - told[1] >= RESEND_S

    def _describe(self, family: Family) -> FamilyMetadata | None:
        try:
            name = self._translation.family_name(family)
        except ValueError:  # its series are left out and counted
            return None
        return FamilyMetadata(name, family.kind, family.help, family.unit)


class WithMetadata:
    """An encoder that adds to the samples of a source what its families are."""

    def __init__(self, table: Table, announcements: Announcements, encoder: Encoder) -> None:
        self._key = table.key
        self._announcements = announcements
        self._encoder = encoder
        self._again_s = float("-inf")

    def encode(self, batch: Batch) -> Sequence[Fragment]:
        fragments = self._encoder.encode(batch)
        now_s = self._announcements.monotonic()
        if now_s >= self._again_s:
            self._again_s = now_s + RESEND_S
            slots: Iterable[int] = range(len(batch.table.series))
        elif batch.changed:
            slots = batch.changed
        else:
            return fragments
        news = self._announcements.news(_families(batch, slots))
        return [*fragments, *self._fragments(news, batch.timestamp_ms)] if news else fragments

    def _fragments(self, news: Sequence[FamilyMetadata], timestamp_ms: int) -> Iterator[Fragment]:
        rest = iter(news)
        index = 0
        while some := list(islice(rest, FRAGMENT_FAMILIES)):
            raw = encode_write_request(metadata=map(encode_metadata, some))
            elements = snappy.compress(raw)[len(varint.encode(len(raw))) :]
            yield Fragment(self._lane(index), elements, len(raw), 0, timestamp_ms, timestamp_ms)
            index += 1

    def _lane(self, index: int) -> int:
        digest = hashlib.blake2b(f"{self._key}\0metadata {index}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big")


def _families(batch: Batch, slots: Iterable[int]) -> list[Family]:
    """The families of the series at `slots`, each once as far as they share it."""
    series = batch.table.series
    found = {id(one.family): one.family for slot in slots if (one := series[slot]) is not None}
    return list(found.values())
