"""One collector as a process, and what can be seen of it from outside while it lives."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from faults.endpoint import free_port
from faults.samples import read_exposition
from trunkline.simulator.child import tied_to_parent

LOOK_S: Final = 0.2
PATIENCE_S: Final = 40.0
"""Nothing here takes this long on the slowest machine unless it is broken."""
UNDER_LOAD_S: Final = 5 * PATIENCE_S
"""The same where an endpoint written in Python has to look at every one of a million samples."""
REFUSED: Final = "trunkline_refused_samples_total"
_LOST: Final = re.compile(r": (\d+) samples (?:given up|refused, of)")


class TooSlowError(AssertionError):
    """Something that must happen has not, for a long time."""


@dataclass
class Looks:
    """The most that was ever seen; sizes in bytes."""

    rss: int = 0
    queue: int = 0
    waiting: int = 0


@dataclass
class Collector:
    """A running collector. `ready_s` and `ended_s` are seconds since the epoch."""

    process: asyncio.subprocess.Process
    data_dir: Path
    log_path: Path
    metrics_port: int
    looks: Looks = field(default_factory=Looks)
    shown: dict[tuple[str, str], float] = field(default_factory=dict)
    """Its own metrics as it showed them last."""
    shown_s: float = 0.0
    ready_s: float = 0.0
    ended_s: float = 0.0
    gone_s: float = 0.0
    """When it was seen to have ended, in s since the epoch; 0 as long as it lives."""
    killed: bool = False
    _watching: asyncio.Task[None] | None = None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def value(self, name: str) -> float:
        """One of its own metrics, summed over labels, as it was seen last."""
        return sum(value for (one, _), value in self.shown.items() if one == name)

    def refused(self) -> Counter[str]:
        """Samples given up, by reason."""
        found = {label: value for (name, label), value in self.shown.items() if name == REFUSED}
        return Counter({reason: int(value) for reason, value in found.items() if value})

    def refused_in_log(self) -> int:
        return sum(int(number) for number in _LOST.findall(self.log))

    async def said(self, pattern: str, timeout_s: float = PATIENCE_S) -> None:
        await until(lambda: re.search(pattern, self.log), f"the log to say {pattern!r}", timeout_s)

    async def ready(self) -> None:
        """Wait until it runs."""
        await self.said("running: ")
        self.ready_s = time.time()

    async def looked(self) -> None:
        """Wait for a look at its metrics that begins from now on."""
        now_s = time.time()
        await until(lambda: self.shown_s > now_s, "the collector's own metrics")

    async def settled(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until nothing waits in the queue but what is new: on a busy machine that may always be some seconds old."""
        began_s, end_s = time.time(), time.monotonic() + timeout_s
        while True:
            await self.looked()
            if self.value("trunkline_queue_oldest_age_seconds") < max(2.0, self.shown_s - began_s):
                return
            if time.monotonic() > end_s:
                raise TooSlowError(f"the queue is not delivered within {timeout_s:g} s:\n{self.log[-2000:]}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def terminate(self) -> int:
        """SIGTERM; its exit code."""
        self.ended_s = time.time()
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """SIGKILL."""
        self.ended_s, self.killed = time.time(), True
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
        self.gone_s = self.gone_s or time.time()
        self.ended_s = self.ended_s or self.gone_s
        if self._watching is not None:
            self._watching.cancel()
        return code

    def watch(self, look_s: float) -> None:
        self._watching = asyncio.ensure_future(self._watch(look_s))

    async def _watch(self, look_s: float) -> None:
        while True:
            self._look()
            began_s = time.time()
            with suppress(OSError, TimeoutError, ValueError, IndexError):
                self.shown = read_exposition(await get(self.metrics_port))
                self.shown_s = began_s
                waiting = int(self.value("trunkline_queue_samples"))
                self.looks.waiting = max(self.looks.waiting, waiting)
            await asyncio.sleep(look_s)

    def _look(self) -> None:
        with suppress(OSError):
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            self.looks.rss = max(self.looks.rss, int(found[1]) * 1024 if found else 0)
        with suppress(OSError):
            self.looks.queue = max(self.looks.queue, queue_bytes(self.data_dir))


def queue_bytes(data_dir: Path) -> int:
    """The size of all segments under a data directory."""
    size = 0
    for path in data_dir.rglob("*.seg"):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


async def start(
    folder: Path,
    data_dir: Path,
    number: int,
    environment: Mapping[str, str],
    arguments: Sequence[str],
    look_s: float = LOOK_S,
) -> Collector:
    """A collector of the configuration in `folder`, looked at every `look_s`."""
    log_path, port = folder / f"collector-{number}.log", free_port()
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ECS_", "AOT_"))
    }
    given = ["--config", str(folder / "config.json"), "--data-dir", str(data_dir)]
    given += ["--health-address", "127.0.0.1:0", "--metrics-address", f"127.0.0.1:{port}", *arguments]
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *tied_to_parent([sys.executable, "-m", "trunkline", "collector", "run", *given]),
            env={**inherited, "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent", **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    collector = Collector(process, data_dir, log_path, port)
    collector.watch(look_s)
    return collector


async def get(port: int) -> str:
    """The body that a loopback port answers to `GET /metrics`."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: faults\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(re.findall(rb"content-length: *(\d+)", head.lower())[0])
            return (await reader.readexactly(size)).decode()
        except asyncio.IncompleteReadError as error:
            raise ValueError("it ended in the middle") from error
        finally:
            writer.close()


async def until(holds: object, what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until calling `holds` gives something true. Raises TooSlowError."""
    assert callable(holds)
    end_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end_s:
            raise TooSlowError(f"waited {timeout_s:g} s for {what}")
        await asyncio.sleep(0.05)
