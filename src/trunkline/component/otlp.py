"""Series in the shape OpenTelemetry gives them: resources, metrics, data points (components.md 5.10).

A histogram's buckets, sum and count, a summary's quantiles, and the time at which something began are one data point.
Which slots make which point is worked out while series change, and not for every batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from trunkline.component.translation import ending
from trunkline.model import (
    AttributeValue,
    Batch,
    Extra,
    Family,
    Kind,
    Labels,
    Origin,
    Resource,
    Series,
    Table,
)

NO_SLOT: Final = -1

UCUM: Final = {
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
    "minutes": "min",
    "hours": "h",
    "days": "d",
    "bytes": "By",
    "meters": "m",
    "volts": "V",
    "amperes": "A",
    "joules": "J",
    "watts": "W",
    "grams": "g",
    "celsius": "Cel",
    "hertz": "Hz",
    "percent": "%",
    "ratio": "1",
}
"""Units of scraped families as OpenTelemetry writes them."""


class PointKind(Enum):
    """OpenTelemetry's data types, as far as there are any of ours; sums are cumulative."""

    GAUGE = "Gauge"
    SUM = "Sum"
    HISTOGRAM = "Histogram"
    SUMMARY = "Summary"


@dataclass(slots=True)
class Point:
    """A data point by the slots of its parts.

    `value` of a gauge or sum; `parts` are the cumulative buckets of a histogram by bound, or the quantiles of a
    summary, ascending; `started` holds seconds since the epoch.
    """

    attributes: Labels
    value: int = NO_SLOT
    parts: list[tuple[float, int]] = field(default_factory=list)
    sum: int = NO_SLOT
    count: int = NO_SLOT
    started: int = NO_SLOT

    @property
    def key(self) -> int:
        """The slot that says whether and when there is a sample; none of a point that only began."""
        if self.value != NO_SLOT:
            return self.value
        return self.count if self.count != NO_SLOT else self.parts[-1][1] if self.parts else self.sum


@dataclass(slots=True)
class Metric:
    """A metric and its points. `monotonic` is about sums; `scraped_kind` is the type a scraped family was exposed as."""

    name: str
    description: str
    unit: str
    kind: PointKind
    monotonic: bool
    scraped_kind: str
    points: list[Point]


@dataclass(slots=True)
class ResourceMetrics:
    """The metrics of one resource; `attributes` hold its identity, too."""

    attributes: dict[str, AttributeValue]
    metrics: list[Metric]


class Shape:
    """The metrics of one source, brought into shape when they are asked for after series have changed."""

    def __init__(self) -> None:
        self._resources: list[ResourceMetrics] = []
        self._changed = False

    def note(self, batch: Batch) -> None:
        """Take notice of a batch that need not be shown."""
        self._changed = self._changed or bool(batch.changed)

    def of(self, batch: Batch) -> list[ResourceMetrics]:
        """The source's metrics; points whose `key` slot carries no sample are not part of the batch."""
        self.note(batch)
        if self._changed:
            self._resources = list(_shaped(batch.table))
            self._changed = False
        return self._resources


def present(batch: Batch, slot: int) -> bool:
    """Whether `slot` carries a sample."""
    return batch.present is None or bool(batch.present[slot])


def extras_by_slot(batch: Batch) -> Mapping[int, Sequence[Extra]]:
    """Further samples of the batch by the slot of their series; hardly ever any."""
    found: dict[int, list[Extra]] = {}
    for extra in batch.extras:
        found.setdefault(extra.slot, []).append(extra)
    return found


def _shaped(table: Table) -> Iterator[ResourceMetrics]:
    found: dict[int, tuple[Resource, dict[tuple[str, Family], dict[Labels, Point]]]] = {}
    for slot, series in enumerate(table.series):
        if series is not None:
            _, metrics = found.setdefault(id(series.resource), (series.resource, {}))
            points = metrics.setdefault((_metric_name(series), series.family), {})
            attributes = _attributes(series)
            _put(points.setdefault(attributes, Point(attributes)), series, slot)
    for resource, metrics in found.values():
        made: list[Metric] = []
        for (name, family), points in metrics.items():
            whole = [point for point in points.values() if point.key != NO_SLOT]
            if whole:
                made.append(_metric(name, family, whole))
            if len(whole) < len(points):
                made.append(_beginnings(name, family, points.values()))
        yield ResourceMetrics({**resource.identity, **resource.attributes}, made)


def _metric_name(series: Series) -> str:
    """The family's, for what is a part of its points; else the series is a metric of its own."""
    joined = ending(series) and series.family.kind is not Kind.GAUGE_HISTOGRAM
    return series.family.name if joined else series.name


def _metric(name: str, family: Family, points: list[Point]) -> Metric:
    kind, scraped = _kind(family.kind), family.origin is Origin.PROMETHEUS
    for point in points:
        point.parts.sort()
    if kind in (PointKind.HISTOGRAM, PointKind.SUMMARY) and any(point.value != NO_SLOT for point in points):
        kind = PointKind.GAUGE
    unit = UCUM.get(family.unit, family.unit) if scraped else family.unit
    monotonic = family.kind is Kind.COUNTER
    return Metric(name, family.help, unit, kind, monotonic, str(family.kind) if scraped else "", points)


def _beginnings(name: str, family: Family, points: Iterable[Point]) -> Metric:
    """The times at which points began of which nothing else is left, as a metric of their own."""
    alone = [Point(point.attributes, value=point.started) for point in points if point.key == NO_SLOT]
    scraped = str(Kind.UNKNOWN) if family.origin is Origin.PROMETHEUS else ""
    return Metric(
        f"{name.removesuffix('_total')}_created", family.help, "", PointKind.GAUGE, False, scraped, alone
    )


def _kind(kind: Kind) -> PointKind:
    if kind in (Kind.COUNTER, Kind.INFO, Kind.STATE_SET):
        return PointKind.SUM
    if kind is Kind.HISTOGRAM:
        return PointKind.HISTOGRAM
    return PointKind.SUMMARY if kind is Kind.SUMMARY else PointKind.GAUGE


def _put(point: Point, series: Series, slot: int) -> None:
    """Make `slot` a part of its point."""
    end, kind = ending(series), series.family.kind
    bound = dict(series.labels).get("le" if kind is Kind.HISTOGRAM else "quantile", "")
    if end == "_created":
        point.started = slot
    elif kind in (Kind.HISTOGRAM, Kind.SUMMARY) and end == "_sum":
        point.sum = slot
    elif kind in (Kind.HISTOGRAM, Kind.SUMMARY) and end == "_count":
        point.count = slot
    elif (kind is Kind.HISTOGRAM and end == "_bucket" and bound) or (kind is Kind.SUMMARY and bound):
        point.parts.append((_number(bound), slot))
    else:
        point.value = slot


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _attributes(series: Series) -> Labels:
    """The labels that are left to a data point; job and instance are the resource's, if it has them."""
    left_out = {"__name__"}
    if series.family.kind is Kind.HISTOGRAM and ending(series):
        left_out.add("le")
    if series.family.kind is Kind.SUMMARY:
        left_out.add("quantile")
    own = series.resource.attributes
    for label, attribute in (("job", "service.name"), ("instance", "service.instance.id")):
        if dict(series.labels).get(label) == own.get(attribute):
            left_out.add(label)
    return tuple(pair for pair in series.labels if pair[0] not in left_out)
