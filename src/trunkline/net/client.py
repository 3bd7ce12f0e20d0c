"""An HTTP/1.1 client that is small and quick at what a collector does: GET a page, POST a body.

It follows no redirects, uses no proxies and keeps no cookies. Connections are kept alive in a small pool per
scheme, host and port, and received into buffers that are reused.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from os import PathLike

from trunkline import __version__
from trunkline.errors import ConnectError, FetchError, FetchTimeoutError, ProtocolError
from trunkline.net.answer import AnswerReader
from trunkline.net.message import Request, Response
from trunkline.net.resolve import Resolve
from trunkline.net.target import Target, parse_target
from trunkline.net.tls import Tls

_MAX_IDLE = 16
_MAX_IDLE_S = 90.0
_BUFFER_BYTES = 64 * 1024
_MAX_SPARE_BUFFERS = 4
_MAX_SPARE_BYTES = 2 * 1024 * 1024
_NEXT_ADDRESS_AFTER_S = 0.25
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BREAKS = re.compile(r"[\r\n\0]")
_UNASKED = memoryview(bytearray(256))


class _ClosedEarlyError(ConnectError):
    """The connection ended before the first byte of an answer."""


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


def _why(error: OSError | ValueError) -> str:
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


class _Connection(asyncio.BufferedProtocol):
    """One connection, carrying at most one exchange at a time."""

    def __init__(self, client: Client, key: tuple[str, str, int]) -> None:
        self._client = client
        self.key = key
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: AnswerReader | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._reusable = False
        self.unsent = False
        self.idle_since = 0.0
        self.lost = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._client._open.add(self)  # noqa: SLF001 (one unit in two classes)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's name)
        return _UNASKED if self._reader is None else self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        if self._reader is None:  # an answer nobody asked for: this connection is out of step
            self.abort()
            return
        try:
            response = self._reader.received(nbytes)
        except FetchError as error:
            self._fail(error)
        else:
            if response is not None:
                self._succeed(response)

    def eof_received(self) -> bool:
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._client._forget(self)  # noqa: SLF001
        self._end(exc)
        self.lost.set_result(None)

    def _end(self, exc: Exception | None) -> None:
        reader = self._reader
        if reader is None:
            return
        why = f": {_why(exc)}" if isinstance(exc, OSError) else ""
        if not reader.received_bytes:
            self._fail(_ClosedEarlyError(f"the connection was closed without an answer{why}"))
        elif exc is not None:
            self._fail(ProtocolError(f"the connection broke in the middle of the answer{why}"))
        else:
            self._finish_at_end(reader)

    def _finish_at_end(self, reader: AnswerReader) -> None:
        try:
            self._succeed(reader.ended())
        except FetchError as error:
            self._fail(error)

    def _succeed(self, response: Response) -> None:
        if self._reader is not None and self._answer is not None and not self._answer.done():
            self._reusable = self._reader.reusable
            self._reader = None
            self._answer.set_result(response)

    def _fail(self, error: FetchError) -> None:
        self._reader = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    @property
    def usable(self) -> bool:
        """Whether another exchange can be made, as far as is known here."""
        transport = self._transport
        return (
            self._reusable
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    async def exchange(self, payload: bytes, reader: AnswerReader) -> Response:
        """Send `payload` and wait for the answer."""
        assert self._transport is not None
        self._reader = reader
        self._reusable = False
        self._answer = self._loop.create_future()
        self._transport.write(payload)
        self.unsent = self._transport.is_closing()
        try:
            return await self._answer
        finally:
            self._reader = self._answer = None

    def abort(self) -> None:
        """Close without ado."""
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()


class Client:
    """Makes exchanges; owns its connections until `aclose`."""

    def __init__(self, resolve: Resolve | None = None, tls: Tls | None = None) -> None:
        self._resolve = resolve or Resolve()
        self._tls = tls or Tls()
        self._open: set[_Connection] = set()
        self._idle: dict[tuple[str, str, int], list[_Connection]] = {}
        self._spare_buffers: list[bytearray] = []
        self._closed = False

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
        target = parse_target(request.url)
        payload = encode(request, target)
        buffer = self._spare_buffers.pop() if self._spare_buffers else bytearray(_BUFFER_BYTES)
        reader = AnswerReader(request.method, max_body_bytes, buffer)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(target, payload, reader, request.method in {"GET", "HEAD"})
        except TimeoutError:
            got = reader.received_bytes
            state = f"{got} bytes of it had come" if got else "nothing had come"
            raise FetchTimeoutError(
                f"no complete answer from {target} within {timeout_s:g}s, {state}"
            ) from None
        except FetchError as error:
            raise type(error)(f"{target}: {error}") from error.__cause__
        finally:
            if len(self._spare_buffers) < _MAX_SPARE_BUFFERS and len(reader.buffer) <= _MAX_SPARE_BYTES:
                self._spare_buffers.append(reader.buffer)

    async def aclose(self) -> None:
        """Close every connection; exchanges under way fail with ConnectError."""
        self._closed = True
        connections = list(self._open)
        for connection in connections:
            connection.abort()
        if connections:
            await asyncio.wait([connection.lost for connection in connections])

    async def _exchange(self, target: Target, payload: bytes, reader: AnswerReader, safe: bool) -> Response:
        connection = self._take_idle(target)
        if connection is not None:
            try:
                return await self._converse(connection, payload, reader)
            except _ClosedEarlyError:
                if not safe and not connection.unsent:
                    raise
        return await self._converse(await self._connect(target), payload, reader)

    async def _converse(self, connection: _Connection, payload: bytes, reader: AnswerReader) -> Response:
        try:
            return await connection.exchange(payload, reader)
        finally:
            self._keep_or_close(connection)

    def _take_idle(self, target: Target) -> _Connection | None:
        idle = self._idle.get((target.scheme, target.host, target.port), ())
        oldest = asyncio.get_running_loop().time() - _MAX_IDLE_S
        while idle:
            connection = idle.pop()
            if connection.usable and connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    def _keep_or_close(self, connection: _Connection) -> None:
        idle = self._idle.setdefault(connection.key, [])
        if connection.usable and len(idle) < _MAX_IDLE and not self._closed:
            connection.idle_since = asyncio.get_running_loop().time()
            idle.append(connection)
        else:
            connection.abort()

    def _forget(self, connection: _Connection) -> None:
        self._open.discard(connection)
        idle = self._idle.get(connection.key, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(connection.key, None)

    async def _connect(self, target: Target) -> _Connection:
        host, port = self._resolve.lookup(target.host, target.port)
        encrypted = target.scheme == "https"
        connection = _Connection(self, (target.scheme, target.host, target.port))
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
            raise ConnectError(f"cannot connect{led}: {_why(error)}") from error
        except BaseException:
            connection.abort()
            raise
        return connection


class ClientFactory:
    """Makes clients that share the rules of `resolve` and, for equal settings, one TLS context.

    `ca_bundle` takes the place of the system's certificate store, as `AWS_CA_BUNDLE` does for AWS's own tools; a
    client's `ca_file` takes the place of both.
    """

    def __init__(self, resolve: Resolve | None = None, ca_bundle: str | PathLike[str] | None = None) -> None:
        self._resolve = resolve or Resolve()
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
            ca_file=ca_file or self._ca_bundle,
            insecure_skip_verify=insecure_skip_verify,
            server_name=server_name or None,
            cert_file=cert_file or None,
            key_file=key_file or None,
        )
        return Client(self._resolve, self._tls.setdefault(tls, tls))
