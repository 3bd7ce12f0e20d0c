"""A stand-in for what AWS answers to, on loopback, and time that passes only when told to."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from aiohttp import web

from trunkline.net.client import Client
from trunkline.net.resolve import Resolve

LINK_LOCAL = "169.254.170.2:80,169.254.169.254:80,[fd00:ec2::254]:80"


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), strict_parsing=True))


@dataclass
class Answer:
    body: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class PretendAws:
    """Answers by `METHOD path`, or by the `Action` of a form; keeps what was asked."""

    port: int = 0
    answers: dict[str, Answer | Callable[[Asked], Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_STS": self.url, "AWS_EC2_METADATA_DISABLED": "true"}

    def resolve(self) -> Resolve:
        """Leads AWS's link-local addresses here."""
        rules = (f"{source}=127.0.0.1:{self.port}" for source in LINK_LOCAL.split(","))
        return Resolve.parse(",".join(rules))

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.method, request.path_qs, headers, await request.read())
        self.asked.append(asked)
        key = f"{asked.method} {asked.path}"
        if key not in self.answers and asked.body:
            key = asked.form["Action"]
        answer = self.answers.get(key, Answer("nothing here", 404))
        answer = answer if isinstance(answer, Answer) else answer(asked)
        return web.Response(text=answer.body, status=answer.status, headers=answer.headers)


@asynccontextmanager
async def pretend_aws() -> AsyncIterator[PretendAws]:
    aws = PretendAws()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", aws.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    aws.port = runner.addresses[0][1]
    try:
        yield aws
    finally:
        await runner.cleanup()


@asynccontextmanager
async def closing(client: Client) -> AsyncIterator[Client]:
    try:
        yield client
    finally:
        await client.aclose()


def granted(
    key: str = "ASIAROLE", expiration: str = "2099-01-01T00:00:00Z", action: str = "AssumeRole"
) -> Answer:
    return Answer(
        f"""<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>
        <AssumedRoleUser><AssumedRoleId>AROA:s</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/R/s</Arn>
        </AssumedRoleUser><Credentials><AccessKeyId>{key}</AccessKeyId>
        <SecretAccessKey>role&amp;secret</SecretAccessKey><SessionToken>role token</SessionToken>
        <Expiration>{expiration}</Expiration></Credentials></{action}Result>
        <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"""
    )


def refused(code: str, message: str, status: int = 403, **headers: str) -> Answer:
    return Answer(
        f"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
        <Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>""",
        status,
        headers,
    )


class VirtualTime:
    """A clock and a sleep; `pass_s` moves them on, waking who is due in order."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, self._count, woken))
        await woken

    async def pass_s(self, seconds: float) -> None:
        until = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self.now, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self.now = until


async def settle() -> None:
    """Let everything that can run without waiting for the outside run."""
    for _ in range(20):
        await asyncio.sleep(0)
