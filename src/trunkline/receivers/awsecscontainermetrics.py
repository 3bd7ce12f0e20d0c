"""Reads the task metadata endpoint v4 and reports what the task and its containers use (components.md, section 1).

Four things differ on purpose from the OpenTelemetry Collector, which is plainly wrong there: storage operations are
counted in either case (cgroup v2 writes them in lower case), on cgroup v2 `inactive_file` is taken off the memory in
use, a limit of 2^64-1 means none and is reported as 0, and nothing ever wraps around. The first reading is taken at
once instead of after one interval.
"""

from __future__ import annotations

import asyncio
import logging
import re
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from trunkline.aws.task_metadata import TaskMetadata, task_arn_parts
from trunkline.component.schedule import Clock, SystemClock, collect_at, phase_of, ticks
from trunkline.component.settings import setting
from trunkline.errors import ConfigError, FetchError, Problem
from trunkline.model import STALE, AttributeValue, Batch, Family, Kind, Origin, Resource, Series, Table
from trunkline.quantities import Duration

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context, Receiver
    from trunkline.net.client import Client

log = logging.getLogger(__name__)

MIB: Final = 1024 * 1024
LONGEST_NS: Final = 2**63 - 1
"""The longest time between two readings, as in Go: a container's first reading has the year 1 before it."""
LAST_READING_TIMEOUT_S: Final = 3.0
"""How long the last reading may take, so that there is time for what comes after it."""
_JUST_AFTER_MS: Final = 1
UNLIMITED: Final = 2**63
"""A limit this large is the kernel's way to say that there is none."""


@dataclass(frozen=True, kw_only=True)
class EcsContainerMetricsConfig:
    """CPU, memory, network and storage of the task's containers, from the task metadata endpoint v4."""

    collection_interval: Duration = setting(default=20.0, doc="How often the endpoint is read.")

    def check(self) -> Iterator[tuple[str, str]]:
        if self.collection_interval <= 0:
            yield "collection_interval", "must be greater than zero, such as 20s"

    def build(self, context: Context, downstream: Consumer) -> Receiver:
        base = context.environment.get("ECS_CONTAINER_METADATA_URI_V4", "").strip()
        if why := _why_no_endpoint(base):
            raise ConfigError([_no_endpoint(context, why)])
        client = context.clients.client()
        return EcsReceiver(self.collection_interval, client, TaskMetadata(client, base), context, downstream)


def _why_no_endpoint(base: str) -> str:
    """What is wrong with the address, in the words of Go's URL parser; empty if nothing is."""
    if not base:
        return "endpoint is empty"
    url = urlsplit(base)
    return (
        "" if url.scheme in ("http", "https") and url.hostname else f'parse "{base}": invalid URI for request'
    )


def _no_endpoint(context: Context, why: str) -> Problem:
    return Problem(
        "",
        f"receivers::{context.id}",
        "unable to detect task metadata endpoint: no valid endpoint for environment variable "
        f"ECS_CONTAINER_METADATA_URI_V4: {why}",
        "this receiver runs inside an ECS task, where ECS sets the variable; elsewhere take it out of the pipelines",
    )


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric as it is named before it gets the prefix `container.` or `ecs.task.`."""

    name: str
    unit: str
    cumulative: bool = False


MEASURES: Final = (
    Measure("memory.usage", "Bytes"),
    Measure("memory.usage.max", "Bytes"),
    Measure("memory.usage.limit", "Bytes"),
    Measure("memory.utilized", "MiB"),
    Measure("memory.reserved", "MiB"),
    Measure("cpu.usage.total", "Nanoseconds", cumulative=True),
    Measure("cpu.usage.kernelmode", "Nanoseconds", cumulative=True),
    Measure("cpu.usage.usermode", "Nanoseconds", cumulative=True),
    Measure("cpu.cores", "Count"),
    Measure("cpu.onlines", "Count"),
    Measure("cpu.usage.system", "Nanoseconds", cumulative=True),
    Measure("cpu.utilized", "None"),
    Measure("cpu.reserved", "None"),
    Measure("cpu.usage.vcpu", "vCPU"),
    Measure("network.rate.rx", "Bytes/Second"),
    Measure("network.rate.tx", "Bytes/Second"),
    Measure("network.io.usage.rx_bytes", "Bytes", cumulative=True),
    Measure("network.io.usage.rx_packets", "Count", cumulative=True),
    Measure("network.io.usage.rx_errors", "Count", cumulative=True),
    Measure("network.io.usage.rx_dropped", "Count", cumulative=True),
    Measure("network.io.usage.tx_bytes", "Bytes", cumulative=True),
    Measure("network.io.usage.tx_packets", "Count", cumulative=True),
    Measure("network.io.usage.tx_errors", "Count", cumulative=True),
    Measure("network.io.usage.tx_dropped", "Count", cumulative=True),
    Measure("storage.read_bytes", "Bytes", cumulative=True),
    Measure("storage.write_bytes", "Bytes", cumulative=True),
    Measure("ephemeral_storage.utilized", "MiB"),
    Measure("ephemeral_storage.reserved", "MiB"),
)
DURATION: Final = Measure("duration", "Seconds")
_BY_NAME: Final = {measure.name: measure for measure in (*MEASURES, DURATION)}

Values = dict[str, float]
"""Values by measure name; integers where the source has integers."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One resource (a container, or the task) and its values at one moment."""

    prefix: str
    resource: Resource
    values: Values


class EcsReceiver:
    """Reads the endpoint in a steady rhythm until cancelled."""

    def __init__(
        self,
        interval_s: float,
        client: Client,
        metadata: TaskMetadata,
        context: Context,
        downstream: Consumer,
        clock: Clock | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._client = client
        self._metadata = metadata
        self._metrics = context.metrics
        self._id = str(context.id)
        self._identity = context.identity
        self._estate = context.estate
        self._clock = clock or SystemClock()
        self._columns = EcsColumns(Table("task metadata endpoint"))
        self._inlet = downstream.open(self._columns.table)
        self._failing = False
        self._ended = False
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        left = self._estate.pop(self._id, None)
        if isinstance(left, EcsColumns):
            self._columns.take_over(left)
        try:
            phase_s = phase_of(str(self._identity.attributes), self._interval_s)
            due = ticks(self._interval_s, phase_s, self._clock, at_once=True)
            await collect_at(due, self._collect, self._id)
        finally:
            self._inlet.close()
            if not self._ended:
                self._estate[self._id] = self._columns
            await self._client.aclose()

    async def drain(self) -> None:
        """Read a last time, and end everything: no successor continues the series of this task."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_READING_TIMEOUT_S):
                    await self.collect()
        finally:
            self.end()

    async def collect(self) -> None:
        """Read now; what is wrong is logged and counted."""
        async with self._busy:
            await self._collect_now()

    async def _collect(self, due_s: float) -> None:
        del due_s  # readings are dated when they have been read, as upstream dates them
        await self.collect()

    def end(self) -> None:
        if not self._ended and len(self._columns.table):
            timestamp_ms = max(round(self._clock.time() * 1000), self._columns.timestamp_ms + _JUST_AFTER_MS)
            self._inlet.consume(self._columns.batch([], timestamp_ms))
            self._columns.handed_on()
        self._ended = True

    async def _collect_now(self) -> None:
        started = self._clock.monotonic()
        try:
            readings = list(read(await self._metadata.task(), await self._metadata.stats(), self._identity))
        except (FetchError, AttributeError, TypeError, ValueError) as error:
            self._report_failure(error)
            self._metrics.scrapes.add(1, self._id, "failure")
            return
        if self._ended:
            return
        self._failing = False
        batch = self._columns.batch(readings, round(self._clock.time() * 1000))
        self._inlet.consume(batch)
        self._columns.handed_on()
        self._metrics.scrapes.add(1, self._id, "success")
        self._metrics.scraped.add(sum(len(reading.values) for reading in readings), self._id)
        self._metrics.scrape_duration.observe(self._clock.monotonic() - started, self._id)

    def _report_failure(self, error: Exception) -> None:
        if not self._failing:
            log.error("Failed to collect stats: %s; trying on every %gs", error, self._interval_s)
            self._failing = True


class EcsColumns:
    """The task's series by slot. A container that has gone ends with stale markers."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._slots: dict[tuple[str, str], int] = {}
        self._leaving: list[tuple[str, str]] = []
        self.timestamp_ms = 0
        """That of the last batch."""

    def batch(self, readings: list[Reading], timestamp_ms: int) -> Batch:
        self.timestamp_ms = timestamp_ms
        current: dict[int, float] = {}
        seen: set[tuple[str, str]] = set()
        for reading in readings:
            # By name, since that is what its labels say: a container that is started again is the same series.
            whose = str(reading.resource.attributes.get("container.name", ""))
            for name, value in reading.values.items():
                seen.add((whose, name))
                current[self._slot(whose, name, reading)] = value
        self._leaving = [key for key in self._slots if key not in seen]
        current.update((self._slots[key], STALE) for key in self._leaving)
        values = array("d", bytes(8 * len(self.table)))
        present = bytearray(len(self.table))
        for slot, value in current.items():
            values[slot] = value
            present[slot] = 1
        return Batch(self.table, timestamp_ms, values, self.table.take_changes(), present)

    def take_over(self, left: EcsColumns) -> None:
        """Go on with the series of columns that nobody uses any more, so that those end which are gone since."""
        for key, slot in sorted(left._slots.items(), key=lambda one: one[1]):
            series = left.table.series[slot]
            if series is not None:
                self._slots[key] = self.table.assign(series)
        self.timestamp_ms = left.timestamp_ms

    def handed_on(self) -> None:
        for key in self._leaving:
            self.table.free(self._slots.pop(key))
        self._leaving = []

    def _slot(self, whose: str, name: str, reading: Reading) -> int:
        slot = self._slots.get((whose, name))
        if slot is None:
            slot = self._slots[whose, name] = self.table.assign(_series(name, reading))
        else:
            known = self.table.series[slot]
            if known is not None and known.resource != reading.resource:
                self.table.replace(slot, _series(name, reading))
        return slot


def _series(name: str, reading: Reading) -> Series:
    full_name = reading.prefix + name
    measure = _BY_NAME[name]
    # Cumulative, yet not monotonic, as upstream declares them: remote write shows them as gauges without `_total`.
    family = Family(full_name, Kind.GAUGE, measure.unit, origin=Origin.OPENTELEMETRY)
    return Series((("__name__", full_name),), family, reading.resource)


def read(task: Mapping[str, Any], stats: Mapping[str, Any], identity: Resource) -> Iterator[Reading]:
    """A reading for each container, in the order of the metadata, and the task's last.

    `task` and `stats` are the bodies of `/task` and `/task/stats`. Raises AttributeError, TypeError or ValueError when
    they hold something else than ECS documents.
    """
    task_attributes = dict(_task_attributes(task))
    totals: Values = {measure.name: 0 for measure in MEASURES}
    for container in task.get("Containers") or ():
        resource = _container_resource(container, task_attributes, identity)
        own = stats.get(container.get("DockerId", ""))
        if own and own.get("id"):
            values = _checked(_container_values(container, own), f"container {container.get('Name')!r}")
            for name, value in values.items():
                totals[name] += value
            yield Reading("container.", resource, _container_view(values, container))
        elif container.get("StartedAt") and container.get("FinishedAt"):
            yield Reading("container.", resource, {DURATION.name: _duration_s(container)})
    view = _checked(_task_view(totals, task), "the task")
    yield Reading("ecs.task.", Resource(task_attributes, identity.identity), view)


def _checked(values: Mapping[str, Any], whose: str) -> Values:
    """The same values; raises ValueError for one that is no number a sample can hold."""
    for name, value in values.items():
        if not isinstance(value, int | float) or not -1e300 < value < 1e300:
            raise ValueError(f"{name} of {whose} is {str(value)[:40]!r}")
    return dict(values)


def _container_values(container: Mapping[str, Any], stats: Mapping[str, Any]) -> Values:
    limits = container.get("Limits") or {}
    values: Values = {
        "memory.reserved": limits.get("Memory") or 0,
        "cpu.reserved": float(limits.get("CPU") or 0),
    }
    values |= _memory(stats.get("memory_stats") or {})
    values |= _cpu(stats)
    values |= _network(stats)
    values |= _storage(stats.get("blkio_stats") or {})
    return values


def _container_view(values: Values, container: Mapping[str, Any]) -> Values:
    """A container's CPU use is percent of a vCPU, divided by its limit in CPU units: upstream's own unit."""
    limit = (container.get("Limits") or {}).get("CPU") or 0
    percent = values["cpu.usage.vcpu"] * 100
    view = {**values, "cpu.utilized": percent / limit if limit > 0 else percent}
    return {measure.name: view[measure.name] for measure in MEASURES if measure.name in view}


def _task_view(totals: Values, task: Mapping[str, Any]) -> Values:
    limits = task.get("Limits") or {}
    storage = task.get("EphemeralStorageMetrics") or {}
    view = dict(totals)
    if limits.get("Memory") is not None:
        view["memory.reserved"] = limits["Memory"]
    if limits.get("CPU") is not None:
        view["cpu.reserved"] = limits["CPU"] * 1024.0
    view["cpu.utilized"] = view["cpu.usage.vcpu"] * 1024 if view["cpu.reserved"] > 0 else 0.0
    view["ephemeral_storage.utilized"] = storage.get("Utilized") or 0
    view["ephemeral_storage.reserved"] = storage.get("Reserved") or 0
    return view


def _memory(memory: Mapping[str, Any]) -> Values:
    usage = memory.get("usage") or 0
    limit = memory.get("limit") or 0
    details = memory.get("stats")
    utilized = 0
    if details is not None:
        # cgroup v1 says `cache`; v2 does not, and there `inactive_file` is what can be given back at once.
        reclaimable = details.get("cache", details.get("inactive_file")) or 0
        utilized = max(usage - reclaimable, 0) // MIB
    return {
        "memory.usage": usage,
        "memory.usage.max": memory.get("max_usage") or 0,
        "memory.usage.limit": limit if limit < UNLIMITED else 0,
        "memory.utilized": utilized,
    }


def _cpu(stats: Mapping[str, Any]) -> Values:
    cpu, before = stats.get("cpu_stats") or {}, stats.get("precpu_stats") or {}
    usage, usage_before = cpu.get("cpu_usage"), before.get("cpu_usage")
    if usage is None or usage_before is None:
        usage, usage_before, cpu = {}, {}, {}
    total, total_before = usage.get("total_usage") or 0, usage_before.get("total_usage") or 0
    elapsed_ns = min(_nanoseconds(stats.get("read")) - _nanoseconds(stats.get("preread")), LONGEST_NS)
    return {
        "cpu.usage.total": total,
        "cpu.usage.kernelmode": usage.get("usage_in_kernelmode") or 0,
        "cpu.usage.usermode": usage.get("usage_in_usermode") or 0,
        "cpu.cores": len(usage.get("percpu_usage") or ()),
        "cpu.onlines": cpu.get("online_cpus") or 0,
        "cpu.usage.system": cpu.get("system_cpu_usage") or 0,
        "cpu.usage.vcpu": max(total - total_before, 0) / elapsed_ns if elapsed_ns > 0 else 0.0,
    }


def _network(stats: Mapping[str, Any]) -> Values:
    rates = stats.get("network_rate_stats") or {}
    interfaces = list((stats.get("networks") or {}).values())
    values: Values = {
        "network.rate.rx": float(rates.get("rx_bytes_per_sec") or 0),
        "network.rate.tx": float(rates.get("tx_bytes_per_sec") or 0),
    }
    for way in ("rx", "tx"):
        for what in ("bytes", "packets", "errors", "dropped"):
            field = f"{way}_{what}"
            values[f"network.io.usage.{field}"] = sum(interface.get(field) or 0 for interface in interfaces)
    return values


def _storage(blkio: Mapping[str, Any]) -> Values:
    sums = {"read": 0, "write": 0}
    for entry in blkio.get("io_service_bytes_recursive") or ():
        operation = str(entry.get("op", "")).lower()
        if operation in sums:
            sums[operation] += entry.get("value") or 0
    return {"storage.read_bytes": sums["read"], "storage.write_bytes": sums["write"]}


_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def _nanoseconds(text: str | None) -> int:
    """RFC 3339 as nanoseconds since the year 1; a missing time is the year 1 itself, as in Go."""
    if not text:
        return 0
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"cannot read the time {text!r}; expected RFC 3339, such as 2026-05-14T17:56:45.7Z")
    whole, fraction, zone = match.groups()
    moment = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    since = moment - datetime(1, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 10**9 + int((fraction or "").ljust(9, "0") or 0)


def _duration_s(container: Mapping[str, Any]) -> float:
    try:
        return (_nanoseconds(container["FinishedAt"]) - _nanoseconds(container["StartedAt"])) / 1e9
    except ValueError as error:
        log.warning("container %s: %s; its duration is reported as 0", container.get("Name"), error)
        return 0.0


def _task_attributes(task: Mapping[str, Any]) -> Iterator[tuple[str, AttributeValue]]:
    arn = task.get("TaskARN") or ""
    _, region, account, task_id = task_arn_parts(arn)
    cluster = task.get("Cluster") or ""
    launch_type = task.get("LaunchType") or ""
    yield "aws.ecs.cluster.name", cluster.rpartition("/")[2] if cluster.startswith("arn:aws") else cluster
    yield "aws.ecs.task.arn", arn
    yield "aws.ecs.task.id", task_id
    yield "aws.ecs.task.family", task.get("Family") or ""
    yield "aws.ecs.task.version", task.get("Revision") or ""
    yield "aws.ecs.task.revision", task.get("Revision") or ""
    yield "aws.ecs.service.name", task.get("ServiceName") or ""
    yield "cloud.availability_zone", task.get("AvailabilityZone") or ""
    yield "aws.ecs.task.pull_started_at", task.get("PullStartedAt") or ""
    yield "aws.ecs.task.pull_stopped_at", task.get("PullStoppedAt") or ""
    yield "aws.ecs.task.known_status", task.get("KnownStatus") or ""
    yield "aws.ecs.task.launch_type", launch_type
    if launch_type.lower() in ("ec2", "fargate"):
        yield "aws.ecs.launchtype", launch_type.lower()
    yield "cloud.region", region
    yield "cloud.account.id", account


def _container_resource(
    container: Mapping[str, Any], task_attributes: Mapping[str, AttributeValue], identity: Resource
) -> Resource:
    name = container.get("Name") or ""
    attributes = dict(_container_attributes(container)) | dict(task_attributes)
    return Resource(attributes, {**identity.identity, "container_name": name} if name else identity.identity)


def _container_attributes(container: Mapping[str, Any]) -> Iterator[tuple[str, AttributeValue]]:
    image, tag = _image(container.get("Image") or "")
    yield "container.name", container.get("Name") or ""
    yield "container.id", container.get("DockerId") or ""
    yield "aws.ecs.docker.name", container.get("DockerName") or ""
    yield "container.image.name", image
    yield "aws.ecs.container.image.id", container.get("ImageID") or ""
    yield "container.image.tag", tag
    yield "aws.ecs.container.created_at", container.get("CreatedAt") or ""
    yield "aws.ecs.container.started_at", container.get("StartedAt") or ""
    if container.get("FinishedAt"):
        yield "aws.ecs.container.finished_at", container["FinishedAt"]
    yield "aws.ecs.container.know_status", container.get("KnownStatus") or ""  # upstream's own spelling
    if container.get("ExitCode") is not None:
        yield "aws.ecs.container.exit_code", container["ExitCode"]


_IMAGE: Final = re.compile(
    r"(?P<name>[a-z0-9][^@\s]*?)(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@[a-z0-9+.]+:[0-9a-fA-F]+)?"
)


def _image(reference: str) -> tuple[str, str]:
    """(repository, tag) of an image reference; `latest` when it names no tag."""
    match = _IMAGE.fullmatch(reference)
    if match is None or match["name"].endswith("/"):
        log.warning("cannot read the image reference %r", reference)
        return "", ""
    return match["name"], match["tag"] or "latest"
