"""Which permission an operation needs: the action, and the resource as exactly as the call tells it.

Source: "Actions, resources, and condition keys" of the Service Authorization Reference. Where a resource
cannot be known it is `*`, which only a statement about `*` allows.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from trunkline.simulator.frontdoor.calls import Call

RoleArn: TypeAlias = Callable[[str, str], Awaitable[str | None]]
"""(account, role name) → the role's ARN, if there is such a role."""


@dataclass(frozen=True, slots=True)
class Permission:
    """One thing that has to be allowed."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict)


async def needed(call: Call, role_arn: RoleArn) -> list[Permission]:
    """Everything that has to be allowed for `call`."""
    action = _action(call)
    if call.service == "iam":
        resources = [await _iam(call, role_arn)]
    else:
        resources = list(_RESOURCES.get(call.service, _unknown)(call)) or ["*"]
    permissions = [Permission(action, resource, _context(call)) for resource in resources]
    return [*permissions, *[item async for item in _passed(call, role_arn)]]


_PREFIXES: Final = {"monitoring": "cloudwatch", "tagging": "tag", "email": "ses"}
"""IAM's name of a service, where it is not the one that is signed for."""

_S3_ACTIONS: Final = {
    "AbortMultipartUpload": "AbortMultipartUpload",
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListBuckets": "ListAllMyBuckets",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "UploadPart": "PutObject",
}


def _action(call: Call) -> str:
    operation = _S3_ACTIONS.get(call.operation, call.operation) if call.service == "s3" else call.operation
    return f"{_PREFIXES.get(call.service, call.service)}:{operation}"


def _context(call: Call) -> dict[str, str]:
    """The condition keys that come from the call's parameters."""
    text = call.parameters.get
    keys = {
        "iam:PolicyARN": text("PolicyArn") if call.service == "iam" else None,
        "iam:PermissionsBoundary": text("PermissionsBoundary") if call.service == "iam" else None,
        "ecs:cluster": _cluster_arn(call) if call.service == "ecs" and "cluster" in call.parameters else None,
        "cloudformation:RoleArn": text("RoleARN") if call.service == "cloudformation" else None,
    }
    return {name: str(value) for name, value in keys.items() if value}


def _arn(call: Call, service: str, rest: str) -> str:
    return f"arn:aws:{service}:{call.region}:{call.account}:{rest}"


def _unknown(_: Call) -> Iterator[str]:
    yield "*"


def _aps(call: Call) -> Iterator[str]:
    if "workspaceId" in call.parameters:
        yield _arn(call, "aps", f"workspace/{call.parameters['workspaceId']}")
    elif "resourceArn" in call.parameters:
        yield str(call.parameters["resourceArn"])


def _ecr(call: Call) -> Iterator[str]:
    owner = str(call.parameters.get("registryId") or call.account)
    names = call.parameters.get("repositoryNames") or [call.parameters.get("repositoryName")]
    for name in names:
        if name:
            yield f"arn:aws:ecr:{call.region}:{owner}:repository/{name}"


def _logs(call: Call) -> Iterator[str]:
    """CloudWatch Logs names a group's streams even where only the group is meant."""
    name = str(call.parameters.get("logGroupName") or call.parameters.get("logGroupIdentifier") or "")
    if name.startswith("arn:"):
        yield name
    elif name or call.operation == "DescribeLogGroups":
        stream = call.parameters.get("logStreamName", "")
        yield _arn(call, "logs", f"log-group:{name}:log-stream:{stream}")


def _cluster_name(call: Call) -> str:
    return str(call.parameters.get("cluster") or "default").rpartition("/")[2]


def _cluster_arn(call: Call) -> str:
    return _arn(call, "ecs", f"cluster/{_cluster_name(call)}")


def _named(call: Call, kind: str, name: str) -> str:
    """The ARN of something of ECS, from its name or its ARN."""
    if name.startswith("arn:"):
        return name
    within = "" if kind == "cluster" else f"{_cluster_name(call)}/"
    return _arn(call, "ecs", f"{kind}/{within}{name}")


_ECS: Final[Mapping[str, tuple[str, str]]] = {
    "CreateCluster": ("cluster", "clusterName"),
    "DeleteCluster": ("cluster", "cluster"),
    "UpdateCluster": ("cluster", "cluster"),
    "DescribeClusters": ("cluster", "clusters"),
    "CreateService": ("service", "serviceName"),
    "UpdateService": ("service", "service"),
    "DeleteService": ("service", "service"),
    "DescribeServices": ("service", "services"),
    "RunTask": ("task-definition", "taskDefinition"),
    "StartTask": ("task-definition", "taskDefinition"),
    "RegisterTaskDefinition": ("task-definition", "family"),
    "StopTask": ("task", "task"),
    "DescribeTasks": ("task", "tasks"),
    "TagResource": ("", "resourceArn"),
    "UntagResource": ("", "resourceArn"),
    "ListTagsForResource": ("", "resourceArn"),
}
"""What kind of resource an operation is about, and the parameter that names it or them."""


def _ecs(call: Call) -> Iterator[str]:
    if call.operation not in _ECS:
        return
    kind, parameter = _ECS[call.operation]
    value = call.parameters.get(parameter) or ("default" if kind == "cluster" else "*")
    for name in value if isinstance(value, list) else [value]:
        yield (
            _task_definition(call, str(name)) if kind == "task-definition" else _named(call, kind, str(name))
        )


def _task_definition(call: Call, name: str) -> str:
    if name.startswith("arn:"):
        return name
    return _arn(call, "ecs", f"task-definition/{name if ':' in name else f'{name}:*'}")


def _cloudformation(call: Call) -> Iterator[str]:
    name = str(call.parameters.get("StackName", ""))
    if name:
        yield name if name.startswith("arn:") else _arn(call, "cloudformation", f"stack/{name}/*")
    elif stack_set := call.parameters.get("StackSetName"):
        yield _arn(call, "cloudformation", f"stackset/{stack_set}:*")


def _ssm(call: Call) -> Iterator[str]:
    found = call.parameters
    for name in found.get("Names") or [found.get("Name") or found.get("Path")]:
        if name:
            text = str(name)
            yield text if text.startswith("arn:") else _arn(call, "ssm", f"parameter/{text.lstrip('/')}")


def _s3(call: Call) -> Iterator[str]:
    bucket, key = call.parameters.get("Bucket"), call.parameters.get("Key")
    if bucket:
        yield f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"


_RESOURCES: Final[Mapping[str, Callable[[Call], Iterator[str]]]] = {
    "aps": _aps,
    "cloudformation": _cloudformation,
    "ecr": _ecr,
    "ecs": _ecs,
    "logs": _logs,
    "s3": _s3,
    "ssm": _ssm,
}

_IAM_NAMES: Final = (
    ("InstanceProfileName", "instance-profile"),
    ("UserName", "user"),
    ("GroupName", "group"),
)


async def _iam(call: Call, role_arn: RoleArn) -> str:
    found, path = call.parameters, call.parameters.get("Path", "/")
    if call.operation == "CreatePolicy":
        return f"arn:aws:iam::{call.account}:policy{path}{found.get('PolicyName', '*')}"
    if role := found.get("RoleName"):
        fresh = f"arn:aws:iam::{call.account}:role{path}{role}"
        return fresh if call.operation == "CreateRole" else await role_arn(call.account, role) or fresh
    for name, kind in _IAM_NAMES:
        if name in found:
            return f"arn:aws:iam::{call.account}:{kind}{path}{found[name]}"
    if call.operation == "ListRoles":
        return f"arn:aws:iam::{call.account}:role{found.get('PathPrefix', '/')}"
    return str(found.get("PolicyArn", "*"))


async def _passed(call: Call, role_arn: RoleArn) -> Any:
    """`iam:PassRole` for every role the call hands to a service."""
    for name, service in _roles_passed(call):
        text = str(name)
        arn = text if text.startswith("arn:") else await role_arn(call.account, text)
        yield Permission(
            "iam:PassRole",
            arn or f"arn:aws:iam::{call.account}:role/{text}",
            {"iam:PassedToService": service},
        )


def _roles_passed(call: Call) -> Iterator[tuple[Any, str]]:
    tasks = "ecs-tasks.amazonaws.com"
    found: Mapping[str, Any] = call.parameters
    if call.service == "ecs":
        overrides = found.get("overrides") or {}
        for source in (found, overrides):
            yield from (
                (source[name], tasks) for name in ("taskRoleArn", "executionRoleArn") if source.get(name)
            )
        if call.operation in {"CreateService", "UpdateService"} and found.get("role"):
            yield found["role"], "ecs.amazonaws.com"
    if call.service == "cloudformation" and found.get("RoleARN"):
        yield found["RoleARN"], "cloudformation.amazonaws.com"


READ_ONLY: Final = re.compile(r"(Get|List|Describe|Simulate|Generate)[A-Z]\w*")
"""Operations of IAM that change nothing."""
