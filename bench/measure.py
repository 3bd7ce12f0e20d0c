"""One run: a collector against a load, from its start to the proof that everything arrived."""

from __future__ import annotations

import asyncio
import gc
import signal
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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


@dataclass
class _Watched:
    """A collector's process, and what is seen of it between two marks."""

    collector: Collector
    process: asyncio.subprocess.Process
    log: Path
    started_s: float

    def failed(self, why: str) -> RunFailedError:
        tail = self.log.read_text(errors="replace")[-1500:]
        return RunFailedError(f"{self.collector.title} {why}; the end of its log:\n{tail}")

    async def watch(self, window_s: float) -> tuple[Mark, Mark, list[int]]:
        """Measure for `window_s`; returns the marks around it and resident memory in bytes, twice a second."""
        sizes: list[int] = []
        before = self._mark()
        while (left_s := before.wall_s + window_s - time.time()) > 0:
            sizes.append(self._rss()[0])
            await asyncio.sleep(min(0.5, left_s))
        return before, self._mark(), sizes

    def peak_bytes(self) -> int:
        return self._rss()[1]

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
    gc.collect()
    gc.freeze()  # what the load is made of is not looked at again while others are measured
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="trunkline-bench-")))
        certificates = create_certificates(folder) if scenario.tls else None
        tls = None
        if certificates is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificates.server, certificates.server_key)
        load = await exits.enter_async_context(Load(scenario, tls))
        receiver = await exits.enter_async_context(Receiver())
        plan = Plan(
            scenario,
            [target.address for target in load.targets],
            receiver.url,
            folder,
            certificates and certificates.ca,
        )
        watched = await exits.enter_async_context(_started(collector, plan))
        await _first_sample(watched, receiver, scenario)
        await asyncio.sleep(scenario.warm_up_s)
        before, after, sizes = await watched.watch(scenario.window_s)
        peak = watched.peak_bytes()
        await asyncio.sleep(SETTLE_S)
        exit_code = await watched.stop()
        delivered = decode(receiver.written, plan.targets)
        verdict = judge(delivered, load.targets, before.wall_s, after.wall_s)
        wire = _wire_bytes_per_sample(receiver.written, delivered.samples, before.wall_s, after.wall_s)
        return Run(
            collector=collector.name,
            round=number,
            **_cost(before, after, verdict),
            peak_rss_bytes=peak,
            steady_rss_bytes=round(statistics.median(sizes)),
            wire_bytes_per_sample=wire,
            requests=sum(before.wall_s <= one.arrived_s < after.wall_s for one in receiver.written),
            first_sample_s=(receiver.first_sample_s or 0.0) - watched.started_s,
            scrapes_expected=round(scenario.targets * scenario.window_s / scenario.interval_s),
            scrapes_served=verdict.scrapes_served,
            scrapes_delivered=verdict.scrapes_delivered,
            samples_served=verdict.samples_served,
            samples_delivered=verdict.samples_delivered,
            unlabelled_series=verdict.unlabelled_series,
            exit_code=exit_code,
        )


def _cost(before: Mark, after: Mark, verdict: Verdict) -> dict[str, float]:
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
    written: list[Written], samples: list[int], since_s: float, until_s: float
) -> float:
    """Request heads and bodies over the load's samples in them; all requests when none fell into the window."""
    pairs = list(zip(written, samples, strict=True))
    inside = [(one, count) for one, count in pairs if since_s <= one.arrived_s < until_s] or pairs
    return sum(one.wire_bytes for one, _ in inside) / max(sum(count for _, count in inside), 1)


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


async def _first_sample(watched: _Watched, receiver: Receiver, scenario: Scenario) -> None:
    deadline = time.time() + _PATIENCE_S + 2 * scenario.interval_s
    while receiver.first_sample_s is None:
        if watched.process.returncode is not None:
            raise watched.failed(f"ended with {watched.process.returncode}")
        if time.time() > deadline:
            raise watched.failed("delivered nothing")
        await asyncio.sleep(0.02)
