"""The doctor of one collector: `trunkline collector doctor` where that collector runs, with all it was given."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from trunkline.errors import SimulatorError
from trunkline.simulator.tasks.namespaces import enter, in_own_thread

_TIMEOUT_S: Final = 60.0
_SOURCES: Final = ("--config", "--set", "--resolve", "--ca-bundle")
"""Options of the collector that its doctor takes as well."""


@dataclass(frozen=True, slots=True)
class Collector:
    """A collector's process in a task; `began_s` is when it started, epoch seconds."""

    task: str
    pid: int
    began_s: float
    arguments: Sequence[str] = field(repr=False)
    environment: dict[str, str] = field(repr=False)


def collectors(simulator_pid: int) -> dict[str, Collector]:
    """Task id → its collector, of those that run below the simulator's process."""
    return {found.task: found for found in _collectors(simulator_pid)}


def _collectors(simulator_pid: int) -> Iterator[Collector]:
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(simulator_pid).children(recursive=True):
            with contextlib.suppress(psutil.Error, ValueError):
                arguments = process.cmdline()
                at = arguments.index("collector")
                environment = process.environ()
                if arguments[at + 1] == "run" and (task := _task(environment)):
                    yield Collector(
                        task, process.pid, process.create_time(), arguments[at + 2 :], environment
                    )


def _task(environment: dict[str, str]) -> str:
    """A container's home is a folder of its task."""
    parts = Path(environment.get("HOME", "")).parts
    return parts[parts.index("tasks") + 1] if "tasks" in parts else ""


async def examine(collector: Collector) -> str:
    """What the doctor says. Raises SimulatorError when it cannot be asked."""
    try:
        return await asyncio.to_thread(in_own_thread, lambda: _run(collector))
    except (OSError, subprocess.SubprocessError) as error:
        raise SimulatorError(f"the doctor of task {collector.task[:8]} cannot be asked: {error}") from error


def _run(collector: Collector) -> str:
    """In a thread of its own: it moves into the task's network, and the doctor with it."""
    _enter_network(collector.pid)
    ended = subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-m", "trunkline", "collector", "doctor", *_sources(collector.arguments)],
        env={**collector.environment, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return (ended.stdout or ended.stderr).strip()


def _enter_network(pid: int) -> None:
    theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if not os.path.sameopenfile(theirs, own):
            enter(theirs)
    finally:
        os.close(own)
        os.close(theirs)


def _sources(arguments: Sequence[str]) -> list[str]:
    found: list[str] = []
    for at, argument in enumerate(arguments):
        if argument.partition("=")[0] in _SOURCES:
            found += [argument] if "=" in argument else list(arguments[at : at + 2])
    return found
