from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.collector.queue import DiskQueue, MemoryQueue, Queue
from trunkline.component.contract import Fragment, Limits
from trunkline.errors import QueueError

LIMITS = Limits(max_request_bytes=1000)


def fragment(number: int, *, lane: int | None = None, size: int = 100, samples: int = 10) -> Fragment:
    return Fragment(
        number if lane is None else lane, bytes([number % 256]) * size, size * 3, samples, 1000 + number
    )


def numbers(queue: Queue, limits: Limits = LIMITS) -> list[int]:
    """Take everything out, a chunk at a time; the first byte of each fragment is its number."""
    found = []
    while chunk := queue.peek(limits):
        found += [one.data[0] for one in chunk.fragments]
        queue.acknowledge(chunk)
    return found


class Make(Protocol):
    def __call__(self, max_bytes: int, segment_bytes: int = 500) -> Queue: ...


@pytest.fixture(params=["disk", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    def queue(max_bytes: int, segment_bytes: int = 500) -> Queue:
        if request.param == "memory":
            return MemoryQueue(max_bytes=max_bytes)
        return DiskQueue(tmp_path / "queue", max_bytes=max_bytes, segment_bytes=segment_bytes)

    return queue


def test_what_goes_in_comes_out_in_order(make: Make) -> None:
    queue = make(100_000)
    for number in range(50):
        assert queue.append([fragment(number)]) == 0
    assert (queue.samples, queue.oldest_ms) == (500, 1000)
    assert numbers(queue) == list(range(50))
    assert (queue.samples, queue.oldest_ms) == (0, None)
    assert queue.peek(LIMITS) is None
    queue.close()


def test_a_request_stays_within_its_limits_and_never_holds_a_lane_twice(make: Make) -> None:
    queue = make(100_000, segment_bytes=100_000)
    for number in (1, 2, 3):
        queue.append([fragment(number, lane=number), fragment(number + 10, lane=number + 10)])
    queue.append([fragment(4, lane=1)])

    def taken(limits: Limits) -> list[int]:
        chunk = queue.peek(limits)
        assert chunk is not None
        return [one.data[0] for one in chunk.fragments]

    assert taken(Limits(max_samples=45)) == [1, 11, 2, 12]
    assert taken(Limits(max_request_bytes=399)) == [1, 11]
    assert taken(Limits(max_raw_bytes=10)) == [1, 11]  # a record is never split, however small the limit
    assert taken(Limits()) == [1, 11, 2, 12, 3, 13]
    queue.close()


def test_full_means_the_oldest_are_given_up_and_counted(make: Make) -> None:
    queue = make(2000)
    given_up = sum(queue.append([fragment(number)]) for number in range(40))
    left = numbers(queue)
    assert given_up == 10 * (40 - len(left))
    assert left == list(range(40 - len(left), 40))
    assert 5 < len(left) < 21
    queue.close()


def test_an_acknowledgement_for_what_was_given_up_meanwhile_takes_nothing_else(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, max_bytes=1500, segment_bytes=300)
    queue.append([fragment(0)])
    chunk = queue.peek(LIMITS)
    assert chunk is not None
    for number in range(1, 30):
        queue.append([fragment(number)])
    before = queue.samples
    queue.acknowledge(chunk)
    assert queue.samples == before
    queue.close()


def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, segment_bytes=500)
    for number in range(20):
        queue.append([fragment(number)])
    chunk = queue.peek(LIMITS)
    assert chunk is not None
    first = [one.data[0] for one in chunk.fragments]
    queue.acknowledge(chunk)
    queue.close()
    reopened = DiskQueue(tmp_path, segment_bytes=500)
    assert reopened.samples == 10 * (20 - len(first))
    reopened.append([fragment(20)])
    assert first + numbers(reopened) == list(range(21))
    reopened.close()


def test_records_of_two_processes_never_share_a_request(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path)
    queue.append([fragment(1)])
    queue.close()
    reopened = DiskQueue(tmp_path)
    reopened.append([fragment(2)])
    chunk = reopened.peek(Limits())
    assert chunk is not None
    assert [one.data[0] for one in chunk.fragments] == [1]
    assert numbers(reopened) == [1, 2]
    reopened.close()


def test_a_torn_end_costs_only_what_was_never_kept(tmp_path: Path) -> None:
    def check(cut: int) -> None:
        folder = tmp_path / str(cut)
        queue = DiskQueue(folder)
        for number in range(3):
            queue.append([fragment(number)])
        queue.close()
        [segment] = folder.glob("*.seg")
        segment.write_bytes(segment.read_bytes()[:-cut])
        reopened = DiskQueue(folder)
        assert numbers(reopened) == [0, 1]
        reopened.close()

    check(1)
    check(100)
    check(130)


def test_killed_at_any_moment_everything_reported_as_kept_is_there(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from trunkline.collector.queue import DiskQueue
        from trunkline.component.contract import Fragment
        queue = DiskQueue(Path(sys.argv[1]), segment_bytes=5000)
        for number in range(10**9):
            queue.append([Fragment(number, number.to_bytes(8, "big") * 20, 1, 1, number)])
            print(number, flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(300):
        kept = int(process.stdout.readline())
    process.kill()
    kept = max([kept, *(int(line) for line in process.stdout.read().split())])
    process.wait()
    process.stdout.close()
    queue = DiskQueue(tmp_path)
    found = []
    while chunk := queue.peek(Limits()):
        found += [int.from_bytes(one.data[:8], "big") for one in chunk.fragments]
        queue.acknowledge(chunk)
    queue.close()
    assert found[: kept + 1] == list(range(kept + 1))
    assert len(found) <= kept + 2


def test_a_second_collector_is_kept_out_of_the_folder(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path)
    with pytest.raises(QueueError, match="is used by another collector; give each its own --data-dir"):
        DiskQueue(tmp_path, patience_s=0.2)
    queue.close()
    DiskQueue(tmp_path).close()


def test_closing_an_empty_queue_leaves_no_segment(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path)
    queue.append([fragment(1)])
    assert numbers(queue) == [1]
    queue.close()
    assert list(tmp_path.glob("*.seg")) == []
    reopened = DiskQueue(tmp_path)
    reopened.append([fragment(2)])
    assert numbers(reopened) == [2]
    reopened.close()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 400), st.sampled_from(["take", "restart"])), max_size=60))
def test_a_queue_is_a_list_whatever_happens_to_it(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | str]
) -> None:
    folder = tmp_path_factory.mktemp("queue")
    queue = DiskQueue(folder, segment_bytes=700)
    model: list[int] = []
    number = 0
    for step in steps:
        if step == "restart":
            queue.close()
            queue = DiskQueue(folder, segment_bytes=700)
        elif step == "take":
            chunk = queue.peek(LIMITS)
            assert (chunk is None) == (not model)
            if chunk is not None:
                taken = [one.data[0] for one in chunk.fragments]
                assert taken == model[: len(taken)]
                del model[: len(taken)]
                queue.acknowledge(chunk)
        else:
            assert isinstance(step, int)
            number += 1
            queue.append([fragment(number, size=step)])
            model.append(number % 256)
        assert queue.samples == 10 * len(model)
    assert numbers(queue) == model
    queue.close()
