import asyncio
from pathlib import Path

import pytest
from tests.net.loopback import Authority, Raw, answering, raw_server, read_request

from trunkline.errors import BodyTooLargeError, ConnectError, FetchTimeoutError, ProtocolError
from trunkline.net.client import Client
from trunkline.net.message import Request, Response
from trunkline.net.redirects import FollowingRedirects
from trunkline.net.resolve import Resolve
from trunkline.net.tls import Tls

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def to(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def fetch(
    request: Request, resolve: str = "", timeout_s: float = 5.0, limit: int | None = None
) -> Response:
    client = FollowingRedirects(Client(Resolve.parse(resolve)), frozenset({"x-key"}))
    try:
        return await client.exchange(request, timeout_s=timeout_s, max_body_bytes=limit)
    finally:
        await client.aclose()


def asked(server: Raw) -> list[str]:
    return [request.split(b" HTTP")[0].decode() for request in server.requests]


async def test_redirects_are_followed_on_one_connection() -> None:
    answers = [to("/b?x=%7e", status) for status in (301, 302, 303, 307, 308)]
    async with raw_server(answering(*answers, HELLO)) as server:
        response = await fetch(Request("GET", f"{server.url}/a", {"Accept": "x", "Authorization": "y"}))
    assert response.body == b"hello"
    assert asked(server) == ["GET /a", *["GET /b?x=%7e"] * 5]
    assert server.connections == 1
    assert all(b"\r\nAccept: x\r\nAuthorization: y\r\n" in request for request in server.requests)


async def test_locations_are_relative_to_the_last_url() -> None:
    async def check(location: str, expected: str) -> None:
        async with raw_server(answering(to(location.replace("SERVER", "")), HELLO)) as server:
            await fetch(Request("GET", f"{server.url}/a/b?c=d"))
        assert asked(server)[1] == f"GET {expected}"

    await check("e", "/a/e")
    await check("../e", "/e")
    await check("?f=g", "/a/b?f=g")
    await check("/e#part", "/e")
    await check("/%7euser/a%2fb", "/%7euser/a%2fb")
    await check("/é", "/%C3%A9")


async def test_only_redirects_with_a_location_are_followed() -> None:
    async def check(answer: bytes, status: int) -> None:
        async with raw_server(answering(answer, HELLO)) as server:
            assert (await fetch(Request("GET", server.url))).status == status
        assert len(server.requests) == 1

    await check(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", 302)
    await check(to("/b", 300), 300)
    await check(to("/b", 304), 304)
    await check(to("/b", 201), 201)
    await check(to("/b", 404), 404)


async def test_ten_requests_are_the_end_of_it() -> None:
    async with raw_server(answering(*[to("/again")] * 9, HELLO)) as server:
        assert (await fetch(Request("GET", server.url))).body == b"hello"
    assert len(server.requests) == 10
    async with raw_server(answering(to("/again"))) as server:
        with pytest.raises(ProtocolError) as caught:
            await fetch(Request("GET", server.url))
    assert str(caught.value) == f"http://127.0.0.1:{server.port}: stopped after 10 redirects"
    assert len(server.requests) == 10


async def test_what_becomes_of_other_methods() -> None:
    async def check(method: str, status: int, expected: str) -> None:
        async with raw_server(answering(to("/b", status), HELLO)) as server:
            headers = {"Content-Type": "text/plain"} if method == "POST" else {}
            await fetch(Request(method, f"{server.url}/a", headers, b"body" if method == "POST" else b""))
        assert asked(server)[1] == expected
        kept = expected.startswith("POST")
        assert server.requests[1].endswith(b"\r\n\r\nbody") is kept
        assert (b"Content-Type" in server.requests[1]) is kept

    for status in (301, 302, 303):
        await check("POST", status, "GET /b")
    for status in (307, 308):
        await check("POST", status, "POST /b")
    await check("HEAD", 303, "HEAD /b")


async def test_secrets_stay_with_the_first_host_and_below_it() -> None:
    sent = {
        "Authorization": "secret",
        "cookie": "secret",
        "X-Key": "secret",
        "Host": "virtual",
        "X-Open": "open",
    }

    async def check(first: str, second: str, *, shown: bool, host: str) -> None:
        async with raw_server(answering(to(f"http://{second}/b"), HELLO)) as server:
            await fetch(Request("GET", f"http://{first}/a", sent), f"*:80=127.0.0.1:{server.port}")
        assert (b"secret" in server.requests[1]) is shown
        assert b"X-Open: open\r\n" in server.requests[1]
        assert f"Host: {host}\r\n".encode() in server.requests[1]
        assert b"secret" in server.requests[0]

    await check("a.example", "a.example", shown=True, host="a.example")
    await check("a.example", "x.a.example", shown=True, host="x.a.example")
    await check("a.example", "b.example", shown=False, host="b.example")
    await check("a.example", "nota.example", shown=False, host="nota.example")
    await check("x.a.example", "a.example", shown=False, host="a.example")


async def test_secrets_do_not_come_back() -> None:
    """Whoever sends us back to the first host may have chosen the path."""
    async with (
        raw_server(answering(to("http://b.example/"), HELLO)) as first,
        raw_server(answering(to("http://a.example/chosen"))) as second,
    ):
        rules = f"a.example:80=127.0.0.1:{first.port},b.example:80=127.0.0.1:{second.port}"
        await fetch(Request("GET", "http://a.example/", {"Authorization": "secret"}), rules)
    assert asked(first) == ["GET /", "GET /chosen"]
    assert [b"secret" in request for request in first.requests] == [True, False]


async def test_secrets_do_not_leave_tls(authority: Authority) -> None:
    async with (
        raw_server(answering(HELLO)) as open_one,
        raw_server(
            answering(to(f"http://localhost:{open_one.port}/")), tls=authority.server_context("localhost")
        ) as closed_one,
        raw_server(answering(to(f"https://localhost:{closed_one.port}/"))) as start,
    ):
        client = FollowingRedirects(Client(tls=Tls(ca_file=authority.pem)))
        for url in (f"http://localhost:{start.port}/", f"https://localhost:{closed_one.port}/"):
            response = await client.exchange(Request("GET", url, {"Authorization": "secret"}), timeout_s=5)
            assert response.body == b"hello"
        await client.aclose()
    assert [b"secret" in request for request in start.requests + closed_one.requests] == [True] * 3
    # From http to https and back is no loss: it was in the open before.
    assert [b"secret" in request for request in open_one.requests] == [True, False]


async def test_a_relative_location_keeps_the_virtual_host() -> None:
    async with raw_server(answering(to("/b"), HELLO)) as server:
        await fetch(Request("GET", server.url, {"Host": "virtual"}))
    assert all(b"Host: virtual\r\n" in request for request in server.requests)


async def test_other_schemes_and_dead_ends_are_errors() -> None:
    async def check(location: str, expected: str) -> None:
        async with raw_server(answering(to(location))) as server:
            with pytest.raises(ConnectError, match=expected):
                await fetch(Request("GET", server.url))

    await check("ftp://a.example/", "must start with http:// or https://")
    await check("http://user:password@a.example/", "user name and password")
    await check("http://127.0.0.1:1/", "^http://127.0.0.1:1: cannot connect")


async def test_time_out_and_limits_hold_for_all_of_it() -> None:
    async def slowly(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_request(reader):
            raw.requests.append(request)
            await asyncio.sleep(0.05)
            writer.write(to("/again"))

    async with raw_server(slowly) as server:
        with pytest.raises(FetchTimeoutError):
            await fetch(Request("GET", server.url), timeout_s=0.2)
        assert len(server.requests) <= 4
    async with raw_server(answering(to("/b"), HELLO)) as server:
        with pytest.raises(BodyTooLargeError):
            await fetch(Request("GET", server.url), limit=4)


async def test_a_location_that_is_no_url_is_an_error() -> None:
    async with raw_server(answering(to("http://[nowhere"))) as server:
        with pytest.raises(ProtocolError, match=r"redirect to 'http://\[nowhere': Invalid IPv6"):
            await fetch(Request("GET", server.url))
