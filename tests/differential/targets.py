"""Targets that do as they are told: each scraper is served the same pages in the same order, however often it comes.

Nothing but sockets, so that a page can be wrong in ways no HTTP library lets through.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Manner = Literal["whole", "gzip", "chunked", "unframed", "hang", "stall", "short", "long", "close"]
_TIME = re.compile(rb"@(@?)(-?[0-9]+)")
_PATIENCE_S = 60
_PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class Page:
    """One answer, and in which manner it is given.

    `unframed` ends with the connection, `hang` says nothing, `stall` stops in the middle of the body, `short` ends
    the connection there, `long` says a length that leaves the last five bytes out, `close` ends the connection at once.
    `headerless` pages answer 401 to who brings `Authorization`.
    `@5` in a body is the time five milliseconds after the targets opened, `@@5` the same in seconds.
    """

    body: str | bytes = ""
    status: int = 200
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = "whole"
    headerless: bool = False

    @property
    def times_out(self) -> bool:
        return self.manner in ("hang", "stall")

    def answer(self, opened_ms: int) -> bytes:
        """Head and body as they go over the wire."""
        body = self.body if isinstance(self.body, bytes) else self.body.encode()
        body = _TIME.sub(lambda found: _time(opened_ms + int(found[2]), in_s=bool(found[1])), body)
        headers = {"Content-Type": self.content_type} if self.content_type else {}
        if self.manner == "gzip":
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        if self.manner == "chunked":
            headers["Transfer-Encoding"] = "chunked"
            body = _chunked(body)
        elif self.manner == "unframed":
            headers["Connection"] = "close"
        else:
            headers["Content-Length"] = str(len(body) - 5 * (self.manner == "long"))
        lines = [f"{name}: {value}\r\n" for name, value in {**headers, **self.headers}.items()]
        head = f"HTTP/1.1 {self.status} Whatever\r\n{''.join(lines)}\r\n".encode()
        if self.manner in ("stall", "short"):
            body = body[: len(body) // 2]
        return head + body


def _time(stamp_ms: int, *, in_s: bool) -> bytes:
    return b"%.3f" % (stamp_ms / 1000) if in_s else b"%d" % stamp_ms


def _chunked(body: bytes) -> bytes:
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


EXTRA = ("X-Extra", "X-Prometheus-Refresh-Interval-Seconds", "Proxy-Authorization")


@dataclass(frozen=True)
class Asked:
    """What a request said that scrapers have to say alike; `extra` are the values of `EXTRA`."""

    url: str
    authorization: str
    timeout: str
    extra: str
    accept: str


class Targets:
    """Serves the pages under `/<name>` and below, to each scraper its own sequence; the last page stays.

    Until `open` every target answers 503, so that both scrapers begin with the first page. What stands in `aside` is
    served under `/aside/<name>` at any time. Who asks is told by the `User-Agent`. As a proxy it knows every host, and
    connects to port 443 of each, which is `tls_port` here.
    """

    def __init__(self, pages: Mapping[str, Sequence[Page]]) -> None:
        self.pages = dict(pages)
        self.aside: dict[str, Page] = {}
        self.tls_port = 0
        self.served: Counter[tuple[str, str]] = Counter()
        self.asked: defaultdict[tuple[str, str], set[Asked]] = defaultdict(set)
        self.opened_ms = 0
        self._again = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()

    def open(self, now_ms: int) -> None:
        self.opened_ms = now_ms

    async def wait(self, names: Sequence[str], pages: int, scrapers: Sequence[str]) -> None:
        """Wait until each of `scrapers` has been served so many pages of every name; AssertionError if it never is."""
        deadline = time.monotonic() + _PATIENCE_S
        for name, scraper in [(name, scraper) for name in names for scraper in scrapers]:
            while self.served[name, scraper] < pages:
                assert time.monotonic() < deadline, f"{name}: {scraper} asked no more"
                self._again.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._again.wait(), 1)

    @asynccontextmanager
    async def listening(
        self, port: int = 0, hosts: Sequence[str] = ("127.0.0.1",), tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[str]:
        """Yields `host:port`; connections there are at the end are cut."""
        server = await asyncio.start_server(self._converse, hosts[:1], port, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        others = [await asyncio.start_server(self._converse, host, port) for host in hosts[1:]]
        try:
            yield f"{hosts[0]}:{port}"
        finally:
            for one in (server, *others):
                one.close()
            for handler in self._handlers:
                handler.cancel()
            await asyncio.gather(*self._handlers, return_exceptions=True)
            for one in (server, *others):
                await one.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the server is closing, which is no news to the loop's own callback
        finally:
            self._handlers.discard(handler)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether another one may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if head.startswith("CONNECT "):
            return await self._connect(head, reader, writer)
        body = await reader.readexactly(int(_header(head, "Content-Length") or 0))
        page = self._page(head, body.decode())
        if page.manner == "close":
            return False
        if page.manner != "hang":
            answer = memoryview(page.answer(self.opened_ms))
            for at in range(0, len(answer), _PIECE_BYTES):  # until the other side has had enough
                writer.write(answer[at : at + _PIECE_BYTES])
                await writer.drain()
        if page.times_out:
            await reader.read(1)  # until the other side gives up
        return not page.times_out and page.manner not in ("short", "unframed")

    async def _connect(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Literal[False]:
        """Pass bytes on to the TLS port and back. The host's first part tells the scenario."""
        host = head.split(" ", 2)[1]
        # Whatever it says of `Accept` is not about the target.
        without = re.sub("\r\nAccept:[^\r]*", "", head)
        self._note(host.partition(".")[0].replace("-", "_"), without, host)
        if not host.endswith(":443"):
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return False
        from_target, to_target = await asyncio.open_connection("127.0.0.1", self.tls_port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(reader, to_target))
                both.create_task(_pass_on(from_target, writer))
        finally:
            to_target.close()
        return False

    def _note(self, name: str, head: str, url: str) -> str:
        """Keep what was asked; returns who did."""
        agent = _header(head, "User-Agent").lower()
        # A CONNECT and a request for a token are in the name of Go's client.
        scraper = "judge" if "prometheus" in agent or "go-http-client" in agent else "trunkline"
        words = ("Authorization", "X-Prometheus-Scrape-Timeout-Seconds", "Accept")
        authorization, timeout, accept = (_header(head, word) for word in words)
        extra = ", ".join(filter(None, (_header(head, word) for word in EXTRA)))
        self.asked[name, scraper].add(Asked(url, authorization, timeout, extra, accept))
        return scraper

    def _page(self, head: str, body: str) -> Page:
        method, _, rest = head.partition("\r\n")[0].partition(" ")
        url = rest.rpartition(" ")[0]
        name, _, below = urlsplit(url).path.strip("/").partition("/")
        if name == "aside":
            name = below
            said = f"{url} {sorted(parse_qsl(body))}" if method == "POST" else url
            self._note(name, head, said)
            page = self.aside[name]
            return Page(status=401) if page.headerless and _header(head, "Authorization") else page
        if not self.opened_ms:
            return Page(status=503)
        if name not in self.pages:
            return Page(status=404)
        scraper = self._note(name, head, url)
        pages = self.pages[name]
        page = pages[min(self.served[name, scraper], len(pages) - 1)]
        self.served[name, scraper] += 1
        self._again.set()
        return page


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def _header(head: str, name: str) -> str:
    """The values of a header, which may be in one line or in several."""
    found = re.findall(rf"^{name}:([^\r\n]*)", head, re.IGNORECASE | re.MULTILINE)
    return ", ".join(one.strip(" \t") for one in found)
