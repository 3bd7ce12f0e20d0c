"""Samples of a series stay in order though it moves from lane to lane, whatever is answered first."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.collector.queue import Chunk, DiskQueue, MemoryQueue, Queue
from trunkline.collector.queue import chunk as keeping
from trunkline.component.contract import Limits
from trunkline.exporters.prometheusremotewrite import encoder as encoding
from trunkline.exporters.prometheusremotewrite.encoder import SourceEncoder
from trunkline.exporters.prometheusremotewrite.splitting import singles
from trunkline.model import Batch, Family, Resource, Series, Table
from trunkline.wire.kernel import encode_labels

NOW = 1_760_000_000_000
SLOTS = 4
LIMITS = Limits(max_samples=6)


@pytest.fixture(autouse=True)
def _short_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "LANE_SLOTS", SLOTS)
    monkeypatch.setattr(encoding, "PART_SLOTS", SLOTS)
    monkeypatch.setattr(keeping, "RECORD_SAMPLES", SLOTS)


def _refuse_nothing(samples: int, reason: str) -> None:
    raise AssertionError((samples, reason))


class Source:
    """Series that come and go: what goes is stale once more, and its slot is free then."""

    def __init__(self, last: dict[str, int]) -> None:
        self._last = last
        self._scrapes = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """The source is back after it was gone: with another table, by the same key."""
        self._table = Table("t")
        self._slots: dict[int, int] = {}
        self._encoder = SourceEncoder(
            self._table, lambda series: encode_labels(series.labels), self._last, _refuse_nothing
        )

    def scrape(self, queue: Queue, wanted: set[int]) -> None:
        gone = set(self._slots) - wanted
        for number in sorted(wanted - set(self._slots)):
            series = Series((("__name__", f"s{number}"),), Family(f"s{number}"), Resource())
            self._slots[number] = self._table.assign(series)
        series_by_slot = self._table.series
        present = bytearray(one is not None for one in series_by_slot)
        values = array("d", [1.0] * len(series_by_slot))
        self._scrapes += 1
        batch = Batch(self._table, NOW + self._scrapes, values, self._table.take_changes(), present)
        queue.append(self._encoder.encode(batch))
        for number in gone:
            self._table.free(self._slots.pop(number))


def stamps_of(chunk: Chunk) -> Iterator[tuple[bytes, int]]:
    """Each series of a request, and the time of its sample."""
    for fragment in chunk.fragments:
        for labels, _ in singles(fragment):
            yield labels, fragment.newest_ms


class Receiver:
    """Answers the requests under way in any order; keeps what came first of each series."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._under_way: list[Chunk] = []
        self._newest: dict[bytes, int] = {}
        self.stored = 0

    def work(self, queue: Queue, steps: int) -> None:
        for _ in range(steps):
            if self._chance.random() < 0.6 and (chunk := queue.take(LIMITS)):
                self._under_way.append(chunk)
                assert max(Counter(labels for labels, _ in stamps_of(chunk)).values()) == 1
            elif self._under_way:
                chunk = self._under_way.pop(self._chance.randrange(len(self._under_way)))
                self._store(chunk)
                queue.settle(chunk)

    def _store(self, chunk: Chunk) -> None:
        for labels, stamp_ms in stamps_of(chunk):
            assert stamp_ms > self._newest.get(labels, 0), "a sample came after a newer one"
            self._newest[labels] = stamp_ms
            self.stored += 1


SCRAPES = st.lists(st.tuples(st.sets(st.integers(0, 19), min_size=1), st.booleans()), min_size=2, max_size=12)


@given(SCRAPES, st.integers(0, 2**32), st.booleans())
@settings(max_examples=150, deadline=None)
def test_nothing_of_a_series_is_sent_before_what_is_older_is_answered(
    tmp_path_factory: pytest.TempPathFactory, scrapes: list[tuple[set[int], bool]], seed: int, on_disk: bool
) -> None:
    def lose(samples: int, reason: str) -> None:
        raise AssertionError((samples, reason))

    folder: Path = tmp_path_factory.mktemp("queue")
    queue: Queue = DiskQueue(folder, lose, remembered_bytes=0) if on_disk else MemoryQueue(lose)
    source, receiver = Source({}), Receiver(random.Random(seed))
    for wanted, is_back in scrapes:
        if is_back:
            source.begin_anew()
        source.scrape(queue, wanted)
        receiver.work(queue, 3)
    expected = receiver.stored + queue.samples
    while queue.samples:
        receiver.work(queue, 10)
    assert receiver.stored == expected
    queue.close()


def test_a_series_that_moves_to_an_earlier_lane_waits() -> None:
    queue = MemoryQueue(lambda _samples, _reason: None)
    source = Source({})
    source.scrape(queue, set(range(12)))
    source.begin_anew()
    source.scrape(queue, {11, *range(15, 20)})  # what was in the last lane is in the first now
    first, second = queue.take(Limits(max_samples=8)), queue.take(Limits(max_samples=8))
    assert first is not None
    assert second is not None
    assert [first.samples, second.samples] == [8, 4]
    queue.settle(first)
    assert queue.take(LIMITS) is None
    queue.settle(second)
    assert queue.take(LIMITS) is not None
