"""Small components of every kind, and short ways to read configurations with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from trunkline.collector.config import CollectorConfig, Telemetry, read
from trunkline.component.contract import ComponentId
from trunkline.component.settings import Text, setting
from trunkline.errors import ConfigError, Problem
from trunkline.quantities import Duration, PrometheusDuration, Size


class Verbosity(StrEnum):
    BASIC = "basic"
    DETAILED = "detailed"


@dataclass(frozen=True, kw_only=True)
class Job:
    job_name: str = setting(doc="Name of the job.")
    scrape_interval: PrometheusDuration | None = setting(default=None, doc="How often.")
    targets: list[str] = setting(default_factory=list, doc="Where.")
    labels: dict[str, Text] = setting(default_factory=dict, doc="Labels.")
    body_size_limit: Size = setting(default=0, doc="Most bytes.")


@dataclass(frozen=True, kw_only=True)
class Global:
    scrape_interval: PrometheusDuration = setting(default=60.0, doc="How often.")
    scrape_timeout: PrometheusDuration = setting(default=10.0, doc="How long.")


@dataclass(frozen=True, kw_only=True)
class ScrapeFile:
    global_: Global = setting(default_factory=Global, key="global", doc="Defaults.")
    scrape_configs: list[Job] = setting(default_factory=list, doc="Jobs.")


@dataclass(frozen=True, kw_only=True)
class Scrape:
    config: ScrapeFile = setting(default_factory=ScrapeFile, doc="The scrape configuration.")
    trim: bool = setting(default=False, doc="Without effect.", ignored="names stay as they are")

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.config.scrape_configs:
            yield "", "no scrape_configs set"
        for index, job in enumerate(self.config.scrape_configs):
            if not job.job_name:
                yield f"config::scrape_configs::{index}::job_name", "job_name is empty"
            if job.scrape_interval == 0:
                yield f"config::scrape_configs::{index}::scrape_interval", "must be greater than zero"


@dataclass(frozen=True, kw_only=True)
class Poll:
    collection_interval: Duration = setting(default=20.0, doc="How often.")


@dataclass(frozen=True, kw_only=True)
class Batch:
    send_batch_size: int = setting(default=8192, doc="How many.")
    timeout: Duration = setting(default=0.2, doc="How long.")
    ratio: float = setting(default=0.5, doc="A share.")


@dataclass(frozen=True, kw_only=True)
class AwsAuth:
    region: str = setting(default="", doc="Region.")
    service: str = setting(default="aps", doc="Service.")
    role_arn: str | None = setting(default=None, doc="Role.")


@dataclass(frozen=True, kw_only=True)
class Wal:
    directory: str = setting(doc="Folder.")
    buffer_size: int = setting(default=300, doc="Entries.")


@dataclass(frozen=True, kw_only=True)
class RemoteWrite:
    endpoint: str = setting(doc="Where samples go.")
    timeout: Duration = setting(default=5.0, doc="How long.")
    headers: dict[str, str] = setting(default_factory=dict, doc="Headers.")
    aws_auth: AwsAuth = setting(default_factory=AwsAuth, doc="Signing.")
    wal: Wal | None = setting(default=None, doc="Queue on disk.")
    authenticator: ComponentId | None = setting(default=None, doc="Who signs.")
    compression: Literal["snappy", "none"] = setting(default="snappy", doc="How.")
    pair: tuple[int, str] = setting(default=(0, ""), doc="Two things.")
    codes: tuple[int, ...] = setting(default=(), doc="Status codes.")
    attribute: str | int | float | bool | None = setting(default=None, doc="Any scalar.")
    extra: Any = setting(default=None, doc="Anything.")
    old_timeout: Duration | None = setting(default=None, doc="As timeout.", deprecated="use timeout")


@dataclass(frozen=True, kw_only=True)
class Debug:
    verbosity: Verbosity = setting(default=Verbosity.BASIC, doc="How much.")
    enabled: bool = setting(default=True, doc="Whether.")


@dataclass(frozen=True, kw_only=True)
class Health:
    endpoint: str = setting(default="localhost:13133", doc="Where.")


TYPES: Mapping[str, Mapping[str, type]] = {
    "receivers": {"prometheus": Scrape, "awsecscontainermetrics": Poll},
    "processors": {"batch": Batch},
    "exporters": {"prometheusremotewrite": RemoteWrite, "debug": Debug},
    "extensions": {"health_check": Health, "sigv4auth": AwsAuth},
}


class SampleComponents:
    def names(self, kind: str) -> list[str]:
        return list(TYPES[kind])

    def config_type(self, kind: str, type_name: str) -> type | None:
        return TYPES[kind].get(type_name)


MINIMAL = """
receivers: {awsecscontainermetrics: }
exporters: {debug: }
service: {pipelines: {metrics: {receivers: [awsecscontainermetrics], exporters: [debug]}}}
"""


def read_sources(*sources: str, sets: Sequence[str] = (), **environment: str) -> CollectorConfig:
    return read(sources, environment, SampleComponents(), sets=sets)


def problems(*sources: str, sets: Sequence[str] = (), **environment: str) -> tuple[Problem, ...]:
    """The problems for which these sources are refused; none if they are not."""
    try:
        read_sources(*sources, sets=sets, **environment)
    except ConfigError as error:
        return error.problems
    return ()


def as_data(config: CollectorConfig) -> dict[str, Any]:
    """A configuration as JSON has it; telemetry only where it differs from the default."""
    data: dict[str, Any] = {
        kind: {str(name): asdict(declared.config) for name, declared in getattr(config, kind).items()}
        for kind in TYPES
        if getattr(config, kind)
    }
    data["pipelines"] = {
        str(name): {key: [str(one) for one in ids] for key, ids in vars(pipeline).items() if ids}
        for name, pipeline in config.service.pipelines.items()
    }
    if config.service.extensions:
        data["service::extensions"] = [str(one) for one in config.service.extensions]
    if config.service.telemetry != Telemetry():
        data["telemetry"] = asdict(config.service.telemetry)
    if config.warnings:
        data["warnings"] = [str(warning) for warning in config.warnings]
    return data
