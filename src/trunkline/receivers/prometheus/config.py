"""The settings of the `prometheus` receiver: the part of Prometheus' configuration that concerns scraping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from trunkline.component.settings import Text, setting
from trunkline.quantities import Duration, PrometheusDuration, Size
from trunkline.receivers.prometheus.discovery.dns import DnsSdConfig
from trunkline.receivers.prometheus.discovery.file import FileSdConfig
from trunkline.receivers.prometheus.discovery.http import HttpSdConfig
from trunkline.receivers.prometheus.discovery.static import StaticConfig
from trunkline.receivers.prometheus.http_config import HttpClientConfig
from trunkline.receivers.prometheus.relabel import RelabelConfig, Scheme, is_label_name
from trunkline.receivers.prometheus.unsupported import ServerConfig, UnsupportedDiscovery

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context, Receiver

__all__ = ["GlobalConfig", "PrometheusConfig", "PrometheusFile", "ScrapeConfig", "StaticConfig"]

Protocol: TypeAlias = Literal[
    "PrometheusProto",
    "PrometheusText0.0.4",
    "PrometheusText1.0.0",
    "OpenMetricsText0.0.1",
    "OpenMetricsText1.0.0",
]
Validation: TypeAlias = Literal["", "utf8", "legacy"]
Escaping: TypeAlias = Literal["", "allow-utf-8", "underscores", "dots", "values"]

DEFAULT_INTERVAL_S: Final = 60.0
DEFAULT_TIMEOUT_S: Final = 10.0
_NATIVE: Final = (
    "native histograms are not supported yet; leave it out, and classic histograms are scraped as they are"
)

_SHORTER: Final = "; leave it out, or make it no longer than scrape_interval"


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """What a job has, and `global` for every job that says nothing of its own; 0 means no limit."""

    body_size_limit: Size = setting(
        default=0,
        doc="An uncompressed body of so many bytes or more fails; 0 is a sixteenth of the memory the collector may have, 16MiB to 256MiB.",
    )
    sample_limit: int = setting(default=0, doc="More samples than this, after relabelling, fail the scrape.")
    label_limit: int = setting(default=0, doc="A series with more labels than this fails the scrape.")
    label_name_length_limit: int = setting(default=0, doc="A longer label name (bytes) fails the scrape.")
    label_value_length_limit: int = setting(default=0, doc="A longer label value (bytes) fails the scrape.")
    target_limit: int = setting(default=0, doc="With more targets than this, all of the job's scrapes fail.")
    keep_dropped_targets: int = setting(default=0, doc="Accepted; dropped targets are not shown anywhere.")
    scrape_protocols: list[Protocol] | None = setting(
        default=None, doc="Formats asked for, the best first; else the four text formats."
    )
    metric_name_validation_scheme: Validation = setting(
        default="", doc="Which names are valid: `utf8` (any, the default) or `legacy`."
    )
    metric_name_escaping_scheme: Escaping = setting(
        default="", doc="How targets are asked to write names that are not of the legacy letters."
    )
    extra_scrape_metrics: bool | None = setting(
        default=None, doc="Whether time-out, sample limit and body size are reported, too."
    )
    scrape_failure_log_file: str = setting(default="", doc="File that gets a line for every failed scrape.")
    scrape_native_histograms: bool | None = setting(default=None, doc="Refused if true.")
    convert_classic_histograms_to_nhcb: bool | None = setting(default=None, doc="Refused if true.")
    always_scrape_classic_histograms: bool | None = setting(
        default=None, doc="Accepted; classic histograms are always scraped."
    )

    def check_common(self) -> Iterator[tuple[str, str]]:
        """What `global` and jobs can get wrong alike."""
        for key in _LIMITS:
            if getattr(self, key) < 0:
                yield key, "must not be negative; 0 is no limit"
        if self.scrape_native_histograms:
            yield "scrape_native_histograms", _NATIVE
        if self.convert_classic_histograms_to_nhcb:
            yield "convert_classic_histograms_to_nhcb", _NATIVE
        protocols = self.scrape_protocols
        if protocols is not None:
            if not protocols:
                yield "scrape_protocols", "scrape_protocols cannot be empty; leave it out for the default"
            if len(set(protocols)) < len(protocols):
                yield "scrape_protocols", f"duplicated protocol in scrape_protocols, got {protocols}"
            if "PrometheusProto" in protocols:
                yield (
                    "scrape_protocols",
                    "PrometheusProto is not supported; leave it out, and the target answers in a text format",
                )


_LIMITS: Final = (
    "body_size_limit",
    "sample_limit",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "target_limit",
    "keep_dropped_targets",
)


@dataclass(frozen=True, kw_only=True)
class GlobalConfig(CommonConfig):
    """Defaults for every job."""

    scrape_interval: PrometheusDuration = setting(
        default=DEFAULT_INTERVAL_S, doc="How often targets are scraped."
    )
    scrape_timeout: PrometheusDuration | None = setting(
        default=None, doc="How long one scrape may take; else 10s, or the interval where that is shorter."
    )
    external_labels: dict[str, Text] = setting(
        default_factory=dict, doc="Labels put on every sample, over labels of the same name."
    )
    evaluation_interval: PrometheusDuration = setting(default=60.0, doc="No effect: there are no rules.")
    rule_query_offset: PrometheusDuration = setting(default=0.0, doc="No effect: there are no rules.")
    query_log_file: str = setting(default="", doc="No effect: there are no queries.")

    @property
    def interval_s(self) -> float:
        """The default interval; 0 counts as not given."""
        return self.scrape_interval or DEFAULT_INTERVAL_S

    @property
    def timeout_s(self) -> float:
        """The default time-out, which never exceeds the default interval; 0 counts as not given."""
        return self.scrape_timeout or min(DEFAULT_TIMEOUT_S, self.interval_s)

    def check(self) -> Iterator[tuple[str, str]]:
        if self.scrape_timeout is not None and self.scrape_timeout > self.interval_s:
            yield (
                "scrape_timeout",
                f"global scrape timeout greater than scrape interval{_SHORTER}",
            )
        for name in self.external_labels:
            if not is_label_name(name, self.metric_name_validation_scheme or "utf8"):
                yield "external_labels", f'"{name}" is not a valid label name'
        yield from self.check_common()


@dataclass(frozen=True, kw_only=True)
class ScrapeConfig(CommonConfig, HttpClientConfig, UnsupportedDiscovery):
    """One job: how a group of targets is scraped."""

    job_name: Text = setting(doc="The value of the label `job`; unique.")
    scrape_interval: PrometheusDuration | None = setting(
        default=None, doc="How often; else the global interval."
    )
    scrape_timeout: PrometheusDuration | None = setting(
        default=None, doc="How long; else the global time-out."
    )
    fallback_scrape_protocol: Literal[Protocol, ""] = setting(
        default="PrometheusText0.0.4", doc="How a body without a usable `Content-Type` is read."
    )
    metrics_path: str = setting(default="/metrics", doc="Path of the metrics on each target.")
    scheme: Literal["http", "https"] = setting(default="http", doc="Protocol used to reach the targets.")
    params: dict[str, list[Text]] = setting(default_factory=dict, doc="Query parameters of the request.")
    honor_labels: bool = setting(default=False, doc="Whether scraped labels win over the target's.")
    honor_timestamps: bool = setting(default=True, doc="Whether timestamps in the exposition are used.")
    track_timestamps_staleness: bool = setting(
        default=False, doc="Whether series with timestamps of their own get stale markers, too."
    )
    enable_compression: bool = setting(
        default=True, doc="Whether compressed answers are asked for (never of loopback targets)."
    )
    scrape_classic_histograms: bool | None = setting(
        default=None, doc="Earlier name of `always_scrape_classic_histograms`."
    )
    native_histogram_bucket_limit: int = setting(default=0, doc="No effect without native histograms.")
    native_histogram_min_bucket_factor: float = setting(
        default=0.0, doc="No effect without native histograms."
    )
    static_configs: list[StaticConfig] = setting(default_factory=list, doc="Targets listed here.")
    file_sd_configs: list[FileSdConfig] = setting(default_factory=list, doc="Targets listed in files.")
    http_sd_configs: list[HttpSdConfig] = setting(default_factory=list, doc="Targets listed by HTTP servers.")
    dns_sd_configs: list[DnsSdConfig] = setting(default_factory=list, doc="Targets named by DNS records.")
    relabel_configs: list[RelabelConfig] = setting(default_factory=list, doc="Rules on targets.")
    metric_relabel_configs: list[RelabelConfig] = setting(default_factory=list, doc="Rules on samples.")

    def validation(self, global_: GlobalConfig) -> Scheme:
        """Which names are valid."""
        return self.metric_name_validation_scheme or global_.metric_name_validation_scheme or "utf8"

    def escaping(self, global_: GlobalConfig) -> str:
        """How names are asked for; a job that validates in its own way does not take the global answer."""
        if self.metric_name_escaping_scheme:
            return self.metric_name_escaping_scheme
        if not self.metric_name_validation_scheme and global_.metric_name_escaping_scheme:
            return global_.metric_name_escaping_scheme
        return "underscores" if self.validation(global_) == "legacy" else "allow-utf-8"

    def interval_s(self, global_: GlobalConfig) -> float:
        """The job's interval, else the global one; 0 counts as not given."""
        return self.scrape_interval or global_.interval_s

    def timeout_s(self, global_: GlobalConfig) -> float:
        """The job's time-out, else the global one as far as the job's interval allows; 0 counts as not given."""
        return self.scrape_timeout or min(global_.timeout_s, self.interval_s(global_))

    def check(self, global_: GlobalConfig) -> Iterator[tuple[str, str]]:
        """What is wrong with the job, in Prometheus' words where it has some."""
        interval_s, scheme = self.interval_s(global_), self.validation(global_)
        if not self.job_name:
            yield "job_name", "job_name is empty; it becomes the label job, so give the job a name of its own"
        if self.scrape_timeout is not None and self.scrape_timeout > interval_s:
            yield (
                "scrape_timeout",
                f'scrape timeout greater than scrape interval for scrape config with job name "{self.job_name}"{_SHORTER}',
            )
        if self.fallback_scrape_protocol == "PrometheusProto":
            yield "fallback_scrape_protocol", "PrometheusProto is not supported; name a text format"
        if self.escaping(global_) == "allow-utf-8" and scheme == "legacy":
            yield (
                "metric_name_escaping_scheme",
                "utf8 metric names requested but validation scheme is not set to UTF8; write underscores here",
            )
        yield from self.check_common()
        yield from self.check_http()
        yield from self.check_unsupported()
        yield from self._check_rules(scheme)
        yield from self._check_discovery(scheme)

    def _check_rules(self, scheme: Scheme) -> Iterator[tuple[str, str]]:
        for key in ("relabel_configs", "metric_relabel_configs"):
            for index, rule in enumerate(getattr(self, key)):
                yield from _under(f"{key}::{index}", rule.check(scheme))

    def _check_discovery(self, scheme: Scheme) -> Iterator[tuple[str, str]]:
        for key in ("file_sd_configs", "http_sd_configs", "dns_sd_configs"):
            for index, section in enumerate(getattr(self, key)):
                yield from _under(f"{key}::{index}", section.check())
        for number, group in enumerate(self.static_configs):
            path = f"static_configs::{number}"
            for label in group.labels:
                if not is_label_name(label, scheme):
                    yield f"{path}::labels::{label}", f'"{label}" is not a valid label name'
            for target in group.targets if not self.relabel_configs else ():
                if not target or "/" in target:
                    yield (
                        f"{path}::targets",
                        f'"{target}" is not a valid hostname; write host:port, and the path as metrics_path',
                    )


@dataclass(frozen=True, kw_only=True)
class PrometheusFile(ServerConfig):
    """The parts of a Prometheus configuration that concern scraping."""

    global_: GlobalConfig = setting(default_factory=GlobalConfig, key="global", doc="Defaults for every job.")
    scrape_configs: list[ScrapeConfig] = setting(default_factory=list, doc="The jobs.")
    scrape_config_files: list[str] = setting(
        default_factory=list, doc="Refused: files are included by `${file:…}`."
    )

    def check(self) -> Iterator[tuple[str, str]]:
        if features := self.unsupported_features():
            yield "", features
        if self.scrape_config_files:
            yield (
                "scrape_config_files",
                "is not supported; include the jobs of a file with scrape_configs: ${file:path}",
            )
        yield from _under("global", self.global_.check())
        seen: set[str] = set()
        for index, job in enumerate(self.scrape_configs):
            if job.job_name in seen:
                yield (
                    f"scrape_configs::{index}::job_name",
                    f'found multiple scrape configs with job name "{job.job_name}"; rename one, or join them',
                )
            seen.add(job.job_name)
            yield from _under(f"scrape_configs::{index}", job.check(self.global_))


@dataclass(frozen=True, kw_only=True)
class PrometheusConfig:
    """Scrapes targets as Prometheus does."""

    config: PrometheusFile = setting(default_factory=PrometheusFile, doc="A Prometheus scrape configuration.")
    trim_metric_suffixes: bool = setting(
        default=False, doc="Refused if true: names stay as they are scraped."
    )
    initial_scrape_offset: Duration = setting(
        default=0.0, doc="How long after the start the first targets are scraped at the earliest."
    )
    scrape_on_shutdown: bool = setting(default=False, doc="Accepted; the last scrape is always made.")
    discovery_reload_on_startup: bool = setting(
        default=False, doc="Accepted; targets are scraped as soon as they are known."
    )
    report_extra_scrape_metrics: bool = setting(
        default=False,
        doc="Earlier place of `extra_scrape_metrics`.",
        deprecated="write extra_scrape_metrics under config::global",
    )
    use_start_time_metric: bool = setting(
        default=False, doc="No effect.", ignored="remote write carries no start times; take it out"
    )
    start_time_metric_regex: str = setting(
        default="", doc="No effect.", ignored="remote write carries no start times; take it out"
    )
    target_allocator: Any = setting(default=None, doc="Refused: list targets in a job.")
    api_server: Any = setting(default=None, doc="Refused if enabled.")

    def check(self) -> Iterator[tuple[str, str]]:
        if self.target_allocator is not None:
            yield "target_allocator", "is not supported; list the targets in a job, or use http_sd_configs"
        elif not self.config.scrape_configs:
            yield (
                "config",
                "no Prometheus scrape_configs or target_allocator set; list at least one job under scrape_configs",
            )
        if isinstance(self.api_server, dict) and self.api_server.get("enabled"):
            yield (
                "api_server",
                "is not supported; the collector's own metrics and the series `up` tell of targets",
            )
        if self.trim_metric_suffixes:
            yield "trim_metric_suffixes", "is not supported; names stay as they are scraped"
        yield from _under("config", self.config.check())

    def build(self, context: Context, downstream: Consumer) -> Receiver:
        from trunkline.receivers.prometheus.receiver import PrometheusReceiver  # noqa: PLC0415 (once, when used)

        return PrometheusReceiver(self, context, downstream)


def _under(key: str, found: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((f"{key}::{path}" if path else key, message) for path, message in found)
