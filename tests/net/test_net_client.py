"""What is the plain client's alone; tests/net/test_net_fetchers.py has what it shares with the others."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.net.loopback import Authority, Raw, answering, hanging, raw_server, read_request

from trunkline import __version__
from trunkline.errors import ConnectError, FetchError, ProtocolError
from trunkline.net.client import Answer, Client, ClientFactory, Prepared
from trunkline.net.message import Request, Response
from trunkline.net.resolve import Resolve
from trunkline.net.tls import Tls

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


async def test_heads_have_this_order() -> None:
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


async def test_misbehaviour_is_shown() -> None:
    async def check(answer: bytes, expected: str) -> None:
        async with raw_server(answering(answer, close=True)) as server, opened() as client:
            with pytest.raises(ProtocolError, match=expected):
                await get(client, server.url)

    start = b"HTTP/1.1 200 OK\r\n"
    await check(start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed chunk size b'zz'")
    await check(b"220 mail.example ESMTP\r\n\r\n", "not an HTTP answer, it starts with '220 mail")
    await check(start + b"X: y\r\n" * 20000, "head of the answer is larger than 65536 bytes")


async def test_an_answer_that_is_longer_than_it_said_ends_its_connection() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more than was announced"
    async with raw_server(answering(answer)) as server, opened() as client:
        for turn in range(2):
            assert (await get(client, server.url)).body == b"ok"
            assert server.connections == turn + 1


async def test_the_default_port_is_left_out_of_an_address_in_host_too() -> None:
    async with raw_server(answering(HELLO)) as server:
        to_server = Resolve.parse(f"*:80=127.0.0.1:{server.port}")
        async with opened(Client(to_server)) as client:
            await get(client, "http://[2001:db8::1]:80/")
    assert b"\r\nHost: [2001:db8::1]\r\n" in server.requests[0]


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


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


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


async def test_a_factory_hands_on_what_concerns_tls(authority: Authority, tmp_path: Path) -> None:
    factory, mine = ClientFactory(ca_bundle=authority.pem), tmp_path / "mine.pem"
    given = factory.client(server_name="a", cert_file=mine, key_file=mine)
    assert given._tls == Tls(ca_file=authority.pem, server_name="a", cert_file=mine, key_file=mine)
    assert factory.client(ca_file=mine)._tls == Tls(ca_file=mine)
    assert factory.client(insecure_skip_verify=True)._tls.context.verify_mode == ssl.CERT_NONE


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
