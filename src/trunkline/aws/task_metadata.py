"""The ECS task metadata endpoint, version 4: which task this is, and what it uses.

Source: ECS Developer Guide, "Task metadata endpoint version 4"; attribute names from OpenTelemetry's semantic
conventions for AWS ECS.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from trunkline.errors import FetchError, ProtocolError
from trunkline.model import Resource
from trunkline.net.client import Client
from trunkline.net.message import Request

VARIABLE: Final = "ECS_CONTAINER_METADATA_URI_V4"
IDENTITY: Final = {
    "cloud_account_id": "cloud.account.id",
    "cloud_region": "cloud.region",
    "aws_ecs_cluster_name": "aws.ecs.cluster.name",
    "aws_ecs_service_name": "aws.ecs.service.name",
    "aws_ecs_task_family": "aws.ecs.task.family",
    "aws_ecs_task_id": "aws.ecs.task.id",
}
"""Identity labels and the resource attributes they show; none of them changes while a task lives."""
ADDRESSES: Final = "aws.ecs.task.addresses"
"""Attribute of the task's own IP addresses, separated by commas, where it does not share its host's network."""

_TIMEOUT_S = 5.0
_MAX_BODY_BYTES = 8 * 1024 * 1024
_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.25
_TASK_ARN = re.compile(r"arn:(aws[a-z-]*):ecs:([a-z0-9-]+):([0-9]{12}):task/(?:.+/)?([^/]+)")


class TaskMetadata:
    """The endpoint at `base`, the value of `ECS_CONTAINER_METADATA_URI_V4`."""

    def __init__(self, client: Client, base: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._client = client
        self._base = base.strip().rstrip("/")
        self._timeout_s = timeout_s

    async def task(self) -> dict[str, Any]:
        """The task and its containers as ECS describes them. Raises FetchError."""
        return await self._document("/task", "task metadata")

    async def stats(self) -> dict[str, Any]:
        """Docker's statistics by container id; None for a container that has none. Raises FetchError."""
        return await self._document("/task/stats", "task stats")

    async def container(self) -> dict[str, Any]:
        """The container that asks. Raises FetchError."""
        return await self._document("", "container metadata")

    async def _document(self, path: str, what: str) -> dict[str, Any]:
        url = self._base + path
        request = Request("GET", url, {"content-type": "application/json"})
        try:
            response = await self._client.exchange(
                request, timeout_s=self._timeout_s, max_body_bytes=_MAX_BODY_BYTES
            )
        except FetchError as error:
            raise type(error)(f"cannot read data from task metadata endpoint: {error}") from error
        if response.status != 200:
            raise ProtocolError(
                "cannot read data from task metadata endpoint: "
                f'request GET {url} failed - "{response.status_line}"'
            )
        try:
            document = json.loads(response.body)
        except ValueError as error:
            raise ProtocolError(f"cannot unmarshall {what}: {error}") from error
        if not isinstance(document, dict):
            raise ProtocolError(f"cannot unmarshall {what}: it is no JSON object")
        return document


async def fetch_identity(
    client: Client,
    environment: Mapping[str, str],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Resource | None:
    """What the metadata endpoint says of this task; None outside ECS, where the variable is not set.

    Tries four times within a few seconds, as the endpoint may come up after the container. Raises FetchError: a
    collector that does not know its task would write the same series as its siblings.
    """
    base = environment.get(VARIABLE, "").strip()
    if not base:
        return None
    metadata = TaskMetadata(client, base, timeout_s=2.0)
    for attempt in range(_ATTEMPTS - 1):
        try:
            return _known(await metadata.task())
        except FetchError:
            await sleep(_FIRST_PAUSE_S * 2**attempt)
    return _known(await metadata.task())


def _known(task: Mapping[str, Any]) -> Resource:
    resource = identity_of(task)
    if "aws_ecs_task_id" not in resource.identity:
        arn = _text(task, "TaskARN")
        raise ProtocolError(f"the task metadata names no task: its TaskARN is {arn!r}")
    addresses = ",".join(addresses_of(task))
    return (
        replace(resource, attributes={**resource.attributes, ADDRESSES: addresses}) if addresses else resource
    )


def addresses_of(task: Mapping[str, Any]) -> list[str]:
    """The IP addresses that only this task has: those of its containers, unless they use their host's network."""
    found: dict[str, None] = {}
    for container in task.get("Containers") or ():
        for network in container.get("Networks") or ():
            if network.get("NetworkMode") == "host":
                continue
            for key in ("IPv4Addresses", "IPv6Addresses"):
                found.update(dict.fromkeys(filter(None, network.get(key) or ())))
    return list(found)


def task_arn_parts(arn: str) -> tuple[str, str, str, str]:
    """(partition, region, account, task id) of a task's ARN, old form or new; empty ones if it is none."""
    match = _TASK_ARN.fullmatch(arn)
    return (match[1], match[2], match[3], match[4]) if match else ("", "", "", "")


def identity_of(task: Mapping[str, Any]) -> Resource:
    """Resource attributes and identity labels of a task's metadata, in every partition; empty ones left out.

    Takes task ARNs with and without the cluster's name, and the cluster as a name or an ARN.
    """
    arn, cluster = _text(task, "TaskARN"), _text(task, "Cluster")
    partition, region, account, task_id = task_arn_parts(arn)
    cluster_name = cluster.rpartition("/")[2] if cluster.startswith("arn:") else cluster
    cluster_arn = cluster if cluster.startswith("arn:") else ""
    if not cluster_arn and cluster_name and task_id:
        cluster_arn = f"arn:{partition}:ecs:{region}:{account}:cluster/{cluster_name}"
    found = {
        "cloud.provider": "aws",
        "cloud.platform": "aws_ecs",
        "cloud.account.id": account,
        "cloud.region": region,
        "cloud.availability_zone": _text(task, "AvailabilityZone"),
        "aws.ecs.cluster.name": cluster_name,
        "aws.ecs.cluster.arn": cluster_arn,
        "aws.ecs.task.arn": arn,
        "aws.ecs.task.id": task_id,
        "aws.ecs.task.family": _text(task, "Family"),
        "aws.ecs.task.revision": _text(task, "Revision"),
        "aws.ecs.service.name": _text(task, "ServiceName"),
        "aws.ecs.launchtype": _text(task, "LaunchType").lower(),
    }
    attributes = {name: value for name, value in found.items() if value}
    identity = {label: attributes[name] for label, name in IDENTITY.items() if name in attributes}
    return Resource(attributes=dict(attributes), identity=identity)


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
