"""What the gateway's tests stand on: a front door of their own, an encoder of their own, signed requests."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cramjam import snappy
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from trunkline.simulator.frontdoor.signature import Key, verify

REGION = "eu-west-1"
OWNER, WORKLOAD = "111111111111", "222222222222"
WRITE_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

Labels = Sequence[tuple[str, str]]
Samples = Sequence[tuple[float, int]]


def varint(number: int) -> bytes:
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = b""
    while number >= 128:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


def block(number: int, content: bytes) -> bytes:
    return varint(number * 8 + 2) + varint(len(content)) + content


def series(labels: Labels, samples: Samples) -> bytes:
    """A TimeSeries field of a WriteRequest."""
    body = b"".join(block(1, block(1, name.encode()) + block(2, value.encode())) for name, value in labels)
    for value, timestamp_ms in samples:
        body += block(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(timestamp_ms))
    return block(1, body)


def metadata(name: str, kind: int, text: str) -> bytes:
    return block(3, b"\x08" + varint(kind) + block(2, name.encode()) + block(4, text.encode()))


def compressed(*fields: bytes) -> bytes:
    return bytes(snappy.compress_raw(b"".join(fields)))


def named(name: str, **labels: str) -> Labels:
    return sorted({"__name__": name, **labels}.items())


def now_ms() -> int:
    return int(time.time() * 1000)


@dataclass
class Principal:
    """A session the stand-in knows: its credentials and the actions it is allowed."""

    arn: str
    account: str
    actions: set[str]
    access_key_id: str = field(default_factory=lambda: f"ASIA{secrets.token_hex(8).upper()}")
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(60))
    expires_at: float = field(default_factory=lambda: time.time() + 3600)


def role(account: str, name: str, *actions: str) -> Principal:
    return Principal(f"arn:aws:sts::{account}:assumed-role/{name}/task", account, set(actions))


class FrontDoor:
    """Speaks the front door's protocol on a unix socket, with a list of who may do what."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._principals: dict[str, Principal] = {}
        self._runner: web.AppRunner | None = None
        self.version = 1
        self.questions: list[Mapping[str, Any]] = []

    def know(self, *principals: Principal) -> None:
        for principal in principals:
            self._principals[principal.access_key_id] = principal
        self.version += 1

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/version", self._version)
        application.router.add_post("/session", self._session)
        application.router.add_post("/authorize", self._authorize)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._path)).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": self.version})

    async def _session(self, request: web.Request) -> web.Response:
        question = await request.json()
        principal = self._principals.get(question["access_key_id"])
        if principal is None or principal.token != question["token"]:
            return self._refused("known", "The security token included in the request is invalid.")
        return web.json_response(
            {
                "known": True,
                "secret_access_key": principal.secret,
                "arn": principal.arn,
                "account": principal.account,
                "expires_at": principal.expires_at,
                "version": self.version,
            },
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        question = await request.json()
        self.questions.append(question)
        verified = verify(
            question["method"],
            question["path"],
            question["query"],
            question["headers"],
            question["body_sha256"],
            lambda key_id: Key(self._principals[key_id].secret, None, self._principals[key_id].token),
            time.time(),
        )
        principal = self._principals[verified.access_key_id]
        action, resource = question["action"], question["resource"]
        if action in principal.actions:
            return web.json_response({"allowed": True, "version": self.version})
        return self._refused(
            "allowed",
            f"User: {principal.arn} is not authorized to perform: {action} on resource: {resource}"
            f" because no identity-based policy allows the {action} action",
        )

    def _refused(self, what: str, text: str) -> web.Response:
        body = json.dumps({"message": text})
        return web.json_response({what: False, "status": 403, "body": body, "version": self.version})


@dataclass
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Caller:
    """Sends signed requests to a gateway under AMP's own name."""

    principal: Principal | None
    workspace: str
    port: int
    certificate: Path | None = None
    region: str = REGION
    sign_region: str = REGION
    sign_service: str = "aps"
    skew_s: float = 0.0

    @property
    def host(self) -> str:
        return f"aps-workspaces.{self.region}.amazonaws.com"

    async def write(self, *fields: bytes, **headers: str) -> Answer:
        return await self.send("POST", "remote_write", compressed(*fields), {**WRITE_HEADERS, **headers})

    async def value(self, expression: str) -> list[float]:
        """The values of an instant query, in ascending order."""
        answer = await self.send("GET", f"query?query={quote(expression, safe='')}")
        assert answer.status == 200, answer
        return sorted(float(found["value"][1]) for found in answer.json["data"]["result"])

    async def send(
        self,
        method: str,
        tail: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        path = f"/workspaces/{self.workspace}/api/v1/{tail}"
        signed = self.sign(method, path, body, headers or {})
        scheme, context = "http", None
        if self.certificate:
            scheme, context = "https", ssl.create_default_context(cafile=str(self.certificate))
        # A session of its own for every request: pytest's warnings are errors, and so are connections left open.
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(
                connector=connector, skip_auto_headers=["User-Agent", "Content-Type"]
            ) as client,
            client.request(
                method,
                f"{scheme}://127.0.0.1:{self.port}{path}",
                data=body or None,
                headers=signed,
                ssl=context or True,
                server_hostname=self.host if context else None,
            ) as answer,
        ):
            return Answer(answer.status, await answer.text(), dict(answer.headers))

    def sign(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        if self.principal is None:
            return {"Host": self.host, **headers}
        request = AWSRequest(method, f"https://{self.host}{path}", headers=dict(headers), data=body)
        credentials = Credentials(self.principal.access_key_id, self.principal.secret, self.principal.token)
        _Signer(credentials, self.sign_service, self.sign_region, self.skew_s).add_auth(request)
        return {"Host": self.host, **dict(request.headers.items())}


class _Signer(SigV4Auth):
    """botocore's signer with a clock that may be wrong."""

    def __init__(self, credentials: Credentials, service: str, region: str, skew_s: float) -> None:
        super().__init__(credentials, service, region)
        self._skew_s = skew_s

    def add_auth(self, request: AWSRequest) -> None:
        moment = datetime.now(UTC) + timedelta(seconds=self._skew_s)
        request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]
        to_sign = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(to_sign, request))  # type: ignore[attr-defined]


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for AMP's name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "aps-workspaces")])
    moment = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(hours=1))
        .not_valid_after(moment + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(f"aps-workspaces.{REGION}.amazonaws.com")]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.pem", folder / "server-key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return paths


async def until(condition: Any, timeout_s: float = 5.0) -> None:
    """Wait until `condition()`, which may be awaitable, is true."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, "what was waited for did not happen"
        await asyncio.sleep(0.02)
