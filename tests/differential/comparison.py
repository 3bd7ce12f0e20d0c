"""Samples of two scrapers in a form that can be compared: by the number of the scrape, not by the clock."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from tests.differential.processes import Arrived

from trunkline.model import STALE_BITS, Labels

UP_BITS = 0x3FF0000000000000
CLOCKED = frozenset(("scrape_duration_seconds",))
"""Series whose values are times, which no two scrapers share; that they are there is compared."""
TARGET = ("instance", "phase", "changed")
"""The labels that tell the targets of a scenario apart."""


class Seen(NamedTuple):
    """One sample: `when` is the number of the scrape, or milliseconds since the targets opened if it says so itself."""

    labels: Labels
    bits: int
    when: tuple[str, int]

    def __str__(self) -> str:
        shown = dict(self.labels)
        name = shown.pop("__name__", "")
        value = "stale" if self.bits == STALE_BITS else f"{value_of(self.bits)!r} ({self.bits:x})"
        return f"{self.when[0]} {self.when[1]}: {name}{shown} {value}"


def bits_of(value: float) -> int:
    """All 64 bits, which tell a stale marker from another NaN."""
    [bits] = struct.unpack("<Q", struct.pack("<d", value))
    return int(bits)


def value_of(bits: int) -> float:
    """The value that has these bits."""
    [value] = struct.unpack("<d", struct.pack("<Q", bits))
    return float(value)


def stored(samples: Arrived) -> Arrived:
    """What a Prometheus keeps of samples that arrive in this order: of each series only what is newer than the last."""
    newest: dict[Labels, int] = {}
    kept = []
    for labels, value, stamp in samples:
        if stamp > newest.get(labels, -1):
            newest[labels] = stamp
            kept.append((labels, value, stamp))
    return kept


def scrape_times(samples: Arrived) -> list[int]:
    """The times of the scrapes from the first good one on, in milliseconds."""
    ups = sorted({(stamp, bits_of(value)) for labels, value, stamp in samples if _name(labels) == "up"})
    first = next((number for number, (_, bits) in enumerate(ups) if bits == UP_BITS), len(ups))
    return [stamp for stamp, _ in ups[first:]]


def by_scrape(samples: Arrived, scrapes: int, opened_ms: int, closed_ms: int) -> set[Seen]:
    """The samples of so many scrapes, beginning with the first good one.

    A scrape whose `up` had not arrived when all was closed is left out.
    """
    times = scrape_times(samples)
    numbers = {stamp: number for number, stamp in enumerate(times)}
    ups = {stamp for labels, _, stamp in samples if _name(labels) == "up"}
    seen = set()
    for labels, value, stamp in samples:
        bits = 0 if _name(labels) in CLOCKED else bits_of(value)
        if stamp not in ups and not times[-1] < stamp < closed_ms:
            seen.add(Seen(labels, bits, ("own time", stamp - opened_ms)))
        elif stamp in numbers and numbers[stamp] < scrapes:
            seen.add(Seen(labels, bits, ("scrape", numbers[stamp])))
    return seen


def lives(samples: Arrived) -> dict[Labels, list[int]]:
    """The values of every series in their order, each as often as it changes: what is left where nobody can count.

    Of each target the scrapes before the first good one are left out.
    """
    found: defaultdict[Labels, list[tuple[int, int]]] = defaultdict(list)
    for one in _by_target(samples).values():
        since = min(scrape_times(one), default=0)
        for labels, value, stamp in one:
            if stamp >= since:
                bits = bits_of(value)
                clocked = _name(labels) in CLOCKED and bits != STALE_BITS
                found[labels].append((stamp, 0 if clocked else bits))
    return {
        labels: [bits for bits, _ in groupby(bits for _, bits in sorted(one))]
        for labels, one in found.items()
    }


def _by_target(samples: Arrived) -> dict[Labels, Arrived]:
    found: defaultdict[Labels, Arrived] = defaultdict(list)
    for sample in samples:
        found[tuple(label for label in sample[0] if label[0] in TARGET)].append(sample)
    return found


def timeouts(samples: Arrived, timeout_s: float, scrapes: int) -> int:
    """How many of the scrapes failed because time ran out."""
    times = set(scrape_times(samples)[:scrapes])
    return sum(
        1
        for labels, value, stamp in samples
        if stamp in times and _name(labels) == "scrape_duration_seconds" and value >= 0.95 * timeout_s
    )


def shown_differences(expected: set[Seen], found: set[Seen]) -> list[str]:
    """One line for each sample that only one side has; `-` is the judge's."""
    missing = [(one, "-") for one in expected - found]
    extra = [(one, "+") for one in found - expected]
    return [
        f"{sign} {one}"
        for one, sign in sorted(missing + extra, key=lambda pair: (pair[0].when, pair[0].labels))
    ]


def with_labels(samples: Arrived, changed: Mapping[Labels, Labels]) -> Arrived:
    """The same samples under other labels."""
    return [(changed.get(labels, labels), value, stamp) for labels, value, stamp in samples]


def labels_of(samples: Iterable[tuple[Labels, float, int]]) -> set[Labels]:
    return {labels for labels, _, _ in samples}


def _name(labels: Sequence[tuple[str, str]]) -> str:
    return next((value for name, value in labels if name == "__name__"), "")
