"""The task metadata endpoint, version 4, with the container credentials endpoint beside it.

Source: "Amazon ECS task metadata endpoint version 4 for tasks on Fargate", Amazon ECS developer guide.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

from trunkline.simulator.tasks.credentials import ContainerCredentials, not_found
from trunkline.simulator.tasks.state import ContainerState, TaskState, rfc3339
from trunkline.simulator.tasks.stats import MIB, Stats

SHUTDOWN_S = 0.2


def metadata_path(container: ContainerState) -> str:
    """The path of `ECS_CONTAINER_METADATA_URI_V4`."""
    return f"/v4/{container.docker_id}"


def task_document(task: TaskState, *, tags: bool = False) -> dict[str, Any]:
    """The answer of `/task`, or of `/taskWithTags`."""
    definition = task.definition
    document: dict[str, Any] = {
        "Cluster": task.service.cluster_arn,
        "TaskARN": task.arn,
        "Family": definition.family,
        "Revision": str(definition.revision),
        "ServiceName": task.service.name,
        "DesiredStatus": task.desired.value,
        "KnownStatus": task.status.value,
        "Limits": _task_limits(task),
        "PullStartedAt": _time(task.pull_started_ns),
        "PullStoppedAt": _time(task.pull_stopped_ns),
        "AvailabilityZone": task.availability_zone,
        "LaunchType": "FARGATE",
        "Containers": [container_document(task, each) for each in task.containers],
        "EphemeralStorageMetrics": {
            "Utilized": task.ephemeral_bytes // MIB,
            "Reserved": definition.ephemeral_storage_gib * 1024,
        },
    }
    if tags:
        document["TaskTags"] = dict(task.service.tags)
    return {key: value for key, value in document.items() if value is not None}


def _task_limits(task: TaskState) -> dict[str, float] | None:
    """CPU in vCPU, memory in MiB."""
    limits: dict[str, float] = {}
    if task.definition.cpu:
        limits["CPU"] = task.definition.cpu / 1024
    if task.definition.memory:
        limits["Memory"] = task.definition.memory
    return limits or None


def container_document(task: TaskState, container: ContainerState) -> dict[str, Any]:
    """The answer of a container's own URI. CPU is in units and at least 2, as the agent has it; memory in MiB."""
    definition = container.definition
    limits = {"CPU": max(definition.cpu, 2)} | ({"Memory": definition.memory} if definition.memory else {})
    network = {
        "NetworkMode": "awsvpc",
        "IPv4Addresses": [task.address],
        "AttachmentIndex": 0,
        "MACAddress": task.mac,
    }
    document = {
        "DockerId": container.docker_id,
        "Name": container.name,
        "DockerName": container.name,
        "Image": definition.image,
        "ImageID": container.image_digest or None,
        "Labels": _labels(task, container),
        "DesiredStatus": task.desired.value,
        "KnownStatus": container.status.value,
        "ExitCode": container.exit_code,
        "Limits": limits,
        "CreatedAt": _time(container.created_ns),
        "StartedAt": _time(container.started_ns),
        "FinishedAt": _time(container.finished_ns),
        "Type": "NORMAL",
        "Health": _health(container),
        "Networks": [network],
        "LogDriver": definition.log_driver or None,
        "LogOptions": _log_options(container) or None,
        "ContainerARN": container.arn,
        "RestartCount": container.restarts if definition.restart_policy else None,
        "Snapshotter": "overlayfs",
    }
    return {key: value for key, value in document.items() if value is not None}


def _labels(task: TaskState, container: ContainerState) -> dict[str, str]:
    return dict(container.definition.docker_labels) | {
        "com.amazonaws.ecs.cluster": task.service.cluster_arn,
        "com.amazonaws.ecs.container-name": container.name,
        "com.amazonaws.ecs.task-arn": task.arn,
        "com.amazonaws.ecs.task-definition-family": task.definition.family,
        "com.amazonaws.ecs.task-definition-version": str(task.definition.revision),
    }


def _health(container: ContainerState) -> dict[str, str] | None:
    if container.definition.health_check is None:
        return None
    since = {"statusSince": rfc3339(container.health_since_ns)} if container.health_since_ns else {}
    return {"status": container.health.value} | since


def _log_options(container: ContainerState) -> dict[str, str]:
    options = container.definition.log_options
    known = {name: options[name] for name in ("awslogs-group", "awslogs-region") if name in options}
    return known | ({"awslogs-stream": container.log_stream} if container.log_stream else {})


def _time(time_ns: int) -> str | None:
    return rfc3339(time_ns) if time_ns else None


class TaskEndpoint:
    """Serves one task on a socket of its own: a task can only see itself."""

    def __init__(self, task: TaskState, stats: Stats, credentials: ContainerCredentials | None) -> None:
        self._task = task
        self._stats = stats
        self._credentials = credentials
        self._containers = {metadata_path(each): each for each in task.containers}

    async def open(self, listener: socket.socket) -> Self:
        self._handler = web.Server(self._answer, access_log=None)
        self._server = await asyncio.get_running_loop().create_server(self._handler, sock=listener)
        return self

    async def close(self) -> None:
        self._server.close()
        await self._handler.shutdown(SHUTDOWN_S)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        document: object
        if not request.path.startswith("/v2/credentials"):
            status, document = self._metadata(request.path)
        elif self._credentials is None:
            status, document = not_found()
        else:
            status, document = await self._credentials.answer(request.path)
        return web.Response(text=json.dumps(document), status=status, content_type="application/json")

    def _metadata(self, path: str) -> tuple[int, object]:
        """Status and JSON body for a GET of anything below `/v4`."""
        uri, _, rest = path.rstrip("/").removeprefix("/v4/").partition("/")
        container = self._containers.get(f"/v4/{uri}")
        if container is None:
            return 404, f"V4 metadata handler: unable to get container ID from request: {path}"
        answers: dict[str, Callable[[], object]] = {
            "": lambda: container_document(self._task, container),
            "task": lambda: task_document(self._task),
            "taskWithTags": lambda: task_document(self._task, tags=True),
            "stats": lambda: self._stats.container(container),
            "task/stats": self._stats.task,
        }
        answer = answers.get(rest)
        return (200, answer()) if answer else (404, "404 page not found")
