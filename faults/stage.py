"""The world of one fault: targets, an endpoint, a folder, collectors one after the other; and the verdict at the end."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import cramjam

from faults import process
from faults.endpoint import Endpoint, Mode, Sample, Store
from faults.ledger import End, Missing, disorder, longest_gap_s, missing
from faults.process import Collector
from faults.samples import read_request
from faults.targets import Targets
from trunkline.collector.queue import SEGMENT_BYTES, DiskQueue
from trunkline.component.contract import Fragment, Limits
from trunkline.wire import template

MIB: Final = 1024 * 1024
INTERVAL_S: Final = 0.2
MOST_RSS: Final = 72 * MIB
"""What a collector of a few hundred series may have at its peak, whatever happens to it."""
MOST_RSS_UNDER_LOAD: Final = 112 * MIB
"""The same with thousands of series, and with what memory holds instead of a disk."""
SAMPLE_BYTES: Final = 48
"""What a sample that waits may take on the disk."""
LONGEST_GAP_S: Final = 2.5
"""A dozen intervals: for a machine that is busy. Every fault lasts longer."""


EXPORTER: Final = "prometheusremotewrite"
HASTY: Final[dict[str, Any]] = {
    "timeout": "3s",
    "retry_on_failure": {"initial_interval": "50ms", "max_interval": "500ms"},
}
"""An exporter that is quick to try again, so that a fault need not last."""


@dataclass
class Verdict:
    """What came of one fault. Counts are samples, the collector's reports on scrapes among them; sizes are bytes."""

    name: str
    done: str
    scraped: int = 0
    stored: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    never_accepted: int = 0
    """Samples of scrapes under way when the collector was killed, or which it reported as failed."""
    undecided: int = 0
    """Samples refused in a way that may as well mean that they are stored; they count as delivered."""
    unaccounted: int = 0
    in_order: bool = True
    peak_rss: int = 0
    peak_queue: int = 0
    longest_gap_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    skipped: str = ""
    known: str = ""
    """What is known not to hold, if it did not."""

    @property
    def good(self) -> bool:
        return not self.problems or bool(self.known)


class Stage:
    """Entered once for a fault. What a fault does beyond the usual it notes in `done`, `problems` and the like."""

    def __init__(self, sizes: Sequence[int] = (40, 40, 120), interval_s: float = INTERVAL_S) -> None:
        self.store = Store()
        self.endpoint = Endpoint(self.store)
        self.targets = Targets(tuple(sizes))
        self.interval_s = interval_s
        self.collectors: list[Collector] = []
        self.problems: list[str] = []
        self.lost_in_kills = Missing()
        self.undecided = 0
        self.interrupted: set[tuple[str, int]] = set()
        """Scrapes (address, number) that a reload may have cut off before anything was accepted."""
        self.silences: list[tuple[float, float]] = []
        """When nothing could be scraped, because the collector was suspended; s since the epoch."""
        self.most_rss = MOST_RSS
        self.exporter: dict[str, Any] = {}
        self.exporter_name = EXPORTER
        self.others: dict[str, dict[str, Any]] = {}
        """More exporters that everything goes to."""
        self.extensions: dict[str, Any] = {}
        self.environment: dict[str, str] = {}
        self.arguments: list[str] = []
        self.keeps_on_disk = True
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="trunkline-faults-")))
        self.data_dir = self.folder / "data"
        await self._exits.enter_async_context(self.targets)
        await self.endpoint.open()
        self._exits.push_async_callback(self.endpoint.close)
        self._exits.push_async_callback(self.end_collectors)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._exits.aclose()

    async def end_collectors(self) -> None:
        """Kill what still runs."""
        for collector in self.collectors:
            if collector.process.returncode is None:
                await collector.kill()

    def expect(self, holds: object, otherwise: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(otherwise)

    def write_config(self, *, targets: bool = True) -> None:
        """The configuration of the next collectors; without targets they only deliver what waits."""
        document = configuration(
            [target.address for target in self.targets.all] if targets else [],
            self.interval_s,
            {
                self.exporter_name: {"endpoint": self.endpoint.write_url, **HASTY, **self.exporter},
                **self.others,
            },
            self.extensions,
        )
        (self.folder / "config.json").write_text(json.dumps(document))

    async def start(self, *arguments: str, ready: bool = True) -> Collector:
        """One more collector."""
        if not (self.folder / "config.json").exists():
            self.write_config()
        number = len(self.collectors)
        given = [*self.arguments, *arguments]
        collector = await process.start(self.folder, self.data_dir, number, self.environment, given)
        self.collectors.append(collector)
        if ready:
            await collector.ready()
        return collector

    async def scraped(self, times: int) -> None:
        """Wait until every target has been scraped that many times more."""
        goals = [len(target.served) + times for target in self.targets.all]
        targets = self.targets.all
        await process.until(
            lambda: all(len(one.served) >= goal for one, goal in zip(targets, goals, strict=True)),
            f"{times} scrapes of every target",
        )

    async def finish(self, collector: Collector, patience_s: float = process.PATIENCE_S) -> None:
        """The endpoint well again: everything must be delivered, and the collector end with nothing left."""
        self.endpoint.be(Mode())
        await self.endpoint.open()
        await collector.settled(patience_s)
        await self.end(collector)
        self.expect("everything delivered" in collector.log, "the last collector did not deliver everything")
        left = process.queue_bytes(self.data_dir)
        self.expect(not left, f"{left} bytes are left in the queue")

    async def end(self, collector: Collector) -> None:
        await collector.looked()
        code = await collector.terminate()
        self.expect(code == 0, f"a collector ended with {code}: {collector.log[-300:]}")

    async def note_kill(self) -> None:
        """After a kill: only the last scrape of a target may be neither stored nor in the queue's files."""
        await asyncio.sleep(0.05)  # what reached the endpoint's socket is stored
        now = self.missing(waiting_in(self.data_dir))
        last = {(target.address, len(target.served)) for target in self.targets.all}
        known = self.lost_in_kills.scrapes()
        for address, scrape in sorted(now.scrapes() - known - last):
            self.problems.append(f"a kill lost scrape {scrape} of {address}, which was not the last")
        self.lost_in_kills = now

    def missing(self, waiting: Sequence[Sample] = (), store: Store | None = None) -> Missing:
        """What has been served and is neither stored nor among the samples `waiting`."""
        ends = [End(one.gone_s, not one.killed) for one in self.collectors if one.gone_s]
        return missing(self.targets.all, store or self.store, waiting, ends)

    def verdict(self, name: str, done: str) -> Verdict:
        """Reconcile."""
        targets = self.targets.all
        gone = self.missing()
        gone.give_up(self.interrupted, targets)
        refused: Counter[str] = Counter()
        for collector in self.collectors:
            refused += collector.refused()
        never = len(self.lost_in_kills) + gone.failed
        scraped = sum(target.scraped for target in targets)
        problems = [*self.problems, *disorder(targets, self.store)]
        in_order = len(problems) == len(self.problems)
        result = Verdict(
            name,
            done,
            scraped,
            scraped - len(gone) - gone.failed,
            dict(refused),
            never,
            self.undecided,
            len(gone) - refused.total() - len(self.lost_in_kills) - self.undecided,
            in_order,
            max(collector.looks.rss for collector in self.collectors),
            max(collector.looks.queue for collector in self.collectors),
            longest_gap_s(targets, self._spans()),
            problems,
        )
        self._judge(result, gone)
        return result

    def _judge(self, result: Verdict, gone: Missing) -> None:
        problems = result.problems
        if result.unaccounted:
            problems.append(f"{result.unaccounted} samples are not accounted for, {sorted(gone.samples)[:3]}")
        if not self.lost_in_kills.samples <= gone.samples:
            problems.append("what was lost in a kill was stored after all")
        if result.longest_gap_s > LONGEST_GAP_S:
            problems.append(f"a target was not scraped for {result.longest_gap_s:.1f} s")
        if result.peak_rss > self.most_rss:
            problems.append(f"{result.peak_rss / MIB:.0f} MiB of memory in use")
        waiting = max(collector.looks.waiting for collector in self.collectors)
        most_queue = 2 * SEGMENT_BYTES + max(waiting, result.scraped) * SAMPLE_BYTES
        if result.peak_queue > most_queue:
            problems.append(f"{result.peak_queue / MIB:.0f} MiB on the disk for {waiting} samples")
        logged = sum(collector.refused_in_log() for collector in self.collectors)
        if logged != sum(result.refused.values()):
            problems.append(f"the log tells of {logged} samples refused, the metrics of {result.refused}")

    def _spans(self) -> list[tuple[float, float]]:
        """When a collector ran and was not suspended."""
        spans = [(one.ready_s, one.ended_s) for one in self.collectors if one.ready_s]
        for begin, end in self.silences:
            spans = [piece for span in spans for piece in _without(span, begin, end)]
        return spans


def configuration(
    addresses: Sequence[str],
    interval_s: float,
    exporters: Mapping[str, Any],
    extensions: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a collector that scrapes `addresses` is configured with."""
    interval = f"{interval_s * 1000:.0f}ms"
    timing = {"scrape_interval": interval, "scrape_timeout": interval}
    scrape = {"job_name": "faults", "static_configs": [{"targets": list(addresses)}]}
    pipeline = {"receivers": ["prometheus"], "exporters": list(exporters)}
    return {
        "receivers": {"prometheus": {"config": {"global": timing, "scrape_configs": [scrape]}}},
        "exporters": dict(exporters),
        "extensions": dict(extensions or {}),
        "service": {"extensions": list(extensions or {}), "pipelines": {"metrics": pipeline}},
    }


def _without(span: tuple[float, float], begin: float, end: float) -> list[tuple[float, float]]:
    if end <= span[0] or begin >= span[1]:
        return [span]
    return [piece for piece in ((span[0], begin), (end, span[1])) if piece[0] < piece[1]]


def waiting_in(data_dir: Path) -> list[Sample]:
    """Every sample that the queue's own reader finds in a copy of its files."""
    found: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="trunkline-faults-") as copy:
        if data_dir.exists():
            shutil.copytree(data_dir, copy, dirs_exist_ok=True)
        for folder in sorted({path.parent for path in Path(copy).rglob("*.seg")}):
            found += (sample for fragment in _fragments(folder) for sample in read_fragment(fragment))
    return found


def _fragments(folder: Path) -> list[Fragment]:
    queue = DiskQueue(folder, lambda _samples, _reason: None)
    found: list[Fragment] = []
    try:
        while (chunk := queue.take(Limits())) is not None:
            found += chunk.fragments
            queue.settle(chunk)
    finally:
        queue.close()
    return found


def read_fragment(fragment: Fragment) -> list[Sample]:
    """The samples of one fragment."""
    block = template.join([(fragment.data, fragment.raw_bytes)])
    return list(read_request(bytes(cramjam.snappy.decompress_raw(block))))
