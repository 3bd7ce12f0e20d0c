import asyncio
import logging
import os
import socket

import pytest

from trunkline.errors import TrunklineError
from trunkline.net.client import Client
from trunkline.net.message import Request, Response
from trunkline.net.server import Server, serve


def metrics() -> Response:
    return Response(200, "OK", {"content-type": "text/plain"}, b"up 1\n")


def unhealthy() -> Response:
    return Response(503, "Service Unavailable", {}, b"{}")


def broken() -> Response:
    raise RuntimeError("secret detail")


ROUTES = {"/metrics": metrics, "/health/": unhealthy, "/broken": broken}


async def ask(server: Server, *requests: tuple[str, str]) -> list[Response]:
    host, port = server.address
    client = Client()
    try:
        return [
            await client.exchange(Request(method, f"http://{host}:{port}{path}"), timeout_s=5)
            for method, path in requests
        ]
    finally:
        await client.aclose()


async def talk(server: Server, data: bytes) -> bytes:
    """Send `data` raw, half-close, and return everything that comes back."""
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(data)
    writer.write_eof()
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def test_routes() -> None:
    async with serve("127.0.0.1", 0, ROUTES) as server:
        requests = [
            ("GET", "/metrics"),
            ("GET", "/metrics?debug=1"),
            ("HEAD", "/metrics"),
            ("GET", "/health/"),
            ("GET", "/health/deep/down"),
            ("GET", "/"),
            ("GET", "/metricsx"),
            ("POST", "/metrics"),
            ("DELETE", "/nowhere"),
        ]
        answers = await ask(server, *requests)
    assert [answer.status for answer in answers] == [200, 200, 200, 503, 503, 404, 404, 405, 404]
    assert answers[0].body == b"up 1\n"
    assert answers[0].headers == {
        "content-type": "text/plain",
        "content-length": "5",
        "connection": "keep-alive",
    }
    assert answers[2].body == b""
    assert answers[2].headers["content-length"] == "5"
    assert answers[7].headers["allow"] == "GET, HEAD"


async def test_a_broken_handler_is_logged_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    async with serve("127.0.0.1", 0, ROUTES) as server:
        with caplog.at_level(logging.ERROR):
            first, second = await ask(server, ("GET", "/broken"), ("GET", "/metrics"))
    assert (first.status, second.status) == (500, 200)
    assert b"secret" not in first.body
    assert "answering /broken failed" in caplog.text


async def test_rubbish_is_survived() -> None:
    async def check(data: bytes, expected: bytes) -> None:
        assert (await talk(server, data)).startswith(expected), data[:50]

    bad = b"HTTP/1.1 400 Bad Request"
    async with serve("127.0.0.1", 0, ROUTES) as server:
        await check(b"", b"")
        await check(b"GET /metrics", b"")
        await check(os.urandom(2000).replace(b"\n", b"") + b"\r\n\r\n", bad)
        await check(b"\x16\x03\x01\x02\x00\n\n", bad)
        await check(b"GET /metrics HTTP/2\r\n\r\n", bad)
        await check(b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", bad)
        await check(b"GET /" + b"x" * 20000, b"HTTP/1.1 431 ")
        await check(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"HTTP/1.1 431 ")
        await check(b"GET /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"HTTP/1.1 413 ")
        await check(b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 405 ")
        assert [answer.status for answer in await ask(server, ("GET", "/metrics"))] == [200]


async def test_keep_alive_and_close_as_the_client_wants() -> None:
    async with serve("127.0.0.1", 0, ROUTES) as server:
        twice = await talk(
            server, b"GET /metrics HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        assert twice.count(b"HTTP/1.1 200 OK") == 2
        assert twice.count(b"connection: close") == 1
        once = await talk(server, b"GET /metrics HTTP/1.0\r\n\r\nGET /metrics HTTP/1.0\r\n\r\n")
        assert once.count(b"HTTP/1.1 200 OK") == 1


async def test_a_request_may_come_in_pieces() -> None:
    async with serve("127.0.0.1", 0, ROUTES) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        for byte in b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n":
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await reader.read()).endswith(b"up 1\n")
        writer.close()


async def test_leaving_closes_the_port_and_every_connection() -> None:
    async with serve("127.0.0.1", 0, ROUTES) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"up 1\n")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*server.address)


async def test_a_client_that_reads_nothing_takes_no_memory() -> None:
    page = Response(200, "OK", {}, bytes(1_000_000))
    async with serve("127.0.0.1", 0, {"/": lambda: page}) as server:
        _, writer = await asyncio.open_connection(*server.address)
        for _ in range(100):
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0.1)
        (connection,) = server.connections
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 3_000_000
        writer.transport.abort()


async def test_connections_are_limited() -> None:
    async with serve("127.0.0.1", 0, ROUTES) as server:
        opened = [await asyncio.open_connection(*server.address) for _ in range(70)]
        await asyncio.sleep(0.05)
        assert len(server.connections) <= 64
        for _, writer in opened:
            writer.close()


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        expected = f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another endpoint"
        with pytest.raises(TrunklineError, match=expected):
            async with serve("127.0.0.1", port, ROUTES):
                pass
