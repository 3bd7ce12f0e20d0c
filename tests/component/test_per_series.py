from __future__ import annotations

from array import array

from trunkline.component.contract import PerSeries
from trunkline.model import Batch, Family, Kind, Resource, Series, Table, is_stale
from trunkline.testing import Recorder


def series(name: str, kind: Kind = Kind.GAUGE) -> Series:
    return Series((("__name__", name),), Family(name, kind), Resource())


class Source:
    """A table, and batches in which every slot has the value 1."""

    def __init__(self) -> None:
        self.table = Table("source")
        self.seen = Recorder()
        self._inlet = PerSeries(self._decide, self.seen).open(self.table)
        self._now_ms = 0

    def _decide(self, one: Series) -> Series | None:
        """Drops counters and renames summaries."""
        if one.family.kind is Kind.COUNTER:
            return None
        return series(f"{one.name}_renamed") if one.family.kind is Kind.SUMMARY else one

    def scrape(self) -> list[tuple[str, bool]]:
        """What arrives of the next batch, and before it: names, and whether they end."""
        self.seen.batches.clear()
        self._now_ms += 1000
        values = array("d", [1.0] * len(self.table))
        self._inlet.consume(Batch(self.table, self._now_ms, values, self.table.take_changes()))
        return [
            (one.series.name, is_stale(one.value)) for batch in self.seen.batches for one in batch.samples
        ]


def test_a_living_series_that_is_decided_otherwise_ends() -> None:
    source = Source()
    a = source.table.assign(series("a"))
    source.table.assign(series("b"))
    assert source.scrape() == [("a", False), ("b", False)]
    source.table.replace(a, series("a", Kind.COUNTER))
    assert source.scrape() == [("a", True), ("b", False)]
    assert source.scrape() == [("b", False)]
    source.table.replace(a, series("a", Kind.SUMMARY))
    assert source.scrape() == [("a_renamed", False), ("b", False)]
    source.table.replace(a, series("a"))
    assert source.scrape() == [("a_renamed", True), ("a", False), ("b", False)]


def test_a_series_that_ended_at_its_source_does_not_end_again() -> None:
    source = Source()
    a = source.table.assign(series("a"))
    source.scrape()
    source.table.free(a)
    source.table.assign(series("c", Kind.COUNTER))
    assert source.scrape() == []


def test_nothing_ends_when_a_decision_stays() -> None:
    source = Source()
    a = source.table.assign(series("a"))
    source.scrape()
    source.table.replace(a, series("a", Kind.UNKNOWN))
    assert source.scrape() == [("a", False)]
