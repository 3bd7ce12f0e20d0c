"""What the ledger makes of scrapes that a collector was asked for in vain."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

from faults.endpoint import Store
from faults.ledger import End, Missing, missing
from faults.samples import STALE
from faults.targets import NAME, REPORTS, Target

T0_S = 1_800_000_000
SERIES = 3


def name_of(labels: dict[str, str]) -> bytes:
    pairs = ((key.encode(), value.encode()) for key, value in sorted(labels.items()))
    fields = (b"\x0a" + bytes((len(k),)) + k + b"\x12" + bytes((len(v),)) + v for k, v in pairs)
    return b"".join(b"\x0a" + bytes((len(field),)) + field for field in fields)


class World:
    """One target that was scraped every second, and what of it is stored."""

    def __init__(self, scrapes: int) -> None:
        self.target = Target("127.0.0.1:1", SERIES)
        self.target.served = [float(T0_S + number) for number in range(1, scrapes + 1)]
        self.store = Store()

    def put(self, labels: dict[str, str], value: bytes, at_s: float) -> None:
        name = name_of({**labels, "instance": self.target.address})
        assert self.store.put((name, value, int(at_s * 1000))) == ""

    def samples(self, value: bytes, at_s: float) -> None:
        for index in range(SERIES):
            self.put({"__name__": NAME, "index": str(index)}, value, at_s)

    def report(self, up: float, at_s: float) -> None:
        for name in REPORTS:
            self.put({"__name__": name}, struct.pack("<d", up if name == "up" else 0.0), at_s)

    def stored(self, scrapes: Collection[int]) -> None:
        for scrape in scrapes:
            self.samples(struct.pack("<d", scrape), T0_S + scrape)
            self.report(1, T0_S + scrape)

    def missing(self, ends: Sequence[End] = ()) -> Missing:
        return missing([self.target], self.store, (), ends)


def counts(found: Missing) -> tuple[int, int, int]:
    return len(found.samples), found.reports, found.failed


def test_a_last_scrape_that_failed_is_told_by_the_end_of_every_series() -> None:
    world = World(4)
    world.stored([1, 2, 3])
    world.samples(STALE, T0_S + 3.9)
    assert counts(world.missing()) == (SERIES, 5, 0)
    assert counts(world.missing([End(T0_S + 9, told=False)])) == (SERIES, 5, 0)
    assert counts(world.missing([End(T0_S + 9, told=True)])) == (0, 0, SERIES + 5)


def test_a_last_scrape_that_is_lost_is_missed() -> None:
    world = World(4)
    world.stored([1, 2, 3])
    assert counts(world.missing([End(T0_S + 9, told=True)])) == (SERIES, 5, 0)


def test_a_last_scrape_after_one_that_failed_says_nothing_more() -> None:
    world = World(4)
    world.stored([1, 2])
    world.samples(STALE, T0_S + 3)
    world.report(0, T0_S + 3)
    assert counts(world.missing()) == (SERIES, 5, SERIES + 5)
    assert counts(world.missing([End(T0_S + 9, told=True)])) == (0, 0, 2 * (SERIES + 5))


def test_what_the_next_collector_scrapes_is_not_cut_off_by_the_end_of_the_one_before() -> None:
    world = World(6)
    world.stored([1, 2, 3])
    world.samples(STALE, T0_S + 3.9)
    world.stored([5])
    found = world.missing([End(T0_S + 4.5, told=True)])
    assert {scrape for _, scrape in found.scrapes()} == {6}
    assert counts(found) == (SERIES, 5, SERIES + 5)


def test_a_first_scrape_that_fails_ends_no_series() -> None:
    """A collector that has just started knows none."""
    world = World(4)
    world.stored([1, 2])
    world.report(0, T0_S + 3)
    world.stored([4])
    assert counts(world.missing()) == (0, SERIES, SERIES + 5)
    assert counts(world.missing([End(T0_S + 2.5, told=False)])) == (0, 0, SERIES + 5)
