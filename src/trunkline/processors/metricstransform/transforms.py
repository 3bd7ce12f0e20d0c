"""What the transformations do to the points of a metric.

A metric of a histogram is several series: buckets, sum and count. Each is a point here; its `le` is no label that
operations see, so buckets are aggregated bound by bound.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Final, TypeAlias

from trunkline import __version__
from trunkline.component.contract import Consumer, PerSeries
from trunkline.component.patterns import Matches, Pattern, compiled, expand, group_names, searcher
from trunkline.component.points import (
    BUCKET_LABEL,
    HISTOGRAMS,
    ResourceChange,
    attributes_of,
    part_of,
    renamed,
    with_attributes,
)
from trunkline.component.reduce import FOLDS, PerMetric, Point, Reduced, Value, changed
from trunkline.model import Family, Kind, Series
from trunkline.processors.metricstransform.config import Operation, Transform
from trunkline.wire.numbers import format_bound

log = logging.getLogger(__name__)

Points: TypeAlias = list[Point]
Attributes: TypeAlias = dict[str, str]

_NAMES: Final = 4096
"""How many names of metrics are remembered; a source has fewer."""

_OF_SERIES_ALONE: Final = frozenset({"add_label", "update_label", "delete_label_value"})


def build(transforms: Sequence[Transform], name: str, downstream: Consumer) -> Consumer:
    """A consumer that transforms; one that decides about each series alone where that is enough."""
    chain = _Chain(transforms, name)
    if all(_is_about_series_alone(transform) for transform in transforms):
        return PerSeries(chain.transformed, downstream)
    return PerMetric(chain.unit_of, chain.plan, downstream)


def _is_about_series_alone(transform: Transform) -> bool:
    return (
        transform.action in ("update", "group")
        and not transform.experimental_match_labels
        and all(operation.action in _OF_SERIES_ALONE for operation in transform.operations)
    )


class Warnings:
    """Says what a processor cannot do, each thing once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: set[str] = set()

    def say(self, text: str) -> None:
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            log.warning("%s: %s", self._name, text)


@dataclass(slots=True)
class Metric:
    """A metric while it is transformed."""

    family: Family
    points: Points

    def renamed(self, name: str) -> None:
        self.points = [Point(renamed(series, name), value) for series, value in self.points]
        self.family = replace(self.family, name=name)

    @property
    def attribute_names(self) -> set[str]:
        return {name for series, _ in self.points for name in attributes_of(series)}


class _Chain:
    """All transformations of a processor."""

    def __init__(self, transforms: Sequence[Transform], name: str) -> None:
        warnings = Warnings(name)
        self._steps = [_Step(transform, warnings) for transform in transforms]
        combines = any(transform.action == "combine" for transform in transforms)
        self._is_combined = lru_cache(maxsize=_NAMES)(self._reaches_combine) if combines else lambda _: False

    def unit_of(self, series: Series) -> Hashable:
        """Series whose metrics are combined belong together, others to their metric."""
        name = None if self._is_combined(series.family.name) else series.family.name
        return name, tuple(series.resource.identity.items())

    def plan(self, points: Sequence[Point]) -> Points:
        metrics: dict[str, Metric] = {}
        for point in points:
            family = point.series.family
            metrics.setdefault(family.name, Metric(family, [])).points.append(point)
        found = list(metrics.values())
        for step in self._steps:
            found = step.apply(found)
        return [point for metric in found for point in metric.points]

    def transformed(self, series: Series) -> Series | None:
        """What becomes of a series where each is decided alone."""
        points = self.plan([Point(series, 0)])
        return points[0].series if points else None

    def _reaches_combine(self, name: str) -> bool:
        """Whether a metric of this name may come to a `combine` that matches it, under one of its names."""
        names = {name}
        for step in self._steps:
            matched = [one for one in names if step.include.names(one)]
            if matched and step.action == "combine":
                return True
            names.update(step.include.new_name(one) for one in matched if step.renames)
        return False


class _Include:
    """Which metrics and data points a transformation is about."""

    def __init__(self, transform: Transform) -> None:
        self._new_name = transform.new_name
        self.new_name = lru_cache(maxsize=_NAMES)(self._renamed)
        labels = transform.experimental_match_labels
        self.pattern: Pattern | None = None
        if transform.match_type == "regexp":
            self.pattern = compiled(transform.include)
            self.names: Matches = lru_cache(maxsize=_NAMES)(searcher(transform.include))
            self._labels = {label: searcher(pattern) for label, pattern in labels.items()}
        else:
            self.names = partial(_equal, transform.include)
            self._labels = {label: partial(_equal, value) for label, value in labels.items()}

    def point(self, attributes: Mapping[str, str]) -> bool:
        """Whether a data point is meant; a label that is not there counts as empty."""
        return all(matches(attributes.get(label, "")) for label, matches in self._labels.items())

    def split(self, metric: Metric) -> tuple[Points, Points]:
        """The points of `metric` that are meant, and the others."""
        if not self.names(metric.family.name):
            return [], metric.points
        if not self._labels:
            return metric.points, []
        meant: Points = []
        others: Points = []
        for point in metric.points:
            (meant if self.point(attributes_of(point.series)) else others).append(point)
        return meant, others

    def _renamed(self, name: str) -> str:
        """The name that a metric called `name` gets."""
        match = self.pattern.search(name) if self.pattern is not None else None
        if self.pattern is None or match is None:
            return self._new_name
        return expand(self._new_name, self.pattern, match) or self._new_name

    def submatches(self, name: str, case: str) -> Attributes:
        """A label for each group of the pattern that `name` has something for."""
        match = self.pattern.search(name) if self.pattern is not None else None
        if self.pattern is None or match is None:
            return {}
        found = {
            group or f"${index}": match.group(index) or ""
            for index, group in enumerate(group_names(self.pattern), 1)
        }
        change: Callable[[str], str] = {"lower": str.lower, "upper": str.upper}.get(case, str)
        return {label: change(value) for label, value in found.items() if value}


def _equal(wanted: str, text: str) -> bool:
    return wanted == text


class _Step:
    """One transformation."""

    def __init__(self, transform: Transform, warnings: Warnings) -> None:
        self.include = _Include(transform)
        self.action = transform.action
        self.renames = bool(transform.new_name) and transform.action in ("update", "insert")
        self._transform = transform
        self._warnings = warnings
        self._operations = [_operation(one, self.include.point, warnings) for one in transform.operations]
        self._apply = {
            "update": self._update,
            "insert": self._insert,
            "combine": self._combine,
            "group": self._group,
        }[transform.action]
        labels = transform.group_resource_labels or {}
        self._regroup = ResourceChange(lambda attributes: {**attributes, **labels})

    def apply(self, metrics: list[Metric]) -> list[Metric]:
        return [metric for metric in self._apply(metrics) if metric.points]

    def _update(self, metrics: list[Metric]) -> list[Metric]:
        for metric in metrics:
            meant, others = self.include.split(metric)
            if meant:
                self._change(metric, whole=not others)
        return metrics

    def _insert(self, metrics: list[Metric]) -> list[Metric]:
        added = []
        for metric in metrics:
            meant, _ = self.include.split(metric)
            if meant:
                copy = Metric(metric.family, list(meant))
                self._change(copy, whole=True)
                added.append(copy)
        return [*metrics, *added]

    def _change(self, metric: Metric, *, whole: bool) -> None:
        """Rename and run the operations; what is about the whole metric only if all of its points are meant."""
        if self.renames and whole:
            metric.renamed(self.include.new_name(metric.family.name))
        for operation, of_whole in self._operations:
            if whole or not of_whole:
                metric.points = operation(metric.points)

    def _combine(self, metrics: list[Metric]) -> list[Metric]:
        split = [(metric, *self.include.split(metric)) for metric in metrics]
        meant = [Metric(metric.family, points) for metric, points, _ in split if points]
        if not meant:
            return metrics
        if problem := _why_not_combined(meant):
            self._warnings.say(f"metrics cannot be combined as they {problem}; they stay as they are")
            return metrics
        name = self._transform.new_name
        combined = Metric(replace(meant[0].family, name=name), self._merged(meant, name))
        for operation, _ in self._operations:
            combined.points = operation(combined.points)
        return [*(Metric(metric.family, others) for metric, _, others in split), combined]

    def _merged(self, metrics: list[Metric], name: str) -> Points:
        points: Points = []
        for metric in metrics:
            labels = self.include.submatches(metric.family.name, self._transform.submatch_case)
            points += [
                Point(renamed(with_attributes(series, attributes_of(series) | labels), name), value)
                for series, value in metric.points
            ]
        return _reduced(points, self._transform.aggregation_type)

    def _group(self, metrics: list[Metric]) -> list[Metric]:
        grouped = []
        for metric in metrics:
            meant, metric.points = self.include.split(metric)
            points = [Point(self._regroup(series), value) for series, value in meant]
            grouped.append(Metric(metric.family, points))
        return [*metrics, *grouped]


def _why_not_combined(metrics: Sequence[Metric]) -> str:
    first = metrics[0]
    for metric in metrics:
        pair = f"{first.family.name} and {metric.family.name}"
        if metric.family.kind is Kind.SUMMARY:
            return f"are summaries: {metric.family.name}"
        if metric.family.kind is not first.family.kind:
            return f"are of different types: {pair}"
        if metric.family.unit != first.family.unit:
            return f"have different units: {pair}"
        if metric.attribute_names != first.attribute_names:
            return f"have different attributes: {pair}"
    return ""


def _reduced(points: Iterable[Point], aggregation: str) -> Points:
    """One point for all of equal labels; histograms are always summed, as upstream does."""
    groups: dict[Hashable, tuple[Series, list[Value]]] = {}
    for series, value in points:
        groups.setdefault(series.labels, (series, []))[1].append(value)
    return [
        Point(series, Reduced(tuple(values), FOLDS[_aggregation_of(series, aggregation)]))
        for series, values in groups.values()
    ]


def _aggregation_of(series: Series, wanted: str) -> str:
    if part_of(series) == "_created":
        return "min"
    return "sum" if series.family.kind in HISTOGRAMS else wanted


# Operations: a function from points to points, and whether it is about the whole metric.

_Change: TypeAlias = Callable[[Points], Points]
_Meant: TypeAlias = Callable[[Mapping[str, str]], bool]


def _operation(operation: Operation, meant: _Meant, warnings: Warnings) -> tuple[_Change, bool]:
    added = {operation.new_label: _versioned(operation.new_value)}
    updated = partial(_updated, operation, _new_values(operation), meant)
    operations: Mapping[str, tuple[_Change, bool]] = {
        "add_label": (partial(_relabelled, lambda attributes: attributes | added), True),
        "update_label": (partial(_relabelled, updated), False),
        "delete_label_value": (partial(_without, operation.label, operation.label_value), True),
        "toggle_scalar_data_type": (partial(_truncated, meant), False),
        "experimental_scale_value": (partial(_scaled, operation.experimental_scale, meant), False),
        "aggregate_labels": (partial(_aggregated_labels, operation, warnings), True),
        "aggregate_label_values": (partial(_aggregated_values, operation, warnings), True),
    }
    return operations[operation.action]


def _versioned(text: str) -> str:
    return text.replace("{{version}}", __version__)


def _new_values(operation: Operation) -> Attributes:
    return {action.value: _versioned(action.new_value) for action in operation.value_actions}


def _relabelled(change: Callable[[Attributes], Attributes], points: Points) -> Points:
    return [Point(with_attributes(series, change(attributes_of(series))), value) for series, value in points]


def _updated(operation: Operation, values: Attributes, meant: _Meant, attributes: Attributes) -> Attributes:
    if operation.label not in attributes or not meant(attributes):
        return attributes
    value = attributes.pop(operation.label)
    attributes[operation.new_label or operation.label] = values.get(value, value)
    return attributes


def _without(label: str, value: str, points: Points) -> Points:
    return [point for point in points if attributes_of(point.series).get(label) != value]


def _truncated(meant: _Meant, points: Points) -> Points:
    """Every value is a float64 here; toggled to an integer it loses its fraction, and an integer has none to lose."""
    return [
        Point(
            series, changed(value, _whole) if _is_number(series) and meant(attributes_of(series)) else value
        )
        for series, value in points
    ]


def _whole(value: float) -> float:
    return float(math.trunc(value)) if math.isfinite(value) else value


def _is_number(series: Series) -> bool:
    return series.family.kind not in HISTOGRAMS and series.family.kind is not Kind.SUMMARY


def _scaled(factor: float, meant: _Meant, points: Points) -> Points:
    def by(value: float) -> float:
        return value * factor

    def scale(point: Point) -> Point:
        if not meant(attributes_of(point.series)) or point.series.family.kind is Kind.SUMMARY:
            return point
        if point.series.family.kind not in HISTOGRAMS or part_of(point.series) in ("_sum", "_gsum"):
            return Point(point.series, changed(point.value, by))
        return Point(_with_scaled_bound(point.series, factor), point.value)

    return [scale(point) for point in points]


def _with_scaled_bound(series: Series, factor: float) -> Series:
    labels = tuple(
        (name, _scaled_bound(value, factor) if name == BUCKET_LABEL else value)
        for name, value in series.labels
    )
    return Series(labels, series.family, series.resource)


def _scaled_bound(bound: str, factor: float) -> str:
    try:
        return format_bound(repr(float(bound) * factor))
    except ValueError:
        return bound


def _aggregated_labels(operation: Operation, warnings: Warnings, points: Points) -> Points:
    kept = None if operation.label_set is None else frozenset(operation.label_set)

    def change(attributes: Attributes) -> Attributes:
        return {name: value for name, value in attributes.items() if kept is None or name in kept}

    points = _without_summaries(points, warnings)
    return _reduced(_relabelled(change, points), operation.aggregation_type)


def _aggregated_values(operation: Operation, warnings: Warnings, points: Points) -> Points:
    """Points with one of the values become one, together with those that had the new value before."""
    values = frozenset(operation.aggregated_values)
    new_value = {operation.label: _versioned(operation.new_value)}
    points = _without_summaries(points, warnings)
    meant = [point for point in points if attributes_of(point.series).get(operation.label) in values]
    renamed_points = _relabelled(lambda attributes: attributes | new_value, meant)
    targets = {point.series.labels for point in renamed_points}
    chosen = {id(point) for point in meant}
    others = [point for point in points if id(point) not in chosen]
    joining = [point for point in others if point.series.labels in targets]
    staying = [point for point in others if point.series.labels not in targets]
    return [*staying, *_reduced([*joining, *renamed_points], operation.aggregation_type)]


def _without_summaries(points: Points, warnings: Warnings) -> Points:
    """Quantiles cannot be aggregated; upstream drops the whole summary, too."""
    left = [point for point in points if point.series.family.kind is not Kind.SUMMARY]
    if len(left) < len(points):
        warnings.say(
            f"{points[0].series.family.name} is a summary, which cannot be aggregated; it is dropped"
        )
    return left
