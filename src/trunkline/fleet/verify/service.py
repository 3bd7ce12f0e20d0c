"""The links of one service in one region: is it there, does it run, does its collector, is anything stored."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Final, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.fleet.metrics import Arrived, Place
from trunkline.fleet.model import Fleet, Service
from trunkline.fleet.templates import COLLECTOR_CONTAINER
from trunkline.fleet.verify.links import DEPLOY, Judge
from trunkline.fleet.verify.logs import complaints, last_words, streams_of

MAX_AGE_S: Final = 120.0
"""A newest sample older than this is not what an interval of 15 to 60 s explains."""

_LINES: Final = 3
_LINE_CHARACTERS: Final = 400


class Walk(Protocol):
    """What the walk through the whole fleet has for each service."""

    fleet: Fleet
    workspace: Mapping[str, Any]
    arrived: dict[Place, Arrived] | str

    def link(
        self, name: str, account_id: str, region: str = "", service: str = ""
    ) -> AbstractContextManager[Judge]: ...

    def client(self, account_id: str, region: str, service: str) -> Any: ...

    def task_role(self, account_id: str, service: Service) -> str: ...


class ServiceWalk:
    """The links of one service in one region."""

    def __init__(self, walk: Walk, place: Place, service: Service) -> None:
        self._walk = walk
        self._place = place
        self._service = service
        self._cluster = walk.fleet.names.cluster
        self._container: Mapping[str, Any] = {}

    def running(self, found: Mapping[str, Any] | None) -> None:
        """From the service, as ECS describes it, to its collectors."""
        if self._check_service(found):
            assert found
            self._check_definition(found)
            self._check_collector(self._check_tasks(found))

    @cached_property
    def _ecs(self) -> Any:
        return self._walk.client(*self._place[:2], "ecs")

    def _link(self, name: str) -> AbstractContextManager[Judge]:
        return self._walk.link(name, *self._place)

    def _check_service(self, found: Mapping[str, Any] | None) -> bool:
        with self._link("service") as judge:
            if not found or found["status"] != "ACTIVE":
                why = f"cluster {self._cluster} has no service {self._service.name} in {self._place[1]}"
                judge.broken("it is not there", why, DEPLOY)
            elif found["desiredCount"] == 0 and self._service.desired_count:
                why = f"its desired count is 0, and the fleet's file says {self._service.desired_count}"
                judge.broken("it has been scaled to nothing", why, DEPLOY)
            else:
                judge.ok(f"{found['desiredCount']} tasks are wanted")
        return judge.link.state == "ok"

    def _check_definition(self, found: Mapping[str, Any]) -> None:
        workspace = self._walk.workspace
        with self._link("task definition") as judge:
            arn = found["taskDefinition"]
            definition = self._ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
            containers = {each["name"]: each for each in definition["containerDefinitions"]}
            self._container = containers.get(COLLECTOR_CONTAINER, {})
            environment = {each["name"]: each["value"] for each in self._container.get("environment", ())}
            role = self._walk.task_role(self._place[0], self._service)
            led_to = environment.get("WORKSPACE_ID", "")
            if not self._container:
                judge.broken(
                    "there is no collector in it", f"{arn} has no container {COLLECTOR_CONTAINER}", DEPLOY
                )
            elif definition.get("taskRoleArn") != role:
                why = f"its task role is {definition.get('taskRoleArn') or 'none'}, and {role} is trusted"
                judge.broken("its tasks are of another role", why, DEPLOY)
            elif led_to and workspace and led_to != workspace["workspaceId"]:
                why = f"the collector writes to {led_to}, and the workspace is {workspace['workspaceId']}"
                judge.broken("it leads to another workspace", why, DEPLOY)
            else:
                judge.ok(arn.rpartition("/")[2])

    def _check_tasks(self, found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        tasks: list[Mapping[str, Any]] = []
        with self._link("tasks") as judge:
            tasks = self._tasks("RUNNING")
            running, wanted = found["runningCount"], found["desiredCount"]
            if running >= wanted:
                judge.ok(f"{running} of {wanted} are running")
            else:
                why = (
                    "; ".join([*_reasons(self._tasks("STOPPED")), *_last_event(found)])
                    or "ECS gives no reason"
                )
                judge.broken(f"{running} of {wanted} are running", why, "repair what the reason names")
        return tasks

    def _tasks(self, desired: str) -> list[Mapping[str, Any]]:
        arns = self._ecs.list_tasks(
            cluster=self._cluster, serviceName=self._service.name, desiredStatus=desired
        )["taskArns"]
        return (
            list(self._ecs.describe_tasks(cluster=self._cluster, tasks=arns[:100])["tasks"]) if arns else []
        )

    def _check_collector(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        if not tasks or not self._container:
            return
        with self._link("collector") as judge:
            sick = [
                (task, each)
                for task in tasks
                for each in task["containers"]
                if each["name"] == COLLECTOR_CONTAINER and _is_sick(each)
            ]
            if not sick:
                judge.ok(f"it runs in {len(tasks)} task{'' if len(tasks) == 1 else 's'}")
                return
            states = "; ".join(_state(task, each) for task, each in sick)
            judge.broken(
                f"it is not well in {len(sick)} of {len(tasks)} tasks",
                _and(states, self._said(ended=True)),
                self._see_log(),
            )

    def metrics(self) -> None:
        """What of it is in the workspace."""
        known = self._walk.arrived
        with self._link("metrics") as judge:
            if isinstance(known, str):
                judge.not_checked(known)
                return
            own = known[self._place]
            age_s = None if own.newest_s is None else time.time() - own.newest_s
            if not self._service.desired_count:
                judge.ok("none are expected of a service without tasks")
            elif age_s is None:
                judge.broken("there are none in the workspace", self._said(), self._see_log())
            elif age_s > MAX_AGE_S:
                judge.broken(f"the newest sample is {age_s:.0f} s old", self._said(), self._see_log())
            else:
                judge.ok(f"of {own.targets} targets, the newest sample {age_s:.0f} s old")
        if known[self._place].down:
            with self._link("application") as judge:
                down = ", ".join(sorted(known[self._place].down))
                why = f"the collector cannot scrape {down} (up is 0)"
                judge.broken(
                    "it is not scraped", _and(why, self._said()), "let it answer there, or correct the target"
                )

    def _see_log(self) -> str:
        """Where to read on; where the chain is broken further up, that is what to repair first."""
        group = self._container.get("logConfiguration", {}).get("options", {}).get("awslogs-group", "")
        if not group:
            return "see the collector's log"
        return f"see the collector's log: aws logs tail {group} --since 1h --region {self._place[1]}"

    def _said(self, *, ended: bool = False) -> str:
        """What the collectors complained of, or said last when they have `ended`; empty when they said nothing."""
        options = self._container.get("logConfiguration", {}).get("options", {})
        if "awslogs-group" not in options:
            return ""
        try:
            logs = self._walk.client(*self._place[:2], "logs")
            tasks = self._tasks("RUNNING") + self._tasks("STOPPED")
            streams = streams_of(options, [task["taskArn"].rpartition("/")[2] for task in tasks])
            read = last_words if ended else complaints
            lines = [line.strip() for line in read(logs, options["awslogs-group"], streams)]
        except (ClientError, BotoCoreError) as error:
            return f"its log cannot be read: {error}"
        last = list(dict.fromkeys(lines))[-_LINES:]
        return "its log says: " + " | ".join(line[:_LINE_CHARACTERS] for line in last) if last else ""


def _is_sick(container: Mapping[str, Any]) -> bool:
    return container.get("lastStatus") == "STOPPED" or container.get("healthStatus") == "UNHEALTHY"


def _state(task: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    exit_code = f" with exit code {container['exitCode']}" if container.get("exitCode") is not None else ""
    reason = f" ({container['reason']})" if container.get("reason") else ""
    state = f"stopped{exit_code}{reason}" if container.get("lastStatus") == "STOPPED" else "UNHEALTHY"
    return f"task {task['taskArn'].rpartition('/')[2][:8]}: {state}"


def _reasons(stopped: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why tasks stopped, each reason once, with the containers that ended badly."""
    reasons = []
    for task in stopped:
        ended = [
            f"{each['name']} ended with {each['exitCode']}"
            for each in task["containers"]
            if each.get("exitCode") not in {None, 0}
        ]
        reasons.append(" ".join([task.get("stoppedReason", ""), *ended]).strip())
    return [f"a task stopped: {reason}" for reason in dict.fromkeys(reasons) if reason][:_LINES]


def _last_event(found: Mapping[str, Any]) -> list[str]:
    return [each["message"] for each in found.get("events", ())[:1]]


def _and(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
