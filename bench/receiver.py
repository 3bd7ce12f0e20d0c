"""Takes remote write and keeps it as it came: nothing is decoded while collectors are being measured."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import cramjam

from bench.load import listen

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CONTINUE: Final = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_TAKEN: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_REFUSED: Final = b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Written:
    """One request: when it was complete (s), how long its head was, its compressed body."""

    arrived_s: float
    head: bytes
    body: bytes

    @property
    def wire_bytes(self) -> int:
        return len(self.head) + len(self.body)

    def raw(self) -> bytes:
        """The uncompressed body. Raises cramjam.DecompressionError."""
        return bytes(cramjam.snappy.decompress_raw(self.body))


class Receiver:
    """An endpoint that takes everything; it listens while entered."""

    def __init__(self) -> None:
        self.url = ""
        self.written: list[Written] = []
        self.first_sample_s: float | None = None
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        address = await listen(self._exits, partial(_Connection, self))
        self.url = f"http://{address}/workspaces/ws-bench/api/v1/remote_write"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._exits.aclose()

    def take(self, head: bytes, body: bytes) -> None:
        written = Written(time.time(), head, body)
        self.written.append(written)
        if self.first_sample_s is None and b"bench_" in written.raw():
            self.first_sample_s = written.arrived_s


class _Connection(asyncio.Protocol):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._data = bytearray()
        self._head = b""
        self._missing = 0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while self._begun() and len(self._data) >= self._missing:
            body = bytes(self._data[: self._missing])
            del self._data[: self._missing]
            self._receiver.take(self._head, body)
            self._head = b""
            self._answer(_TAKEN)

    def _begun(self) -> bool:
        """Whether the head of a request has been read."""
        if self._head:
            return True
        end = self._data.find(_END)
        if end < 0:
            return False
        self._head = bytes(self._data[: end + len(_END)])
        del self._data[: end + len(_END)]
        length = _LENGTH.search(self._head)
        if length is None:
            self._answer(_REFUSED)
            return False
        if _CONTINUE.search(self._head):
            self._answer(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._missing = int(length[1])
        return True

    def _answer(self, text: bytes) -> None:
        assert self._transport is not None
        self._transport.write(text)
