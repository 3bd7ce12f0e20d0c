import asyncio
from pathlib import Path

import pytest
from tests.net.loopback import Raw, answering, hanging, raw_server, read_request
from tests.net.proxies import proxy_server

from trunkline.errors import FetchError, FetchTimeoutError, ProtocolError
from trunkline.net.authorization import Authorization
from trunkline.net.client import Answer, ClientFactory
from trunkline.net.fetcher import Begin, repeatedly
from trunkline.net.files import Secret
from trunkline.net.message import Request, Response
from trunkline.net.oauth2 import OAuth2
from trunkline.net.proxy import ProxySettings
from trunkline.net.settings import HttpSettings, http_client

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Remembering:
    """Keeps the one thing it is told: what kind of body it was, or the error."""

    def __init__(self) -> None:
        self.told: asyncio.Future[tuple[int, type, bytes]] = asyncio.get_running_loop().create_future()

    def answered(self, answer: Answer) -> None:
        self.told.set_result((answer.status, type(answer.body), bytes(answer.body)))

    def failed(self, error: FetchError) -> None:
        self.told.set_exception(error)


async def once(begin: Begin) -> tuple[int, type, bytes]:
    waiter = Remembering()
    begin(waiter)
    async with asyncio.timeout(5):
        return await waiter.told


async def test_direct_ways_read_the_answer_in_place(tmp_path: Path) -> None:
    """Without a task or a copy, whatever is configured but tokens and proxies."""
    path = tmp_path / "token"
    path.write_text("one")
    bearer = Authorization(credentials=Secret(file=str(path)))

    async def check(settings: HttpSettings) -> None:
        client = http_client(settings, ClientFactory(), {})
        # Targets are made ready before anything runs.
        begin = await asyncio.to_thread(repeatedly, client, Request("GET", server.url), timeout_s=5)
        assert await once(begin) == (200, memoryview, b"hello")
        tasks = len(asyncio.all_tasks())
        waiter = Remembering()
        begin(waiter)
        assert len(asyncio.all_tasks()) == tasks
        assert (await waiter.told)[2] == b"hello"
        await client.aclose()

    async with raw_server(answering(HELLO)) as server:
        await check(HttpSettings(follow_redirects=False))
        await check(HttpSettings())
        await check(HttpSettings(authorization=bearer))
        await check(HttpSettings(proxy=ProxySettings("http://127.0.0.1:1", no_proxy="x")))


async def test_redirects_are_followed_and_counted() -> None:
    async def hop(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_request(reader):
            raw.requests.append(request)
            path = request.split()[1].decode()
            if path == "/end":
                writer.write(HELLO)
            else:
                to = "/end" if path == "/start" else path
                writer.write(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode())

    async with raw_server(hop) as server:
        client = http_client(HttpSettings(), ClientFactory(), {})
        begin = repeatedly(client, Request("GET", f"{server.url}/start"), timeout_s=5)
        for _ in range(2):
            assert await once(begin) == (200, bytes, b"hello")
        with pytest.raises(ProtocolError, match="stopped after 10 redirects"):
            await once(repeatedly(client, Request("GET", f"{server.url}/round"), timeout_s=5))
        assert len(server.requests) == 14
        await client.aclose()


async def test_changed_files_are_sent_next_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    settings = HttpSettings(authorization=Authorization(credentials=Secret(file=str(path))))
    async with raw_server(answering(HELLO)) as server:
        client = http_client(settings, ClientFactory(), {})
        begin = repeatedly(client, Request("GET", server.url), timeout_s=5)
        with pytest.raises(FetchError, match=r"nothing was sent: cannot read .*token"):
            await once(begin)
        for token in ("one", "three"):
            path.write_text(token)
            await once(begin)
            assert f"Authorization: Bearer {token}\r\n".encode() in server.requests[-1]
        await client.aclose()


async def test_tokens_and_proxies_are_awaited() -> None:
    token = b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"access_token": "x"}'
    async with raw_server(answering(HELLO)) as server, raw_server(answering(token)) as tokens:
        client = http_client(HttpSettings(oauth2=OAuth2("me", tokens.url)), ClientFactory(), {})
        assert await once(repeatedly(client, Request("GET", server.url), timeout_s=5)) == (
            200,
            bytes,
            b"hello",
        )
        assert b"Authorization: Bearer x\r\n" in server.requests[0]
        await client.aclose()
        async with proxy_server() as proxy:
            client = http_client(HttpSettings(proxy=ProxySettings(proxy.url)), ClientFactory(), {})
            begin = repeatedly(client, Request("GET", server.url), timeout_s=5)
            for _ in range(2):
                assert await once(begin) == (200, bytes, b"hello")
            await client.aclose()
        assert len(proxy.heads) == 2


async def test_every_way_ends_in_time() -> None:
    async with raw_server(hanging) as server, proxy_server() as proxy:
        for settings in (
            HttpSettings(),
            HttpSettings(oauth2=OAuth2("me", server.url)),
            HttpSettings(proxy=ProxySettings(proxy.url)),
        ):
            client = http_client(settings, ClientFactory(), {})
            with pytest.raises(FetchTimeoutError):
                await once(repeatedly(client, Request("GET", server.url), timeout_s=0.05))
            await client.aclose()


async def test_a_waiter_is_told_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    class Surprising:
        async def exchange(
            self, request: Request, *, timeout_s: float, max_body_bytes: int | None = None
        ) -> Response:
            raise RecursionError(f"{request.method} within {timeout_s} s and {max_body_bytes} bytes")

        async def aclose(self) -> None:
            """Nothing is open."""

    with pytest.raises(FetchError, match="failed in a way nobody foresaw: RecursionError"):
        await once(repeatedly(Surprising(), Request("GET", "http://127.0.0.1/"), timeout_s=5))
    assert "in a way nobody foresaw" in caplog.text
