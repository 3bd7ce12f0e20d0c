import os
from base64 import b64encode
from pathlib import Path

import pytest
from tests.net.loopback import Raw, answering, raw_server

from trunkline.errors import FetchError
from trunkline.net.authorization import Authorization, BasicAuth, HttpHeader
from trunkline.net.client import ClientFactory
from trunkline.net.files import Secret
from trunkline.net.message import Request
from trunkline.net.settings import HttpSettings, http_client

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def sent(settings: HttpSettings, server: Raw, headers: dict[str, str] | None = None) -> list[str]:
    """The header lines that arrive, without those every request has."""
    client = http_client(settings, ClientFactory(), {})
    try:
        await client.exchange(Request("GET", server.url, headers or {}), timeout_s=5)
    finally:
        await client.aclose()
    lines = server.requests[-1].decode().split("\r\n")[1:-2]
    return [line for line in lines if not line.startswith(("Host:", "User-Agent:"))]


async def test_credentials_go_out_as_prometheus_sends_them() -> None:
    async with raw_server(answering(HELLO)) as server:
        basic = BasicAuth(Secret("ü"), Secret("p:w"))
        assert await sent(HttpSettings(basic_auth=basic), server) == [
            f"Authorization: Basic {b64encode('ü:p:w'.encode()).decode()}"
        ]
        assert await sent(HttpSettings(basic_auth=BasicAuth(Secret("me"))), server) == [
            f"Authorization: Basic {b64encode(b'me:').decode()}"
        ]
        bearer = HttpSettings(authorization=Authorization(credentials=Secret("token")))
        assert await sent(bearer, server) == ["Authorization: Bearer token"]
        custom = HttpSettings(authorization=Authorization("Custom", Secret("k=v")))
        assert await sent(custom, server) == ["Authorization: Custom k=v"]
        assert await sent(custom, server, {"authorization": "mine"}) == ["authorization: mine"]


async def test_headers_add_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from file\n")
    settings = HttpSettings(
        http_headers=(
            HttpHeader("X-Scope", ("a", "b"), ("c",), (Secret(file=str(tmp_path / "key")),)),
            HttpHeader("Accept", ("text/plain",)),
            HttpHeader("X-None"),
        )
    )
    async with raw_server(answering(HELLO)) as server:
        assert await sent(settings, server, {"accept": "*/*"}) == [
            "X-Scope: a, b, c, from file",
            "Accept: */*, text/plain",
        ]


async def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    user, password = tmp_path / "user", tmp_path / "password"
    settings = HttpSettings(basic_auth=BasicAuth(Secret(file=str(user)), Secret(file=str(password))))

    def expected(pair: bytes) -> list[str]:
        return [f"Authorization: Basic {b64encode(pair).decode()}"]

    async with raw_server(answering(HELLO)) as server:
        with pytest.raises(FetchError) as caught:
            await sent(settings, server)
        assert str(caught.value) == (
            f"{server.url}: nothing was sent: cannot read {user}: No such file or directory; "
            "the file must be there and readable for the collector"
        )
        user.write_text(" me \n")
        password.write_text("one")
        assert await sent(settings, server) == expected(b"me:one")
        password.write_text("another")
        assert await sent(settings, server) == expected(b"me:another")
        (tmp_path / "new").write_text("renamed")
        os.replace(tmp_path / "new", password)  # noqa: PTH105 (as rotation does it)
        assert await sent(settings, server) == expected(b"me:renamed")
        password.unlink()
        with pytest.raises(FetchError, match=r"cannot read .*password: No such file"):
            await sent(settings, server)
        assert len(server.requests) == 3


def test_a_file_is_not_read_as_long_as_it_stays(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("first")
    secret = Secret(file=str(path))
    assert secret.read() == "first"
    before = path.stat()
    path.write_text("other")  # as long, and made to look as old: nothing tells that it has changed
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert secret.read() == "first"
    path.write_bytes(b"\xff\xfe!!")
    with pytest.raises(FetchError, match="it is not UTF-8 text"):
        secret.read()


def test_secrets_are_not_shown() -> None:
    hidden = "do-not-show"
    shown = repr(
        HttpSettings(
            basic_auth=BasicAuth(Secret("me"), Secret(hidden)),
            http_headers=(HttpHeader("X", (), (hidden,)),),
        )
    )
    assert hidden not in shown


async def test_a_line_break_in_a_secret_sends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a\r\nEvil: b")
    async with raw_server(answering(HELLO)) as server:
        with pytest.raises(FetchError, match="cannot send the header 'Authorization'"):
            await sent(HttpSettings(authorization=Authorization(credentials=Secret(file=str(path)))), server)
        assert not server.requests
