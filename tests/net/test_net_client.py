import asyncio
import gzip
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.net.loopback import Authority, Raw, answering, hanging, raw_server, read_request

from trunkline import __version__
from trunkline.errors import BodyTooLargeError, ConnectError, FetchError, FetchTimeoutError, ProtocolError
from trunkline.net.client import Answer, Client, ClientFactory, Prepared
from trunkline.net.message import Request, Response
from trunkline.net.resolve import Resolve

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@asynccontextmanager
async def opened(client: Client | None = None) -> AsyncIterator[Client]:
    client = client or Client()
    try:
        yield client
    finally:
        await client.aclose()


async def get(client: Client, url: str, timeout_s: float = 5.0, limit: int | None = None) -> Response:
    return await client.exchange(Request("GET", url), timeout_s=timeout_s, max_body_bytes=limit)


async def test_requests_go_out_as_given_with_what_http_needs() -> None:
    async with raw_server(answering(HELLO)) as server, opened() as client:
        response = await client.exchange(
            Request("GET", f"{server.url}/a%2fb/../c?x=%7e&&y#part", {"Accept": "text/plain"}), timeout_s=5
        )
        assert response == Response(200, "OK", {"content-length": "5"}, b"hello")
        await client.exchange(
            Request("POST", server.url, {"Host": "real.example", "User-Agent": "me", "X": "é"}, b"body"),
            timeout_s=5,
        )
        await client.exchange(Request("POST", server.url), timeout_s=5)
    host = f"127.0.0.1:{server.port}"
    assert server.requests == [
        f"GET /a%2fb/../c?x=%7e&&y HTTP/1.1\r\nHost: {host}\r\nUser-Agent: trunkline/{__version__}\r\n"
        "Accept: text/plain\r\n\r\n".encode(),
        "POST / HTTP/1.1\r\nHost: real.example\r\nUser-Agent: me\r\nX: é\r\nContent-Length: 4\r\n\r\nbody".encode(),
        f"POST / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: trunkline/{__version__}\r\n"
        "Content-Length: 0\r\n\r\n".encode(),
    ]


async def test_the_default_port_is_left_out_of_host() -> None:
    async with raw_server(answering(HELLO)) as server:
        to_server = Resolve.parse(f"*:80=127.0.0.1:{server.port}")
        async with opened(Client(to_server)) as client:
            await get(client, "http://real.example/")
            await get(client, "http://[2001:db8::1]:80/")
    assert b"\r\nHost: real.example\r\n" in server.requests[0]
    assert b"\r\nHost: [2001:db8::1]\r\n" in server.requests[1]


async def test_ipv6_literals_are_reached() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    async with raw_server(answering(HELLO), host="::1") as server, opened() as client:
        assert (await get(client, f"http://[::1]:{server.port}/")).body == b"hello"
    assert f"Host: [::1]:{server.port}".encode() in server.requests[0]


async def test_a_connection_is_kept_and_used_again() -> None:
    async with raw_server(answering(HELLO)) as server, opened() as client:
        for _ in range(5):
            await get(client, server.url)
        assert server.connections == 1
        await asyncio.gather(*(get(client, server.url) for _ in range(20)))
        connections = server.connections
        await asyncio.gather(*(get(client, server.url) for _ in range(10)))
        assert server.connections == connections


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more than was announced",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_that_cannot_be_kept_is_closed(answer: bytes) -> None:
    async with raw_server(answering(answer)) as server, opened() as client:
        assert (await get(client, server.url)).body == b"ok"
        async with asyncio.timeout(5):
            await server.closed.wait()
        assert (await get(client, server.url)).body == b"ok"
        assert server.connections == 2


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    async with raw_server(answering(HELLO, close=True)) as server, opened() as client:
        for turn in range(3):
            assert (await get(client, server.url)).body == b"hello"
            assert server.connections == turn + 1


async def test_bytes_nobody_asked_for_end_an_idle_connection() -> None:
    async def behave(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del raw
        await read_request(reader)
        writer.write(HELLO)
        await asyncio.sleep(0.02)
        writer.write(HELLO.replace(b"hello", b"other"))
        await read_request(reader)

    async with raw_server(behave) as server, opened() as client:
        assert (await get(client, server.url)).body == b"hello"
        async with asyncio.timeout(5):
            await server.closed.wait()
        assert (await get(client, server.url)).body == b"hello"


async def once_then_close(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request per connection, read the second and close without a word."""
    raw.requests.append(await read_request(reader))
    writer.write(HELLO)
    if request := await read_request(reader):
        raw.requests.append(request)


async def test_a_get_on_a_connection_closed_just_then_is_sent_once_more() -> None:
    async with raw_server(once_then_close) as server, opened() as client:
        await get(client, server.url)
        assert (await get(client, server.url)).body == b"hello"
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_a_post_that_may_have_arrived_is_not_sent_again() -> None:
    async with raw_server(once_then_close) as server, opened() as client:
        post = Request("POST", server.url, {}, b"x")
        await client.exchange(post, timeout_s=5)
        with pytest.raises(ConnectError, match="closed without an answer"):
            await client.exchange(post, timeout_s=5)
        assert (server.connections, len(server.requests)) == (1, 2)


async def test_a_new_connection_closed_without_an_answer_is_an_error_at_once() -> None:
    async def behave(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        raw.requests.append(await read_request(reader))

    async with raw_server(behave) as server, opened() as client:
        with pytest.raises(ConnectError, match=rf"http://127.0.0.1:{server.port}: the connection was closed"):
            await get(client, server.url)
        assert server.connections == 1


async def test_misbehaviour_is_told_apart() -> None:
    async def check(answer: bytes, kind: type[FetchError], expected: str, limit: int | None = None) -> None:
        async with raw_server(answering(answer, close=True)) as server, opened() as client:
            with pytest.raises(kind, match=expected) as caught:
                await get(client, server.url, limit=limit)
            assert str(caught.value).startswith(f"http://127.0.0.1:{server.port}: ")

    start = b"HTTP/1.1 200 OK\r\n"
    await check(start + b"Content-Length: 99\r\n\r\nhalf", ProtocolError, "closed after 4 of 99 bytes")
    await check(
        start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", ProtocolError, "malformed chunk size b'zz'"
    )
    await check(
        b"220 mail.example ESMTP\r\n\r\n", ProtocolError, "not an HTTP answer, it starts with '220 mail"
    )
    await check(start + b"X: y\r\n" * 20000, ProtocolError, "head of the answer is larger than 65536 bytes")
    bomb = gzip.compress(bytes(10_000_000))
    head = start + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    await check(head + bomb, BodyTooLargeError, "larger than the limit of 100000 bytes", limit=100_000)
    await check(start + b"\r\n" + bytes(200_000), BodyTooLargeError, "limit of 100000", limit=100_000)


async def test_a_reset_in_the_middle_is_no_end() -> None:
    async def behave(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del raw
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf of")
        await asyncio.sleep(0.02)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async with raw_server(behave) as server, opened() as client:
        with pytest.raises(
            ProtocolError, match="broke in the middle of the answer: Connection reset by peer"
        ):
            await get(client, server.url)


async def test_the_time_out_covers_everything() -> None:
    async def drip(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.requests.append(await read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with raw_server(hanging) as server, opened() as client:
        expected = rf"no complete answer from http://127.0.0.1:{server.port} within 0.05s, nothing had come"
        with pytest.raises(FetchTimeoutError, match=expected):
            await get(client, server.url, 0.05)
        with pytest.raises(FetchTimeoutError, match="nothing had come"):
            await get(client, f"https://127.0.0.1:{server.port}/", 0.05)
    async with raw_server(drip) as server, opened() as client:
        with pytest.raises(FetchTimeoutError, match=r"\d+ bytes of it had come"):
            await get(client, server.url, 0.1)
        async with asyncio.timeout(5):
            await server.closed.wait()


async def test_a_cancelled_exchange_closes_its_connection() -> None:
    async with raw_server(hanging) as server, opened() as client:
        task = asyncio.create_task(get(client, server.url))
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await server.closed.wait()


async def test_closing_the_client_ends_what_is_under_way() -> None:
    async with raw_server(hanging) as server:
        client = Client()
        task = asyncio.create_task(get(client, server.url))
        await server.asked.wait()
        await client.aclose()
        with pytest.raises(ConnectError, match="closed without an answer"):
            await task


async def test_connect_errors_name_host_port_and_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with opened(Client(Resolve.parse(f"far.example:443=127.0.0.1:{port}"))) as client:
        with pytest.raises(ConnectError) as caught:
            await get(client, f"http://127.0.0.1:{port}/")
        assert str(caught.value) == (
            f"http://127.0.0.1:{port}: cannot connect: connection refused, nothing listens there"
        )
        with pytest.raises(ConnectError) as caught:
            await get(client, "https://far.example/")
        assert str(caught.value) == (
            f"https://far.example:443: cannot connect (led to 127.0.0.1:{port} by --resolve): "
            "connection refused, nothing listens there"
        )
        with pytest.raises(ConnectError, match="cannot connect"):
            await get(client, f"http://{'x' * 64}.example/")


async def test_names_are_resolved() -> None:
    async with raw_server(answering(HELLO)) as server, opened() as client:
        assert (await get(client, f"http://localhost:{server.port}/")).body == b"hello"


async def test_large_bodies_go_both_ways() -> None:
    content = os.urandom(3_000_000)

    async def echo(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del raw
        while request := await read_request(reader):
            body = request.partition(b"\r\n\r\n")[2]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()

    async with raw_server(echo) as server, opened() as client:
        for size in (3_000_000, 10, 100_000):
            request = Request("POST", server.url, {}, content[:size])
            assert (await client.exchange(request, timeout_s=20)).body == content[:size]
        assert server.connections == 1


async def test_an_answer_before_the_body_has_been_taken_counts() -> None:
    async def refuse(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        async with asyncio.timeout(5):
            while await reader.read(65536):
                raw.requests.append(b"")
                await asyncio.sleep(0.01)

    async with raw_server(refuse) as server, opened() as client:
        response = await client.exchange(Request("POST", server.url, {}, bytes(30_000_000)), timeout_s=10)
        assert response.status == 413
        assert not any(client._idle.values())


async def test_what_would_break_out_of_a_header_is_not_sent() -> None:
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


async def test_tls_verifies_the_urls_host_even_when_led_elsewhere(authority: Authority) -> None:
    context = authority.server_context("aps.example")
    seen: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    async with raw_server(answering(HELLO), tls=context) as server:
        factory = ClientFactory(Resolve.parse(f"*:443=127.0.0.1:{server.port}"), authority.pem)
        async with opened(factory.client()) as client:
            for _ in range(2):
                assert (await get(client, "https://aps.example/")).body == b"hello"
            assert server.connections == 1
            with pytest.raises(
                ConnectError,
                match=r"https://other.example:443: cannot connect \(led to .*\): its certificate is not "
                r"accepted: Hostname mismatch, certificate is not valid for 'other.example'",
            ):
                await get(client, "https://other.example/")
        assert seen == ["aps.example", "other.example"]
        assert b"Host: aps.example\r\n" in server.requests[0]
        async with opened(factory.client(server_name="aps.example")) as client:
            assert (await get(client, "https://other.example/")).body == b"hello"


async def test_an_address_in_the_url_is_verified_too(authority: Authority) -> None:
    tls = authority.server_context("127.0.0.1")
    trusting = ClientFactory(ca_bundle=authority.pem).client()
    async with raw_server(answering(HELLO), tls=tls) as server, opened(trusting) as client:
        assert (await get(client, f"https://127.0.0.1:{server.port}/")).body == b"hello"


async def test_an_unknown_authority_is_refused_unless_told_otherwise(authority: Authority) -> None:
    async with raw_server(answering(HELLO), tls=authority.server_context("localhost")) as server:
        url = f"https://localhost:{server.port}/"
        async with opened(ClientFactory().client()) as client:
            with pytest.raises(ConnectError, match=r"not accepted: .* name its CA with ca_file"):
                await get(client, url)
        async with opened(ClientFactory().client(ca_file=authority.pem)) as client:
            assert (await get(client, url)).body == b"hello"
        async with opened(ClientFactory().client(insecure_skip_verify=True)) as client:
            assert (await get(client, url)).body == b"hello"


async def test_plain_http_behind_an_https_url_is_named() -> None:
    async def answer_plainly(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(HELLO)
        await raw.closed.wait()

    async with raw_server(answer_plainly) as server, opened() as client:
        with pytest.raises(ConnectError, match="TLS failed: wrong version number"):
            await get(client, f"https://127.0.0.1:{server.port}/")


async def test_a_client_certificate_is_shown(authority: Authority, tmp_path: Path) -> None:
    context = authority.server_context("localhost")
    context.load_verify_locations(authority.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    mine = authority.issue("me")
    async with raw_server(answering(HELLO), tls=context) as server:
        url = f"https://localhost:{server.port}/"
        factory = ClientFactory(ca_bundle=authority.pem)
        async with opened(factory.client(cert_file=mine)) as client:
            assert (await get(client, url)).body == b"hello"
        async with opened(factory.client()) as client:
            with pytest.raises(FetchError):
                await get(client, url)
        async with opened(factory.client(cert_file=tmp_path / "none.pem")) as client:
            with pytest.raises(
                ConnectError, match=r"cannot use the client certificate in .*none.pem: No such file"
            ):
                await get(client, url)


async def test_files_are_read_when_first_needed_and_named_when_they_cannot_be(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")

    async def check(path: Path, expected: str) -> None:
        async with opened(ClientFactory(ca_bundle=path).client()) as client:
            assert (await get(client, server.url)).body == b"hello"
            with pytest.raises(ConnectError, match=expected):
                await get(client, f"https://127.0.0.1:{server.port}/")

    async with raw_server(answering(HELLO)) as server:
        await check(tmp_path / "none.pem", "cannot read the CA file .*none.pem: No such file or directory")
        await check(rubbish, "rubbish.pem: no certificate in it; it must hold certificates in PEM")


async def test_large_answers_come_through_tls(authority: Authority) -> None:
    content = os.urandom(1_000_000)
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer += b"".join(b"186a0\r\n%b\r\n" % content[i : i + 100_000] for i in range(0, 1_000_000, 100_000))
    answer += b"0\r\n\r\n"
    tls = authority.server_context("localhost")
    trusting = ClientFactory(ca_bundle=authority.pem).client()
    async with raw_server(answering(answer), tls=tls) as server, opened(trusting) as client:
        for _ in range(2):
            assert (await get(client, f"https://localhost:{server.port}/", 20)).body == content
        assert server.connections == 1


async def test_clients_with_equal_settings_share_one_context(authority: Authority) -> None:
    factory = ClientFactory(ca_bundle=authority.pem)
    first, second = factory.client(), factory.client()
    assert first._tls is second._tls
    assert first._tls is not factory.client(server_name="other")._tls
    assert "context" not in vars(first._tls)
    assert first._tls.context is second._tls.context


async def test_only_answers_in_pieces_need_buffers_and_those_are_reused() -> None:
    size = 100_000

    async def in_pieces(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del raw
        while await read_request(reader):
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + b"a")
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(b"b" * (size - 1))
            await writer.drain()

    async with raw_server(answering(HELLO)) as whole, raw_server(in_pieces) as pieces, opened() as client:
        bodies = await asyncio.gather(*(get(client, pieces.url) for _ in range(5)), get(client, whole.url))
        assert [one.body for one in bodies] == [*[b"a" + b"b" * (size - 1)] * 5, b"hello"]
        kept = {id(buffer) for buffer in client._spare_buffers}
        assert len(kept) == 2
        await get(client, whole.url)
        await get(client, pieces.url)
        assert kept >= {id(client._spare_buffers[-1])}
        size = 3_000_000
        assert len((await get(client, pieces.url)).body) == size
        assert all(len(buffer) < size for buffer in client._spare_buffers)


async def test_a_waiter_reads_the_answer_in_place() -> None:
    seen: list[object] = []
    ended = asyncio.Event()

    class Reading:
        def answered(self, answer: Answer) -> None:
            seen.extend((answer.status, type(answer.body), bytes(answer.body)))
            ended.set()

        def failed(self, error: FetchError) -> None:
            seen.append(error)
            ended.set()

    async with raw_server(answering(HELLO)) as server, opened() as client:
        prepared = Prepared.of(Request("GET", server.url), timeout_s=5)
        for _ in range(2):
            ended.clear()
            client.begin(prepared, Reading())
            await ended.wait()
        assert server.connections == 1
    assert seen == [200, memoryview, b"hello"] * 2
    async with raw_server(hanging) as server, opened() as client:
        for timeout_s in (5, 0.05, 0.2):
            client.begin(Prepared.of(Request("GET", server.url), timeout_s=timeout_s), Reading())
        for _ in range(2):
            ended.clear()
            await ended.wait()
        assert [str(error).partition("within ")[2] for error in seen[6:]] == [
            "0.05s, nothing had come",
            "0.2s, nothing had come",
        ]


async def test_an_exchange_cancelled_just_as_it_was_answered_ends_no_other() -> None:
    async with raw_server(answering(HELLO)) as server, opened() as client:
        url = Prepared.of(Request("GET", server.url), timeout_s=5)

        class Next:
            """Takes over the connection as soon as it is free, as the next scrape does."""

            def __init__(self) -> None:
                self.told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

            def answered(self, answer: Answer) -> None:
                self.told.set_result(answer.status)

            def failed(self, error: FetchError) -> None:
                self.told.set_exception(error)

        over, following = Next(), Next()
        exchange = client.begin(url, over)
        assert await over.told == 200
        client.begin(url, following)
        exchange.leave()
        assert await following.told == 200
        assert server.connections == 1


async def test_a_closed_client_makes_no_connection() -> None:
    async with raw_server(answering(HELLO)) as server:
        client = Client()
        await client.aclose()
        with pytest.raises(ConnectError, match="this client was closed"):
            await get(client, server.url)
        assert server.connections == 0


async def test_what_fails_in_a_way_nobody_foresaw_is_an_error_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened(Client(Resolve({("*", "*"): ("127.0.0.1", "no port")}))) as client:
        with pytest.raises(ConnectError, match="http://a:80: cannot connect: invalid literal"):
            await get(client, "http://a/")
    assert "in a way nobody foresaw" in caplog.text


async def test_a_connection_that_the_other_side_is_closing_is_not_used_again() -> None:
    """With TLS there is some time between its farewell and the end of the transport."""
    async with raw_server(answering(HELLO)) as server, opened() as client:
        await get(client, server.url)
        (connection,) = client.open
        connection.eof_received()
        await client.exchange(Request("POST", server.url), timeout_s=5)
        assert server.connections == 2


async def test_connections_to_targets_that_are_gone_do_not_stay_open() -> None:
    async with (
        raw_server(answering(HELLO)) as gone,
        raw_server(answering(HELLO)) as there,
        opened(Client(max_idle_s=0.05)) as client,
    ):
        await get(client, gone.url, timeout_s=0.1)
        async with asyncio.timeout(5):
            while not gone.closed.is_set():
                await get(client, there.url, timeout_s=0.1)
                await asyncio.sleep(0.02)
