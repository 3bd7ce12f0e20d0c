from tests.net.loopback import answering, raw_server

from trunkline.net.authorization import Authorization, BasicAuth, HttpHeader
from trunkline.net.client import Client, ClientFactory
from trunkline.net.files import Secret
from trunkline.net.message import Request
from trunkline.net.oauth2 import OAuth2
from trunkline.net.proxy import ProxySettings
from trunkline.net.redirects import FollowingRedirects
from trunkline.net.settings import HttpSettings, http_client
from trunkline.net.tls import Tls


def problems(settings: HttpSettings) -> list[str]:
    return [f"{path}: {message}" for path, message in settings.check()]


def test_good_settings_have_no_problems() -> None:
    def check(settings: HttpSettings) -> None:
        assert problems(settings) == []

    check(HttpSettings())
    check(HttpSettings(basic_auth=BasicAuth(Secret("me"), Secret(file="password"))))
    check(HttpSettings(authorization=Authorization("Token", Secret("x"))))
    check(HttpSettings(oauth2=OAuth2("me", "https://x/", Secret("y"), ("a",), (("b", "c"),))))
    check(HttpSettings(tls=Tls(cert_file="a", key="b", min_version="TLS12", max_version="TLS13")))
    check(HttpSettings(proxy=ProxySettings("http://p", "a,b", connect_headers=(("X", "y"),))))
    check(HttpSettings(proxy=ProxySettings(from_environment=True, connect_headers=(("X", "y"),))))
    check(HttpSettings(http_headers=(HttpHeader("X", ("y",)),), enable_http2=False))


def test_what_contradicts_itself_is_told() -> None:
    def check(settings: HttpSettings, *expected: str) -> None:
        assert problems(settings) == list(expected)

    bearer = Authorization(credentials=Secret("x"))
    token = OAuth2("me", "https://x/")
    one = ": at most one of basic_auth, oauth2 & authorization must be configured"
    check(HttpSettings(basic_auth=BasicAuth(), authorization=bearer), one)
    check(HttpSettings(authorization=bearer, oauth2=token), one)
    both = Secret("x", "y")
    check(
        HttpSettings(basic_auth=BasicAuth(both, both)),
        "basic_auth::username: at most one of username and its _file form must be configured",
        "basic_auth::password: at most one of password and its _file form must be configured",
    )
    check(
        HttpSettings(authorization=Authorization(" Basic ")),
        'authorization::type: authorization type cannot be set to "basic", use "basic_auth" instead',
    )
    check(
        HttpSettings(oauth2=OAuth2("", "", both, ("a",), (("scope", "b"),), Tls(key="k"))),
        "oauth2::client_secret: at most one of client_secret and its _file form must be configured",
        "oauth2::client_id: oauth2 client_id must be configured",
        "oauth2::token_url: oauth2 token_url must be configured",
        "oauth2::endpoint_params: cannot overwrite the parameter 'scope'; name it in one place",
        "oauth2::tls_config::key_file: exactly one of cert or cert_file must be configured with a client key",
    )
    check(
        HttpSettings(http_headers=(HttpHeader("Host", ("x",)),)),
        "http_headers::Host: setting header 'Host' is not allowed",
    )
    check(
        HttpSettings(
            tls=Tls(ca="a", ca_file="b", cert="c", cert_file="d", min_version="TLS13", max_version="TLS12")
        ),
        "tls_config::ca: at most one of ca and ca_file must be configured",
        "tls_config::cert: at most one of cert and cert_file must be configured",
        "tls_config::cert_file: exactly one of key or key_file must be configured with a client certificate",
        "tls_config::max_version: must be greater than or equal to min_version",
    )
    check(
        HttpSettings(tls=Tls(min_version="1.2")),
        "tls_config::min_version: unknown TLS version '1.2'; write one of TLS10, TLS11, TLS12, TLS13",
    )
    check(
        HttpSettings(proxy=ProxySettings(no_proxy="a", connect_headers=(("X", "y"),))),
        "proxy_connect_header: proxy_url or proxy_from_environment must also be configured",
        "no_proxy: proxy_url must also be configured",
    )
    check(
        HttpSettings(proxy=ProxySettings("http://p", "a", from_environment=True)),
        "proxy_url: must not be configured with proxy_from_environment",
        "no_proxy: must not be configured with proxy_from_environment; set NO_PROXY",
    )
    check(
        HttpSettings(proxy=ProxySettings("p:3128")),
        "proxy_url: p:// proxies are not supported; write http://host:port",
    )


def test_what_is_not_asked_for_is_not_there() -> None:
    factory = ClientFactory()
    assert type(http_client(HttpSettings(follow_redirects=False), factory, {})) is Client
    default = http_client(HttpSettings(), factory, {})
    assert isinstance(default, FollowingRedirects)
    assert type(default._inner) is Client
    unset = HttpSettings(follow_redirects=False, proxy=ProxySettings(from_environment=True))
    assert type(http_client(unset, factory, {})) is Client


async def test_secret_headers_stay_with_the_first_host() -> None:
    settings = HttpSettings(
        basic_auth=BasicAuth(Secret("me"), Secret("pw")),
        http_headers=(HttpHeader("X-Key", (), ("hush",)), HttpHeader("X-Open", ("open",))),
    )
    async with raw_server(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as second:
        away = f"HTTP/1.1 302 Found\r\nLocation: http://localhost:{second.port}/\r\nContent-Length: 0\r\n\r\n"
        async with raw_server(answering(away.encode())) as first:
            client = http_client(settings, ClientFactory(), {})
            assert (await client.exchange(Request("GET", first.url), timeout_s=5)).status == 200
            await client.aclose()
    assert b"X-Key: hush\r\n" in first.requests[0]
    assert b"Authorization: Basic" in first.requests[0]
    assert b"X-Open: open\r\n" in second.requests[0]
    assert not any(secret in second.requests[0] for secret in (b"hush", b"Authorization"))


def test_equal_settings_share_a_context_and_can_be_looked_up() -> None:
    def settings() -> HttpSettings:
        return HttpSettings(
            basic_auth=BasicAuth(Secret("me"), Secret(file="password")),
            tls=Tls(server_name="x"),
            proxy=ProxySettings("http://p", connect_headers=(("X", "y"),)),
            http_headers=(HttpHeader("X", ("y",), (), (Secret(file="z"),)),),
        )

    assert {settings(): 1}[settings()] == 1
    factory = ClientFactory(ca_bundle="bundle.pem")
    plain = HttpSettings(follow_redirects=False, tls=Tls(server_name="x"))
    first, second = http_client(plain, factory, {}), http_client(plain, factory, {})
    assert isinstance(first, Client)
    assert isinstance(second, Client)
    assert first._tls is second._tls
    assert first._tls is factory.client(server_name="x")._tls
    assert first._tls.ca_file == "bundle.pem"
