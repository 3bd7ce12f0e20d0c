"""The targets: bodies made beforehand, served over loopback by a protocol that does nothing else.

A body has a few variants that take turns, so that every value differs from the scrape before; which variant a body
is, is itself a sample of it (`bench_variant`), so that the receiving end can tell which scrape it got, and whether
all of it, without knowing any timestamp. All targets show the same bodies, each beginning at another variant.
"""

from __future__ import annotations

import asyncio
import gzip
import math
import random
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Self

from bench.scenarios import Scenario

VARIANTS: Final = 5
_GENERATION: Final = b"{generation}"
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n%sContent-Length: %d\r\n\r\n"
_COUNTERS, _GAUGES, _BUCKETS = 48, 39, 11


@dataclass(frozen=True)
class Body:
    """One variant: the answer as sent, how many series it shows, and the exact sum of their values.

    A `churning` one is a text with places to fill in.
    """

    answer: bytes
    series: int
    value_sum: float
    churning: bool

    def at(self, scrape: int) -> bytes:
        """The answer to a target's scrape of this number."""
        if not self.churning:
            return self.answer
        text = self.answer.replace(_GENERATION, b"%012d" % scrape)
        return _HEAD % (b"", len(text)) + text


def bodies(scenario: Scenario) -> list[Body]:
    """Every variant of the body of one target."""
    return [_body(scenario, variant) for variant in range(VARIANTS)]


def _body(scenario: Scenario, variant: int) -> Body:
    lines: list[str] = []
    values: list[float] = []
    for line in _lines(scenario, variant):
        lines.append(line)
        if not line.startswith("#"):
            values.append(float(line.rpartition(" ")[2]))
    assert len(values) == scenario.series
    text = ("\n".join(lines) + "\n").encode()
    if not scenario.churn:
        encoding = b"Content-Encoding: gzip\r\n" if scenario.compressed else b""
        text = gzip.compress(text, 6) if scenario.compressed else text
        text = _HEAD % (encoding, len(text)) + text
    return Body(text, len(values), math.fsum(values), scenario.churn)


def _lines(scenario: Scenario, variant: int) -> Iterator[str]:
    """Blocks of 100 series: counters, gauges and a histogram, with four labels of usual length."""
    chance = random.Random(variant)  # noqa: S311 (a load, not a secret)
    fractions = "{:.17g}" if scenario.digits17 else "{:.3f}"
    yield "# TYPE bench_variant gauge"
    yield f"bench_variant {variant + 1}"
    for block in range(scenario.series // 100):
        pod = f'pod="checkout-7d9f8c6b5-{block:05d}"'
        yield from _counters(scenario, block, pod, chance, fractions)
        name = f"bench_memory_{block}_bytes"
        yield f"# HELP {name} Memory in use.\n# TYPE {name} gauge"
        for index in range(_GAUGES - (block == 0)):
            value = fractions.format(chance.uniform(0.1, 1000))
            yield f'{name}{{area="heap",{pod},pool="pool-{index}",zone="eu-west-1a"}} {value}'
        yield from _histogram(block, pod, chance, fractions)


def _counters(
    scenario: Scenario, block: int, pod: str, chance: random.Random, fractions: str
) -> Iterator[str]:
    name = f"bench_http_requests_{block}_total"
    yield f"# HELP {name} Requests served, by handler and status.\n# TYPE {name} counter"
    for index in range(_COUNTERS):
        labels = f'handler="/api/v1/orders/{index}",method="GET",{pod}'
        if scenario.churn and index == 0:
            yield f'{name}{{{labels},revision="{_GENERATION.decode()}"}} 1'
            continue
        value = (
            fractions.format(chance.uniform(0.1, 1e6))
            if scenario.digits17
            else str(chance.randrange(1, 10**7))
        )
        yield f'{name}{{{labels},status="200"}} {value}'


def _histogram(block: int, pod: str, chance: random.Random, fractions: str) -> Iterator[str]:
    name = f"bench_latency_{block}_seconds"
    yield f"# HELP {name} How long requests took.\n# TYPE {name} histogram"
    labels = f'handler="/api/v1/orders",method="GET",{pod}'
    count = 0
    for index in range(_BUCKETS):
        count += chance.randrange(1, 10**5)
        bound = "+Inf" if index == _BUCKETS - 1 else f"{0.005 * 2**index:g}"
        yield f'{name}_bucket{{{labels},le="{bound}"}} {count}'
    yield f"{name}_sum{{{labels}}} {fractions.format(chance.uniform(0.1, 1e5))}"
    yield f"{name}_count{{{labels}}} {count}"


@dataclass
class Target:
    """One target: where it is and what it has served, as (time in s, variant), oldest first."""

    address: str
    bodies: list[Body]
    first: int
    served: list[tuple[float, int]] = field(default_factory=list)

    def answer(self) -> bytes:
        scrape = len(self.served)
        variant = (self.first + scrape) % len(self.bodies)
        self.served.append((time.time(), variant))
        return self.bodies[variant].at(scrape)


class _Connection(asyncio.Protocol):
    """Answers every request that has ended with the target's next body."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._request = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        *ended, self._request = (self._request + data).split(b"\r\n\r\n")
        for _ in ended:
            self._transport.write(self._target.answer())


class Load:
    """The targets of a scenario; they listen while it is entered."""

    def __init__(self, scenario: Scenario, tls: ssl.SSLContext | None = None) -> None:
        self._scenario = scenario
        self._tls = tls
        self._exits = AsyncExitStack()
        self.bodies = bodies(scenario)
        self.targets: list[Target] = []

    async def __aenter__(self) -> Self:
        for index in range(self._scenario.targets):
            target = Target("", self.bodies, index)
            target.address = await listen(self._exits, partial(_Connection, target), self._tls)
            self.targets.append(target)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._exits.aclose()


async def listen(
    exits: AsyncExitStack, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None = None
) -> str:
    """Serve `protocol` on a free port of loopback until `exits` closes; returns `host:port`."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=tls)
    exits.callback(server.close)
    host, port = server.sockets[0].getsockname()
    return f"{host}:{port}"
