"""The encoder of one source: what is sent stays right while series come, go and rest."""

from array import array

import cramjam

from trunkline.exporters.prometheusremotewrite.encoder import CALM_SCRAPES, LANE_SLOTS, SourceEncoder
from trunkline.model import Batch, Family, Resource, Series, Table
from trunkline.wire.kernel import encode_labels, join
from trunkline.wire.remote_write import decode_write_request

NOW = 1_760_000_000_000


class Source:
    """A table with a sample in every slot that is not free."""

    def __init__(self, count: int) -> None:
        self.table = Table("t")
        self.encoder = SourceEncoder(self.table, lambda series: encode_labels(series.labels))
        self._count = 0
        for _ in range(count):
            self.add()

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
        fragments = self.encoder.encode(batch)
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
    changing = source.scrape(1)
    for number in range(CALM_SCRAPES + 1):
        resting = source.scrape(number)
    assert resting < changing
    source.table.free(7)
    source.scrape(1)
    for number in range(CALM_SCRAPES + 1):
        source.scrape(number)
    assert source.scrape(2) < resting
