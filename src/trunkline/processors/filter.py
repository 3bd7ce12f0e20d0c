"""Keeps or drops whole metrics by name and by resource attribute (components.md 2.1).

Decided once per series, so that filtering costs nothing per sample. Names are compared as OpenTelemetry has them,
before any renaming: `ecs.task.memory.utilized`, and the family `x` for `x_bucket`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from trunkline.component.contract import PerSeries
from trunkline.component.settings import setting
from trunkline.model import AttributeValue, Resource, Series

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context

Matches: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, kw_only=True)
class AttributeMatch:
    """A resource attribute that must exist and, where a value is given, have it."""

    key: str = setting(default="", doc="The attribute's name.")
    value: AttributeValue | None = setting(
        default=None, doc="Its value; left out, the attribute must only exist."
    )


@dataclass(frozen=True, kw_only=True)
class RegexpOptions:
    """Accepted for compatibility; results need no cache, since every series is decided once."""

    cacheenabled: bool = setting(default=False, doc="Without effect.")
    cachemaxnumentries: int = setting(default=0, doc="Without effect.")


@dataclass(frozen=True, kw_only=True)
class Match:
    """What an include or exclude section matches."""

    match_type: Literal["strict", "regexp", ""] = setting(
        default="", doc="`strict` compares for equality; `regexp` searches (write ^…$ to match the whole)."
    )
    metric_names: list[str] = setting(default_factory=list, doc="A metric matches if any of these does.")
    resource_attributes: list[AttributeMatch] = setting(
        default_factory=list, doc="A resource matches if all of these do."
    )
    regexp: RegexpOptions | None = setting(default=None, doc="Without effect.")

    def check(self, path: str) -> Iterator[tuple[str, str]]:
        needs_type = self.metric_names or any(match.value is not None for match in self.resource_attributes)
        if needs_type and not self.match_type:
            yield f"{path}::match_type", "unrecognized match_type: '', valid types are: [regexp strict]"
        for index, match in enumerate(self.resource_attributes):
            yield from self._check_attribute(match, f"{path}::resource_attributes::{index}")
        if self.match_type == "regexp":
            for index, pattern in enumerate(self.metric_names):
                yield from _check_pattern(pattern, f"{path}::metric_names::{index}")

    def _check_attribute(self, match: AttributeMatch, path: str) -> Iterator[tuple[str, str]]:
        if not match.key:
            yield path, "can't have empty key in the list of attributes"
        if self.match_type == "regexp" and match.value is not None:
            if isinstance(match.value, str):
                yield from _check_pattern(match.value, f"{path}::value")
            else:
                found = {bool: "Bool", int: "Int", float: "Double"}[type(match.value)]
                yield path, f'match_type=regexp for "{match.key}" only supports Str, but found {found}'

    def name_matcher(self) -> Matches | None:
        """Whether a metric name matches, or None if this section says nothing about names."""
        if not self.metric_names:
            return None
        if self.match_type == "strict":
            return frozenset(self.metric_names).__contains__
        searches = [_searcher(pattern) for pattern in self.metric_names]
        return lambda name: any(search(name) for search in searches)

    def matches_resource(self, resource: Resource) -> bool:
        """Whether every listed attribute is there with its value."""
        return all(self._attribute_matches(match, resource.attributes) for match in self.resource_attributes)

    def _attribute_matches(self, match: AttributeMatch, attributes: Mapping[str, AttributeValue]) -> bool:
        if match.key not in attributes:
            return False
        actual = attributes[match.key]
        if match.value is None:
            return True
        if self.match_type == "regexp":
            return _searcher(str(match.value))(_as_text(actual))
        return type(actual) is type(match.value) and actual == match.value


@dataclass(frozen=True, kw_only=True)
class MetricFilters:
    """The two sections; include acts first, exclude removes from what is left."""

    include: Match | None = setting(default=None, doc="Only what matches is kept.")
    exclude: Match | None = setting(default=None, doc="What matches is dropped.")
    regexp: RegexpOptions | None = setting(default=None, doc="Without effect.")


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Keeps or drops whole metrics by name and resource attribute."""

    metrics: MetricFilters = setting(default_factory=MetricFilters, doc="What to keep and what to drop.")

    def check(self) -> Iterator[tuple[str, str]]:
        for name, section in (("include", self.metrics.include), ("exclude", self.metrics.exclude)):
            if section is not None:
                yield from section.check(f"metrics::{name}")

    def build(self, context: Context, downstream: Consumer) -> Consumer:
        del context
        keep = keeper(self.metrics)
        return PerSeries(lambda series: series if keep(series) else None, downstream)


def keeper(filters: MetricFilters) -> Callable[[Series], bool]:
    """Whether a series is kept; two independent stages, resource first, as upstream has them."""
    include, exclude = filters.include or Match(), filters.exclude or Match()
    included, excluded = include.name_matcher(), exclude.name_matcher()

    def keep(series: Series) -> bool:
        if include.resource_attributes and not include.matches_resource(series.resource):
            return False
        if exclude.resource_attributes and exclude.matches_resource(series.resource):
            return False
        name = series.family.name
        if included is not None and not included(name):
            return False
        return excluded is None or not excluded(name)

    return keep


def _check_pattern(pattern: str, path: str) -> Iterator[tuple[str, str]]:
    import re2  # noqa: PLC0415 (3 MB that only configurations with patterns need)

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        yield path, f"error parsing regexp: {reason} in {pattern!r}; RE2 syntax is expected"


def _searcher(pattern: str) -> Matches:
    import re2  # noqa: PLC0415

    compiled = re2.compile(pattern)
    return lambda text: compiled.search(text) is not None


def _as_text(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
