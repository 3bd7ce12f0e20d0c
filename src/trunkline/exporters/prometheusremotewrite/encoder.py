"""From batches to fragments: labels are encoded once per series, templates are filled once per scrape."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import Final, NamedTuple

from trunkline.component.contract import Fragment
from trunkline.model import Batch, Extra, Series, Table
from trunkline.wire.kernel import Template

LANE_SLOTS: Final = 512
"""How many slots share a lane, and in calm times a template: the more, the better they compress."""
PART_SLOTS: Final = 128
"""How many share a template while series of the lane come and go: the fewer, the less is compiled anew."""
CALM_SCRAPES: Final = 5
"""After how many scrapes without a change a lane has one template again."""


class SourceEncoder:
    """The fragments of one source. Keeps the labels of each series as bytes and a template for each lane."""

    def __init__(self, table: Table, encode_labels: Callable[[Series], bytes | None]) -> None:
        self._key = table.key
        self._encode_labels = encode_labels
        self._labels: list[bytes | None] = []
        self._lanes: list[_Lane] = []

    def encode(self, batch: Batch) -> Sequence[Fragment]:
        self._decide(batch)
        fragments = [fragment for lane in self._lanes for fragment in lane.encode(batch, self._labels)]
        if batch.extras:
            fragments += self._encode_extras(batch.extras)
        return fragments

    def _decide(self, batch: Batch) -> None:
        series = batch.table.series
        self._labels.extend([None] * (len(series) - len(self._labels)))
        while len(self._lanes) * LANE_SLOTS < len(series):
            self._lanes.append(_Lane(self._key, len(self._lanes)))
        for slot in batch.changed:
            found = series[slot]
            self._labels[slot] = None if found is None else self._encode_labels(found)
            self._lanes[slot // LANE_SLOTS].change(slot)

    def _encode_extras(self, extras: Sequence[Extra]) -> Iterator[Fragment]:
        """Further samples of a series, oldest first, each in a fragment that cannot meet another of its lane."""
        rounds: defaultdict[tuple[int, int], list[Extra]] = defaultdict(list)
        earlier: Counter[int] = Counter()
        for extra in sorted(extras, key=lambda extra: extra.timestamp_ms):
            if self._labels[extra.slot] is not None:
                rounds[extra.slot // LANE_SLOTS, earlier[extra.slot]].append(extra)
                earlier[extra.slot] += 1
        for (lane, _), members in sorted(rounds.items(), key=lambda item: item[0]):
            yield self._lanes[lane].encode_extras(members, self._labels)


class _Lane:
    """A fixed slice of slots and their compressed templates: one, or one for each part while the series change."""

    def __init__(self, key: str, index: int) -> None:
        digest = hashlib.blake2b(f"{key}\0{index}".encode(), digest_size=8).digest()
        self.id = int.from_bytes(digest, "big")
        self._start = index * LANE_SLOTS
        self._parts = self._split(PART_SLOTS)
        self._calm_scrapes = 0

    def change(self, slot: int) -> None:
        """The series at `slot` was decided anew."""
        width = LANE_SLOTS // len(self._parts)
        self._parts[(slot - self._start) // width].template = None

    def encode(self, batch: Batch, labels: list[bytes | None]) -> Iterator[Fragment]:
        self._compile(batch.present, labels)
        filled = [part.fill(batch) for part in self._parts if part.slots]
        if not filled:
            return
        data, raw_bytes, samples, oldest_ms, newest_ms = filled[0]
        if len(filled) > 1:
            data = b"".join(one.data for one in filled)
            raw_bytes, samples = sum(one.raw_bytes for one in filled), sum(one.samples for one in filled)
            oldest_ms, newest_ms = min(one.oldest_ms for one in filled), max(one.newest_ms for one in filled)
        yield Fragment(self.id, data, raw_bytes, samples, oldest_ms, newest_ms)

    def encode_extras(self, extras: Sequence[Extra], labels: list[bytes | None]) -> Fragment:
        slots = range(len(extras))
        template = Template([labels[extra.slot] or b"" for extra in extras])
        values = array("d", (extra.value for extra in extras))
        stamps = array("q", (extra.timestamp_ms for extra in extras))
        data = template.fill_each(values, slots, stamps)
        return Fragment(self.id, data, template.raw_bytes, len(extras), min(stamps), max(stamps))

    def _compile(self, present: bytearray | None, labels: list[bytes | None]) -> None:
        """Compile the parts whose series changed; split the lane when it begins to change, join it when it stops."""
        outdated = [part for part in self._parts if part.is_outdated(present)]
        self._calm_scrapes = 0 if outdated else self._calm_scrapes + 1
        if outdated and len(self._parts) == 1:
            self._parts = outdated = self._split(PART_SLOTS)
        elif self._calm_scrapes == CALM_SCRAPES:
            self._parts = outdated = self._split(LANE_SLOTS)
        for part in outdated:
            part.compile(present, labels)

    def _split(self, width: int) -> list[_Part]:
        return [_Part(self._start + offset, width) for offset in range(0, LANE_SLOTS, width)]


class _Part:
    """Neighbouring slots, and the compressed template of those that carried a sample last time."""

    def __init__(self, start: int, width: int) -> None:
        self.template: Template | None = None
        self.slots: array[int] = array("I")
        self._window = slice(start, start + width)
        self._present: bytearray | None = None

    def is_outdated(self, present: bytearray | None) -> bool:
        here = None if present is None else present[self._window]
        return self.template is None or here != self._present

    def compile(self, present: bytearray | None, labels: list[bytes | None]) -> None:
        self._present = None if present is None else present[self._window]
        known = zip(range(len(labels))[self._window], labels[self._window], strict=True)
        here = known if self._present is None else compress(known, self._present)
        sent = {slot: encoded for slot, encoded in here if encoded is not None}
        self.slots = array("I", sent)
        self.template = Template(sent.values())

    def fill(self, batch: Batch) -> _Filled:
        template, stamps = self.template, batch.timestamps_ms
        assert template is not None
        if stamps is None:
            data = template.fill(batch.values, self.slots, batch.timestamp_ms)
            oldest_ms = newest_ms = batch.timestamp_ms
        else:
            data = template.fill_each(batch.values, self.slots, stamps)
            own = [stamps[slot] for slot in self.slots]
            oldest_ms, newest_ms = min(own), max(own)
        return _Filled(data, template.raw_bytes, len(self.slots), oldest_ms, newest_ms)


class _Filled(NamedTuple):
    """The samples of a part, compressed."""

    data: bytes
    raw_bytes: int
    samples: int
    oldest_ms: int
    newest_ms: int
