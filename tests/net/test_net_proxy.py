import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.net.loopback import Authority, answering, raw_server
from tests.net.proxies import proxy_server

from trunkline.errors import ConfigError, ConnectError
from trunkline.net.client import ClientFactory
from trunkline.net.fetcher import Fetcher
from trunkline.net.message import Request
from trunkline.net.proxy import Proxy, ProxyRules, ProxySettings
from trunkline.net.settings import HttpSettings, ThroughProxies, http_client
from trunkline.net.target import parse_target
from trunkline.net.tls import Tls

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def way(url: str, settings: ProxySettings, environment: Mapping[str, str] | None = None) -> str | None:
    proxy = ProxyRules(settings, environment or {}).proxy_for(parse_target(url))
    return proxy.url if proxy else None


def test_no_proxy_as_go_reads_it() -> None:
    def check(no_proxy: str, url: str, *, goes_through: bool) -> None:
        assert (way(url, ProxySettings("http://p:3128", no_proxy)) is not None) is goes_through

    check("other", "http://a.example/", goes_through=True)
    check("*", "http://a.example/", goes_through=False)
    check("a.example", "http://a.example/", goes_through=False)
    check("a.example", "http://A.EXAMPLE/", goes_through=False)
    check("a.example", "http://x.a.example/", goes_through=False)
    check("a.example", "http://nota.example/", goes_through=True)
    check(".a.example", "http://a.example/", goes_through=True)
    check(".a.example", "http://x.a.example/", goes_through=False)
    check("*.a.example", "http://x.a.example/", goes_through=False)
    check("*.a.example", "http://a.example/", goes_through=True)
    check(" x , ,A.Example ", "https://a.example/", goes_through=False)
    check("a.example:8080", "http://a.example:8080/", goes_through=False)
    check("a.example:8080", "http://a.example/", goes_through=True)
    check("a.example:80", "http://a.example/", goes_through=False)
    check("a.example:443", "https://a.example/", goes_through=False)
    check("10.1.2.3", "http://10.1.2.3/", goes_through=False)
    check("10.1.2.3:80", "http://10.1.2.3:81/", goes_through=True)
    check("10.0.0.0/8", "http://10.1.2.3:81/", goes_through=False)
    check("10.9.9.9/8", "http://10.1.2.3:81/", goes_through=False)
    check("10.0.0.0/8", "http://11.1.2.3/", goes_through=True)
    check("10.0.0.0/8", "http://ten.example/", goes_through=True)
    check("2001:db8::/32", "http://[2001:db8::7]/", goes_through=False)
    check("2001:db8::7", "http://[2001:db8::7]/", goes_through=False)
    check("[2001:db8::7]:80", "http://[2001:db8::7]/", goes_through=False)
    check("[2001:db8::7]:80", "http://[2001:db8::7]:81/", goes_through=True)
    check("10.0.0.0/99,:80,a.example:x", "http://a.example/", goes_through=True)
    check("other", "http://localhost/", goes_through=False)
    check("other", "http://127.9.9.9/", goes_through=False)
    check("other", "http://[::1]/", goes_through=False)
    check("", "http://localhost/", goes_through=True)
    check("", "http://127.0.0.1/", goes_through=True)


def test_proxies_from_the_environment() -> None:
    def check(environment: dict[str, str], url: str, expected: str | None) -> None:
        assert way(url, ProxySettings(from_environment=True), environment) == expected

    both = {"HTTP_PROXY": "http://p:1", "https_proxy": "https://q"}
    check(both, "http://a.example/", "http://p:1")
    check(both, "https://a.example/", "https://q:443")
    check(both | {"no_proxy": "a.example"}, "https://a.example/", None)
    check(both | {"NO_PROXY": "", "no_proxy": "a.example"}, "https://a.example/", None)
    check(both, "https://localhost/", None)
    check({"HTTP_PROXY": "p"}, "http://a.example/", "http://p:80")
    check({"HTTP_PROXY": "p:8080"}, "http://a.example/", "http://p:8080")
    check({"HTTP_PROXY": "p"}, "https://a.example/", None)
    check({"ALL_PROXY": "http://p"}, "http://a.example/", None)
    assert way("http://a.example/", ProxySettings(), both) is None


def test_proxies_that_cannot_be_used_are_named_without_their_password() -> None:
    def check(settings: ProxySettings, expected: str) -> None:
        with pytest.raises(ConfigError) as caught:
            ProxyRules(settings, {"HTTPS_PROXY": "socks5://me:hidden@p"})
        assert str(caught.value) == expected

    check(
        ProxySettings("socks5://p"),
        "proxy_url: cannot use this proxy: socks5:// proxies are not supported; write http://host:port",
    )
    check(
        ProxySettings(from_environment=True),
        "HTTPS_PROXY: cannot use this proxy: socks5:// proxies are not supported; write http://host:port",
    )
    check(
        ProxySettings("http://"),
        "proxy_url: cannot use this proxy: there is no host in it; write http://host:port",
    )
    assert "hidden" not in repr(ProxySettings("http://me:hidden@p"))
    assert "hidden" not in repr(Proxy.parse("http://me:hidden@p"))


@asynccontextmanager
async def through(
    proxy: ProxySettings, tls: Tls | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Fetcher]:
    client = http_client(HttpSettings(proxy=proxy, tls=tls or Tls()), ClientFactory(), environment or {})
    try:
        yield client
    finally:
        await client.aclose()


async def body(client: Fetcher, url: str) -> bytes:
    return (await client.exchange(Request("GET", url), timeout_s=5)).body


async def test_http_goes_through_the_proxy_as_it_is() -> None:
    headers = (("X-Connect", "only"),)
    async with raw_server(answering(HELLO)) as server, proxy_server(credentials="me:p w@") as proxy:
        url = proxy.url.replace("http://", "http://me:p%20w%40@")
        async with through(ProxySettings(url, connect_headers=headers)) as client:
            for _ in range(3):
                assert await body(client, f"{server.url}/a%2fb?x=%7e&&y") == b"hello"
    assert proxy.lines == [f"GET {server.url}/a%2fb?x=%7e&&y HTTP/1.1"] * 3
    assert (proxy.raw.connections, server.connections) == (1, 1)
    assert not any(b"X-Connect" in head for head in proxy.heads)
    assert server.requests[0].startswith(b"GET /a%2fb?x=%7e&&y HTTP/1.1\r\n")


async def test_https_goes_through_a_tunnel(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    headers = (("X-Connect", "one"), ("X-Connect", "two"))
    async with (
        raw_server(answering(HELLO), tls=authority.server_context("far.example")) as server,
        proxy_server(credentials="me:pw", ports=lambda *_: server.port) as proxy,
    ):
        url = proxy.url.replace("http://", "http://me:pw@")
        async with through(ProxySettings(url, connect_headers=headers), Tls(ca_file=authority.pem)) as client:
            for _ in range(3):
                assert await body(client, "https://far.example/metrics") == b"hello"
            with pytest.raises(ConnectError, match=r"through the proxy .*Hostname mismatch"):
                await body(client, "https://other.example/")
    assert proxy.lines == ["CONNECT far.example:443 HTTP/1.1", "CONNECT other.example:443 HTTP/1.1"]
    assert b"X-Connect: one\r\nX-Connect: two\r\n" in proxy.heads[0]
    assert len(server.requests) == 3
    assert not any(b"Proxy-" in request or b"X-Connect" in request for request in server.requests)


async def test_a_proxy_may_speak_tls_itself(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        raw_server(answering(HELLO)) as open_one,
        raw_server(answering(HELLO), tls=authority.server_context("far.example")) as closed_one,
        proxy_server(
            tls=authority.server_context("127.0.0.1"),
            ports=lambda _, port: closed_one.port if port == 443 else open_one.port,
        ) as proxy,
        through(ProxySettings(proxy.url), Tls(ca_file=authority.pem)) as client,
    ):
        for _ in range(2):
            assert await body(client, "http://far.example/") == b"hello"
            assert await body(client, "https://far.example/") == b"hello"
    assert proxy.lines == [
        "GET http://far.example/ HTTP/1.1",
        "CONNECT far.example:443 HTTP/1.1",
        "GET http://far.example/ HTTP/1.1",
    ]


async def test_refusals_are_told() -> None:
    async def check(expected: str, url: str, credentials: str = "", refusal: bytes = b"") -> None:
        async with proxy_server(credentials=credentials, refusal=refusal) as proxy:
            async with through(ProxySettings(proxy.url)) as client:
                with pytest.raises(ConnectError) as caught:
                    await body(client, url)
            assert str(caught.value) == expected.replace("PROXY", proxy.url)

    await check(
        "https://far.example:443: the proxy PROXY refused to connect: it answered 407 Proxy Authentication Required",
        "https://far.example/",
        credentials="me:pw",
    )
    await check(
        "https://far.example:443: the proxy PROXY refused to connect: it answered 403 Not that one",
        "https://far.example/",
        refusal=b"403 Not that one",
    )
    async with (
        proxy_server(refusal=b"403 Not that one") as proxy,
        through(ProxySettings(proxy.url)) as client,
    ):
        response = await client.exchange(Request("GET", "http://far.example/"), timeout_s=5)
        assert response.status_line == "403 Not that one"
    async with through(ProxySettings("http://127.0.0.1:1")) as client:
        with pytest.raises(ConnectError) as caught:
            await body(client, "http://far.example/")
    assert str(caught.value) == (
        "http://far.example:80: cannot connect through the proxy http://127.0.0.1:1: "
        "connection refused, nothing listens there"
    )


async def test_each_url_goes_its_own_way() -> None:
    async with (
        raw_server(answering(HELLO)) as server,
        proxy_server(ports=lambda *_: server.port) as proxy,
        through(ProxySettings(from_environment=True), None, {"HTTP_PROXY": proxy.url}) as client,
    ):
        assert await body(client, server.url) == b"hello"
        assert proxy.lines == []
        assert await body(client, "http://far.example/") == b"hello"
        assert proxy.lines == ["GET http://far.example/ HTTP/1.1"]


async def test_a_redirect_may_lead_around_the_proxy() -> None:
    async with raw_server(answering(HELLO)) as near:
        away = f"HTTP/1.1 302 Found\r\nLocation: {near.url}/near\r\nContent-Length: 0\r\n\r\n".encode()
        async with raw_server(answering(away)) as far, proxy_server(ports=lambda *_: far.port) as proxy:
            settings = ProxySettings(proxy.url, no_proxy="127.0.0.0/8")
            async with through(settings) as client:
                assert await body(client, "http://far.example/") == b"hello"
    assert (len(proxy.heads), len(near.requests)) == (1, 1)


def test_aiohttp_is_loaded_for_nobody_but_a_proxy() -> None:
    script = (
        "import asyncio, sys, trunkline.net.settings as s; from trunkline.net.client import ClientFactory\n"
        "from trunkline.net.message import Request\n"
        "client = s.http_client(s.HttpSettings(proxy=s.ProxySettings('http://127.0.0.1:1', 'x')), ClientFactory())\n"
        "def get(url): return asyncio.run(client.exchange(Request('GET', url), timeout_s=5))\n"
        "try: get('http://127.0.0.1:1/')\nexcept Exception as e: print(e)\n"
        "print('aiohttp' in sys.modules)\n"
        "try: get('http://far.example/')\nexcept Exception as e: print(e)\n"
        "print('aiohttp' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    refused = "connection refused, nothing listens there"
    assert said.stdout.splitlines() == [
        f"http://127.0.0.1:1: cannot connect: {refused}",
        "False",
        f"http://far.example:80: cannot connect through the proxy http://127.0.0.1:1: {refused}",
        "True",
    ]


def test_without_aiohttp_a_proxy_is_a_problem_of_the_configuration() -> None:
    script = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "import trunkline.net.settings as s; from trunkline.net.client import ClientFactory\n"
        "s.http_client(s.HttpSettings(), ClientFactory())\n"
        "s.http_client(s.HttpSettings(proxy=s.ProxySettings(from_environment=True)), ClientFactory(), {})\n"
        "try: s.http_client(s.HttpSettings(proxy=s.ProxySettings('http://me:pw@p')), ClientFactory())\n"
        "except s.ConfigError as e: print(e)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == (
        "the proxy http://p:80 needs the package aiohttp "
        "(install it with pip install 'trunkline[proxy]', or take the proxy out)"
    )


def test_what_needs_no_proxy_is_never_led_through_the_chooser() -> None:
    client = http_client(HttpSettings(follow_redirects=False), ClientFactory(), {"HTTP_PROXY": "http://p"})
    assert not isinstance(client, ThroughProxies)
