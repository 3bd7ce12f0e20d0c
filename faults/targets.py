"""Targets whose series all have the number of the scrape as value, so that a stored sample says where it is from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, Self

NAME: Final = "faults_value"
REPORTS: Final = frozenset(
    {
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
    }
)
"""What a collector adds to every scrape."""
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"
UNWELL: Final = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Target:
    """One target of `series` series; `served` is when each scrape was answered, in seconds since the epoch.

    While `fails` says so, it answers 503, which counts as asked only.
    """

    address: str
    series: int
    served: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    fails: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._heads = [b'%s{index="%d"}' % (NAME.encode(), index) for index in range(self.series)]

    @property
    def scraped(self) -> int:
        """How many samples a collector made of what was served, its own reports on the scrapes among them."""
        return len(self.served) * (self.series + len(REPORTS))

    def answer(self) -> bytes:
        self.asked.append(time.time())
        if self.fails():
            return UNWELL
        self.served.append(self.asked[-1])
        end = b" %d\n" % len(self.served)
        text = end.join((*self._heads, b""))
        return HEAD % len(text) + text


class Answering(Protocol):
    """Something that answers a scrape."""

    def answer(self) -> bytes: ...


class Connection(asyncio.Protocol):
    """Every request that has ended is answered by the target."""

    def __init__(self, target: Answering) -> None:
        self._target = target
        self._request = b""
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def listen(cls, exits: AsyncExitStack, target: Answering) -> str:
        """Serve `target` on a free port of loopback until `exits` closes; returns its address."""
        server = await asyncio.get_running_loop().create_server(partial(cls, target), "127.0.0.1", 0)
        exits.callback(server.close)
        host, port = server.sockets[0].getsockname()
        return f"{host}:{port}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        *ended, self._request = (self._request + data).split(b"\r\n\r\n")
        for _ in ended:
            self._transport.write(self._target.answer())


class Targets:
    """As many targets as there are sizes; they listen while entered."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes
        self._exits = AsyncExitStack()
        self.all: list[Target] = []

    async def __aenter__(self) -> Self:
        for size in self._sizes:
            target = Target("", size)
            target.address = await Connection.listen(self._exits, target)
            self.all.append(target)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._exits.aclose()
