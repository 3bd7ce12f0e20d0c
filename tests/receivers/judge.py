"""A real Prometheus beside the receiver: both scrape the same targets, and what each made of it is compared.

Debian's Prometheus is the judge; TRUNKLINE_JUDGE names another one.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import struct
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from trunkline.model import Labels
from trunkline.testing import SeenBatch
from trunkline.wire import varint
from trunkline.wire.remote_write import decode_write_request
from trunkline.wire.snappy import compress, decompress

PROMETHEUS = os.environ.get("TRUNKLINE_JUDGE") or shutil.which("prometheus")
TEXT = "text/plain; version=0.0.4"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True)
class Page:
    """One answer of a target."""

    body: str = ""
    status: int = 200
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """One sample: when is the number of the scrape, or a timestamp in milliseconds that is its own."""

    labels: Labels
    bits: int
    when: tuple[str, int]


class Targets:
    """Serves every scenario its pages, to each scraper its own; the last page stays."""

    def __init__(self, pages: Mapping[str, Sequence[Page]]) -> None:
        self._pages = pages
        self.served: Counter[tuple[str, bool]] = Counter()
        self._asked = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        key = name, "Prometheus" in request.headers.get("User-Agent", "")
        pages = self._pages[name]
        page = pages[min(self.served[key], len(pages) - 1)]
        self.served[key] += 1
        self._asked.set()
        headers = {"Content-Type": page.content_type} if page.content_type else {}
        return web.Response(status=page.status, body=page.body.encode(), headers={**headers, **page.headers})

    async def wait(self, names: Iterable[str], scrapes: int) -> None:
        """Wait until both scrapers have seen so many pages of every scenario."""
        keys = [(name, judge) for name in names for judge in (True, False)]
        while any(self.served[key] < scrapes for key in keys):
            self._asked.clear()
            await self._asked.wait()


@asynccontextmanager
async def listening(targets: Targets) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/{name}", targets.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def prometheus(folder: Path, config: Mapping[str, Any], port: int) -> AsyncIterator[str]:
    """A Prometheus with this configuration (JSON is YAML); yields its URL."""
    assert PROMETHEUS is not None
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))
    arguments = [
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        "--enable-feature=extra-scrape-metrics",
    ]
    process = await asyncio.create_subprocess_exec(PROMETHEUS, *arguments)
    try:
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session:
            for _ in range(400):
                try:
                    async with session.get(f"{url}/-/ready") as response:
                        if response.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def stored(url: str, start_ms: int, end_ms: int) -> list[tuple[Labels, float, int]]:
    """Every sample between the times, stale markers too, by remote read."""

    def number(tag: int, value: int) -> bytes:
        return varint.encode(tag << 3) + varint.encode_signed(value)

    def text(tag: int, value: bytes) -> bytes:
        return varint.encode(tag << 3 | 2) + varint.encode(len(value)) + value

    matcher = number(1, 1) + text(2, b"__name__") + text(3, b"")
    request = text(1, number(1, start_ms) + number(2, end_ms) + text(3, matcher))
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/api/v1/read", data=compress(request), headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        raw = decompress(await response.read(), 1 << 28)
    samples = []
    position = 0
    while position < len(raw):  # ReadResponse: one QueryResult, which has the form of a write request
        _, position = varint.decode(raw, position)
        size, position = varint.decode(raw, position)
        for series in decode_write_request(raw[position : position + size]).series:
            samples += [(series.labels, one.value, one.timestamp_ms) for one in series.samples]
        position += size
    return samples


def recorded(
    batches: Iterable[SeenBatch], extras: Iterable[tuple[Labels, float, int]]
) -> list[tuple[Labels, float, int]]:
    """What the receiver handed on, in the same form."""
    found = [(one.series.labels, one.value, one.timestamp_ms) for batch in batches for one in batch.samples]
    return found + list(extras)


def bits_of(value: float) -> int:
    [bits] = struct.unpack("<Q", struct.pack("<d", value))
    return int(bits)


def by_scrape(samples: Iterable[tuple[Labels, float, int]], scrapes: int) -> dict[str, set[Seen]]:
    """Samples by target, with scrapes counted from 0 by the times of `up`; later ones left out."""
    by_job: defaultdict[str, list[tuple[Labels, float, int]]] = defaultdict(list)
    for labels, value, stamp in samples:
        own = dict(labels)
        by_job[own["job_name"] + own.get("target_number", "")].append((labels, value, stamp))
    found = {}
    for job, all_ in by_job.items():
        times = sorted({stamp for labels, _, stamp in all_ if dict(labels)["__name__"] == "up"})
        numbers = {stamp: number for number, stamp in enumerate(times)}
        last = times[min(scrapes, len(times)) - 1]
        found[job] = {
            Seen(labels, bits_of(value), ("scrape", numbers[stamp]) if stamp in numbers else ("at", stamp))
            for labels, value, stamp in all_
            if stamp <= last and dict(labels)["__name__"] != "scrape_duration_seconds"
        }
    return found
