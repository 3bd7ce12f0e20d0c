"""The series of one target, and the columns each scrape makes of them (components.md 5.7 to 5.9)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from operator import not_
from typing import Final

from trunkline.model import STALE, Batch, Family, Kind, Labels, Resource, Series, Table, make_labels
from trunkline.receivers.prometheus.target import Target, sample_labels
from trunkline.wire.exposition import Exposed, Parsed
from trunkline.wire.kernel import ExpositionParser

_FLIPPED: Final = bytes((1, 0, *bytes(254)))
SYNTHETIC: Final = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)


class TargetColumns:
    """The series of one target, and the batch each scrape makes of them.

    A series lives from the scrape that first shows it to the one that no longer does: that one still carries its
    stale marker, and `handed_on` then takes its slot back. After a failed scrape everything is stale, yet keeps its
    slot, so that a target which comes back is not decided anew.
    """

    def __init__(self, target: Target, resource: Resource) -> None:
        self.table = Table(target.url, target.key)
        self._target = target
        self._resource = resource
        self._slots: dict[Labels, int] = {}
        self._owned = bytearray()  # 1 at the slots in `_slots`
        self._synthetic = [self.table.assign(self._synthetic_series(name)) for name in SYNTHETIC]
        self._parser = ExpositionParser(self._decide, honor_timestamps=target.honor_timestamps)
        self._alive = bytearray()
        self._leaving: list[int] = []
        self._fresh: list[int] = []
        # Series that are decided in one scrape share their equal labels and families: most of their memory.
        self._shared: dict[tuple[str, str], tuple[str, str]] = {}
        self._families: dict[Family, Family] = {}

    def scraped(self, body: bytes, openmetrics: bool, timestamp_s: float) -> tuple[Batch, int]:
        """The batch of a body that was read, and how many samples it exposed. Raises ExpositionError."""
        self._fresh = []
        parsed = self._parser.parse(body, openmetrics=openmetrics)
        timestamp_ms = round(timestamp_s * 1000)
        values, present = _widened(parsed, len(self.table))
        kept = present.count(1) + len(parsed.extras)
        self._mark_departed(values, present, parsed)
        self._report(values, present, up=1, scraped=parsed.samples, kept=kept)
        batch = Batch(
            self.table,
            timestamp_ms,
            values,
            self.table.take_changes(),
            present,
            _timestamps(parsed, timestamp_ms, len(values)),
            parsed.extras,
        )
        self._fresh = []
        return batch, parsed.samples

    def failed(self, timestamp_s: float) -> Batch:
        """The batch of a scrape that failed: everything the last one showed is stale, `up` is 0."""
        # What only a body that failed half-way has shown never was a series.
        self._leaving, self._fresh = self._fresh, []
        values = array("d", bytes(8 * len(self.table)))
        present = bytearray(len(self.table))
        for slot, alive in enumerate(self._alive):
            if alive:
                values[slot] = STALE
                present[slot] = 1
        self._alive = bytearray(len(self.table))
        self._report(values, present, up=0, scraped=0, kept=0)
        return Batch(self.table, round(timestamp_s * 1000), values, self.table.take_changes(), present)

    def set_duration(self, batch: Batch, duration_s: float) -> None:
        batch.values[self._synthetic[1]] = duration_s

    def handed_on(self) -> None:
        """Take back the slots of series whose stale marker has been handed on."""
        self._shared.clear()
        self._families.clear()
        if not self._leaving:
            return
        self._parser.forget(self._leaving)
        for slot in self._leaving:
            series = self.table.series[slot]
            assert series is not None
            del self._slots[series.labels]
            self._owned[slot] = 0
            self.table.free(slot)
        self._leaving = []

    def _decide(self, exposed: Exposed) -> int:
        share = self._shared.setdefault
        labels = tuple(
            share(pair, pair) for pair in sample_labels(exposed.name, exposed.labels, self._target)
        )
        family = Family(exposed.family, exposed.kind, exposed.unit, exposed.help)
        series = Series(labels, self._families.setdefault(family, family), self._resource)
        slot = self._slots.get(labels)
        if slot is None:
            slot = self._slots[labels] = self.table.assign(series)
            self._owned.extend(bytes(len(self.table) - len(self._owned)))
            self._owned[slot] = 1
            self._fresh.append(slot)
        elif self.table.series[slot] != series:
            self.table.replace(slot, series)
        return slot

    def _synthetic_series(self, name: str) -> Series:
        labels = make_labels({**self._target.labels, **self._target.external_labels, "__name__": name})
        return Series(labels, Family(name, Kind.GAUGE), self._resource)

    def _mark_departed(self, values: array[float], present: bytearray, parsed: Parsed) -> None:
        """Stale markers for what the last scrape showed and this one does not; their slots leave afterwards."""
        before = self._alive + bytes(len(present) - len(self._alive))
        self._alive = bytearray(present)
        if parsed.timestamps_ms is not None:  # a series with timestamps of its own ends without a marker
            self._alive = _both(self._alive, _zeros(parsed.timestamps_ms))
        if len(self._slots) == present.count(1):
            return
        for slot in _only_in(self._owned, present):
            self._leaving.append(slot)
            if before[slot]:
                values[slot] = STALE
                present[slot] = 1

    def _report(self, values: array[float], present: bytearray, *, up: int, scraped: int, kept: int) -> None:
        for slot, value in zip(self._synthetic, (up, 0.0, scraped, kept, len(self._fresh)), strict=True):
            values[slot] = value
            present[slot] = 1


def _widened(parsed: Parsed, length: int) -> tuple[array[float], bytearray]:
    """The columns of a body, which nobody else uses, made as long as the table."""
    missing = length - len(parsed.values)
    parsed.values.frombytes(bytes(8 * missing))
    parsed.present.extend(bytes(missing))
    return parsed.values, parsed.present


def _both(left: bytearray, right: bytes | bytearray) -> bytearray:
    """Where both columns are 1, as long as the first; at the speed of long integers."""
    both = int.from_bytes(left, "little") & int.from_bytes(right, "little")
    return bytearray(both.to_bytes(len(left), "little"))


def _zeros(column: array[int]) -> bytes:
    """1 where the column is 0."""
    return bytes(map(not_, column))


def _only_in(owned: bytearray, present: bytearray) -> Iterator[int]:
    """Where `owned` is 1 and `present` is not, ascending; almost always few."""
    return _ones(_both(owned, present.translate(_FLIPPED)))


def _ones(column: bytes | bytearray) -> Iterator[int]:
    """Where the column is 1, ascending; costs something only for those."""
    slot = column.find(1)
    while slot >= 0:
        yield slot
        slot = column.find(1, slot + 1)


def _timestamps(parsed: Parsed, timestamp_ms: int, length: int) -> array[int] | None:
    """The column of timestamps, which nobody else uses, with the scrape's where a sample has none of its own."""
    column = parsed.timestamps_ms
    if column is not None:
        for slot in _ones(_zeros(column)):
            column[slot] = timestamp_ms
        column.extend([timestamp_ms] * (length - len(column)))
    return column
