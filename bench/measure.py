"""One run: a collector against a load, from its start to the proof that everything arrived."""

from __future__ import annotations

import asyncio
import gc
import signal
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Final

from bench.collectors import Collector, Plan, environment
from bench.load import Load
from bench.process import Mark, mark, rss_bytes
from bench.receiver import Receiver, Written
from bench.scenarios import Scenario
from bench.verification import Verdict, decode, judge
from trunkline.simulator.certificates import create_certificates
from trunkline.simulator.child import tied_to_parent

SETTLE_S: Final = 2.0
"""How long a collector goes on after the window before it is stopped, so that what it scraped can arrive."""

_STOP_S: Final = 15.0
_PATIENCE_S: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run found. Times in seconds, memory in bytes; rates are over the window."""

    collector: str
    round: int
    window_s: float
    cpu_s: float
    user_s: float
    system_s: float
    cpu_ns_per_sample: float
    cpu_share: float
    peak_rss_bytes: int
    steady_rss_bytes: int
    wire_bytes_per_sample: float
    requests: int
    first_sample_s: float
    scrapes_expected: int
    scrapes_served: int
    scrapes_delivered: int
    samples_served: int
    samples_delivered: int
    unlabelled_series: int
    exit_code: int | None
    own_cpu_share: float
    others_cpu_share: float


class RunFailedError(Exception):
    """A collector delivered nothing or ended by itself; the message has the end of its log."""


@dataclass(frozen=True)
class _Seen:
    """The window: marks around it, resident memory twice a second in it, and at its peak since the start."""

    before: Mark
    after: Mark
    sizes: list[int]
    peak_bytes: int


@dataclass
class _Watched:
    """A collector's process."""

    collector: Collector
    process: asyncio.subprocess.Process
    log: Path
    started_s: float

    def failed(self, why: str) -> RunFailedError:
        tail = self.log.read_text(errors="replace")[-1500:]
        return RunFailedError(f"{self.collector.title} {why}; the end of its log:\n{tail}")

    async def watch(self, window_s: float) -> _Seen:
        """Measure for `window_s`."""
        sizes: list[int] = []
        before = self._mark()
        while (left_s := before.wall_s + window_s - time.time()) > 0:
            sizes.append(self._rss()[0])
            await asyncio.sleep(min(0.5, left_s))
        return _Seen(before, self._mark(), sizes, self._rss()[1])

    def _rss(self) -> tuple[int, int]:
        try:
            return rss_bytes(self.process.pid)
        except (OSError, KeyError):
            raise self.failed("ended while it was measured") from None

    def _mark(self) -> Mark:
        try:
            return mark(self.process.pid)
        except OSError:
            raise self.failed("ended while it was measured") from None

    async def stop(self) -> int | None:
        """SIGTERM, and SIGKILL for one that stays; returns the exit code of the former."""
        if self.process.returncode is not None:
            return self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.process.wait(), _STOP_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            return None


async def run(scenario: Scenario, collector: Collector, number: int) -> Run:
    """Measure `collector` once. Raises RunFailedError when it delivers nothing at all."""
    gc.freeze()  # what the benchmark is made of is not looked at again
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="trunkline-bench-")))
        tls, ca_file = _certified(folder) if scenario.tls else (None, None)
        load = await exits.enter_async_context(Load(scenario, tls))
        receiver = await exits.enter_async_context(Receiver())
        plan = Plan(scenario, [one.address for one in load.targets], receiver.url, folder, ca_file)
        watched = await exits.enter_async_context(_started(collector, plan))
        await _delivering(watched, receiver, scenario)
        await _settled(load, scenario)
        seen = await watched.watch(scenario.window_s)
        await asyncio.sleep(SETTLE_S)
        exit_code = await watched.stop()
    before, after = seen.before, seen.after
    delivered = decode(receiver.written, plan.targets)
    verdict = judge(delivered, load.targets, before.wall_s, after.wall_s)
    inside = [before.wall_s <= one.arrived_s < after.wall_s for one in receiver.written]
    return Run(
        collector=collector.name,
        round=number,
        **_cost(before, after, verdict),
        peak_rss_bytes=seen.peak_bytes,
        steady_rss_bytes=round(statistics.median(seen.sizes)),
        wire_bytes_per_sample=_wire_bytes_per_sample(receiver.written, delivered.samples, inside),
        requests=sum(inside),
        first_sample_s=(receiver.first_sample_s or 0.0) - watched.started_s,
        scrapes_expected=round(scenario.targets * scenario.window_s / scenario.interval_s),
        **asdict(verdict),
        exit_code=exit_code,
    )


def _certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for 127.0.0.1, and the file of the authority to trust."""
    made = create_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server, made.server_key)
    return context, made.ca


def _cost(before: Mark, after: Mark, verdict: Verdict) -> dict[str, Any]:
    wall_s, cpu_s = after.wall_s - before.wall_s, after.cpu_s - before.cpu_s
    own_s = after.own_s - before.own_s
    return {
        "window_s": wall_s,
        "cpu_s": cpu_s,
        "user_s": after.user_s - before.user_s,
        "system_s": after.system_s - before.system_s,
        "cpu_ns_per_sample": cpu_s / max(verdict.samples_delivered, 1) * 1e9,
        "cpu_share": cpu_s / wall_s,
        "own_cpu_share": own_s / wall_s,
        "others_cpu_share": max(after.busy_s - before.busy_s - cpu_s - own_s, 0.0) / wall_s,
    }


def _wire_bytes_per_sample(
    written: Sequence[Written], samples: Sequence[int], inside: Sequence[bool]
) -> float:
    """Request heads and bodies over the load's samples in them; all requests when none fell into the window."""
    chosen = inside if any(inside) else [True] * len(written)
    size = sum(one.wire_bytes for one in compress(written, chosen))
    return size / max(sum(compress(samples, chosen)), 1)


@asynccontextmanager
async def _started(collector: Collector, plan: Plan) -> AsyncIterator[_Watched]:
    launch = collector.launch(plan)
    log = plan.folder / "log"
    with log.open("wb") as output:
        started_s = time.time()
        process = await asyncio.create_subprocess_exec(
            *tied_to_parent(launch.command),
            env=environment(launch),
            cwd=plan.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield _Watched(collector, process, log, started_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _delivering(watched: _Watched, receiver: Receiver, scenario: Scenario) -> None:
    deadline = time.time() + _PATIENCE_S + 2 * scenario.interval_s
    while receiver.first_sample_s is None:
        if watched.process.returncode is not None:
            raise watched.failed(f"ended with {watched.process.returncode}")
        if time.time() > deadline:
            raise watched.failed("delivered nothing")
        await asyncio.sleep(0.02)


async def _settled(load: Load, scenario: Scenario) -> None:
    """Let the collector get to know the series: every target scraped a few times, then the time to warm up."""
    scrapes = 3 if scenario.interval_s <= 1 else 1
    deadline = time.time() + _PATIENCE_S
    while time.time() < deadline and any(len(one.served) < scrapes for one in load.targets):  # noqa: ASYNC110 (the other side is a process)
        await asyncio.sleep(0.05)
    await asyncio.sleep(scenario.warm_up_s)
