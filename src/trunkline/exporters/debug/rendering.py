"""A batch as text: counted, a line a sample, or everything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trunkline.component.otlp import (
    NO_SLOT,
    Metric,
    Point,
    PointKind,
    ResourceMetrics,
    extras_by_slot,
    present,
)
from trunkline.component.translation import text_of
from trunkline.model import is_stale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trunkline.model import AttributeValue, Batch, Extra


def render(resources: list[ResourceMetrics], batch: Batch, verbosity: str) -> Iterator[str]:
    """The lines for a batch; `verbosity` is basic, normal or detailed. Their form is for people and may change."""
    shown = [(one, found) for one in resources if (found := list(_with_points(one, batch)))]
    counts = {
        "resource metrics": len(shown),
        "metrics": sum(len(metrics) for _, metrics in shown),
        "data points": sum(len(points) for _, metrics in shown for _, points in metrics) + len(batch.extras),
    }
    yield f"Metrics {json.dumps({'source': batch.table.name, **counts})}"
    for index, (resource, metrics) in enumerate(shown):
        if verbosity == "normal":
            yield f"ResourceMetrics #{index}{_joined(resource.attributes, ' ', lead=' ')}"
            yield "ScopeMetrics #0"
            for metric, points in metrics:
                yield from (_line(metric, point, batch) for point in points)
        elif verbosity == "detailed":
            yield from _detailed(index, resource, metrics, batch)


def _with_points(resource: ResourceMetrics, batch: Batch) -> Iterator[tuple[Metric, list[Point]]]:
    """The metrics of which something is in the batch."""
    for metric in resource.metrics:
        points = [point for point in metric.points if present(batch, point.key)]
        if points:
            yield metric, points


def _line(metric: Metric, point: Point, batch: Batch) -> str:
    return f"{metric.name}{{{_joined(dict(point.attributes), ',')}}} {_values(metric, point, batch)}"


def _values(metric: Metric, point: Point, batch: Batch) -> str:
    if is_stale(batch.values[point.key]):
        return "stale"
    if point.value != NO_SLOT:
        return _number(batch.values[point.value])
    said = [f"{name}={_number(batch.values[slot])}" for name, slot in _totals(point)]
    if metric.kind is PointKind.HISTOGRAM:
        said += [f"le{bound}={count}" for bound, count in _buckets(point, batch)]
    else:
        said += [f"q{_number(bound)}={_number(batch.values[slot])}" for bound, slot in point.parts]
    return " ".join(said)


def _totals(point: Point) -> list[tuple[str, int]]:
    return [(name, slot) for name, slot in (("count", point.count), ("sum", point.sum)) if slot != NO_SLOT]


def _buckets(point: Point, batch: Batch) -> Iterator[tuple[str, str]]:
    """Bounds, and what lies between each and the one before."""
    before = 0.0
    for bound, slot in point.parts:
        count = batch.values[slot]
        yield _number(bound), _number(count - before)
        before = count


def _detailed(
    index: int, resource: ResourceMetrics, metrics: list[tuple[Metric, list[Point]]], batch: Batch
) -> Iterator[str]:
    yield f"ResourceMetrics #{index}"
    yield "Resource SchemaURL: "
    yield from _attributes("Resource attributes:", resource.attributes)
    yield from ("ScopeMetrics #0", "ScopeMetrics SchemaURL: ", "InstrumentationScope  ")
    extras = extras_by_slot(batch)
    for number, (metric, points) in enumerate(metrics):
        yield f"Metric #{number}"
        yield from _descriptor(metric)
        for at, point in enumerate(points):
            yield from _point(at, metric, point, batch, extras.get(point.value, ()))


def _descriptor(metric: Metric) -> Iterator[str]:
    yield "Descriptor:"
    said = {"Name": metric.name, "Description": metric.description, "Unit": metric.unit}
    said["DataType"] = metric.kind.value
    if metric.kind is PointKind.SUM:
        said["IsMonotonic"] = text_of(metric.monotonic)
    if metric.kind in (PointKind.SUM, PointKind.HISTOGRAM):
        said["AggregationTemporality"] = "Cumulative"
    yield from (f"     -> {name}: {text}" for name, text in said.items())


def _point(index: int, metric: Metric, point: Point, batch: Batch, extras: Sequence[Extra]) -> Iterator[str]:
    number = metric.kind in (PointKind.GAUGE, PointKind.SUM)
    yield f"{'Number' if number else metric.kind.value}DataPoints #{index}"
    if point.attributes:
        yield from _attributes("Data point attributes:", dict(point.attributes))
    started = batch.values[point.started] if point.started != NO_SLOT else 0.0
    yield f"StartTimestamp: {_time(started if started - started == 0.0 else 0.0)}"
    yield f"Timestamp: {_time(batch.timestamp_of(point.key) / 1000)}"
    if is_stale(batch.values[point.key]):
        yield "Flags: NoRecordedValue"
    elif point.value != NO_SLOT:
        yield f"Value: {batch.values[point.value]:f}"
        for extra in extras:
            yield f"Timestamp: {_time(extra.timestamp_ms / 1000)} Value: {extra.value:f}"
    else:
        yield from _parts(metric, point, batch)


def _parts(metric: Metric, point: Point, batch: Batch) -> Iterator[str]:
    for name, slot in _totals(point):
        yield f"{name.capitalize()}: {_number(batch.values[slot])}"
    if metric.kind is PointKind.SUMMARY:
        for index, (bound, slot) in enumerate(point.parts):
            yield f"QuantileValue #{index}: Quantile {bound:f}, Value {batch.values[slot]:f}"
        return
    buckets = list(_buckets(point, batch))
    bounds = [bound for bound, _ in buckets if bound != "+Inf"]
    yield from (f"ExplicitBounds #{index}: {float(bound):f}" for index, bound in enumerate(bounds))
    yield from (f"Buckets #{index}, Count: {count}" for index, (_, count) in enumerate(buckets))


def _attributes(title: str, attributes: Mapping[str, AttributeValue]) -> Iterator[str]:
    yield title
    for name, value in attributes.items():
        kind = {bool: "Bool", int: "Int", float: "Double"}.get(type(value), "Str")
        yield f"     -> {name}: {kind}({text_of(value)})"


def _joined(attributes: Mapping[str, AttributeValue], separator: str, *, lead: str = "") -> str:
    text = separator.join(f"{name}={text_of(value)}" for name, value in attributes.items())
    return f"{lead}{text}" if text else ""


def _number(value: float) -> str:
    if value - value != 0.0:
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"  # noqa: PLR0124
    return repr(value).removesuffix(".0")


def _time(seconds: float) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError):  # what a target says may be no year of ours
        return f"{seconds:f}s"
    text = moment.isoformat(sep=" ", timespec="microseconds").removesuffix("+00:00")
    return f"{text.rstrip('0').rstrip('.')} +0000 UTC"
