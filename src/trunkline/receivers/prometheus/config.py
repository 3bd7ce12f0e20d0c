"""The settings of the `prometheus` receiver: the part of Prometheus' configuration that concerns scraping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trunkline.component.settings import Text, setting
from trunkline.quantities import PrometheusDuration, Size

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context, Receiver


@dataclass(frozen=True, kw_only=True)
class StaticConfig:
    """A fixed list of targets that share labels."""

    targets: list[str] = setting(default_factory=list, doc="`host:port` of each target.")
    labels: dict[str, Text] = setting(
        default_factory=dict, doc="Labels put on everything these targets expose."
    )


@dataclass(frozen=True, kw_only=True)
class GlobalConfig:
    """Defaults for every job."""

    scrape_interval: PrometheusDuration = setting(default=60.0, doc="How often targets are scraped.")
    scrape_timeout: PrometheusDuration = setting(default=10.0, doc="How long one scrape may take.")
    external_labels: dict[str, Text] = setting(
        default_factory=dict, doc="Labels put on every sample, over labels of the same name."
    )


@dataclass(frozen=True, kw_only=True)
class ScrapeConfig:
    """One job: how a group of targets is scraped."""

    job_name: Text = setting(doc="The value of the label `job`; unique.")
    scrape_interval: PrometheusDuration | None = setting(
        default=None, doc="How often; else the global interval."
    )
    scrape_timeout: PrometheusDuration | None = setting(
        default=None, doc="How long; else the global time-out."
    )
    metrics_path: str = setting(default="/metrics", doc="Path of the metrics on each target.")
    scheme: Literal["http", "https"] = setting(default="http", doc="Protocol used to reach the targets.")
    params: dict[str, list[Text]] = setting(default_factory=dict, doc="Query parameters of the request.")
    honor_labels: bool = setting(default=False, doc="Whether scraped labels win over the target's.")
    honor_timestamps: bool = setting(default=True, doc="Whether timestamps in the exposition are used.")
    enable_compression: bool = setting(
        default=True, doc="Whether compressed answers are asked for (never of loopback targets)."
    )
    body_size_limit: Size = setting(
        default=0, doc="Largest uncompressed body accepted; 0 is the built-in 256MiB."
    )
    static_configs: list[StaticConfig] = setting(default_factory=list, doc="Targets listed here.")


@dataclass(frozen=True, kw_only=True)
class PrometheusFile:
    """The parts of a Prometheus configuration that concern scraping."""

    global_: GlobalConfig = setting(default_factory=GlobalConfig, key="global", doc="Defaults for every job.")
    scrape_configs: list[ScrapeConfig] = setting(default_factory=list, doc="The jobs.")


@dataclass(frozen=True, kw_only=True)
class PrometheusConfig:
    """Scrapes targets as Prometheus does."""

    config: PrometheusFile = setting(default_factory=PrometheusFile, doc="A Prometheus scrape configuration.")

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.config.scrape_configs:
            yield "config", "no Prometheus scrape_configs or target_allocator set"
        seen: set[str] = set()
        for index, job in enumerate(self.config.scrape_configs):
            path = f"config::scrape_configs::{index}"
            if not job.job_name:
                yield f"{path}::job_name", "job_name is empty"
            if job.job_name in seen:
                yield f"{path}::job_name", f'found multiple scrape configs with job name "{job.job_name}"'
            seen.add(job.job_name)
            yield from self._check_job(job, path)

    def _check_job(self, job: ScrapeConfig, path: str) -> Iterator[tuple[str, str]]:
        interval_s = (
            job.scrape_interval if job.scrape_interval is not None else self.config.global_.scrape_interval
        )
        if interval_s <= 0:
            yield f"{path}::scrape_interval", "scrape interval must be greater than zero, such as 15s"
        if job.scrape_timeout is not None and job.scrape_timeout > interval_s:
            yield (
                f"{path}::scrape_timeout",
                f'scrape timeout greater than scrape interval for scrape config with job name "{job.job_name}"',
            )
        for number, group in enumerate(job.static_configs):
            for label in group.labels:
                if label.startswith("__"):
                    yield (
                        f"{path}::static_configs::{number}::labels::{label}",
                        f"{label} is not supported as a label; use metrics_path, scheme or params of the job",
                    )
            for target in group.targets:
                if not target or "/" in target:
                    yield (
                        f"{path}::static_configs::{number}::targets",
                        f'"{target}" is not a valid hostname; write host:port, and the path as metrics_path',
                    )

    def build(self, context: Context, downstream: Consumer) -> Receiver:
        from trunkline.receivers.prometheus.receiver import PrometheusReceiver  # noqa: PLC0415 (once, when used)

        return PrometheusReceiver(self.config, context, downstream)
