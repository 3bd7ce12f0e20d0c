"""ECS parameters, the file that `ecs-cli compose` reads beside a compose file (ecs-params.yml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from trunkline.collector.config.nodes import Node, Place
from trunkline.fleet.model import Names, Network
from trunkline.fleet.services.foreign import Asked, Foreign

_TASK: Final = (
    "ecs_network_mode",
    "task_role_arn",
    "task_execution_role",
    "task_size",
    "services",
)
_TASK_REFUSED: Final = {
    "docker_volumes": "the tasks run on Fargate; take it out",
    "efs_volumes": "give the service as a task definition that has the volume: task_definition: file.json",
    "placement_constraints": "the tasks run on Fargate, which places them; take it out",
    "pid_mode": "give the service as a task definition: task_definition: file.json",
    "ipc_mode": "Fargate has none; take it out",
}
_RUN_REFUSED: Final = {
    "task_placement": "the tasks run on Fargate, which places them; take it out",
    "service_discovery": "take it out, and register the service with what you use for discovery",
}
_SERVICE: Final = (
    *("essential", "cpu_shares", "mem_limit", "mem_reservation", "healthcheck", "secrets", "depends_on"),
)
_SERVICE_REFUSED: Final = {
    "repository_credentials": "use images that the execution role may pull, in ECR or public",
    "init_process_enabled": "give the service as a task definition: task_definition: file.json",
    "firelens_configuration": "logs go to CloudWatch; take it out",
    "logging": "logs go to CloudWatch; take it out",
    "gpu": "Fargate has none; take it out",
}


@dataclass(slots=True)
class EcsParams:
    """What the file says; `containers` are changes of containers by the compose service's name."""

    cpu_units: int | None = None
    memory_mib: int | None = None
    network: Network | None = None
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)


def read_ecs_params(path: Path, asked: Asked, names: Names, foreign: Foreign) -> EcsParams:
    """The parameters in a file; what cannot be taken becomes problems in `foreign`."""
    root = foreign.document(path, asked)
    reading = _Reading(names, foreign)
    if root is not None:
        reading.root(root)
    return reading.found


class _Reading:
    def __init__(self, names: Names, foreign: Foreign) -> None:
        self.found = EcsParams()
        self._names = names
        self._foreign = foreign

    def root(self, root: Node) -> None:
        for key, node in self._foreign.entries(root, "", ("version", "task_definition", "run_params")):
            if key == "task_definition":
                self._task_definition(node)
            elif key == "run_params":
                self._run_params(node)
            elif self._foreign.text(node, key) != "1":
                self._foreign.problem(
                    node.place, key, f"{node.text!r} is no version of it", "write version: 1"
                )

    def _task_definition(self, task: Node) -> None:
        foreign = self._foreign
        for key, node in foreign.entries(task, "task_definition", _TASK, _TASK_REFUSED):
            path = f"task_definition::{key}"
            if key == "ecs_network_mode" and foreign.text(node, path) != "awsvpc":
                foreign.problem(
                    node.place, path, f"{node.text!r} is not for Fargate", "write ecs_network_mode: awsvpc"
                )
            elif key == "task_role_arn":
                self._role(node, path, "task_role")
            elif key == "task_execution_role":
                self._role(node, path, "execution_role")
            elif key == "task_size":
                self._size(node, path)
            elif key == "services":
                self._services(node, path)

    def _role(self, node: Node, path: str, name: str) -> None:
        """The fleet makes the roles: a role of another name would be in nobody's trust."""
        given = self._foreign.text(node, path).rpartition("/")[2]
        ours = getattr(self._names, name)
        if given != ours:
            self._foreign.problem(
                node.place,
                path,
                f"the fleet's role is {ours}, not {given}",
                f"write names: {{{name}: {given}}} in the fleet's file, or take this key out",
            )

    def _size(self, size: Node, path: str) -> None:
        for key, node in self._foreign.entries(size, path, ("cpu_limit", "mem_limit")):
            below = f"{path}::{key}"
            if key == "cpu_limit":
                self.found.cpu_units = self._foreign.count(node, below)
            else:
                self.found.memory_mib = self._foreign.mebibytes(node, below, bare="m")

    def _services(self, services: Node, path: str) -> None:
        self.found.places = services.keys
        for name, service in self._foreign.pairs(services, path):
            self.found.containers[name] = self._service(service, f"{path}::{name}")

    def _service(self, service: Node, path: str) -> dict[str, Any]:
        foreign, changes = self._foreign, dict[str, Any]()
        for key, node in foreign.entries(service, path, _SERVICE, _SERVICE_REFUSED):
            below = f"{path}::{key}"
            if key == "essential":
                changes["essential"] = foreign.truth(node, below)
            elif key == "cpu_shares":
                changes["cpu_units"] = foreign.count(node, below)
            elif key == "mem_limit":
                changes["memory_mib"] = foreign.mebibytes(node, below)
            elif key == "mem_reservation":
                foreign.note(node.place, below, "has no effect", "on Fargate the task's memory is reserved")
            elif key == "healthcheck":
                changes.update(health_check(node, below, foreign))
            elif key == "secrets":
                changes["secrets"] = dict(self._secret(one, below) for one in foreign.items(node, below))
            else:
                depends_on = [self._dependency(one, below) for one in foreign.items(node, below)]
                changes["depends_on"] = tuple(depends_on)
        return changes

    def _secret(self, secret: Node, path: str) -> tuple[str, str]:
        found = {"name": "", "value_from": ""}
        for key, node in self._foreign.entries(secret, path, tuple(found)):
            found[key] = self._foreign.text(node, path)
        for key, value in found.items():
            if not value:
                self._foreign.problem(
                    secret.place, path, f"a secret needs `{key}`", "write name: and value_from:"
                )
        return found["name"], found["value_from"]

    def _dependency(self, dependency: Node, path: str) -> str:
        name = ""
        for key, node in self._foreign.entries(dependency, path, ("container_name", "condition")):
            if key == "container_name":
                name = self._foreign.text(node, path)
            else:
                self._condition(node, path)
        return name

    def _condition(self, node: Node, path: str) -> None:
        if self._foreign.text(node, path).upper() != "START":
            remedy = "write START; for others give the service as a task definition"
            self._foreign.problem(node.place, path, f"the condition {node.text!r} is not supported", remedy)

    def _run_params(self, run: Node) -> None:
        for _, node in self._foreign.entries(run, "run_params", ("network_configuration",), _RUN_REFUSED):
            path = "run_params::network_configuration"
            for _, vpc in self._foreign.entries(node, path, ("awsvpc_configuration",)):
                self._network(vpc, f"{path}::awsvpc_configuration")

    def _network(self, vpc: Node, path: str) -> None:
        foreign, found = self._foreign, dict[str, Any](public_ip=False)
        for key, node in foreign.entries(vpc, path, ("subnets", "security_groups", "assign_public_ip")):
            below = f"{path}::{key}"
            if key != "assign_public_ip":
                found[key] = foreign.texts(node, below)
                continue
            answer = foreign.text(node, below).upper()
            if answer not in ("ENABLED", "DISABLED"):
                foreign.problem(node.place, below, f"{node.text!r} is neither ENABLED nor DISABLED")
            found["public_ip"] = answer == "ENABLED"
        if found.get("subnets"):
            self.found.network = Network(kind="existing", **found)


def health_check(check: Node, path: str, foreign: Foreign) -> dict[str, Any]:
    """A compose health check as a container's fields."""
    keys = ("test", "command", "interval", "timeout", "retries", "start_period", "disable")
    found = dict[str, Any]()
    for key, node in foreign.entries(check, path, keys):
        below = f"{path}::{key}"
        if key in ("test", "command"):
            found["health_check"] = _test(node, below, foreign)
        elif key == "retries":
            found["health_retries"] = foreign.count(node, below)
        elif key == "disable":
            if foreign.truth(node, below):
                return {"health_check": ()}
        else:
            name = "health_start_s" if key == "start_period" else f"health_{key}_s"
            found[name] = foreign.seconds(node, below)
    return found


def _test(node: Node, path: str, foreign: Foreign) -> tuple[str, ...]:
    """A list as it is, `NONE` as no check; a line is the shell's."""
    if not isinstance(node.value, list):
        return ("CMD-SHELL", foreign.text(node, path))
    words = foreign.texts(node, path)
    return () if words[:1] == ("NONE",) else words
