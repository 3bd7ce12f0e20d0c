"""`python -m faults.storm`: a fleet comes back after an outage, in virtual time, against a workspace with AMP's limits.

The collectors are the real senders with all their pauses, each with a queue in memory; what they send goes nowhere but
to a count. Time jumps to the next moment at which something happens, so that chance alone decides, and it has a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import random
import selectors
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from faults import report
from trunkline.collector.queue import Lost, MemoryQueue, Queue
from trunkline.collector.sender import Sender
from trunkline.component.contract import Backoff, Encoder, Fragment, Limits, QueueSettings
from trunkline.component.metrics import SelfMetrics
from trunkline.errors import RetryLater
from trunkline.exporters.prometheusremotewrite.config import RetryConfig
from trunkline.model import Table

EPOCH_S: Final = 1_800_000_000.0
LANE_SAMPLES: Final = 2000
LATENCY_S: Final = 0.03
LAST_S: Final = 150.0
"""How much of the outage is played: after so long every pause is as long as it gets."""
SAMPLE_BYTES: Final = 36


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: what it is asked to wait is added to `now_s`."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only where everybody waits."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class VirtualClock:
    """The loop's time as a collector's clock."""

    def time(self) -> float:
        return EPOCH_S + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Bucket:
    """Tokens that come back at `rate` a second, at most `burst` of them."""

    rate: float
    burst: float

    def __post_init__(self) -> None:
        self._tokens, self._seen_s = self.burst, 0.0

    def take(self, tokens: float, now_s: float) -> bool:
        self._tokens = min(self.burst, self._tokens + (now_s - self._seen_s) * self.rate)
        self._seen_s = now_s
        if tokens > self._tokens:
            return False
        self._tokens -= tokens
        return True


@dataclass(frozen=True)
class Fleet:
    """How many collectors, how many series each shows and how often; what the workspace takes in a second."""

    collectors: int = 1000
    series: int = 500
    interval_s: float = 15.0
    outage_s: float = 1800.0
    requests_per_s: float = 3000.0
    samples_per_s: float = 50e6 / 30
    burst: float = 50e6 / 30
    bystanders: int = 20
    """Collectors more that never lost the way."""

    @property
    def live_rate(self) -> float:
        """Samples a second of all of them."""
        return (self.collectors + self.bystanders) * self.series / self.interval_s


@dataclass
class Storm:
    """What came of it. Times are seconds since the workspace was back."""

    fleet: Fleet
    requests: Counter[int] = field(default_factory=Counter)
    """All requests by second."""
    throttled: Counter[int] = field(default_factory=Counter)
    samples: Counter[int] = field(default_factory=Counter)
    """Samples taken, by second."""
    caught_up_s: list[float] = field(default_factory=list)
    oldest_of_bystanders_s: float = 0.0
    """How old the oldest sample of a bystander was when it was taken."""

    @property
    def most_requests(self) -> int:
        """In one second after it."""
        return max(count for second, count in self.requests.items() if second >= 0)

    @property
    def share_throttled(self) -> float:
        return self.throttled.total() / max(1, self.requests.total())


class Workspace:
    """Takes what its buckets let it; until `back_s` it takes only what bystanders send."""

    def __init__(self, storm: Storm, back_s: float) -> None:
        self.storm = storm
        self.back_s = back_s
        fleet = storm.fleet
        self._requests = Bucket(fleet.requests_per_s, fleet.requests_per_s)
        self._samples = Bucket(fleet.samples_per_s, fleet.burst)

    async def take(self, samples: int, *, bystander: bool) -> None:
        """Raises RetryLater when it is gone, or when it is too much."""
        await asyncio.sleep(LATENCY_S)
        now_s = asyncio.get_running_loop().time()
        if now_s < self.back_s and not bystander:
            raise RetryLater("gone", reason="unreachable")
        second = math.floor(now_s - self.back_s)
        self.storm.requests[second] += 1
        if not (self._requests.take(1, now_s) and self._samples.take(samples, now_s)):
            self.storm.throttled[second] += 1
            raise RetryLater("Rate exceeded", reason="throttled")
        self.storm.samples[second] += samples


class _Delivery:
    """What a sender needs of an exporter."""

    limits = Limits()
    queue = QueueSettings()
    _retry = RetryConfig()
    backoff = Backoff(
        _retry.initial_interval, _retry.multiplier, _retry.max_interval, _retry.randomization_factor
    )

    def __init__(self, workspace: Workspace, *, bystander: bool) -> None:
        self.destination = "workspace"
        self._workspace = workspace
        self._bystander = bystander

    def encoder(self, table: Table) -> Encoder:
        raise NotImplementedError

    def join(self, fragments: Sequence[Fragment]) -> bytes:
        return b"%d" % sum(one.samples for one in fragments)

    def halves(self, fragment: Fragment) -> Sequence[Fragment]:
        half = fragment.samples // 2
        return [fragment._replace(samples=one) for one in (half, fragment.samples - half)] if half else []

    def singles(self, fragment: Fragment) -> Sequence[tuple[bytes, Fragment]]:
        raise NotImplementedError

    def apart(
        self, fragment: Fragment, keys: Collection[bytes]
    ) -> tuple[Sequence[Fragment], Sequence[Fragment]]:
        raise NotImplementedError

    def describe(self, fragment: Fragment) -> str:
        return str(fragment.lane)

    async def send(self, body: bytes) -> None:
        await self._workspace.take(int(body), bystander=self._bystander)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        yield


def scrape(series: int, at_s: float) -> list[Fragment]:
    """What one scrape becomes, by lanes."""
    stamp = int(at_s * 1000)
    return [
        Fragment(lane, b"-", samples * SAMPLE_BYTES, samples, stamp, stamp)
        for lane in range(math.ceil(series / LANE_SAMPLES))
        if (samples := min(LANE_SAMPLES, series - lane * LANE_SAMPLES))
    ]


class _Collector:
    """One sender and what is scraped for it."""

    def __init__(self, workspace: Workspace, chance: random.Random, *, bystander: bool) -> None:
        self._fleet = workspace.storm.fleet
        self._workspace = workspace
        self._chance = chance
        self._bystander = bystander
        self._phase_s = chance.uniform(0, self._fleet.interval_s)
        self._queue: Queue
        delivery = _Delivery(workspace, bystander=bystander)
        clock = VirtualClock()
        self._sender = Sender("remote", delivery, self._open, SelfMetrics(), clock, chance.random)

    def _open(self, lost: Lost) -> Queue:
        """What waits from before the part of the outage that is played."""
        self._queue = MemoryQueue(lost, max_bytes=1 << 40)
        if not self._bystander:
            interval_s = self._fleet.interval_s
            for number in range(int(max(0.0, self._fleet.outage_s - LAST_S) / interval_s), 0, -1):
                self._queue.append(scrape(self._fleet.series, EPOCH_S + self._phase_s - number * interval_s))
        return self._queue

    async def run(self, until_s: float) -> None:
        """Scrape and deliver; note when everything that waited was delivered."""
        loop = asyncio.get_running_loop()
        storm, back_s = self._workspace.storm, self._workspace.back_s
        behind = True
        async with self._sender:
            due_s = self._phase_s
            while due_s < until_s:
                await asyncio.sleep(due_s - loop.time())
                oldest_ms = self._queue.oldest_ms
                age_s = 0.0 if oldest_ms is None else EPOCH_S + loop.time() - oldest_ms / 1000
                if self._bystander:
                    storm.oldest_of_bystanders_s = max(storm.oldest_of_bystanders_s, age_s)
                elif behind and loop.time() > back_s and age_s < 1.5 * self._fleet.interval_s:
                    behind = False
                    storm.caught_up_s.append(loop.time() - back_s)
                self._sender.keep(scrape(self._fleet.series, EPOCH_S + loop.time()))
                due_s += self._fleet.interval_s


async def _play(fleet: Fleet, seed: int, for_s: float) -> Storm:
    chance = random.Random(seed)
    storm = Storm(fleet)
    back_s = min(fleet.outage_s, LAST_S)
    workspace = Workspace(storm, back_s)
    numbers = range(fleet.collectors + fleet.bystanders)
    fleet_of = [
        _Collector(workspace, random.Random(chance.random()), bystander=number >= fleet.collectors)
        for number in numbers
    ]
    async with asyncio.TaskGroup() as group:
        for one in fleet_of:
            group.create_task(one.run(back_s + for_s))
    return storm


def play(fleet: Fleet, seed: int = 0, for_s: float = 600.0) -> Storm:
    """Let the workspace come back and look on for so long."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_play(fleet, seed, for_s))


FLEETS: Final = {
    "1,000 collectors of 500 series": Fleet(),
    "1,000 of 5,000 series": Fleet(series=5000),
    "1,000, and the workspace takes 300 requests/s": Fleet(requests_per_s=300),
    "1,000, and it takes 70,000 samples/s (and 1,000,000 at once)": Fleet(samples_per_s=70e3, burst=1e6),
    "100 of 15,000 series that use 72 % of the samples/s": Fleet(
        100, 15_000, requests_per_s=300, samples_per_s=50e5 / 30, burst=50e5 / 30
    ),
}
"""What is played; AMP's limits where nothing else is said."""
_COLUMNS: Final = (
    *("fleet", "live, samples/s", "most requests/s", "429", "caught up", "first, s", "median, s", "last, s"),
    "oldest live sample elsewhere, s",
)


def row(name: str, storm: Storm) -> tuple[str, ...]:
    """What came of it for people."""
    times = sorted(storm.caught_up_s)
    shown = (f"{times[0]:,.0f}", f"{median(times):,.0f}", f"{times[-1]:,.0f}") if times else ("-", "-", "-")
    return (
        name,
        f"{storm.fleet.live_rate:,.0f}",
        f"{storm.most_requests:,}",
        f"{storm.share_throttled:.1%}",
        f"{len(times):,} of {storm.fleet.collectors:,}",
        *shown,
        f"{storm.oldest_of_bystanders_s:.0f}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m faults.storm", description=__doc__)
    parser.add_argument(
        "--for",
        dest="for_s",
        type=report.seconds,
        default=1200.0,
        metavar="20m",
        help="how long after it (20m)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what chance decides (1)")
    parser.add_argument("--write", action="store_true", help=f"put what came of it into {report.DOCUMENT}")
    options = parser.parse_args(arguments)
    logging.disable()  # a thousand collectors tell the same
    found = []
    for name, fleet in FLEETS.items():
        found.append(row(name, play(fleet, options.seed, options.for_s)))
        print("storm: " + "; ".join(f"{what} {cell}" for what, cell in zip(_COLUMNS, found[-1], strict=True)))
    if options.write:
        command = f"python -m faults.storm --for {options.for_s:g}s --seed {options.seed}"
        rule = ["---", *["---:"] * (len(_COLUMNS) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (_COLUMNS, rule, *found)]
        report.put("storm", "\n".join([report.measured(command), "", *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
