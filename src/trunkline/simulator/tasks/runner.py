"""Services: keeps as many tasks of each as it should have."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import psutil

from trunkline.errors import SimulatorError
from trunkline.simulator.tasks.credentials import IssueSession
from trunkline.simulator.tasks.images import Images
from trunkline.simulator.tasks.logs import LogStream, PutLogs
from trunkline.simulator.tasks.namespaces import Hub
from trunkline.simulator.tasks.state import Health, ServiceSpec, Status, TaskState, deployment_id
from trunkline.simulator.tasks.task import Pull, ReadSecret, Session, Task, World

log = logging.getLogger(__name__)

EVENTS_KEPT: Final = 100
STOPPED_KEPT: Final = 200
"""ECS shows stopped tasks for an hour; here the last of them."""
LONGEST_BACK_OFF_S: Final = 60.0
STABLE_AFTER_S: Final = 60.0
"""A task that has run this long does not count as a failure to start when it exits."""
FAILURES_TO_TELL: Final = 3
BY_USER: Final = "Task stopped by user"
SCALING: Final = "Scaling activity initiated by (deployment {})"


async def pull_anything(image: str, session: Session | None) -> str | None:
    """A registry that has every image."""
    del image, session
    return None


async def keep_nothing(stream: LogStream, lines: Sequence[tuple[int, str]]) -> None:
    """Logs go to their files alone."""
    del stream, lines


async def no_secrets(source: str, session: Session | None) -> str:
    del session
    raise SimulatorError(f"the simulator has no secret {source}")


class Service:
    """One service: its tasks, its events, and the loop that makes the one fit the other."""

    def __init__(self, spec: ServiceSpec, world: World, back_off_s: float) -> None:
        self.spec = spec
        self.tasks: list[Task] = []
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        """Newest first, as `DescribeServices` has them."""
        self.failures = 0
        """Tasks in a row that stopped by themselves soon after their start."""
        self.stopped: deque[TaskState] = deque(maxlen=STOPPED_KEPT)
        self.steady = asyncio.Event()
        self._world = world
        self._back_off_s = back_off_s
        self._not_before = 0.0
        self._zones = itertools.cycle("ab")
        self._lives: set[asyncio.Task[None]] = set()
        self._judged: set[str] = set()
        """Ids of the tasks still winding down that have been counted as stopped."""
        self._woken = asyncio.Event()
        self._loop = asyncio.create_task(self._run(), name=f"service {spec.name}")

    def update(self, spec: ServiceSpec) -> None:
        if spec == self.spec:
            return
        if _deployment(spec) != _deployment(self.spec):
            self.failures, self._not_before = 0, 0.0
        self.spec = spec
        self.steady.clear()
        self.wake()

    def wake(self) -> None:
        self._woken.set()

    async def end(self, reason: str, limit_s: float | None) -> None:
        """Stop every task and wait until nothing of them is left; may be called again with a shorter limit."""
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        already_stopping = [each for each in self.tasks if each.state.desired is Status.STOPPED]
        for task in self._wanted():
            task.stop(reason, "ServiceSchedulerInitiated", limit_s)
        lives = asyncio.gather(*self._lives)
        if limit_s is not None:
            await asyncio.wait([lives], timeout=limit_s)
            for task in already_stopping:
                task.kill()
        await lives

    @property
    def current(self) -> list[Task]:
        """Tasks of the present deployment that are meant to run."""
        return [each for each in self._wanted() if _deployment(each.state.service) == _deployment(self.spec)]

    def _wanted(self) -> list[Task]:
        return [each for each in self.tasks if each.state.desired is Status.RUNNING]

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                delay_s = self._step()
            except Exception:
                log.exception("service %s", self.spec.name)
                delay_s = LONGEST_BACK_OFF_S
            try:
                # Not wait_for: in Python 3.11 it can swallow a cancellation that comes with the event.
                async with asyncio.timeout(delay_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def _step(self) -> float | None:
        """Do what can be done now; seconds until something can be done again, None for when something changes."""
        self._stop_unhealthy()
        for task in self.tasks:
            if task.state.desired is Status.STOPPED:
                self._judge(task)
        delay_s = self._start_missing()
        self._stop_surplus()
        self._tell_steady()
        return delay_s

    def _start_missing(self) -> float | None:
        missing = self.spec.desired_count - len(self.current)
        if missing <= 0:
            return None
        if (wait_s := self._not_before - time.monotonic()) > 0:
            return wait_s
        started = [self._start() for _ in range(missing)]
        ids = " ".join(f"(task {task.state.id})" for task in started)
        self.tell(f"has started {len(started)} tasks: {ids}.")
        self.steady.clear()
        return None

    def _start(self) -> Task:
        task = Task(TaskState(self.spec, self.spec.region + next(self._zones)), self._world, self.wake)
        self.tasks.append(task)
        life = asyncio.create_task(self._live(task), name=f"task {task.state.id}")
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        return task

    async def _live(self, task: Task) -> None:
        try:
            await task.run()
        except Exception:
            log.exception("task %s", task.state.id)
        finally:
            self._judge(task)
            self._judged.discard(task.state.id)
            self.tasks.remove(task)
            self.stopped.append(task.state)
            self.wake()

    def _judge(self, task: Task) -> None:
        """Count what stopped by itself, once, and let the next one wait longer each time."""
        if task.state.id in self._judged:
            return
        self._judged.add(task.state.id)
        if task.unable_to_assume:
            self.tell(f"failed to launch a task with (error {task.unable_to_assume}).")
        state = task.state
        if state.stop_code not in ("TaskFailedToStart", "EssentialContainerExited"):
            return
        ran_s = (time.time_ns() - state.started_ns) / 1e9 if state.started_ns else 0.0
        self.failures = 0 if ran_s >= STABLE_AFTER_S else self.failures + 1
        if self.failures:
            wait_s = min(LONGEST_BACK_OFF_S, self._back_off_s * 2 ** min(self.failures - 1, 30))
            self._not_before = time.monotonic() + wait_s
        if self.failures == FAILURES_TO_TELL:
            self.tell(
                "is unable to consistently start tasks successfully. For more information, see the Troubleshooting "
                "section of the Amazon ECS Developer Guide."
            )

    def _stop_unhealthy(self) -> None:
        for task in self._wanted():
            if task.state.health is Health.UNHEALTHY:
                self.tell(f"(task {task.state.id}) failed container health checks.")
                task.stop("Task failed container health checks", "ServiceSchedulerInitiated")

    def _stop_surplus(self) -> None:
        """More than desired, and tasks of earlier deployments once enough of the present one run."""
        surplus = self.current[self.spec.desired_count :]
        running = [each for each in self.current if each.state.status is Status.RUNNING]
        if len(running) >= self.spec.desired_count:
            surplus += [each for each in self._wanted() if each not in self.current]
        for task in surplus:
            task.stop(SCALING.format(deployment_id(self.spec)), "ServiceSchedulerInitiated")
        if surplus:
            ids = " ".join(f"(task {task.state.id})" for task in surplus)
            self.tell(f"has stopped {len(surplus)} running tasks: {ids}.")

    def _tell_steady(self) -> None:
        states = [each.state.status for each in self.tasks]
        if (
            states.count(Status.RUNNING) == len(states) == self.spec.desired_count
            and not self.steady.is_set()
        ):
            self.steady.set()
            self.tell("has reached a steady state.")

    def tell(self, message: str) -> None:
        event = {"id": str(uuid.uuid4()), "createdAt": round(time.time(), 3)}
        self.events.appendleft(event | {"message": f"(service {self.spec.name}) {message}"})


def _deployment(spec: ServiceSpec) -> tuple[str, str]:
    return spec.task_definition.arn, spec.deployment


class TaskRunner:
    """Runs the tasks of services, in the event loop it is used from.

    `hub` (see `namespaces.open_hub`) stays its opener's to close, after the runner. Everything on disk lies in
    `state_dir`: `tasks/<id>`, which goes with the task, and `logs/`, which stays. `environment` is what the simulator
    adds to every container. The other arguments are documented where their types are.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        state_dir: Path,
        images: Images,
        issue: IssueSession,
        pull: Pull = pull_anything,
        put_logs: PutLogs = keep_nothing,
        secret: ReadSecret = no_secrets,
        environment: Mapping[str, str] | None = None,
        sample_interval_s: float = 5.0,
        back_off_s: float = 1.0,
    ) -> None:
        self._world = World(
            hub=hub,
            state_dir=state_dir.absolute(),
            images=images,
            issue=issue,
            pull=pull,
            put_logs=put_logs,
            secret=secret,
            environment=environment or {},
            sample_interval_s=sample_interval_s,
        )
        self._back_off_s = back_off_s
        self._services: dict[str, Service] = {}
        self._leaving: set[Service] = set()
        self._stopped: deque[TaskState] = deque(maxlen=STOPPED_KEPT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def services(self) -> Mapping[str, ServiceSpec]:
        """By ARN."""
        return {arn: service.spec for arn, service in self._services.items()}

    @property
    def tasks(self) -> list[TaskState]:
        """Every task, those that have stopped lately too; `state.describe` says one as the ECS API does."""
        services = [*self._services.values(), *self._leaving]
        living = [task.state for service in services for task in service.tasks]
        return [*living, *(state for service in services for state in service.stopped), *self._stopped]

    def events(self, service_arn: str) -> list[dict[str, Any]]:
        """Newest first: `id`, `createdAt` (Unix seconds), `message`."""
        return [*self._service(service_arn).events]

    def failed_tasks(self, service_arn: str) -> int:
        """Tasks in a row that stopped by themselves soon after their start; what a circuit breaker counts."""
        return self._service(service_arn).failures

    async def reconcile(self, services: Iterable[ServiceSpec]) -> None:
        """Make these the services there are; returns when those that are not among them are gone."""
        wanted = {each.arn: each for each in services}
        for spec in wanted.values():
            await self.apply(spec)
        await asyncio.gather(*(self.remove(arn) for arn in [*self._services] if arn not in wanted))

    async def apply(self, service: ServiceSpec) -> None:
        """Create or change one service; its tasks follow (`steady` waits for them)."""
        if known := self._services.get(service.arn):
            known.update(service)
        else:
            self._services[service.arn] = Service(service, self._world, self._back_off_s)

    async def remove(self, service_arn: str, *, stop_limit_s: float | None = None) -> None:
        """Stop a service's tasks and forget it; `stop_limit_s` caps their stop timeouts."""
        service = self._services.pop(service_arn, None)
        if service:
            self._leaving.add(service)
            await self._end(service, stop_limit_s)

    async def _end(self, service: Service, stop_limit_s: float | None) -> None:
        await service.end(SCALING.format(deployment_id(service.spec)), stop_limit_s)
        if service in self._leaving:
            self._leaving.remove(service)
            self._stopped.extend(service.stopped)

    async def steady(self, service_arn: str) -> None:
        """Wait until a service has exactly the tasks it should have, all running."""
        await self._service(service_arn).steady.wait()

    async def stop_task(self, task_arn: str, reason: str = BY_USER) -> None:
        """Have one task stopped; its service replaces it. Raises SimulatorError when there is no such task."""
        self._task(task_arn).stop(reason, "UserInitiated")

    async def figures(self, task_arn: str) -> dict[str, dict[str, float]]:
        """Container → `memory_bytes` (proportional set size) and `cpu_seconds` of the processes it has now.

        The children they have waited for are in their CPU time. Straight from the operating system, not by way of the metadata endpoint, which it is there to check.
        """
        task = self._task(task_arn)
        if task.sandbox is None:
            return {}
        markers = {each.docker_id: each.name for each in task.state.containers}
        return await asyncio.to_thread(_figures, task.sandbox.pid, markers)

    def process_id(self, task_arn: str) -> int | None:
        """Process 1 of a task, below which all its others are; None while it has none, or is gone."""
        with contextlib.suppress(SimulatorError):
            if sandbox := self._task(task_arn).sandbox:
                return sandbox.pid
        return None

    async def close(self, stop_limit_s: float | None = None) -> None:
        """Stop everything; nothing but logs is left. `stop_limit_s` caps the containers' stop timeouts."""
        leaving = [*self._leaving]
        await asyncio.gather(
            *(self.remove(arn, stop_limit_s=stop_limit_s) for arn in [*self._services]),
            *(self._end(service, stop_limit_s) for service in leaving),
        )

    def _service(self, arn: str) -> Service:
        try:
            return self._services[arn]
        except KeyError:
            raise SimulatorError(
                f"there is no service {arn}; it runs {', '.join(self._services) or 'none'}"
            ) from None

    def _task(self, arn: str) -> Task:
        for service in (*self._services.values(), *self._leaving):
            for task in service.tasks:
                if task.state.arn == arn:
                    return task
        raise SimulatorError(f"there is no running task {arn}; it has stopped, or never was")


def _figures(init_pid: int, markers: Mapping[str, str]) -> dict[str, dict[str, float]]:
    totals = {name: {"memory_bytes": 0.0, "cpu_seconds": 0.0} for name in markers.values()}
    for process in _children(init_pid):
        try:
            uri = process.environ().get("ECS_CONTAINER_METADATA_URI_V4", "")
            name = markers.get(uri.rpartition("/")[2])
            if name:
                cpu = process.cpu_times()
                totals[name]["memory_bytes"] += process.memory_full_info().pss
                totals[name]["cpu_seconds"] += sum(
                    (cpu.user, cpu.system, cpu.children_user, cpu.children_system)
                )
        except psutil.Error:
            continue  # it has ended since it was listed
    return totals


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
