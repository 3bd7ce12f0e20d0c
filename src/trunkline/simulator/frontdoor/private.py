"""The two private sockets: permissions for the workspace gateway, and AMP and events for the emulator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web

from trunkline.aws.iam import PolicyError, parse_policy
from trunkline.errors import SimulatorError
from trunkline.simulator.frontdoor import events
from trunkline.simulator.frontdoor.authority import Authority, Question
from trunkline.simulator.frontdoor.calls import Answer, Call, Received, read_operation
from trunkline.simulator.frontdoor.calls import Protocol as WireProtocol
from trunkline.simulator.frontdoor.errors import answer_for
from trunkline.simulator.frontdoor.roles import Roles
from trunkline.simulator.frontdoor.sessions import Clock, Identity, Sessions
from trunkline.simulator.frontdoor.signature import (
    ExpiredTokenError,
    Headers,
    Key,
    UnknownTokenError,
    header,
    verify,
)


class AuthorizeApi:
    """`authorize.sock`: who is asking, and may they.

    `POST /authorize` takes `method`, `host`, `path` and `query` as on the wire, `headers` (pairs),
    `body_sha256`, `action`, `resource`, and if wanted `context` (condition keys) and `resource_policy` (the
    document). It answers `allowed`, and either `account`, `arn`, `principal_arn`, `access_key_id`,
    `expires_at`, or `status`, `body`, `error_type` as AMP gives them.

    `POST /session` takes `access_key_id` and `token`, and answers what is needed to verify signatures
    elsewhere, or the same refusal. `GET /version` answers `version` alone; every answer carries it.
    """

    def __init__(self, sessions: Sessions, authority: Authority, roles: Roles, clock: Clock) -> None:
        self._sessions = sessions
        self._authority = authority
        self._roles = roles
        self._clock = clock

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; 404 for another path, 400 for a document that is not as described."""
        try:
            match request.method, request.path:
                case "GET", "/version":
                    return self._json({})
                case "POST", "/authorize":
                    return self._json(await self._authorize(json.loads(await request.read())))
                case "POST", "/session":
                    return self._json(await self._session(json.loads(await request.read())))
        except (KeyError, TypeError, ValueError, PolicyError) as error:
            return web.json_response({"error": f"not a request of this kind: {error!r}"}, status=400)
        return web.json_response({"error": "no such path"}, status=404)

    def _json(self, document: Mapping[str, Any]) -> web.Response:
        return web.json_response({**document, "version": self._roles.version})

    async def _authorize(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        received = _described(asked)
        try:
            verified = verify(
                received.method,
                received.raw_path,
                received.raw_query,
                received.headers,
                asked["body_sha256"],
                self._sessions.find,
                self._clock(),
                service=asked["action"].partition(":")[0],
            )
            identity = verified.key.principal
            document = asked.get("resource_policy")
            policy = parse_policy(document) if document else None
            context = {"aws:RequestedRegion": verified.region, **asked.get("context", {})}
            question = Question(asked["action"], asked["resource"], context, policy)
            await self._authority.require(identity, question)
        except PolicyError:
            raise
        except SimulatorError as error:
            return {"allowed": False, **_refused(error, received)}
        about = _about(identity, verified.key)
        return {"allowed": True, "access_key_id": verified.access_key_id, **about}

    async def _session(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        key = self._sessions.find(asked["access_key_id"])
        received = Received("GET", "/", "", (), b"")
        try:
            if key is None or (asked.get("token") or None) != key.token:
                raise UnknownTokenError("The security token included in the request is invalid.")
            if key.expires_at is not None and self._clock() >= key.expires_at:
                raise ExpiredTokenError("The security token included in the request is expired")
            await self._authority.role_of(key.principal)
        except SimulatorError as error:
            return {"known": False, **_refused(error, received)}
        return {"known": True, "secret_access_key": key.secret, **_about(key.principal, key)}


def _described(asked: Mapping[str, Any]) -> Received:
    headers: Headers = [(name, value) for name, value in asked["headers"]]
    if header(headers, "host") is None:
        headers = [("Host", asked["host"]), *headers]
    return Received(asked["method"], asked["path"], asked["query"], headers, b"")


def _about(identity: Identity, key: Key[Identity]) -> dict[str, Any]:
    return {
        "account": identity.account,
        "arn": identity.arn,
        "principal_arn": identity.principal_arn,
        "expires_at": key.expires_at,
    }


def _refused(error: SimulatorError, received: Received) -> dict[str, Any]:
    answer = answer_for(error, WireProtocol.REST_JSON, "aps", received)
    error_type = answer.headers["x-amzn-ErrorType"]
    return {"status": answer.status, "body": answer.body.decode(), "error_type": error_type}


class Door(Protocol):
    """What the internal API needs of the front door."""

    roles: Roles

    async def answer(self, call: Call) -> Answer:
        """Answer a call that is allowed."""

    async def announce(self, change: events.ServiceChange) -> None:
        """Tell the listeners that a service has changed."""


class InternalApi:
    """`internal.sock`: unsigned calls of the emulator's CloudFormation, and its news.

    `POST /events` takes `{"kind": "iam"}` or `{"kind": "service", …}` with the fields of ServiceChange. Any
    other request is an AWS call as `x-trunkline-account` in `x-trunkline-region`, of AMP unless
    `x-trunkline-service` names another service that has a handler.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        body = await request.read()
        if request.path == events.EVENTS_PATH:
            await self._event(json.loads(body))
            return web.Response(status=204)
        headers: Sequence[tuple[str, str]] = list(request.headers.items())
        path, _, query = request.raw_path.partition("?")
        received = Received(request.method, path, query, headers, body)
        answer = await self._called(received)
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))

    async def _event(self, event: dict[str, str]) -> None:
        kind = event.pop("kind")
        if kind == "iam":
            self._door.roles.changed()
        else:
            await self._door.announce(events.ServiceChange(**event))

    async def _called(self, received: Received) -> Answer:
        service = received.header(events.SERVICE_HEADER) or "aps"
        operation = read_operation(service, received)
        account = received.header(events.ACCOUNT_HEADER)
        root = f"arn:aws:iam::{account}:root"
        call = Call(
            service=service,
            operation=operation.name,
            protocol=operation.protocol,
            account=account,
            region=received.header(events.REGION_HEADER),
            identity=Identity(account, root, root, user_id=account),
            parameters=operation.parameters,
            received=received,
        )
        try:
            return await self._door.answer(call)
        except SimulatorError as error:
            return answer_for(error, operation.protocol, service, received)
