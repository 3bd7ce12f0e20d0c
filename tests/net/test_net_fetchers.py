"""One suite for everything that makes exchanges: the plain client, the full one, and the full one through a proxy.

docs/decisions/0005-full-http-client.md lists the corners where they differ; those are tested at the end, apart.
"""

import asyncio
import gzip
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from tests.net.loopback import Authority, Raw, answering, hanging, raw_server, read_request
from tests.net.proxies import proxy_server

from trunkline import __version__
from trunkline.errors import BodyTooLargeError, ConnectError, FetchError, FetchTimeoutError, ProtocolError
from trunkline.net.client import Client
from trunkline.net.fetcher import Fetcher
from trunkline.net.full import FullClient
from trunkline.net.message import Request, Response
from trunkline.net.proxy import Proxy
from trunkline.net.resolve import Resolve
from trunkline.net.tls import Tls

Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Fetcher]]

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"


@asynccontextmanager
async def plain(resolve: Resolve | None = None, tls: Tls | None = None) -> AsyncIterator[Fetcher]:
    client = Client(resolve, tls)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def full(
    resolve: Resolve | None = None, tls: Tls | None = None, proxy: Proxy | None = None
) -> AsyncIterator[Fetcher]:
    client = FullClient(resolve, tls, proxy)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def proxied(resolve: Resolve | None = None, tls: Tls | None = None) -> AsyncIterator[Fetcher]:
    """Through a proxy, which is the one to follow the rules of `resolve`."""
    rules = resolve or Resolve()
    async with (
        proxy_server(ports=lambda host, port: rules.lookup(host, port)[1]) as proxy,
        full(None, tls, Proxy.parse(proxy.url)) as client,
    ):
        yield client


@pytest.fixture(params=[plain, full, proxied], ids=lambda kind: kind.__name__)
def opened(request: pytest.FixtureRequest) -> Open:
    kind: Open = request.param
    return kind


@pytest.fixture(params=[plain, full], ids=lambda kind: kind.__name__)
def direct(request: pytest.FixtureRequest) -> Open:
    """Those that make the connection to the server themselves."""
    kind: Open = request.param
    return kind


async def get(client: Fetcher, url: str, timeout_s: float = 5.0, limit: int | None = None) -> Response:
    return await client.exchange(Request("GET", url), timeout_s=timeout_s, max_body_bytes=limit)


def lines(request: bytes) -> tuple[str, set[str]]:
    first, *rest = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return first, {line for line in rest if not line.startswith("Proxy-")}


async def test_requests_go_out_as_given_with_what_http_needs(opened: Open) -> None:
    async with raw_server(answering(HELLO)) as server, opened() as client:
        for path in ("/a%2fb/../c?x=%7e&&y=a+b%20c#part", '/m?match[]={a="b"}&q=%E2%82%ac|^`', "?", "/ü?é=1"):
            response = await client.exchange(
                Request("GET", server.url + path, {"Accept": "text/plain"}), timeout_s=5
            )
            assert response == Response(200, "OK", {"content-length": "5"}, b"hello")
        await client.exchange(
            Request("POST", server.url, {"Host": "real.example", "User-Agent": "me", "X": "é"}, b"body"),
            timeout_s=5,
        )
        await client.exchange(Request("POST", server.url), timeout_s=5)
    mine = {f"Host: 127.0.0.1:{server.port}", f"User-Agent: trunkline/{__version__}"}
    assert [lines(request) for request in server.requests] == [
        ("GET /a%2fb/../c?x=%7e&&y=a+b%20c HTTP/1.1", {*mine, "Accept: text/plain"}),
        ('GET /m?match[]={a="b"}&q=%E2%82%ac|^` HTTP/1.1', {*mine, "Accept: text/plain"}),
        ("GET / HTTP/1.1", {*mine, "Accept: text/plain"}),
        ("GET /%C3%BC?%C3%A9=1 HTTP/1.1", {*mine, "Accept: text/plain"}),
        ("POST / HTTP/1.1", {"Host: real.example", "User-Agent: me", "X: é", "Content-Length: 4"}),
        ("POST / HTTP/1.1", {*mine, "Content-Length: 0"}),
    ]
    assert server.requests[4].endswith(b"\r\n\r\nbody")


async def test_answers_are_read_alike(opened: Open) -> None:
    async def check(
        answer: bytes,
        expected: Response,
        method: str = "GET",
        limit: int | None = 1000,
        *,
        close: bool = False,
    ) -> None:
        async with raw_server(answering(answer, close=close)) as server, opened() as client:
            request = Request(method, server.url)
            for _ in range(2):
                assert await client.exchange(request, timeout_s=5, max_body_bytes=limit) == expected

    for status, reason in (
        (200, "OK"),
        (404, "Not Found"),
        (503, "Away for lunch"),
        (301, "Moved"),
        (299, ""),
    ):
        answer = f"HTTP/1.1 {status} {reason}\r\nContent-Length: 2\r\n\r\nok"
        await check(answer.encode(), Response(status, reason, {"content-length": "2"}, b"ok"))
    await check(
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", Response(200, "", {"content-length": "2"}, b"ok")
    )
    await check(
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end", Response(200, "OK", {}, b"until the end"), close=True
    )
    await check(OK + b"\r\n", Response(200, "OK", {}, b""), close=True)
    await check(b"HTTP/1.1 204 None\r\nX: y\r\n\r\n", Response(204, "None", {"x": "y"}))
    await check(
        b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", Response(304, "Same", {"content-length": "9"})
    )
    await check(OK + b"Content-Length: 5000\r\n\r\n", Response(200, "OK", {"content-length": "5000"}), "HEAD")
    await check(
        OK + b"Set-Cookie: a=1\r\nX-Y:\t b \t\r\nset-cookie: b=2\r\nEMPTY:\r\nContent-Length: 2\r\n\r\nok",
        Response(
            200, "OK", {"set-cookie": "a=1, b=2", "x-y": "b", "empty": "", "content-length": "2"}, b"ok"
        ),
    )
    await check(
        OK
        + b"Transfer-Encoding: chunked\r\n\r\n3;why=not\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
        Response(200, "OK", {"transfer-encoding": "chunked"}, b"abc0123456789"),
    )
    await check(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + HELLO,
        Response(200, "OK", {"content-length": "5"}, b"hello"),
    )
    await check(
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Response(200, "OK", {"content-length": "2"}, b"ok")
    )
    await check(
        OK + b"X: caf\xc3\xa9\r\nContent-Length: 2\r\n\r\nok",
        Response(200, "OK", {"x": "cafÃ©", "content-length": "2"}, b"ok"),
    )
    await check(
        OK + b"Content-Length: 1000\r\n\r\n" + bytes(1000),
        Response(200, "OK", {"content-length": "1000"}, bytes(1000)),
    )


async def test_bodies_are_decoded_alike(opened: Open) -> None:
    async def check(encoding: str, body: bytes, expected: bytes) -> None:
        head = f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        async with raw_server(answering(OK + head + body)) as server, opened() as client:
            response = await get(client, server.url, limit=1000)
            assert response.body == expected
            assert response.headers["content-encoding"] == encoding

    await check("gzip", gzip.compress(b"hello"), b"hello")
    await check("X-GZIP", gzip.compress(b"hello"), b"hello")
    await check("gzip", gzip.compress(b"several") + gzip.compress(b" members"), b"several members")
    await check("gzip", gzip.compress(bytes(1000)), bytes(1000))
    await check("gzip", b"", b"")
    await check("identity", b"as it is", b"as it is")


async def test_misbehaviour_is_told_apart(opened: Open) -> None:
    async def check(answer: bytes, kind: type[FetchError], expected: str, limit: int | None = None) -> None:
        async with raw_server(answering(answer, close=True)) as server, opened() as client:
            with pytest.raises(kind, match=expected) as caught:
                await get(client, server.url, limit=limit)
            assert str(caught.value).startswith(f"http://127.0.0.1:{server.port}: ")

    await check(b"", ConnectError, "the connection was closed without an answer")
    await check(
        OK + b"Content-Length: 99\r\n\r\nhalf", ProtocolError, "closed after 4 of 99 bytes of the body"
    )
    await check(OK + b"Content-Le", ProtocolError, "closed in the middle of the head")
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    await check(chunked + b"5\r\nhal", ProtocolError, "closed in the middle of the chunked body")
    await check(chunked + b"5\r\nhello\r\n", ProtocolError, "closed in the middle of the chunked body")
    await check(chunked + b"zz\r\n", ProtocolError, "chunk size")
    await check(b"220 mail.example ESMTP\r\n\r\n", ProtocolError, "not an HTTP answer")
    await check(b"<html>no head at all</html>\r\n\r\n", ProtocolError, "not an HTTP answer")
    await check(OK + b"no colon\r\n\r\n", ProtocolError, "(head|malformed) ")
    await check(OK + b"Content-Length: many\r\n\r\n", ProtocolError, "Content-Length")
    await check(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!", ProtocolError, "Content-Length")
    await check(OK + b"X: y\r\n" * 20_000 + b"\r\n", ProtocolError, "(head|malformed) ")
    await check(OK + b"X: " + b"y" * 70_000 + b"\r\n\r\n", ProtocolError, "(head|malformed) ")
    await check(b"HTTP/1.1 101 Switching\r\n\r\n", ProtocolError, "unexpected 101 answer")
    brotli = OK + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx"
    await check(brotli, ProtocolError, "content encoding 'br' was not asked for")
    odd = OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    await check(odd, ProtocolError, "transfer encoding 'gzip, chunked' was not asked for")
    broken = OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"
    await check(broken, ProtocolError, "the body is not gzip as its Content-Encoding says")
    half = gzip.compress(b"hello")[:-4]
    cut = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(half), half)
    await check(cut, ProtocolError, "the gzip body ends in its middle")
    limit = "the body is larger than the limit of 1000 bytes"
    await check(OK + b"\r\n" + bytes(1001), BodyTooLargeError, limit, 1000)
    await check(OK + b"Content-Length: 1001\r\n\r\n", BodyTooLargeError, limit, 1000)
    await check(chunked + b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n", BodyTooLargeError, limit, 1000)
    bomb = gzip.compress(bytes(10_000_000), 9)[:100_000]
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    await check(head + bomb, BodyTooLargeError, "larger than the limit of 100000 bytes", 100_000)


async def test_an_endless_body_is_not_taken(opened: Open) -> None:
    async def pour(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.requests.append(await read_request(reader))
        writer.write(OK + b"\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async with raw_server(pour) as server, opened() as client:
        with pytest.raises(BodyTooLargeError):
            await get(client, server.url, limit=100_000)
        async with asyncio.timeout(5):
            await server.closed.wait()


async def test_a_reset_in_the_middle_is_no_end(direct: Open) -> None:
    async def check(start: bytes) -> None:
        async def behave(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            del raw
            await read_request(reader)
            writer.write(start)
            await asyncio.sleep(0.02)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        async with raw_server(behave) as server, direct() as client:
            with pytest.raises(ProtocolError, match=r"broke|closed"):
                await get(client, server.url)

    await check(OK + b"\r\nhalf of")
    await check(OK + b"Content-Length: 99\r\n\r\nhalf of")
    await check(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhal")


async def test_a_connection_is_kept_and_used_again(opened: Open) -> None:
    async with raw_server(answering(HELLO)) as server, opened() as client:
        for _ in range(5):
            await get(client, server.url)
        assert server.connections == 1
        await asyncio.gather(*(get(client, server.url) for _ in range(10)))
        connections = server.connections
        await asyncio.gather(*(get(client, server.url) for _ in range(10)))
        assert server.connections == connections


async def test_a_connection_that_cannot_be_kept_is_closed(opened: Open) -> None:
    async def check(answer: bytes) -> None:
        async with raw_server(answering(answer)) as server, opened() as client:
            assert (await get(client, server.url)).body == b"ok"
            async with asyncio.timeout(5):
                await server.closed.wait()
            assert (await get(client, server.url)).body == b"ok"
            assert server.connections == 2

    await check(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    await check(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def test_a_connection_closed_while_idle_is_replaced(opened: Open) -> None:
    async with raw_server(answering(HELLO, close=True)) as server, opened() as client:
        for turn in range(3):
            assert (await get(client, server.url)).body == b"hello"
            assert server.connections == turn + 1


async def once_then_close(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request per connection, read the second and close without a word."""
    raw.requests.append(await read_request(reader))
    writer.write(HELLO)
    if request := await read_request(reader):
        raw.requests.append(request)


async def test_a_get_on_a_connection_closed_just_then_is_sent_once_more(opened: Open) -> None:
    async with raw_server(once_then_close) as server, opened() as client:
        await get(client, server.url)
        assert (await get(client, server.url)).body == b"hello"
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_a_post_that_may_have_arrived_is_not_sent_again(opened: Open) -> None:
    async with raw_server(once_then_close) as server, opened() as client:
        post = Request("POST", server.url, {}, b"x")
        await client.exchange(post, timeout_s=5)
        with pytest.raises(ConnectError, match="closed without an answer"):
            await client.exchange(post, timeout_s=5)
        assert (server.connections, len(server.requests)) == (1, 2)


async def test_the_time_out_covers_everything(opened: Open) -> None:
    async def drip(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.requests.append(await read_request(reader))
        writer.write(OK + b"Content-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with raw_server(hanging) as server, opened() as client:
        expected = rf"no complete answer from http://127.0.0.1:{server.port} within 0.1s, nothing had come"
        with pytest.raises(FetchTimeoutError, match=expected):
            await get(client, server.url, 0.1)
        with pytest.raises(FetchTimeoutError, match="nothing had come"):
            await get(client, f"https://127.0.0.1:{server.port}/", 0.1)
    async with raw_server(drip) as server, opened() as client:
        with pytest.raises(FetchTimeoutError, match=r"\d+ bytes of it had come"):
            await get(client, server.url, 0.2)
        async with asyncio.timeout(5):
            await server.closed.wait()


async def test_a_cancelled_exchange_closes_its_connection(opened: Open) -> None:
    async with raw_server(hanging) as server, opened() as client:
        task = asyncio.create_task(get(client, server.url))
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await server.closed.wait()


async def test_closing_ends_what_is_under_way(opened: Open) -> None:
    async with raw_server(hanging) as server, opened() as client:
        task = asyncio.create_task(get(client, server.url))
        await server.asked.wait()
        await client.aclose()
        with pytest.raises(ConnectError, match="closed without an answer"):
            await task


async def test_connect_errors_name_host_port_and_reason(direct: Open) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    refused = "connection refused, nothing listens there"

    async def check(url: str, expected: str) -> None:
        with pytest.raises(ConnectError) as caught:
            await get(client, url)
        assert str(caught.value) == expected

    async with direct(Resolve.parse(f"far.example:443=127.0.0.1:{port}")) as client:
        await check(f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{port}: cannot connect: {refused}")
        await check(
            "https://far.example/",
            f"https://far.example:443: cannot connect (led to 127.0.0.1:{port} by --resolve): {refused}",
        )
        for url in (f"http://{'x' * 64}.example/", "http://127.0.0.1:99999/", "ftp://x/", "http://a:b@x/"):
            with pytest.raises(ConnectError):
                await get(client, url)


async def test_names_and_ipv6_are_reached(direct: Open) -> None:
    async with raw_server(answering(HELLO)) as server, direct() as client:
        assert (await get(client, f"http://localhost:{server.port}/")).body == b"hello"
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    async with raw_server(answering(HELLO), host="::1") as server, direct() as client:
        assert (await get(client, f"http://[::1]:{server.port}/")).body == b"hello"
    assert f"Host: [::1]:{server.port}".encode() in server.requests[0]


async def test_the_default_port_is_left_out_of_host(opened: Open) -> None:
    async with (
        raw_server(answering(HELLO)) as server,
        opened(Resolve.parse(f"*:80=127.0.0.1:{server.port}")) as client,
    ):
        await get(client, "http://real.example/")
        await get(client, "http://real.example:80/")
    assert all(b"\r\nHost: real.example\r\n" in request for request in server.requests)


async def test_large_bodies_go_both_ways(opened: Open) -> None:
    content = os.urandom(2_000_000)

    async def echo(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del raw
        while request := await read_request(reader):
            body = request.partition(b"\r\n\r\n")[2]
            writer.write(OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()

    async with raw_server(echo) as server, opened() as client:
        for size in (2_000_000, 10, 100_000):
            request = Request("POST", server.url, {}, content[:size])
            assert (await client.exchange(request, timeout_s=20)).body == content[:size]
        assert server.connections == 1


async def test_an_answer_before_the_body_has_been_taken_counts(direct: Open) -> None:
    async def refuse(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        async with asyncio.timeout(5):
            while await reader.read(65536):
                raw.requests.append(b"")
                await asyncio.sleep(0.01)

    async with raw_server(refuse) as server, direct() as client:
        for turn in range(2):
            response = await client.exchange(Request("POST", server.url, {}, bytes(30_000_000)), timeout_s=10)
            assert response.status == 413
            assert server.connections == turn + 1


async def test_what_would_break_out_of_a_header_is_not_sent(opened: Open) -> None:
    async def check(method: str, headers: dict[str, str]) -> None:
        with pytest.raises(ProtocolError, match="cannot send the"):
            await client.exchange(Request(method, "http://127.0.0.1:1/", headers), timeout_s=1)

    async with opened() as client:
        await check("GET", {"X": "a\r\nEvil: b"})
        await check("GET", {"X": "a\nb"})
        await check("GET", {"X: a\r\nEvil": "b"})
        await check("GET /evil HTTP/1.1\r\n", {})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def test_tls_verifies_the_urls_host(opened: Open, authority: Authority) -> None:
    context = authority.server_context("aps.example")
    seen: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    async with raw_server(answering(HELLO), tls=context) as server:
        resolve = Resolve.parse(f"*:443=127.0.0.1:{server.port}")
        async with opened(resolve, Tls(ca_file=authority.pem)) as client:
            for _ in range(2):
                assert (await get(client, "https://aps.example/")).body == b"hello"
            assert server.connections == 1
            with pytest.raises(
                ConnectError,
                match=r"^https://other.example:443: cannot connect.*Hostname mismatch, certificate is not valid "
                r"for 'other.example'",
            ):
                await get(client, "https://other.example/")
        assert seen == ["aps.example", "other.example"]
        assert b"Host: aps.example\r\n" in server.requests[0]
        async with opened(resolve, Tls(ca_file=authority.pem, server_name="aps.example")) as client:
            assert (await get(client, "https://other.example/")).body == b"hello"
        assert seen[2:] == ["aps.example"]


async def test_an_unknown_authority_is_refused_unless_told_otherwise(
    opened: Open, authority: Authority
) -> None:
    async with raw_server(answering(HELLO), tls=authority.server_context("localhost")) as server:
        url = f"https://localhost:{server.port}/"
        async with opened() as client:
            with pytest.raises(ConnectError, match=r"not accepted: .* name its CA with ca_file"):
                await get(client, url)
        for tls in (
            Tls(ca_file=authority.pem),
            Tls(ca=authority.pem.read_text()),
            Tls(insecure_skip_verify=True),
        ):
            async with opened(None, tls) as client:
                assert (await get(client, url)).body == b"hello"


async def test_an_address_in_the_url_is_verified_too(opened: Open, authority: Authority) -> None:
    tls = authority.server_context("127.0.0.1")
    async with (
        raw_server(answering(HELLO), tls=tls) as server,
        opened(None, Tls(ca_file=authority.pem)) as client,
    ):
        assert (await get(client, f"https://127.0.0.1:{server.port}/")).body == b"hello"


async def test_plain_http_behind_an_https_url_is_named(opened: Open) -> None:
    async def answer_plainly(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(HELLO)
        await raw.closed.wait()

    async with raw_server(answer_plainly) as server, opened() as client:
        with pytest.raises(ConnectError, match="TLS failed: wrong version number"):
            await get(client, f"https://127.0.0.1:{server.port}/")


async def test_a_client_certificate_is_shown(opened: Open, authority: Authority, tmp_path: Path) -> None:
    context = authority.server_context("localhost")
    context.load_verify_locations(authority.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    mine = authority.issue("me")
    async with raw_server(answering(HELLO), tls=context) as server:
        url = f"https://localhost:{server.port}/"
        async with opened(None, Tls(ca_file=authority.pem, cert_file=mine)) as client:
            assert (await get(client, url)).body == b"hello"
        async with opened(None, Tls(ca_file=authority.pem)) as client:
            with pytest.raises(FetchError):
                await get(client, url)
        async with opened(None, Tls(ca_file=authority.pem, cert_file=tmp_path / "none.pem")) as client:
            with pytest.raises(
                ConnectError, match=r"cannot use the client certificate in .*none.pem: No such file"
            ):
                await get(client, url)


async def test_the_documented_differences_in_malformed_answers() -> None:
    """Whether each kind takes the answer; both refuse, or both take, everything else above."""

    async def takes(kind: Open, answer: bytes) -> bool:
        async with raw_server(answering(answer, close=True)) as server, kind() as client:
            try:
                await get(client, server.url)
            except ProtocolError:
                return False
            return True

    async def check(answer: bytes, *, by_plain: bool) -> None:
        assert await takes(plain, answer) is by_plain
        assert await takes(full, answer) is not by_plain

    ok = b"Content-Length: 2\r\n\r\nok"
    chunked = b"Transfer-Encoding: chunked\r\n"
    await check(OK + b"Content-Length: 2\r\n" + ok, by_plain=True)
    await check(OK + chunked + b"Content-Length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n", by_plain=True)
    await check(OK + chunked + b"\r\n2\nok\n0\n\n", by_plain=True)
    await check(OK + ok + b" and more than was announced", by_plain=True)
    await check(b"HTTP/1.1 204 None\r\n" + ok, by_plain=True)
    await check(OK + b"X: y\r\n" * 2000 + ok, by_plain=True)
    await check(OK + b"X: " + b"y" * 20_000 + b"\r\n" + ok, by_plain=True)
    await check(OK + b"X: a\r\n folded\r\n" + ok, by_plain=False)
    await check(b"\r\n" + OK + ok, by_plain=False)
    await check(b"HTTP/2.0 200 OK\r\n" + ok, by_plain=False)
    await check(b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK + ok, by_plain=False)


async def test_the_full_client_tries_a_get_again_on_a_new_connection_too() -> None:
    """A documented difference: the plain client takes a new connection's end for an answer at once."""

    async def behave(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        raw.requests.append(await read_request(reader))

    async def check(kind: Open, connections: int) -> None:
        async with raw_server(behave) as server, kind() as client:
            with pytest.raises(ConnectError, match="closed without an answer"):
                await get(client, server.url)
            assert server.connections == connections

    await check(plain, 1)
    await check(full, 2)
