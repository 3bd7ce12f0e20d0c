"""The front door: one address for all AWS traffic."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import web

from trunkline.errors import SimulatorError
from trunkline.simulator.frontdoor import permissions
from trunkline.simulator.frontdoor.authority import Authority, Question
from trunkline.simulator.frontdoor.backend import Backend
from trunkline.simulator.frontdoor.calls import Answer, Call, Handler, Observer, Received, read_operation
from trunkline.simulator.frontdoor.errors import AwsError, ThrottledError, answer_for, unknown_operation
from trunkline.simulator.frontdoor.events import ServiceChange, ServiceListener
from trunkline.simulator.frontdoor.faults import Faults
from trunkline.simulator.frontdoor.private import AuthorizeApi, InternalApi
from trunkline.simulator.frontdoor.quotas import answer_quotas
from trunkline.simulator.frontdoor.roles import Roles
from trunkline.simulator.frontdoor.sessions import AccessKey, Clock, Credentials, Sessions
from trunkline.simulator.frontdoor.signature import SignatureError, parse_authorization, verify
from trunkline.simulator.frontdoor.simulation import Simulation
from trunkline.simulator.frontdoor.sts import Sts

_log = logging.getLogger(__name__)

TASK_SESSION_S: Final = 6 * 3600
"""How long the credentials of an ECS task live."""

_MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_MAX_LINE_BYTES: Final = 64 * 1024
_REGION: Final = re.compile(r"[a-z]{2,3}(-[a-z]+)+-\d")
_HOST_SERVICES: Final = {"aps-workspaces": "aps"}


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket to listen on as well, with TLS when there is a context."""

    socket: socket.socket
    tls: ssl.SSLContext | None = None


class FrontDoor:
    """Authenticates, authorises, counts and answers AWS calls, or passes them on to the emulator.

    `state` is the folder of the private sockets; `handlers` answer for services, by signing name; `observers`
    are told of what the emulator answered. Use `start` and `stop`, or as an async context manager.
    """

    def __init__(
        self,
        state: Path,
        emulator_socket: Path,
        *,
        handlers: Mapping[str, Handler] | None = None,
        observers: Sequence[Observer] = (),
        listeners: Sequence[Listener] = (),
        port: int = 0,
        organization: str = "o-trunkline",
        clock: Clock = time.time,
    ) -> None:
        self.faults = Faults()
        self.calls: Counter[tuple[str, str, str]] = Counter()
        """How often (account, service, operation) was called, refusals of authenticated callers included."""
        self.backend = Backend(emulator_socket)
        self.roles = Roles(self.backend)
        self.sessions = Sessions(clock, ended=self.roles.changed)
        self.authority = Authority(self.roles, clock, organization)
        self.handlers: dict[str, Handler] = {
            "iam": Simulation(self.roles).handle,
            "servicequotas": answer_quotas,
            "sts": Sts(self.authority, self.sessions).handle,
            **(handlers or {}),
        }
        self.observers = list(observers)
        self.authorize_socket = state / "authorize.sock"
        self.internal_socket = state / "internal.sock"
        self._listeners = list(listeners)
        self._port = port
        self._clock = clock
        self._runners: list[web.BaseRunner] = []
        self._service_listeners: list[ServiceListener] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where boto3 finds it (`AWS_ENDPOINT_URL`); valid once it has started."""
        return f"http://127.0.0.1:{self._port}"

    def add_account(self, account: str, key: AccessKey | None = None) -> AccessKey:
        """Let `account` exist and give it an administrator; a key is made if none is given."""
        return self.sessions.add_administrator(account, key)

    def on_service_change(self, listener: ServiceListener) -> None:
        """Have `listener` told of every ECS service that is created, updated or deleted.

        It runs after the emulator's own work and may ask it things.
        """
        self._service_listeners.append(listener)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; raises OSError if the port is taken."""
        await self.backend.__aenter__()
        try:
            await self._listen()
        except BaseException:
            await self.stop()
            raise

    async def _listen(self) -> None:
        public = await self._serve(self._handle)
        own = socket.create_server(("127.0.0.1", self._port), backlog=512)
        self._port = own.getsockname()[1]
        for listener in [Listener(own), *self._listeners]:
            await web.SockSite(public, listener.socket, ssl_context=listener.tls).start()
        authorize = AuthorizeApi(self.sessions, self.authority, self.roles, self._clock)
        await self._serve_private(authorize.handle, self.authorize_socket)
        await self._serve_private(InternalApi(self).handle, self.internal_socket)

    async def _serve(self, handler: Any) -> web.ServerRunner:
        # Bodies reach the signature check as they were sent: nothing is unpacked on the way.
        server = web.Server(
            handler,
            request_factory=_request,
            auto_decompress=False,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            access_log=None,
        )
        runner = web.ServerRunner(server)
        self._runners.append(runner)
        await runner.setup()
        return runner

    async def _serve_private(self, handler: Any, path: Path) -> None:
        runner = await self._serve(handler)
        await web.SockSite(runner, _private_socket(path)).start()

    async def stop(self) -> None:
        """Stop listening; calls under way are ended."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        await self.backend.__aexit__()
        _remove(self.authorize_socket, self.internal_socket)

    async def issue_task_session(
        self, role_arn: str, session_name: str, region: str, *, lifetime_s: float = TASK_SESSION_S
    ) -> Credentials:
        """A session of `role_arn` for an ECS task of the role's account in `region`.

        Raises AccessDeniedError when the role does not trust `ecs-tasks.amazonaws.com` for that account.
        """
        account = role_arn.split(":")[4]
        context = {"aws:SourceAccount": account, "aws:SourceArn": f"arn:aws:ecs:{region}:{account}:*"}
        role = await self.authority.require_service("ecs-tasks.amazonaws.com", role_arn, context)
        return self.sessions.open(role.arn, role.id, session_name, lifetime_s)

    async def ask(
        self, account: str, region: str, service: str, operation: str, **parameters: Any
    ) -> dict[str, Any]:
        """Call the emulator as boto3 would, privately: unsigned, unauthorised and uncounted.

        `service` is botocore's name. Raises AwsError for a refusal. Handlers of `aps` must not use it while
        they answer: the emulator's CloudFormation may be waiting for them.
        """
        return await self.backend.ask(account, region, service, operation, parameters)

    async def forward(self, call: Call) -> Answer:
        """The emulator's answer to `call`, for a handler that wants to change it."""
        return await self.backend.forward(call.received, call.account, call.region, call.service)

    async def announce(self, change: ServiceChange) -> None:
        """Tell the listeners that a service has changed, without waiting for them."""
        for listener in self._service_listeners:
            task = asyncio.create_task(_told(listener, change))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        received = await read(request)
        service = _service_of(received)
        try:
            answer = await self._answer(received)
        except SimulatorError as error:
            answer = answer_for(error, read_operation(service, received).protocol, service, received)
        except Exception as error:  # noqa: BLE001 (one call that fails must not look like a broken connection)
            _log.exception("the front door failed at a call of %s", service)
            failure = AwsError("InternalFailure", f"The simulator failed: {error!r}", 500)
            answer = answer_for(failure, read_operation(service, received).protocol, service, received)
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))

    async def _answer(self, received: Received) -> Answer:
        call = self._authenticated(received)
        self.calls[call.account, call.service, call.operation] += 1
        await self._fail_on_purpose(call)
        if not call.operation:
            raise unknown_operation(call.protocol, call.service)
        # STS decides for itself: it weighs the caller's policies together with the role's trust.
        if call.service != "sts":
            await self._authorize(call)
        return await self.answer(call)

    def _authenticated(self, received: Received) -> Call:
        service, region = _address(received.header("host"))
        verified = verify(
            received.method,
            received.raw_path,
            received.raw_query,
            received.headers,
            sha256(received.body).hexdigest(),
            self.sessions.find,
            self._clock(),
            service=service,
            region=region,
        )
        operation = read_operation(verified.service, received)
        identity = verified.key.principal
        return Call(
            service=verified.service,
            operation=operation.name,
            protocol=operation.protocol,
            account=identity.account,
            region=verified.region,
            identity=identity,
            parameters=operation.parameters,
            received=received,
        )

    async def _fail_on_purpose(self, call: Call) -> None:
        fault = self.faults.pick(call.account, call.service, call.operation)
        if fault is None:
            return
        await asyncio.sleep(fault.delay_s)
        if fault.is_throttling:
            raise ThrottledError
        if fault.code:
            raise AwsError(fault.code, fault.message or fault.code, fault.status)

    async def _authorize(self, call: Call) -> None:
        # What a stack of CloudFormation does inside the emulator is not seen here and needs no permission of
        # its own: the emulator acts as the principal that deploys, who was allowed cloudformation:*.
        for needed in await permissions.needed(call, self._role_arn):
            context = {"aws:RequestedRegion": call.region, **needed.context}
            await self.authority.require(call.identity, Question(needed.action, needed.resource, context))

    async def _role_arn(self, account: str, name: str) -> str | None:
        role = await self.roles.named(account, name)
        return role.arn if role else None

    async def answer(self, call: Call) -> Answer:
        """Answer a call that is allowed: by the service's handler, or else by the emulator."""
        handler = self.handlers.get(call.service)
        answer = await handler(call) if handler else None
        if answer is not None:
            return answer
        answer = await self.forward(call)
        if call.service == "iam" and not permissions.READ_ONLY.fullmatch(call.operation):
            self.roles.changed()
        for observer in self.observers:
            await observer(call, answer)
        return answer


async def _told(listener: ServiceListener, change: ServiceChange) -> None:
    try:
        await listener(change)
    except Exception:  # noqa: BLE001 (a listener's failure is its own)
        _log.exception("a listener failed at %s", change)


def _private_socket(path: Path) -> socket.socket:
    """A socket at `path` that only this user can connect to, in place of what a crash may have left there."""
    _remove(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(str(path))
    path.chmod(0o600)
    return made


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY_BYTES)


async def read(request: web.BaseRequest) -> Received:
    """The whole request as it came in; raises aiohttp's 413 for a body over 64 MiB."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    headers = [
        (name.decode("utf-8", "surrogateescape"), text.decode("utf-8", "surrogateescape"))
        for name, text in request.raw_headers
    ]
    path, _, query = request.raw_path.partition("?")
    return Received(request.method, path, query, headers, await request.read())


def _service_of(received: Received) -> str:
    """The service a request is for, as well as it can be told before it is authenticated."""
    try:
        return parse_authorization(received.headers).service
    except SignatureError:
        return _address(received.header("host"))[0] or ""


def _address(host: str) -> tuple[str | None, str | None]:
    """The service and region a host name of AWS stands for; None where it does not tell."""
    name, dot, _ = host.partition(".amazonaws.com")
    if not dot:
        return None, None
    labels = name.split(".")
    region = labels.pop() if _REGION.fullmatch(labels[-1]) else None
    service = labels[-1].removesuffix("-fips") if labels else None
    if service == "s3" or region:
        return _HOST_SERVICES.get(service or "", service), region
    return service, "us-east-1"
