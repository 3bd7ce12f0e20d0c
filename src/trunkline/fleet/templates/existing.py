"""Task definitions that people have already, as ECS describes them, in CloudFormation's form.

What differs: names begin with a capital there, a few are spelt another way, and what ECS adds when it describes
one (ARN, revision, status, …) is not taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from troposphere import ecs  # type: ignore[import-untyped]

from trunkline.errors import FleetError
from trunkline.fleet.model import Service
from trunkline.fleet.templates.interface import COLLECTOR_CONTAINER, DATA_VOLUME

# DescribeTaskDefinition says these, and RegisterTaskDefinition does not take them. A family of its own keeps the
# fleet's revisions apart from the owner's.
_DESCRIBED_ONLY: Final = frozenset(
    (
        "compatibilities",
        "deregisteredAt",
        "family",
        "registeredAt",
        "registeredBy",
        "requiresAttributes",
        "revision",
        "status",
        "tags",
        "taskDefinitionArn",
    )
)
# Of AWS::ECS::TaskDefinition, where a capital at the beginning is not all.
_SPELT: Final = {
    "efsVolumeConfiguration": "EFSVolumeConfiguration",
    "fileSystemId": "FilesystemId",
    "fsxWindowsFileServerVolumeConfiguration": "FSxWindowsFileServerVolumeConfiguration",
    "iam": "IAM",
}
_FSX: Final = "fsxWindowsFileServerVolumeConfiguration"
_FREE_KEYS: Final = frozenset(("dockerLabels", "driverOpts", "labels", "options"))
"""Maps whose keys are the user's own."""


def described(service: Service) -> dict[str, Any]:
    """The service's task definition in ECS's own words. Raises `FleetError` when it is none, or cannot be used."""
    try:
        found = json.loads(service.task_definition)
    except ValueError as error:
        raise _unusable(
            service, f"is not JSON: {error}", "give what describe-task-definition says"
        ) from error
    if isinstance(found, dict) and isinstance(found.get("taskDefinition"), dict):
        found = found["taskDefinition"]
    if not isinstance(found, dict) or not found.get("containerDefinitions"):
        raise _unusable(service, "has no containerDefinitions", "give what describe-task-definition says")
    _check_fargate(service, found)
    return found


def own_task_role(service: Service, account_id: str) -> str:
    """`role/path/name` of the role that a service's task definition came with, or an empty string.

    Raises `FleetError` when it is another account's.
    """
    return _own_role(service, account_id, "taskRoleArn")


def own_execution_role(service: Service, account_id: str) -> str:
    """The same of the role that starts its tasks."""
    return _own_role(service, account_id, "executionRoleArn")


def _own_role(service: Service, account_id: str, key: str) -> str:
    if not service.task_definition:
        return ""
    role = str(described(service).get(key) or "")
    if not role.startswith("arn:"):
        return f"role/{role.removeprefix('/')}" if role else ""
    owner, _, name = role.split(":", 4)[4].partition(":")
    if owner != account_id:
        raise _unusable(
            service,
            f"has the role {role}, which is not in {account_id or 'every account of the units'}",
            f"give each account its own task definition, or take {key} out: then it gets the fleet's",
        )
    return name


def properties(service: Service) -> dict[str, Any]:
    """Its properties for `AWS::ECS::TaskDefinition`, all but the containers, as troposphere takes them.

    Raises `FleetError` naming what CloudFormation does not know.
    """
    kept = {key: value for key, value in described(service).items() if key not in _DESCRIBED_ONLY}
    del kept["containerDefinitions"]
    if any(volume.get("name") == DATA_VOLUME for volume in kept.get("volumes") or ()):
        raise _unusable(service, f"has a volume {DATA_VOLUME} already", "name it otherwise")
    made = _object(service, ecs.TaskDefinition, kept)
    return {name: getattr(made, name) for name in made.properties}


def containers(service: Service) -> list[Any]:
    """Its containers, each starting after the collector."""
    return [_container(service, each) for each in described(service)["containerDefinitions"]]


def _container(service: Service, container: Mapping[str, Any]) -> Any:
    if container.get("name") == COLLECTOR_CONTAINER:
        raise _unusable(
            service,
            f"has a container {COLLECTOR_CONTAINER} already",
            "take it out, the fleet adds its own; or name it otherwise",
        )
    made = _object(service, ecs.ContainerDefinition, container)
    after = ecs.ContainerDependency(ContainerName=COLLECTOR_CONTAINER, Condition="START")
    made.DependsOn = [*getattr(made, "DependsOn", []), after]
    return made


def _object(service: Service, kind: Any, given: Mapping[str, Any]) -> Any:
    try:
        return kind.from_dict("Task", capital(given))
    except (AttributeError, TypeError, ValueError) as error:
        raise _unusable(service, f"is not taken: {error}", "leave that out") from error


def capital(value: Any, name: str = "") -> Any:
    """An ECS document with CloudFormation's names; what is empty is left out."""
    if isinstance(value, list):
        return [capital(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    if name in _FREE_KEYS:
        return dict(value)
    filled = {key: each for key, each in value.items() if each not in (None, [], {}, "")}
    return {_spelt(key, name): capital(each, key) for key, each in filled.items()}


def _spelt(key: str, within: str) -> str:
    if key == "fileSystemId" and within == _FSX:
        return "FileSystemId"
    return _SPELT.get(key) or key[:1].upper() + key[1:]


def _check_fargate(service: Service, found: Mapping[str, Any]) -> None:
    kinds = found.get("requiresCompatibilities") or found.get("compatibilities") or ["FARGATE"]
    if found.get("networkMode") != "awsvpc" or "FARGATE" not in kinds:
        raise _unusable(
            service,
            f"is for {', '.join(kinds)} with network mode {found.get('networkMode', 'bridge')}",
            "the fleet runs tasks on Fargate with awsvpc; for others add the collector by hand, from `fleet render`",
        )
    if not (found.get("cpu") and found.get("memory")):
        raise _unusable(service, "has no cpu and memory of the whole task", "add both, as Fargate wants them")


def _unusable(service: Service, why: str, remedy: str) -> FleetError:
    place = f"{service.place}: " if service.place else ""
    return FleetError(f"{place}the task definition of service {service.name} {why}; {remedy}")
