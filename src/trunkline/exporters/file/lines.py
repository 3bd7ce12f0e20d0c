"""One batch as one line of OTLP JSON: `ExportMetricsServiceRequest` in the JSON encoding of opentelemetry-proto 1.x.

64-bit integers are strings there, NaN and infinities too. What does not change between batches is encoded once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from trunkline.component.otlp import (
    NO_SLOT,
    Metric,
    Point,
    PointKind,
    ResourceMetrics,
    Shape,
    extras_by_slot,
    present,
)
from trunkline.model import is_stale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trunkline.model import AttributeValue, Batch, Extra

NO_RECORDED_VALUE: Final = 1
_NOTHING_RECORDED: Final = f'"flags":{NO_RECORDED_VALUE}'
_CUMULATIVE: Final = 2
_SPECIAL: Final = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


class SourceLines:
    """The lines of one source."""

    def __init__(self) -> None:
        self._shape = Shape()
        self._resources: list[tuple[str, list[_EncodedMetric]]] = []

    def line(self, batch: Batch) -> tuple[bytes, int]:
        """The batch with a line end, and how many data points are in it; nothing for a batch without samples."""
        if batch.changed:
            self._resources = [
                (_resource_head(one), [_EncodedMetric(metric) for metric in one.metrics])
                for one in self._shape.of(batch)
            ]
        resources, points, extras = [], 0, extras_by_slot(batch)
        for head, metrics in self._resources:
            encoded = [found for metric in metrics if (found := metric.encode(batch, extras))]
            if encoded:
                points += sum(count for _, count in encoded)
                resources.append(f"{head}{','.join(text for text, _ in encoded)}]}}]}}")
        if not points:
            return b"", 0
        return f'{{"resourceMetrics":[{",".join(resources)}]}}\n'.encode(), points


class _EncodedMetric:
    """A metric whose constant parts are encoded."""

    def __init__(self, metric: Metric) -> None:
        self._kind = metric.kind
        self._points = [(point, _point_head(point)) for point in metric.points]
        described = {"name": metric.name, "description": metric.description, "unit": metric.unit}
        texts = {key: json.dumps(value) for key, value in described.items() if value}
        self._head = _object(**texts)[:-1] + f',"{metric.kind.value.lower()}":{{"dataPoints":['
        self._tail = "]" + _temporality(metric) + "}" + _metadata(metric) + "}"

    def encode(self, batch: Batch, extras: Mapping[int, Sequence[Extra]]) -> tuple[str, int] | None:
        """The metric and how many points it has, None when it has none."""
        points = [
            text
            for point, head in self._points
            if present(batch, point.key)
            for text in self._texts(point, head, batch, extras.get(point.value, ()))
        ]
        return (f"{self._head}{','.join(points)}{self._tail}", len(points)) if points else None

    def _texts(self, point: Point, head: str, batch: Batch, extras: Sequence[Extra]) -> Iterator[str]:
        """The point, and one more for every further sample of a gauge or sum."""
        stamp, value = batch.timestamp_of(point.key), batch.values[point.key]
        started = _started(point, batch)
        if is_stale(value):
            yield f'{head}{started}"timeUnixNano":"{stamp}000000",{_NOTHING_RECORDED}}}'
        else:
            yield f'{head}{started}"timeUnixNano":"{stamp}000000",{self._value(point, batch)}}}'
        for extra in extras:
            said = f'"timeUnixNano":"{extra.timestamp_ms}000000",'
            said += _NOTHING_RECORDED if is_stale(extra.value) else f'"asDouble":{_number(extra.value)}'
            yield f"{head}{started}{said}}}"

    def _value(self, point: Point, batch: Batch) -> str:
        if point.value != NO_SLOT:
            return f'"asDouble":{_number(batch.values[point.value])}'
        if self._kind is PointKind.SUMMARY:
            return _summary(point, batch)
        return _histogram(point, batch)


def _resource_head(resource: ResourceMetrics) -> str:
    attributes = _object(attributes=_attributes(resource.attributes))
    return f'{{"resource":{attributes},"scopeMetrics":[{{"scope":{{}},"metrics":['


def _histogram(point: Point, batch: Batch) -> str:
    """Buckets hold what is in them alone; the last, without bound, is the rest."""
    values = batch.values
    counts = [_count(values[slot]) for _, slot in point.parts]
    bounds = [bound for bound, _ in point.parts if bound != float("inf")]
    total = _count(values[point.count]) if point.count != NO_SLOT else counts[-1] if counts else 0
    if counts and len(bounds) == len(counts):
        counts.append(total)
    own = [str(count - before) for before, count in zip([0, *counts], counts, strict=False)]
    said = {"count": f'"{total}"'}
    if point.sum != NO_SLOT:
        said["sum"] = _number(values[point.sum])
    if counts:
        said["bucketCounts"] = json.dumps(own, separators=(",", ":"))
        said["explicitBounds"] = _list(map(_number, bounds))
    return _object(**said)[1:-1]


def _summary(point: Point, batch: Batch) -> str:
    values = batch.values
    said = {}
    if point.count != NO_SLOT:
        said["count"] = f'"{_count(values[point.count])}"'
    if point.sum != NO_SLOT:
        said["sum"] = _number(values[point.sum])
    if point.parts:
        quantiles = [(_number(bound), _number(values[slot])) for bound, slot in point.parts]
        said["quantileValues"] = _list(_object(quantile=bound, value=value) for bound, value in quantiles)
    return _object(**said)[1:-1]


def _point_head(point: Point) -> str:
    attributes = _attributes(dict(point.attributes))
    return f'{{"attributes":{attributes},' if point.attributes else "{"


def _started(point: Point, batch: Batch) -> str:
    if point.started == NO_SLOT or not present(batch, point.started):
        return ""
    seconds = batch.values[point.started]
    return f'"startTimeUnixNano":"{round(seconds * 1e9)}",' if seconds - seconds == 0.0 else ""


def _temporality(metric: Metric) -> str:
    if metric.kind is PointKind.SUM:
        monotonic = ',"isMonotonic":true' if metric.monotonic else ""
        return f',"aggregationTemporality":{_CUMULATIVE}{monotonic}'
    return f',"aggregationTemporality":{_CUMULATIVE}' if metric.kind is PointKind.HISTOGRAM else ""


def _metadata(metric: Metric) -> str:
    if not metric.scraped_kind:
        return ""
    return f',"metadata":{_attributes({"prometheus.type": metric.scraped_kind})}'


def _attributes(attributes: Mapping[str, AttributeValue]) -> str:
    pairs = (_object(key=json.dumps(key), value=_any_value(value)) for key, value in attributes.items())
    return _list(pairs)


def _any_value(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return _object(boolValue=json.dumps(value))
    if isinstance(value, int):
        return _object(intValue=f'"{value}"')
    if isinstance(value, float):
        return _object(doubleValue=_number(value))
    return _object(stringValue=json.dumps(value, ensure_ascii=False))


def _object(**members: str) -> str:
    """A JSON object of members that are encoded already."""
    said = ",".join(f'"{key}":{value}' for key, value in members.items())
    return f"{{{said}}}"


def _list(items: Iterable[str]) -> str:
    return f"[{','.join(items)}]"


def _count(value: float) -> int:
    """A whole number of events; what is no number counts as none."""
    return int(value) if value - value == 0.0 else 0


def _number(value: float) -> str:
    text = repr(value)
    return _SPECIAL.get(text) or text.removesuffix(".0")
