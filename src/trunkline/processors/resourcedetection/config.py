"""The settings of `resourcedetection`, with OpenTelemetry's keys and defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trunkline.component.patterns import problem_of
from trunkline.component.settings import setting
from trunkline.quantities import Duration

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context

DETECTORS: Final = ("env", "system", "ecs", "ec2")
HOSTNAME_SOURCES: Final = ("dns", "os", "cname", "lookup")

_CLOUD: Final = (
    "cloud.provider",
    "cloud.platform",
    "cloud.account.id",
    "cloud.region",
    "cloud.availability_zone",
)
DEFAULTS: Final[Mapping[str, Mapping[str, bool]]] = {
    "ecs": dict.fromkeys(
        (
            *_CLOUD,
            "aws.ecs.cluster.arn",
            "aws.ecs.task.arn",
            "aws.ecs.task.family",
            "aws.ecs.task.id",
            "aws.ecs.task.revision",
            "aws.ecs.launchtype",
            "aws.log.group.names",
            "aws.log.group.arns",
            "aws.log.stream.names",
            "aws.log.stream.arns",
        ),
        True,
    ),
    "ec2": dict.fromkeys((*_CLOUD, "host.id", "host.image.id", "host.name", "host.type"), True),
    "system": {"host.name": True, "os.type": True, "host.id": False, "host.arch": False},
}
"""The attributes each detector may give, and whether it does when nothing is said."""

NOT_SUPPORTED: Final = (
    "host.ip",
    "host.mac",
    "host.interface",
    "host.cpu.vendor.id",
    "host.cpu.family",
    "host.cpu.model.id",
    "host.cpu.model.name",
    "host.cpu.stepping",
    "host.cpu.cache.l2.size",
    "os.description",
    "os.name",
    "os.version",
    "os.build.id",
)
"""Attributes of upstream's `system` that are off unless switched on, and cannot be switched on here."""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """Whether an attribute is given."""

    enabled: bool = setting(default=True, doc="Whether it is.")


_SWITCHES_DOC: Final = "Attributes to leave out or to add: `{cloud.region: {enabled: false}}`."


@dataclass(frozen=True, kw_only=True)
class EcsSettings:
    """Of the detector `ecs`."""

    resource_attributes: dict[str, Switch] = setting(default_factory=dict, doc=_SWITCHES_DOC)


@dataclass(frozen=True, kw_only=True)
class Ec2Settings:
    """Of the detector `ec2`."""

    resource_attributes: dict[str, Switch] = setting(default_factory=dict, doc=_SWITCHES_DOC)
    tags: list[str] = setting(
        default_factory=list, doc="Patterns for keys of the instance's tags, which become `ec2.tag.<key>`."
    )
    tags_from_imds: bool = setting(
        default=False,
        doc="Whether tags are read from the instance's metadata; needed where there are `tags`.",
    )
    fail_on_missing_metadata: bool = setting(
        default=False, doc="Whether the collector may not start where there is no instance metadata."
    )
    max_attempts: int = setting(default=3, doc="How often to try.", ignored="it is tried until `timeout`")
    max_backoff: Duration = setting(default=20.0, doc="Longest pause.", ignored="it is tried until `timeout`")


@dataclass(frozen=True, kw_only=True)
class SystemSettings:
    """Of the detector `system`."""

    resource_attributes: dict[str, Switch] = setting(default_factory=dict, doc=_SWITCHES_DOC)
    hostname_sources: list[str] = setting(
        default_factory=lambda: ["dns", "os"],
        doc="Where the host's name comes from, the first that has it: `dns`, `os`, `cname`, `lookup`.",
    )


@dataclass(frozen=True, kw_only=True)
class ResourceDetectionConfig:
    """Adds what can be found out about the place the collector runs in to every resource."""

    detectors: list[str] = setting(
        default_factory=lambda: ["env"],
        doc="Who is asked: `env`, `system`, `ecs`, `ec2`; of several that know an attribute the first is believed.",
    )
    override: bool = setting(
        default=True, doc="Whether an attribute that a resource has already is replaced."
    )
    timeout: Duration = setting(default=5.0, doc="How long detection may take before the collector gives up.")
    refresh_interval: Duration = setting(default=0.0, doc="How often to detect again; 0 for never.")
    fail_on_missing_metadata: bool = setting(
        default=False, doc="Whether the collector may not start where `ec2` finds no metadata."
    )
    attributes: list[str] = setting(
        default_factory=list,
        doc="Names of the only attributes that are added; empty for all.",
        deprecated="use resource_attributes of the detectors",
    )
    ecs: EcsSettings = setting(default_factory=EcsSettings, doc="Settings of `ecs`.")
    ec2: Ec2Settings = setting(default_factory=Ec2Settings, doc="Settings of `ec2`.")
    system: SystemSettings = setting(default_factory=SystemSettings, doc="Settings of `system`.")

    def check(self) -> Iterator[tuple[str, str]]:
        for index, name in enumerate(self.detectors):
            if name.strip() not in DETECTORS:
                text = f"invalid detector key: {name}; detectors supported: {', '.join(DETECTORS)}"
                yield f"detectors::{index}", text
        if self.timeout <= 0:
            yield "timeout", "must be greater than zero, such as 5s"
        if self.refresh_interval < 0:
            yield "refresh_interval", "must not be negative"
        for name in DEFAULTS:
            yield from self._check_switches(name)
        yield from self._check_detectors()

    def _check_switches(self, detector: str) -> Iterator[tuple[str, str]]:
        for name, switch in self.switches(detector).items():
            path = f"{detector}::resource_attributes::{name}"
            if detector == "system" and name in NOT_SUPPORTED:
                if switch.enabled:
                    yield path, f"{name} is not supported"
            elif name not in DEFAULTS[detector]:
                yield path, f"has invalid keys: {name}; attributes: {', '.join(DEFAULTS[detector])}"

    def _check_detectors(self) -> Iterator[tuple[str, str]]:
        for index, source in enumerate(self.system.hostname_sources):
            if source not in HOSTNAME_SOURCES:
                text = f"hostname_sources contains invalid value: {source!r}; sources: {', '.join(HOSTNAME_SOURCES)}"
                yield f"system::hostname_sources::{index}", text
        for index, pattern in enumerate(self.ec2.tags):
            if wrong := problem_of(pattern):
                yield f"ec2::tags::{index}", wrong
        if self.ec2.tags and not self.ec2.tags_from_imds:
            yield (
                "ec2::tags",
                "tags are read from the instance's metadata only: set tags_from_imds: true, and allow tags there",
            )

    def switches(self, detector: str) -> Mapping[str, Switch]:
        sections: Mapping[str, EcsSettings | Ec2Settings | SystemSettings]
        sections = {"ecs": self.ecs, "ec2": self.ec2, "system": self.system}
        return sections[detector].resource_attributes

    def wants(self, detector: str, attribute: str) -> bool:
        """Whether an attribute found by `detector` is added."""
        if self.attributes and attribute not in self.attributes:
            return False
        if detector == "env" or attribute not in DEFAULTS[detector]:
            return True
        switch = self.switches(detector).get(attribute)
        return DEFAULTS[detector][attribute] if switch is None else switch.enabled

    def build(self, context: Context, downstream: Consumer) -> Consumer:
        from trunkline.processors.resourcedetection.detection import ResourceDetection  # noqa: PLC0415

        return ResourceDetection(self, context, downstream)
