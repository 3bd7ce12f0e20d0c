"""The collector's own metrics: counters, gauges and durations, shown in the text exposition format.

`prometheus_client` is what we recommend to applications; here it would cost 7 MB of a process that is to stay
small, for the three kinds below (docs/decisions/0002-dependencies.md).
"""

from __future__ import annotations

import math
import resource
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeAlias, TypeVar

LabelValues: TypeAlias = tuple[str, ...]

DURATION_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class Counter:
    """Only ever grows. Label values are given in the order the names were declared in."""

    name: str
    help: str
    label_names: tuple[str, ...] = ()
    values: dict[LabelValues, float] = field(default_factory=dict)
    type_name: ClassVar[str] = "counter"

    def add(self, amount: float = 1, *labels: str) -> None:
        self.values[labels] = self.values.get(labels, 0) + amount

    def total(self) -> float:
        return sum(self.values.values())

    def lines(self) -> Iterator[str]:
        for labels, value in self.values.items():
            yield f"{self.name}{_block(self.label_names, labels)} {_number(value)}"


@dataclass(slots=True)
class Gauge:
    """Goes up and down; a function given with `track` is asked when somebody looks."""

    name: str
    help: str
    label_names: tuple[str, ...] = ()
    sources: dict[LabelValues, Callable[[], float]] = field(default_factory=dict)
    type_name: ClassVar[str] = "gauge"

    def set(self, value: float, *labels: str) -> None:
        self.sources[labels] = lambda: value

    def track(self, source: Callable[[], float], *labels: str) -> None:
        self.sources[labels] = source

    def remove(self, *labels: str) -> None:
        self.sources.pop(labels, None)

    def lines(self) -> Iterator[str]:
        for labels, source in self.sources.items():
            yield f"{self.name}{_block(self.label_names, labels)} {_number(source())}"


@dataclass(slots=True)
class Durations:
    """A histogram of seconds."""

    name: str
    help: str
    label_names: tuple[str, ...] = ()
    counts: dict[LabelValues, list[int]] = field(default_factory=dict)
    sums: dict[LabelValues, float] = field(default_factory=dict)
    type_name: ClassVar[str] = "histogram"

    def observe(self, seconds: float, *labels: str) -> None:
        counts = self.counts.setdefault(labels, [0] * (len(DURATION_BUCKETS_S) + 1))
        counts[bisect_left(DURATION_BUCKETS_S, seconds)] += 1
        self.sums[labels] = self.sums.get(labels, 0.0) + seconds

    def lines(self) -> Iterator[str]:
        names = (*self.label_names, "le")
        for labels, counts in self.counts.items():
            cumulative = 0
            for bound, count in zip((*map(_number, DURATION_BUCKETS_S), "+Inf"), counts, strict=True):
                cumulative += count
                yield f"{self.name}_bucket{_block(names, (*labels, bound))} {cumulative}"
            yield f"{self.name}_sum{_block(self.label_names, labels)} {_number(self.sums[labels])}"
            yield f"{self.name}_count{_block(self.label_names, labels)} {cumulative}"


Metric: TypeAlias = Counter | Gauge | Durations
_M = TypeVar("_M", Counter, Gauge, Durations)


class Registry:
    """Every metric of the process, by name; asking twice for one gives the same."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def counter(self, name: str, text: str, *label_names: str) -> Counter:
        return self._get(Counter, name, text, label_names)

    def gauge(self, name: str, text: str, *label_names: str) -> Gauge:
        return self._get(Gauge, name, text, label_names)

    def durations(self, name: str, text: str, *label_names: str) -> Durations:
        return self._get(Durations, name, text, label_names)

    def render(self) -> bytes:
        """Everything as text exposition format 0.0.4."""
        lines: list[str] = []
        for metric in self._metrics.values():
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.type_name}"]
            lines += metric.lines()
        return ("\n".join(lines) + "\n").encode()

    def _get(self, kind: type[_M], name: str, text: str, label_names: tuple[str, ...]) -> _M:
        metric = self._metrics.setdefault(name, kind(name, text, label_names))
        if not isinstance(metric, kind) or metric.label_names != label_names:
            raise ValueError(f"metric {name} is declared twice, differently")
        return metric


def _block(names: tuple[str, ...], values: LabelValues) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(float(value))


class SelfMetrics(Registry):
    """What the collector says of itself; the one place where these names are made."""

    def __init__(self) -> None:
        super().__init__()
        self.scrapes = self.counter(
            "trunkline_scrapes_total", "Collections of a source, by outcome.", "receiver", "outcome"
        )
        self.scraped = self.counter(
            "trunkline_scraped_samples_total", "Samples read from sources.", "receiver"
        )
        self.scrape_duration = self.durations(
            "trunkline_scrape_duration_seconds",
            "From asking a source to having handed on its samples.",
            "receiver",
        )
        self.kept = self.counter(
            "trunkline_kept_samples_total", "Samples written to the queue of an exporter.", "exporter"
        )
        self.taken_over = self.counter(
            "trunkline_taken_over_samples_total",
            "Samples of other collectors' queues that were taken over to be delivered.",
            "exporter",
        )
        self.refused = self.counter(
            "trunkline_refused_samples_total", "Samples given up, by reason.", "exporter", "reason"
        )
        self.delivered = self.counter(
            "trunkline_delivered_samples_total", "Samples the receiver has accepted.", "exporter"
        )
        self.requests = self.counter(
            "trunkline_requests_total", "Requests sent, by outcome.", "exporter", "outcome"
        )
        self.sent_bytes = self.counter(
            "trunkline_sent_bytes_total", "Bytes of request bodies the receiver has accepted.", "exporter"
        )
        self.delivery_duration = self.durations(
            "trunkline_delivery_duration_seconds", "From sending a request to its answer.", "exporter"
        )
        self.queue_samples = self.gauge(
            "trunkline_queue_samples", "Samples kept and not yet delivered.", "exporter"
        )
        self.held_samples = self.gauge(
            "trunkline_held_samples", "Samples of series that the receiver does not take for now.", "exporter"
        )
        self.queue_bytes = self.gauge(
            "trunkline_queue_bytes", "Size of what is not yet delivered.", "exporter"
        )
        self.queue_age = self.gauge(
            "trunkline_queue_oldest_age_seconds", "Age of the oldest sample not yet delivered.", "exporter"
        )
        self.clock_offset = self.gauge(
            "trunkline_clock_offset_seconds",
            "AWS's time less this machine's, as answers of AWS tell it; signatures are corrected by it.",
        )
        self.gauge("process_resident_memory_bytes", "Resident memory size in bytes.").track(_resident_bytes)
        self.gauge("process_cpu_seconds_total", "CPU time used, in seconds.").track(time.process_time)
        self.gauge("process_start_time_seconds", "Start of the process since the epoch.").set(time.time())


def _resident_bytes() -> float:
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 (read at every scrape; no object needed)
        return int(statm.read().split()[1]) * resource.getpagesize()
