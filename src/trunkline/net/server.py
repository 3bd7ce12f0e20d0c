"""A very small HTTP/1.1 server, for health and the process' own metrics."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from trunkline.errors import ProtocolError, TrunklineError
from trunkline.net.answer import find_head_end, parse_headers
from trunkline.net.message import Response

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[], Response]


@dataclass(frozen=True, slots=True)
class Negotiated:
    """A handler that is told the headers of the request, with lower-case names."""

    answer: Callable[[Mapping[str, str]], Response]


_MAX_HEAD_BYTES = 16 * 1024
_MAX_CONNECTIONS = 64
_IDLE_S = 60.0
_REQUEST_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (\S+) HTTP/1\.([01])\r?")


def _plain(status: int, reason: str, **headers: str) -> Response:
    content = {"content-type": "text/plain; charset=utf-8"} | headers
    return Response(status, reason, content, f"{status} {reason}\n".encode())


_BAD_REQUEST = _plain(400, "Bad Request")
_NOT_FOUND = _plain(404, "Not Found")
_NOT_ALLOWED = _plain(405, "Method Not Allowed", allow="GET, HEAD")
_BODY_REFUSED = _plain(413, "Content Too Large")
_HEAD_TOO_LARGE = _plain(431, "Request Header Fields Too Large")
_FAILED = _plain(500, "Internal Server Error")


class _Connection(asyncio.Protocol):
    """One client; answers its requests in order, and closes after a minute without one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self.lost = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)
        if len(self._server.connections) > _MAX_CONNECTIONS:
            transport.abort()
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        if self._timer is not None:
            self._timer.cancel()
        self._server.connections.discard(self)
        self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._answer_all()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._answer_all()

    def abort(self) -> None:
        """Close without ado."""
        if self._transport is not None:
            self._transport.abort()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_IDLE_S, self.abort)

    def _answer_all(self) -> None:
        """Answer every complete request received, as long as the client takes the answers."""
        assert self._transport is not None
        while self._received and not self._paused and not self._transport.is_closing():
            end = find_head_end(self._received, 0, len(self._received))
            if (len(self._received) if end < 0 else end) > _MAX_HEAD_BYTES:
                self._send(_HEAD_TOO_LARGE, keep_alive=False)
            elif end < 0:
                return
            else:
                head = self._received[:end].decode("latin-1")
                del self._received[:end]
                self._rest()
                self._answer(head)
        if self._paused and len(self._received) > _MAX_HEAD_BYTES:
            self.abort()

    def _answer(self, head: str) -> None:
        first, *lines = head.rstrip("\r\n").split("\n")
        match = _REQUEST_LINE.fullmatch(first)
        try:
            headers = parse_headers(lines)
        except ProtocolError:
            match = None
        if match is None:
            self._send(_BAD_REQUEST, keep_alive=False)
        elif headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            refusal = self._server.respond(match[1], match[2], headers)
            self._send(_BODY_REFUSED if refusal.status == 200 else refusal, keep_alive=False)
        else:
            connection = headers.get("connection", "").lower()
            keep_alive = "close" not in connection and (match[3] == "1" or "keep-alive" in connection)
            response = self._server.respond(match[1], match[2], headers)
            self._send(response, keep_alive=keep_alive, head_only=match[1] == "HEAD")

    def _send(self, response: Response, *, keep_alive: bool, head_only: bool = False) -> None:
        assert self._transport is not None
        lines = [f"HTTP/1.1 {response.status_line}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        lines += [f"content-length: {len(response.body)}"]
        lines += [f"connection: {'keep-alive' if keep_alive else 'close'}", "", ""]
        head = "\r\n".join(lines).encode()
        self._transport.write(head if head_only else head + response.body)
        if not keep_alive:
            self._transport.close()


class Server:
    """A server that listens; made by `serve`."""

    def __init__(self, routes: Mapping[str, Handler | Negotiated]) -> None:
        self._routes = routes
        self.connections: set[_Connection] = set()
        self.address: tuple[str, int] = ("", 0)
        """The host and port it listens on."""

    def _handler(self, path: str) -> Handler | Negotiated | None:
        if path in self._routes:
            return self._routes[path]
        below = [route for route in self._routes if route.endswith("/") and path.startswith(route)]
        return self._routes[max(below, key=len)] if below else None

    def respond(self, method: str, target: str, headers: Mapping[str, str]) -> Response:
        """The answer to one request; what a handler raises is logged and answered with 500."""
        handler = self._handler(target.partition("?")[0])
        if handler is None:
            return _NOT_FOUND
        if method not in {"GET", "HEAD"}:
            return _NOT_ALLOWED
        try:
            return handler.answer(headers) if isinstance(handler, Negotiated) else handler()
        except Exception:
            logger.exception("answering %s failed; this is a defect of Trunkline", target)
            return _FAILED


@asynccontextmanager
async def serve(
    host: str, port: int, routes: Mapping[str, Handler | Negotiated], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Listen on `host` (empty for every address) and `port` (0 takes a free one) and answer GET and HEAD on the paths of `routes`.

    A path that ends in `/` also answers for everything below it, as in Go's servers, whose health check lies at
    `/`. Handlers must be quick: they run in the event loop. Raises TrunklineError when it cannot listen.
    """
    server = Server(routes)
    loop = asyncio.get_running_loop()
    try:
        listener = await loop.create_server(lambda: _Connection(server), host or None, port, ssl=tls)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise TrunklineError(
            f"cannot listen on {host}:{port}: {why}; choose another endpoint, or end what uses this one"
        ) from error
    name = listener.sockets[0].getsockname()
    server.address = (name[0], name[1])
    try:
        yield server
    finally:
        listener.close()
        connections = list(server.connections)
        for connection in connections:
            connection.abort()
        if connections:
            await asyncio.wait([connection.lost for connection in connections])
        await listener.wait_closed()
