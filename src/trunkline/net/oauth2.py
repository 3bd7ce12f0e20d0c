"""OAuth2 client credentials (RFC 6749, 4.4): a token that is asked for, kept, and renewed in time."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode

from trunkline.errors import ConnectError, FetchError, FetchTimeoutError
from trunkline.net.fetcher import Fetcher
from trunkline.net.files import Secret
from trunkline.net.message import Request, Response
from trunkline.net.proxy import ProxySettings
from trunkline.net.target import parse_target
from trunkline.net.tls import Tls

_TIMEOUT_S = 10.0
_MAX_BODY_BYTES = 1024 * 1024
_RENEW_BEFORE_S = 10.0
_NAMES = {"bearer": "Bearer", "mac": "MAC", "basic": "Basic"}


@dataclass(frozen=True, slots=True)
class OAuth2:
    """Prometheus' `oauth2`; `tls` and `proxy` are those of the way to `token_url`."""

    client_id: str
    token_url: str
    client_secret: Secret = field(default_factory=Secret)
    scopes: tuple[str, ...] = ()
    endpoint_params: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    tls: Tls = field(default_factory=Tls)
    proxy: ProxySettings = field(default_factory=ProxySettings)

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.client_id:
            yield "client_id", "oauth2 client_id must be configured"
        if not self.token_url:
            yield "token_url", "oauth2 token_url must be configured"
        taken = {"scope"} if self.scopes else set()
        for name in taken & dict(self.endpoint_params).keys():
            yield "endpoint_params", f"cannot overwrite the parameter {name!r}; name it in one place"
        yield from ((f"tls_config::{key}", message) for key, message in self.tls.check())
        yield from self.proxy.check()


@dataclass(frozen=True, slots=True)
class Token:
    """What goes into `Authorization`, and when, on the source's clock, it is to be renewed."""

    header: str = field(repr=False)
    renew_at_s: float
    secret: str = field(repr=False)
    """The client secret it was got with; another one makes it useless."""


class TokenSource:
    """Keeps one token. However many ask at once, one request is made for it."""

    def __init__(
        self, settings: OAuth2, client: Fetcher, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        self._token: Token | None = None
        self._renewal: asyncio.Task[Token] | None = None
        self._in_body: bool | None = None
        """Whether the credentials go into the body; None as long as it is unknown, as there is no way to ask."""

    async def token(self, refused: Token | None = None) -> Token:
        """A token that has not expired, is not `refused`, and belongs to the client secret of now.

        Raises FetchError, naming the token's server.
        """
        secret = self._settings.client_secret.read()
        kept = self._token
        if kept and kept is not refused and kept.secret == secret and self._clock() < kept.renew_at_s:
            return kept
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew(secret), name="OAuth2 token")
            self._renewal.add_done_callback(self._renewed)
        return await _shared(self._renewal)

    async def aclose(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])
        await self._client.aclose()

    def _renewed(self, renewal: asyncio.Task[Token]) -> None:
        self._renewal = None
        if not renewal.cancelled() and renewal.exception() is None:
            self._token = renewal.result()

    async def _renew(self, secret: str) -> Token:
        """Ask with the credentials in a header, as RFC 6749 (2.3.1) wants it, and else in the body."""
        if self._in_body is not None:
            return await self._ask(secret, in_body=self._in_body)
        try:
            token = await self._ask(secret, in_body=False)
        except _RefusedError:
            token = await self._ask(secret, in_body=True)
            self._in_body = True
        else:
            self._in_body = False
        return token

    async def _ask(self, secret: str, *, in_body: bool) -> Token:
        settings = self._settings
        form = {"grant_type": "client_credentials"}
        if settings.scopes:
            form["scope"] = " ".join(settings.scopes)
        # A connection for each token: one that was kept may have gone stale, and a POST is not sent again.
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}
        if in_body:
            form |= {"client_id": settings.client_id} | ({"client_secret": secret} if secret else {})
        else:
            pair = f"{quote_plus(settings.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        body = urlencode(form | dict(settings.endpoint_params)).encode()
        asked = self._clock()
        request = Request("POST", settings.token_url, headers, body)
        response = await self._client.exchange(request, timeout_s=_TIMEOUT_S, max_body_bytes=_MAX_BODY_BYTES)
        try:
            header, lifetime_s = _parse(response)
        except _RefusedError as error:
            raise _RefusedError(f"{parse_target(settings.token_url)}: {error}") from None
        return Token(header, asked + lifetime_s - min(_RENEW_BEFORE_S, lifetime_s / 2), secret)


async def _shared(renewal: asyncio.Task[Token]) -> Token:
    """The result of `renewal`, which goes on when the one who waits gives up."""
    await asyncio.wait([renewal])
    if renewal.cancelled():
        raise ConnectError("the client was closed while it asked for one")
    return renewal.result()


class _RefusedError(FetchError):
    """The server gives no token for what was sent; it may give one for another form of it."""


def _parse(response: Response) -> tuple[str, float]:
    """The value for `Authorization` and the seconds it is good for, infinite when nothing is said of it."""
    fields = _fields(response)
    if not 200 <= response.status < 300:
        said = ": ".join(str(fields[key])[:200] for key in ("error", "error_description") if fields.get(key))
        text = f"asked for a token, it answered {response.status_line}{': ' if said else ''}{said}"
        raise _RefusedError(f"{text}; check token_url, client_id, client_secret and scopes of oauth2")
    if not isinstance(token := fields.get("access_token"), str) or not token:
        raise _RefusedError("its answer holds no access_token; check token_url of oauth2")
    name = str(fields.get("token_type") or "Bearer")
    return f"{_NAMES.get(name.lower(), name)} {token}", _lifetime_s(fields.get("expires_in"))


def _fields(response: Response) -> Mapping[str, Any]:
    """What the answer says, in JSON or, as some servers do, as a form."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    text = response.body.decode("utf-8", "replace")
    if kind in {"application/x-www-form-urlencoded", "text/plain"}:
        return dict(parse_qsl(text))
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _lifetime_s(expires_in: object) -> float:
    try:
        lifetime_s = float(str(expires_in))
    except ValueError:
        return float("inf")
    return lifetime_s if lifetime_s > 0 else float("inf")


class WithToken:
    """Sends requests on with a token; one that is answered 401 is sent once more with a new one."""

    def __init__(self, inner: Fetcher, source: TokenSource) -> None:
        self._inner = inner
        self._source = source

    async def exchange(
        self, request: Request, *, timeout_s: float, max_body_bytes: int | None = None
    ) -> Response:
        """As `Fetcher.exchange`; `timeout_s` covers the token too. Raises FetchError without a token."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s

        def left_s() -> float:
            return max(0.0, deadline - clock())

        token = await self._token(request, timeout_s, None)
        response = await self._inner.exchange(
            _signed(request, token), timeout_s=left_s(), max_body_bytes=max_body_bytes
        )
        if response.status != 401:
            return response
        renewed = await self._token(request, left_s(), token)
        if renewed.header == token.header:
            return response
        return await self._inner.exchange(
            _signed(request, renewed), timeout_s=left_s(), max_body_bytes=max_body_bytes
        )

    async def aclose(self) -> None:
        await self._source.aclose()
        await self._inner.aclose()

    async def _token(self, request: Request, timeout_s: float, refused: Token | None) -> Token:
        missing = "its answer was 401, and there is no other" if refused else "nothing was sent, there is no"
        start = f"{parse_target(request.url)}: {missing} OAuth2 token"
        try:
            async with asyncio.timeout(timeout_s):
                return await self._source.token(refused)
        except TimeoutError:
            raise FetchTimeoutError(f"{start} within {timeout_s:g}s") from None
        except FetchError as error:
            kind = FetchTimeoutError if isinstance(error, FetchTimeoutError) else FetchError
            raise kind(f"{start}: {error}") from None


def _signed(request: Request, token: Token) -> Request:
    headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
    headers["Authorization"] = token.header
    return Request(request.method, request.url, headers, request.body)
