"""What moves through a pipeline: series that are decided once, and batches of columns.

A source (a scraped target, the task metadata endpoint) owns one `Table`. A table gives every series a *slot*,
a small number that stays the series' own while it lives. A scrape fills columns that are indexed by slot, and
hands them on as a `Batch`. What depends on a series (its labels, whether a filter keeps it, its bytes on the
wire) is decided when its slot is filled, and never again: `Batch.changed` names the slots to look at anew.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappop, heappush
from typing import Final, Protocol, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Label pairs sorted by name, `__name__` among them, without empty values."""

AttributeValue: TypeAlias = str | int | float | bool


def float_from_bits(bits: int) -> float:
    """The float64 with exactly these 64 bits."""
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


STALE_BITS: Final = 0x7FF0000000000002
STALE: Final = float_from_bits(STALE_BITS)
"""Prometheus' stale marker, a NaN told apart from others only by its bits."""

NAN: Final = float_from_bits(0x7FF8000000000001)
"""The NaN that Prometheus' parser makes of the text `NaN`."""


def is_stale(value: float) -> bool:
    """Whether `value` is the stale marker, bit for bit."""
    return value != value and struct.pack("<d", value) == struct.pack("<Q", STALE_BITS)  # noqa: PLR0124


class Kind(StrEnum):
    """The metric types of Prometheus and OpenMetrics."""

    UNKNOWN = "unknown"
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    GAUGE_HISTOGRAM = "gaugehistogram"
    SUMMARY = "summary"
    INFO = "info"
    STATE_SET = "stateset"


class Origin(StrEnum):
    """Which naming a series came with, and so whether an exporter translates it."""

    PROMETHEUS = "prometheus"
    OPENTELEMETRY = "opentelemetry"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as filters see it: `name` is the family's (`x` for `x_bucket`; counters keep `_total`).

    OpenTelemetry's monotonic sums are counters, its other sums gauges, as remote write shows them.
    """

    name: str
    kind: Kind = Kind.UNKNOWN
    unit: str = ""
    help: str = ""
    origin: Origin = Origin.PROMETHEUS


@dataclass(frozen=True, slots=True)
class Resource:
    """What a source's series have in common.

    `attributes` are OpenTelemetry resource attributes, as filters and resource processors see them.
    `identity` are the labels added to every series of the source, unless a series has them itself.
    """

    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)


class Series:
    """One series: its final labels (for OpenTelemetry's, attributes not yet translated), family, resource.

    Nobody changes one. Equal ones are equal, however they keep their labels.
    """

    __slots__ = ("_labels", "family", "resource")

    def __init__(self, labels: Labels, family: Family, resource: Resource) -> None:
        self._labels = labels
        self.family = family
        self.resource = resource

    @property
    def labels(self) -> Labels:
        return self._labels

    @property
    def encoded(self) -> bytes | None:
        """The labels as remote write has them, if they are at hand: a source that knows them saves making them."""
        return None

    @property
    def name(self) -> str:
        """The value of `__name__`, empty if there is none."""
        return next((value for name, value in self.labels if name == "__name__"), "")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Series):
            return NotImplemented
        return (self.labels, self.family, self.resource) == (other.labels, other.family, other.resource)

    def __hash__(self) -> int:
        return hash((self.labels, self.family))

    def __repr__(self) -> str:
        return f"Series({self.labels!r}, {self.family!r}, {self.resource!r})"


def make_labels(pairs: Mapping[str, str]) -> Labels:
    """`pairs` as labels: sorted by name, empty values left out."""
    return tuple(sorted((name, value) for name, value in pairs.items() if value))


class SeriesBySlot(Protocol):
    """The series of a table as its owner keeps them: a list, or something that makes each when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, slot: int, /) -> Series | None: ...

    def __setitem__(self, slot: int, series: Series | None, /) -> None: ...

    def __iter__(self) -> Iterator[Series | None]: ...

    def append(self, series: Series | None, /) -> None: ...

    def count(self, series: Series | None, /) -> int: ...


YOUNG_SLOTS: Final = 128
"""How many slots at the end of a table are for series that come and go: see `Table`."""


class Table:
    """The series of one source by slot; a free slot holds None.

    Series that come and go are kept together at the end of the table, so that what is prepared for many slots at a
    time lasts: a new series takes a free slot among the last YOUNG_SLOTS, otherwise the table grows. Only when more
    than one slot in eight is free are older ones taken.

    The source's owner changes it with `assign`, `replace` and `free`; what has changed is handed on with the next batch.
    `name` tells people and logs which source this is; `key` is stable over restarts of the process. `series` is where
    the series are kept, a list if nothing else is given.
    """

    __slots__ = ("_changed", "_free", "key", "name", "series")

    def __init__(self, name: str, key: str | None = None, series: SeriesBySlot | None = None) -> None:
        self.name = name
        self.key = key or name
        self.series: SeriesBySlot = [] if series is None else series
        self._free: list[int] = []  # a heap of the negative numbers: the last slot comes first
        self._changed: set[int] = set()

    def __len__(self) -> int:
        """How many slots there are, free ones included: the length of every column."""
        return len(self.series)

    def assign(self, series: Series) -> int:
        """Give `series` a slot."""
        length = len(self.series)
        if self._free and (-self._free[0] >= length - YOUNG_SLOTS or 8 * len(self._free) > length):
            slot = -heappop(self._free)
            self.series[slot] = series
        else:
            slot = length
            self.series.append(series)
        self._changed.add(slot)
        return slot

    def replace(self, slot: int, series: Series) -> None:
        """Decide the series at `slot` anew, because its family or resource changed."""
        self.series[slot] = series
        self._changed.add(slot)

    def free(self, slot: int) -> None:
        """Take the slot back; its series has been handed on for the last time."""
        self.series[slot] = None
        heappush(self._free, -slot)
        self._changed.add(slot)

    def take_changes(self) -> list[int]:
        """The slots assigned or freed since the last call, in ascending order."""
        if not self._changed:
            return []
        changes = sorted(self._changed)
        self._changed.clear()
        return changes


@dataclass(frozen=True, slots=True)
class Extra:
    """A sample that does not fit the columns: a further timestamped sample of a series in the same scrape."""

    slot: int
    value: float
    timestamp_ms: int


@dataclass(slots=True)
class Batch:
    """One scrape of one source, valid only until `consume` returns.

    `values` and, where given, `timestamps_ms` and `present` are columns as long as the table. A slot carries a
    sample when the table holds a series there and `present` is None or 1 at it. `timestamp_ms` holds for every
    sample unless `timestamps_ms` is given. `changed` names the slots decided anew since the table's last batch.
    """

    table: Table
    timestamp_ms: int
    values: array[float]
    changed: Sequence[int] = ()
    present: bytearray | None = None
    timestamps_ms: array[int] | None = None
    extras: Sequence[Extra] = ()

    def slots(self) -> list[int]:
        """The slots that carry a sample, ascending."""
        present = self.present
        return [
            slot
            for slot, series in enumerate(self.table.series)
            if series is not None and (present is None or present[slot])
        ]

    def timestamp_of(self, slot: int) -> int:
        """Milliseconds since the epoch of the sample at `slot`."""
        return self.timestamp_ms if self.timestamps_ms is None else self.timestamps_ms[slot]
