"""Targets whose series all have the number of the scrape as value, so that a stored sample says where it is from."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Self

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
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"


@dataclass
class Target:
    """One target of `series` series; `served` is when each scrape was answered, in seconds since the epoch."""

    address: str
    series: int
    served: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._heads = [b'%s{index="%d"}' % (NAME.encode(), index) for index in range(self.series)]

    @property
    def scraped(self) -> int:
        """How many samples a collector made of what was served, its own reports on the scrapes among them."""
        return len(self.served) * (self.series + len(REPORTS))

    def answer(self) -> bytes:
        self.served.append(time.time())
        end = b" %d\n" % len(self.served)
        text = end.join((*self._heads, b""))
        return _HEAD % len(text) + text


class _Connection(asyncio.Protocol):
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


class Targets:
    """As many targets as there are sizes; they listen while entered."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes
        self._exits = AsyncExitStack()
        self.all: list[Target] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for size in self._sizes:
            target = Target("", size)
            server = await loop.create_server(partial(_Connection, target), "127.0.0.1", 0)
            self._exits.callback(server.close)
            host, port = server.sockets[0].getsockname()
            target.address = f"{host}:{port}"
            self.all.append(target)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._exits.aclose()
