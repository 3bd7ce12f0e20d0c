"""The life of one container: dependencies, start, health, restarts, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.errors import SimulatorError
from trunkline.simulator.tasks.definition import Condition, Dependency
from trunkline.simulator.tasks.sandbox import Run, Sandbox
from trunkline.simulator.tasks.state import ContainerState, Health, Status

DEPENDENCY_FAILED: Final = (
    "dependency graph: failed to resolve container ordering dependency [{}] for target [{}] as dependency {}"
)
"""The ECS agent's words."""


@dataclass(frozen=True)
class Program:
    """What a container executes, in this computer's terms; `output` is a file descriptor."""

    argv: Sequence[str]
    health_argv: Sequence[str]
    environment: Mapping[str, str]
    working_directory: Path
    output: int


async def first_of(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class Container:
    """One container of a running task. `changed` is called whenever its state is another."""

    def __init__(
        self, state: ContainerState, sandbox: Sandbox, program: Program, changed: Callable[[], None]
    ) -> None:
        self.state = state
        self.started = asyncio.Event()
        self.healthy = asyncio.Event()
        self.finished = asyncio.Event()
        self._sandbox = sandbox
        self._program = program
        self._changed = changed
        self._run: Run | None = None
        self._stopping = False
        self._life: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.state.name

    def begin(self, others: Mapping[str, Container]) -> None:
        self._life = asyncio.create_task(self._live(others), name=f"container {self.name}")
        self._life.add_done_callback(self._finish)

    async def stop(self, limit_s: float | None = None) -> None:
        """SIGTERM, and SIGKILL after the stop timeout (or `limit_s`, if shorter); returns when it has finished."""
        self._stopping = True
        if self._run:
            self._sandbox.signal(self._run, signal.SIGTERM)
        elif self._life and not self.started.is_set():
            self._life.cancel()
        patience_s = self.state.definition.stop_timeout_s
        try:
            async with asyncio.timeout(patience_s if limit_s is None else min(patience_s, limit_s)):
                await self.finished.wait()
        except TimeoutError:
            self._sandbox.kill(self.name)
            await self.finished.wait()

    async def _live(self, others: Mapping[str, Container]) -> None:
        try:
            for dependency in self.state.definition.depends_on:
                await self._wait_for(others[dependency.container], dependency)
            while await self._run_once():
                self.state.restarts += 1
        except SimulatorError as error:
            self.state.reason = str(error)

    def _finish(self, _: object) -> None:
        self.state.status = Status.STOPPED
        self.state.finished_ns = time.time_ns() if self.state.started_ns else 0
        self.finished.set()
        self._changed()

    async def _wait_for(self, other: Container, dependency: Dependency) -> None:
        met = {Condition.START: other.started, Condition.HEALTHY: other.healthy}.get(
            dependency.condition, other.finished
        )
        try:
            async with asyncio.timeout(other.state.definition.start_timeout_s):
                await first_of(met, other.finished)
        except TimeoutError:
            raise SimulatorError(DEPENDENCY_FAILED.format(other.name, self.name, "timed out.")) from None
        failed = dependency.condition is Condition.SUCCESS and other.state.exit_code != 0
        never_started = dependency.condition is Condition.COMPLETE and not other.started.is_set()
        if not met.is_set() or failed or never_started:
            raise SimulatorError(
                DEPENDENCY_FAILED.format(other.name, self.name, "did not exit successfully.")
            )

    async def _run_once(self) -> bool:
        """Run the program until it exits; whether it is to be started again."""
        began = time.monotonic()
        self._run = await self._start()
        self._note_start()
        health = asyncio.create_task(self._watch_health(), name=f"health of {self.name}")
        self.state.exit_code = None
        code = await self._run.wait()
        self._run = None
        health.cancel()
        await asyncio.gather(health, return_exceptions=True)
        self._sandbox.kill(self.name)  # a container ends with its first process
        self.state.exit_code = code
        return not self._stopping and self._restarts_after(code, time.monotonic() - began)

    async def _start(self) -> Run:
        program = self._program
        try:
            return await self._sandbox.start(
                self.name, program.argv, program.environment, program.working_directory, program.output
            )
        except SimulatorError as error:
            raise SimulatorError(
                "CannotStartContainerError: Error response from daemon: failed to create task for container: "
                f"{' '.join(program.argv[:1])}: {error}: unknown"
            ) from error

    def _note_start(self) -> None:
        self.state.started_ns = time.time_ns()
        self.state.status = Status.RUNNING
        self.started.set()
        self._changed()
        if self._stopping and self._run:
            self._sandbox.signal(self._run, signal.SIGTERM)

    def _restarts_after(self, code: int, ran_s: float) -> bool:
        """ECS: never when it ended before it had run for the attempt period."""
        policy = self.state.definition.restart_policy
        return (
            policy is not None
            and policy.enabled
            and code not in policy.ignored_exit_codes
            and ran_s >= policy.attempt_period_s
        )

    async def _watch_health(self) -> None:
        """As Docker does: the first probe one interval after the start; failures in the start period do not count."""
        check = self.state.definition.health_check
        if check is None:
            return
        began = time.monotonic()
        failures = 0
        self._note_health(Health.UNKNOWN)
        while True:
            await asyncio.sleep(check.interval_s)
            if await self._probe(check.timeout_s):
                failures = 0
                self._note_health(Health.HEALTHY)
            elif self.state.health is Health.HEALTHY or time.monotonic() - began >= check.start_period_s:
                failures += 1
                if failures >= check.retries:
                    self._note_health(Health.UNHEALTHY)

    def _note_health(self, health: Health) -> None:
        if health is Health.HEALTHY:
            self.healthy.set()
        if health is not self.state.health or not self.state.health_since_ns:
            self.state.health = health
            self.state.health_since_ns = time.time_ns()
            self._changed()

    async def _probe(self, timeout_s: float) -> bool:
        program = self._program
        silence = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            run = await self._sandbox.start(
                self.name, program.health_argv, program.environment, program.working_directory, silence
            )
        except SimulatorError:
            return False
        finally:
            os.close(silence)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await run.wait() == 0
        self._sandbox.signal(run, signal.SIGKILL)
        return False
