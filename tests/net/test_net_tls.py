import os
import ssl
from pathlib import Path

import pytest
from tests.net.loopback import Authority, answering, raw_server

from trunkline.errors import ConnectError, FetchError
from trunkline.net.client import Client, ClientFactory
from trunkline.net.fetcher import Fetcher
from trunkline.net.full import FullClient
from trunkline.net.message import Request
from trunkline.net.settings import HttpSettings, http_client
from trunkline.net.tls import Tls

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
ONCE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"


def replace(path: Path, other: Path) -> None:
    """Put a copy of `other` in the place of `path` in one step, as rotation does it."""
    new = path.with_suffix(".new")
    new.write_bytes(other.read_bytes())
    os.replace(new, path)  # noqa: PTH105


def authorities(folder: Path, *names: str) -> list[Authority]:
    found = []
    for name in names:
        (folder / name).mkdir()
        found.append(Authority(folder / name))
    return found


def demanding(authority: Authority, client_authority: Authority) -> ssl.SSLContext:
    """A server of `authority` that lets in only who has a certificate of `client_authority`."""
    context = authority.server_context("localhost")
    context.load_verify_locations(client_authority.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def get(client: Fetcher, port: int) -> bytes:
    request = Request("GET", f"https://localhost:{port}/")
    return (await client.exchange(request, timeout_s=5)).body


@pytest.mark.parametrize("kind", [Client, FullClient])
async def test_certificates_are_read_again_when_their_files_change(
    kind: type[Client | FullClient], tmp_path: Path
) -> None:
    first, second = authorities(tmp_path, "first", "second")
    trust, mine = tmp_path / "ca.pem", tmp_path / "mine.pem"
    replace(trust, first.pem)
    replace(mine, first.issue("me"))
    client = kind(tls=Tls(ca_file=trust, cert_file=mine))
    async with (
        raw_server(answering(ONCE), tls=demanding(first, first)) as old,
        raw_server(answering(ONCE), tls=demanding(second, second)) as new,
    ):
        for _ in range(2):
            assert await get(client, old.port) == b"hello"
        with pytest.raises(ConnectError, match="its certificate is not accepted"):
            await get(client, new.port)
        replace(trust, second.pem)
        with pytest.raises(FetchError):
            await get(client, new.port)  # it is trusted now, but does not trust us yet
        replace(mine, second.issue("me"))
        assert await get(client, new.port) == b"hello"
        with pytest.raises(ConnectError, match="its certificate is not accepted"):
            await get(client, old.port)
        mine.write_text("half of a certif")
        for _ in range(2):
            with pytest.raises(ConnectError, match=r"cannot use the client certificate in .*mine.pem"):
                await get(client, new.port)
        replace(mine, second.issue("me"))
        assert await get(client, new.port) == b"hello"
    await client.aclose()


async def test_an_open_connection_outlives_its_certificate_in_the_plain_client(tmp_path: Path) -> None:
    (authority,) = authorities(tmp_path, "ca")
    mine = tmp_path / "mine.pem"
    replace(mine, authority.issue("me"))
    client = Client(tls=Tls(ca_file=authority.pem, cert_file=mine))
    async with raw_server(answering(HELLO), tls=demanding(authority, authority)) as server:
        assert await get(client, server.port) == b"hello"
        mine.unlink()
        assert await get(client, server.port) == b"hello"
        assert server.connections == 1
    await client.aclose()


def test_the_context_stays_as_long_as_the_files_do(tmp_path: Path) -> None:
    (authority,) = authorities(tmp_path, "ca")
    tls = Tls(ca_file=authority.pem)
    context = tls.context
    assert tls.context is context
    assert Tls(ca_file=authority.pem) == tls
    authority.pem.write_bytes(authority.pem.read_bytes() + b"\n")
    assert tls.context is not context


async def test_certificates_may_be_texts(tmp_path: Path) -> None:
    (authority,) = authorities(tmp_path, "ca")
    both = authority.issue("me").read_text()
    start = both.index("-----BEGIN CERTIFICATE")
    key, cert = both[:start], both[start:]
    key_file = tmp_path / "key.pem"
    key_file.write_text(key)
    async with raw_server(answering(HELLO), tls=demanding(authority, authority)) as server:
        ca = authority.pem.read_text()
        for tls in (Tls(ca=ca, cert=cert, key=key), Tls(ca=ca, cert=cert, key_file=key_file)):
            client = http_client(HttpSettings(tls=tls), ClientFactory(ca_bundle=tmp_path / "not used"), {})
            assert await get(client, server.port) == b"hello"
            await client.aclose()
            assert key not in repr(tls)


def test_texts_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    def check(tls: Tls, expected: str) -> None:
        with pytest.raises(ConnectError, match=expected):
            _ = tls.context

    check(Tls(ca="rubbish"), "cannot read the text of ca: no certificate in it")
    check(Tls(insecure_skip_verify=True, cert="x", key="y"), "in the text of cert and the text of key: ")
    (authority,) = authorities(tmp_path, "ca")
    mine, other = authority.issue("me"), authority.issue("other")
    check(
        Tls(insecure_skip_verify=True, cert_file=mine, key_file=other),
        "me.pem and .*other.pem: KEY_VALUES_MISMATCH",
    )


async def test_versions_are_kept_to(tmp_path: Path) -> None:
    (authority,) = authorities(tmp_path, "ca")

    async def check(version: ssl.TLSVersion, tls: Tls, *, works: bool) -> None:
        context = authority.server_context("localhost")
        context.minimum_version = context.maximum_version = version
        async with raw_server(answering(HELLO), tls=context) as server:
            client = Client(tls=tls)
            if works:
                assert await get(client, server.port) == b"hello"
            else:
                with pytest.raises(ConnectError, match="cannot connect: "):
                    await get(client, server.port)
            await client.aclose()

    trust = authority.pem
    await check(ssl.TLSVersion.TLSv1_2, Tls(ca_file=trust), works=True)
    await check(ssl.TLSVersion.TLSv1_2, Tls(ca_file=trust, min_version="TLS13"), works=False)
    await check(ssl.TLSVersion.TLSv1_3, Tls(ca_file=trust, max_version="TLS12"), works=False)
    await check(ssl.TLSVersion.TLSv1_3, Tls(ca_file=trust, min_version="TLS13"), works=True)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
async def test_old_versions_are_spoken_on_request_only(tmp_path: Path) -> None:
    (authority,) = authorities(tmp_path, "ca")
    context = authority.server_context("localhost")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with raw_server(answering(HELLO), tls=context) as server:
        client = Client(tls=Tls(ca_file=authority.pem))
        with pytest.raises(ConnectError, match="cannot connect: "):
            await get(client, server.port)
        await client.aclose()
        client = Client(tls=Tls(ca_file=authority.pem, min_version="TLS10"))
        assert await get(client, server.port) == b"hello"
        await client.aclose()


def test_comments_between_certificates_may_be_in_any_language(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = Tls(ca=f"# Főtanúsítvány\n{authority.pem.read_text()}")
    assert tls.context.cert_store_stats()["x509_ca"] == 1


async def test_a_common_name_is_no_name_of_a_host(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.server_context("localhost", alternative=False)
    async with raw_server(answering(HELLO), tls=context) as server:
        client = Client(tls=Tls(ca_file=authority.pem))
        with pytest.raises(ConnectError, match="Hostname mismatch"):
            await get(client, server.port)
        await client.aclose()


async def test_whoever_is_in_the_ca_file_is_trusted_though_it_is_no_root(tmp_path: Path) -> None:
    root, middle = authorities(tmp_path, "root", "middle")
    middle = Authority(middle.folder, root)
    context = middle.server_context("localhost")
    for trusted in (middle.pem, middle.folder / "localhost.pem"):
        async with raw_server(answering(HELLO), tls=context) as server:
            client = Client(tls=Tls(ca_file=trusted))
            assert await get(client, server.port) == b"hello"
            await client.aclose()
