"""Series memory, token buckets and capacity, in virtual time."""

from __future__ import annotations

from trunkline.simulator.gateway.series import Capacity, SeriesMemory, TokenBucket


def test_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0)
    assert [bucket.take(1, 100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(1, 101.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(4, 1000.0)


def test_capacity_follows_the_use_of_half_an_hour_ago() -> None:
    capacity = Capacity(floor=100, limit=1000)
    assert capacity.series(90, 0.0) == 100
    assert capacity.series(95, 1000.0) == 100
    assert capacity.series(100, 1800.0) == 180
    assert capacity.series(150, 2900.0) == 190
    assert capacity.series(700, 3600.0) == 200
    assert capacity.series(700, 5400.0) == 1000


def test_capacity_above_five_million_grows_by_ten() -> None:
    capacity = Capacity(floor=2_000_000, limit=50_000_000)
    capacity.series(6_000_000, 0.0)
    assert capacity.series(6_000_000, 1800.0) == 16_000_000


def test_slots_are_used_again() -> None:
    memory = SeriesMemory()
    first = memory.add(1, source=0, label_sets=(0,))
    memory.put(first, 5, 9)
    memory.add(2, source=1, label_sets=(0, 1))
    assert memory.in_label_set == {0: 2, 1: 1}
    memory.expire(6)
    assert len(memory) == 0
    assert memory.in_label_set == {0: 0, 1: 0}
    again = memory.add(3, source=1, label_sets=())
    assert again in {0, 1}
    memory.put(again, 1, 1)
    assert memory.last(again) == (1, 1)
    assert memory.sources() == {1: 1}


def test_rollback() -> None:
    memory = SeriesMemory()
    kept = memory.add(1, source=0, label_sets=())
    memory.put(kept, 5, 50)
    memory.begin()
    memory.put(kept, 6, 60)
    memory.put(kept, 7, 70)
    memory.put(memory.add(2, source=0, label_sets=(3,)), 8, 80)
    memory.rollback()
    assert memory.last(kept) == (5, 50)
    assert memory.newest_ms == 5
    assert memory.find(2) is None
    assert memory.in_label_set[3] == 0
