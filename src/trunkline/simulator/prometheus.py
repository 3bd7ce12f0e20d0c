"""A real Prometheus server of our own: started small, on a free port of loopback, gone with us."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from trunkline.errors import SimulatorError
from trunkline.simulator.child import end, tied_to_parent

# The gateway decides what is accepted; the server behind it must take whatever the gateway lets through, so its
# own window is wider than any sample's permitted age.
_CONFIG = """\
global:
  scrape_interval: 1h
storage:
  tsdb:
    out_of_order_time_window: 3h
"""

_ENVIRONMENT = {"GOGC": "40", "GOMEMLIMIT": "256MiB", "GOMAXPROCS": "2"}
_ATTEMPTS = 3
_PATIENCE_S = 3.0
_LOG_TAIL_CHARACTERS = 600


def find_prometheus() -> str:
    """The path of the `prometheus` program.

    Raises:
        SimulatorError: there is none on the PATH.
    """
    if found := shutil.which("prometheus"):
        return found
    raise SimulatorError(
        "no `prometheus` program on the PATH, which keeps the workspace's data: "
        "`apt-get install prometheus`, or put any Prometheus 2.42 or newer on the PATH",
    )


class PrometheusServer:
    """One server with its data, configuration and log under `folder`, which it creates and removes.

    It scrapes nothing; it takes remote write and answers queries at `url`. Start it from a thread that lives as
    long as the process (see `child.tied_to_parent`).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The root of its HTTP API, without a trailing slash."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process while it is started."""
        return self._process.pid if self._process else None

    async def start(self, timeout_s: float = 30.0) -> None:
        """Start it and wait until it answers.

        Raises:
            SimulatorError: not installed, ended by itself, or not ready in time.
        """
        program = find_prometheus()
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "prometheus.yml").write_text(_CONFIG)
        deadline = time.monotonic() + timeout_s
        for _ in range(_ATTEMPTS):
            # Between choosing the port and listening on it somebody else may take it.
            self._port = _free_port()
            self._launch(program)
            if await self._ready(deadline):
                return
            await self._end_process()
            if "address already in use" not in self._log_tail():
                break
        raise SimulatorError(
            f"prometheus did not start within {timeout_s:g} s; its log ends: {self._log_tail()}"
        )

    async def stop(self) -> None:
        """End it and remove its folder; nothing happens when it is not started."""
        await self._end_process()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _launch(self, program: str) -> None:
        command = [
            program,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            "--storage.tsdb.retention.time=2d",
            "--storage.tsdb.wal-segment-size=10MB",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--web.enable-remote-write-receiver",
            "--enable-feature=native-histograms",
            "--log.level=warn",
        ]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 (a fixed command)
                tied_to_parent(command),
                cwd=self._folder,
                env={**os.environ, **_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _ready(self, deadline: float) -> bool:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as client:
            while time.monotonic() < deadline and self._process and self._process.poll() is None:
                try:
                    async with client.get(f"{self.url}/-/ready") as answer:
                        if answer.status == 200:
                            return True
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.05)
        return False

    async def _end_process(self) -> None:
        if self._process:
            await end(self._process, _PATIENCE_S)
            self._process = None

    def _log_tail(self) -> str:
        log = self._folder / "prometheus.log"
        return log.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:].strip() if log.exists() else "(no log)"


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
