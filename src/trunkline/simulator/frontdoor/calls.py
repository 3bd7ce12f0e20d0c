"""A request to an AWS service, taken apart: which operation, with which parameters, in which protocol.

Source: the protocol sections of the API models that botocore carries (query, json, rest-json, rest-xml, ec2,
and `smithy-rpc-v2-cbor`, of which only the operation's name is read here).
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote

import botocore.session
from botocore.exceptions import UnknownServiceError
from botocore.model import ServiceModel

from trunkline.simulator.frontdoor.sessions import Identity
from trunkline.simulator.frontdoor.signature import Headers, header


class Protocol(StrEnum):
    """How a service speaks, which decides the shape of its errors."""

    QUERY = "query"
    EC2 = "ec2"
    JSON = "json"
    REST_JSON = "rest-json"
    S3 = "s3"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came in: `raw_path` and `raw_query` (without `?`) percent-encoded as on the wire."""

    method: str
    raw_path: str
    raw_query: str
    headers: Headers
    body: bytes

    def header(self, name: str) -> str:
        """The first value of a header, given in lower case; empty if there is none."""
        return header(self.headers, name) or ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated request.

    `service` is the signing name (`ecs`, `aps`, `monitoring`), `operation` the API's name for it
    (`ListTasks`), `parameters` what it was called with: the JSON document, the query's flat names
    (`Tags.member.1.Key`), or for REST the path's parts together with the query and the JSON body. `account`
    and `region` say where it takes effect.
    """

    service: str
    operation: str
    protocol: Protocol
    account: str
    region: str
    identity: Identity
    parameters: Mapping[str, Any]
    received: Received


Handler: TypeAlias = Callable[[Call], Awaitable[Answer | None]]
"""Answers a call, or returns None to pass it on to the emulator."""

Observer: TypeAlias = Callable[[Call, Answer], Awaitable[None]]
"""Is told of a call the emulator has answered."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What `read_operation` finds; `name` is empty when the request names none that exists."""

    protocol: Protocol
    name: str
    parameters: Mapping[str, Any]


_CBOR_PATH: Final = re.compile(r"/service/[^/]+/operation/(\w+)")
_FORM: Final = "application/x-www-form-urlencoded"


def read_operation(service: str, received: Received) -> Operation:
    """Find out what `received`, signed for `service`, asks for."""
    if target := received.header("x-amz-target"):
        return Operation(Protocol.JSON, target.rpartition(".")[2], _json_object(received.body))
    if cbor := _CBOR_PATH.fullmatch(received.raw_path):
        return Operation(Protocol.JSON, cbor[1], {})
    if service != "s3" and (form := _form(received)):
        return Operation(Protocol.EC2 if service == "ec2" else Protocol.QUERY, form.get("Action", ""), form)
    return _read_rest(service, received)


def _form(received: Received) -> dict[str, str]:
    """The parameters of a query request, from its body or its address; empty if it is none."""
    pairs = parse_qsl(received.raw_query, keep_blank_values=True)
    if received.header("content-type").startswith(_FORM):
        pairs += parse_qsl(received.body.decode("utf-8", "replace"), keep_blank_values=True)
    form = dict(pairs)
    return form if "Action" in form else {}


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read_rest(service: str, received: Received) -> Operation:
    protocol = Protocol.S3 if service == "s3" else Protocol.REST_JSON
    query = dict(parse_qsl(received.raw_query, keep_blank_values=True))
    path = _bucket_in_path(received) if service == "s3" else received.raw_path
    for route in _routes(service):
        parts = route.match(received.method, path, query)
        if parts is not None:
            body = {} if service == "s3" else _json_object(received.body)
            return Operation(protocol, route.operation, {**body, **query, **parts})
    return Operation(protocol, "", {})


def _bucket_in_path(received: Received) -> str:
    """S3's path with the bucket in front, where the address had it in the host's name."""
    bucket, dot, rest = received.header("host").partition(".")
    in_host = dot and rest.startswith(("s3.", "s3-", "localhost"))
    return f"/{bucket}{received.raw_path}" if in_host else received.raw_path


_MODEL_NAMES: Final[Mapping[str, str]] = {"aps": "amp", "execute-api": "apigatewaymanagementapi"}
"""Signing names whose model botocore keeps under another name; only REST services need one."""


@dataclass(frozen=True, slots=True)
class _Route:
    """The method, path and fixed query of one REST operation."""

    operation: str
    method: str
    path: re.Pattern[str]
    query: Mapping[str, str]

    def match(self, method: str, raw_path: str, query: Mapping[str, str]) -> dict[str, str] | None:
        """The path's parts if the request is for this operation, otherwise None."""
        if method != self.method or any(query.get(name) != value for name, value in self.query.items()):
            return None
        found = self.path.fullmatch(raw_path)
        return {name: unquote(value) for name, value in found.groupdict().items()} if found else None


@lru_cache(maxsize=32)
def _routes(service: str) -> tuple[_Route, ...]:
    """The REST operations of a service, the most particular first."""
    model = service_model(_MODEL_NAMES.get(service, service))
    if model is None:
        return ()
    operations = (model.operation_model(name) for name in model.operation_names)
    routes = [_route(operation.name, operation.http) for operation in operations]
    return tuple(sorted(routes, key=lambda route: (len(route.query), len(route.path.pattern)), reverse=True))


def _route(operation: str, http: Mapping[str, str]) -> _Route:
    path, _, query = http["requestUri"].partition("?")
    pieces = re.split(r"\{(\w+)(\+?)\}", path)
    expression = re.escape(pieces[0])
    for name, greedy, literal in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        expression += f"(?P<{name}>{'.+' if greedy else '[^/]+'}){re.escape(literal)}"
    return _Route(
        operation,
        http["method"],
        re.compile(expression.rstrip("/") + "/?"),
        dict(parse_qsl(query, keep_blank_values=True)),
    )


@lru_cache(maxsize=32)
def service_model(name: str) -> ServiceModel | None:
    """The API model of a service by botocore's name for it; None if there is none."""
    try:
        return _session().get_service_model(name)
    except UnknownServiceError:
        return None


@lru_cache(maxsize=1)
def _session() -> botocore.session.Session:
    return botocore.session.get_session()
