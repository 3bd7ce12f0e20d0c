"""Who can say where the collector runs: the environment, the system, the task metadata, the instance metadata.

Sources of the attributes: OpenTelemetry's resource detectors and its semantic conventions; Amazon EC2 User Guide,
"Use the instance metadata service" (version 2 only).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias
from urllib.parse import quote, unquote_plus

from trunkline.aws.task_metadata import VARIABLE, TaskMetadata, identity_of, task_arn_parts
from trunkline.component.patterns import searcher
from trunkline.errors import ConfigError, FetchError, Problem, ProtocolError, TrunklineError
from trunkline.model import AttributeValue
from trunkline.net.message import Request, Response

if TYPE_CHECKING:
    from trunkline.processors.resourcedetection.config import ResourceDetectionConfig

log = logging.getLogger(__name__)

Found: TypeAlias = dict[str, AttributeValue]


class Client(Protocol):
    """The part of an HTTP client that is needed."""

    async def exchange(
        self, request: Request, *, timeout_s: float, max_body_bytes: int | None = None
    ) -> Response: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What detectors have to look at."""

    config: ResourceDetectionConfig
    environment: Mapping[str, str]
    client: Client


# Environment


async def of_environment(surroundings: Surroundings) -> Found:
    """`OTEL_RESOURCE_ATTRIBUTES`: `key=value,…`, values percent-encoded. Raises ConfigError."""
    environment = surroundings.environment
    name = (
        "OTEL_RESOURCE_ATTRIBUTES"
        if environment.get("OTEL_RESOURCE_ATTRIBUTES", "").strip()
        else "OTEL_RESOURCE"
    )
    text = environment.get(name, "").strip()
    return dict(_pair(part, name) for part in text.removesuffix(",").split(",")) if text else {}


def _pair(part: str, variable: str) -> tuple[str, str]:
    key, separator, value = (piece.strip() for piece in part.partition("="))
    if not separator or not key or re.search(r"%(?![0-9A-Fa-f]{2})", value):
        remedy = "write key=value,key=value with %-encoded values"
        raise ConfigError([Problem("", variable, f"invalid resource format: {part.strip()!r}", remedy)])
    return key, unquote_plus(value)


# System

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "x86", "armv7l": "arm32"}
_LOOKUP_S: Final = 2.0


async def of_system(surroundings: Surroundings) -> Found:
    """The host's name and its operating system. Raises TrunklineError when no source knows the name."""
    name = await _host_name(surroundings.config.system.hostname_sources)
    machine = os.uname().machine
    found: Found = {
        "host.name": name,
        "os.type": sys.platform,
        "host.arch": _ARCHITECTURES.get(machine, machine),
    }
    with suppress(OSError):
        found["host.id"] = Path("/etc/machine-id").read_text().strip()  # noqa: ASYNC240 (one line, not on a network)
    return found


async def _host_name(sources: Sequence[str]) -> str:
    own = socket.gethostname()
    ways: Mapping[str, Callable[[str], Awaitable[str]]] = {
        "os": _own_name,
        "dns": _canonical_name,
        "cname": _canonical_name,
        "lookup": _reverse_name,
    }
    for source in sources or ("dns", "os"):
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LOOKUP_S):
                return await ways[source](own)
    raise TrunklineError(
        f"all hostname sources failed to get the host's name: {', '.join(sources)}. Add os to system: hostname_sources"
    )


async def _own_name(host: str) -> str:
    return host


async def _canonical_name(host: str) -> str:
    """The full name as the hosts file or the name server has it. Raises OSError."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, None, flags=socket.AI_CANONNAME)
    names = [info[3] for info in infos if info[3]]
    if not names:
        raise OSError("there is no canonical name")
    return names[0].rstrip(".")


async def _reverse_name(host: str) -> str:
    """The name that the host's address leads back to. Raises OSError."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    for info in infos:
        with suppress(OSError):
            name, _ = await loop.getnameinfo((str(info[4][0]), 0), socket.NI_NAMEREQD)
            return name.rstrip(".")
    raise OSError("no address leads back to a name")


# Amazon ECS


async def of_ecs(surroundings: Surroundings) -> Found:
    """The task, from its metadata; nothing outside ECS. Raises FetchError."""
    base = surroundings.environment.get(VARIABLE, "").strip()
    if not base:
        return {}
    metadata = TaskMetadata(surroundings.client, base)  # type: ignore[arg-type]  # it needs no more than `exchange`
    task, own = await metadata.task(), await metadata.container()
    found: Found = dict(identity_of(task).attributes)
    if found.get("aws.ecs.launchtype") not in ("ec2", "fargate"):
        found.pop("aws.ecs.launchtype", None)
    for name in ("aws.ecs.cluster.name", "aws.ecs.service.name"):  # the receiver's, not this detector's
        found.pop(name, None)
    return {**found, **_logs(task, str(own.get("DockerId", "")))}


def _logs(task: Mapping[str, Any], own_id: str) -> Found:
    """Where the other containers log to; lists as JSON, which is how they look as labels."""
    partition, _, account, _ = task_arn_parts(str(task.get("TaskARN", "")))
    options = [
        container["LogOptions"]
        for container in task.get("Containers") or ()
        if container.get("Type") == "NORMAL"
        and container.get("KnownStatus") == "RUNNING"
        and container.get("LogDriver") == "awslogs"
        and container.get("DockerId") != own_id
        and container.get("LogOptions")
    ]
    if not options:
        return {}
    groups = [str(option.get("awslogs-group", "")) for option in options]
    streams = [str(option.get("awslogs-stream", "")) for option in options]
    arns = [
        f"arn:{partition or 'aws'}:logs:{option.get('awslogs-region', '')}:{account}:log-group:{group}"
        for option, group in zip(options, groups, strict=True)
    ]
    return {
        "aws.log.group.names": _json(groups),
        "aws.log.group.arns": _json(arns),
        "aws.log.stream.names": _json(streams),
        "aws.log.stream.arns": _json(
            f"{arn}:log-stream:{stream}" for arn, stream in zip(arns, streams, strict=True)
        ),
    }


def _json(texts: Iterable[str]) -> str:
    return json.dumps(list(texts), separators=(",", ":"), ensure_ascii=False)


# Amazon EC2

_ENDPOINTS: Final = {"ipv4": "http://169.254.169.254", "ipv6": "http://[fd00:ec2::254]"}
_ANSWER_S: Final = 1.0
_ANSWER_BYTES: Final = 256 * 1024
_DOCUMENT: Final = {
    "cloud.account.id": "accountId",
    "cloud.region": "region",
    "cloud.availability_zone": "availabilityZone",
    "host.id": "instanceId",
    "host.image.id": "imageId",
    "host.type": "instanceType",
}


async def of_ec2(surroundings: Surroundings) -> Found:
    """The instance, from its metadata; nothing where there is none. Raises FetchError."""
    if surroundings.environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return {}
    config = surroundings.config
    instance = _InstanceMetadata(surroundings)
    try:
        await instance.log_in()
    except FetchError as error:
        if config.fail_on_missing_metadata or config.ec2.fail_on_missing_metadata:
            raise
        log.debug("this is no EC2 instance, or its metadata cannot be reached: %s", error)
        return {}
    document = await instance.identity()
    found: Found = {"cloud.provider": "aws", "cloud.platform": "aws_ec2"}
    found |= {name: str(document.get(key, "")) for name, key in _DOCUMENT.items()}
    found["host.name"] = await instance.read("/latest/meta-data/hostname")
    return {**found, **await instance.tags(config.ec2.tags)}


class _InstanceMetadata:
    """The instance metadata service, version 2."""

    def __init__(self, surroundings: Surroundings) -> None:
        environment = surroundings.environment
        mode = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv4").lower()
        own = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/")
        self._base = own or _ENDPOINTS.get(mode, _ENDPOINTS["ipv4"])
        self._client = surroundings.client
        # Less than what all of detection may take, or that would be over before it is known that nobody answers.
        self._timeout_s = min(surroundings.config.timeout / 2, _ANSWER_S)
        self._headers: dict[str, str] = {}

    async def log_in(self) -> None:
        self._headers = {"x-aws-ec2-metadata-token-ttl-seconds": "60"}
        token = await self._ask("PUT", "/latest/api/token")
        self._headers = {"x-aws-ec2-metadata-token": token.strip()}

    async def identity(self) -> dict[str, Any]:
        text = await self.read("/latest/dynamic/instance-identity/document")
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ProtocolError(f"the instance identity document is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise ProtocolError("the instance identity document is no JSON object")
        return document

    async def tags(self, patterns: Sequence[str]) -> Found:
        """The tags whose keys match one of `patterns`."""
        if not patterns:
            return {}
        wanted = [searcher(pattern) for pattern in patterns]
        path = "/latest/meta-data/tags/instance"
        keys = (await self.read(path)).splitlines()
        chosen = [key for key in keys if any(matches(key) for matches in wanted)]
        return {f"ec2.tag.{key}": await self.read(f"{path}/{quote(key)}") for key in chosen}

    async def read(self, path: str) -> str:
        return await self._ask("GET", path)

    async def _ask(self, method: str, path: str) -> str:
        request = Request(method, self._base + path, self._headers)
        response = await self._client.exchange(
            request, timeout_s=self._timeout_s, max_body_bytes=_ANSWER_BYTES
        )
        if response.status != 200:
            raise ProtocolError(
                f"the instance metadata service answered {response.status_line} to {method} {path}"
            )
        return response.body.decode("utf-8", "replace")


DETECT: Final[Mapping[str, Callable[[Surroundings], Awaitable[Found]]]] = {
    "env": of_environment,
    "system": of_system,
    "ecs": of_ecs,
    "ec2": of_ec2,
}
