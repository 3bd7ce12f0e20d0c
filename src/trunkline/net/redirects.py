"""Following redirects in front of a client that does not, by the rules of Go's net/http."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from trunkline.errors import FetchError, ProtocolError
from trunkline.net.client import Answer, Waiter
from trunkline.net.fetcher import Begin, Fetcher, Tasks, repeatedly
from trunkline.net.message import Request, Response
from trunkline.net.target import Target, parse_target

MAX_REQUESTS = 10
_STATUSES = frozenset({301, 302, 303, 307, 308})
_KEEP_METHOD = frozenset({307, 308})
_SENSITIVE = frozenset({"authorization", "cookie", "cookie2", "proxy-authorization", "www-authenticate"})
_OF_THE_BODY = frozenset({"content-encoding", "content-language", "content-location", "content-type"})
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))


class FollowingRedirects:
    """Follows redirects; an answer that is none costs one look at its status.

    At most ten requests are made for one exchange, as in Go. Credentials and the headers named in `secret_headers` do
    not go along to a host that is neither the first one nor below it, nor from https to http.
    """

    def __init__(self, inner: Fetcher, secret_headers: frozenset[str] = frozenset()) -> None:
        self._inner = inner
        self._sensitive = _SENSITIVE | secret_headers
        self._tasks = Tasks()

    async def exchange(
        self, request: Request, *, timeout_s: float, max_body_bytes: int | None = None
    ) -> Response:
        """As `Fetcher.exchange`; `timeout_s` covers all requests together.

        Raises ProtocolError (`stopped after 10 redirects`) when there is no end to it.
        """
        started = asyncio.get_running_loop().time()
        response = await self._inner.exchange(request, timeout_s=timeout_s, max_body_bytes=max_body_bytes)
        if response.status not in _STATUSES:
            return response
        deadline = started + timeout_s
        return await self._follow(request, response, deadline, max_body_bytes)

    def repeatedly(self, request: Request, timeout_s: float, max_body_bytes: int | None) -> Begin:
        begin = repeatedly(self._inner, request, timeout_s=timeout_s, max_body_bytes=max_body_bytes)

        def follow(response: Response, started: float) -> Coroutine[Any, Any, Response]:
            return self._follow(request, response, started + timeout_s, max_body_bytes)

        return lambda waiter: begin(_Looking(waiter, follow, self._tasks))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _follow(
        self, request: Request, response: Response, deadline: float, max_body_bytes: int | None
    ) -> Response:
        first = parse_target(request.url)
        for _ in range(MAX_REQUESTS - 1):
            location = response.headers.get("location")
            if response.status not in _STATUSES or not location:
                return response
            request = self._next(request, response.status, location, first)
            left_s = max(0.0, deadline - asyncio.get_running_loop().time())
            response = await self._inner.exchange(request, timeout_s=left_s, max_body_bytes=max_body_bytes)
        if response.status in _STATUSES and "location" in response.headers:
            raise ProtocolError(f"{first}: stopped after {MAX_REQUESTS} redirects")
        return response

    def _next(self, request: Request, status: int, location: str, first: Target) -> Request:
        # A header is text of one byte a character here; what is no ASCII goes on as it came.
        location = quote(location.encode("latin-1", "replace"), safe=_PRINTABLE)
        try:
            url, elsewhere = urljoin(request.url, location), bool(urlsplit(location).netloc)
        except ValueError as error:
            said = f"cannot follow the redirect to {location[:200]!r}: {error}"
            raise ProtocolError(f"{first}: {said}") from None
        headers = dict(request.headers)
        if not _may_have_secrets(parse_target(url), first):
            headers = _without(headers, self._sensitive)
        if elsewhere:
            headers = _without(headers, frozenset({"host"}))
        if status in _KEEP_METHOD or request.method in {"GET", "HEAD"}:
            return Request(request.method, url, headers, request.body)
        return Request("GET", url, _without(headers, _OF_THE_BODY))


class _Looking:
    """Passes an answer on, where it was received, unless it is a redirect."""

    __slots__ = ("_follow", "_started", "_tasks", "_waiter")

    def __init__(
        self,
        waiter: Waiter,
        follow: Callable[[Response, float], Coroutine[Any, Any, Response]],
        tasks: Tasks,
    ) -> None:
        self._waiter = waiter
        self._follow = follow
        self._started = asyncio.get_running_loop().time()
        self._tasks = tasks

    def answered(self, answer: Answer) -> None:
        if answer.status not in _STATUSES:
            self._waiter.answered(answer)
            return
        response = Response(answer.status, answer.reason, answer.headers, bytes(answer.body))
        self._tasks.begin(lambda: self._follow(response, self._started), self._waiter)

    def failed(self, error: FetchError) -> None:
        self._waiter.failed(error)


def _without(headers: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in names}


def _may_have_secrets(target: Target, first: Target) -> bool:
    """Whether what was meant for `first` may be shown to `target`."""
    if first.scheme == "https" and target.scheme == "http":
        return False
    same = target.host == first.host
    return same or (":" not in target.host and target.host.endswith(f".{first.host}"))
