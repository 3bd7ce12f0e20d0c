"""What a configuration adds to every request: credentials and headers, from files that may change."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from trunkline.errors import FetchError
from trunkline.net.client import Waiter
from trunkline.net.fetcher import Begin, Fetcher, repeatedly
from trunkline.net.files import Secret
from trunkline.net.message import Request, Response
from trunkline.net.target import parse_target

Change: TypeAlias = Callable[[dict[str, str]], None]
"""Changes the headers of a request in place; raises FetchError when a file cannot be read."""

RESERVED = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "user-agent",
        "www-authenticate",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "x-prometheus-remote-read-version",
        "x-prometheus-remote-write-version",
        "x-prometheus-scrape-timeout-seconds",
    }
)
"""Headers that `http_headers` may not set, as in Prometheus."""


def _key_of(headers: Mapping[str, str], name: str) -> str | None:
    """`name` as it is spelled in `headers`."""
    return next((key for key in headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """Prometheus' `basic_auth`."""

    username: Secret = field(default_factory=Secret)
    password: Secret = field(default_factory=Secret)

    def change(self, headers: dict[str, str]) -> None:
        """Add `Authorization`, unless the request brings one of its own."""
        if _key_of(headers, "authorization") is None:
            pair = f"{self.username.read()}:{self.password.read()}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class Authorization:
    """Prometheus' `authorization`, and `bearer_token` with its file."""

    type: str = "Bearer"
    credentials: Secret = field(default_factory=Secret)

    def change(self, headers: dict[str, str]) -> None:
        """Add `Authorization`, unless the request brings one of its own."""
        if _key_of(headers, "authorization") is None:
            headers["Authorization"] = f"{self.type.strip()} {self.credentials.read()}"

    def check(self) -> Iterator[tuple[str, str]]:
        if self.type.strip().lower() == "basic":
            yield "type", 'authorization type cannot be set to "basic", use "basic_auth" instead'
        if not self.type.strip():
            yield "type", "must not be empty; leave it out for Bearer"


@dataclass(frozen=True, slots=True)
class HttpHeader:
    """One entry of Prometheus' `http_headers`; all its values are sent, joined with `, `."""

    name: str
    values: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    files: tuple[Secret, ...] = ()

    @property
    def secret(self) -> bool:
        """Whether it holds something that is not for everybody's eyes."""
        return bool(self.secrets or self.files)

    def change(self, headers: dict[str, str]) -> None:
        """Add the values to those the request has already."""
        values = [*self.values, *self.secrets, *(file.read() for file in self.files)]
        known = _key_of(headers, self.name)
        if known is not None:
            values.insert(0, headers.pop(known))
        if values:
            headers[self.name] = ", ".join(values)

    def check(self) -> Iterator[tuple[str, str]]:
        if self.name.lower() in RESERVED:
            yield self.name, f"setting header {self.name!r} is not allowed"


class WithHeaders:
    """Sends requests on with changed headers."""

    def __init__(self, inner: Fetcher, changes: tuple[Change, ...]) -> None:
        self._inner = inner
        self._changes = changes

    async def exchange(
        self, request: Request, *, timeout_s: float, max_body_bytes: int | None = None
    ) -> Response:
        """As `Fetcher.exchange`; raises FetchError when a file cannot be read."""
        changed = self._changed(request)
        return await self._inner.exchange(changed, timeout_s=timeout_s, max_body_bytes=max_body_bytes)

    def repeatedly(self, request: Request, timeout_s: float, max_body_bytes: int | None) -> Begin:
        ready: tuple[Request, Begin] | None = None

        def begin(waiter: Waiter) -> None:
            nonlocal ready
            try:
                changed = self._changed(request)
                if ready is None or ready[0] != changed:
                    again = repeatedly(
                        self._inner, changed, timeout_s=timeout_s, max_body_bytes=max_body_bytes
                    )
                    ready = changed, again
            except FetchError as error:
                asyncio.get_running_loop().call_soon(waiter.failed, error)
            else:
                ready[1](waiter)

        return begin

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _changed(self, request: Request) -> Request:
        headers = dict(request.headers)
        try:
            for change in self._changes:
                change(headers)
        except FetchError as error:
            raise FetchError(f"{parse_target(request.url)}: nothing was sent: {error}") from None
        return Request(request.method, request.url, headers, request.body)
