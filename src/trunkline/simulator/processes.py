"""What the processes of a simulator use, straight from the operating system."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psutil

from trunkline.simulator.tasks.namespaces import enter, in_own_thread

METRICS_ADDRESS: Final = "127.0.0.1:8888"
"""Where a collector shows its own metrics, unless TRUNKLINE_METRICS_ADDRESS says otherwise."""

_TIMEOUT_S: Final = 3.0
_COLLECTOR: Final = "collector"


@dataclass(frozen=True, slots=True)
class Usage:
    """One process.

    `memory_bytes` is its proportional set size, of which the sum over processes makes sense; `resident_bytes` counts
    what it shares with others in full.
    """

    pid: int
    command: str
    memory_bytes: int
    resident_bytes: int


def tree(pid: int) -> list[Usage]:
    """A process and everything below it."""
    return [usage for process in _with_children(pid) if (usage := _usage(process))]


def _with_children(pid: int) -> Iterator[psutil.Process]:
    try:
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)
    except psutil.Error:
        return


def _usage(process: psutil.Process) -> Usage | None:
    try:
        memory = process.memory_full_info()
        return Usage(process.pid, " ".join(process.cmdline()), memory.pss, memory.rss)
    except psutil.Error:
        return None  # it has ended since it was listed


@dataclass(frozen=True, slots=True)
class TaskUsage:
    """A task's processes without its process 1, which is the simulator's own.

    `cpu_s` grows: of the living ones, of the children they have waited for, and of those that process 1 has.
    """

    memory_bytes: int
    cpu_s: float
    collector: Usage | None
    """The collector's process alone."""


def task_usage(init_pid: int) -> TaskUsage:
    """What the task whose process 1 this is uses now; all zero when it is gone."""
    processes = list(_with_children(init_pid))
    try:
        ended = processes[0].cpu_times() if processes else None
    except psutil.Error:
        ended = None
    cpu_s = ended.children_user + ended.children_system if ended else 0.0
    memory, collector = 0, None
    for process in processes[1:]:
        usage = _usage(process)
        if usage is None:
            continue
        memory += usage.memory_bytes
        if _is_collector(usage.command):
            collector = usage
        cpu_s += _cpu_s(process)
    return TaskUsage(memory, cpu_s, collector)


def _is_collector(command: str) -> bool:
    return f" {_COLLECTOR} run" in command


def _cpu_s(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.Error:
        return 0.0


def collector_pid(init_pid: int) -> int | None:
    """The collector's process in a task, if there is one."""
    for process in list(_with_children(init_pid))[1:]:
        with contextlib.suppress(psutil.Error):
            if _is_collector(" ".join(process.cmdline())):
                return process.pid
    return None


async def collector_metrics(init_pid: int) -> str:
    """The collector's own metrics in a task, as text; empty when it does not answer."""
    return await asyncio.to_thread(_collector_metrics, init_pid)


def _collector_metrics(init_pid: int) -> str:
    pid = collector_pid(init_pid)
    if pid is None:
        return ""
    try:
        address = psutil.Process(pid).environ().get("TRUNKLINE_METRICS_ADDRESS", METRICS_ADDRESS)
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    except (psutil.Error, OSError):
        return ""
    try:
        return in_own_thread(lambda: _fetch(namespace, address))
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        os.close(namespace)


def _fetch(namespace: int, address: str) -> str:
    if not os.path.sameopenfile(namespace, own := os.open("/proc/thread-self/ns/net", os.O_RDONLY)):
        enter(namespace)
    os.close(own)
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT_S)
    connection.sock = socket.create_connection((host, int(port)), _TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def parse_metrics(text: str) -> dict[str, float]:
    """Metric name → sum over its samples, of text exposition format."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 (only with tasks)

    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals
