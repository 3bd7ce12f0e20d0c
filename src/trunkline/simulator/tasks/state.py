"""What is known of a task and its containers, and how the ECS API says it (`DescribeTasks`)."""

from __future__ import annotations

import platform
import random
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from trunkline.simulator.tasks.definition import ContainerDefinition, TaskDefinition

ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


class Status(StrEnum):
    """States of tasks and containers, in the order a task goes through them."""

    PROVISIONING = "PROVISIONING"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    DEPROVISIONING = "DEPROVISIONING"
    STOPPED = "STOPPED"


class Health(StrEnum):
    UNKNOWN = "UNKNOWN"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"


def rfc3339(time_ns: int) -> str:
    """A Unix time in nanoseconds as the metadata endpoint writes it: UTC, trailing zeros of the fraction dropped."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


@dataclass(frozen=True)
class ServiceSpec:
    """One ECS service, as it should be.

    A change of the task definition or of `deployment` (any text, for a forced new deployment) replaces its tasks,
    new ones first.
    """

    account: str
    region: str
    cluster: str
    name: str
    desired_count: int
    task_definition: TaskDefinition
    deployment: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    """Tags of its tasks."""

    @property
    def arn(self) -> str:
        return self.arn_of("service", self.cluster, self.name)

    @property
    def cluster_arn(self) -> str:
        return self.arn_of("cluster", self.cluster)

    def arn_of(self, *path: str) -> str:
        return f"arn:{partition(self.region)}:ecs:{self.region}:{self.account}:{'/'.join(path)}"


def partition(region: str) -> str:
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


@dataclass
class ContainerState:
    """Times are Unix nanoseconds, 0 for not yet."""

    definition: ContainerDefinition
    docker_id: str
    arn: str
    status: Status = Status.PENDING
    exit_code: int | None = None
    reason: str = ""
    health: Health = Health.UNKNOWN
    health_since_ns: int = 0
    restarts: int = 0
    image_digest: str = ""
    log_stream: str = ""
    created_ns: int = 0
    started_ns: int = 0
    finished_ns: int = 0

    @property
    def name(self) -> str:
        return self.definition.name


@dataclass
class TaskState:
    """Times are Unix nanoseconds, 0 for not yet."""

    service: ServiceSpec
    availability_zone: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    status: Status = Status.PROVISIONING
    desired: Status = Status.RUNNING
    address: str = ""
    mac: str = ""
    stop_code: str = ""
    stopped_reason: str = ""
    ephemeral_bytes: int = 0
    created_ns: int = field(default_factory=time.time_ns)
    pull_started_ns: int = 0
    pull_stopped_ns: int = 0
    started_ns: int = 0
    stopping_ns: int = 0
    stopped_ns: int = 0
    containers: list[ContainerState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.containers = [self._container(each) for each in self.definition.containers]

    def _container(self, definition: ContainerDefinition) -> ContainerState:
        number = random.SystemRandom().randrange(10**8, 2**32)
        arn = self.service.arn_of("container", self.service.cluster, self.id, str(uuid.uuid4()))
        return ContainerState(definition, f"{self.id}-{number}", arn)

    @property
    def definition(self) -> TaskDefinition:
        return self.service.task_definition

    @property
    def arn(self) -> str:
        return self.service.arn_of("task", self.service.cluster, self.id)

    @property
    def health(self) -> Health:
        """As ECS sums it up: of the essential containers that have a health check."""
        checked = [
            each.health
            for each in self.containers
            if each.definition.essential and each.definition.health_check
        ]
        for health in (Health.UNHEALTHY, Health.UNKNOWN, Health.HEALTHY):
            if health in checked:
                return health
        return Health.UNKNOWN


def describe(task: TaskState) -> dict[str, Any]:
    """A task as `DescribeTasks` gives it: camelCase, times in Unix seconds, what is not known yet left out."""
    service, definition = task.service, task.definition
    document = {
        "attachments": [_attachment(task)],
        "attributes": [{"name": "ecs.cpu-architecture", "value": ARCHITECTURE}],
        "availabilityZone": task.availability_zone,
        "clusterArn": service.cluster_arn,
        "connectivity": "CONNECTED",
        "connectivityAt": _seconds(task.pull_started_ns),
        "containers": [_describe_container(task, each) for each in task.containers],
        "cpu": _text(definition.cpu),
        "createdAt": _seconds(task.created_ns),
        "desiredStatus": task.desired.value,
        "enableExecuteCommand": False,
        "ephemeralStorage": {"sizeInGiB": definition.ephemeral_storage_gib},
        "group": f"service:{service.name}",
        "healthStatus": task.health.value,
        "lastStatus": task.status.value,
        "launchType": "FARGATE",
        "memory": _text(definition.memory),
        "overrides": {"containerOverrides": [{"name": each.name} for each in task.containers]},
        "platformFamily": "Linux",
        "platformVersion": "1.4.0",
        "pullStartedAt": _seconds(task.pull_started_ns),
        "pullStoppedAt": _seconds(task.pull_stopped_ns),
        "startedAt": _seconds(task.started_ns),
        "startedBy": deployment_id(service),
        "stopCode": task.stop_code or None,
        "stoppedAt": _seconds(task.stopped_ns),
        "stoppedReason": task.stopped_reason or None,
        "stoppingAt": _seconds(task.stopping_ns),
        "tags": [{"key": key, "value": value} for key, value in service.tags],
        "taskArn": task.arn,
        "taskDefinitionArn": definition.arn,
        "version": 1 + [*Status].index(task.status),
    }
    return {key: value for key, value in document.items() if value is not None}


def _describe_container(task: TaskState, container: ContainerState) -> dict[str, Any]:
    definition = container.definition
    document = {
        "containerArn": container.arn,
        "taskArn": task.arn,
        "name": container.name,
        "image": definition.image,
        "imageDigest": container.image_digest or None,
        "runtimeId": container.docker_id if container.created_ns else None,
        "lastStatus": container.status.value,
        "exitCode": container.exit_code,
        "reason": container.reason or None,
        "networkBindings": [],
        "networkInterfaces": [{"attachmentId": _attachment_id(task), "privateIpv4Address": task.address}],
        "healthStatus": container.health.value,
        "cpu": str(definition.cpu),
        "memory": _text(definition.memory),
        "memoryReservation": _text(definition.memory_reservation),
    }
    return {key: value for key, value in document.items() if value is not None}


def _attachment_id(task: TaskState) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, task.arn))


def _attachment(task: TaskState) -> dict[str, Any]:
    status = "DELETED" if task.status is Status.STOPPED else "ATTACHED" if task.address else "PRECREATED"
    details = {"macAddress": task.mac, "privateIPv4Address": task.address}
    return {
        "id": _attachment_id(task),
        "type": "ElasticNetworkInterface",
        "status": status,
        "details": [{"name": name, "value": value} for name, value in details.items() if value],
    }


def deployment_id(service: ServiceSpec) -> str:
    """ECS's id of the deployment: `service.deployment` if it is one, or made from what distinguishes it."""
    if service.deployment.startswith("ecs-svc/"):
        return service.deployment
    key = f"{service.arn} {service.task_definition.arn} {service.deployment}"
    return f"ecs-svc/{uuid.uuid5(uuid.NAMESPACE_URL, key).int % 10**19}"


def _seconds(time_ns: int) -> float | None:
    return round(time_ns / 1e9, 3) if time_ns else None


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
