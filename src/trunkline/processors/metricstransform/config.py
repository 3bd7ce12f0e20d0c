"""The settings of `metricstransform`, with OpenTelemetry's keys, defaults and messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trunkline.component.patterns import problem_of
from trunkline.component.reduce import FOLDS
from trunkline.component.settings import setting

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context

ACTIONS: Final = ("insert", "update", "combine", "group")
OPERATIONS: Final = (
    "add_label",
    "update_label",
    "delete_label_value",
    "toggle_scalar_data_type",
    "experimental_scale_value",
    "aggregate_labels",
    "aggregate_label_values",
)
AGGREGATIONS: Final = tuple(name for name in FOLDS if name)
_REQUIRED: Final = {
    "update_label": ("label",),
    "add_label": ("new_label", "new_value"),
    "experimental_scale_value": ("experimental_scale",),
    "delete_label_value": ("label",),
    "aggregate_label_values": ("label", "aggregated_values", "new_value", "aggregation_type"),
    "aggregate_labels": ("aggregation_type",),
}


@dataclass(frozen=True, kw_only=True)
class ValueAction:
    """Another value for a label."""

    value: str = setting(default="", doc="The value it has.")
    new_value: str = setting(default="", doc="The value it gets; `{{version}}` is the collector's version.")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One change of the data points of a metric."""

    action: str = setting(default="", doc=f"What is done: {', '.join(f'`{name}`' for name in OPERATIONS)}.")
    label: str = setting(default="", doc="The label it is about.")
    new_label: str = setting(default="", doc="The label's new name, or the name of the label that is added.")
    label_set: list[str] | None = setting(
        default=None, doc="For `aggregate_labels`: labels that are kept; left out, all are."
    )
    aggregation_type: str = setting(default="", doc=f"How values become one: {', '.join(AGGREGATIONS)}.")
    aggregated_values: list[str] = setting(
        default_factory=list, doc="For `aggregate_label_values`: values of the label that become new_value."
    )
    new_value: str = setting(
        default="",
        doc="The value of the label that is added, or of the aggregated ones; `{{version}}` is replaced.",
    )
    value_actions: list[ValueAction] = setting(
        default_factory=list, doc="For `update_label`: other values for the label."
    )
    experimental_scale: float = setting(default=0.0, doc="For `experimental_scale_value`: the factor.")
    label_value: str = setting(
        default="", doc="For `delete_label_value`: data points where the label has this value are dropped."
    )

    def check(self, path: str, number: int) -> Iterator[tuple[str, str]]:
        if self.action not in OPERATIONS:
            yield f"{path}::action", f'operation {number}: "action" must be in [{" ".join(OPERATIONS)}]'
        for key in _REQUIRED.get(self.action, ()):
            if not getattr(self, key):
                text = f'missing required field "{key}" while "action" is {self.action}'
                yield path, f"operation {number}: {text}"
        if self.aggregation_type and self.aggregation_type not in AGGREGATIONS:
            text = f'"aggregation_type" must be in [{" ".join(AGGREGATIONS)}]'
            yield f"{path}::aggregation_type", f"operation {number}: {text}"


@dataclass(frozen=True, kw_only=True)
class Transform:
    """What is done to the metrics of some name."""

    include: str = setting(default="", doc="The metrics' name, or a pattern for it.")
    match_type: str = setting(
        default="strict",
        doc="`strict` compares for equality; `regexp` searches (write ^…$ to match the whole).",
    )
    experimental_match_labels: dict[str, str] = setting(
        default_factory=dict, doc="Labels that data points must have, with their values or patterns for them."
    )
    action: str = setting(
        default="",
        doc="`update` changes the metrics, `insert` copies of them; `combine` makes one metric of all, with a label for "
        "each group of the pattern; `group` gives them a resource of their own.",
    )
    new_name: str = setting(
        default="", doc="The name of what is made; `$1`, `${1}` and `${name}` are groups of the pattern."
    )
    group_resource_labels: dict[str, str] | None = setting(
        default=None, doc="For `group`: attributes that the resource gets."
    )
    aggregation_type: str = setting(
        default="", doc=f"For `combine`: how values of equal labels become one: {', '.join(AGGREGATIONS)}."
    )
    submatch_case: str = setting(
        default="", doc="For `combine`: `lower` or `upper` case for labels made of groups of the pattern."
    )
    operations: list[Operation] = setting(default_factory=list, doc="What is done next, in this order.")

    def check(self, path: str) -> Iterator[tuple[str, str]]:
        yield from self._check_include(path)
        if self.action not in ACTIONS:
            yield f"{path}::action", f'"action" must be in [{" ".join(ACTIONS)}]'
        if self.action in ("insert", "combine") and not self.new_name:
            yield path, f'missing required field "new_name" while "action" is {self.action}'
        if self.action == "group" and self.group_resource_labels is None:
            yield path, 'missing required field "group_resource_labels" while "action" is group'
        if self.aggregation_type and self.aggregation_type not in AGGREGATIONS:
            yield f"{path}::aggregation_type", f'"aggregation_type" must be in [{" ".join(AGGREGATIONS)}]'
        if self.submatch_case not in ("", "lower", "upper"):
            yield f"{path}::submatch_case", '"submatch_case" must be in [lower upper]'
        for index, operation in enumerate(self.operations):
            yield from operation.check(f"{path}::operations::{index}", index + 1)

    def _check_include(self, path: str) -> Iterator[tuple[str, str]]:
        if not self.include:
            yield path, 'missing required field "include"'
        if self.match_type not in ("", "strict", "regexp"):
            yield f"{path}::match_type", '"match_type" must be in [strict regexp]'
        if self.match_type == "regexp":
            if wrong := problem_of(self.include):
                yield f"{path}::include", f'"include", {wrong}'
            for label, pattern in self.experimental_match_labels.items():
                if wrong := problem_of(pattern):
                    yield f"{path}::experimental_match_labels::{label}", wrong


@dataclass(frozen=True, kw_only=True)
class MetricsTransformConfig:
    """Renames metrics, changes their labels, scales, combines and aggregates them."""

    transforms: list[Transform] = setting(
        default_factory=list, doc="Each acts on what the ones before it have left."
    )

    def check(self) -> Iterator[tuple[str, str]]:
        for index, transform in enumerate(self.transforms):
            yield from transform.check(f"transforms::{index}")

    def build(self, context: Context, downstream: Consumer) -> Consumer:
        from trunkline.processors.metricstransform.transforms import build  # noqa: PLC0415 (only where it is used)

        return build(self.transforms, str(context.id), downstream)
