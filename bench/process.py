"""What the operating system says a process costs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED: Final = 2


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: wall clock and CPU time in seconds. `busy_s` is all of the machine's, `own_s` the benchmark's."""

    wall_s: float
    cpu_s: float
    user_s: float
    system_s: float
    busy_s: float
    own_s: float


def mark(pid: int) -> Mark:
    """Now. Raises ProcessLookupError or FileNotFoundError when the process is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Mark(
        time.time(),
        cpu_s(pid),
        int(fields[11]) / _TICKS_PER_S,
        int(fields[12]) / _TICKS_PER_S,
        _busy_s(),
        time.process_time(),
    )


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process, ended ones too, to the nanosecond (clock_getcpuclockid(3))."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError as error:
        raise ProcessLookupError(f"process {pid} is gone") from error


def rss_bytes(pid: int) -> tuple[int, int]:
    """Resident memory of a process, now and at its peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines if line.startswith("Vm"))
    now, peak = (int(found[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak


def _busy_s() -> float:
    """CPU time that anybody on this machine has used: user, nice, system, irq, softirq and steal."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / _TICKS_PER_S
