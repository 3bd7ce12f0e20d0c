"""A demo from the first process to the last: deploy, wait for metrics, watch, judge."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol, TypeVar

from trunkline.aws.credentials import CredentialsFactory
from trunkline.aws.workspace import Workspace
from trunkline.errors import SimulatorError, TrunklineError
from trunkline.net.client import Client, ClientFactory
from trunkline.net.resolve import Resolve
from trunkline.simulator.demo import evidence as evidence_of
from trunkline.simulator.demo.checks import Check, check_all
from trunkline.simulator.demo.evidence import Evidence, Row, RunningTask, Used
from trunkline.simulator.demo.refusals import Attempts, Refusal, Target
from trunkline.simulator.demo.screen import Screen
from trunkline.simulator.processes import Usage
from trunkline.simulator.world import World

log = logging.getLogger(__name__)

POLL_S: Final = 0.25
REFRESH_S: Final = 2.0
READ_EVERY_S: Final = 1.0
GIVE_UP_S: Final = 120.0
"""For the first metrics."""
PATIENCE_S: Final = 50.0
"""After the first metrics, so long may what comes with an interval of 15 or 20 s take to come twice."""
AGAIN_S: Final = 25.0
"""After the end, so long may the next sample of everything take to come."""
KEPT_READINGS: Final = 120
CLASHES: Final = ("new-value-for-timestamp", "sample-out-of-order", "sample-too-old")
"""AMP's reasons to refuse a sample whose place is taken or passed."""


class Deployed(Protocol):
    """What a deployed fleet's monitoring account offers."""

    @property
    def workspace_id(self) -> str: ...

    @property
    def central_role_arn(self) -> str: ...

    @property
    def query_role_arn(self) -> str: ...


Deploy = Callable[[World, Callable[[str], None]], Deployed]
"""Creates the fleet in a simulator, telling of its progress; blocking. Raises TrunklineError."""

Place = tuple[str, str]
"""Account and region."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is deployed where; `deploy` does it."""

    monitoring: Place
    workloads: Sequence[Place]
    deploy: Deploy


@dataclass(frozen=True, slots=True)
class Report:
    """How a demo went."""

    accounts: dict[str, dict[str, Any]]
    checks: list[Check]

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)

    def document(self) -> dict[str, Any]:
        """As it is written for machines."""
        return {"accounts": self.accounts, "checks": [asdict(check) for check in self.checks]}


@dataclass
class Figures:
    """What is collected all the time."""

    used: defaultdict[str, list[Used]] = field(default_factory=lambda: defaultdict(list))
    collectors: dict[str, Usage] = field(default_factory=dict)
    """Task id → its collector's process, when it was last read."""
    memory_bytes: int = 0
    peak_bytes: int = 0


class Demo:
    """One demo in a simulator that is up. `started_at` is when its first process was started, epoch seconds."""

    def __init__(self, world: World, plan: Plan, screen: Screen, started_at: float) -> None:
        self.figures = Figures()
        self.first_metrics_s: float | None = None
        self._world = world
        self._plan = plan
        self._screen = screen
        self._started_at = started_at
        self._since_s = time.time()
        self._deployed: Deployed | None = None
        self._workspace: Workspace | None = None
        self._link: Client | None = None
        self._refusals: list[Refusal] = []

    async def run(self, for_s: float | None, hints: Sequence[str] = ()) -> Report | None:
        """Go on for `for_s` seconds after the first metrics and judge; without end (None) until the world stops.

        `hints` are shown when there is something to look at.

        None when the world was told to stop before. Raises TrunklineError when it cannot get that far.
        """
        async with contextlib.AsyncExitStack() as held:
            for watch in (self._read_usage, self._read_memory):
                await held.enter_async_context(_beside(watch()))
            if not await self._unless_stopped(self._get_going(held)):
                return None
            if hints:
                self._screen.note(hints)
            await held.enter_async_context(_beside(self._show()))
            if for_s is None:
                await self._world.stopping.wait()
                return None
            return await self._unless_stopped(self._judge_after(for_s))

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`, or None when the world is told to stop meanwhile."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._world.stopping.wait())
        try:
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for each in (task, stopped):
                each.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _get_going(self, held: contextlib.AsyncExitStack) -> bool:
        say = self._say_from_thread()
        self._deployed = await _in_thread(lambda: self._plan.deploy(self._world, say))
        self._world.query_roles[self._deployed.workspace_id] = self._deployed.query_role_arn
        self._screen.say("the fleet stands; waiting for the first metrics")
        self._workspace = await held.enter_async_context(self._open_workspace())
        await self._wait_for_metrics()
        return True

    def _say_from_thread(self) -> Callable[[str], None]:
        loop = asyncio.get_running_loop()

        def say(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens any more
                loop.call_soon_threadsafe(self._screen.say, text)

        return say

    @contextlib.asynccontextmanager
    async def _open_workspace(self) -> AsyncIterator[Workspace]:
        """The workspace as the monitoring account's query role sees it: real name, TLS, signed."""
        assert self._deployed
        account, region = self._plan.monitoring
        clients = ClientFactory(Resolve.parse(self._world.resolve(region)), self._world.certificates.ca)
        key = self._world.keys[account]
        environment = {
            "AWS_ENDPOINT_URL": self._world.endpoint,
            "AWS_ACCESS_KEY_ID": key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        }
        async with (
            contextlib.aclosing(clients.client()) as link,
            CredentialsFactory(clients, environment) as keys,
        ):
            role = keys.assume_role(self._deployed.query_role_arn, region=region)
            self._link = link
            yield Workspace(link, self._url, region, role)

    @property
    def _url(self) -> str:
        assert self._deployed
        region = self._plan.monitoring[1]
        return f"https://aps-workspaces.{region}.amazonaws.com/workspaces/{self._deployed.workspace_id}"

    async def _wait_for_metrics(self) -> None:
        assert self._workspace
        missing = {account for account, _ in self._plan.workloads}
        while missing:
            for account in sorted(missing & await evidence_of.accounts_seen(self._workspace)):
                missing.discard(account)
                self._screen.say(f"{account}: its first metrics are in the workspace")
            if time.time() - self._started_at > GIVE_UP_S:
                raise SimulatorError(self._no_metrics(missing))
            await asyncio.sleep(POLL_S if missing else 0)
        self._since_s = time.time()
        self.first_metrics_s = self._since_s - self._started_at

    def _no_metrics(self, missing: set[str]) -> str:
        states = ", ".join(
            f"{task.id[:8]} of {task.service.account} {task.status.value} {task.stopped_reason}".strip()
            for task in self._world.runner.tasks
        )
        return (
            f"no metrics of {', '.join(sorted(missing))} after {GIVE_UP_S:g} s; tasks: {states or 'none'}. Run "
            "without --for, and read what the collectors say with: trunkline simulator logs"
        )

    async def _read_usage(self) -> None:
        """What the operating system says of every task, once a second."""
        while True:
            tasks = self._world.living_tasks
            for task, usage in zip(
                tasks, await asyncio.gather(*map(self._world.task_usage, tasks)), strict=True
            ):
                if usage and usage.memory_bytes:
                    readings = self.figures.used[task.id]
                    readings.append(Used(time.time(), usage.memory_bytes, usage.cpu_s))
                    del readings[:-KEPT_READINGS]
                    if usage.collector:
                        self.figures.collectors[task.id] = usage.collector
            await asyncio.sleep(READ_EVERY_S)

    async def _read_memory(self) -> None:
        while True:
            memory = sum(each.memory_bytes for each in await self._world.memory())
            self.figures.memory_bytes = memory
            self.figures.peak_bytes = max(self.figures.peak_bytes, memory)
            await asyncio.sleep(REFRESH_S)

    async def _show(self) -> None:
        while True:
            with contextlib.suppress(TrunklineError):  # a query that fails shows in the age
                self._screen.show(await self._rows(), self._status())
            await asyncio.sleep(REFRESH_S)

    def _status(self) -> str:
        collectors = [each.resident_bytes / 2**20 for each in self.figures.collectors.values()]
        each = f"; a collector {min(collectors):.0f} to {max(collectors):.0f} MiB" if collectors else ""
        return f"the whole demo uses {self.figures.memory_bytes / 2**20:.0f} MiB{each}"

    async def _rows(self) -> list[Row]:
        assert self._workspace
        found = await evidence_of.places(self._workspace, time.time() - self._started_at)
        tasks = self._world.living_tasks
        metrics = await asyncio.gather(*map(self._world.collector_metrics, tasks))
        rows = []
        for spec in self._world.runner.services.values():
            own = [each for task, each in zip(tasks, metrics, strict=True) if task.service.arn == spec.arn]
            figures = found.get((spec.account, spec.region, spec.name), {})
            rows.append(
                Row(
                    account=spec.account,
                    region=spec.region,
                    service=spec.name,
                    tasks=spec.desired_count,
                    up=int(figures.get("up", 0)),
                    series=int(figures.get("series", 0)),
                    per_second=figures.get("per_second", 0.0),
                    age_s=figures.get("age_s"),
                    queue=int(sum(each.get("trunkline_queue_samples", 0) for each in own)),
                    refused=int(sum(each.get("trunkline_refused_samples_total", 0) for each in own)),
                )
            )
        return sorted(rows, key=lambda row: (row.account, row.region, row.service))

    async def _judge_after(self, for_s: float) -> Report:
        await asyncio.sleep(max(0.0, for_s - (time.time() - self._since_s)))
        self._screen.say("trying what must be refused")
        assert self._link
        self._refusals = await Attempts(self._target(), self._link).make()
        told = False
        while True:
            checks = check_all(await self._evidence())
            waited_s = time.time() - self._since_s
            if all(check.ok for check in checks) or waited_s > max(PATIENCE_S, for_s + AGAIN_S):
                return Report(await self._accounts(), checks)
            if not told:
                told = True
                missing = ", ".join(check.name for check in checks if not check.ok)
                self._screen.say(
                    f"checked; what comes every 15 or 20 s may still be missing ({missing}), so again"
                )
            await asyncio.sleep(REFRESH_S)

    def _target(self) -> Target:
        assert self._deployed
        monitoring, region = self._plan.monitoring
        return Target(
            workspace_url=self._url,
            workspace_id=self._deployed.workspace_id,
            region=region,
            monitoring_account=monitoring,
            stranger_account=self._plan.workloads[0][0],
            central_role_arn=self._deployed.central_role_arn,
            query_role_arn=self._deployed.query_role_arn,
            endpoint=self._world.endpoint,
            keys={account: _boto_key(key) for account, key in self._world.keys.items()},
        )

    async def _evidence(self) -> Evidence:
        assert self._workspace
        now_s = time.time()
        return Evidence(
            tasks=await asyncio.to_thread(self._tasks),
            used={task: list(readings) for task, readings in self.figures.used.items()},
            duplicates=await self._duplicates(),
            refusals=self._refusals,
            first_metrics_s=self.first_metrics_s,
            peak_bytes=self.figures.peak_bytes,
            **await evidence_of.stored(self._workspace, self._since_s, now_s),
        )

    def _tasks(self) -> list[RunningTask]:
        import boto3  # noqa: PLC0415 (loaded while the fleet is deployed)

        def client(account: str, region: str, service: str) -> Any:
            create: Any = boto3.Session(region_name=region).client
            return create(service, endpoint_url=self._world.endpoint, **_boto_key(self._world.keys[account]))

        return evidence_of.running_tasks(client, self._plan.workloads)

    async def _duplicates(self) -> int:
        assert self._deployed
        stats = (await self._world.gateway.stats())["workspaces"][self._deployed.workspace_id]
        refused: dict[str, int] = stats["refused"]
        return sum(refused.get(reason, 0) for reason in CLASHES)

    async def _accounts(self) -> dict[str, dict[str, Any]]:
        assert self._workspace
        found = await evidence_of.totals(self._workspace, time.time() - self._started_at)
        nothing = {"tasks": 0, "series": 0, "samples": 0}
        return {
            account: {"region": region, **nothing, **found.get(account, {})}
            for account, region in self._plan.workloads
        }


def _boto_key(key: Any) -> dict[str, str]:
    return {"aws_access_key_id": key.access_key_id, "aws_secret_access_key": key.secret_access_key}


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    task.add_done_callback(_tell_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _tell_failure(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("the demo no longer watches", exc_info=error)


async def _in_thread(work: Callable[[], T]) -> T:
    """Like asyncio.to_thread, in a thread that nobody waits for when the program ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(outcome: Callable[[T], None] | Callable[[BaseException], None], what: Any) -> None:
        if not done.done():
            outcome(what)

    def run() -> None:
        try:
            outcome: tuple[Any, Any] = (done.set_result, work())
        except Exception as problem:  # noqa: BLE001 (raised again where it is waited for)
            outcome = (done.set_exception, problem)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="fleet", daemon=True).start()
    return await done
