"""How a series is called outside: final names and labels, as the OpenTelemetry Collector's exporters make them.

Source: section 3.4 of the component reference. What came from OpenTelemetry is translated. What was scraped stays as
it was scraped, unless `translate_scraped_names` asks for the names that the collector would make of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from trunkline import __version__
from trunkline.model import (
    AttributeValue,
    Family,
    Kind,
    Labels,
    Origin,
    Resource,
    Series,
    Table,
    make_labels,
)
from trunkline.wire import naming

Strategy: TypeAlias = Literal[
    "",
    "UnderscoreEscapingWithSuffixes",
    "UnderscoreEscapingWithoutSuffixes",
    "NoUTF8EscapingWithSuffixes",
    "NoTranslation",
]
"""Upstream's names for ways to translate; empty leaves it to `add_metric_suffixes`."""

SERVICE_ATTRIBUTES: Final = frozenset({"service.name", "service.namespace", "service.instance.id"})
"""What `job` and `instance` are made of."""

SCRAPE_SCOPE: Final = "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/prometheusreceiver"
"""The scope upstream gives to everything it scraped."""

TARGET_INFO: Final = Family("target_info", Kind.GAUGE, help="Target metadata")
"""The family of the series that carry a resource's attributes; their labels are final already."""

ENDINGS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.COUNTER: ("_created",),
    Kind.HISTOGRAM: ("_bucket", "_sum", "_count", "_created"),
    Kind.GAUGE_HISTOGRAM: ("_bucket", "_gsum", "_gcount"),
    Kind.SUMMARY: ("_sum", "_count", "_created"),
}
"""What the names of a family's series have after the family's name."""

_BOUND: Final = {Kind.HISTOGRAM: "le", Kind.GAUGE_HISTOGRAM: "le", Kind.SUMMARY: "quantile"}
_NOT_IN_INFO_LABEL: Final = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class Translation:
    """The rules of one exporter. `constant` labels are added where a series has none of that name."""

    scraped: bool = False
    suffixes: bool = True
    verbatim: bool = False
    namespace: str = ""
    resource_attributes: bool = False
    service_attributes: bool = True
    identity: bool = True
    scope: bool = True
    constant: Mapping[str, str] = field(default_factory=dict)

    def by(self, strategy: Strategy) -> Translation:
        """The same rules, with names as `strategy` makes them."""
        if not strategy:
            return self
        return replace(self, suffixes=strategy.endswith("WithSuffixes"), verbatim=strategy == "NoTranslation")

    def translates(self, series: Series) -> bool:
        """Whether this series gets another name than it came with."""
        return self.scraped or series.family.origin is Origin.OPENTELEMETRY

    def labels(self, series: Series) -> Labels:
        """The final labels. Raises ValueError for a name of which nothing can be used."""
        if series.family is TARGET_INFO:
            return series.labels
        if self.translates(series):
            return self._completed(self._translated(series), series.resource)
        labels = dict(series.labels)
        if self.namespace:
            labels["__name__"] = f"{self.namespace}_{labels['__name__']}"
        return make_labels({**self.added(series.resource), **labels})

    def keeps(self, series: Series) -> bool:
        """Whether the final labels are the series' own and, where it lacks them, those `added`."""
        return not self.namespace and not self.translates(series)

    def added(self, resource: Resource) -> dict[str, str]:
        """What series of `resource` that are not translated get where they lack it."""
        attributes = self._merged(self._chosen(resource)) if self.resource_attributes else {}
        return {**self._constant(resource), **attributes}

    def family_name(self, family: Family) -> str:
        """What the family is called outside; a counter's name has `_total` where its series have it."""
        if self.scraped or family.origin is Origin.OPENTELEMETRY:
            return self._metric_name(family)
        return f"{self.namespace}_{family.name}" if self.namespace else family.name

    def target_info(self, resource: Resource) -> Labels | None:
        """The labels of the series that carries the attributes of `resource`, None when none is made."""
        others = {key: value for key, value in resource.attributes.items() if key not in SERVICE_ATTRIBUTES}
        owner = job_and_instance(resource.attributes)
        if not others or not owner:
            return None
        name = f"{self.namespace}_{TARGET_INFO.name}" if self.namespace else TARGET_INFO.name
        labels = {_info_label(key): text_of(value) for key, value in sorted(others.items())}
        return self._completed({**labels, **owner, "__name__": name}, resource)

    def target_infos(self, table: Table) -> set[Labels]:
        """`target_info` of every resource of `table`; like upstream's other names only where these are asked for."""
        if not self.scraped:
            return set()
        found = {id(series.resource): series.resource for series in table.series if series is not None}
        made = map(self.target_info, found.values())
        return {labels for labels in made if labels is not None}

    def _translated(self, series: Series) -> dict[str, str]:
        """Attributes, then job and instance, then the scope: each overwrites what is there; `le` comes last."""
        own = dict(series.labels)
        bound = _BOUND.get(series.family.kind, "")
        last = {bound: shortest_decimal(own.pop(bound))} if bound in own else {}
        last["__name__"] = self._metric_name(series.family, own.pop("__name__", "")) + ending(series)
        owner = job_and_instance(series.resource.attributes)
        kept = {name: own.pop(name) for name in ("job", "instance") if self._was_scraped(series, own, name)}
        attributes: dict[str, AttributeValue] = dict(own)
        if self.resource_attributes:
            attributes |= self._chosen(series.resource)
        scope = {} if "otel_scope_name" in own else self._scope(series)
        return {**self._merged(attributes), **owner, **kept, **scope, **last}

    def _was_scraped(self, series: Series, labels: Mapping[str, str], name: str) -> bool:
        return name in labels and series.family.origin is Origin.PROMETHEUS

    def _scope(self, series: Series) -> dict[str, str]:
        if not self.scope or series.family.origin is not Origin.PROMETHEUS:
            return {}
        return {"otel_scope_name": SCRAPE_SCOPE, "otel_scope_version": __version__}

    def _metric_name(self, family: Family, name: str = "") -> str:
        own = name if family.kind not in ENDINGS and name else family.name
        if self.verbatim:
            return f"{self.namespace}_{own}" if self.namespace else own
        return naming.metric_name(
            own, family.unit, family.kind, suffixes=self.suffixes, namespace=self.namespace
        )

    def _chosen(self, resource: Resource) -> dict[str, AttributeValue]:
        if self.service_attributes:
            return dict(resource.attributes)
        return {key: value for key, value in resource.attributes.items() if key not in SERVICE_ATTRIBUTES}

    def _merged(self, attributes: Mapping[str, AttributeValue]) -> dict[str, str]:
        """Attributes as labels; the values of those that get one name are joined, in the order of their keys."""
        labels: dict[str, str] = {}
        for key in sorted(attributes):
            name = key if self.verbatim else naming.label_name(key)
            text = text_of(attributes[key])
            known = labels.get(name)
            labels[name] = text if known is None or known == text else f"{known};{text}"
        return labels

    def _completed(self, labels: Mapping[str, str], resource: Resource) -> Labels:
        return make_labels(
            {**self._constant(resource), **{name: text for name, text in labels.items() if text}}
        )

    def _constant(self, resource: Resource) -> dict[str, str]:
        constant = {naming.label_name(name): value for name, value in self.constant.items()}
        return {**constant, **resource.identity} if self.identity else constant


def ending(series: Series) -> str:
    """`_bucket` for a bucket of a histogram, and so on; empty for a series that is called like its family."""
    base = series.family.name
    if series.family.kind is Kind.COUNTER:
        base = base.removesuffix("_total")
    rest = series.name.removeprefix(base)
    return rest if rest in ENDINGS.get(series.family.kind, ()) else ""


def is_created(series: Series) -> bool:
    """Whether this is OpenMetrics' `x_created`, the time at which the other series of its family began."""
    return ending(series) == "_created"


def job_and_instance(attributes: Mapping[str, AttributeValue]) -> dict[str, str]:
    """The labels that say whose series they are, as far as the resource knows."""
    name, space = attributes.get("service.name"), attributes.get("service.namespace")
    instance = attributes.get("service.instance.id")
    labels = {"job": f"{space}/{name}" if space else str(name)} if name else {}
    return {**labels, "instance": str(instance)} if instance else labels


def text_of(value: AttributeValue) -> str:
    """An attribute as OpenTelemetry prints it: floats as JSON has them, booleans in lower case."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return str(value)
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 (NaN)
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"  # noqa: PLR0124
    if value and not 1e-6 <= abs(value) < 1e21:
        mantissa, _, exponent = f"{value!r}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent):+d}"
    return _plain(value)


def shortest_decimal(text: str) -> str:
    """A bound as the collector's remote write has it: the shortest decimal without exponent, `+Inf`, or as it is."""
    try:
        value = float(text)
    except ValueError:
        return text
    if value - value != 0.0:
        return text
    return _plain(value)


def _plain(value: float) -> str:
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    from decimal import Decimal  # noqa: PLC0415 (hardly ever)

    return format(Decimal(text), "f")


def _info_label(key: str) -> str:
    """A label of `target_info`, where runs of underscores stay."""
    label = _NOT_IN_INFO_LABEL.sub("_", key)
    if "0" <= label[:1] <= "9":
        return f"key_{label}"
    return f"key{label}" if label.startswith("_") and not label.startswith("__") else label
