"""The `service` section: what runs, and how the collector reports about itself (components.md 7.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from trunkline.component.contract import ComponentId
from trunkline.component.settings import setting
from trunkline.quantities import Duration

LEVELS: Final = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")
_NO_TRACES: Final = "Trunkline makes no traces of itself"


@dataclass(frozen=True, kw_only=True)
class LogSampling:
    """How repeated log records are thinned out."""

    enabled: bool = setting(default=True, doc="Whether repeated records are thinned out.")
    tick: Duration = setting(default=10.0, doc="Time over which records are counted.")
    initial: int = setting(default=10, doc="Records of one text that are kept in each tick.")
    thereafter: int = setting(default=100, doc="Every so many-th record is kept after those; 0 for none.")


@dataclass(frozen=True, kw_only=True)
class TelemetryLogs:
    """The collector's own log."""

    level: str = setting(default="info", doc=f"Least level that is logged: {', '.join(LEVELS)}.")
    encoding: Literal["console", "json"] = setting(default="console", doc="Lines for people, or JSON.")
    development: bool = setting(
        default=False, doc="Stack traces from warnings on.", ignored="logs have one mode"
    )
    disable_caller: bool = setting(
        default=False,
        doc="Leave out where a record was logged.",
        ignored="records name their component instead",
    )
    disable_stacktrace: bool = setting(
        default=False, doc="Leave out stack traces.", ignored="expected errors have none"
    )
    sampling: LogSampling | None = setting(
        default_factory=LogSampling,
        doc="How repeated records are thinned out.",
        ignored="what repeats is said once",
    )
    output_paths: tuple[str, ...] = setting(
        default=("stderr",), doc="`stderr`, `stdout` or files.", ignored="the log goes to stderr"
    )
    error_output_paths: tuple[str, ...] = setting(
        default=("stderr",), doc="Where errors of logging itself go.", ignored="they go to stderr"
    )
    initial_fields: dict[str, Any] = setting(
        default_factory=dict, doc="Fields of every record.", ignored="records carry time, level and component"
    )
    processors: Any = setting(default=None, doc="Sends logs by OTLP.", ignored="Trunkline carries metrics")

    def check(self) -> Iterator[tuple[str, str]]:
        if self.level.lower() not in LEVELS:
            yield "level", f'unrecognized level: "{self.level}", valid levels are: {", ".join(LEVELS)}'


@dataclass(frozen=True, kw_only=True)
class PrometheusReader:
    """Where the collector's own metrics are served for scraping."""

    host: str = setting(default="localhost", doc="Address to listen on.")
    port: int = setting(default=8888, doc="Port to listen on.")
    without_scope_info: bool | None = setting(default=None, doc="No scope labels.", ignored="there are none")
    without_type_suffix: bool | None = setting(
        default=None, doc="No type suffixes.", ignored="names are fixed"
    )
    without_units: bool | None = setting(default=None, doc="No unit suffixes.", ignored="names are fixed")
    with_resource_constant_labels: Any = setting(
        default=None, doc="Resource attributes as labels.", ignored="own metrics have no resource labels"
    )
    translation_strategy: str | None = setting(default=None, doc="Naming.", ignored="names are fixed")


@dataclass(frozen=True, kw_only=True)
class PullExporter:
    """Who may fetch the collector's own metrics."""

    prometheus: PrometheusReader | None = setting(default=None, doc="Serves them for Prometheus.")


@dataclass(frozen=True, kw_only=True)
class PullReader:
    """Own metrics that are fetched."""

    exporter: PullExporter = setting(default_factory=PullExporter, doc="How they are fetched.")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One way out for the collector's own metrics."""

    pull: PullReader | None = setting(default=None, doc="Metrics that are fetched.")
    periodic: Any = setting(
        default=None,
        doc="Metrics that are pushed.",
        ignored="own metrics are served for scraping; scrape them with a prometheus receiver to send them on",
    )


@dataclass(frozen=True, kw_only=True)
class TelemetryMetrics:
    """The collector's own metrics."""

    level: str = setting(default="normal", doc="`none`, `basic`, `normal` or `detailed`.")
    readers: tuple[Reader, ...] | None = setting(default=None, doc="Where they go; left out, localhost:8888.")
    address: str | None = setting(
        default=None,
        doc="`host:port` to serve them on.",
        deprecated="use readers: pull: exporter: prometheus",
    )
    views: Any = setting(default=None, doc="Selects metrics.", ignored="own metrics are few")

    def check(self) -> Iterator[tuple[str, str]]:
        if self.level.lower() not in ("none", "basic", "normal", "detailed"):
            yield (
                "level",
                f'unknown metrics level "{self.level}", valid levels are: none, basic, normal, detailed',
            )
        if self.address is not None and not self.address.rpartition(":")[2].isdecimal():
            yield "address", f'"{self.address}" is not host:port, such as localhost:8888'

    def endpoints(self) -> list[tuple[str, int]]:
        """Host and port of every place where own metrics are served; an empty host is every address."""
        if self.level.lower() == "none":
            return []
        if self.address is not None:
            host, _, port = self.address.rpartition(":")
            return [(host.strip("[]"), int(port))]
        if self.readers is None:
            return [(PrometheusReader().host, PrometheusReader().port)]
        found = [reader.pull.exporter.prometheus for reader in self.readers if reader.pull]
        return [(one.host, one.port) for one in found if one]


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """What the collector reports about itself."""

    logs: TelemetryLogs = setting(default_factory=TelemetryLogs, doc="Its log.")
    metrics: TelemetryMetrics = setting(default_factory=TelemetryMetrics, doc="Its metrics.")
    resource: Any = setting(default=None, doc="Attributes of the collector.", ignored="own metrics have none")
    traces: Any = setting(default=None, doc="Its traces.", ignored=_NO_TRACES)

    def check(self) -> Iterator[tuple[str, str]]:
        yield from ((f"logs::{path}", message) for path, message in self.logs.check())
        yield from ((f"metrics::{path}", message) for path, message in self.metrics.check())


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The way of metrics from receivers through processors, in order, to exporters."""

    receivers: tuple[ComponentId, ...] = setting(default=(), doc="Ids of the receivers.")
    processors: tuple[ComponentId, ...] = setting(default=(), doc="Ids of the processors, in order.")
    exporters: tuple[ComponentId, ...] = setting(default=(), doc="Ids of the exporters.")


@dataclass(frozen=True, kw_only=True)
class Service:
    """What runs. Pipeline ids are `metrics` or `metrics/name`; only listed extensions start."""

    extensions: tuple[ComponentId, ...] = ()
    pipelines: dict[ComponentId, Pipeline] = field(default_factory=dict)
    telemetry: Telemetry = field(default_factory=Telemetry)
