"""Our end of one task's process 1 (`init.py`)."""

from __future__ import annotations

import array
import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from trunkline.errors import SimulatorError
from trunkline.simulator.tasks import init
from trunkline.simulator.tasks.init import MESSAGE_BYTES, call
from trunkline.simulator.tasks.namespaces import CLONE_NEWPID, TaskNetwork, enter, in_own_thread

KILLED = 128 + signal.SIGKILL
READY_WITHIN_S = 30.0
SEND_BUFFER_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """What one container had used at the moment of a sample: nanoseconds and bytes, since its task started."""

    user_ns: int
    system_ns: int
    read_bytes: int
    write_bytes: int
    memory: Mapping[str, int]
    """`Pss` and, where the kernel tells, `Pss_Anon`, `Pss_File`, `Pss_Shmem`."""
    processes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures of a whole task at `time_ns` (Unix). `network` is None where the task has no network of its own."""

    time_ns: int
    containers: Mapping[str, Reading]
    network: Mapping[str, Mapping[str, int]] | None
    machine_ns: int
    cpus: int
    disk_bytes: int


@dataclass(slots=True)
class Run:
    """One started process; `exited` gets its exit code (128 + signal when killed by one)."""

    number: int
    started: asyncio.Future[int]
    exited: asyncio.Future[int]

    async def wait(self) -> int:
        return await asyncio.shield(self.exited)


@dataclass
class Sandbox:
    """The processes of one task. Everything in it ends with `close`, or with this process."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    folder: Path
    ready: asyncio.Future[None]
    _runs: dict[int, Run] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _samples: list[asyncio.Future[Sample]] = field(default_factory=list)

    @classmethod
    async def open(cls, folder: Path, network: TaskNetwork, hostname: str) -> Self:
        """Start process 1 of a task; it removes `folder` when it ends. Raises SimulatorError, OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for option in (socket.SO_SNDBUF, 32):  # 32: SO_SNDBUFFORCE, which root may
            with contextlib.suppress(OSError):
                ours.setsockopt(socket.SOL_SOCKET, option, SEND_BUFFER_BYTES)
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.to_thread(_launch, folder, network, hostname, theirs)
        except BaseException:
            ours.close()
            raise
        sandbox = cls(process, ours, folder, asyncio.get_running_loop().create_future())
        asyncio.get_running_loop().add_reader(ours.fileno(), sandbox._hear)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await sandbox.ready
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    @property
    def pid(self) -> int:
        """Process 1 of the task, as seen from here."""
        return self.process.pid

    def _hear(self) -> None:
        try:
            data = self.control.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(json.loads(data))
        else:
            self._lost("the task's process 1 has ended")

    def _take(self, message: dict[str, Any]) -> None:
        match message.pop("said"):
            case "ready":
                if not self.ready.done():
                    self.ready.set_result(None)
            case "broken":
                self._lost(message["error"])
            case "started":
                self._runs[message["run"]].started.set_result(message["pid"])
            case "failed":
                run = self._runs.pop(message["run"])
                run.started.set_exception(SimulatorError(message["error"]))
                run.started.exception()  # whoever started it gets it, unless stopped meanwhile
            case "exited":
                self._runs.pop(message["run"]).exited.set_result(message["code"])
            case "sample":
                containers = {name: Reading(**each) for name, each in message.pop("containers").items()}
                waiting = self._samples.pop(0)
                if not waiting.done():
                    waiting.set_result(Sample(containers=containers, **message))

    def _lost(self, why: str) -> None:
        """Process 1 is gone, and everything with it."""
        if self.control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.control.fileno())
        error = SimulatorError(why)
        pending: list[asyncio.Future[Any]] = [self.ready, *self._samples]
        for waiting in pending + [run.started for run in self._runs.values()]:
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # whoever waits gets it; nobody waiting is no mistake
        for run in self._runs.values():
            if not run.exited.done():
                run.exited.set_result(KILLED)
        self._runs.clear()
        self._samples.clear()

    def _say(self, descriptors: Sequence[int] = (), **message: object) -> None:
        passed = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        )
        try:
            self.control.sendmsg([json.dumps(message).encode()], passed)
        except OSError as error:
            raise SimulatorError(f"the task's process 1 does not listen any more: {error}") from error

    async def start(
        self, container: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path, output: int
    ) -> Run:
        """Start a process of a container, its output going to the descriptor `output`.

        Raises SimulatorError with the operating system's words when it cannot be started.
        """
        loop = asyncio.get_running_loop()
        run = Run(next(self._numbers), loop.create_future(), loop.create_future())
        self._runs[run.number] = run
        try:
            self._say(
                (output,),
                do="start",
                run=run.number,
                container=container,
                argv=list(argv),
                env=dict(env),
                cwd=str(cwd),
            )
        except SimulatorError:
            del self._runs[run.number]
            raise
        await asyncio.shield(run.started)
        return run

    def signal(self, run: Run, number: int) -> None:
        """Send a signal to the process of a run, not to those it has started."""
        with contextlib.suppress(SimulatorError):
            self._say(do="signal", run=run.number, signal=number)

    def kill(self, container: str) -> None:
        """SIGKILL to every process of a container."""
        with contextlib.suppress(SimulatorError):
            self._say(do="kill", container=container)

    async def sample(self) -> Sample:
        """Figures of all containers now. Raises SimulatorError when the task is gone."""
        waiting: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
        self._say(do="sample")
        self._samples.append(waiting)
        return await waiting

    async def close(self) -> None:
        """End every process of the task, and wait until they and the task's folder are gone."""
        if self.control.fileno() >= 0:
            self._lost("the task has been closed")
            self.control.close()
        if await asyncio.to_thread(self.process.wait) != 0:
            await asyncio.to_thread(_sweep, self.folder)


def _sweep(folder: Path) -> None:
    """Kill what a process 1 that was killed itself has left, where no PID namespace did it: known by its home."""
    home = f"HOME={folder}/".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if home in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def _launch(
    folder: Path, network: TaskNetwork, hostname: str, control: socket.socket
) -> subprocess.Popen[bytes]:
    simulator = os.pidfd_open(os.getpid())
    namespaced = network.namespace is not None
    settings = {
        "control": control.fileno(),
        "simulator": simulator,
        "folder": str(folder),
        "hostname": hostname,
        "namespaced": namespaced,
    }

    def spawn() -> subprocess.Popen[bytes]:
        if network.namespace is not None:
            enter(network.namespace)
            call("unshare", CLONE_NEWPID)
        return subprocess.Popen(  # noqa: S603 (our own script)
            [sys.executable, "-I", "-S", init.__file__, json.dumps(settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(control.fileno(), simulator),
            start_new_session=True,  # Ctrl-C at a terminal is for us; we stop tasks in order
            cwd="/",
            env={},
        )

    try:
        return in_own_thread(spawn) if namespaced else spawn()
    finally:
        os.close(simulator)
