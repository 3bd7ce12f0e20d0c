"""The collector and a Prometheus as processes, and one place where both of them write to."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from trunkline.model import Labels
from trunkline.wire.remote_write import decode_write_request
from trunkline.wire.snappy import decompress

PROMETHEUS = os.environ.get("TRUNKLINE_JUDGE") or shutil.which("prometheus")
"""Debian's, or the one that TRUNKLINE_JUDGE names."""
NODE_EXPORTER = shutil.which("prometheus-node-exporter")
SCENARIO = "scenario"
"""The label that tells the scenarios apart."""
PATH: Mapping[str, str] = {"PATH": os.environ["PATH"]}
Arrived = list[tuple[Labels, float, int]]
"""Labels, value and timestamp in milliseconds of samples in the order of their arrival."""


def judge_version(program: str | None = PROMETHEUS) -> tuple[int, int]:
    """Major and minor version of the judge."""
    assert program is not None
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+)\.(\d+)", text.stdout + text.stderr)
    # A Prometheus built from its Go module names no version; one that is built so is the 3.5 of the benchmark.
    return (int(found[1]), int(found[2])) if found else (3, 5)


@dataclass
class Inbox:
    """Keeps every sample by who wrote it (`/judge` or `/trunkline`) and by the scenario it is labelled with."""

    arrived: defaultdict[str, defaultdict[str, Arrived]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    address: str = ""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        written = decode_write_request(decompress(await request.read(), 1 << 28))
        by_scenario = self.arrived[request.match_info["who"]]
        for series in written.series:
            kept = by_scenario[dict(series.labels).get(SCENARIO, "")]
            kept += [(series.labels, one.value, one.timestamp_ms) for one in series.samples]
        self._news.set()
        return web.Response(status=204)

    async def news(self) -> None:
        """Wait until something arrives."""
        self._news.clear()
        await self._news.wait()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        application = web.Application(client_max_size=1 << 28)
        application.router.add_post("/{who}", self.take)
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.address = f"127.0.0.1:{runner.addresses[0][1]}"
            yield
        finally:
            await runner.cleanup()


@dataclass
class Running:
    """A process, and the lines it has logged so far."""

    process: asyncio.subprocess.Process
    log: list[str]
    ending: bool = False

    def most_memory_bytes(self) -> int:
        """The most memory it ever had resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


@asynccontextmanager
async def running(command: list[str], env: Mapping[str, str]) -> AsyncIterator[Running]:
    """A process with its log read as it comes; it is ended in the end.

    Raises AssertionError with the end of its log as soon as it ends by itself.
    """
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    started = Running(process, [])
    user = asyncio.current_task()
    assert user is not None

    async def read() -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            started.log.append(line.decode(errors="replace").rstrip())
        if not started.ending:
            user.cancel()

    reading = asyncio.create_task(read())
    try:
        yield started
    except asyncio.CancelledError:
        if not reading.done():
            raise
        user.uncancel()
        raise AssertionError("\n".join([f"{command[0]} has ended by itself:", *started.log[-20:]])) from None
    finally:
        started.ending = True
        if process.returncode is None:
            process.kill()
        await reading
        await process.wait()


@asynccontextmanager
async def prometheus(
    folder: Path,
    scraping: Mapping[str, Any],
    inbox: Inbox,
    program: str | None = PROMETHEUS,
    env: Mapping[str, str] = PATH,
    around: Callable[[list[str]], list[str]] = list,
) -> AsyncIterator[str]:
    """A Prometheus that scrapes so and writes to the inbox; yields its address. `around` goes around its command."""
    assert program is not None
    url = f"http://{inbox.address}/judge"
    queue = {"batch_send_deadline": "50ms", "min_shards": 1, "max_shards": 1}
    written = {"url": url, "queue_config": queue, "metadata_config": {"send": False}}
    config = _written(folder / "prometheus.yml", json.dumps({**scraping, "remote_write": [written]}))
    address = free_address()
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
        "--enable-feature=extra-scrape-metrics",
    ]
    async with running(around(command), {**env, "GOGC": "50"}):
        yield address


@asynccontextmanager
async def collector(
    folder: Path,
    scraping: Mapping[str, Any],
    inbox: Inbox,
    env: Mapping[str, str] = PATH,
    around: Callable[[list[str]], list[str]] = list,
    **receiver: Any,
) -> AsyncIterator[Running]:
    """A collector that scrapes so and writes to the inbox; `receiver` are further keys of the receiver."""
    exporter = {"endpoint": f"http://{inbox.address}/trunkline", "retry_on_failure": {"max_interval": "1s"}}
    config = {
        "receivers": {"prometheus": {"config": scraping, **receiver}},
        "exporters": {"prometheusremotewrite": exporter},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["prometheusremotewrite"]}},
        },
    }
    path = _written(folder / "collector.yaml", json.dumps(config).replace("$", "$$"))
    command = [sys.executable, "-m", "trunkline", "collector", "run", "--config", str(path)]
    command += ["--data-dir", str(folder / "data"), "--health-address", "127.0.0.1:0"]
    async with running(around(command), env) as started:
        yield started


def _written(file: Path, text: str) -> Path:
    """A configuration in a folder of its own; JSON is YAML."""
    file.parent.mkdir()
    file.write_text(text)
    return file


@contextmanager
def first_served() -> Iterator[None]:
    """This process and those it starts go before others on a busy machine, where that is allowed."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def free_address() -> str:
    """An address of loopback where nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"
