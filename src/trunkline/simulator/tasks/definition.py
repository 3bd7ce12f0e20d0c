"""What an ECS task definition says, as far as a task needs it to run.

Source: the ECS API, `RegisterTaskDefinition` and `DescribeTaskDefinition`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from trunkline.errors import SimulatorError


class Condition(StrEnum):
    START = "START"
    COMPLETE = "COMPLETE"
    SUCCESS = "SUCCESS"
    HEALTHY = "HEALTHY"


@dataclass(frozen=True, slots=True)
class Dependency:
    container: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """`command` begins with `CMD` (a program and its arguments) or `CMD-SHELL` (one line for /bin/sh)."""

    command: tuple[str, ...]
    interval_s: float = 30
    timeout_s: float = 5
    retries: int = 3
    start_period_s: float = 0

    @classmethod
    def from_api(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            tuple(document["command"]),
            document.get("interval", 30),
            document.get("timeout", 5),
            document.get("retries", 3),
            document.get("startPeriod") or 0,
        )

    @property
    def argv(self) -> list[str]:
        kind, *rest = self.command
        return ["/bin/sh", "-c", *rest] if kind == "CMD-SHELL" else rest if kind == "CMD" else [*self.command]


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """A container that has run for `attempt_period_s` is started again when it exits, except with these codes."""

    enabled: bool
    ignored_exit_codes: frozenset[int]
    attempt_period_s: float = 300

    @classmethod
    def from_api(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            bool(document.get("enabled")),
            frozenset(document.get("ignoredExitCodes", ())),
            document.get("restartAttemptPeriod", 300),
        )


@dataclass(frozen=True, slots=True)
class ContainerDefinition:
    """One container; memory in MiB, CPU in units of 1/1024 of a vCPU, times in seconds."""

    name: str
    image: str
    essential: bool = True
    command: tuple[str, ...] = ()
    entry_point: tuple[str, ...] = ()
    working_directory: str = ""
    cpu: int = 0
    memory: int | None = None
    memory_reservation: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Variable name → `valueFrom`."""
    ports: tuple[int, ...] = ()
    mount_points: Mapping[str, str] = field(default_factory=dict)
    """Path in the container → name of the volume."""
    depends_on: tuple[Dependency, ...] = ()
    health_check: HealthCheck | None = None
    restart_policy: RestartPolicy | None = None
    start_timeout_s: float | None = None
    stop_timeout_s: float = 30
    log_driver: str = ""
    log_options: Mapping[str, str] = field(default_factory=dict)
    docker_labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_api(cls, document: Mapping[str, Any]) -> Self:
        logging = document.get("logConfiguration") or {}
        health = document.get("healthCheck")
        restart = document.get("restartPolicy")
        return cls(
            name=document["name"],
            image=document["image"],
            essential=document.get("essential", True),
            command=tuple(document.get("command") or ()),
            entry_point=tuple(document.get("entryPoint") or ()),
            working_directory=document.get("workingDirectory") or "",
            cpu=int(document.get("cpu") or 0),
            memory=document.get("memory"),
            memory_reservation=document.get("memoryReservation"),
            environment={each["name"]: each["value"] for each in document.get("environment") or ()},
            secrets={each["name"]: each["valueFrom"] for each in document.get("secrets") or ()},
            ports=tuple(each["containerPort"] for each in document.get("portMappings") or ()),
            mount_points={
                each["containerPath"]: each["sourceVolume"] for each in document.get("mountPoints") or ()
            },
            depends_on=tuple(
                Dependency(each["containerName"], Condition(each["condition"]))
                for each in document.get("dependsOn") or ()
            ),
            health_check=HealthCheck.from_api(health) if health else None,
            restart_policy=RestartPolicy.from_api(restart) if restart else None,
            start_timeout_s=document.get("startTimeout"),
            stop_timeout_s=min(document.get("stopTimeout") or 30, 120),
            log_driver=logging.get("logDriver") or "",
            log_options=dict(logging.get("options") or {}),
            docker_labels=dict(document.get("dockerLabels") or {}),
        )


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A registered task definition; `cpu` in units, `memory` in MiB, as registered for the whole task."""

    arn: str
    family: str
    revision: int
    containers: tuple[ContainerDefinition, ...]
    task_role_arn: str = ""
    execution_role_arn: str = ""
    cpu: int | None = None
    memory: int | None = None
    volumes: tuple[str, ...] = ()
    ephemeral_storage_gib: int = 20

    @classmethod
    def from_api(cls, document: Mapping[str, Any]) -> Self:
        """Read the `taskDefinition` member of the API's answer (camelCase).

        Raises SimulatorError when containers depend on each other in a circle or on ones that are not there.
        """
        definition = cls(
            arn=document["taskDefinitionArn"],
            family=document["family"],
            revision=int(document["revision"]),
            containers=tuple(ContainerDefinition.from_api(each) for each in document["containerDefinitions"]),
            task_role_arn=document.get("taskRoleArn") or "",
            execution_role_arn=document.get("executionRoleArn") or "",
            cpu=int(document["cpu"]) if document.get("cpu") else None,
            memory=int(document["memory"]) if document.get("memory") else None,
            volumes=tuple(each["name"] for each in document.get("volumes") or ()),
            ephemeral_storage_gib=(document.get("ephemeralStorage") or {}).get("sizeInGiB", 20),
        )
        _check_order(definition.containers)
        return definition


def _check_order(containers: Sequence[ContainerDefinition]) -> None:
    left = {each.name: {dependency.container for dependency in each.depends_on} for each in containers}
    if missing := set().union(*left.values()) - set(left):
        raise SimulatorError(
            f"a container depends on {', '.join(sorted(missing))}, which the task definition lacks"
        )
    while ready := [name for name, needed in left.items() if not needed & set(left)]:
        for name in ready:
            del left[name]
    if left:
        raise SimulatorError(f"the containers {', '.join(sorted(left))} depend on each other in a circle")
