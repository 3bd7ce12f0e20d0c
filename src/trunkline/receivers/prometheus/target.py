"""What a target is, and which labels its samples carry (components.md 5.4 and 5.7)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from trunkline.model import AttributeValue, Labels, make_labels
from trunkline.quantities import format_prometheus_duration, parse_prometheus_duration
from trunkline.receivers.prometheus.discovery.groups import ADDRESS, LabelSet
from trunkline.receivers.prometheus.job import Job
from trunkline.receivers.prometheus.relabel import relabel
from trunkline.wire.kernel import encode_labels, encode_scraped

_META: Final = "__meta_"
_PARAM: Final = "__param_"
_HIDDEN: Final = "__"
HOSTS_FILE: Final = Path("/etc/hosts")


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint to scrape, with everything resolved. Durations are in seconds.

    `labels` are those its samples carry; `local` says that it runs on this host or in this task.
    """

    job: Job
    url: str
    address: str
    labels: Mapping[str, str]
    interval_s: float
    timeout_s: float
    local: bool

    @property
    def key(self) -> str:
        """Tells its series from those of every other target, the same over restarts, wherever it runs."""
        final = {**self.labels, **self.external_labels}
        labels = ",".join(f"{name}={value}" for name, value in sorted(final.items()))
        return f"{{{labels}}}{' of this task' if self.local else ''}"

    @property
    def external_labels(self) -> Mapping[str, str]:
        return self.job.external_labels

    @property
    def honor_labels(self) -> bool:
        return self.job.honor_labels

    @property
    def honor_timestamps(self) -> bool:
        return self.job.honor_timestamps

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """The resource attributes OpenTelemetry gives a target (components.md 5.10)."""
        host, port = split_address(self.address)
        attributes: dict[str, AttributeValue] = {
            "service.name": self.labels.get("job", ""),
            "service.instance.id": self.labels.get("instance", ""),
            "server.port": port,
            "url.scheme": self.url.partition(":")[0],
        }
        return attributes if is_local(host) else {**attributes, "server.address": host}


def make_target(
    job: Job, labels: LabelSet, group_labels: LabelSet, own: frozenset[str] = frozenset()
) -> Target | None:
    """The target that discovered labels lead to; None if relabelling drops it.

    `own` are the task's addresses beside the loopback ones, and their names. Raises ValueError, in Prometheus' words,
    when there is nothing to scrape behind the labels.
    """
    found = discovered_labels(job, labels, group_labels)
    if not relabel(found, job.relabel):
        return None
    address = found.get(ADDRESS, "")
    if not address:
        raise ValueError("no address")
    if "/" in address:
        raise ValueError(
            f'"{address}" is not a valid hostname; write host:port, and the path as metrics_path'
        )
    interval_s, timeout_s = _timing(found)
    if not found.get("instance"):
        found["instance"] = address
    return Target(
        job=job,
        url=_url(job, found),
        address=address,
        labels={name: value for name, value in sorted(found.items()) if not name.startswith(_HIDDEN)},
        interval_s=interval_s,
        timeout_s=timeout_s,
        local=is_local(split_address(address)[0], own),
    )


def discovered_labels(job: Job, labels: LabelSet, group_labels: LabelSet) -> dict[str, str]:
    """What relabelling begins with: the target's own labels, its group's, and what the job says."""
    found = {name: value for name, value in {**group_labels, **labels}.items() if value}
    defaults = {
        "job": job.name,
        "__scrape_interval__": format_prometheus_duration(job.interval_s),
        "__scrape_timeout__": format_prometheus_duration(job.timeout_s),
        "__metrics_path__": job.metrics_path,
        "__scheme__": job.scheme,
        **{f"{_PARAM}{name}": values[0] for name, values in job.params.items() if values},
    }
    for name, value in defaults.items():
        if value:
            found.setdefault(name, value)
    return found


def _timing(labels: Mapping[str, str]) -> tuple[float, float]:
    """Interval and time-out in seconds, as relabelling left them."""
    texts = [labels.get(f"__scrape_{name}__", "") for name in ("interval", "timeout")]
    seconds = []
    for name, text in zip(("interval", "timeout"), texts, strict=True):
        try:
            seconds.append(parse_prometheus_duration(text))
        except ValueError as error:
            raise ValueError(f"error parsing scrape {name}: {error}") from None
        if seconds[-1] == 0:
            raise ValueError(f"scrape {name} cannot be 0")
    if seconds[1] > seconds[0]:
        raise ValueError(
            f'scrape timeout cannot be greater than scrape interval ("{texts[1]}" > "{texts[0]}")'
        )
    return seconds[0], seconds[1]


def _url(job: Job, labels: Mapping[str, str]) -> str:
    """The URL as Go writes it: its query sorted by name, the first value of each taken from `__param_…`."""
    params = {name: list(values) for name, values in job.params.items()}
    for label, value in labels.items():
        if label.startswith(_PARAM):
            params[label.removeprefix(_PARAM)] = [value, *params.get(label.removeprefix(_PARAM), [])[1:]]
    query = urlencode([(name, value) for name in sorted(params) for value in params[name]])
    path = quote(labels.get("__metrics_path__", ""), safe="$&+,/:;=@~")
    slash = "/" if path and not path.startswith("/") else ""
    return f"{labels.get('__scheme__', '')}://{labels[ADDRESS]}{slash}{path}" + (f"?{query}" if query else "")


def merged_labels(name: str, scraped: Labels, target: Target) -> dict[str, str]:
    """The labels of a sample before relabelling: scraped ones and the target's.

    The loser of a conflict is renamed `exported_…`, the shortest names first, as often as it takes. An empty label is
    none, but with `honor_labels` it keeps the target's away.
    """
    labels = dict(scraped)
    conflicts = []
    for label, value in target.labels.items():
        if target.honor_labels:
            labels.setdefault(label, value)
        else:
            if labels.get(label):
                conflicts.append((label, labels[label]))
            labels[label] = value
    for label, value in sorted(conflicts, key=lambda one: len(one[0])):
        exported = f"exported_{label}"
        while labels.get(exported):
            exported = f"exported_{exported}"
        labels[exported] = value
    labels["__name__"] = name
    return labels


def sample_labels(name: str, scraped: Labels, target: Target) -> Labels:
    """The labels of a sample of a job without rules: as merged, and external labels over them."""
    return make_labels({**merged_labels(name, scraped, target), **target.external_labels, "__name__": name})


class OwnLabels:
    """What sets the series of a target apart, as bytes; `shared` are the labels it gives to all of them.

    Both are encoded as remote write has them. Merged they say what `sample_labels` says, and no two texts of one
    series differ in what is its own: a label with the target's value is not, and of one that the target gives and
    the series must not have, an empty value is.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._shared = dict(make_labels({**target.labels, **target.external_labels}))
        self._reserved = frozenset((*target.labels, *target.external_labels))
        self.shared = encode_labels(tuple(self._shared.items()))

    def of(self, name: str, scraped: Labels) -> bytes:
        """The own labels of a sample, its name among them."""
        own = encode_scraped(name, scraped, self._reserved)
        return own if own is not None else self._of_odd(name, scraped)

    def of_final(self, labels: Mapping[str, str]) -> bytes:
        """The same of labels that are final but for external ones."""
        final = {**labels, **self._target.external_labels}
        own = {label: value for label, value in final.items() if value and self._shared.get(label) != value}
        missing = {label: "" for label in self._shared if not final.get(label)}
        return encode_labels(sorted({**own, **missing}.items()))

    def _of_odd(self, name: str, scraped: Labels) -> bytes:
        return self.of_final(merged_labels(name, scraped, self._target))


def is_local(host: str, own: frozenset[str] = frozenset()) -> bool:
    """Whether `host` means this machine or task: a loopback name or address, the unspecified one, none, one of its own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() in ("", "localhost") or host.lower() in own
    return address.is_loopback or address.is_unspecified or str(address) in own


def own_hosts(addresses: Collection[str], names: Path = HOSTS_FILE) -> frozenset[str]:
    """The task's own addresses, and the names that the hosts file gives them, in lower case.

    Docker writes there how containers that are linked are called (`links` of a task with `bridge` networking).
    """
    found = set(addresses)
    try:
        lines = names.read_text("utf-8", "replace").splitlines() if found else []
    except OSError:
        lines = []
    for line in lines:
        address, *called = line.partition("#")[0].split() or [""]
        if address in addresses:
            found.update(name.lower() for name in called)
    return frozenset(found)


def split_address(address: str) -> tuple[str, str]:
    """Host without brackets, and port, empty if there is none."""
    host, separator, port = address.rpartition(":")
    if not separator or address.endswith("]"):
        host, port = address, ""
    return host.strip("[]"), port
