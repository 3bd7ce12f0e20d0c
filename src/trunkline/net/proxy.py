"""Which proxy, if any, a URL goes through: Prometheus' `proxy_url` and Go's rules for `NO_PROXY`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from trunkline.errors import ConfigError, Problem
from trunkline.net.target import Target

_Address: TypeAlias = IPv4Address | IPv6Address
_Rule: TypeAlias = Callable[[str, int, _Address | None], bool]
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; `url` is without user name and password, `connect_headers` go along with CONNECT only."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    connect_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, url: str, connect_headers: tuple[tuple[str, str], ...] = ()) -> Proxy:
        """A proxy from `http://user:password@host:port`; raises ValueError with what is wrong with it."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            kind = f"{parts.scheme}:// proxies are not" if parts.scheme else "a URL without scheme is not"
            raise ValueError(f"{kind} supported; write http://host:port")
        if not parts.hostname:
            raise ValueError("there is no host in it; write http://host:port")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        return cls(
            f"{parts.scheme}://{host}:{port}",
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            connect_headers,
        )


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The proxy keys of Prometheus' HTTP client settings; `connect_headers` is `proxy_connect_header`."""

    url: str = field(default="", repr=False)
    no_proxy: str = ""
    from_environment: bool = False
    connect_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def check(self) -> Iterator[tuple[str, str]]:
        """What contradicts itself, as key and message."""
        if self.connect_headers and not self.from_environment and not self.url:
            yield "proxy_connect_header", "proxy_url or proxy_from_environment must also be configured"
        if self.from_environment and self.url:
            yield "proxy_url", "must not be configured with proxy_from_environment"
        if self.from_environment and self.no_proxy:
            yield "no_proxy", "must not be configured with proxy_from_environment; set NO_PROXY"
        if self.no_proxy and not self.url and not self.from_environment:
            yield "no_proxy", "proxy_url must also be configured"
        if self.url:
            try:
                Proxy.parse(self.url)
            except ValueError as error:
                yield "proxy_url", str(error)


class ProxyRules:
    """Decides for each URL; made once from settings and environment.

    A `proxy_url` alone is for every URL. With `no_proxy`, and for proxies from the environment, Go's rules hold:
    localhost and loopback addresses never go through a proxy.
    Raises ConfigError, naming the key or variable, for a proxy that cannot be used.
    """

    def __init__(self, settings: ProxySettings, environment: Mapping[str, str]) -> None:
        self._all = bool(settings.url) and not settings.no_proxy
        self._rules: list[_Rule] = []
        self._proxies: dict[str, Proxy] = {}
        if settings.from_environment:
            self._rules = _parse_rules(_variable(environment, "NO_PROXY")[1])
            for scheme in _PORTS:
                name, url = _variable(environment, f"{scheme.upper()}_PROXY")
                if url:
                    url = url if "://" in url else f"http://{url}"
                    self._proxies[scheme] = _parsed(name, url, settings)
        elif settings.url:
            self._rules = _parse_rules(settings.no_proxy)
            self._proxies = dict.fromkeys(_PORTS, _parsed("proxy_url", settings.url, settings))

    @property
    def proxies(self) -> frozenset[Proxy]:
        """Every proxy that may be used."""
        return frozenset(self._proxies.values())

    def proxy_for(self, target: Target) -> Proxy | None:
        """The proxy for `target`, None to go there directly."""
        proxy = self._proxies.get(target.scheme)
        if proxy is None or self._all:
            return proxy
        address = _address(target.host)
        if target.host == "localhost" or (address is not None and address.is_loopback):
            return None
        host = target.host.lower()
        return None if any(rule(host, target.port, address) for rule in self._rules) else proxy


def _variable(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """Name and value of the variable in upper or else in lower case."""
    for one in (name, name.lower()):
        if environment.get(one):
            return one, environment[one]
    return name, ""


def _parsed(name: str, url: str, settings: ProxySettings) -> Proxy:
    try:
        return Proxy.parse(url, settings.connect_headers)
    except ValueError as error:
        raise ConfigError([Problem("", name, f"cannot use this proxy: {error}")]) from None


def _address(host: str) -> _Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _parse_rules(text: str) -> list[_Rule]:
    return [rule for part in text.lower().split(",") if (rule := _rule(part.strip())) is not None]


def _rule(text: str) -> _Rule | None:
    """One entry: `*`, an address, a network, or a domain (itself and below; below only with a dot in front)."""
    if text == "*":
        return lambda _host, _port, _address: True
    if "/" in text:
        return _network_rule(text)
    name, port = _split(text)
    if not name:
        return None
    if (wanted := _address(name)) is not None:
        return lambda _host, at, address: address == wanted and port in {None, at}
    name = name.removeprefix("*")
    below = name if name.startswith(".") else f".{name}"
    return lambda host, at, _address: (host == name or host.endswith(below)) and port in {None, at}


def _network_rule(text: str) -> _Rule | None:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None  # Go makes the best of the list, too
    return lambda _host, _port, address: address is not None and address in network


def _split(text: str) -> tuple[str, int | None]:
    """Host and port of an entry; an IPv6 address has a port only behind brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return text, None
    return host.strip("[]"), int(port) if port.isascii() and port.isdigit() else -1
