"""The `aps` control API: workspaces, their configuration, policy and tags, as the front door mounts it.

REST with JSON, after botocore's model of the service (`amp`, 2020-08-01). Every workspace has a Prometheus
server of its own, started when it is created and ended when it is deleted, and registered with the gateway
between the two.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote

from trunkline.errors import SimulatorError
from trunkline.simulator.gateway.client import GatewayClient
from trunkline.simulator.gateway.settings import LabelSetLimit, Limits, Workspace
from trunkline.simulator.prometheus import PrometheusServer

log = logging.getLogger(__name__)

Response: TypeAlias = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""

MAX_WORKSPACES = 25
"""Of an account in a region."""

_MAX_TAGS = 50
_RETENTION_DAYS, _MAX_RETENTION_DAYS = 150, 1095
_PAGE = 100
_TAG = re.compile(r"[\w\s.:/=+\-@]*")
_ARN = re.compile(r"arn:aws[-a-z]*:aps:(?P<region>[-a-z0-9]+):(?P<account>[0-9]{12}):workspace/(?P<id>.+)")


class ApiError(Exception):
    """An error in the service's shape; `fields` are those the model asks for beside the message."""

    def __init__(self, status: int, code: str, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.fields = status, code, fields

    def response(self) -> Response:
        body = json.dumps({"message": str(self), **self.fields}).encode()
        return self.status, {"Content-Type": "application/json", "x-amzn-errortype": self.code}, body


@dataclass(slots=True)
class _Record:
    """A workspace as the control API keeps it."""

    workspace: Workspace
    server: PrometheusServer
    created_at: float
    alias: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    status: str = "CREATING"
    configuration_status: str = "ACTIVE"
    retention_days: int = _RETENTION_DAYS
    rule_offset_s: int = 0
    policy_revision: str = ""
    client_token: str = ""
    coming_up: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    account: str
    region: str
    path: str
    query: Mapping[str, list[str]]
    body: Mapping[str, Any]

    def text(self, name: str) -> str:
        value = self.body.get(name, "")
        if not isinstance(value, str):
            raise _invalid(name, "must be a string")
        return value


_Handler: TypeAlias = Callable[[_Request, str], Awaitable[tuple[int, dict[str, Any]]]]


class WorkspaceApi:
    """Answers the control API for all accounts and regions.

    Call it from the thread that lives as long as the process: it starts Prometheus servers, which end with the
    thread that started them. `limits` holds for every workspace created.
    """

    def __init__(self, gateway: GatewayClient, state: Path, limits: Limits | None = None) -> None:
        self._gateway = gateway
        self._folder = state / "workspaces"
        self._limits = limits or Limits()
        self._records: dict[tuple[str, str], dict[str, _Record]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._operations: list[tuple[str, re.Pattern[str], _Handler]] = [
            ("POST", re.compile(r"/workspaces()"), self._create),
            ("GET", re.compile(r"/workspaces()"), self._list),
            ("GET", re.compile(r"/workspaces/([^/]+)"), self._describe),
            ("DELETE", re.compile(r"/workspaces/([^/]+)"), self._delete),
            ("POST", re.compile(r"/workspaces/([^/]+)/alias"), self._update_alias),
            ("GET", re.compile(r"/workspaces/([^/]+)/configuration"), self._describe_configuration),
            ("PATCH", re.compile(r"/workspaces/([^/]+)/configuration"), self._update_configuration),
            ("GET", re.compile(r"/workspaces/([^/]+)/policy"), self._describe_policy),
            ("PUT", re.compile(r"/workspaces/([^/]+)/policy"), self._put_policy),
            ("DELETE", re.compile(r"/workspaces/([^/]+)/policy"), self._delete_policy),
            ("GET", re.compile(r"/tags/(.+)"), self._list_tags),
            ("POST", re.compile(r"/tags/(.+)"), self._tag),
            ("DELETE", re.compile(r"/tags/(.+)"), self._untag),
        ]

    async def handle(
        self,
        account: str,
        region: str,
        method: str,
        path: str,
        query: str,
        body: bytes,
    ) -> Response:
        """Answer one request, which has been authenticated and authorised.

        `path` and `query` (without `?`) are as received, percent-encoded. Returns status, headers and body.
        """
        try:
            handler, argument = self._route(method, unquote(path).rstrip("/"))
            request = _Request(account, region, path, parse_qs(query, keep_blank_values=True), _parse(body))
            status, document = await handler(request, argument)
        except ApiError as error:
            return error.response()
        content = b"" if status == 204 else json.dumps(document).encode()
        return status, {"Content-Type": "application/json"}, content

    async def set_limits(self, workspace_id: str, limits: Limits) -> None:
        """Change what a workspace takes, as a raised quota would.

        Raises:
            SimulatorError: there is no such workspace.
        """
        for records in self._records.values():
            if record := records.get(workspace_id):
                record.workspace = replace(record.workspace, limits=limits)
                await self._gateway.register_workspace(record.workspace)
                return
        raise SimulatorError(f"there is no workspace {workspace_id}")

    async def close(self) -> None:
        """End all Prometheus servers; their data is removed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        records = [record for records in self._records.values() for record in records.values()]
        await asyncio.gather(*(record.server.stop() for record in records))
        self._records.clear()

    def _route(self, method: str, path: str) -> tuple[_Handler, str]:
        for wanted, pattern, handler in self._operations:
            if wanted == method and (matched := pattern.fullmatch(path)):
                return handler, matched[1]
        text = f"The simulated service has no operation {method} {path}"
        raise ApiError(400, "ValidationException", text, reason="UNKNOWN_OPERATION")

    def _record(self, request: _Request, workspace_id: str) -> _Record:
        record = self._records.get((request.account, request.region), {}).get(workspace_id)
        if record is None:
            raise _not_found(workspace_id, "Workspace not found")
        return record

    def _ready(self, request: _Request, workspace_id: str, *statuses: str) -> _Record:
        """The workspace in status ACTIVE, or in another of `statuses`."""
        record = self._record(request, workspace_id)
        if record.status not in {"ACTIVE", *statuses}:
            raise ApiError(
                409,
                "ConflictException",
                f"Workspace is in status {record.status}; the operation needs ACTIVE",
                resourceId=workspace_id,
                resourceType="AWS::APS::Workspace",
            )
        return record

    def _tagged(self, request: _Request, arn: str) -> _Record:
        matched = _ARN.fullmatch(arn)
        if matched is None or (matched["account"], matched["region"]) != (request.account, request.region):
            raise _not_found(arn, "Resource not found")
        return self._record(request, matched["id"])

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _create(self, request: _Request, _: str) -> tuple[int, dict[str, Any]]:
        records = self._records.setdefault((request.account, request.region), {})
        alias, tags, token = _alias(request), _tags(request.body.get("tags")), request.text("clientToken")
        for record in records.values():
            if token and record.client_token == token:
                return 202, _created(record)
        if len(records) >= MAX_WORKSPACES:
            raise ApiError(
                402,
                "ServiceQuotaExceededException",
                f"The account has {MAX_WORKSPACES} workspaces in this region, its quota",
                resourceId="workspaces",
                resourceType="AWS::APS::Workspace",
                serviceCode="aps",
                quotaCode="WorkspacesPerRegion",
            )
        workspace_id = f"ws-{uuid.uuid4()}"
        server = PrometheusServer(self._folder / workspace_id)
        workspace = Workspace(workspace_id, request.account, request.region, "", self._limits)
        records[workspace_id] = record = _Record(
            workspace, server, time.time(), alias, tags, client_token=token
        )
        record.coming_up = self._later(self._bring_up(record))
        return 202, _created(record)

    async def _bring_up(self, record: _Record) -> None:
        try:
            await record.server.start()
            record.workspace = replace(record.workspace, prometheus_url=record.server.url)
            registered = None
            # What has been changed meanwhile has to arrive as well.
            while registered is not record.workspace:
                registered = record.workspace
                await self._gateway.register_workspace(registered)
            record.status = "ACTIVE" if record.status == "CREATING" else record.status
        except SimulatorError as error:
            record.status = "CREATION_FAILED"
            log.error("workspace %s cannot be created: %s", record.workspace.id, error)  # noqa: TRY400 (said)

    async def _list(self, request: _Request, _: str) -> tuple[int, dict[str, Any]]:
        prefix = request.query.get("alias", [""])[0]
        records = sorted(
            self._records.get((request.account, request.region), {}).values(),
            key=lambda record: (record.created_at, record.workspace.id),
        )
        matching = [record for record in records if record.alias.startswith(prefix)]
        start, size = _page(request)
        answer: dict[str, Any] = {
            "workspaces": [_summary(record) for record in matching[start : start + size]],
        }
        if start + size < len(matching):
            answer["nextToken"] = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        return 200, answer

    async def _describe(self, request: _Request, workspace_id: str) -> tuple[int, dict[str, Any]]:
        record = self._record(request, workspace_id)
        host = f"aps-workspaces.{request.region}.amazonaws.com"
        endpoint = f"https://{host}/workspaces/{workspace_id}/api/v1/"
        return 200, {"workspace": {**_summary(record), "prometheusEndpoint": endpoint}}

    async def _delete(self, request: _Request, workspace_id: str) -> tuple[int, dict[str, Any]]:
        record = self._ready(request, workspace_id, "CREATING", "CREATION_FAILED")
        record.status = "DELETING"
        self._later(self._take_down(record))
        return 202, {}

    async def _take_down(self, record: _Record) -> None:
        if record.coming_up:
            await record.coming_up
        workspace = record.workspace
        try:
            await self._gateway.remove_workspace(workspace.id)
        except SimulatorError as error:
            log.warning("the gateway still serves %s: %s", workspace.id, error)
        await record.server.stop()
        self._records[workspace.account, workspace.region].pop(workspace.id, None)

    async def _update_alias(self, request: _Request, workspace_id: str) -> tuple[int, dict[str, Any]]:
        self._ready(request, workspace_id).alias = _alias(request)
        return 204, {}

    async def _describe_configuration(
        self,
        request: _Request,
        workspace_id: str,
    ) -> tuple[int, dict[str, Any]]:
        record = self._record(request, workspace_id)
        sets = [
            {"labelSet": dict(item.labels), "limits": {"maxSeries": item.max_series}}
            for item in record.workspace.label_sets
        ]
        configuration = {
            "status": {"statusCode": record.configuration_status},
            "limitsPerLabelSet": sets,
            "retentionPeriodInDays": record.retention_days,
            "outOfOrderTimeWindowInSeconds": int(record.workspace.limits.out_of_order_window_s),
            "ruleQueryOffsetInSeconds": record.rule_offset_s,
        }
        return 200, {"workspaceConfiguration": configuration}

    async def _update_configuration(self, request: _Request, workspace_id: str) -> tuple[int, dict[str, Any]]:
        # CloudFormation configures a workspace as soon as it has asked for it.
        record = self._ready(request, workspace_id, "CREATING")
        body = request.body
        retention_days = _whole(body, "retentionPeriodInDays", record.retention_days, 1, _MAX_RETENTION_DAYS)
        window_s = int(record.workspace.limits.out_of_order_window_s)
        window_s = _whole(body, "outOfOrderTimeWindowInSeconds", window_s, 0)
        rule_offset_s = _whole(body, "ruleQueryOffsetInSeconds", record.rule_offset_s, 0)
        sets = record.workspace.label_sets
        if "limitsPerLabelSet" in body:
            sets = _label_sets(body["limitsPerLabelSet"])
        record.retention_days, record.rule_offset_s = retention_days, rule_offset_s
        limits = replace(record.workspace.limits, out_of_order_window_s=float(window_s))
        record.workspace = replace(record.workspace, limits=limits, label_sets=sets)
        record.configuration_status = "UPDATING"
        self._later(self._reconfigure(record))
        return 202, {"status": {"statusCode": "UPDATING"}}

    async def _reconfigure(self, record: _Record) -> None:
        try:
            if record.status == "ACTIVE":
                await self._gateway.register_workspace(record.workspace)
            record.configuration_status = "ACTIVE"
        except SimulatorError as error:
            record.configuration_status = "UPDATE_FAILED"
            log.error("workspace %s cannot be changed: %s", record.workspace.id, error)  # noqa: TRY400 (said)

    async def _describe_policy(self, request: _Request, workspace_id: str) -> tuple[int, dict[str, Any]]:
        record = self._record(request, workspace_id)
        if record.workspace.resource_policy is None:
            raise _not_found(workspace_id, "Workspace has no resource policy")
        policy = {"policyDocument": record.workspace.resource_policy, "policyStatus": "ACTIVE"}
        return 200, {**policy, "revisionId": record.policy_revision}

    async def _put_policy(self, request: _Request, workspace_id: str) -> tuple[int, dict[str, Any]]:
        record = self._ready(request, workspace_id)
        _check_revision(record, request.text("revisionId"))
        document = request.text("policyDocument")
        try:
            json.loads(document)
        except ValueError as error:
            raise _invalid("policyDocument", "must be a JSON document") from error
        status = "CREATING" if record.workspace.resource_policy is None else "UPDATING"
        await self._set_policy(record, document)
        return 202, {"policyStatus": status, "revisionId": record.policy_revision}

    async def _delete_policy(self, request: _Request, workspace_id: str) -> tuple[int, dict[str, Any]]:
        record = self._ready(request, workspace_id)
        _check_revision(record, request.query.get("revisionId", [""])[0])
        await self._set_policy(record, None)
        return 202, {}

    async def _set_policy(self, record: _Record, document: str | None) -> None:
        record.workspace = replace(record.workspace, resource_policy=document)
        record.policy_revision = str(uuid.uuid4())
        await self._gateway.register_workspace(record.workspace)

    async def _list_tags(self, request: _Request, arn: str) -> tuple[int, dict[str, Any]]:
        return 200, {"tags": self._tagged(request, arn).tags}

    async def _tag(self, request: _Request, arn: str) -> tuple[int, dict[str, Any]]:
        record = self._tagged(request, arn)
        record.tags = _tags({**record.tags, **_tags(request.body.get("tags"))})
        return 200, {}

    async def _untag(self, request: _Request, arn: str) -> tuple[int, dict[str, Any]]:
        record = self._tagged(request, arn)
        for name in request.query.get("tagKeys", []):
            record.tags.pop(name, None)
        return 200, {}


def _created(record: _Record) -> dict[str, Any]:
    return {
        "workspaceId": record.workspace.id,
        "arn": record.workspace.arn,
        "status": {"statusCode": record.status},
        "tags": record.tags,
    }


def _summary(record: _Record) -> dict[str, Any]:
    alias = {"alias": record.alias} if record.alias else {}
    return {**_created(record), **alias, "createdAt": round(record.created_at, 3)}


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except ValueError as error:
        raise ApiError(400, "ValidationException", f"Bad request: {error}", reason="CANNOT_PARSE") from error
    if not isinstance(document, dict):
        raise ApiError(400, "ValidationException", "Bad request: not an object", reason="CANNOT_PARSE")
    return document


def _invalid(name: str, message: str) -> ApiError:
    return ApiError(
        400,
        "ValidationException",
        f"{name} {message}",
        reason="FIELD_VALIDATION_FAILED",
        fieldList=[{"name": name, "message": message}],
    )


def _not_found(resource: str, message: str) -> ApiError:
    return ApiError(
        404,
        "ResourceNotFoundException",
        message,
        resourceId=resource,
        resourceType="AWS::APS::Workspace",
    )


def _alias(request: _Request) -> str:
    alias = request.text("alias").strip()
    if len(alias) > 100:
        raise _invalid("alias", "must have length less than or equal to 100")
    return alias


def _tags(found: object) -> dict[str, str]:
    tags = found if found is not None else {}
    if not isinstance(tags, dict) or len(tags) > _MAX_TAGS:
        raise _invalid("tags", f"must be a map of at most {_MAX_TAGS} tags")
    for name, value in tags.items():
        good = isinstance(value, str) and 1 <= len(name) <= 128 and len(value) <= 256
        if not good or name.startswith("aws:") or not _TAG.fullmatch(name) or not _TAG.fullmatch(value):
            raise _invalid("tags", f"has an invalid tag {name!r}")
    return dict(tags)


def _page(request: _Request) -> tuple[int, int]:
    """Where the page starts, and its size."""
    try:
        size = int(request.query.get("maxResults", [str(_PAGE)])[0])
        token = request.query.get("nextToken", [""])[0]
        start = int(base64.urlsafe_b64decode(token)) if token else 0
    except ValueError as error:
        raise _invalid("nextToken", "is not one this service has given") from error
    if not 1 <= size <= 1000:
        raise _invalid("maxResults", "must be between 1 and 1000")
    return start, size


def _whole(body: Mapping[str, Any], name: str, default: int, low: int, high: int | None = None) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise _invalid(name, f"must have value greater than or equal to {low}")
    if high is not None and value > high:
        raise _invalid(name, f"must have value less than or equal to {high}")
    return value


def _label_sets(found: object) -> tuple[LabelSetLimit, ...]:
    try:
        return tuple(_label_set(item) for item in found)  # type: ignore[attr-defined]
    except (TypeError, KeyError, AttributeError) as error:
        raise _invalid("limitsPerLabelSet", "must be a list of labelSet and limits") from error


def _label_set(item: Mapping[str, Any]) -> LabelSetLimit:
    labels = tuple(sorted(item["labelSet"].items()))
    limit = _whole(item["limits"], "maxSeries", 0, 0)
    return LabelSetLimit(labels, limit)


def _check_revision(record: _Record, revision: str) -> None:
    if revision and revision != record.policy_revision:
        raise ApiError(
            409,
            "ConflictException",
            "The policy has been changed since: its revisionId is another",
            resourceId=record.workspace.id,
            resourceType="AWS::APS::Workspace",
        )
