"""From batches to fragments: labels are encoded once per series, templates are filled once per scrape."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from trunkline.component.contract import Fragment
from trunkline.model import Batch, Extra, Series, Table
from trunkline.wire.template import Template

LANE_SLOTS: Final = 512
"""How many slots share a lane: large enough to compress well, small enough to be compiled anew when one changes."""


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
            self._lanes[slot // LANE_SLOTS].template = None

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
    """A fixed slice of slots and the compressed template of those that carried a sample last time."""

    def __init__(self, key: str, index: int) -> None:
        digest = hashlib.blake2b(f"{key}\0{index}".encode(), digest_size=8).digest()
        self.id = int.from_bytes(digest, "big")
        self.template: Template | None = None
        self._start = index * LANE_SLOTS
        self._present: bytes | None = None
        self._slots: list[int] = []

    def encode(self, batch: Batch, labels: list[bytes | None]) -> Iterator[Fragment]:
        template = self._template(batch.present, labels)
        if template is None:
            return
        if batch.timestamps_ms is None:
            data = template.fill(batch.values, self._slots, batch.timestamp_ms)
            oldest_ms = newest_ms = batch.timestamp_ms
        else:
            stamps = batch.timestamps_ms
            data = template.fill_each(batch.values, self._slots, stamps)
            own = [stamps[slot] for slot in self._slots]
            oldest_ms, newest_ms = min(own), max(own)
        yield Fragment(self.id, data, template.raw_bytes, len(self._slots), oldest_ms, newest_ms)

    def encode_extras(self, extras: Sequence[Extra], labels: list[bytes | None]) -> Fragment:
        slots = range(len(extras))
        template = Template([labels[extra.slot] or b"" for extra in extras])
        values = array("d", (extra.value for extra in extras))
        stamps = array("q", (extra.timestamp_ms for extra in extras))
        data = template.fill_each(values, slots, stamps)
        return Fragment(self.id, data, template.raw_bytes, len(extras), min(stamps), max(stamps))

    def _template(self, present: bytearray | None, labels: list[bytes | None]) -> Template | None:
        stop = self._start + LANE_SLOTS
        here = None if present is None else bytes(present[self._start : stop])
        if self.template is None or here != self._present:
            window = range(self._start, min(stop, len(labels)))
            self._slots = [
                slot for slot in window if labels[slot] is not None and (present is None or present[slot])
            ]
            self._present = here
            self.template = Template([labels[slot] or b"" for slot in self._slots])
        return self.template if self._slots else None
