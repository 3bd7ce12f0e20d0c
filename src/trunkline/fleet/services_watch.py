"""What ECS says of services while CloudFormation waits for them.

CloudFormation itself only says that it waits; why tasks do not stay up is told by ECS, and a rollback deletes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.fleet.pace import Place

FIRST_LOOK_S: Final = 2.0
LOOK_EVERY_S: Final = 10.0
_SERVICES_A_CALL: Final = 10  # DescribeServices takes no more
_TASKS_A_CALL: Final = 100  # DescribeTasks takes no more


class ServicesWatch:
    """Looks at the services of a stack now and then, and tells each event and each stopped task once.

    `reasons` are why tasks stopped, as a rollback leaves nothing to look at.
    """

    def __init__(
        self,
        place: Place,
        cluster: str,
        services: Sequence[str],
        on_text: Callable[[str], None],
        *,
        first_look_s: float = FIRST_LOOK_S,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self.reasons: list[str] = []
        self._place = place
        self._cluster = cluster
        self._services = services
        self._on_text = on_text
        self._look_every_s = look_every_s
        self._next_look = time.monotonic() + first_look_s
        self._since = datetime.now(UTC)
        self._seen: set[str] = set()

    def look(self) -> None:
        """Look if it is time. A service that cannot be looked at is no error: it may not exist yet."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._look_every_s
        try:
            self.look_now()
        except (ClientError, BotoCoreError):
            return

    def look_now(self) -> None:
        """Tell what is new. Raises what the SDK raises."""
        ecs = self._place.client("ecs")
        for first in range(0, len(self._services), _SERVICES_A_CALL):
            names = list(self._services[first : first + _SERVICES_A_CALL])
            for service in ecs.describe_services(cluster=self._cluster, services=names)["services"]:
                self._tell_events(service)
                self._tell_stopped(ecs, service["serviceName"])

    def _tell_events(self, service: Mapping[str, Any]) -> None:
        for event in reversed(service.get("events", [])):
            if event["createdAt"] >= self._since and self._is_new(event["id"]):
                self._on_text(event["message"])

    def _tell_stopped(self, ecs: Any, service: str) -> None:
        arns = ecs.list_tasks(cluster=self._cluster, serviceName=service, desiredStatus="STOPPED")["taskArns"]
        fresh = [arn for arn in arns if arn not in self._seen][:_TASKS_A_CALL]
        tasks = ecs.describe_tasks(cluster=self._cluster, tasks=fresh)["tasks"] if fresh else []
        for task in tasks:
            if "stoppedAt" in task and self._is_new(task["taskArn"]) and task["stoppedAt"] >= self._since:
                reason = f"a task of service {service} stopped: {why_stopped(task)}"
                self.reasons.append(reason)
                self._on_text(reason)

    def _is_new(self, name: str) -> bool:
        if name in self._seen:
            return False
        self._seen.add(name)
        return True


def why_stopped(task: Mapping[str, Any]) -> str:
    """ECS's reason for a stopped task, with what it says of each container."""
    said = [str(task.get("stoppedReason") or "no reason given")]
    for container in task.get("containers", []):
        code, reason = container.get("exitCode"), container.get("reason", "")
        ended = "" if code is None else f"exit code {code}"
        if code or reason:
            said.append(f"{container['name']}: {', '.join(part for part in (ended, reason) if part)}")
    return "; ".join(said)


def services_in(template: str) -> tuple[str, ...]:
    """The names of the ECS services that a template declares."""
    resources = json.loads(template)["Resources"].values()
    services = [each["Properties"] for each in resources if each["Type"] == "AWS::ECS::Service"]
    return tuple(each["ServiceName"] for each in services if isinstance(each.get("ServiceName"), str))
