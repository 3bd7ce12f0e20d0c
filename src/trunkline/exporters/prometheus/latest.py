"""The latest sample of each series of one source: what came, what is stale, what has expired."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from trunkline.component.translation import TARGET_INFO, is_created
from trunkline.exporters.prometheus.exposition import NotShownError, SourceRows
from trunkline.model import STALE_BITS, Batch, Labels, Resource, Series

if TYPE_CHECKING:
    from trunkline.exporters.prometheus.exporter import PrometheusExporter
    from trunkline.model import Table

_STALE: Final = struct.pack("<Q", STALE_BITS)


class LatestSamples:
    """An inlet. What is stale is gone at once; what only stops coming stays until it expires."""

    def __init__(self, exporter: PrometheusExporter) -> None:
        self._exporter = exporter
        self._exposition = exporter.exposition
        self._translation = exporter.config.translation
        self._source = SourceRows(exporter.exposition)
        self._infos = _TargetInfos(exporter)
        self._refused: set[int] = set()
        self._room = 0
        self._updated_s = exporter.monotonic()
        self._overdue: dict[int, float] = {}

    def consume(self, batch: Batch) -> None:
        source, length = self._source, len(batch.table)
        source.grow(length)
        self._decide(batch)
        present = bytearray(b"\1" * length) if batch.present is None else batch.present
        self._note_overdue(present)
        self._take_values(batch)
        source.show_only(self._living(present))
        if batch.changed:
            self._infos.decide(batch.table)
        self._infos.show(alive=1 in source.alive)
        self._exporter.changed()

    def expire(self, limit_s: float) -> None:
        """Take away what has not come since `limit_s`."""
        alive = bytearray(self._source.alive)
        if self._updated_s < limit_s:
            alive = bytearray(len(alive))
        for slot in [slot for slot, since_s in self._overdue.items() if since_s < limit_s]:
            del self._overdue[slot]
            alive[slot] = 0
        if alive != self._source.alive:
            self._source.show_only(alive)
            self._infos.show(alive=1 in alive)
            self._exporter.changed()

    def close(self) -> None:
        self._source.close()
        self._infos.close()
        self._exporter.closed(self)

    def _decide(self, batch: Batch) -> None:
        """Rows for what is new. All that went goes first: a name or labels may change hands within a batch."""
        for slot in batch.changed:
            self._source.release(slot)
            self._overdue.pop(slot, None)
        again = self._refused - set(batch.changed)
        self._refused = set()
        if self._room == self._exposition.room:
            self._refused, again = again, set()
        self._room = self._exposition.room
        for slot in sorted(again.union(batch.changed)):
            series = batch.table.series[slot]
            if series is not None:
                self._claim(slot, series, again=slot in again)

    def _claim(self, slot: int, series: Series, *, again: bool) -> None:
        if self._translation.scraped and is_created(series):  # upstream makes start times of them
            return
        try:
            labels = self._translation.labels(series)
            name = self._translation.family_name(series.family)
            self._source.assign(slot, self._exposition.claim(series, labels, name))
        except NotShownError as error:
            self._refused.add(slot)
            if not again:
                self._exporter.refused(error.reason, str(error))
        except ValueError as error:
            self._exporter.refused("name_invalid", f"{dict(series.labels)}: {error}")

    def _note_overdue(self, present: bytearray) -> None:
        """Remember since when a series has had no sample, although nobody said that it is gone."""
        before_s, self._updated_s = self._updated_s, self._exporter.monotonic()
        self._overdue = {slot: since_s for slot, since_s in self._overdue.items() if not present[slot]}
        for slot in _ones(_only_in(self._source.alive, present)):
            self._overdue.setdefault(slot, before_s)

    def _take_values(self, batch: Batch) -> None:
        """The new columns, with the old values of what is overdue; of several samples the latest."""
        source = self._source
        values = array("d", batch.values)
        for slot in self._overdue:
            values[slot] = source.values[slot]
        newest = {extra.slot: batch.timestamp_of(extra.slot) for extra in batch.extras}
        for extra in batch.extras:
            if extra.timestamp_ms >= newest[extra.slot]:
                newest[extra.slot] = extra.timestamp_ms
                values[extra.slot] = extra.value
        if self._exposition.send_timestamps:
            self._take_stamps(batch, newest)
        source.values = values
        source.generation += 1

    def _take_stamps(self, batch: Batch, newest: dict[int, int]) -> None:
        given = batch.timestamps_ms
        stamps = array("q", [batch.timestamp_ms]) * len(batch.table) if given is None else array("q", given)
        for slot in self._overdue:
            stamps[slot] = self._source.stamps[slot]
        for slot, stamp in newest.items():
            stamps[slot] = stamp
        self._source.stamps = stamps

    def _living(self, present: bytearray) -> bytearray:
        """1 where a series that may be shown has a latest sample that is no stale marker."""
        alive = bytearray(present)
        for slot in self._overdue:
            alive[slot] = 1
        for slot in _stale_slots(self._source.values):
            alive[slot] = 0
        return _both(alive, self._source.claimed)


class _TargetInfos:
    """The `target_info` series of one source, which are shown while the source has anything to show."""

    def __init__(self, exporter: PrometheusExporter) -> None:
        self._exporter = exporter
        self._exposition = exporter.exposition
        self._source = SourceRows(exporter.exposition)
        self._labels: frozenset[Labels] = frozenset()

    def decide(self, table: Table) -> None:
        """Look at the resources of `table` anew."""
        wanted = frozenset(self._exporter.config.translation.target_infos(table))
        if wanted != self._labels:
            self._labels = wanted
            self._assign(sorted(wanted))

    def _assign(self, wanted: list[Labels]) -> None:
        source = self._source
        for slot in range(len(source.rows)):
            source.release(slot)
        source.grow(len(wanted))
        for slot, labels in enumerate(wanted):
            if not self._exposition.is_shown(labels):
                series = Series(labels, TARGET_INFO, Resource())
                name = self._exporter.config.translation.family_name(TARGET_INFO)
                source.assign(slot, self._exposition.claim(series, labels, name))
        source.values = array("d", [1.0]) * len(source.rows)
        source.generation += 1

    def show(self, *, alive: bool) -> None:
        claimed = self._source.claimed
        self._source.show_only(bytearray(claimed) if alive else bytearray(len(claimed)))

    def close(self) -> None:
        self._source.close()


def _both(left: bytearray, right: bytearray) -> bytearray:
    """1 where both columns are; at the speed of long integers."""
    both = int.from_bytes(left, "little") & int.from_bytes(right, "little")
    return bytearray(both.to_bytes(len(left), "little"))


def _only_in(left: bytearray, right: bytearray) -> bytes:
    """1 where the first column is and the second is not."""
    only = int.from_bytes(left, "little") & ~int.from_bytes(right, "little")
    return only.to_bytes(len(left), "little")


def _ones(column: bytes) -> Iterator[int]:
    """Where the column is 1, ascending; costs something only for those."""
    slot = column.find(1)
    while slot >= 0:
        yield slot
        slot = column.find(1, slot + 1)


def _stale_slots(values: array[float]) -> Iterator[int]:
    """Where the stale marker is, which is almost always nowhere."""
    raw = values.tobytes()
    position = raw.find(_STALE)
    while position >= 0:
        if position % 8 == 0:
            yield position // 8
        position = raw.find(_STALE, position + 1)
