"""Several chunks under way at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.collector.queue_samples import LIMITS, Losses, fragment, numbers, numbers_of, taken

from trunkline.collector.queue import DiskQueue, MemoryQueue, Queue
from trunkline.component.contract import Limits

ONE = Limits(max_request_bytes=1)


@pytest.fixture(params=["disk", "read back", "memory"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Queue:
    if request.param == "memory":
        return MemoryQueue(Losses())
    remembered = 0 if request.param == "read back" else 1 << 20
    return DiskQueue(tmp_path / "queue", Losses(), segment_bytes=400, remembered_bytes=remembered)


def test_chunks_are_taken_one_behind_the_other_and_settled_in_any_order(queue: Queue) -> None:
    for number in range(5):
        queue.append([fragment(number)])
    chunks = [taken(queue, ONE) for _ in range(5)]
    assert [numbers_of(chunk) for chunk in chunks] == [[0], [1], [2], [3], [4]]
    assert queue.take(ONE) is None
    assert (queue.samples, queue.waiting, queue.oldest_ms) == (50, 0, 1000)
    for left, number in ((40, 3), (30, 1), (20, 0), (10, 4), (0, 2)):
        assert not chunks[number].inherited
        queue.settle(chunks[number])
        queue.settle(chunks[number])  # which says nothing new
        assert (queue.samples, queue.waiting) == (left, 0)
    assert (queue.oldest_ms, queue.size_bytes) == (None, 0)
    queue.close()


def test_a_lane_is_under_way_until_everything_before_it_is_settled(queue: Queue) -> None:
    for number, lane in enumerate([1, 2, 3, 2, 1]):
        queue.append([fragment(number, lane=lane)])
    first, second, third = (taken(queue, ONE) for _ in range(3))
    assert queue.take(LIMITS) is None
    queue.settle(second)
    assert queue.take(LIMITS) is None  # were the process killed now, lane 2 would be sent again
    assert queue.waiting == 20
    queue.settle(first)
    assert numbers_of(taken(queue))[0] == 3
    queue.settle(third)
    queue.close()


def test_a_chunk_ends_before_a_lane_that_is_under_way(queue: Queue) -> None:
    for number, lane in enumerate([1, 2, 3, 1, 4]):
        queue.append([fragment(number, lane=lane)])
    first = taken(queue, ONE)
    assert numbers_of(taken(queue, Limits())) in ([1], [1, 2])  # a segment ends between them
    while chunk := queue.take(Limits()):
        assert numbers_of(chunk) == [2]
    queue.settle(first)
    assert queue.waiting == 20
    queue.close()


def test_what_is_put_back_is_taken_next(queue: Queue) -> None:
    for number in range(4):
        queue.append([fragment(number)])
    first, second = taken(queue, ONE), taken(queue, ONE)
    with pytest.raises(ValueError, match="only the chunk taken last"):
        queue.put_back(first)
    queue.close()
    del second


def test_put_back_behind_others(queue: Queue) -> None:
    for number in range(8):
        queue.append([fragment(number)])
    first = taken(queue, ONE)
    for _ in range(3):
        second = taken(queue, Limits())
        queue.put_back(second)
        assert queue.waiting == 70
    queue.settle(second)  # it is not under way
    queue.settle(first)
    assert queue.samples == 70
    assert numbers(queue) == list(range(1, 8))
    queue.close()


def test_after_a_kill_only_the_newest_of_a_lane_can_come_again(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path / "queue", Losses())
    for number, lane in enumerate([1, 2, 3, 1]):
        queue.append([fragment(number, lane=lane)])
    chunks = [taken(queue, ONE) for _ in range(3)]
    queue.settle(chunks[0])
    queue.settle(chunks[2])
    fourth = taken(queue, ONE)
    assert numbers_of(fourth) == [3]
    shutil.copytree(tmp_path / "queue", tmp_path / "killed")
    killed = DiskQueue(tmp_path / "killed", Losses())
    again = taken(killed)
    assert numbers_of(again) == [1, 2, 3]
    assert again.inherited
    killed.append([fragment(9)])
    assert killed.take(LIMITS) is None  # other lanes of another process may be the same series
    killed.settle(again)
    assert numbers(killed) == [9]
    for one in (queue, killed):
        one.close()


def test_lanes_of_a_chunk_given_up_stay_under_way_until_it_is_settled(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path, losses, segment_bytes=300)
    queue.append([fragment(1, lane=1)])
    queue.append([fragment(2, lane=2)])
    chunk = taken(queue, ONE)
    for number in range(3, 6):
        queue.append([fragment(number, lane=1)])
    queue.drop_older(1003)
    assert losses == {"too_old": 10}  # what is under way is the sender's to count
    assert queue.take(LIMITS) is None
    queue.settle(chunk)
    assert queue.samples == 30
    assert numbers(queue) == [3, 4, 5]
    queue.close()


def test_what_is_given_up_under_way_and_then_put_back_is_counted(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path, losses, segment_bytes=300)
    for number in range(6):
        queue.append([fragment(number)])
    chunk = taken(queue, ONE)
    queue.drop_older(1002)
    assert losses == {"too_old": 10}
    queue.put_back(chunk)
    assert losses == {"too_old": 20}
    assert numbers(queue) == [2, 3, 4, 5]
    queue.close()


def test_without_a_cursor_the_first_segment_comes_again_and_says_so(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, Losses(), segment_bytes=450)
    for number in range(6):
        queue.append([fragment(number)])
    for _ in range(4):
        queue.settle(taken(queue, ONE))
    queue.close()
    for name in ("cursor", "cursor.2"):
        (tmp_path / name).write_bytes(b"\xff" * 56)
    reopened = DiskQueue(tmp_path, Losses())
    chunk = taken(reopened)
    assert chunk.inherited
    assert numbers_of(chunk) == [3, 4, 5]
    reopened.settle(chunk)
    reopened.close()


@pytest.mark.parametrize("name", ["cursor", "cursor.2"])
def test_damage_to_one_file_of_the_cursor_costs_one_step(tmp_path: Path, name: str) -> None:
    queue = DiskQueue(tmp_path, lambda *_: None)
    for number in range(1, 7):
        queue.append([fragment(number)])
    for _ in range(4):
        chunk = queue.take(Limits(max_samples=1))
        assert chunk is not None
        queue.settle(chunk)
    queue.close()
    (tmp_path / name).write_bytes(b"\xff" * 56)
    again = DiskQueue(tmp_path, lambda *_: None)
    waiting = [one.lane for one in again.fragments()]
    again.close()
    assert waiting in ([4, 5, 6], [5, 6])


def test_a_fragment_without_data_waits_for_its_lane(queue: Queue) -> None:
    """And what is behind it, though of other lanes; it is not sent itself."""
    for number, lane in enumerate([1, 2]):
        queue.append([fragment(number, lane=lane)])
    first, second = taken(queue, ONE), taken(queue, ONE)
    waiting = fragment(2, lane=2)._replace(data=b"", raw_bytes=0, samples=0)
    queue.append([waiting, fragment(3, lane=3), fragment(4, lane=2)])
    assert queue.take(ONE) is None
    queue.settle(second)
    assert queue.take(ONE) is None  # lane 2 is under way until lane 1 is settled, which is older
    queue.settle(first)
    assert numbers_of(taken(queue)) == [3, 4]
    queue.close()


def test_what_is_behind_a_fragment_without_data_is_in_another_request_than_its_lane(queue: Queue) -> None:
    waiting = fragment(1, lane=1)._replace(data=b"", raw_bytes=0, samples=0)
    queue.append([fragment(0, lane=1)])
    queue.append([waiting, fragment(2, lane=2)])
    first = taken(queue, Limits())
    assert numbers_of(first) == [0]
    queue.settle(first)
    assert numbers_of(taken(queue, Limits())) == [2]
    queue.close()


def test_what_is_taken_over_is_under_way_alone(tmp_path: Path) -> None:
    """Another process's lanes have nothing to do with ours, and it may have sent some of it."""
    queue = DiskQueue(tmp_path / "queue", Losses())
    queue.append([fragment(0)])
    queue.append([fragment(1), fragment(2)], inherited=True)
    queue.append([fragment(3)])
    for expected, inherited in (([0], False), ([1, 2], True), ([3], False)):
        chunk = taken(queue, LIMITS)
        assert (numbers_of(chunk), chunk.inherited) == (expected, inherited)
        assert queue.take(LIMITS) is None
        queue.settle(chunk)
    queue.close()


def test_what_is_under_way_and_given_up_is_counted_when_the_queue_is_closed(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path / "queue", losses, segment_bytes=200, max_bytes=400)
    queue.append([fragment(0)])
    under_way, settled = taken(queue, ONE), None
    kept = 10
    for number in range(1, 12):
        kept += queue.append([fragment(number)])
        if number == 1:
            settled = taken(queue, ONE)
    assert under_way.lost_as == "queue_full"
    assert settled is not None
    queue.settle(settled)
    left = queue.samples
    queue.close()
    assert sum(losses.values()) == kept - left - settled.samples
