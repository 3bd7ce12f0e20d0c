"""Changes the attributes of resources: what `resource_to_telemetry_conversion` makes labels, and filters look at.

`job` and `instance` of scraped series follow `service.name` and `service.instance.id`; labels of the task's identity
are no attributes and stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trunkline.component.actions import Action, changer
from trunkline.component.contract import PerSeries
from trunkline.component.points import ResourceChange
from trunkline.component.settings import setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trunkline.component.contract import Consumer, Context


@dataclass(frozen=True, kw_only=True)
class ResourceConfig:
    """Changes the attributes of resources."""

    attributes: list[Action] = setting(default_factory=list, doc="What is done, in this order.")

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.attributes:
            yield "attributes", 'missing required field "attributes"'
        for index, action in enumerate(self.attributes):
            yield from action.check(f"attributes::{index}", index)

    def build(self, context: Context, downstream: Consumer) -> Consumer:
        del context
        return PerSeries(ResourceChange(changer(self.attributes)), downstream)
