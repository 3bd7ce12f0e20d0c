"""The data plane: what a request passes on its way to the Prometheus of its workspace.

The order is AMP's as far as it shows: the size of the body, the signature, the policy, the workspace, the rate
of calls, then the request itself. A caller who has no permission is told so whether or not the workspace
exists; one who has is told `Workspace not found` for the wrong account or region.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import sha256
from typing import NamedTuple

import aiohttp
from aiohttp import web
from yarl import URL

from trunkline.errors import WireError
from trunkline.simulator.gateway.faults import Faults
from trunkline.simulator.gateway.identity import Caller, DeniedError, FrontDoorError, Identity, SignedRequest
from trunkline.simulator.gateway.settings import Fault, Limits
from trunkline.simulator.gateway.workspaces import QUERY, WRITE, ServedWorkspace, Workspaces

log = logging.getLogger(__name__)

_PATH = re.compile(r"/workspaces/(?P<workspace>[^/]+)/api/v1/(?P<tail>.+)")
_HOST = re.compile(
    r"(?:[^.]+\.)?aps-workspaces(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)",
)
_LABEL_VALUES = re.compile(r"label/[^/]+/values")

_READ_TIMEOUT_S = 30.0
_BODIES_BYTES = 16 * 1024 * 1024
"""How much of all bodies may be in memory at the same time; further requests wait."""
_QUERY_RESULT_BYTES = 16 * 1024 * 1024


class Operation(NamedTuple):
    """What a path asks for: the IAM action that allows it, and the methods it may come with."""

    action: str
    methods: frozenset[str]


_READ = frozenset({"GET"})
_READ_OR_FORM = frozenset({"GET", "POST"})
_OPERATIONS: Mapping[str, Operation] = {
    "remote_write": Operation(WRITE, frozenset({"POST"})),
    "query": Operation(QUERY, _READ_OR_FORM),
    "query_range": Operation(QUERY, _READ_OR_FORM),
    "series": Operation("aps:GetSeries", _READ_OR_FORM),
    "labels": Operation("aps:GetLabels", _READ_OR_FORM),
    "metadata": Operation("aps:GetMetricMetadata", _READ),
    "rules": Operation("aps:ListRules", _READ),
    "alerts": Operation("aps:ListAlerts", _READ),
}


@dataclass(slots=True)
class Answer:
    """An answer before it is sent; the fault that spoils it, if any."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


class RefusedError(Exception):
    """The request ends here, with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class ConnectionLostError(Exception):
    """The connection is closed without an answer."""


@dataclass(slots=True)
class _Call:
    """One request on its way."""

    request: web.Request
    workspace_id: str
    tail: str
    served: ServedWorkspace | None
    host_region: str | None
    operation: Operation | None
    body: bytes = b""

    @property
    def action(self) -> str:
        return self.operation.action if self.operation else ""


class DataPlane:
    """Answers what comes in on the workspaces' addresses."""

    def __init__(self, workspaces: Workspaces, identity: Identity, faults: Faults) -> None:
        self._workspaces = workspaces
        self._identity = identity
        self._faults = faults
        self._bodies = _Budget(_BODIES_BYTES)
        self._prometheus: aiohttp.ClientSession | None = None
        self.elsewhere: Counter[int] = Counter()
        """Answers by status to requests that named no workspace we serve."""

    def application(self) -> web.Application:
        """The application to be served on the listening sockets."""
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", self._handle)
        application.on_cleanup.append(self._close)
        return application

    async def _close(self, _: web.Application) -> None:
        if self._prometheus:
            await self._prometheus.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = self._call(request)
        now_s = time.time()
        try:
            answer = await self._carry_out(call, now_s)
        except RefusedError as refused:
            answer = refused.answer
        except ConnectionLostError:
            return _hang_up(request)
        except FrontDoorError as error:
            log.error("%s", error)  # noqa: TRY400 (the cause is in the text)
            answer = _error(500, "InternalServerException", "Internal server error")
        if call.served:
            call.served.counts.requests[call.action][answer.status] += 1
        else:
            self.elsewhere[answer.status] += 1
        skew_s = self._faults.skew_s(now_s, call.workspace_id)
        return await _send(request, answer, time.time() + skew_s)

    def _call(self, request: web.Request) -> _Call:
        path = request.raw_path.partition("?")[0]
        matched = _PATH.fullmatch(path)
        workspace_id, tail = (matched["workspace"], matched["tail"]) if matched else ("", "")
        host = _HOST.fullmatch(request.headers.get("Host", "").partition(":")[0].lower())
        name = "labels" if _LABEL_VALUES.fullmatch(tail) else tail
        return _Call(
            request,
            workspace_id,
            tail,
            self._workspaces.find(workspace_id),
            host["region"] if host else None,
            _OPERATIONS.get(name),
        )

    async def _carry_out(self, call: _Call, now_s: float) -> Answer:
        if self._fault("down", call, now_s):
            raise ConnectionLostError
        limit = (call.served.workspace.limits if call.served else Limits()).max_request_bytes
        declared = call.request.content_length
        _check_size(declared or 0, limit)
        async with self._bodies.hold(limit if declared is None else declared):
            call.body = await _read_body(call.request, limit)
            caller = await self._authenticate(call, now_s)
            served, operation = await self._authorize(call, caller)
            await self._go_wrong(call, caller, now_s)
            if not served.may_call(operation.action, now_s):
                raise RefusedError(_error(429, "ThrottlingException", "Rate exceeded"))
            answer = await self._operate(call, served, caller, now_s)
        answer.drop = self._fault("drop", call, now_s, caller) is not None
        return answer

    async def _operate(self, call: _Call, served: ServedWorkspace, caller: Caller, now_s: float) -> Answer:
        if call.action == WRITE:
            return await self._write(call, served, caller, now_s)
        if call.tail == "metadata":
            return _metadata(call, served)
        return await self._read(call, served)

    async def _authenticate(self, call: _Call, now_s: float) -> Caller:
        request = call.request
        path, _, query = request.raw_path.partition("?")
        signed = SignedRequest(
            request.method,
            path,
            query,
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers],
            sha256(call.body).hexdigest(),
        )
        clock_s = now_s + self._faults.skew_s(now_s, call.workspace_id)
        try:
            return await self._identity.authenticate(signed, clock_s, call.host_region)
        except DeniedError as error:
            raise RefusedError(_error(403, error.error_type, str(error))) from error

    async def _authorize(self, call: _Call, caller: Caller) -> tuple[ServedWorkspace, Operation]:
        if call.operation is None:
            raise RefusedError(_error(404, "UnknownOperationException", "Not Found"))
        if call.request.method not in call.operation.methods:
            raise RefusedError(_error(405, "UnknownOperationException", "Method Not Allowed"))
        served = call.served
        shared = served is not None and served.workspace.resource_policy is not None
        region = call.host_region or caller.region
        # Without a resource policy a workspace is looked for in the caller's own account.
        account = served.workspace.account if served and shared else caller.account
        resource = f"arn:aws:aps:{region}:{account}:workspace/{call.workspace_id}"
        policy = served.workspace.resource_policy if served else None
        try:
            await self._identity.authorize(caller, call.operation.action, resource, policy)
        except DeniedError as error:
            raise RefusedError(_error(403, error.error_type, str(error), key="Message")) from error
        if served is None or served.workspace.region != region or served.workspace.account != account:
            raise RefusedError(_error(404, "ResourceNotFoundException", "Workspace not found", key="Message"))
        return served, call.operation

    def _fault(self, kind: str, call: _Call, now_s: float, caller: Caller | None = None) -> Fault | None:
        source = caller.account if caller else ""
        return self._faults.take(
            kind,
            now_s,
            workspace=call.workspace_id,
            source=source,
            action=call.action,
        )

    async def _go_wrong(self, call: _Call, caller: Caller, now_s: float) -> None:
        if self._fault("down", call, now_s, caller):
            raise ConnectionLostError
        if fault := self._fault("slow", call, now_s, caller):
            await asyncio.sleep(fault.delay_s)
        if fault := self._fault("throttle", call, now_s, caller):
            answer = _error(429, "ThrottlingException", "Rate exceeded")
            if fault.retry_after_s is not None:
                answer.headers["Retry-After"] = f"{fault.retry_after_s:g}"
            raise RefusedError(answer)
        if fault := self._fault("error", call, now_s, caller):
            raise RefusedError(_error(fault.status, "InternalServerException", "Internal server error"))
        if self._fault("expire", call, now_s, caller):
            text = "The security token included in the request is expired"
            raise RefusedError(_error(403, "ExpiredTokenException", text))
        if fault := self._fault("too_large", call, now_s, caller):
            _check_size(len(call.body), fault.max_bytes)

    async def _write(self, call: _Call, served: ServedWorkspace, caller: Caller, now_s: float) -> Answer:
        _check_headers(call.request)
        fault = self._fault("refuse_series", call, now_s, caller)
        served.counts.body_bytes += len(call.body)
        try:
            verdict = served.admission.judge(
                call.body, caller.account, now_s, fault.labels if fault else None
            )
        except WireError as error:
            return _plain(400, str(error))
        if verdict.forward is not None:
            await self._forward(served, verdict.forward)
        served.count(verdict)
        if verdict.refusal:
            return _plain(verdict.refusal.status, verdict.refusal.text)
        return Answer(200, content_type="text/plain")

    async def _forward(self, served: ServedWorkspace, body: bytes) -> None:
        headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "snappy",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        url = f"{served.workspace.prometheus_url}/api/v1/write"
        try:
            async with self._client().post(url, data=body, headers=headers) as stored:
                if stored.status < 300:
                    return
                text = await stored.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            log.error("%s cannot be written: %s", url, error)  # noqa: TRY400 (expected while it is down)
            raise RefusedError(_error(500, "InternalServerException", "Internal server error")) from error
        # It should have taken everything: what it refuses, the rules here have missed.
        log.error("%s answered %d: %s", url, stored.status, text)
        raise RefusedError(_plain(stored.status, text.strip()))

    async def _read(self, call: _Call, served: ServedWorkspace) -> Answer:
        request = call.request
        query = request.raw_path.partition("?")[2]
        url = f"{served.workspace.prometheus_url}/api/v1/{call.tail}?{query}"
        headers = {"Accept-Encoding": "identity"}
        if content_type := request.headers.get("Content-Type"):
            headers["Content-Type"] = content_type
        timeout = aiohttp.ClientTimeout(total=served.workspace.limits.max_query_s)
        try:
            async with self._client().request(
                request.method,
                URL(url, encoded=True),
                data=call.body or None,
                headers=headers,
                timeout=timeout,
            ) as found:
                body = await _read_at_most(found.content, _QUERY_RESULT_BYTES)
        except TimeoutError as error:
            text = "query timed out in expression evaluation"
            raise RefusedError(_query_error("timeout", text)) from error
        except aiohttp.ClientError as error:
            log.error("%s cannot be read: %s", url, error)  # noqa: TRY400 (expected while it is down)
            raise RefusedError(_error(500, "InternalServerException", "Internal server error")) from error
        if body is None:
            return _query_error("execution", f"the result is larger than {_QUERY_RESULT_BYTES} bytes")
        return Answer(found.status, body)

    def _client(self) -> aiohttp.ClientSession:
        if self._prometheus is None:
            self._prometheus = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        return self._prometheus


class _Budget:
    """So many bytes, held for a while; who finds too few left waits. Everybody may hold all of them at most."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, wanted: int) -> AsyncIterator[None]:
        size = min(wanted, self._size)
        async with self._changed:
            await self._changed.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            async with self._changed:
                self._left += size
                self._changed.notify_all()


async def _read_body(request: web.Request, limit: int) -> bytes:
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            body = await _read_at_most(request.content, limit)
    except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
        raise ConnectionLostError from error
    if body is None:
        _check_size(limit + 1, limit)
    return body or b""


async def _read_at_most(content: aiohttp.StreamReader, limit: int) -> bytes | None:
    """All of it, or None when there is more than `limit` bytes."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise RefusedError(_error(413, "RequestEntityTooLargeException", "Request Too Long"))


def _check_headers(request: web.Request) -> None:
    """The three headers of AMP's RemoteWrite page; 1.0 is all it is documented to speak."""
    media_type, _, parameters = request.headers.get("Content-Type", "").partition(";")
    is_second = "io.prometheus.write.v2" in parameters
    if media_type.strip().lower() != "application/x-protobuf" or is_second:
        raise RefusedError(
            _plain(415, f"unsupported content type: {request.headers.get('Content-Type', '')!r}")
        )
    encoding = request.headers.get("Content-Encoding", "")
    if encoding.lower() != "snappy":
        raise RefusedError(_plain(415, f"unsupported content encoding: {encoding!r}"))
    version = request.headers.get("X-Prometheus-Remote-Write-Version", "")
    if not version.startswith("0.1."):
        raise RefusedError(_plain(400, f"unsupported X-Prometheus-Remote-Write-Version: {version!r}"))


def _metadata(call: _Call, served: ServedWorkspace) -> Answer:
    """What writers said of their metrics: Prometheus' receiver does not keep it."""
    wanted = call.request.query.get("metric")
    known = served.admission.metadata
    names = [wanted] if wanted else list(known)
    limit = call.request.query.get("limit", "")
    if limit.isdigit():
        names = names[: int(limit)]
    data = {
        name: [{"type": item.type, "help": item.help, "unit": item.unit} for item in known[name]]
        for name in names
        if name in known
    }
    return Answer(200, json.dumps({"status": "success", "data": data}).encode())


def _query_error(error_type: str, text: str) -> Answer:
    document = {"status": "error", "errorType": error_type, "error": text}
    return Answer(422, json.dumps(document).encode())


def _error(status: int, error_type: str, message: str, key: str = "message") -> Answer:
    """An error of the service. It writes `message` before its policies are asked, and `Message` after."""
    body = json.dumps({key: message}).encode()
    return Answer(status, body, headers={"x-amzn-ErrorType": error_type})


def _plain(status: int, text: str) -> Answer:
    return Answer(status, text.encode() + b"\n", content_type="text/plain")


async def _send(request: web.Request, answer: Answer, now_s: float) -> web.StreamResponse:
    headers = {
        "Content-Type": answer.content_type,
        "Date": formatdate(now_s, usegmt=True),
        "x-amzn-RequestId": str(uuid.uuid4()),
        **answer.headers,
    }
    if not answer.drop:
        return web.Response(status=answer.status, body=answer.body, headers=headers)
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = len(answer.body) + 64
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2] or b" ")
    return _hang_up(request, response)


def _hang_up(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    if request.transport:
        request.transport.abort()
    return response or web.Response()
