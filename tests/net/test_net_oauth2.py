import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from tests.net.loopback import Authority, Raw, answering, hanging, raw_server, read_request
from tests.net.proxies import proxy_server

from trunkline.errors import FetchError, FetchTimeoutError
from trunkline.net.client import Client, ClientFactory
from trunkline.net.files import Secret
from trunkline.net.message import Request, Response
from trunkline.net.oauth2 import OAuth2, TokenSource, WithToken
from trunkline.net.proxy import ProxySettings
from trunkline.net.settings import HttpSettings, http_client
from trunkline.net.tls import Tls

Behave = Callable[[Raw, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(status: str, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass
class Issuer:
    """A token server with one client, `me`; its tokens are `t1`, `t2` and so on, and count until revoked."""

    secret: str = "hush"
    fields: dict[str, object] = field(default_factory=dict)
    in_body: bool = False
    delay_s: float = 0.0
    issued: int = 0
    valid: set[str] = field(default_factory=set)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def issue(self, raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del raw
        while request := await read_request(reader):
            head, _, body = request.decode().partition("\r\n\r\n")
            form = dict(parse_qsl(body, keep_blank_values=True))
            basic = next(
                (line[21:] for line in head.split("\r\n") if line.startswith("Authorization: Basic")), ""
            )
            self.asked.append((basic, form))
            await asyncio.sleep(self.delay_s)
            writer.write(self._answer(basic, form))

    def _answer(self, basic: str, form: dict[str, str]) -> bytes:
        wanted = b64encode(f"me:{self.secret}".encode()).decode()
        shown = form.get("client_secret") == self.secret if self.in_body else basic == wanted
        if not shown:
            return answer("401 Unauthorized", b'{"error": "invalid_client", "error_description": "who?"}')
        self.issued += 1
        self.valid = {f"t{self.issued}"}
        return answer("200 OK", json.dumps({"access_token": f"t{self.issued}", **self.fields}).encode())

    async def serve(self, raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The target, which takes valid tokens only."""
        while request := await read_request(reader):
            raw.requests.append(request)
            good = any(f"\r\nAuthorization: Bearer {token}\r\n".encode() in request for token in self.valid)
            writer.write(answer("200 OK", b"metrics") if good else answer("401 Unauthorized", b""))


def settings(issuer: Raw, **others: object) -> OAuth2:
    values: dict[str, object] = {"client_secret": Secret("hush"), **others}
    return OAuth2("me", f"{issuer.url}/token", **values)  # type: ignore[arg-type]


def client_of(oauth2: OAuth2, clock: Callable[[], float] | None = None) -> WithToken:
    source = TokenSource(oauth2, Client(), clock) if clock else TokenSource(oauth2, Client())
    return WithToken(Client(), source)


async def get(client: WithToken, url: str, timeout_s: float = 5.0) -> Response:
    return await client.exchange(Request("GET", url, {"authorization": "replaced"}), timeout_s=timeout_s)


async def test_a_token_is_got_once_and_shown() -> None:
    issuer = Issuer(fields={"token_type": "bearer", "expires_in": 3600})
    async with raw_server(issuer.issue) as tokens, raw_server(issuer.serve) as target:
        oauth2 = settings(tokens, scopes=("a", "b"), endpoint_params=(("audience", "x&y"),))
        client = client_of(oauth2)
        for _ in range(3):
            assert (await get(client, target.url)).body == b"metrics"
        await client.aclose()
    basic = b64encode(b"me:hush").decode()
    form = {"grant_type": "client_credentials", "scope": "a b", "audience": "x&y"}
    assert issuer.asked == [(basic, form)]
    assert not any(b"replaced" in request for request in target.requests)


async def test_credentials_are_escaped_in_the_header() -> None:
    issuer = Issuer()
    async with raw_server(issuer.issue) as tokens:
        oauth2 = OAuth2("m e", f"{tokens.url}/token", Secret("a:b%"))
        client = client_of(oauth2)
        with pytest.raises(FetchError):
            await get(client, "http://127.0.0.1:1/")
        await client.aclose()
    assert issuer.asked[0][0] == b64encode(b"m+e:a%3Ab%25").decode()
    assert issuer.asked[1][1] == {
        "grant_type": "client_credentials",
        "client_id": "m e",
        "client_secret": "a:b%",
    }


async def test_a_server_that_wants_credentials_in_the_body_is_remembered() -> None:
    issuer = Issuer(in_body=True)
    async with raw_server(issuer.issue) as tokens, raw_server(issuer.serve) as target:
        client = client_of(settings(tokens))
        assert (await get(client, target.url)).status == 200
        issuer.valid = set()
        assert (await get(client, target.url)).status == 200
        await client.aclose()
    assert ["client_secret" in form for _, form in issuer.asked] == [False, True, True]


async def test_one_request_serves_all_who_wait() -> None:
    issuer = Issuer(delay_s=0.05)
    async with raw_server(issuer.issue) as tokens, raw_server(issuer.serve) as target:
        client = client_of(settings(tokens))
        answers = await asyncio.gather(*(get(client, target.url) for _ in range(20)))
        assert {found.status for found in answers} == {200}
        assert issuer.issued == 1
        issuer.valid = set()
        answers = await asyncio.gather(*(get(client, target.url) for _ in range(20)))
        assert {found.status for found in answers} == {200}
        assert issuer.issued == 2
        await client.aclose()


async def test_who_gives_up_does_not_take_the_token_from_the_others() -> None:
    issuer = Issuer(delay_s=0.1)
    async with raw_server(issuer.issue) as tokens, raw_server(issuer.serve) as target:
        client = client_of(settings(tokens))
        hasty = asyncio.create_task(get(client, target.url, 0.02))
        patient = asyncio.create_task(get(client, target.url))
        with pytest.raises(
            FetchTimeoutError, match=r"nothing was sent, there is no OAuth2 token within 0.02s"
        ):
            await hasty
        assert (await patient).status == 200
        assert issuer.issued == 1
        await client.aclose()


async def test_a_token_is_renewed_shortly_before_it_expires() -> None:
    now = [1000.0]

    async def check(expires_in: object, good_for_s: float) -> None:
        issuer = Issuer(fields={"expires_in": expires_in})
        async with raw_server(issuer.issue) as tokens, raw_server(issuer.serve) as target:
            client = client_of(settings(tokens), lambda: now[0])
            for step, issued in ((0, 1), (good_for_s - 0.5, 1), (1.0, 2)):
                now[0] += step
                assert (await get(client, target.url)).status == 200
                assert issuer.issued == issued
            await client.aclose()

    await check(3600, 3590)
    await check("60", 50)
    await check(4, 2)
    issuer = Issuer(fields={"expires_in": 0})
    async with raw_server(issuer.issue) as tokens, raw_server(issuer.serve) as target:
        client = client_of(settings(tokens), lambda: now[0])
        for _ in range(2):
            await get(client, target.url)
            now[0] += 1e9
        assert issuer.issued == 1
        await client.aclose()


async def test_a_refused_token_is_renewed_once() -> None:
    issuer = Issuer()
    async with raw_server(issuer.issue) as tokens, raw_server(issuer.serve) as target:
        client = client_of(settings(tokens))
        await get(client, target.url)
        issuer.valid = set()
        assert (await get(client, target.url)).body == b"metrics"
        assert (issuer.issued, len(target.requests)) == (2, 3)
        issuer.valid, issuer.secret = set(), "another"
        with pytest.raises(FetchError, match="its answer was 401, and there is no other OAuth2 token"):
            await get(client, target.url)
        issuer.secret = "hush"
        async with raw_server(answering(answer("401 Unauthorized", b""))) as strict:
            assert (await get(client, strict.url)).status == 401
            assert (issuer.issued, len(strict.requests)) == (3, 2)
        await client.aclose()


async def test_a_server_that_gives_the_same_token_again_ends_it() -> None:
    same = answer("200 OK", b'{"access_token": "same"}')
    async with raw_server(answering(same)) as tokens, raw_server(answering(answer("401 No", b""))) as target:
        client = client_of(settings(tokens))
        assert (await get(client, target.url)).status == 401
        await client.aclose()
    assert (len(tokens.requests), len(target.requests)) == (2, 1)


async def test_the_secrets_file_may_change(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    issuer = Issuer()
    async with raw_server(issuer.issue) as tokens, raw_server(issuer.serve) as target:
        client = client_of(settings(tokens, client_secret=Secret(file=str(path))))
        with pytest.raises(FetchError, match=r"no OAuth2 token: cannot read .*secret: No such file"):
            await get(client, target.url)
        path.write_text("hush\n")
        assert (await get(client, target.url)).status == 200
        issuer.secret = "another"
        path.write_text("another\n")
        assert (await get(client, target.url)).status == 200
        assert issuer.issued == 2
        await client.aclose()


async def test_answers_are_read_in_json_and_as_forms() -> None:
    async def check(token: bytes, expected: str) -> None:
        async with (
            raw_server(answering(token)) as tokens,
            raw_server(answering(answer("200 OK", b""))) as target,
        ):
            client = client_of(settings(tokens))
            await get(client, target.url)
            await client.aclose()
        assert f"Authorization: {expected}\r\n".encode() in target.requests[0]

    await check(answer("200 OK", b'{"access_token": "x"}'), "Bearer x")
    await check(answer("201 Created", b'{"access_token": "x", "token_type": "BEARER"}'), "Bearer x")
    await check(answer("200 OK", b'{"access_token": "x", "token_type": "DPoP"}'), "DPoP x")
    form = "application/x-www-form-urlencoded; charset=utf-8"
    await check(answer("200 OK", b"access_token=a%2Bb&expires_in=3600", form), "Bearer a+b")


async def test_failures_say_what_the_server_said() -> None:
    check_them = "; check token_url, client_id, client_secret and scopes of oauth2"

    async def check(behave: Behave, expected: str, asked: int) -> None:
        async with raw_server(behave) as tokens, raw_server(answering(answer("200 OK", b""))) as target:
            client = client_of(settings(tokens))
            with pytest.raises(FetchError) as caught:
                await get(client, target.url)
            await client.aclose()
        start = f"{target.url}: nothing was sent, there is no OAuth2 token: {tokens.url}: "
        assert str(caught.value) == start + expected
        assert (len(tokens.requests), target.requests) == (asked, [])

    error = b'{"error": "invalid_scope", "error_description": "no such scope"}'
    await check(
        answering(answer("400 Bad Request", error)),
        f"asked for a token, it answered 400 Bad Request: invalid_scope: no such scope{check_them}",
        asked=2,
    )
    await check(
        answering(answer("503 Away", b"<html>", "text/html")),
        f"asked for a token, it answered 503 Away{check_them}",
        asked=2,
    )
    await check(
        answering(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"),
        f"asked for a token, it answered 302 Found{check_them}",
        asked=2,
    )
    nothing = "its answer holds no access_token; check token_url of oauth2"
    await check(answering(answer("200 OK", b"{}")), nothing, asked=2)
    await check(answering(answer("200 OK", b"[1]")), nothing, asked=2)
    await check(answering(answer("200 OK", b"<html>")), nothing, asked=2)
    await check(answering(b"SSH-2.0\r\n\r\n"), "not an HTTP answer, it starts with 'SSH-2.0'", asked=1)


async def test_closing_ends_a_renewal() -> None:
    async with raw_server(hanging) as tokens:
        client = client_of(settings(tokens))
        task = asyncio.create_task(get(client, "http://127.0.0.1:1/"))
        await tokens.asked.wait()
        await client.aclose()
        with pytest.raises(FetchError, match="the client was closed while it asked for one"):
            await task
        async with asyncio.timeout(5):
            await tokens.closed.wait()


async def test_the_way_to_the_token_has_settings_of_its_own(tmp_path: Path) -> None:
    issuer = Issuer()
    authority = Authority(tmp_path)
    async with (
        raw_server(issuer.issue, tls=authority.server_context("token.example")) as tokens,
        raw_server(issuer.serve) as target,
        proxy_server(ports=lambda *_: tokens.port) as proxy,
    ):
        oauth2 = OAuth2(
            "me",
            "https://token.example/t",
            Secret("hush"),
            tls=Tls(ca_file=authority.pem),
            proxy=ProxySettings(proxy.url),
        )
        client = http_client(HttpSettings(oauth2=oauth2), ClientFactory(), {})
        assert (await client.exchange(Request("GET", target.url), timeout_s=5)).body == b"metrics"
        await client.aclose()
    assert proxy.lines == ["CONNECT token.example:443 HTTP/1.1"]


def test_secrets_are_not_shown() -> None:
    oauth2 = OAuth2("me", "http://x/", Secret("hush"), endpoint_params=(("password", "hush"),))
    assert "hush" not in repr(oauth2)
