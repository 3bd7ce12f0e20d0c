"""The encoder of one source: what is sent stays right while series come, go and rest."""

from array import array
from collections import Counter

import cramjam
import pytest

from trunkline.exporters.prometheusremotewrite.encoder import (
    CALM_SCRAPES,
    LANE_SLOTS,
    RefusedSeriesError,
    SourceEncoder,
)
from trunkline.model import Batch, Family, Resource, Series, Table
from trunkline.wire.kernel import encode_labels, join
from trunkline.wire.remote_write import decode_write_request

NOW = 1_760_000_000_000


def _refuse_nothing(samples: int, reason: str) -> None:
    raise AssertionError((samples, reason))


class Source:
    """A table with a sample in every slot that is not free."""

    def __init__(self, count: int) -> None:
        self.table = Table("t")
        self.encoder = SourceEncoder(self.table, self._encode, {}, _refuse_nothing)
        self.asked: list[str] = []
        self._count = 0
        for _ in range(count):
            self.add()

    def _encode(self, series: Series) -> bytes:
        self.asked.append(series.name)
        return encode_labels(series.labels)

    def add(self) -> None:
        self._count += 1
        name = f"s{self._count}"
        self.table.assign(Series((("__name__", name), ("job", "a" * 50)), Family(name), Resource()))

    def scrape(self, number: int, *, stamped: bool = False) -> int:
        """Encode a scrape and check all of it; returns how many bytes it took."""
        series = self.table.series
        present = bytearray(one is not None for one in series)
        values = array("d", (number + slot for slot in range(len(series))))
        stamps = array("q", (NOW + slot for slot in range(len(series)))) if stamped else None
        batch = Batch(self.table, NOW + number, values, self.table.take_changes(), present, stamps)
        fragments = [fragment for fragment in self.encoder.encode(batch) if fragment.data]
        body = join([(fragment.data, fragment.raw_bytes) for fragment in fragments])
        found = decode_write_request(bytes(cramjam.snappy.decompress_raw(body))).series
        expected = [
            (one.labels, values[slot], stamps[slot] if stamps else NOW + number)
            for slot, one in enumerate(series)
            if one is not None
        ]
        assert [(one.labels, one.samples[0].value, one.samples[0].timestamp_ms) for one in found] == expected
        assert sum(fragment.samples for fragment in fragments) == len(expected)
        assert min(fragment.oldest_ms for fragment in fragments) == min(stamp for _, _, stamp in expected)
        assert max(fragment.newest_ms for fragment in fragments) == max(stamp for _, _, stamp in expected)
        assert (
            len({fragment.lane for fragment in fragments}) == len(fragments) == -(-len(series) // LANE_SLOTS)
        )
        return len(body)


def test_series_that_come_and_go() -> None:
    source = Source(LANE_SLOTS + 200)
    number = 0
    for turn in range(6):
        for _ in range(turn * 2):
            number += 1
            source.scrape(number, stamped=number % 3 == 0)
        for slot in range(turn, LANE_SLOTS + 200, 97):
            if source.table.series[slot] is not None:
                source.table.free(slot)
        for _ in range(turn):
            source.add()
    source.scrape(number)


def test_a_lane_at_rest_is_compressed_as_a_whole() -> None:
    source = Source(LANE_SLOTS)
    resting = source.scrape(1)
    assert source.scrape(2) == resting
    source.table.free(7)
    changing = source.scrape(3)
    assert changing > resting
    for number in range(CALM_SCRAPES + 1):
        source.scrape(number)
    assert source.scrape(4) < resting


@pytest.mark.parametrize("reason", ["labels", ""])
def test_a_series_that_is_left_out_is_asked_about_once(reason: str) -> None:
    """And all of its samples are counted, if they are refused."""
    table = Table("t")
    lost: Counter[str] = Counter()
    asked: list[str] = []

    def encode(series: Series) -> bytes | None:
        asked.append(series.name)
        if series.name == "bad" and reason:
            raise RefusedSeriesError(reason)
        return None if series.name == "bad" else encode_labels(series.labels)

    encoder = SourceEncoder(table, encode, {}, lambda samples, why: lost.update({why: samples}))

    def scrape(*, without: int | None = None) -> int:
        present = bytearray(one is not None for one in table.series)
        if without is not None:
            present[without] = 0
        batch = Batch(table, NOW, array("d", bytes(8 * len(table))), table.take_changes(), present)
        return sum(fragment.samples for fragment in encoder.encode(batch))

    bad = [table.assign(_named(name)) for name in ("a", "bad", "b")][1]
    assert scrape() == 2
    assert asked == ["a", "bad", "b"]
    for _ in range(CALM_SCRAPES + 2):
        table.assign(_named("later"))
        scrape()
        scrape(without=0)
    scrape(without=bad)
    assert asked.count("bad") == 1
    assert lost == ({reason: 1 + 2 * (CALM_SCRAPES + 2)} if reason else {})
    table.replace(bad, _named("bad"))
    scrape()
    table.replace(bad, _named("good"))
    assert scrape() == scrape() == len(table)
    assert asked.count("bad") == 2


def test_labels_are_not_asked_for_again_while_a_series_stays() -> None:
    source = Source(3 * LANE_SLOTS)
    source.scrape(0)
    for number in range(3 * CALM_SCRAPES):
        if number < CALM_SCRAPES:
            source.table.free(40 * number)
            source.add()
        source.scrape(number + 1, stamped=number % 2 == 0)
    assert len(source.asked) == len(set(source.asked)) == 3 * LANE_SLOTS + CALM_SCRAPES


def test_a_lane_without_samples_waits_for_them() -> None:
    """A target that does not answer for a while costs nothing when it is back."""
    source = Source(LANE_SLOTS)
    expected = source.scrape(1)
    nothing = Batch(source.table, NOW, array("d", bytes(8 * LANE_SLOTS)), (), bytearray(LANE_SLOTS))
    for _ in range(3):
        assert source.encoder.encode(nothing) == []
    assert source.scrape(2) == expected
    assert len(source.asked) == LANE_SLOTS


def test_parts_that_rest_are_joined_while_others_change() -> None:
    source = Source(LANE_SLOTS)
    source.scrape(0)
    sizes = []
    for number in range(4 * CALM_SCRAPES):
        source.table.free(LANE_SLOTS - 1)
        if number == 0:
            for slot in range(0, LANE_SLOTS, 100):
                source.table.free(slot)
        source.add()
        sizes.append(source.scrape(number + 1) / sum(one is not None for one in source.table.series))
    assert sizes[-1] < 0.97 * sizes[0]


def _named(name: str) -> Series:
    return Series((("__name__", name),), Family(name), Resource())
