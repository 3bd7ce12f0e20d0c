"""A crowd of targets, an endpoint with a tally behind it, collectors one after the other, and how they do over time."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from faults import process
from faults.crowd import Crowd, Tally
from faults.endpoint import Endpoint
from faults.process import Collector
from faults.stage import EXPORTER, configuration

LOOK_S: Final = 0.5
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Look:
    """A collector at a moment: s by the monotonic clock, which of them, bytes of memory, s of CPU, queue, stored."""

    at_s: float
    collector: int
    rss: int
    cpu_s: float
    queue_bytes: int
    stored: int


class Site:
    """Entered once. Whatever is done to it, its looks go on."""

    def __init__(
        self, targets: int, series: int, interval_s: float = 1.0, exporter: Mapping[str, Any] | None = None
    ) -> None:
        self.crowd = Crowd(targets, series)
        self.tally = Tally(self.crowd)
        self.endpoint = Endpoint(self.tally)
        self.interval_s = interval_s
        self.looks: list[Look] = []
        self.collectors: list[Collector] = []
        self.cut_off: set[tuple[str, int]] = set()
        """Scrapes (address, number) under way when a collector was told to end, of which nothing is stored."""
        self._exporter = dict(exporter or {})
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="trunkline-faults-")))
        self.data_dir = self.folder / "data"
        await self._exits.enter_async_context(self.crowd)
        await self.endpoint.open()
        self._exits.push_async_callback(self.endpoint.close)
        self._exits.push_async_callback(self.end)
        looking = asyncio.ensure_future(self._look_on())
        self._exits.callback(looking.cancel)
        self._write_config()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._exits.aclose()

    @property
    def collector(self) -> Collector:
        """The last one that was started."""
        return self.collectors[-1]

    async def start(self) -> Collector:
        """One more collector, running."""
        number = len(self.collectors)
        self.collectors.append(await process.start(self.folder, self.data_dir, number, {}, [], LOOK_S))
        await self.collector.ready()
        return self.collector

    async def stop(self) -> int:
        """Tell the last collector to end, when it has delivered everything; its exit code."""
        before = [len(one.served) for one in self.crowd.all]
        code = await self.collector.terminate()
        for one, served in zip(self.crowd.all, before, strict=True):
            last = range(max(served, 1), len(one.served) + 1)
            self.cut_off |= {(one.address, scrape) for scrape in last if self.tally.lacks(one, scrape)}
        return code

    def caught_up(self) -> bool:
        """Whether the newest of what was scraped is stored."""
        return self.tally.age_s() < 2 * self.interval_s + 2.0

    def _write_config(self) -> None:
        exporters = {EXPORTER: {"endpoint": self.endpoint.write_url, **self._exporter}}
        document = configuration([one.address for one in self.crowd.all], self.interval_s, exporters)
        (self.folder / "config.json").write_text(json.dumps(document))

    async def end(self) -> None:
        """Kill what still runs."""
        for one in self.collectors:
            if one.process.returncode is None:
                await one.kill()

    async def _look_on(self) -> None:
        while True:
            if self.collectors:
                with suppress(OSError, IndexError):
                    self.looks.append(self._look())
            await asyncio.sleep(LOOK_S)

    def _look(self) -> Look:
        folder = Path("/proc", str(self.collector.process.pid))
        rss = int((folder / "statm").read_text().split()[1]) * _PAGE_BYTES
        times = (folder / "stat").read_text().rpartition(")")[2].split()
        cpu_s = (int(times[11]) + int(times[12])) / _TICKS_PER_S
        waiting = process.queue_bytes(self.data_dir)
        number = len(self.collectors) - 1
        return Look(time.monotonic(), number, rss, cpu_s, waiting, self.tally.samples)
