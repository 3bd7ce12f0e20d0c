"""Who is asking, and may they: signatures are verified here, sessions and policies asked of the front door.

The front door answers on a unix socket (`frontdoor.private.AuthorizeApi`), and says with every answer which
version of IAM's state it comes from. Answers are kept while that version, asked for at most every 200 ms, stays
the same. Whoever asks it for permission must show a signature: a question is signed here with the caller's own
key, so that its answer holds for the caller's later requests as well, whatever the gateway's clock shows.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import aiohttp

from trunkline.simulator.frontdoor import signature
from trunkline.simulator.frontdoor.signature import (
    ExpiredTokenError,
    Key,
    Scope,
    SignatureError,
    UnknownTokenError,
)

_VERSION_EVERY_S = 0.2
_MAX_KEPT = 10_000
_TIMEOUT = aiohttp.ClientTimeout(total=10)

_ERROR_TYPES: Mapping[type[SignatureError], str] = {
    signature.MissingAuthenticationError: "MissingAuthenticationTokenException",
    signature.IncompleteSignatureError: "IncompleteSignatureException",
    signature.UnknownTokenError: "UnrecognizedClientException",
    signature.ExpiredTokenError: "ExpiredTokenException",
    signature.ClockSkewError: "RequestExpired",
    signature.ScopeError: "InvalidSignatureException",
    signature.SignatureMismatchError: "InvalidSignatureException",
}


class DeniedError(Exception):
    """The request is refused with 403; the text is AWS's, `error_type` its name for the error."""

    def __init__(self, message: str, error_type: str) -> None:
        super().__init__(message)
        self.error_type = error_type


class FrontDoorError(Exception):
    """The front door did not answer as agreed."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated principal; `arn` is the user's or the session's."""

    arn: str
    account: str
    access_key_id: str
    token: str
    region: str
    """What the signature was made for."""
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a signature covers, as it was received: path and query still encoded."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body_sha256: str


class Identity:
    """Authenticates and authorises, keeping what the front door said. `asked` counts what it was asked."""

    def __init__(self, authorize_socket: str) -> None:
        self._socket = authorize_socket
        self._client: aiohttp.ClientSession | None = None
        self._version: object = None
        self._checked_s = 0.0
        self._checking = asyncio.Lock()
        self._sessions: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._decisions: dict[tuple[str, ...], Mapping[str, Any]] = {}
        self.asked = {"version": 0, "session": 0, "authorize": 0}

    async def close(self) -> None:
        """Let go of the connections to the front door."""
        if self._client:
            await self._client.close()

    async def authenticate(self, request: SignedRequest, now_s: float, region: str | None) -> Caller:
        """Whose signature this is; `region` is the one the address stands for, None when it does not tell.

        Raises:
            DeniedError: not signed, or not as AWS wants it.
            FrontDoorError: the front door could not be asked.
        """
        try:
            scope = signature.parse_authorization(request.headers)
            token = signature.header(request.headers, "x-amz-security-token") or ""
            session = await self._session(scope.access_key_id, token)
            _verify(request, session, token, now_s, region)
        except SignatureError as error:
            text = str(error)
            if isinstance(error, signature.SignatureMismatchError):
                text += _expected(request)
            raise DeniedError(text, _ERROR_TYPES.get(type(error), "InvalidSignatureException")) from error
        return Caller(
            session["arn"],
            session["account"],
            scope.access_key_id,
            token,
            scope.region,
            session["secret_access_key"],
        )

    async def authorize(self, caller: Caller, action: str, resource: str, policy: str | None = None) -> None:
        """Whether `caller` may do `action`; `policy` is the resource's own, if it has one.

        Raises:
            DeniedError: no.
            FrontDoorError: the front door could not be asked.
        """
        key = (caller.access_key_id, caller.token, action, resource, policy or "")
        decision = self._decisions.get(key)
        if decision is None:
            question = {**_proof(caller), "action": action, "resource": resource}
            if policy:
                question["resource_policy"] = policy
            decision = await self._ask("authorize", question)
            _keep(self._decisions, key, decision)
        if not decision.get("allowed"):
            raise DeniedError(_message(decision), decision.get("error_type", "AccessDeniedException"))

    async def _session(self, access_key_id: str, token: str) -> Mapping[str, Any]:
        """Raises UnknownTokenError or ExpiredTokenError when the front door does not know the key."""
        await self._check_version()
        key = (access_key_id, token)
        if key not in self._sessions:
            answer = await self._ask("session", {"access_key_id": access_key_id, "token": token})
            if not answer.get("known"):
                text = _message(answer)
                raise (ExpiredTokenError if "expired" in text else UnknownTokenError)(text)
            _keep(self._sessions, key, answer)
        return self._sessions[key]

    async def _check_version(self) -> None:
        async with self._checking:
            if time.monotonic() - self._checked_s >= _VERSION_EVERY_S:
                self._note_version(await self._ask("version"))
                self._checked_s = time.monotonic()

    def _note_version(self, answer: Mapping[str, Any]) -> None:
        if "version" in answer and answer["version"] != self._version:
            self._version = answer["version"]
            self._sessions.clear()
            self._decisions.clear()

    async def _ask(self, what: str, question: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        if self._client is None:
            connector = aiohttp.UnixConnector(path=self._socket, limit=8)
            self._client = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        self.asked[what] += 1
        method = "GET" if question is None else "POST"
        try:
            async with self._client.request(method, f"http://front-door/{what}", json=question) as answer:
                document = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise FrontDoorError(f"the front door did not answer on {self._socket}: {error}") from error
        if answer.status >= 500 or not isinstance(document, dict):
            raise FrontDoorError(f"the front door answered {answer.status} to /{what}: {document}")
        self._note_version(document)
        return document


def _keep(kept: dict[Any, Any], key: object, value: object) -> None:
    if len(kept) >= _MAX_KEPT:
        kept.clear()
    kept[key] = value


def _message(refused: Mapping[str, Any]) -> str:
    """The sentence in the front door's refusal, which carries the body as the service would send it."""
    try:
        return str(json.loads(refused["body"])["message"])
    except (KeyError, TypeError, ValueError) as error:
        raise FrontDoorError(f"the front door refused without saying why: {refused}") from error


def _verify(
    request: SignedRequest,
    session: Mapping[str, Any],
    token: str,
    now_s: float,
    region: str | None,
) -> None:
    # The front door has compared the token with its own: the session it answers with belongs to this one.
    key = Key(session["secret_access_key"], None, token or None, session.get("expires_at"))
    signature.verify(
        request.method,
        request.path,
        request.query,
        request.headers,
        request.body_sha256,
        lambda _: key,
        now_s,
        service="aps",
        region=region,
    )


def _proof(caller: Caller) -> dict[str, Any]:
    """A request signed as `caller`, in the form in which the front door wants to see one."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = [("host", "front-door"), ("x-amz-date", stamp)]
    if caller.token:
        headers.append(("x-amz-security-token", caller.token))
    names = tuple(name for name, _ in headers)
    scope = Scope(caller.access_key_id, stamp[:8], caller.region, "aps", names, "")
    canonical = signature.canonical_request("GET", "/", "", headers, names, signature.EMPTY_SHA256)
    credential = f"{scope.access_key_id}/{scope.date}/{scope.region}/{scope.service}/aws4_request"
    signed = signature.sign(caller.secret, stamp, scope, canonical)
    authorization = (
        f"{signature.ALGORITHM} Credential={credential}, SignedHeaders={';'.join(names)}, Signature={signed}"
    )
    return {
        "method": "GET",
        "host": "front-door",
        "path": "/",
        "query": "",
        "headers": [*headers, ("authorization", authorization)],
        "body_sha256": signature.EMPTY_SHA256,
    }


def _expected(request: SignedRequest) -> str:
    """What AWS appends to a mismatch: the texts it would have hashed and signed."""
    scope = signature.parse_authorization(request.headers)
    try:
        canonical = signature.canonical_request(
            request.method,
            request.path,
            request.query,
            request.headers,
            scope.signed_headers,
            request.body_sha256,
        )
    except SignatureError:
        return ""
    stamp = signature.header(request.headers, "x-amz-date") or ""
    to_sign = "\n".join(
        [
            signature.ALGORITHM,
            stamp,
            f"{scope.date}/{scope.region}/{scope.service}/aws4_request",
            sha256(canonical.encode()).hexdigest(),
        ],
    )
    return (
        f"\n\nThe Canonical String for this request should have been\n'{canonical}'"
        f"\n\nThe String-to-Sign should have been\n'{to_sign}'\n"
    )
