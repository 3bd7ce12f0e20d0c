"""`static_configs`: targets listed in the configuration itself."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.component.settings import Text, setting
from trunkline.receivers.prometheus.discovery.groups import ADDRESS, TargetGroup


@dataclass(frozen=True, kw_only=True)
class StaticConfig:
    """A fixed list of targets that share labels."""

    targets: list[str] = setting(default_factory=list, doc="`host:port` of each target.")
    labels: dict[str, Text] = setting(
        default_factory=dict, doc="Labels put on everything these targets expose."
    )

    def group(self) -> TargetGroup:
        return TargetGroup([{ADDRESS: one} for one in self.targets], self.labels)
