"""Prometheus' HTTP client settings, as they stand inline in a job or in a discovery section."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from trunkline.component.settings import Text, setting
from trunkline.net.authorization import Authorization, BasicAuth, HttpHeader
from trunkline.net.files import Secret
from trunkline.net.oauth2 import OAuth2
from trunkline.net.proxy import ProxySettings
from trunkline.net.settings import HttpSettings
from trunkline.net.tls import Tls

TlsVersion: TypeAlias = Literal["", "TLS10", "TLS11", "TLS12", "TLS13"]


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """Whom a connection trusts and who it says it is."""

    ca: str = setting(default="", doc="Certificates that are trusted, as PEM text.")
    ca_file: str = setting(default="", doc="The same as a file, read again when it changes.")
    cert: str = setting(default="", doc="The client's certificate, as PEM text.")
    cert_file: str = setting(default="", doc="The same as a file.")
    key: str = setting(default="", doc="The client's key, as PEM text.")
    key_file: str = setting(default="", doc="The same as a file.")
    server_name: str = setting(default="", doc="The name asked for and checked, else the target's host.")
    insecure_skip_verify: bool = setting(
        default=False, doc="Whether the server's certificate goes unchecked."
    )
    min_version: TlsVersion = setting(default="", doc="The oldest version of TLS that is spoken, else TLS12.")
    max_version: TlsVersion = setting(default="", doc="The newest version of TLS that is spoken.")

    def settings(self) -> Tls:
        return Tls(
            ca_file=self.ca_file or None,
            insecure_skip_verify=self.insecure_skip_verify,
            server_name=self.server_name or None,
            cert_file=self.cert_file or None,
            key_file=self.key_file or None,
            ca=self.ca,
            cert=self.cert,
            key=self.key,
            min_version=self.min_version,
            max_version=self.max_version,
        )

    def files(self) -> Iterator[tuple[str, str]]:
        """The files that are named, by key."""
        for key in ("ca_file", "cert_file", "key_file"):
            yield f"tls_config::{key}", getattr(self, key)


@dataclass(frozen=True, kw_only=True)
class BasicAuthConfig:
    """A user name and a password."""

    username: Text = setting(default="", doc="User name.")
    username_file: str = setting(default="", doc="File with the user name, read again when it changes.")
    password: Text = setting(default="", doc="Password.")
    password_file: str = setting(default="", doc="File with the password, read again when it changes.")


@dataclass(frozen=True, kw_only=True)
class AuthorizationConfig:
    """A word and a secret for the `Authorization` header."""

    type: str = setting(default="Bearer", doc="The word before the secret.")
    credentials: Text = setting(default="", doc="The secret.")
    credentials_file: str = setting(default="", doc="File with the secret, read again when it changes.")


@dataclass(frozen=True, kw_only=True)
class HttpHeaderConfig:
    """The values of one header."""

    values: list[Text] = setting(default_factory=list, doc="Values.")
    secrets: list[Text] = setting(default_factory=list, doc="Values that do not follow redirects elsewhere.")
    files: list[str] = setting(default_factory=list, doc="Files with values, read again when they change.")


@dataclass(frozen=True, kw_only=True)
class ProxyConfig:
    """Which proxy a request goes through."""

    proxy_url: str = setting(default="", doc="The proxy, such as `http://proxy:3128`.")
    no_proxy: str = setting(default="", doc="Hosts and networks reached without it, separated by commas.")
    proxy_from_environment: bool = setting(
        default=False, doc="Whether HTTP_PROXY, HTTPS_PROXY and NO_PROXY decide."
    )
    proxy_connect_header: dict[str, list[Text]] = setting(
        default_factory=dict, doc="Headers for the proxy itself when it is to connect to an https target."
    )

    def proxy_settings(self) -> ProxySettings:
        headers = tuple((name, ", ".join(values)) for name, values in self.proxy_connect_header.items())
        return ProxySettings(self.proxy_url, self.no_proxy, self.proxy_from_environment, headers)


@dataclass(frozen=True, kw_only=True)
class OAuth2Config(ProxyConfig):
    """OAuth2 client credentials: a token is got from `token_url` and renewed in time."""

    client_id: Text = setting(default="", doc="Who asks.")
    client_secret: Text = setting(default="", doc="The secret of who asks.")
    client_secret_file: str = setting(default="", doc="File with the secret, read again when it changes.")
    scopes: list[Text] = setting(default_factory=list, doc="What is asked for.")
    token_url: str = setting(default="", doc="Where tokens are had.")
    grant_type: str = setting(default="client_credentials", doc="Only `client_credentials`.")
    endpoint_params: dict[str, Text] = setting(default_factory=dict, doc="Further parameters of the request.")
    tls_config: TlsConfig = setting(default_factory=TlsConfig, doc="TLS on the way to `token_url`.")

    def settings(self) -> OAuth2:
        return OAuth2(
            client_id=self.client_id,
            token_url=self.token_url,
            client_secret=Secret(self.client_secret, self.client_secret_file),
            scopes=tuple(self.scopes),
            endpoint_params=tuple(self.endpoint_params.items()),
            tls=self.tls_config.settings(),
            proxy=self.proxy_settings(),
        )


@dataclass(frozen=True, kw_only=True)
class HttpClientConfig(ProxyConfig):
    """How HTTP requests are made."""

    basic_auth: BasicAuthConfig | None = setting(default=None, doc="A user name and a password.")
    authorization: AuthorizationConfig | None = setting(
        default=None, doc="Another `Authorization` header, such as a bearer token."
    )
    oauth2: OAuth2Config | None = setting(default=None, doc="A token from an OAuth2 server.")
    bearer_token: Text = setting(
        default="", doc="Bearer token.", deprecated="write authorization: {credentials: …}"
    )
    bearer_token_file: str = setting(
        default="", doc="File with it.", deprecated="write authorization: {credentials_file: …}"
    )
    tls_config: TlsConfig = setting(default_factory=TlsConfig, doc="TLS of https requests.")
    follow_redirects: bool = setting(default=True, doc="Whether redirects are followed.")
    enable_http2: bool = setting(default=True, doc="Accepted; HTTP/1.1 is spoken in any case.")
    http_headers: dict[str, HttpHeaderConfig] = setting(default_factory=dict, doc="Further headers, by name.")

    def http_settings(self) -> HttpSettings:
        """The same, decoded; equal ones compare equal."""
        basic = self.basic_auth
        return HttpSettings(
            basic_auth=None
            if basic is None
            else BasicAuth(
                Secret(basic.username, basic.username_file), Secret(basic.password, basic.password_file)
            ),
            authorization=self._authorization(),
            oauth2=None if self.oauth2 is None else self.oauth2.settings(),
            http_headers=tuple(
                HttpHeader(
                    name,
                    tuple(one.values),
                    tuple(one.secrets),
                    tuple(Secret(file=file) for file in one.files),
                )
                for name, one in self.http_headers.items()
            ),
            tls=self.tls_config.settings(),
            proxy=self.proxy_settings(),
            follow_redirects=self.follow_redirects,
            enable_http2=self.enable_http2,
        )

    def _authorization(self) -> Authorization | None:
        if self.authorization is not None:
            given = self.authorization
            return Authorization(given.type, Secret(given.credentials, given.credentials_file))
        if self.bearer_token or self.bearer_token_file:
            return Authorization("Bearer", Secret(self.bearer_token, self.bearer_token_file))
        return None

    def check_http(self) -> Iterator[tuple[str, str]]:
        """What contradicts itself, and files that are missing: key and message."""
        bearers = sum(map(bool, (self.bearer_token, self.bearer_token_file)))
        if bearers > 1:
            yield "bearer_token", "at most one of bearer_token & bearer_token_file must be configured"
        if bearers and (self.basic_auth or self.oauth2 or self.authorization):
            yield (
                "bearer_token",
                "at most one of basic_auth, oauth2, authorization, bearer_token & bearer_token_file must be configured",
            )
        if self.oauth2 is not None and self.oauth2.grant_type != "client_credentials":
            yield "oauth2::grant_type", "only client_credentials is supported; get the token otherwise"
        yield from self.http_settings().check()
        for key, file in self._files():
            if file and not Path(file).is_file():
                yield key, f"error checking {key.rpartition('::')[2]} {file!r}: there is no such file"

    def _files(self) -> Iterator[tuple[str, str]]:
        yield from self.tls_config.files()
        yield "bearer_token_file", self.bearer_token_file
        if self.basic_auth is not None:
            yield "basic_auth::username_file", self.basic_auth.username_file
            yield "basic_auth::password_file", self.basic_auth.password_file
        if self.authorization is not None:
            yield "authorization::credentials_file", self.authorization.credentials_file
        if self.oauth2 is not None:
            yield "oauth2::client_secret_file", self.oauth2.client_secret_file
            yield from ((f"oauth2::{key}", file) for key, file in self.oauth2.tls_config.files())
        for name, header in self.http_headers.items():
            yield from ((f"http_headers::{name}::files", os.fspath(file)) for file in header.files)
