"""The whole simulator under one supervisor: accounts, emulator, front door, workspace gateway, tasks.

    accounts.json      the administrator's key of every account
    credentials        the same as a file of AWS's shared credentials, a profile for each account
    ca.pem             whom to trust for the real names of AWS
    control.sock       what `control.py` asks
    logs/              what tasks print, by account, region, group and stream
    *.log              what the simulator's own processes print

Everything lies in the state folder and goes with it. Whatever happens to this process, nothing of the simulator
outlives it: its children die with it, tasks watch it, and a watchdog removes the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from trunkline.errors import SimulatorError
from trunkline.simulator import processes
from trunkline.simulator.agent import Agent
from trunkline.simulator.certificates import REGIONS, create_certificates
from trunkline.simulator.control import SOCKET, ControlServer
from trunkline.simulator.emulator import Emulator
from trunkline.simulator.folder import StateFolder
from trunkline.simulator.frontdoor.calls import Answer, Call
from trunkline.simulator.frontdoor.faults import Fault as FrontDoorFault
from trunkline.simulator.frontdoor.server import FrontDoor, Listener
from trunkline.simulator.frontdoor.sessions import AccessKey
from trunkline.simulator.gateway.control import WorkspaceApi
from trunkline.simulator.gateway.process import Gateway
from trunkline.simulator.gateway.settings import Fault as GatewayFault
from trunkline.simulator.processes import TaskUsage
from trunkline.simulator.services import ServiceKeeper, TasksApi
from trunkline.simulator.tasks.logs import LogStream
from trunkline.simulator.tasks.namespaces import Hub, Mode, open_hub
from trunkline.simulator.tasks.runner import TaskRunner
from trunkline.simulator.tasks.state import Status, TaskState

log = logging.getLogger(__name__)

ACCOUNTS: Final = ("111111111111", "222222222222", "333333333333")
"""The accounts there are unless others are named."""

KEYS: Final = "accounts.json"
PROFILES: Final = "credentials"

_GATEWAY_PORT: Final = 8443
_STOP_LIMIT_S: Final = 5.0
"""How long tasks get to end with the simulator."""
_FOLLOW_EVERY_S: Final = 0.5


class World:
    """A running simulator while it is entered; `folder` is closed at the end.

    Enter it in the main thread, which child processes are tied to.
    """

    def __init__(
        self, folder: StateFolder, accounts: Sequence[str] = ACCOUNTS, *, mode: Mode = "auto", port: int = 0
    ) -> None:
        self.folder = folder
        self.state_dir = folder.path
        self.accounts = tuple(accounts)
        self.keys: dict[str, AccessKey] = {}
        self.query_roles: dict[str, str] = {}
        """Workspace id → a role that may query it, where one is known."""
        self.stopping = asyncio.Event()
        """Set when somebody wants the simulator to end; whoever has entered it has to leave."""
        self.started_at = time.time()
        self._mode = mode
        self._port = port
        self._held = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._held.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._held.aclose()

    async def _start(self) -> None:
        self._held.callback(self.folder.close)
        self.certificates = create_certificates(self.state_dir)
        self.hub: Hub = open_hub(self._mode)
        self._held.callback(self.hub.close)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.certificates.server, self.certificates.server_key)
        door, workspaces = self.hub.listen(443), self.hub.listen(_GATEWAY_PORT)
        environment = _task_environment(door.getsockname(), workspaces.getsockname(), self.certificates.ca)
        self.emulator = Emulator(self.state_dir)
        self.gateway = Gateway(
            self.state_dir, self.certificates.server, self.certificates.server_key, [workspaces]
        )
        self.workspace_api = WorkspaceApi(self.gateway, self.state_dir)
        self.front_door = FrontDoor(
            self.state_dir,
            self.emulator.socket,
            handlers={"aps": self._answer_aps},
            listeners=[Listener(door, tls)],
            port=self._port,
        )
        self._add_accounts()
        await self._start_servers()
        await self._start_tasks(environment)
        control = ControlServer(self.state_dir / SOCKET, self._operations())
        await self._held.enter_async_context(control)

    async def _start_servers(self) -> None:
        """Side by side: most of it is waiting for interpreters to import."""
        for stop in (self.emulator.stop, self.gateway.stop, self.front_door.stop, self.workspace_api.close):
            self._held.push_async_callback(stop)
        starting = (self.emulator.start(), self.gateway.start(), self.front_door.start())
        results = await asyncio.gather(*starting, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _start_tasks(self, environment: Mapping[str, str]) -> None:
        agent = Agent(self.front_door)
        self._held.push_async_callback(agent.close)
        self.runner = agent.runner = TaskRunner(
            hub=self.hub,
            state_dir=self.state_dir,
            images=agent.images,
            issue=agent.issue,
            pull=agent.pull,
            put_logs=agent.put_logs,
            environment=environment,
        )
        self._held.push_async_callback(self.runner.close, _STOP_LIMIT_S)
        self.front_door.handlers["ecs"] = TasksApi(self.front_door, self.runner).handle
        keeper = asyncio.create_task(ServiceKeeper(self.front_door, self.runner).run(), name="services")
        self._held.push_async_callback(_cancelled, keeper)

    def _add_accounts(self) -> None:
        self.keys = {account: self.front_door.add_account(account) for account in self.accounts}
        documents = {account: asdict(key) for account, key in self.keys.items()}
        _write(self.state_dir / KEYS, json.dumps(documents, indent=2))
        _write(self.state_dir / PROFILES, "".join(_profile(*item) for item in documents.items()))

    async def _answer_aps(self, call: Call) -> Answer:
        received = call.received
        status, headers, body = await self.workspace_api.handle(
            call.account, call.region, received.method, received.raw_path, received.raw_query, received.body
        )
        return Answer(status, body, headers)

    @property
    def endpoint(self) -> str:
        """`AWS_ENDPOINT_URL`."""
        return self.front_door.url

    def resolve(self, region: str) -> str:
        """The rule that leads AMP's real name in `region` to the gateway, from this computer."""
        return f"aps-workspaces.{region}.amazonaws.com:443=127.0.0.1:{self.gateway.tls_port}"

    async def workspaces(self) -> list[dict[str, Any]]:
        """Every workspace, with all that is needed to query it."""
        found = (await self.gateway.stats())["workspaces"]
        return [self._workspace(name, each) for name, each in found.items()]

    def _workspace(self, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
        region, account = found["region"], found["account"]
        return {
            "id": name,
            "account": account,
            "region": region,
            "url": f"https://aps-workspaces.{region}.amazonaws.com/workspaces/{name}",
            "key": asdict(self.keys[account]),
            "query_role": self.query_roles.get(name, ""),
            "aws_endpoint": self.endpoint,
            "resolve": self.resolve(region),
            "ca_bundle": str(self.certificates.ca),
        }

    async def collector_metrics(self, task: TaskState) -> dict[str, float]:
        """The task's collector's own metrics, each summed over its labels; empty while it does not answer."""
        pid = self.runner.process_id(task.arn)
        text = await processes.collector_metrics(pid) if pid else ""
        return processes.parse_metrics(text)

    async def task_usage(self, task: TaskState) -> TaskUsage | None:
        """What the operating system says of the task's processes; None while it has none."""
        pid = self.runner.process_id(task.arn)
        return await asyncio.to_thread(processes.task_usage, pid) if pid else None

    @property
    def living_tasks(self) -> list[TaskState]:
        return [task for task in self.runner.tasks if task.status is not Status.STOPPED]

    async def memory(self) -> list[processes.Usage]:
        """This process and everything below it, and the watchdog."""
        return await asyncio.to_thread(processes.tree, os.getpid())

    def _operations(self) -> dict[str, Any]:
        return {
            "status": self._say_status,
            "workspaces": self._say_workspaces,
            "logs": self._say_logs,
            "faults": self._say_faults,
            "add_gateway_fault": self._add_gateway_fault,
            "add_front_door_fault": self._add_front_door_fault,
            "clear_faults": self._clear_faults,
            "stop_task": self._stop_task,
            "down": self._down,
        }

    async def _say_workspaces(self) -> AsyncIterator[Any]:
        yield await self.workspaces()

    async def _say_status(self) -> AsyncIterator[Any]:
        stats, memory = await asyncio.gather(self.gateway.stats(), self.memory())
        yield {
            "pid": os.getpid(),
            "state_dir": str(self.state_dir),
            "endpoint": self.endpoint,
            "tasks_in": self.hub.mode,
            "started_at": datetime.fromtimestamp(self.started_at, UTC).isoformat(timespec="seconds"),
            "accounts": list(self.accounts),
            "workspaces": stats["workspaces"],
            "services": list(self._services()),
            "tasks": await asyncio.gather(*map(self._task, self.living_tasks)),
            "memory_bytes": sum(each.memory_bytes for each in memory),
        }

    def _services(self) -> Iterator[dict[str, Any]]:
        for arn, spec in self.runner.services.items():
            states = [task.status for task in self.living_tasks if task.service.arn == arn]
            events = self.runner.events(arn)
            yield {
                "account": spec.account,
                "region": spec.region,
                "cluster": spec.cluster,
                "service": spec.name,
                "desired": spec.desired_count,
                "running": states.count(Status.RUNNING),
                "pending": sum(state in {Status.PROVISIONING, Status.PENDING} for state in states),
                "last_event": events[0]["message"] if events else "",
            }

    async def _task(self, task: TaskState) -> dict[str, Any]:
        usage, metrics = await asyncio.gather(self.task_usage(task), self.collector_metrics(task))
        return {
            "account": task.service.account,
            "region": task.service.region,
            "service": task.service.name,
            "id": task.id,
            "status": task.status.value,
            "health": task.health.value,
            "memory_bytes": usage.memory_bytes if usage else 0,
            "cpu_seconds": round(usage.cpu_s, 2) if usage else 0.0,
            "queue": int(metrics.get("trunkline_queue_samples", 0)),
            "refused": int(metrics.get("trunkline_refused_samples_total", 0)),
        }

    async def _say_logs(
        self,
        account: str = "",
        service: str = "",
        container: str = "",
        lines: int = 0,
        *,
        follow: bool = False,
    ) -> AsyncIterator[Any]:
        reader = _LogReader(self.runner, self.state_dir / "logs", account, service, container)
        printed = reader.news()
        for line in printed[-lines:] if lines else printed:
            yield line
        while follow:
            await asyncio.sleep(_FOLLOW_EVERY_S)
            for line in reader.news():
                yield line

    async def _say_faults(self) -> AsyncIterator[Any]:
        yield await self.gateway.faults()

    async def _add_gateway_fault(self, **fault: Any) -> AsyncIterator[Any]:
        yield await self.gateway.add_fault(GatewayFault.decode(fault))

    async def _add_front_door_fault(self, **fault: Any) -> AsyncIterator[Any]:
        self.front_door.faults.add(FrontDoorFault(**fault))
        yield None

    async def _clear_faults(self) -> AsyncIterator[Any]:
        self.front_door.faults.clear()
        await self.gateway.clear_faults()
        yield None

    async def _stop_task(self, task: str) -> AsyncIterator[Any]:
        found = [each for each in self.living_tasks if each.id.startswith(task)]
        if len(found) != 1:
            raise SimulatorError(f"there are {len(found)} tasks whose id begins with {task!r}")
        await self.runner.stop_task(found[0].arn)
        yield found[0].arn

    async def _down(self) -> AsyncIterator[Any]:
        self.stopping.set()
        yield os.getpid()


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _profile(account: str, key: Mapping[str, str]) -> str:
    return "\n".join([f"[{account}]", *(f"aws_{name} = {value}" for name, value in key.items()), "", ""])


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _task_environment(door: Any, workspaces: Any, ca: Path) -> dict[str, str]:
    """How AWS's real names lead tasks to the simulator: AMP's data plane to the gateway, all else to the front door."""
    gateway = f"{workspaces[0]}:{workspaces[1]}"
    rules = [f"aps-workspaces.{region}.amazonaws.com:443={gateway}" for region in REGIONS]
    rules.append(f"*:443={door[0]}:{door[1]}")
    return {"AWS_CA_BUNDLE": str(ca), "TRUNKLINE_RESOLVE": ",".join(rules)}


class _LogReader:
    """Reads on in the log files of the tasks that are asked for."""

    def __init__(self, runner: TaskRunner, folder: Path, account: str, service: str, container: str) -> None:
        self._runner = runner
        self._folder = folder
        self._wanted = (account, service, container)
        self._positions: dict[Path, int] = {}

    def news(self) -> list[dict[str, str]]:
        """What has been printed since, in the order of its time."""
        lines = [line for path, whose in self._files() for line in self._read(path, whose)]
        return sorted(lines, key=lambda line: line["time"])

    def _files(self) -> Iterator[tuple[Path, dict[str, str]]]:
        account, service, container = self._wanted
        for task in self._runner.tasks:
            spec = task.service
            if account not in {"", spec.account} or service not in {"", spec.name}:
                continue
            for each in task.containers:
                options = each.definition.log_options
                if each.log_stream and container in {"", each.name}:
                    region = options.get("awslogs-region", spec.region)
                    stream = LogStream(spec.account, region, options["awslogs-group"], each.log_stream)
                    whose = {
                        "account": spec.account,
                        "service": spec.name,
                        "task": task.id,
                        "container": each.name,
                    }
                    yield stream.file(self._folder), whose

    def _read(self, path: Path, whose: Mapping[str, str]) -> Iterator[dict[str, str]]:
        with contextlib.suppress(OSError), path.open(encoding="utf-8") as file:
            if path.stat().st_size < self._positions.get(path, 0):  # begun anew
                self._positions[path] = 0
            file.seek(self._positions.get(path, 0))
            for line in file.read().splitlines():
                moment, _, text = line.partition(" ")
                yield {"time": moment, **whose, "text": text}
            self._positions[path] = file.tell()
