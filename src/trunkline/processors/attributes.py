"""Changes the attributes of data points, which are the labels of scraped series.

`job` and `instance` belong to the resource, `le` and `quantile` to the metric; none of them is an attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trunkline.component.actions import Action, changer
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
from trunkline.component.points import attributes_of, with_attributes
from trunkline.component.settings import setting
from trunkline.model import Series

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context

_NOT_OF_METRICS: Final = "it is about spans and logs; Trunkline carries metrics"


@dataclass(frozen=True, kw_only=True)
class MetricMatch:
    """Which metrics are meant: by name, and by attributes of their resource; all that is given must match."""

    match_type: MatchType = setting(
        default="", doc="`strict` compares for equality; `regexp` searches (write ^…$ to match the whole)."
    )
    metric_names: list[str] = setting(default_factory=list, doc="A metric matches if any of these does.")
    resources: list[AttributeMatch] = setting(
        default_factory=list, doc="Attributes that the resource must have."
    )
    regexp: RegexpOptions | None = setting(default=None, doc="Without effect.")
    services: Any = setting(default=None, doc="Names of services.", ignored=_NOT_OF_METRICS)
    span_names: Any = setting(default=None, doc="Names of spans.", ignored=_NOT_OF_METRICS)
    span_kinds: Any = setting(default=None, doc="Kinds of spans.", ignored=_NOT_OF_METRICS)
    log_bodies: Any = setting(default=None, doc="Bodies of logs.", ignored=_NOT_OF_METRICS)
    log_severity_texts: Any = setting(default=None, doc="Severities of logs.", ignored=_NOT_OF_METRICS)
    log_severity_number: Any = setting(default=None, doc="Severities of logs.", ignored=_NOT_OF_METRICS)
    attributes: Any = setting(default=None, doc="Attributes of spans and logs.", ignored=_NOT_OF_METRICS)
    libraries: Any = setting(default=None, doc="Instrumentation.", ignored="scraped metrics have none")

    def check(self, path: str) -> Wrong:
        if not self.metric_names and not self.resources:
            yield path, 'at least one of "metric_names" or "resources" must be specified'
        yield from check_type(self.match_type, self.metric_names, self.resources, path)
        yield from check_names(self.match_type, self.metric_names, f"{path}::metric_names")
        yield from check_attributes(self.match_type, self.resources, f"{path}::resources")

    def matcher(self) -> Callable[[Series], bool]:
        named = name_matcher(self.match_type, self.metric_names)
        return lambda series: (
            (named is None or named(series.family.name))
            and attributes_match(self.match_type, self.resources, series.resource.attributes)
        )


@dataclass(frozen=True, kw_only=True)
class AttributesConfig:
    """Changes the attributes of data points, which are labels."""

    actions: list[Action] = setting(default_factory=list, doc="What is done, in this order.")
    include: MetricMatch | None = setting(default=None, doc="Only these metrics are changed.")
    exclude: MetricMatch | None = setting(default=None, doc="These metrics are not changed.")

    def check(self) -> Wrong:
        if not self.actions:
            yield "actions", 'missing required field "actions"'
        for index, action in enumerate(self.actions):
            yield from action.check(f"actions::{index}", index)
        for name, section in (("include", self.include), ("exclude", self.exclude)):
            if section is not None:
                yield from section.check(name)

    def build(self, context: Context, downstream: Consumer) -> Consumer:
        del context
        included = self.include.matcher() if self.include else None
        excluded = self.exclude.matcher() if self.exclude else None
        change = changer(self.actions)

        def decide(series: Series) -> Series:
            if (included and not included(series)) or (excluded and excluded(series)):
                return series
            return with_attributes(series, change(attributes_of(series)))

        return PerSeries(decide, downstream)
