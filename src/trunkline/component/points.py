"""A series as OpenTelemetry's processors see it: a data point with attributes, of a metric, of a resource.

A scraped series carries its final labels; which of them are attributes, and that `job` and `instance` are the
resource's `service.name` and `service.instance.id`, follows components.md 5.10 and 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

from trunkline.model import AttributeValue, Kind, Origin, Resource, Series

Attributes: TypeAlias = Mapping[str, AttributeValue]

NAME: Final = "__name__"
BUCKET_LABEL: Final = "le"
HISTOGRAMS: Final = frozenset({Kind.HISTOGRAM, Kind.GAUGE_HISTOGRAM})

_OF_RESOURCE: Final = frozenset({NAME, "job", "instance"})
_OF_HISTOGRAM: Final = _OF_RESOURCE | {BUCKET_LABEL}
_OF_SUMMARY: Final = _OF_RESOURCE | {"quantile"}
_LARGEST_PLAIN: Final = 1e21


def not_attributes(series: Series) -> frozenset[str]:
    """The labels of `series` that are no attributes of its data point."""
    if series.family.origin is Origin.OPENTELEMETRY:
        return frozenset({NAME})
    if series.family.kind in HISTOGRAMS:
        return _OF_HISTOGRAM
    return _OF_SUMMARY if series.family.kind is Kind.SUMMARY else _OF_RESOURCE


def attributes_of(series: Series) -> dict[str, str]:
    """The attributes of the data point that `series` is, or is a part of."""
    hidden = not_attributes(series)
    return {name: value for name, value in series.labels if name not in hidden}


def with_attributes(series: Series, attributes: Attributes) -> Series:
    """`series` with these attributes instead of its own; an empty value is none."""
    hidden = not_attributes(series)
    own = dict(series.labels)
    kept = [pair for pair in series.labels if pair[0] in hidden or attributes.get(pair[0]) == pair[1]]
    known = {name for name, _ in kept}
    changed = [
        (name, text)
        for name, value in attributes.items()
        if name not in known and name not in hidden and (text := text_of(value))
    ]
    if not changed and len(kept) == len(own):
        return series
    return Series(tuple(sorted([*kept, *changed])), series.family, series.resource)


def part_of(series: Series) -> str:
    """Which part of its data point `series` is: `_bucket`, `_sum`, `_count`, `_created`, or empty for the whole."""
    name, family = series.name, series.family.name
    if name != family and name.startswith(family):
        return name[len(family) :]
    return "_created" if name != family and name.endswith("_created") else ""


def renamed(series: Series, name: str) -> Series:
    """`series` in a metric called `name`, as the same part of it."""
    part = part_of(series)
    own = (name.removesuffix("_total") if part == "_created" else name) + part
    labels = tuple((NAME, own) if key == NAME else (key, value) for key, value in series.labels)
    return Series(labels, replace(series.family, name=name), series.resource)


def text_of(value: AttributeValue) -> str:
    """An attribute's value as a label: numbers in plain text, booleans in lower case, as the collector writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_PLAIN:
        return str(int(value))
    return str(value)


class _Changed(NamedTuple):
    before: Resource
    after: Resource
    labels: Mapping[tuple[str, str], tuple[str, str]]
    """Label pairs that say what the resource says, and what takes their place."""


class ResourceChange:
    """Changes the resource of series; a resource that many series share is changed once and stays shared.

    `job` and `instance` of a scraped series follow `service.name` and `service.instance.id`, as they do where the
    collector makes them from the resource when it exports.
    """

    def __init__(self, change: Callable[[Attributes], Attributes]) -> None:
        self._change = change
        self._known: dict[int, _Changed] = {}

    def __call__(self, series: Series) -> Series:
        changed = self._of(series.resource)
        if changed.after is changed.before:
            return series
        labels = series.labels
        if changed.labels and series.family.origin is Origin.PROMETHEUS:
            labels = tuple(changed.labels.get(pair, pair) for pair in labels)
        return Series(labels, series.family, changed.after)

    def _of(self, resource: Resource) -> _Changed:
        known = self._known.get(id(resource))
        if known is None:
            if len(self._known) >= 256:  # sources whose resources come and go must not fill the memory
                self._known.clear()
            known = self._known[id(resource)] = self._made(resource)
        return known

    def _made(self, resource: Resource) -> _Changed:
        attributes = self._change(resource.attributes)
        if attributes == resource.attributes:
            return _Changed(resource, resource, {})
        before, after = job_and_instance(resource.attributes), job_and_instance(attributes)
        labels = {
            (name, value): (name, after[name])
            for name, value in before.items()
            if name in after and after[name] != value
        }
        return _Changed(resource, replace(resource, attributes=attributes), labels)


def job_and_instance(attributes: Attributes) -> dict[str, str]:
    """The labels that a resource's identifying attributes become (components.md 3.4)."""
    job = text_of(attributes.get("service.name", ""))
    space = text_of(attributes.get("service.namespace", ""))
    labels = {
        "job": f"{space}/{job}" if space and job else job,
        "instance": text_of(attributes.get("service.instance.id", "")),
    }
    return {name: value for name, value in labels.items() if value}
