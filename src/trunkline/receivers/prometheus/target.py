"""What a target is, and which labels its samples carry (components.md 5.4 and 5.7)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from trunkline.model import AttributeValue, Labels, make_labels
from trunkline.receivers.prometheus.config import PrometheusFile, ScrapeConfig


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint to scrape, with everything resolved. Durations are in seconds."""

    url: str
    address: str
    labels: Mapping[str, str]
    external_labels: Mapping[str, str]
    interval_s: float
    timeout_s: float
    honor_labels: bool
    honor_timestamps: bool
    compression: bool
    max_body_bytes: int

    @property
    def key(self) -> str:
        """Tells this target from every other one, the same over restarts."""
        labels = ",".join(f"{name}={value}" for name, value in sorted(self.labels.items()))
        return f"{self.url} {{{labels}}}"

    @property
    def local(self) -> bool:
        """Whether the target runs on this host or in this task."""
        return is_local(_host(self.address))

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """The resource attributes OpenTelemetry gives a target (components.md 5.10)."""
        host, _, port = self.address.rpartition(":")
        attributes: dict[str, AttributeValue] = {
            "service.name": self.labels.get("job", ""),
            "service.instance.id": self.labels.get("instance", ""),
            "server.port": port,
            "url.scheme": self.url.partition(":")[0],
        }
        return attributes if self.local else {**attributes, "server.address": host}


DEFAULT_BODY_BYTES = 256 * 1024 * 1024


def targets_of(file: PrometheusFile) -> Iterator[Target]:
    """Every static target of every job, and one that is listed twice in a job once."""
    for job in file.scrape_configs:
        found: dict[str, Target] = {}
        for group in job.static_configs:
            for address in group.targets:
                target = _target(file, job, address, group.labels)
                found.setdefault(target.key, target)
        yield from found.values()


def _target(file: PrometheusFile, job: ScrapeConfig, address: str, group_labels: Mapping[str, str]) -> Target:
    interval_s = job.scrape_interval if job.scrape_interval is not None else file.global_.scrape_interval
    timeout_s = job.scrape_timeout if job.scrape_timeout is not None else file.global_.scrape_timeout
    labels = {"job": job.job_name, "instance": address, **{k: v for k, v in group_labels.items() if v}}
    query = urlencode([(name, value) for name, values in job.params.items() for value in values])
    return Target(
        url=f"{job.scheme}://{address}/{job.metrics_path.removeprefix('/')}" + (f"?{query}" if query else ""),
        address=address,
        labels=labels,
        external_labels=file.global_.external_labels,
        interval_s=interval_s,
        timeout_s=min(timeout_s, interval_s),
        honor_labels=job.honor_labels,
        honor_timestamps=job.honor_timestamps,
        compression=job.enable_compression,
        max_body_bytes=job.body_size_limit or DEFAULT_BODY_BYTES,
    )


def sample_labels(name: str, scraped: Labels, target: Target) -> Labels:
    """The labels of a sample: scraped ones and the target's, the loser of a conflict renamed `exported_…`."""
    labels = dict(scraped)
    for label, value in target.labels.items():
        if label not in labels:
            labels[label] = value
        elif not target.honor_labels:
            exported = labels.pop(label)
            if exported:
                renamed = f"exported_{label}"
                while renamed in labels or renamed in target.labels:
                    renamed = f"exported_{renamed}"
                labels[renamed] = exported
            labels[label] = value
    labels.update(target.external_labels)
    labels["__name__"] = name
    return make_labels(labels)


def is_local(host: str) -> bool:
    """Whether `host` means this machine: a loopback name or address, or the unspecified address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return address.is_loopback or address.is_unspecified


def _host(address: str) -> str:
    host, separator, _ = address.rpartition(":")
    return (host if separator and not address.endswith("]") else address).strip("[]")
