"""The settings of the filter processor, and what it keeps (components.md 2).

Decided once per series, so that filtering costs nothing per sample. Names are compared as OpenTelemetry has them,
before any renaming: `ecs.task.memory.utilized`, and the family `x` for `x_bucket`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from trunkline.component.contract import PerSeries
from trunkline.component.matching import (
    AttributeMatch,
    MatchType,
    RegexpOptions,
    Wrong,
    attributes_match,
    check_attributes,
    check_names,
    check_type,
    name_matcher,
)
from trunkline.component.points import attributes_of
from trunkline.component.reduce import PerMetric, Point
from trunkline.component.settings import setting
from trunkline.model import Series
from trunkline.processors.filter.conditions import SCOPES, Condition, ConditionError, Scope, Subject, parse

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context

Keep: TypeAlias = Callable[[Series], bool]
Placed: TypeAlias = tuple[str, object, Scope | None]
"""A condition as it was written: its key path, its text, and what it is about."""

_OTHER_SIGNALS: Final = "Trunkline carries metrics"
_NOT_BOTH: Final = (
    'cannot use "metrics.resource", "metrics.metric", "metrics.datapoint" and the settings "metrics.include", '
    '"metrics.exclude" at the same time'
)
ERROR_MODES: Final = ("ignore", "silent", "propagate")


@dataclass(frozen=True, kw_only=True)
class Match:
    """What an include or exclude section matches."""

    match_type: MatchType = setting(
        default="", doc="`strict` compares for equality; `regexp` searches (write ^…$ to match the whole)."
    )
    metric_names: list[str] = setting(default_factory=list, doc="A metric matches if any of these does.")
    resource_attributes: list[AttributeMatch] = setting(
        default_factory=list, doc="A resource matches if all of these do."
    )
    regexp: RegexpOptions | None = setting(default=None, doc="Without effect.")
    expressions: list[str] = setting(default_factory=list, doc="Of match_type `expr`, which is refused.")

    def check(self, path: str) -> Wrong:
        yield from check_type(self.match_type, self.metric_names, self.resource_attributes, path)
        yield from check_names(self.match_type, self.metric_names, f"{path}::metric_names")
        yield from check_attributes(self.match_type, self.resource_attributes, f"{path}::resource_attributes")


@dataclass(frozen=True, kw_only=True)
class MetricFilters:
    """Lists of names, where include acts first and exclude removes from what is left; or conditions, which drop."""

    include: Match | None = setting(default=None, doc="Only what matches is kept.")
    exclude: Match | None = setting(default=None, doc="What matches is dropped.")
    regexp: RegexpOptions | None = setting(default=None, doc="Without effect.")
    resource: list[str] | None = setting(
        default=None, doc='Conditions, such as `attributes["key"] == "value"`: such resources are dropped.'
    )
    metric: list[str] | None = setting(
        default=None, doc='Conditions, such as `IsMatch(name, "^jvm_")`: such metrics are dropped.'
    )
    datapoint: list[str] | None = setting(
        default=None, doc='Conditions, such as `attributes["code"] == "404"`: such data points are dropped.'
    )

    def conditions(self) -> Iterator[Placed]:
        for scope, texts in zip(SCOPES, (self.resource, self.metric, self.datapoint), strict=True):
            yield from ((f"metrics::{scope}::{index}", text, scope) for index, text in enumerate(texts or ()))


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Keeps or drops metrics by name, resource attribute or condition."""

    metrics: MetricFilters = setting(default_factory=MetricFilters, doc="What to keep and what to drop.")
    metric_conditions: list[Any] = setting(
        default_factory=list,
        doc="Conditions whose paths say what they are about (`metric.name`, `datapoint.attributes[…]`), or maps of "
        "`context`, `conditions` and `error_mode`; what one of them matches is dropped.",
    )
    error_mode: Literal["ignore", "silent", "propagate"] = setting(
        default="ignore",
        doc="What a condition that fails means; none can, since what they look at is known to be there or not.",
    )
    logs: Any = setting(default=None, doc="Filters logs.", ignored=_OTHER_SIGNALS)
    traces: Any = setting(default=None, doc="Filters traces.", ignored=_OTHER_SIGNALS)
    spans: Any = setting(default=None, doc="Filters spans.", ignored=_OTHER_SIGNALS)
    profiles: Any = setting(default=None, doc="Filters profiles.", ignored=_OTHER_SIGNALS)
    log_conditions: Any = setting(default=None, doc="Filters logs.", ignored=_OTHER_SIGNALS)
    trace_conditions: Any = setting(default=None, doc="Filters traces.", ignored=_OTHER_SIGNALS)
    profile_conditions: Any = setting(default=None, doc="Filters profiles.", ignored=_OTHER_SIGNALS)

    def check(self) -> Wrong:
        filters = self.metrics
        for name, section in (("include", filters.include), ("exclude", filters.exclude)):
            if section is not None:
                yield from section.check(f"metrics::{name}")
        lists = filters.include is not None or filters.exclude is not None
        if lists and any(
            texts is not None for texts in (filters.resource, filters.metric, filters.datapoint)
        ):
            yield (
                "metrics",
                _NOT_BOTH,
            )
        if self.metric_conditions and (lists or any(filters.conditions())):
            yield "metric_conditions", 'cannot use "metric_conditions" and "metrics" at the same time'
        yield from _check_groups(self.metric_conditions)
        for path, text, scope in self._written():
            if wrong := _problem_of(text, scope):
                yield path, wrong

    def build(self, context: Context, downstream: Consumer) -> Consumer:
        del context
        conditions = [parse(cast("str", text), scope) for _, text, scope in self._written()]
        if any(condition.needs_siblings for condition in conditions):
            return PerMetric(_metric_of, lambda points: _kept(points, conditions), downstream)
        keep = _unless(conditions) if conditions else keeper(self.metrics)
        return PerSeries(lambda series: series if keep(series) else None, downstream)

    def _written(self) -> Iterator[Placed]:
        yield from self.metrics.conditions()
        yield from _grouped(self.metric_conditions)


def keeper(filters: MetricFilters) -> Keep:
    """Whether the lists keep a series; two independent stages, resource first, as upstream has them."""
    include, exclude = filters.include or Match(), filters.exclude or Match()
    included = name_matcher(include.match_type, include.metric_names)
    excluded = name_matcher(exclude.match_type, exclude.metric_names)

    def keep(series: Series) -> bool:
        if include.resource_attributes and not _matches_resource(include, series):
            return False
        if exclude.resource_attributes and _matches_resource(exclude, series):
            return False
        name = series.family.name
        if included is not None and not included(name):
            return False
        return excluded is None or not excluded(name)

    return keep


def _matches_resource(section: Match, series: Series) -> bool:
    return attributes_match(section.match_type, section.resource_attributes, series.resource.attributes)


def _unless(conditions: Sequence[Condition]) -> Keep:
    def keep(series: Series) -> bool:
        subject = Subject.of(series)
        return not any(condition.holds(subject) for condition in conditions)

    return keep


def _metric_of(series: Series) -> Hashable:
    return series.family.name, tuple(series.resource.identity.items())


def _kept(points: Sequence[Point], conditions: Sequence[Condition]) -> Iterable[Point]:
    """What is left of a metric, all of whose data points are known."""
    siblings = [attributes_of(point.series) for point in points]
    subjects = [Subject(point.series, own, siblings) for point, own in zip(points, siblings, strict=True)]
    narrow = [condition for condition in conditions if condition.scope == "datapoint"]
    if any(condition.holds(subjects[0]) for condition in conditions if condition.scope != "datapoint"):
        return
    for point, subject in zip(points, subjects, strict=True):
        if not any(condition.holds(subject) for condition in narrow):
            yield point


# metric_conditions: a list of texts, or of maps


def _grouped(groups: Sequence[Any]) -> Iterator[Placed]:
    for index, group in enumerate(groups):
        path = f"metric_conditions::{index}"
        if isinstance(group, Mapping):
            scope = str(group.get("context", "")).lower()
            for number, text in enumerate(_listed(group.get("conditions"))):
                yield (
                    f"{path}::conditions::{number}",
                    text,
                    next((one for one in SCOPES if one == scope), None),
                )
        else:
            yield path, group, None


def _listed(conditions: object) -> Sequence[object]:
    return conditions if isinstance(conditions, list) else [] if conditions is None else [conditions]


def _check_groups(groups: Sequence[Any]) -> Wrong:
    maps = [isinstance(group, Mapping) for group in groups]
    if any(maps) and not all(maps):
        yield (
            "metric_conditions",
            "either every condition is a text or every one a map of context and conditions",
        )
    for index, group in enumerate(groups):
        if isinstance(group, Mapping):
            yield from _check_group(group, f"metric_conditions::{index}")


def _check_group(group: Mapping[str, Any], path: str) -> Wrong:
    for key in group:
        if key not in ("context", "conditions", "error_mode"):
            yield f"{path}::{key}", f"has invalid keys: {key}; valid keys: context, conditions, error_mode"
    context = str(group.get("context", "")).lower()
    if context and context not in SCOPES:
        yield f"{path}::context", f"unknown context {context}; contexts of metrics: {', '.join(SCOPES)}"
    if group.get("error_mode", "ignore") not in ERROR_MODES:
        yield f"{path}::error_mode", f"unknown error mode; valid modes: {', '.join(ERROR_MODES)}"


def _problem_of(text: object, scope: Scope | None) -> str:
    if not isinstance(text, str):
        return "a condition is a text; put it in 'single quotes'"
    try:
        parse(text, scope)
    except ConditionError as error:
        return str(error)
    return ""
