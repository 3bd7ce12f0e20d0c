"""A task's figures in the shape of Docker's stats API, from the samples its process 1 takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from trunkline.simulator.tasks.sandbox import Reading, Sample
from trunkline.simulator.tasks.state import ContainerState, Status, TaskState, rfc3339

MIB: Final = 1 << 20
NEVER: Final = "0001-01-01T00:00:00Z"
"""What Docker writes for the time of a previous reading that there has not been."""


class Stats:
    """The last two samples of a task; figures never run backwards, even while a process is being collected."""

    def __init__(self, task: TaskState) -> None:
        self._task = task
        self._now: Sample | None = None
        self._before: Sample | None = None
        self._most: dict[str, int] = {}

    def record(self, sample: Sample) -> None:
        """Take a new sample; the one before becomes the previous reading."""
        if self._now:
            known = self._now.containers
            containers = {
                name: _not_below(each, known[name]) if name in known else each
                for name, each in sample.containers.items()
            }
            sample = replace(sample, containers=containers)
        self._before, self._now = self._now, sample
        self._task.ephemeral_bytes = sample.disk_bytes
        for name, reading in sample.containers.items():
            self._most[name] = max(self._most.get(name, 0), reading.memory.get("Pss", 0))

    def container(self, container: ContainerState) -> dict[str, Any] | None:
        """One container's stats; None while it does not run or has not been sampled."""
        now = self._now
        reading = now.containers.get(container.name) if now else None
        if now is None or reading is None or container.status is not Status.RUNNING:
            return None
        before = self._before
        previous = before.containers.get(container.name) if before else None
        stats = {
            "read": rfc3339(now.time_ns),
            "preread": rfc3339(before.time_ns) if before and previous else NEVER,
            "pids_stats": {"current": reading.processes},
            "num_procs": 0,
            "storage_stats": {},
            "blkio_stats": _storage(reading),
            "cpu_stats": _cpu(now, reading),
            "precpu_stats": _cpu(before, previous),
            "memory_stats": self._memory(container, reading),
            "name": container.name,
            "id": container.docker_id,
        }
        return stats | self._network(now)

    def task(self) -> dict[str, Any]:
        """Docker id → stats or null, of all containers."""
        return {each.docker_id: self.container(each) for each in self._task.containers}

    def _memory(self, container: ContainerState, reading: Reading) -> dict[str, Any]:
        """Usage is the proportional set size, which holds no page cache but what is mapped: so `cache` is 0."""
        limit_mib = container.definition.memory or self._task.definition.memory
        parts = {"anon": "Pss_Anon", "file": "Pss_File", "shmem": "Pss_Shmem"}
        return {
            "usage": reading.memory.get("Pss", 0),
            "max_usage": self._most[container.name],
            "stats": {"cache": 0}
            | {name: reading.memory[key] for name, key in parts.items() if key in reading.memory},
            "limit": limit_mib * MIB if limit_mib else 2**64 - 1,
        }

    def _network(self, now: Sample) -> dict[str, Any]:
        """All containers of a task share its interface. Nothing is said where a task has none of its own."""
        if now.network is None:
            return {}
        seconds = (now.time_ns - self._before.time_ns) / 1e9 if self._before else 0

        def rate(key: str) -> float:
            if not seconds or self._before is None or self._before.network is None or now.network is None:
                return 0.0
            return (_total(now.network, key) - _total(self._before.network, key)) / seconds

        rates = {"rx_bytes_per_sec": rate("rx_bytes"), "tx_bytes_per_sec": rate("tx_bytes")}
        return {"networks": now.network, "network_rate_stats": rates}


def _not_below(reading: Reading, known: Reading) -> Reading:
    """The kernel tells a process' user and system time apart by ticks; neither may fall for that."""
    total = max(reading.user_ns + reading.system_ns, known.user_ns + known.system_ns)
    user = max(known.user_ns, min(reading.user_ns, total - known.system_ns))
    return replace(
        reading,
        user_ns=user,
        system_ns=total - user,
        read_bytes=max(reading.read_bytes, known.read_bytes),
        write_bytes=max(reading.write_bytes, known.write_bytes),
    )


def _total(network: Any, key: str) -> int:
    return sum(interface[key] for interface in network.values())


def _cpu(sample: Sample | None, reading: Reading | None) -> dict[str, Any]:
    """As under cgroup v2, without a figure per CPU, which nobody keeps for processes."""
    if sample is None or reading is None:
        return {"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}}
    return {
        "cpu_usage": {
            "total_usage": reading.user_ns + reading.system_ns,
            "usage_in_kernelmode": reading.system_ns,
            "usage_in_usermode": reading.user_ns,
        },
        "system_cpu_usage": sample.machine_ns,
        "online_cpus": sample.cpus,
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _storage(reading: Reading) -> dict[str, Any]:
    """In the capitals of cgroup v1, which are the ones consumers understand."""
    figures = {"Read": reading.read_bytes, "Write": reading.write_bytes}
    entries = [{"major": 0, "minor": 0, "op": name, "value": value} for name, value in figures.items()]
    return {"io_service_bytes_recursive": entries, "io_serviced_recursive": []}
