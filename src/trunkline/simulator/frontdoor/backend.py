"""The emulator as the front door sees it: a private socket, told by the access key's form whose call it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self, cast
from urllib.parse import urlencode

import aiohttp
from botocore.model import OperationModel, Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from yarl import URL

from trunkline.errors import SimulatorError
from trunkline.simulator.frontdoor.calls import Answer, Received, service_model
from trunkline.simulator.frontdoor.errors import AwsError

# Hop-by-hop, or the connection's own business, or the caller's proof that ends at the front door.
_NOT_FORWARDED: Final = frozenset(
    ("authorization", "connection", "content-length", "expect", "transfer-encoding", "x-amz-security-token")
)
_NOT_RETURNED: Final = frozenset(("connection", "content-length", "date", "server", "transfer-encoding"))
_HOST: Final = "127.0.0.1"


def _authorization(account: str, region: str, service: str) -> str:
    """The emulator has its own authorisation off; it reads account and region from the credential's scope."""
    scope = f"{account}/20000101/{region}/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"


class Backend:
    """Calls the emulator behind `socket_path`. Use as an async context manager."""

    def __init__(self, socket_path: Path, timeout_s: float = 120.0) -> None:
        self._socket_path = socket_path
        self._timeout_s = timeout_s
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._socket_path)),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def forward(self, received: Received, account: str, region: str, service: str) -> Answer:
        """Pass a request on as `account` in `region`; raises AwsError when the emulator is not there."""
        headers = [pair for pair in received.headers if pair[0].lower() not in _NOT_FORWARDED]
        headers.append(("Authorization", _authorization(account, region, service)))
        target = received.raw_path + (f"?{received.raw_query}" if received.raw_query else "")
        assert self._client is not None, "the backend has not been entered"
        try:
            async with self._client.request(
                received.method,
                URL(f"http://{_HOST}{target}", encoded=True),
                headers=headers,
                data=received.body or None,
                allow_redirects=False,
            ) as response:
                kept = {
                    name: text for name, text in response.headers.items() if name.lower() not in _NOT_RETURNED
                }
                return Answer(response.status, await response.read(), kept)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise AwsError("ServiceUnavailable", f"The emulator did not answer: {error}", 503) from error

    async def ask(
        self, account: str, region: str, service: str, operation: str, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Call an operation of the emulator privately, without authorisation, as boto3 would.

        `service` is botocore's name for it. Returns what boto3 would return; raises AwsError for a refusal.
        """
        model = service_model(service)
        if model is None:
            raise SimulatorError(f"botocore knows no service {service!r}")
        asked = model.operation_model(operation)
        received = _serialized(asked, parameters)
        answer = await self.forward(received, account, region, model.signing_name)
        return _parsed(asked, answer)


def _serialized(operation: OperationModel, parameters: Mapping[str, Any]) -> Received:
    protocol = operation.service_model.resolved_protocol
    request = create_serializer(protocol).serialize_to_request(dict(parameters), operation)
    body, headers = request["body"], dict(request["headers"])
    if isinstance(body, dict):
        body = urlencode(body)
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
    return Received(
        request["method"],
        request["url_path"],
        urlencode(request["query_string"]),
        list(headers.items()),
        body.encode() if isinstance(body, str) else bytes(body or b""),
    )


def _parsed(operation: OperationModel, answer: Answer) -> dict[str, Any]:
    if operation.output_shape is None and answer.status < 300:
        return {}
    parser = create_parser(operation.service_model.resolved_protocol)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    response = {"status_code": answer.status, "headers": headers, "body": answer.body}
    # Only refusals get here without a shape, and the parser reads those without looking at it.
    parsed: dict[str, Any] = parser.parse(response, cast(Shape, operation.output_shape))
    if answer.status >= 300:
        error = parsed.get("Error", {})
        raise AwsError(str(error.get("Code", "Unknown")), str(error.get("Message", "")), answer.status)
    return parsed
