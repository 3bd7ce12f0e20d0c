"""The settings of the exporter's HTTP client, as the OpenTelemetry Collector has them, and the client made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from trunkline.component.settings import Text, setting
from trunkline.quantities import Duration

if TYPE_CHECKING:
    from trunkline.component.contract import Context
    from trunkline.net.fetcher import Fetcher
    from trunkline.net.proxy import ProxySettings
    from trunkline.net.tls import Tls

_CONNECTIONS: Final = "as many connections as requests at a time, which are kept"
_HTTP_1: Final = "HTTP/1.1 is spoken"
_VERSIONS: Final = ("", "1.0", "1.1", "1.2", "1.3")


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """How the receiver's certificate is checked and ours presented."""

    insecure: bool = setting(default=False, doc="Plain HTTP.", ignored="the URL's scheme decides")
    insecure_skip_verify: bool = setting(default=False, doc="Whether any certificate is taken.")
    ca_file: str | None = setting(
        default=None, doc="PEM file of the authorities trusted, instead of the system's."
    )
    ca_pem: str | None = setting(default=None, doc="The same authorities as text.")
    cert_file: str | None = setting(default=None, doc="PEM file of our certificate.")
    cert_pem: str | None = setting(default=None, doc="Our certificate as text.")
    key_file: str | None = setting(default=None, doc="PEM file of its key.")
    key_pem: str | None = setting(default=None, doc="Its key as text.")
    server_name_override: str | None = setting(
        default=None, doc="Name expected in the receiver's certificate."
    )
    min_version: str = setting(default="", doc="Oldest TLS version spoken; `1.2` when empty.")
    max_version: str = setting(default="", doc="Newest TLS version spoken.")
    reload_interval: Duration | None = setting(
        default=None,
        doc="When files are read again.",
        ignored="files are read again as soon as they have changed",
    )
    include_system_ca_certs_pool: bool = setting(
        default=False, doc="Trusts the system's authorities beside those named; not supported."
    )
    cipher_suites: Any = setting(default=None, doc="Ciphers allowed; not supported.")
    curve_preferences: Any = setting(default=None, doc="Curves preferred; not supported.")
    tpm: Any = setting(default=None, doc="A key in a trusted platform module; not supported.")

    def check(self) -> Iterator[tuple[str, str]]:
        """What contradicts itself or is not supported: the key and what is wrong with it."""
        for one in ("ca", "cert", "key"):
            if getattr(self, f"{one}_file") and getattr(self, f"{one}_pem"):
                yield f"{one}_pem", f"provide either {one}_file or {one}_pem, but not both"
        if bool(self.cert_file or self.cert_pem) != bool(self.key_file or self.key_pem):
            yield "cert_file", "for auth via TLS, provide both certificate and key, or neither"
        for name in ("min_version", "max_version"):
            if getattr(self, name) not in _VERSIONS:
                yield name, f"unsupported TLS version: {getattr(self, name)!r}; write 1.0, 1.1, 1.2 or 1.3"
        if self.min_version and self.max_version and self.max_version < self.min_version:
            yield "max_version", "invalid TLS configuration: min_version cannot be greater than max_version"
        if self.include_system_ca_certs_pool and (self.ca_file or self.ca_pem):
            yield (
                "include_system_ca_certs_pool",
                "is not supported: append the system's certificates to ca_file, or leave ca_file out",
            )
        for name in ("cipher_suites", "curve_preferences", "tpm"):
            if getattr(self, name):
                yield name, "is not supported: OpenSSL's own choice is used; take the key out"

    @property
    def is_plain(self) -> bool:
        """Whether nothing is asked for that only the full client settings have."""
        return not (self.ca_pem or self.cert_pem or self.key_pem or self.min_version or self.max_version)

    def as_tls(self) -> Tls:
        """The same for our client."""
        from trunkline.net.tls import Tls  # noqa: PLC0415

        return Tls(
            ca_file=self.ca_file,
            insecure_skip_verify=self.insecure_skip_verify,
            server_name=self.server_name_override,
            cert_file=self.cert_file,
            key_file=self.key_file,
            ca=self.ca_pem or "",
            cert=self.cert_pem or "",
            key=self.key_pem or "",
            min_version=_go_name(self.min_version),
            max_version=_go_name(self.max_version),
        )


@dataclass(frozen=True, kw_only=True)
class CookiesConfig:
    """Whether the receiver's cookies are sent back."""

    enabled: bool = setting(default=False, doc="Whether cookies are kept; not supported.")


@dataclass(frozen=True, kw_only=True)
class HttpClientConfig:
    """Where requests go and how."""

    endpoint: str = setting(doc="URL that takes remote write, path included.")
    timeout: Duration = setting(default=5.0, doc="How long one request may take.")
    headers: dict[str, Text] = setting(default_factory=dict, doc="Further headers of every request.")
    tls: TlsConfig = setting(default_factory=TlsConfig, doc="TLS settings.")
    proxy_url: str = setting(
        default="", doc="HTTP proxy for every request; else those of the environment, such as HTTPS_PROXY."
    )
    compression: str = setting(default="", doc="Only `snappy`, which is also the default.")
    compression_params: Any = setting(
        default=None, doc="Level of compression.", ignored="snappy has no levels"
    )
    read_buffer_size: int = setting(
        default=0, doc="Bytes of buffer for reading.", ignored="buffers grow as needed"
    )
    write_buffer_size: int = setting(
        default=524288, doc="Bytes of buffer for writing.", ignored="buffers grow as needed"
    )
    max_idle_conns: int = setting(default=100, doc="Idle connections kept.", ignored=_CONNECTIONS)
    max_idle_conns_per_host: int = setting(default=0, doc="The same for each host.", ignored=_CONNECTIONS)
    max_conns_per_host: int = setting(default=0, doc="Connections to each host.", ignored=_CONNECTIONS)
    idle_conn_timeout: Duration = setting(
        default=90.0, doc="How long an idle connection is kept.", ignored="it is kept for 90s"
    )
    disable_keep_alives: bool = setting(
        default=False, doc="A connection for each request.", ignored=_CONNECTIONS
    )
    http2_read_idle_timeout: Duration = setting(default=0.0, doc="Health check of HTTP/2.", ignored=_HTTP_1)
    http2_ping_timeout: Duration = setting(default=0.0, doc="Its time limit.", ignored=_HTTP_1)
    force_attempt_http2: bool = setting(default=True, doc="Whether HTTP/2 is tried.", ignored=_HTTP_1)
    cookies: CookiesConfig = setting(
        default_factory=CookiesConfig, doc="Cookies of the receiver; not supported."
    )
    middlewares: Any = setting(default=None, doc="Extensions that change requests; not supported.")

    def check_client(self) -> Iterator[tuple[str, str]]:
        """What is wrong with these keys."""
        url = urlsplit(self.endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            yield "endpoint", "invalid endpoint: expected http(s)://host/path"
        if "@" in url.netloc:
            yield "endpoint", "user and password in the URL are not sent; use headers or an authenticator"
        if self.compression not in ("", "snappy"):
            yield "compression", "compression type must be snappy"
        if self.timeout <= 0:
            yield "timeout", "must be greater than zero, such as 5s"
        if self.cookies.enabled:
            yield "cookies::enabled", "is not supported: receivers of remote write set no cookies"
        if self.middlewares:
            yield "middlewares", "is not supported: there are no such extensions"
        yield from ((f"tls::{path}", message) for path, message in self.tls.check())
        yield from self._check_proxy()

    def _check_proxy(self) -> Iterator[tuple[str, str]]:
        if self.proxy_url:
            yield from self._proxy().check()

    def client(self, context: Context) -> Fetcher:
        """The client for the requests; whoever asked closes it. Raises ConfigError for a proxy that cannot be used."""
        tls = self.tls
        if tls.is_plain and not self._needs_proxy(context.environment):
            return context.clients.client(
                insecure_skip_verify=tls.insecure_skip_verify,
                ca_file=tls.ca_file,
                cert_file=tls.cert_file,
                key_file=tls.key_file,
                server_name=tls.server_name_override,
            )
        from trunkline.net.settings import HttpSettings, http_client  # noqa: PLC0415

        settings = HttpSettings(tls=tls.as_tls(), proxy=self._proxy(), follow_redirects=False)
        return http_client(settings, context.clients, context.environment)

    def _needs_proxy(self, environment: Mapping[str, str]) -> bool:
        if not self.proxy_url and not any(name.lower().endswith("_proxy") for name in environment):
            return False
        from trunkline.net.proxy import ProxyRules  # noqa: PLC0415
        from trunkline.net.target import parse_target  # noqa: PLC0415

        return ProxyRules(self._proxy(), environment).proxy_for(parse_target(self.endpoint)) is not None

    def _proxy(self) -> ProxySettings:
        from trunkline.net.proxy import ProxySettings  # noqa: PLC0415

        return ProxySettings(self.proxy_url, from_environment=not self.proxy_url)


def _go_name(version: str) -> str:
    return f"TLS{version.replace('.', '')}" if version else ""
