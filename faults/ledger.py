"""Scraped less stored: what is missing, sample by sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Final

from faults.endpoint import Sample, Store, StoredSeries
from faults.samples import STALE, number, read_labels
from faults.targets import NAME, REPORTS, Target

Key = tuple[str, str, int]
"""Address of the target, index of the series, number of the scrape."""
ASKED_EARLY_S: Final = 0.05
"""A scrape's timestamp is the moment it was due, and a little before it may have been asked for."""
LAST_SCRAPES: Final = 2
"""How many scrapes of a target may be cut off when a collector ends: the one under way, and the last one."""


@dataclass(frozen=True, slots=True)
class End:
    """When a collector was gone, in s since the epoch.

    One that was `told` to end scrapes a last time. If that fails (the target may have been stopped first), it says so
    with a stale marker of every series, and `up` says nothing.
    """

    gone_s: float
    told: bool


@dataclass
class Missing:
    """What was served and is not stored: samples of targets one by one; reports and stale markers by count.

    `failed` are samples of scrapes that the collector itself says failed (`up` is 0, or at its end every series is
    stale), though the target had answered.
    """

    samples: set[Key] = field(default_factory=set)
    reports: int = 0
    failed: int = 0

    def __len__(self) -> int:
        return len(self.samples) + self.reports

    def give_up(self, scrapes: set[tuple[str, int]], targets: Sequence[Target]) -> None:
        """Count those of `scrapes` of which every sample is missing as failed."""
        series = {target.address: target.series for target in targets}
        counts = Counter((address, scrape) for address, _, scrape in self.samples)
        whole = {one for one in scrapes if counts[one] == series[one[0]]}
        self.samples = {key for key in self.samples if (key[0], key[2]) not in whole}
        self.reports -= len(whole) * len(REPORTS)
        self.failed += sum(series[address] + len(REPORTS) for address, _ in whole)

    def scrapes(self) -> set[tuple[str, int]]:
        return {(address, scrape) for address, _, scrape in self.samples}


@dataclass
class _Found:
    """What is stored of one target: numbers of scrapes by index; by timestamp reports, stale markers, whether it was up."""

    values: dict[str, set[int]] = field(default_factory=dict)
    reports: Counter[int] = field(default_factory=Counter)
    stale: Counter[int] = field(default_factory=Counter)
    up: dict[int, bool] = field(default_factory=dict)

    @property
    def down(self) -> set[int]:
        return {stamp for stamp, up in self.up.items() if not up}


def missing(
    targets: Sequence[Target], store: Store, waiting: Iterable[Sample] = (), ends: Sequence[End] = ()
) -> Missing:
    """What of the scrapes served is neither stored nor among the samples `waiting`."""
    series = {labels: StoredSeries(one.labels, dict(one.samples)) for labels, one in store.series.items()}
    for labels, value, timestamp_ms in waiting:
        known = series.setdefault(labels, StoredSeries(read_labels(labels)))
        known.samples.setdefault(timestamp_ms, value)
    found = {target.address: _Found() for target in targets}
    for one in series.values():
        if one.labels.get("instance") in found:
            _sort_in(one, found[one.labels["instance"]])
    result = Missing()
    for target in targets:
        _compare(target, found[target.address], ends, result)
    return result


def _sort_in(one: StoredSeries, found: _Found) -> None:
    name = one.labels["__name__"]
    if name == NAME:
        values = {int(number(value)) for value in one.samples.values() if value != STALE}
        found.values.setdefault(one.labels["index"], set()).update(values)
        found.stale.update(stamp for stamp, value in one.samples.items() if value == STALE)
    elif name in REPORTS:
        found.reports.update(one.samples.keys())
        if name == "up":
            found.up = {stamp: number(value) > 0 for stamp, value in one.samples.items()}


def _compare(target: Target, found: _Found, ends: Sequence[End], result: Missing) -> None:
    served = set(range(1, len(target.served) + 1))
    gaps = {
        (target.address, str(index), scrape)
        for index in range(target.series)
        for scrape in served - found.values.get(str(index), set())
    }
    down = found.down
    failed = _failed(target, gaps, found, ends)
    result.samples |= {key for key in gaps if key[2] not in failed}
    reports = sum(count for stamp, count in found.reports.items() if stamp not in down)
    result.reports += (len(served) - len(failed)) * len(REPORTS) - reports
    result.reports += _missing_of_failed(target, found, ends)
    result.failed += len(failed) * (target.series + len(REPORTS))


def _missing_of_failed(target: Target, found: _Found, ends: Sequence[End]) -> int:
    """Reports on failed scrapes that are not stored, and stale markers: the first failure makes one of every series.

    Unless it is the first scrape of a collector, which knows no series yet.
    """
    count = sum(len(REPORTS) - found.reports[stamp] for stamp in found.down)
    for before, stamp in pairwise(sorted(found.up)):
        anew = any(before <= end.gone_s * 1000 <= stamp for end in ends)
        if found.up[before] and not found.up[stamp] and not anew:
            count += target.series - found.stale[stamp]
    return count


def _failed(target: Target, gaps: set[Key], found: _Found, ends: Sequence[End]) -> set[int]:
    """Scrapes of which every series is missing and which the collector says have failed: for each the next served."""
    counts = Counter(scrape for _, _, scrape in gaps)
    whole = sorted(scrape for scrape, count in counts.items() if count == target.series)
    failed: set[int] = set()
    for stamp in sorted(found.down):
        asked_s = stamp / 1000 - ASKED_EARLY_S
        after = (one for one in whole if one not in failed and target.served[one - 1] >= asked_s)
        failed.update(islice(after, 1))
    for end in ends:
        failed.update(_last_in_vain(target, [one for one in whole if one not in failed], found, end))
    return failed


def _last_in_vain(target: Target, whole: Sequence[int], found: _Found, end: End) -> list[int]:
    """Those of `whole` that were cut off at the end of a collector."""
    last_ms = _last_report_ms(target, found, end) if end.told else None
    if last_ms is None:
        return []
    next_ms = min((stamp for stamp in found.up if stamp > end.gone_s * 1000), default=math.inf)
    begin_s, end_s = last_ms / 1000 - ASKED_EARLY_S, next_ms / 1000 - ASKED_EARLY_S
    return [one for one in whole if begin_s <= target.served[one - 1] < end_s][:LAST_SCRAPES]


def _last_report_ms(target: Target, found: _Found, end: End) -> int | None:
    """When a target was last reported on before an end at which all of its series are stale; None for another end."""
    gone_ms = end.gone_s * 1000
    last_ms = max((stamp for stamp in found.up if stamp <= gone_ms), default=None)
    if last_ms is None or not found.up[last_ms]:
        return last_ms
    is_stale = any(
        count == target.series for stamp, count in found.stale.items() if last_ms < stamp <= gone_ms
    )
    return last_ms if is_stale else None


def disorder(targets: Sequence[Target], store: Store) -> Iterator[str]:
    """Everything in what is stored that no honest collector could have sent."""
    yield from store.violations[:5]
    served = {target.address: len(target.served) for target in targets}
    for one in store.series.values():
        if one.labels["__name__"] != NAME:
            continue
        values = [number(one.samples[stamp]) for stamp in sorted(one.samples) if one.samples[stamp] != STALE]
        if any(later <= earlier for earlier, later in pairwise(values)):
            yield f"a scrape is stored twice or before one that was earlier: {one.labels}"
        if values and max(values) > served.get(one.labels["instance"], 0):
            yield f"a value is stored that was never served: {one.labels}"


def longest_gap_s(targets: Sequence[Target], spans: Iterable[tuple[float, float]]) -> float:
    """The longest time within one of the spans in which a target was not asked; s since the epoch."""
    gaps = [0.0]
    for begin, end in spans:
        for target in targets:
            inside = [at_s for at_s in target.asked if begin <= at_s <= end]
            gaps += [later - earlier for earlier, later in pairwise([begin, *inside, end])]
    return max(gaps)
