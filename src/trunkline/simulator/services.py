"""ECS: the services the emulator holds, made real by the task runner, and the runner's tasks shown by ECS's API.

The front door tells of every service that is created, changed or deleted; besides, what the emulator holds is read
anew every second, so that nothing is missed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

from trunkline.errors import SimulatorError
from trunkline.simulator.frontdoor.calls import Answer, Call
from trunkline.simulator.frontdoor.errors import AwsError
from trunkline.simulator.frontdoor.events import ServiceChange
from trunkline.simulator.frontdoor.server import FrontDoor
from trunkline.simulator.tasks.definition import TaskDefinition
from trunkline.simulator.tasks.runner import BY_USER, TaskRunner
from trunkline.simulator.tasks.state import ServiceSpec, Status, TaskState, describe

log = logging.getLogger(__name__)

Place = tuple[str, str]
"""Account and region."""

_EVERY_S: Final = 1.0
_CHUNK: Final = 10
"""Services that one DescribeServices may name."""


class ServiceKeeper:
    """Keeps the runner's services those of the emulator, wherever a service has ever been seen."""

    def __init__(self, front_door: FrontDoor, runner: TaskRunner) -> None:
        self._front_door = front_door
        self._runner = runner
        self._places: set[Place] = set()
        self._woken = asyncio.Event()
        self._definitions: dict[str, TaskDefinition] = {}
        self._broken: dict[str, str] = {}
        """Service → why it cannot be run, as it was last told."""
        self._removals: set[asyncio.Task[None]] = set()
        front_door.on_service_change(self._noticed)

    async def _noticed(self, change: ServiceChange) -> None:
        self._places.add((change.account, change.region))
        self._woken.set()

    async def run(self) -> None:
        """Follow what changes until cancelled."""
        while True:
            for place in list(self._places):
                try:
                    await self._follow(*place)
                except SimulatorError as error:
                    log.warning("the services of %s in %s cannot be read: %s", *place, error)
                except Exception:
                    log.exception("the services of %s in %s cannot be followed", *place)
            try:
                await asyncio.wait_for(self._woken.wait(), _EVERY_S)
                self._woken.clear()
            except TimeoutError:
                continue

    async def _follow(self, account: str, region: str) -> None:
        found = {spec.arn: spec async for spec in self._read(account, region)}
        for spec in found.values():
            await self._runner.apply(spec)
        for arn, spec in self._runner.services.items():
            if (spec.account, spec.region) == (account, region) and arn not in found:
                self._remove(arn)

    def _remove(self, arn: str) -> None:
        # It takes as long as its tasks take to stop; others are not kept waiting for that.
        removal = asyncio.create_task(self._runner.remove(arn), name=f"end of {arn}")
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    async def _read(self, account: str, region: str) -> AsyncIterator[ServiceSpec]:
        for document in [each async for each in self._documents(account, region)]:
            name = document["serviceArn"]
            try:
                spec = await self._spec(account, region, document)
                self._broken.pop(name, None)
                yield spec
            except (SimulatorError, KeyError, TypeError, ValueError) as error:
                if self._broken.get(name) != str(error):
                    self._broken[name] = str(error)
                    log.warning("service %s cannot be run: %r", name, error)
                if name in self._runner.services:
                    yield self._runner.services[name]

    async def _documents(self, account: str, region: str) -> AsyncIterator[dict[str, Any]]:
        """The active services, as `DescribeServices` has them."""
        clusters = (await self._ask(account, region, "ListClusters"))["clusterArns"]
        for cluster in clusters:
            arns = (await self._ask(account, region, "ListServices", cluster=cluster))["serviceArns"]
            for start in range(0, len(arns), _CHUNK):
                chunk = arns[start : start + _CHUNK]
                found = await self._ask(
                    account, region, "DescribeServices", cluster=cluster, services=chunk, include=["TAGS"]
                )
                for document in found["services"]:
                    if document["status"] == "ACTIVE":
                        yield document

    async def _spec(self, account: str, region: str, document: Mapping[str, Any]) -> ServiceSpec:
        deployments: list[dict[str, Any]] = document["deployments"]
        primary = next((each for each in deployments if each["status"] == "PRIMARY"), {})
        spread = document.get("propagateTags") == "SERVICE"
        return ServiceSpec(
            account=account,
            region=region,
            cluster=document["clusterArn"].rpartition("/")[2],
            name=document["serviceName"],
            desired_count=document["desiredCount"],
            task_definition=await self._definition(account, region, document["taskDefinition"]),
            deployment=primary.get("id", ""),
            tags=tuple((tag["key"], tag["value"]) for tag in document.get("tags", ())) if spread else (),
        )

    async def _definition(self, account: str, region: str, arn: str) -> TaskDefinition:
        """A revision never changes, so it is read once."""
        if arn not in self._definitions:
            found = await self._ask(account, region, "DescribeTaskDefinition", taskDefinition=arn)
            self._definitions[arn] = TaskDefinition.from_api(found["taskDefinition"])
        return self._definitions[arn]

    async def _ask(self, account: str, region: str, operation: str, **parameters: Any) -> dict[str, Any]:
        return await self._front_door.ask(account, region, "ecs", operation, **parameters)


class TasksApi:
    """The operations of ECS that are about tasks, answered from the runner; a handler of the front door."""

    def __init__(self, front_door: FrontDoor, runner: TaskRunner) -> None:
        self._front_door = front_door
        self._runner = runner

    async def handle(self, call: Call) -> Answer | None:
        """Answer `call`, or None for what the emulator answers; raises AwsError."""
        match call.operation:
            case "ListTasks":
                return _json(self._list(call))
            case "DescribeTasks":
                return _json(self._describe(call))
            case "StopTask":
                return _json(await self._stop(call))
            case "RunTask" | "StartTask":
                raise AwsError(
                    "UnsupportedFeatureException",
                    "The simulator runs tasks of services only; create a service.",
                )
            case "DescribeServices":
                return await self._amended(call, "services", self._amend_service)
            case "DescribeClusters":
                return await self._amended(call, "clusters", self._amend_cluster)
        return None

    def _tasks(self, call: Call) -> Iterator[TaskState]:
        cluster = str(call.parameters.get("cluster") or "default").rpartition("/")[2]
        for task in self._runner.tasks:
            service = task.service
            if (service.account, service.region, service.cluster) == (call.account, call.region, cluster):
                yield task

    def _list(self, call: Call) -> dict[str, Any]:
        asked = call.parameters
        wanted = str(asked.get("desiredStatus") or "RUNNING")
        service = str(asked.get("serviceName") or "").rpartition("/")[2]
        family = str(asked.get("family") or "")
        return {
            "taskArns": [
                task.arn
                for task in self._tasks(call)
                if task.desired.value == wanted
                and service in {"", task.service.name}
                and family in {"", task.definition.family}
            ]
        }

    def _describe(self, call: Call) -> dict[str, Any]:
        known = {task.id: task for task in self._tasks(call)}
        asked = {str(name): str(name).rpartition("/")[2] for name in call.parameters.get("tasks", ())}
        return {
            "tasks": [describe(known[task]) for task in asked.values() if task in known],
            "failures": [
                {"arn": name, "reason": "MISSING"} for name, task in asked.items() if task not in known
            ],
        }

    async def _stop(self, call: Call) -> dict[str, Any]:
        wanted = str(call.parameters.get("task", "")).rpartition("/")[2]
        for task in self._tasks(call):
            if task.id == wanted:
                if task.desired is not Status.STOPPED:
                    await self._runner.stop_task(task.arn, str(call.parameters.get("reason") or BY_USER))
                return {"task": describe(task)}
        raise AwsError("InvalidParameterException", "The referenced task was not found.")

    async def _amended(self, call: Call, key: str, amend: Callable[[dict[str, Any]], None]) -> Answer:
        answer = await self._front_door.forward(call)
        if answer.status != 200:
            return answer
        document = json.loads(answer.body)
        for each in document.get(key, ()):
            amend(each)
        return Answer(answer.status, json.dumps(document).encode(), answer.headers)

    def _amend_service(self, document: dict[str, Any]) -> None:
        arn = document["serviceArn"]
        spec = self._runner.services.get(arn)
        counts = _counts(task for task in self._runner.tasks if task.service.arn == arn)
        document.update(counts)
        if spec is None:
            return
        document["events"] = self._runner.events(arn)
        current = _counts(
            task
            for task in self._runner.tasks
            if task.service.arn == arn and task.service.deployment == spec.deployment
        )
        done = current == {"runningCount": spec.desired_count, "pendingCount": 0}
        for deployment in document.get("deployments", ()):
            if deployment["id"] == spec.deployment:
                deployment.update(current, failedTasks=self._runner.failed_tasks(arn))
                deployment["rolloutState"] = "COMPLETED" if done else "IN_PROGRESS"
                deployment["rolloutStateReason"] = (
                    f"ECS deployment {spec.deployment} {'completed' if done else 'in progress'}."
                )
        if done:  # what came before the present deployment has ended
            document["deployments"] = [
                each for each in document["deployments"] if each["id"] == spec.deployment
            ]

    def _amend_cluster(self, document: dict[str, Any]) -> None:
        arn = document["clusterArn"]
        counts = _counts(task for task in self._runner.tasks if task.service.cluster_arn == arn)
        document["runningTasksCount"] = counts["runningCount"]
        document["pendingTasksCount"] = counts["pendingCount"]


def _counts(tasks: Iterator[TaskState]) -> dict[str, int]:
    states = [task.status for task in tasks if task.desired is Status.RUNNING]
    running = states.count(Status.RUNNING)
    return {"runningCount": running, "pendingCount": len(states) - running}


def _json(document: Mapping[str, Any]) -> Answer:
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/x-amz-json-1.1"})
