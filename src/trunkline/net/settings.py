"""Everything Prometheus lets users say about an HTTP client, and the client that does it.

What a configuration does not ask for costs nothing: without credentials, proxies and redirects it is the plain client
itself. aiohttp is loaded when the first request has to go through a proxy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from trunkline.errors import ConfigError, Problem
from trunkline.net.authorization import Authorization, BasicAuth, Change, HttpHeader, WithHeaders
from trunkline.net.client import Client, ClientFactory
from trunkline.net.fetcher import Begin, Fetcher, repeatedly
from trunkline.net.files import Secret
from trunkline.net.message import Request, Response
from trunkline.net.oauth2 import OAuth2, TokenSource, WithToken
from trunkline.net.proxy import Proxy, ProxyRules, ProxySettings
from trunkline.net.redirects import FollowingRedirects
from trunkline.net.resolve import Resolve
from trunkline.net.target import parse_target
from trunkline.net.tls import Tls


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Prometheus' `<http_config>`, decoded. Equal settings compare equal, so that jobs can share a client.

    `bearer_token` and its file are an `Authorization` too. HTTP/2 is never spoken, so `enable_http2` changes nothing.
    """

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    http_headers: tuple[HttpHeader, ...] = ()
    tls: Tls = field(default_factory=Tls)
    proxy: ProxySettings = field(default_factory=ProxySettings)
    follow_redirects: bool = True
    enable_http2: bool = True

    def check(self) -> Iterator[tuple[str, str]]:
        """What contradicts itself or cannot be used: the key (`::` between levels) and what is wrong with it."""
        credentials = (self.basic_auth, self.authorization, self.oauth2)
        if sum(one is not None for one in credentials) > 1:
            yield "", "at most one of basic_auth, oauth2 & authorization must be configured"
        for path, secret in self._secrets():
            if secret.text and secret.file:
                yield path, f"at most one of {path.rpartition('::')[2]} and its _file form must be configured"
        if self.authorization is not None:
            yield from _under("authorization", self.authorization.check())
        if self.oauth2 is not None:
            yield from _under("oauth2", self.oauth2.check())
        for header in self.http_headers:
            yield from _under("http_headers", header.check())
        yield from _under("tls_config", self.tls.check())
        yield from self.proxy.check()

    def _secrets(self) -> Iterator[tuple[str, Secret]]:
        if self.basic_auth is not None:
            yield "basic_auth::username", self.basic_auth.username
            yield "basic_auth::password", self.basic_auth.password
        if self.authorization is not None:
            yield "authorization::credentials", self.authorization.credentials
        if self.oauth2 is not None:
            yield "oauth2::client_secret", self.oauth2.client_secret


def _under(key: str, found: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((f"{key}::{path}", message) for path, message in found)


def http_client(
    settings: HttpSettings, factory: ClientFactory, environment: Mapping[str, str] = os.environ
) -> Fetcher:
    """The client for `settings`, with a pool of its own; its user closes it.

    `environment` has the variables for `proxy_from_environment`. Raises ConfigError when a proxy is asked for that
    cannot be used, or without the package for it; files are read when they are needed.
    """
    fetcher = _transport(settings.tls, settings.proxy, factory, environment)
    if settings.follow_redirects:
        secret = frozenset(header.name.lower() for header in settings.http_headers if header.secret)
        fetcher = FollowingRedirects(fetcher, secret)
    changes: list[Change] = [one.change for one in (settings.basic_auth, settings.authorization) if one]
    changes += [header.change for header in settings.http_headers]
    if changes:
        fetcher = WithHeaders(fetcher, tuple(changes))
    if settings.oauth2 is not None:
        # No redirects for tokens: nobody but token_url is to see the client's secret.
        way = _transport(settings.oauth2.tls, settings.oauth2.proxy, factory, environment)
        fetcher = WithToken(fetcher, TokenSource(settings.oauth2, way))
    return fetcher


def _transport(
    tls: Tls, proxy: ProxySettings, factory: ClientFactory, environment: Mapping[str, str]
) -> Fetcher:
    tls = factory.shared(tls)
    plain = Client(factory.resolve, tls)
    rules = ProxyRules(proxy, environment)
    if not rules.proxies:
        return plain
    if find_spec("aiohttp") is None:
        wanted = ", ".join(sorted(one.url for one in rules.proxies))
        remedy = "install it with pip install 'trunkline[proxy]', or take the proxy out"
        raise ConfigError([Problem("", "", f"the proxy {wanted} needs the package aiohttp", remedy)])
    return ThroughProxies(plain, factory.resolve, tls, rules)


class ThroughProxies:
    """Sends each request the way its URL has to go: directly with the plain client, else with a full one."""

    def __init__(self, plain: Client, resolve: Resolve, tls: Tls, rules: ProxyRules) -> None:
        self._plain = plain
        self._resolve = resolve
        self._tls = tls
        self._rules = rules
        self._full: dict[Proxy, Fetcher] = {}

    async def exchange(
        self, request: Request, *, timeout_s: float, max_body_bytes: int | None = None
    ) -> Response:
        """As `Fetcher.exchange`."""
        way = self._way(request)
        return await way.exchange(request, timeout_s=timeout_s, max_body_bytes=max_body_bytes)

    def repeatedly(self, request: Request, timeout_s: float, max_body_bytes: int | None) -> Begin:
        return repeatedly(self._way(request), request, timeout_s=timeout_s, max_body_bytes=max_body_bytes)

    async def aclose(self) -> None:
        for full in self._full.values():
            await full.aclose()
        await self._plain.aclose()

    def _way(self, request: Request) -> Fetcher:
        proxy = self._rules.proxy_for(parse_target(request.url))
        return self._plain if proxy is None else self._through(proxy)

    def _through(self, proxy: Proxy) -> Fetcher:
        if proxy not in self._full:
            from trunkline.net.full import FullClient  # noqa: PLC0415 (14 MiB, for those who have a proxy)

            self._full[proxy] = FullClient(self._resolve, self._tls, proxy)
        return self._full[proxy]
