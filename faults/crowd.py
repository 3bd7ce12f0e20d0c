"""A load too large for a ledger of every sample: each series is reconciled by count and hash as its samples arrive.

A value is the number of the scrape with the number of the series behind it, so that every stored sample says where it
is from. A series' samples have to come one scrape after the other; what is left out is remembered, and has to be
explained: as scraped while the collector was killed, as scraped in vain, or as refused.
"""

from __future__ import annotations

import re
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Self

import cramjam

from faults.endpoint import Answer, Mode
from faults.ledger import ASKED_EARLY_S
from faults.samples import STALE
from faults.targets import HEAD, Connection

SERIES_MOST: Final = 1_000_000
_MODULUS: Final = 2**61 - 1
_FACTOR: Final = 1_000_003
_SAMPLE: Final = re.compile(rb"series\x12.(\d{6})\x12\x10\x09(.{8})\x10(.{6})", re.DOTALL)
"""The end of a series: the label that sorts last, and its sample with a timestamp of this century."""
_REPORT: Final = re.compile(
    rb"__name__\x12.(up|scrape_[a-z_]+)\n.\n\x08instance\x12.([0-9.:]+)\n.\n\x03job\x12.faults\x12\x10\x09(.{8})\x10(.{6})",
    re.DOTALL,
)
REPORTS: Final = 5
"""How many samples a collector adds to a scrape."""


@dataclass
class Member:
    """One target: where it is, the numbers of its series, and when each scrape was answered (s since the epoch)."""

    address: str
    numbers: range
    served: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        heads = [
            b'faults_load{handler="/api/v1/orders/%d",method="GET",pod="checkout-7d9f8c6b5-%05d",series="%06d"} '
            % (number % 50, self.numbers.start, number)
            for number in self.numbers
        ]
        ends = [b"%06d\n" % number for number in self.numbers]
        between = [end + head for end, head in zip(ends, heads[1:], strict=False)]
        self._pieces = [heads[0], *between, ends[-1]]

    def answer(self) -> bytes:
        self.served.append(time.time())
        text = (b"%d" % len(self.served)).join(self._pieces)
        return HEAD % len(text) + text


class Crowd:
    """`targets` targets of `series` series each; they listen while entered."""

    def __init__(self, targets: int, series: int) -> None:
        if targets * series > SERIES_MOST:
            raise ValueError(f"{targets * series} series are more than {SERIES_MOST}")
        self.series = series
        self.all = [Member("", range(index * series, (index + 1) * series)) for index in range(targets)]
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for one in self.all:
            one.address = await Connection.listen(self._exits, one)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._exits.aclose()

    @property
    def scraped(self) -> int:
        """How many samples a collector made of what was served."""
        return sum(len(one.served) for one in self.all) * (self.series + REPORTS)


class Tally:
    """What is stored of a crowd, under the rules of Prometheus without an out-of-order window."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._series = {
            b"%06d" % number: _Series(float(SERIES_MOST + number))
            for one in crowd.all
            for number in one.numbers
        }
        self._stamps: dict[bytes, int] = {}
        self._reports: dict[tuple[bytes, bytes], int] = {}
        self.failed_ms: defaultdict[str, list[int]] = defaultdict(list)
        """By address, when a scrape has failed as the collector says."""
        self.samples = self.reports = self.stale = self.repeated = 0
        """Samples of targets; reports on scrapes; stale markers; samples that came again as they were stored."""
        self.newest_ms = 0
        self.poisoned: set[bytes] = set()
        """Series (their numbers in six digits) whose requests are all answered with 500."""
        self.violations: list[str] = []

    def age_s(self) -> float:
        """How old the newest sample is."""
        return time.time() - self.newest_ms / 1000

    def lacks(self, target: Member, scrape: int) -> bool:
        """Whether nothing is stored of a scrape and of later ones."""
        return all(self._series[b"%06d" % one].due <= scrape * SERIES_MOST + one for one in target.numbers)

    def take(self, body: bytes, mode: Mode) -> Answer:
        """Store a compressed request as `mode` says; the answer's status and words."""
        raw = bytes(cramjam.snappy.decompress_raw(body))
        found = _SAMPLE.findall(raw)
        reports = _REPORT.findall(raw)
        names = {name for name, _, _ in found}
        if len(names) < len(found):
            self.violations.append("two samples of a series in one request")
        if len(found) + len(reports) > mode.max_samples:
            return Answer(413, "request too large")
        if not names.isdisjoint(self.poisoned):
            return Answer(500, "stumbled over a series")
        late = self._store(found)
        for report in reports:
            self._put_report(*report)
        return Answer(400, "out of order sample") if late else Answer(mode.status, mode.words)

    def _store(self, found: Sequence[tuple[bytes, bytes, bytes]]) -> bool:
        """Store what is in order; whether something was not."""
        values = struct.unpack(f"<{len(found)}d", b"".join([value for _, value, _ in found]))
        series, stamps, late = self._series, self._stamps, False
        for (name, eight, six), value in zip(found, values, strict=True):
            one = series[name]
            stamp = stamps.get(six) or self._stamp(six)
            if value == one.due and stamp > one.stamp:
                one.due = value + SERIES_MOST
                one.stamp = stamp
                one.hash = (one.hash * _FACTOR + stamp) % _MODULUS
                one.count += 1
            elif eight == STALE:
                self.stale += 1
                self.samples -= 1
            elif not self._put_unusual(one, value, stamp):
                late = True
        self.samples += len(found)
        return late

    def _put_unusual(self, one: _Series, value: float, stamp: int) -> bool:
        """Store a sample that is not the next one; whether it could be."""
        last = one.due - SERIES_MOST
        if value == last and stamp == one.stamp:
            self.repeated += 1
            self.samples -= 1
            return True
        missed, odd = divmod(value - one.due, SERIES_MOST)
        if odd or missed < 0 or stamp <= one.stamp:
            self.violations.append(f"{value:.0f} at {stamp} ms after {last:.0f} at {one.stamp} ms")
            self.samples -= 1
            return False
        scrape = int(one.due // SERIES_MOST)
        one.gaps += range(scrape, scrape + int(missed))
        one.due = value + SERIES_MOST
        one.stamp = stamp
        one.hash = (one.hash * _FACTOR + stamp) % _MODULUS
        one.count += 1
        return True

    def _put_report(self, name: bytes, instance: bytes, value: bytes, six: bytes) -> None:
        stamp = self._stamp(six)
        if self._reports.get((name, instance), 0) >= stamp:
            self.repeated += 1
            return
        self._reports[name, instance] = stamp
        self.reports += 1
        if name == b"up" and not any(value):
            self.failed_ms[instance.decode()].append(stamp)

    def _stamp(self, six: bytes) -> int:
        """A varint of six bytes: ms since the epoch."""
        if len(self._stamps) > 10_000:
            self._stamps.clear()
        stamp = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(six))
        self._stamps[six] = stamp
        self.newest_ms = max(self.newest_ms, stamp)
        return stamp

    def reconcile(self, forgiven: Collection[tuple[str, int]]) -> Balance:
        """Compare with what was served. `forgiven` are scrapes (address, number) that may have been cut off."""
        balance = Balance()
        for one in self._crowd.all:
            self._compare(one, {scrape for address, scrape in forgiven if address == one.address}, balance)
        return balance

    def _compare(self, target: Member, forgiven: set[int], balance: Balance) -> None:
        served = len(target.served)
        all_series = [self._series[b"%06d" % number] for number in target.numbers]
        for one in all_series:
            one.gaps += range(int(one.due // SERIES_MOST), served + 1)
        gaps = Counter(scrape for one in all_series for scrape in one.gaps)
        failed = self._in_vain(target, gaps, forgiven)
        for scrape, count in gaps.items():
            if scrape in forgiven:
                balance.cut_off += count
            elif scrape in failed:
                balance.failed += count
            else:
                balance.missing += count
        balance.scraped += served * len(all_series)
        balance.stored += sum(one.count for one in all_series)
        balance.wrong += sum(one.count + len(one.gaps) != served for one in all_series)
        balance.hashes |= {(target.address, tuple(one.gaps), one.hash) for one in all_series}

    def _in_vain(self, target: Member, gaps: Counter[int], forgiven: set[int]) -> set[int]:
        """Scrapes of which nothing is stored and which have failed, as the collector says: for each the next served."""
        series = len(target.numbers)
        whole = sorted(one for one, count in gaps.items() if count == series and one not in forgiven)
        failed: set[int] = set()
        for stamp in self.failed_ms[target.address]:
            asked_s = stamp / 1000 - ASKED_EARLY_S
            after = (one for one in whole if one not in failed and target.served[one - 1] >= asked_s)
            failed.update(islice(after, 1))
        return failed


@dataclass(slots=True)
class _Series:
    """How far a series is stored: the value that comes next, the newest timestamp (ms), count and hash of all."""

    due: float
    stamp: int = 0
    count: int = 0
    hash: int = 0
    gaps: list[int] = field(default_factory=list)
    """Numbers of scrapes left out."""


@dataclass
class Balance:
    """Samples of targets, reports left out: scraped = stored + cut off + failed + missing."""

    scraped: int = 0
    stored: int = 0
    cut_off: int = 0
    failed: int = 0
    missing: int = 0
    wrong: int = 0
    """Series whose count is not what was served less what was left out."""
    hashes: set[tuple[str, tuple[int, ...], int]] = field(default_factory=set)
    """By target, what a series lacks, and the hash of the timestamps of the rest in order."""

    def disagreements(self) -> Iterator[str]:
        """Series of a target that lack the same scrapes have to have the same timestamps in the same order."""
        seen = Counter((address, gaps) for address, gaps, _ in self.hashes)
        for (address, _), count in seen.items():
            if count > 1:
                yield f"series of {address} that lack the same scrapes differ in their timestamps"
