"""An HTTP/1.1 client that is small and quick at what a collector does: GET a page, POST a body.

It follows no redirects, uses no proxies and keeps no cookies. Connections are kept alive in a small pool per
scheme, host and port, and received into buffers that are reused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Protocol

from trunkline import __version__
from trunkline.errors import ConnectError, FetchError, FetchTimeoutError, ProtocolError
from trunkline.net.answer import AnswerReader, Buffer, new_buffer
from trunkline.net.message import Request, Response
from trunkline.net.resolve import Resolve
from trunkline.net.target import Target, parse_target
from trunkline.net.tls import Tls

log = logging.getLogger(__name__)

_MAX_IDLE = 16
_SCRATCH_BYTES = 1024 * 1024
_BUFFER_BYTES = 64 * 1024
_MAX_SPARE_BUFFERS = 2
_TIMER_GRAIN_S = 0.001
_NEXT_ADDRESS_AFTER_S = 0.25
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BREAKS = re.compile(r"[\r\n\0]")
_UNASKED = memoryview(bytearray(256))


class Answer(Protocol):
    """An answer with its body, which lies in a buffer that is used again."""

    @property
    def status(self) -> int: ...

    @property
    def reason(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> bytes | memoryview: ...


def encode(request: Request, target: Target) -> bytes:
    """The bytes of `request`; raises ProtocolError for what would break out of its line."""
    lines = [f"{request.method} {target.path} HTTP/1.1"]
    names = {name.lower() for name in request.headers}
    if not _TOKEN.fullmatch(request.method):
        raise ProtocolError(f"cannot send the method {request.method!r}")
    if "host" not in names:
        lines.append(f"Host: {target.authority}")
    if "user-agent" not in names:
        lines.append(f"User-Agent: trunkline/{__version__}")
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name) or _BREAKS.search(value):
            raise ProtocolError(f"cannot send the header {name!r}: it holds a character no header may have")
        if name.lower() != "content-length":
            lines.append(f"{name}: {value}")
    if request.body or request.method not in {"GET", "HEAD", "DELETE"}:
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join((*lines, "", "")).encode() + request.body


def _is_address(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError:
        return False
    return True


def why(error: OSError | ValueError) -> str:
    """The reason of a failed connection, in words that say what to check."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message.rstrip(".")
        return f"its certificate is not accepted: {said}; name its CA with ca_file, or AWS_CA_BUNDLE for all"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, socket.gaierror):
        return f"the name does not resolve: {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused, nothing listens there"
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error) or type(error).__name__


class Waiter(Protocol):
    """Who an exchange was begun for; told once how it ended, and never later than its time-out."""

    def answered(self, answer: Answer) -> None: ...

    def failed(self, error: FetchError) -> None: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request made ready to be sent many times. `timeout_s` and `max_body_bytes` are as in `exchange`."""

    target: Target
    payload: bytes
    method: str
    timeout_s: float
    max_body_bytes: int | None = None

    @classmethod
    def of(cls, request: Request, *, timeout_s: float, max_body_bytes: int | None = None) -> Prepared:
        target = parse_target(request.url)
        return cls(target, encode(request, target), request.method, timeout_s, max_body_bytes)

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.method in {"GET", "HEAD"}


class _Exchange:
    """One request under way, from asking for a connection to its end."""

    __slots__ = ("client", "connecting", "connection", "deadline", "prepared", "received_bytes", "waiter")

    def __init__(self, client: Client, prepared: Prepared, waiter: Waiter, deadline: float) -> None:
        self.client = client
        self.prepared = prepared
        self.waiter = waiter
        self.deadline = deadline
        self.received_bytes = 0
        self.connection: _Connection | None = None
        self.connecting: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Be carried by a new connection."""
        try:
            connection = await self.client.connect(self.prepared.target)
        except FetchError as error:
            self.connecting = None
            self.fail(error)
        except Exception as error:
            log.exception("connecting to %s failed in a way nobody foresaw", self.prepared.target)
            self.connecting = None
            self.fail(ConnectError(f"cannot connect: {error}"))
        else:
            self.connecting = None
            connection.carry(self)

    def expire(self) -> None:
        got = self.connection.received_bytes if self.connection else 0
        state = f"{got} bytes of it had come" if got else "nothing had come"
        what = f"no complete answer from {self.prepared.target} within {self.prepared.timeout_s:g}s, {state}"
        self.leave()
        self.waiter.failed(FetchTimeoutError(what))

    def fail(self, error: FetchError) -> None:
        self.client.under_way.discard(self)
        named = type(error)(f"{self.prepared.target}: {error}")
        named.__cause__ = error.__cause__
        self.waiter.failed(named)

    def leave(self) -> None:
        """End without telling anybody; nothing is left of the connection."""
        self.client.under_way.discard(self)
        if self.connecting is not None:
            self.connecting.cancel()
        if self.connection is not None:
            self.connection.abort()


class _Connection(asyncio.BufferedProtocol):
    """One connection, carrying at most one exchange at a time."""

    def __init__(self, client: Client, key: tuple[str, str, int]) -> None:
        self._client = client
        self.key = key
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader("", None, client.scratch)
        self._exchange: _Exchange | None = None
        self._used = False
        self._unsent = False
        self.usable = False
        self.idle_since = 0.0
        self.lost = asyncio.get_running_loop().create_future()

    @property
    def received_bytes(self) -> int:
        """How much of the answer has come."""
        return self._reader.received_bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._client.open.add(self)

    def carry(self, exchange: _Exchange) -> None:
        """Send the request of `exchange` and read its answer."""
        assert self._transport is not None
        prepared = exchange.prepared
        exchange.connection, self._exchange = self, exchange
        self.usable = False
        self._reader.begin(prepared.method, prepared.max_body_bytes, self._client.scratch)
        self._transport.write(prepared.payload)
        self._unsent = self._transport.is_closing()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's name)
        return _UNASKED if self._exchange is None else self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        if self._exchange is None:  # an answer nobody asked for: this connection is out of step
            self.abort()
            return
        reader = self._reader
        try:
            complete = reader.take(nbytes)
        except FetchError as error:
            self._fail(error)
            return
        if complete:
            self._succeed()
        elif reader.buffer is self._client.scratch:  # the next connection reads into that
            reader.move(self._client.buffer_beyond(reader.received_bytes))

    def eof_received(self) -> bool:
        self.usable = False  # until the transport has closed, too, which takes TLS a while
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.forget(self)
        self._end(exc)
        if not self.lost.done():
            self.lost.set_result(None)

    def _end(self, exc: Exception | None) -> None:
        reader = self._reader
        if self._exchange is None:
            return
        reason = f": {why(exc)}" if isinstance(exc, OSError) else ""
        if not reader.received_bytes:
            self._closed_early(ConnectError(f"the connection was closed without an answer{reason}"))
        elif exc is not None:
            self._fail(ProtocolError(f"the connection broke in the middle of the answer{reason}"))
        else:
            self._finish_at_end()

    def _closed_early(self, error: ConnectError) -> None:
        """What was sent on a kept connection just as the other side closed it is sent once more on a new one."""
        exchange = self._exchange
        assert exchange is not None
        if self._used and (exchange.prepared.repeatable or self._unsent):
            self._exchange = exchange.connection = None
            self.abort()
            self._client.begin_anew(exchange)
        else:
            self._fail(error)

    def _finish_at_end(self) -> None:
        try:
            self._reader.end()
        except FetchError as error:
            self._fail(error)
        else:
            self._succeed()

    def _succeed(self) -> None:
        """Tell the waiter while the answer is in the buffer; then be free for the next exchange."""
        exchange, reader, transport = self._exchange, self._reader, self._transport
        assert exchange is not None
        assert transport is not None
        self._exchange = exchange.connection = None  # which is not its own any longer, should it be cancelled
        self.usable = reader.reusable and not transport.is_closing() and not transport.get_write_buffer_size()
        self._used = True
        self._client.under_way.discard(exchange)
        try:
            exchange.waiter.answered(reader)
        finally:
            self._client.take_back(reader.buffer)
            reader.begin("", None, self._client.scratch)
            if self.usable:
                self._client.keep_idle(self)
            else:
                self.abort()

    def _fail(self, error: FetchError) -> None:
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        self.abort()
        exchange.fail(error)

    def abort(self) -> None:
        """Close without ado, saying nothing to anybody."""
        self.usable = False
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()


class Client:
    """Makes exchanges; owns its connections until `aclose`."""

    def __init__(
        self, resolve: Resolve | None = None, tls: Tls | None = None, *, max_idle_s: float = 90.0
    ) -> None:
        self._resolve = resolve or Resolve()
        self._tls = tls or Tls()
        self._max_idle_s = max_idle_s
        self._idle: dict[tuple[str, str, int], list[_Connection]] = {}
        self._spare_buffers: list[bytearray] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self.open: set[_Connection] = set()
        self.under_way: set[_Exchange] = set()
        self.scratch = new_buffer(_SCRATCH_BYTES)
        """Where every answer is received that comes in one piece."""

    async def exchange(
        self, request: Request, *, timeout_s: float, max_body_bytes: int | None = None
    ) -> Response:
        """Send `request`, return the answer whatever its status.

        `timeout_s` covers everything from connecting to the last byte. `max_body_bytes` bounds the body as sent
        and as decompressed. When a kept-alive connection turns out to have been closed before any byte of an
        answer came, the request is sent once more on a new one, if it is a GET or HEAD or if nothing of it could
        be written: what may have had an effect is never repeated here.

        Raises ConnectError, FetchTimeoutError, ProtocolError or BodyTooLargeError, each naming host and port.
        """
        response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        prepared = Prepared.of(request, timeout_s=timeout_s, max_body_bytes=max_body_bytes)
        exchange = self.begin(prepared, _Future(response))
        try:
            return await response
        except asyncio.CancelledError:
            exchange.leave()
            raise

    def begin(self, prepared: Prepared, waiter: Waiter) -> _Exchange:
        """Send what is prepared; `waiter` is told of the answer, or of the errors `exchange` raises, when there is one.

        The body of the answer lies in a buffer that is used again as soon as `answered` returns.
        """
        deadline = asyncio.get_running_loop().time() + prepared.timeout_s
        exchange = _Exchange(self, prepared, waiter, deadline)
        if self._closed:
            closed = ConnectError("cannot connect: this client was closed")
            asyncio.get_running_loop().call_soon(exchange.fail, closed)
            return exchange
        self.under_way.add(exchange)
        if self._sweep is None or deadline < self._sweep.when():
            self._sweep_at(deadline)
        connection = self._take_idle(prepared.target)
        if connection is None:
            self.begin_anew(exchange)
        else:
            connection.carry(exchange)
        return exchange

    def begin_anew(self, exchange: _Exchange) -> None:
        """Let a new connection carry `exchange`."""
        exchange.connecting = asyncio.get_running_loop().create_task(exchange.connect())

    async def aclose(self) -> None:
        """Close every connection; exchanges under way fail with ConnectError."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        connections = list(self.open)
        for exchange in list(self.under_way):
            exchange.leave()
            exchange.fail(ConnectError("the connection was closed without an answer: this client was closed"))
        for connection in connections:
            connection.abort()
        if connections:
            await asyncio.wait([connection.lost for connection in connections])

    def _sweep_at(self, deadline: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        """End what has taken too long. One timer serves all exchanges, as nearly none ever needs it."""
        self._sweep = None
        now = asyncio.get_running_loop().time() + _TIMER_GRAIN_S
        self._close_idle(now - self._max_idle_s)
        for exchange in [one for one in self.under_way if one.deadline <= now]:
            exchange.expire()
        if self.under_way and not self._closed:
            self._sweep_at(min(exchange.deadline for exchange in self.under_way))

    def _take_idle(self, target: Target) -> _Connection | None:
        idle = self._idle.get(target.key, ())
        since = asyncio.get_running_loop().time() - self._max_idle_s
        while idle:
            connection = idle.pop()
            if connection.usable and connection.idle_since > since:
                return connection
            connection.abort()
        return None

    def _close_idle(self, since: float) -> None:
        """Close what has been idle since then or longer: targets come and go, and not all of them close."""
        for connection in [one for idle in self._idle.values() for one in idle if one.idle_since <= since]:
            connection.abort()

    def keep_idle(self, connection: _Connection) -> None:
        idle = self._idle.setdefault(connection.key, [])
        if len(idle) < _MAX_IDLE and not self._closed:
            connection.idle_since = asyncio.get_running_loop().time()
            idle.append(connection)
        else:
            connection.abort()

    def forget(self, connection: _Connection) -> None:
        self.open.discard(connection)
        connection.usable = False
        idle = self._idle.get(connection.key, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(connection.key, None)

    def buffer_beyond(self, size: int) -> Buffer:
        """A buffer for an answer that comes in pieces, of which there are `size` bytes."""
        if self._spare_buffers and len(self._spare_buffers[-1]) > size:
            return self._spare_buffers.pop()
        return new_buffer(max(_BUFFER_BYTES, 2 * size))

    def take_back(self, buffer: Buffer) -> None:
        if (
            buffer is not self.scratch
            and isinstance(buffer, bytearray)
            and len(self._spare_buffers) < _MAX_SPARE_BUFFERS
        ):
            self._spare_buffers.append(buffer)

    async def connect(self, target: Target) -> _Connection:
        """A new connection to `target`. Raises ConnectError."""
        host, port = self._resolve.lookup(target.host, target.port)
        encrypted = target.scheme == "https"
        if encrypted and target.nameless and not (self._tls.server_name or self._tls.insecure_skip_verify):
            raise ConnectError("the URL has no host to check the certificate for; set one, or server_name")
        connection = _Connection(self, target.key)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                host,
                port,
                ssl=self._tls.context if encrypted else None,
                server_hostname=(self._tls.server_name or target.host) if encrypted else None,
                happy_eyeballs_delay=None if _is_address(host) else _NEXT_ADDRESS_AFTER_S,
            )
        except (OSError, ValueError) as error:  # a ValueError: a name that no name server can have
            led = (
                "" if (host, port) == (target.host, target.port) else f" (led to {host}:{port} by --resolve)"
            )
            raise ConnectError(f"cannot connect{led}: {why(error)}") from error
        except BaseException:
            connection.abort()
            raise
        return connection


class _Future:
    """A waiter that passes the end of its exchange on to who awaits it."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[Response]) -> None:
        self._future = future

    def answered(self, answer: Answer) -> None:
        if not self._future.done():
            self._future.set_result(
                Response(answer.status, answer.reason, answer.headers, bytes(answer.body))
            )

    def failed(self, error: FetchError) -> None:
        if not self._future.done():
            self._future.set_exception(error)


class ClientFactory:
    """Makes clients that share the rules of `resolve` and, for equal settings, one TLS context.

    `ca_bundle` takes the place of the system's certificate store, as `AWS_CA_BUNDLE` does for AWS's own tools; a
    client's `ca_file` takes the place of both.
    """

    def __init__(self, resolve: Resolve | None = None, ca_bundle: str | PathLike[str] | None = None) -> None:
        self.resolve = resolve or Resolve()
        self._ca_bundle = ca_bundle
        self._tls: dict[Tls, Tls] = {}

    def client(
        self,
        *,
        insecure_skip_verify: bool = False,
        ca_file: str | PathLike[str] | None = None,
        server_name: str | None = None,
        cert_file: str | PathLike[str] | None = None,
        key_file: str | PathLike[str] | None = None,
    ) -> Client:
        """A client with a pool of its own; its user closes it.

        Files are read, and the certificate store loaded, when the first https URL is used.
        """
        tls = Tls(
            ca_file=ca_file,
            insecure_skip_verify=insecure_skip_verify,
            server_name=server_name or None,
            cert_file=cert_file or None,
            key_file=key_file or None,
        )
        return Client(self.resolve, self.shared(tls))

    def shared(self, tls: Tls) -> Tls:
        """`tls` with the bundle that takes the place of the system's store, and one context for equal settings."""
        if not tls.ca_file and not tls.ca:
            tls = replace(tls, ca_file=self._ca_bundle)
        return self._tls.setdefault(tls, tls)
