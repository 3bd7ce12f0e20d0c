"""A ceiling for the memory of the process: how much it has and may have, and what happens when it comes near.

Above the soft limit new series are refused, since series are what memory goes into; above the hard limit whole batches
are, and memory is given back to the system. What the process may have is read from its control group (version 1 or
2), or else from the machine.
"""

from __future__ import annotations

import gc
import logging
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path, PurePosixPath
from typing import Final

log = logging.getLogger(__name__)

MIB: Final = 1024 * 1024
UNLIMITED: Final = 2**60
"""From here on a control group's limit is the kernel's way to say that there is none."""

DEFAULT_SHARE: Final = 0.8
"""The ceiling where none is configured, as a share of what the container may have."""
DEFAULT_MACHINE_SHARE: Final = 0.5
"""The same where no container sets a limit, and others use the machine, too."""
DEFAULT_MOST_BYTES: Final = 2048 * MIB
"""And no more than this of a machine."""
SPIKE_SHARE: Final = 0.2
"""How far below the hard limit the soft one lies, unless it is said: the collector's own rule."""


class Pressure(IntEnum):
    """How near the ceiling is."""

    NONE = 0
    SOFT = 1
    """New series are refused."""
    HARD = 2
    """Everything is refused."""


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """`hard_bytes` is the ceiling; from `soft_bytes` on nothing new is taken in. Durations in seconds."""

    hard_bytes: int
    soft_bytes: int
    check_interval_s: float = 1.0
    soft_pause_s: float = 10.0
    hard_pause_s: float = 0.0

    @classmethod
    def default(cls, root: Path = Path("/")) -> MemoryLimits:
        """The ceiling of a process for which none is configured."""
        container = container_limit_bytes(root)
        if container is not None:
            hard_bytes = int(container * DEFAULT_SHARE)
        else:
            hard_bytes = min(int(machine_bytes(root) * DEFAULT_MACHINE_SHARE), DEFAULT_MOST_BYTES)
        return cls(hard_bytes, int(hard_bytes * (1 - SPIKE_SHARE)))


class MemoryCeiling:
    """Knows the pressure; says once when it changes, and tries to give memory back before it refuses anything.

    `check` looks when it is due, and is cheap to ask before every batch.
    """

    def __init__(
        self,
        limits: MemoryLimits,
        *,
        resident: Callable[[], int] | None = None,
        relieve: Callable[[], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.pressure = Pressure.NONE
        self._resident = resident or resident_bytes
        self._relieve = relieve or give_back
        self._now = now
        self._checked_s = -limits.check_interval_s + now()
        self._relieved_s: float | None = None

    def check(self) -> Pressure:
        """The pressure, measured anew if the last time is an interval ago."""
        now_s = self._now()
        if now_s - self._checked_s >= self.limits.check_interval_s:
            self._checked_s = now_s
            self._measure(now_s)
        return self.pressure

    def _measure(self, now_s: float) -> None:
        used = self._resident()
        if self._may_relieve(used, now_s):
            self._relieve()
            self._relieved_s = now_s
            used = self._resident()
        pressure = self._pressure_at(used)
        if pressure is not self.pressure:
            self._tell(pressure, used)
            self.pressure = pressure

    def _pressure_at(self, used: int) -> Pressure:
        if used >= self.limits.hard_bytes:
            return Pressure.HARD
        return Pressure.SOFT if used >= self.limits.soft_bytes else Pressure.NONE

    def _may_relieve(self, used: int, now_s: float) -> bool:
        pressure = self._pressure_at(used)
        if pressure is Pressure.NONE or (pressure is Pressure.SOFT and self.pressure >= Pressure.SOFT):
            return False
        pause_s = self.limits.hard_pause_s if pressure is Pressure.HARD else self.limits.soft_pause_s
        return self._relieved_s is None or now_s - self._relieved_s >= pause_s

    def _tell(self, pressure: Pressure, used: int) -> None:
        limits = self.limits
        state = f"{used // MIB} MiB of memory in use"
        if pressure is Pressure.NONE:
            log.info(
                "%s: back within the limit of %d MiB, everything is taken again",
                state,
                limits.soft_bytes // MIB,
            )
        elif pressure is Pressure.SOFT:
            log.warning(
                "%s, the soft limit is %d MiB: new series are refused, known ones go on. Give the container more "
                "memory, collect fewer series, or raise limit_mib of memory_limiter",
                state,
                limits.soft_bytes // MIB,
            )
        else:
            log.error(
                "%s, the limit is %d MiB: samples are refused until memory is free again. Give the container more "
                "memory, collect fewer series, or raise limit_mib of memory_limiter",
                state,
                limits.hard_bytes // MIB,
            )


def give_back() -> None:
    """Collect garbage, and hand free memory back to the system where the C library can (glibc)."""
    gc.collect()
    import ctypes  # noqa: PLC0415 (1 MB, for when memory is short already or a ceiling is near)

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """The memory of this process that is in use now."""
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 (read every second; no object needed)
        return int(statm.read().split()[1]) * resource.getpagesize()


def total_bytes(root: Path = Path("/")) -> int:
    """What the process may have: its container's limit, or the machine's memory where that is less."""
    limit, machine = container_limit_bytes(root), machine_bytes(root)
    return machine if limit is None else min(limit, machine)


def machine_bytes(root: Path = Path("/")) -> int:
    """The memory of the machine."""
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return resource.getpagesize() * 2**20  # 4 GiB; there is always /proc on the systems that this runs on


def container_limit_bytes(root: Path = Path("/")) -> int | None:
    """The least memory limit of the process's control group and those above it, in either version; None if none."""
    limits = [int(text) for path in _limit_files(root) if (text := _read(path).strip()).isdecimal()]
    return min((limit for limit in limits if limit < UNLIMITED), default=None)


def _limit_files(root: Path) -> Iterator[Path]:
    """Limits of the groups the process is in; in a container they may be mounted as if they were the root."""
    groups = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from (groups / above / "memory.max" for above in _and_above(path))
        elif "memory" in controllers.split(","):
            yield from (groups / "memory" / above / "memory.limit_in_bytes" for above in _and_above(path))


def _and_above(path: str) -> list[str]:
    inside = PurePosixPath(path.lstrip("/"))
    return [str(inside), *map(str, inside.parents)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
