"""The full HTTP client: what the plain one does, through proxies too. It is aiohttp, made to behave like the plain one.

Nothing but `trunkline.net.settings` imports this module, and only when a request has to go through a proxy.
docs/decisions/0005-full-http-client.md has the few corners in which both differ.
"""

from __future__ import annotations

import asyncio
import socket
from base64 import b64encode
from dataclasses import dataclass, replace
from io import BytesIO

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from trunkline import __version__
from trunkline.errors import BodyTooLargeError, ConnectError, FetchError, FetchTimeoutError, ProtocolError
from trunkline.net.answer import MAX_HEAD_BYTES, gunzip, parse_headers
from trunkline.net.client import encode, why
from trunkline.net.message import Request, Response
from trunkline.net.proxy import Proxy
from trunkline.net.resolve import Resolve
from trunkline.net.target import Target, parse_target
from trunkline.net.tls import Tls

_MAX_IDLE_S = 90.0
_MAX_HEADERS = 1000
_MAX_HEADER_BYTES = 16 * 1024
_NOT_ASKED_FOR = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class _Resolver(AbstractResolver):
    """Asks the event loop, as the plain client does, after the rules of `--resolve`."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        address, number = self._resolve.lookup(host, port)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address, number, family=family, type=socket.SOCK_STREAM)
        return [
            ResolveResult(
                hostname=host, host=str(to[0]), port=int(to[1]), family=kind, proto=protocol, flags=0
            )
            for kind, _, protocol, _, to in found
        ]

    async def close(self) -> None:
        """There is nothing to close."""


@dataclass(slots=True)
class _Progress:
    """How far an exchange has come, for the words of its error."""

    answered: bool = False
    closes_at_end: bool = False
    body_bytes: int = 0
    length: str | None = None


class FullClient:
    """Makes exchanges, all of them through `proxy` if there is one; owns its connections until `aclose`."""

    def __init__(
        self, resolve: Resolve | None = None, tls: Tls | None = None, proxy: Proxy | None = None
    ) -> None:
        self._resolve = resolve or Resolve()
        self._tls = tls or Tls()
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def exchange(
        self, request: Request, *, timeout_s: float, max_body_bytes: int | None = None
    ) -> Response:
        """As `Client.exchange`: the same answers, and the same kinds of errors in much the same words."""
        target = parse_target(request.url)
        encode(replace(request, body=b""), target)  # raises for what cannot be sent
        progress = _Progress()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(request, target, max_body_bytes, progress)
        except TimeoutError:
            state = f"{progress.body_bytes} bytes of it had come" if progress.answered else "nothing had come"
            raise FetchTimeoutError(
                f"no complete answer from {target} within {timeout_s:g}s, {state}"
            ) from None
        except FetchError as error:
            raise type(error)(f"{target}: {error}") from error.__cause__
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            failure = self._failure(error, target, progress)
            raise type(failure)(f"{target}: {failure}") from error

    async def aclose(self) -> None:
        """Close every connection; exchanges under way fail with ConnectError."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_Resolver(self._resolve),
                    use_dns_cache=False,
                    limit=0,
                    keepalive_timeout=_MAX_IDLE_S,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                skip_auto_headers=_NOT_ASKED_FOR,
                auto_decompress=False,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
                max_headers=_MAX_HEADERS,
            )
        return self._session

    async def _exchange(
        self, request: Request, target: Target, max_body_bytes: int | None, progress: _Progress
    ) -> Response:
        proxy = self._proxy
        encrypted = target.scheme == "https"
        host = target.host + target.authority if target.nameless else target.authority
        through_tls = encrypted or (proxy is not None and proxy.url.startswith("https:"))
        async with self._opened().request(
            request.method,
            URL(f"{target.scheme}://{host}{target.path}", encoded=True),
            headers=self._headers(request, target),
            data=BytesIO(request.body) if request.body else None,
            allow_redirects=False,
            ssl=self._tls.context if through_tls else True,
            server_hostname=self._tls.server_name if encrypted else None,
            proxy=proxy.url if proxy else None,
            proxy_headers=_connect_headers(proxy) if proxy and encrypted else None,
        ) as answer:
            return await _received(answer, max_body_bytes, progress)

    def _headers(self, request: Request, target: Target) -> CIMultiDict[str]:
        headers = CIMultiDict(request.headers)
        headers.setdefault("Host", target.authority)
        headers.setdefault("User-Agent", f"trunkline/{__version__}")
        headers.pop("Content-Length", None)
        if self._proxy is not None and target.scheme == "http":
            headers.update(_credentials(self._proxy))
        return headers

    def _failure(self, error: Exception, target: Target, progress: _Progress) -> FetchError:
        """`error` in the plain client's words."""
        if isinstance(error, aiohttp.ClientHttpProxyError):
            said = f"{error.status} {error.message}".rstrip()
            return ConnectError(f"{self._through} refused to connect: it answered {said}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return ConnectError(f"cannot connect{self._led(target)}: {why(_cause(error))}")
        return _broken_answer(error, progress)

    @property
    def _through(self) -> str:
        return f"the proxy {self._proxy.url}" if self._proxy else "the server"

    def _led(self, target: Target) -> str:
        if self._proxy is not None:
            return f" through {self._through}"
        host, port = self._resolve.lookup(target.host, target.port)
        return "" if (host, port) == (target.host, target.port) else f" (led to {host}:{port} by --resolve)"


def _credentials(proxy: Proxy) -> dict[str, str]:
    if not proxy.username and not proxy.password:
        return {}
    pair = f"{proxy.username}:{proxy.password}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _connect_headers(proxy: Proxy) -> CIMultiDict[str]:
    headers = CIMultiDict(proxy.connect_headers)
    headers.update(_credentials(proxy))
    return headers


async def _received(
    answer: aiohttp.ClientResponse, max_body_bytes: int | None, progress: _Progress
) -> Response:
    headers = _head(answer, progress)
    connection = answer.connection
    protocol = connection.protocol if connection is not None else None
    body = await _body(answer, max_body_bytes, progress)
    if progress.closes_at_end and protocol is not None and isinstance(lost := protocol.exception(), OSError):
        raise ProtocolError(f"the connection broke in the middle of the answer{_because(lost)}")
    reason = (answer.reason or "").encode("utf-8", "surrogateescape").decode("latin-1").strip()
    return Response(answer.status, reason, headers, _decoded(body, headers, max_body_bytes))


def _head(answer: aiohttp.ClientResponse, progress: _Progress) -> dict[str, str]:
    progress.answered = True
    if answer.status < 200:
        raise ProtocolError(f"unexpected {answer.status} answer")
    if sum(len(name) + len(value) + 4 for name, value in answer.raw_headers) > MAX_HEAD_BYTES:
        raise ProtocolError(f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes")
    headers = parse_headers(
        f"{name.decode('latin-1')}:{value.decode('latin-1')}" for name, value in answer.raw_headers
    )
    encoding = headers.get("transfer-encoding", "chunked")
    empty = answer.method == "HEAD" or answer.status in {204, 304}
    if not empty and encoding.lower() != "chunked":
        raise ProtocolError(f"transfer encoding {encoding[:80]!r} was not asked for")
    progress.length = headers.get("content-length")
    progress.closes_at_end = not empty and progress.length is None and "transfer-encoding" not in headers
    return headers


async def _body(answer: aiohttp.ClientResponse, max_body_bytes: int | None, progress: _Progress) -> bytes:
    limit = float("inf") if max_body_bytes is None else max_body_bytes
    announced = answer.content_length or 0
    if answer.method != "HEAD" and announced > limit:
        raise _too_large(max_body_bytes)
    parts: list[bytes] = []
    async for part in answer.content.iter_any():
        parts.append(part)
        progress.body_bytes += len(part)
        if progress.body_bytes > limit:
            raise _too_large(max_body_bytes)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(max_body_bytes: int | None) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than the limit of {max_body_bytes} bytes")


def _decoded(body: bytes, headers: dict[str, str], max_body_bytes: int | None) -> bytes:
    encoding = headers.get("content-encoding", "identity").lower()
    if not body or encoding in {"identity", ""}:
        return body
    if encoding not in {"gzip", "x-gzip"}:
        raise ProtocolError(f"content encoding {encoding[:80]!r} was not asked for")
    return gunzip(body, max_body_bytes)


def _cause(error: aiohttp.ClientConnectorError) -> OSError | ValueError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return cause if isinstance(cause, OSError | ValueError) else ValueError(str(cause))
    return error.os_error


def _because(error: BaseException | None) -> str:
    return f": {why(error)}" if isinstance(error, OSError) else ""


def _broken_answer(error: Exception, progress: _Progress) -> FetchError:
    match error:
        case aiohttp.ClientPayloadError():
            return ProtocolError(_broken_body(error, progress))
        case aiohttp.ServerDisconnectedError() if not isinstance(error.message, str):
            return ProtocolError("the connection was closed in the middle of the head")
        case aiohttp.ClientResponseError():
            said = _first_line(error.message)
            return ProtocolError(
                "not an HTTP answer" if said.startswith("Bad status line") else f"malformed answer: {said}"
            )
        case aiohttp.InvalidURL():
            return ConnectError(f"cannot connect: {_first_line(str(error))}")
        case _ if progress.answered:
            return ProtocolError(f"the connection broke in the middle of the answer{_because(error)}")
        case _:
            return ConnectError(f"the connection was closed without an answer{_because(error)}")


def _broken_body(error: aiohttp.ClientPayloadError, progress: _Progress) -> str:
    cause = error.__cause__
    if isinstance(cause, aiohttp.http_exceptions.ContentLengthError):
        return f"the connection was closed after {progress.body_bytes} of {progress.length} bytes of the body"
    if isinstance(cause, aiohttp.http_exceptions.TransferEncodingError):
        return "the connection was closed in the middle of the chunked body"
    return f"malformed answer: {_first_line(str(cause or error))}"


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip(" :")[:120]
