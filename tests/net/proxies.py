"""An HTTP proxy on loopback that passes bytes on as they come, whether or not they make sense."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.net.loopback import Raw, raw_server, read_request

_REFUSAL = b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Asked:
    """What a proxy has been asked for."""

    raw: Raw
    tls: ssl.SSLContext | None = None
    heads: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.raw.url if self.tls is None else self.raw.url.replace("http:", "https:")

    @property
    def lines(self) -> list[str]:
        return [head.split(b"\r\n")[0].decode() for head in self.heads]


@asynccontextmanager
async def proxy_server(
    *,
    credentials: str = "",
    refusal: bytes = b"",
    ports: Callable[[str, int], int] = lambda _host, port: port,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Asked]:
    """A proxy that leads every host to 127.0.0.1 on the port that `ports` says, unless it refuses."""
    wanted = f"proxy-authorization: basic {b64encode(credentials.encode()).decode()}".lower()

    def refused(head: bytes) -> bytes:
        if credentials and wanted not in head.decode("latin-1").lower().split("\r\n"):
            return b"407 Proxy Authentication Required"
        return refusal

    async def behave(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del raw
        upstream: asyncio.StreamWriter | None = None
        back: asyncio.Task[None] | None = None
        try:
            while request := await read_request(reader):
                asked.heads.append(request)
                if why := refused(request):
                    writer.write(_REFUSAL % why)
                    continue
                method, url, _ = request.split(b" ", 2)
                host, port = _place(method, url.decode())
                if upstream is None:
                    to_us, upstream = await asyncio.open_connection("127.0.0.1", ports(host, port))
                    back = asyncio.create_task(_pass_on(to_us, writer))
                if method == b"CONNECT":
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    await _pass_on(reader, upstream)
                    return
                start = url.index(b"/", 8) if b"/" in url[8:] else len(url)
                upstream.write(request.replace(url, url[start:] or b"/", 1))
        finally:
            if upstream is not None:
                upstream.transport.abort()
            if back is not None:
                await asyncio.gather(back, return_exceptions=True)

    async with raw_server(behave, tls=tls) as raw:
        asked = Asked(raw, tls)
        yield asked


def _place(method: bytes, url: str) -> tuple[str, int]:
    parts = urlsplit(f"//{url}" if method == b"CONNECT" else url)
    return parts.hostname or "", parts.port or 80


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
