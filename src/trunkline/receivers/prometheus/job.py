"""A job with everything resolved: its own settings, else the global ones, else the defaults; rules compiled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from trunkline.net.settings import HttpSettings
from trunkline.receivers.prometheus.config import GlobalConfig, PrometheusConfig, ScrapeConfig
from trunkline.receivers.prometheus.relabel import Rule, Scheme, rules_of

LEAST_BODY_BYTES: Final = 16 * 1024 * 1024
MOST_BODY_BYTES: Final = 256 * 1024 * 1024
BODY_SHARE: Final = 16
"""Without a limit of its own a body may have one in so many bytes of what the process may have: a single line of that size,
which no fast path reads, takes nine times its size."""
_GZIP_SHARE: Final = 1000
_GZIP_BYTES: Final = 1024
"""What gzip adds to a body that cannot be compressed: five bytes for every block of 16 KiB or more, and head and tail."""
DEFAULT_PROTOCOLS: Final = (
    "OpenMetricsText1.0.0",
    "OpenMetricsText0.0.1",
    "PrometheusText1.0.0",
    "PrometheusText0.0.4",
)
_MEDIA: Final = {
    "OpenMetricsText1.0.0": "application/openmetrics-text;version=1.0.0",
    "OpenMetricsText0.0.1": "application/openmetrics-text;version=0.0.1",
    "PrometheusText1.0.0": "text/plain;version=1.0.0",
    "PrometheusText0.0.4": "text/plain;version=0.0.4",
}
_ESCAPING: Final = frozenset(("OpenMetricsText1.0.0", "PrometheusText1.0.0"))
_BEST: Final = 6
_VARIABLE: Final = re.compile(r"\$(?:\{([^{}]*)\}|([$*#@!?0-9-]|[A-Za-z_][A-Za-z0-9_]*))")


class LabelLimits(NamedTuple):
    """What a series may have after relabelling: so many labels, names and values of so many bytes; 0 is no limit."""

    labels: int = 0
    name_bytes: int = 0
    value_bytes: int = 0


_NO_LIMITS: Final = LabelLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How targets are found and scraped. Durations in seconds, sizes in bytes, 0 for no limit."""

    name: str
    interval_s: float = 60.0
    timeout_s: float = 10.0
    scheme: str = "http"
    metrics_path: str = "/metrics"
    params: Mapping[str, Sequence[str]] = field(default_factory=dict)
    accept: str = ""
    fallback: str = ""
    compression: bool = True
    http: HttpSettings = field(default_factory=HttpSettings)
    honor_labels: bool = False
    honor_timestamps: bool = True
    track_timestamps: bool = False
    relabel: tuple[Rule, ...] = ()
    metric_relabel: tuple[Rule, ...] = ()
    identity_rules: tuple[Rule, ...] = ()
    """`metric_relabel` without the rules that keep or drop by name."""
    validation: Scheme = "utf8"
    external_labels: Mapping[str, str] = field(default_factory=dict)
    body_limit: int = 0
    sample_limit: int = 0
    target_limit: int = 0
    label_limits: LabelLimits = _NO_LIMITS
    extra_metrics: bool = False
    failure_log: str = ""
    decides: tuple[object, ...] = ()
    """The settings that series depend on, for comparison."""

    def max_body_bytes(self, memory_bytes: int) -> int:
        """The most bytes that are read of a body, as sent and decompressed, by a process that may have `memory_bytes`.

        `body_size_limit` holds for the decompressed one, so a compressed one of little sense may be larger by as much as
        gzip adds to what cannot be compressed.
        """
        if self.body_limit:
            return self.body_limit + self.body_limit // _GZIP_SHARE + _GZIP_BYTES
        return min(max(memory_bytes // BODY_SHARE, LEAST_BODY_BYTES), MOST_BODY_BYTES)


def jobs_of(config: PrometheusConfig, environment: Mapping[str, str] | None = None) -> Iterator[Job]:
    """Every job of a configuration that has been checked; `environment` is what external labels may refer to."""
    outer = {
        name: expanded(value, environment or {})
        for name, value in config.config.global_.external_labels.items()
    }
    for scrape in config.config.scrape_configs:
        yield _job(config.config.global_, scrape, outer, extra_metrics=config.report_extra_scrape_metrics)


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """`text` with `$NAME` and `${NAME}` replaced as Go's `os.Expand` does; `$$` is a dollar, unset names are empty."""

    def value(found: re.Match[str]) -> str:
        name = found[1] if found[1] is not None else found[2]
        return "$" if name == "$" else environment.get(name, "")

    return _VARIABLE.sub(value, text)


def _job(
    global_: GlobalConfig, scrape: ScrapeConfig, outer: Mapping[str, str], *, extra_metrics: bool
) -> Job:
    interval_s, scheme = scrape.interval_s(global_), scrape.validation(global_)
    chosen = (scrape.extra_scrape_metrics, global_.extra_scrape_metrics, extra_metrics)
    extra = next((one for one in chosen if one is not None), False)
    limits = LabelLimits(
        scrape.label_limit or global_.label_limit,
        scrape.label_name_length_limit or global_.label_name_length_limit,
        scrape.label_value_length_limit or global_.label_value_length_limit,
    )
    protocols = scrape.scrape_protocols or global_.scrape_protocols or DEFAULT_PROTOCOLS
    return Job(
        name=scrape.job_name,
        interval_s=interval_s,
        timeout_s=scrape.timeout_s(global_),
        scheme=scrape.scheme,
        metrics_path=scrape.metrics_path,
        params=scrape.params,
        accept=accept_header(protocols, scrape.escaping(global_)),
        fallback=scrape.fallback_scrape_protocol,
        compression=scrape.enable_compression,
        http=scrape.http_settings(),
        honor_labels=scrape.honor_labels,
        honor_timestamps=scrape.honor_timestamps,
        track_timestamps=scrape.track_timestamps_staleness,
        relabel=rules_of(scrape.relabel_configs, scheme),
        metric_relabel=rules_of(scrape.metric_relabel_configs, scheme),
        identity_rules=rules_of(
            [one for one in scrape.metric_relabel_configs if not one.chooses_by_name], scheme
        ),
        validation=scheme,
        external_labels=outer,
        body_limit=scrape.body_size_limit or global_.body_size_limit,
        sample_limit=scrape.sample_limit or global_.sample_limit,
        target_limit=scrape.target_limit or global_.target_limit,
        label_limits=limits,
        extra_metrics=extra,
        failure_log=scrape.scrape_failure_log_file or global_.scrape_failure_log_file,
        decides=(
            scrape.honor_labels,
            scrape.honor_timestamps,
            scrape.metric_relabel_configs,
            scheme,
            limits,
            extra,
            outer,
        ),
    )


def accept_header(protocols: Sequence[str], escaping: str) -> str:
    """`protocols` as an `Accept` header, in descending order; anything else comes last."""
    parts = []
    for weight, protocol in zip(range(_BEST, 0, -1), protocols, strict=False):
        escaped = f";escaping={escaping}" if protocol in _ESCAPING else ""
        parts.append(f"{_MEDIA[protocol]}{escaped};q=0.{weight}")
    return ",".join([*parts, f"*/*;q=0.{_BEST - len(protocols)}"])


def is_openmetrics(content_type: str, fallback: str) -> bool:
    """Whether a body of this `Content-Type` is read as OpenMetrics, else as Prometheus' text.

    Raises ValueError when neither the header nor the fallback protocol names a format that can be read.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media == "application/openmetrics-text":
        return True
    if media == "text/plain":
        return False
    if media == "application/vnd.google.protobuf":
        raise ValueError("received protobuf, which was not asked for and cannot be read; check the target")
    if not fallback:
        got = f"unsupported Content-Type {content_type!r}" if content_type else "blank Content-Type"
        raise ValueError(f"received {got} and no fallback_scrape_protocol specified for target")
    return fallback.startswith("OpenMetrics")
