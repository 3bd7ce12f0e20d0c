from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.collector.queue_samples import LIMITS, Losses, fragment, numbers

from trunkline.collector.queue import DiskQueue, MemoryQueue, Queue
from trunkline.component.contract import Fragment, Limits
from trunkline.errors import QueueError


class Make(Protocol):
    losses: Losses

    def __call__(self, max_bytes: int, segment_bytes: int = 500) -> Queue: ...


@pytest.fixture(params=["disk", "read back", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    class Maker:
        losses = Losses()

        def __call__(self, max_bytes: int, segment_bytes: int = 500) -> Queue:
            if request.param == "memory":
                return MemoryQueue(self.losses, max_bytes=max_bytes)
            folder = tmp_path / "queue"
            return DiskQueue(
                folder,
                self.losses,
                max_bytes=max_bytes,
                segment_bytes=segment_bytes,
                remembered_bytes=1 << 20 if request.param == "disk" else 0,
            )

    return Maker()


def test_what_goes_in_comes_out_in_order(make: Make) -> None:
    queue = make(100_000)
    for number in range(50):
        assert queue.append([fragment(number)]) == 10
    assert (queue.samples, queue.oldest_ms) == (500, 1000)
    assert numbers(queue) == list(range(50))
    assert (queue.samples, queue.oldest_ms) == (0, None)
    assert queue.take(LIMITS) is None
    queue.close()


def test_a_request_stays_within_its_limits_and_never_holds_a_lane_twice(make: Make) -> None:
    queue = make(100_000, segment_bytes=100_000)
    for number in (1, 2, 3):
        queue.append([fragment(number, lane=number), fragment(number + 10, lane=number + 10)])
    queue.append([fragment(4, lane=1)])

    def taken(limits: Limits) -> list[int]:
        chunk = queue.take(limits)
        assert chunk is not None
        queue.put_back(chunk)
        return [one.data[0] for one in chunk.fragments]

    assert taken(Limits(max_samples=45)) == [1, 11, 2, 12]
    assert taken(Limits(max_request_bytes=399)) == [1, 11]
    assert taken(Limits(max_raw_bytes=10)) == [1, 11]  # a record is never split, however small the limit
    assert taken(Limits()) == [1, 11, 2, 12, 3, 13]
    queue.close()


def test_full_means_the_oldest_are_given_up_and_counted(make: Make) -> None:
    queue = make(2000)
    for number in range(40):
        assert queue.append([fragment(number)]) == 10
    waiting = queue.samples
    left = numbers(queue)
    assert waiting == 10 * len(left)
    assert make.losses == {"queue_full": 10 * (40 - len(left))}
    assert left == list(range(40 - len(left), 40))
    assert 5 < len(left) < 21
    queue.close()


def test_a_queue_smaller_than_a_segment_is_bounded_too(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path, losses, max_bytes=1000)
    for number in range(40):
        queue.append([fragment(number)])
    assert queue.size_bytes <= 1000
    assert losses["queue_full"] + queue.samples == 400
    queue.close()


def test_what_is_under_way_when_it_is_given_up_is_the_senders_to_count(make: Make) -> None:
    queue = make(1500, segment_bytes=300)
    queue.append([fragment(0)])
    chunk = queue.take(LIMITS)
    assert chunk is not None
    for number in range(1, 30):
        queue.append([fragment(number)])
    queue.settle(chunk)
    assert make.losses["queue_full"] + queue.samples + chunk.samples == 300
    assert numbers(queue)[-1] == 29
    queue.close()


def test_what_is_too_old_leaves_before_it_is_sent(make: Make) -> None:
    queue = make(100_000, segment_bytes=300)
    for number in range(20):
        queue.append([fragment(number)])
    queue.drop_older(1000 + 10)
    left = numbers(queue)
    assert left[-1] == 19
    assert 10 - 3 <= left[0] <= 10  # whole segments only
    assert make.losses == {"too_old": 10 * left[0]}
    queue.close()


def test_large_batches_become_records_within_limits(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, Losses())
    queue.append([Fragment(lane, b"x", 400_000, 512, 1, 1) for lane in range(20)])
    chunk = queue.take(Limits(max_raw_bytes=1_000_000))
    assert chunk is not None
    assert len(chunk.fragments) == 2
    queue.close()


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("offset", range(0, 700, 23))
def test_damage_costs_the_records_it_lies_in(tmp_path: Path, offset: int, restarted: bool) -> None:
    """Six records of some 150 bytes in a segment, 40 bytes of which are spoilt."""
    losses = Losses()
    queue = DiskQueue(tmp_path, losses, segment_bytes=950, remembered_bytes=0)
    for number in range(12):
        queue.append([fragment(number)])
    first = min(tmp_path.glob("*.seg"))
    content = bytearray(first.read_bytes())
    content[offset : offset + 40] = (b"TLq1 rubbish" * 4)[:40]
    first.write_bytes(content)
    if restarted:
        queue.close()
        queue = DiskQueue(tmp_path, losses, segment_bytes=950)
    left = numbers(queue)
    missing = set(range(12)) - set(left)
    assert left == sorted(left)
    assert 1 <= len(missing) <= 2
    assert losses == (
        {} if restarted else {"damaged": 10 * len(missing)}
    )  # who has not seen them cannot count them
    assert queue.samples == 0
    [aside] = (tmp_path / "damaged").iterdir()
    assert b"TLq1 rubbish" in aside.read_bytes()
    queue.append([fragment(99)])
    assert numbers(queue) == [99]
    queue.close()


def test_damage_in_the_segment_being_written_does_not_stop_the_queue(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path, losses, remembered_bytes=0)
    queue.append([fragment(1)])
    [segment] = tmp_path.glob("*.seg")
    segment.write_bytes(b"\xff" * segment.stat().st_size)
    assert numbers(queue) == []
    assert losses == {"damaged": 10}
    queue.append([fragment(2)])
    assert numbers(queue) == [2]
    queue.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_gives_up_the_oldest_and_counts_them(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        losses = Losses()
        queue = DiskQueue(tmp_path / "queue", losses, segment_bytes=8000, memory_bytes=10_000)
        kept = sum(queue.append([fragment(number, size=1000)]) for number in range(200))
        assert kept == 2000
        assert losses["disk_full"] + queue.samples == 2000
        assert losses["disk_full"] > 1000
        left = numbers(queue)
        assert left == list(range(200 - len(left), 200))
        assert len(left) > 20
        queue.close()
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_used_holds_no_lock(tmp_path: Path) -> None:
    (tmp_path / "cursor").mkdir()
    for _ in range(2):
        with pytest.raises(OSError, match="directory"):
            DiskQueue(tmp_path, Losses(), patience_s=0.2)
    (tmp_path / "cursor").rmdir()
    DiskQueue(tmp_path, Losses()).close()


def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, Losses(), segment_bytes=500)
    for number in range(20):
        queue.append([fragment(number)])
    chunk = queue.take(LIMITS)
    assert chunk is not None
    first = [one.data[0] for one in chunk.fragments]
    queue.settle(chunk)
    queue.close()
    reopened = DiskQueue(tmp_path, Losses(), segment_bytes=500)
    assert reopened.samples == 10 * (20 - len(first))
    reopened.append([fragment(20)])
    assert first + numbers(reopened) == list(range(21))
    reopened.close()


def test_records_of_two_processes_never_share_a_request(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, Losses())
    queue.append([fragment(1)])
    queue.close()
    reopened = DiskQueue(tmp_path, Losses())
    reopened.append([fragment(2)])
    chunk = reopened.take(Limits())
    assert chunk is not None
    assert [one.data[0] for one in chunk.fragments] == [1]
    assert chunk.inherited
    assert reopened.take(Limits()) is None  # not while that is under way
    reopened.put_back(chunk)
    assert numbers(reopened) == [1, 2]
    reopened.close()


def test_a_torn_end_costs_only_what_was_never_kept(tmp_path: Path) -> None:
    def check(cut: int) -> None:
        folder = tmp_path / str(cut)
        queue = DiskQueue(folder, Losses())
        for number in range(3):
            queue.append([fragment(number)])
        queue.close()
        [segment] = folder.glob("*.seg")
        segment.write_bytes(segment.read_bytes()[:-cut])
        reopened = DiskQueue(folder, Losses())
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
        queue = DiskQueue(Path(sys.argv[1]), print, segment_bytes=5000)
        for number in range(10**9):
            queue.append([Fragment(number, number.to_bytes(8, "big") * 20, 1, 1, number, number)])
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
    queue = DiskQueue(tmp_path, Losses())
    found = []
    while chunk := queue.take(Limits()):
        found += [int.from_bytes(one.data[:8], "big") for one in chunk.fragments]
        queue.settle(chunk)
    queue.close()
    assert found[: kept + 1] == list(range(kept + 1))
    assert len(found) <= kept + 2


def test_a_second_collector_is_kept_out_of_the_folder(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, Losses())
    with pytest.raises(QueueError, match="is used by another collector; give each its own --data-dir"):
        DiskQueue(tmp_path, Losses(), patience_s=0.2)
    queue.close()
    DiskQueue(tmp_path, Losses()).close()


def test_closing_an_empty_queue_leaves_no_segment(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, Losses())
    queue.append([fragment(1)])
    assert numbers(queue) == [1]
    queue.close()
    assert list(tmp_path.glob("*.seg")) == []
    reopened = DiskQueue(tmp_path, Losses())
    reopened.append([fragment(2)])
    assert numbers(reopened) == [2]
    reopened.close()


def test_a_backlog_is_not_kept_in_memory(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, Losses(), segment_bytes=100_000, remembered_bytes=40_000)
    for number in range(1000):
        queue.append([fragment(number, size=1000)])
    held = sum(len(one.data) for s in queue._ahead for record in s.remembered for one in record.fragments)
    assert held < 80_000
    assert numbers(queue, Limits()) == [number % 256 for number in range(1000)]
    queue.close()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.integers(1, 400), st.sampled_from(["take", "restart"])), max_size=60),
    st.sampled_from([0, 300, 1000, 1 << 20]),
)
def test_a_queue_is_a_list_whatever_happens_to_it(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | str], remembered: int
) -> None:
    folder = tmp_path_factory.mktemp("queue")
    queue = DiskQueue(folder, Losses(), segment_bytes=700, remembered_bytes=remembered)
    model: list[int] = []
    number = 0
    for step in steps:
        if step == "restart":
            queue.close()
            queue = DiskQueue(folder, Losses(), segment_bytes=700, remembered_bytes=remembered)
        elif step == "take":
            chunk = queue.take(LIMITS)
            assert (chunk is None) == (not model)
            if chunk is not None:
                taken = [one.data[0] for one in chunk.fragments]
                assert taken == model[: len(taken)]
                del model[: len(taken)]
                queue.settle(chunk)
        else:
            assert isinstance(step, int)
            number += 1
            queue.append([fragment(number, size=step)])
            model.append(number % 256)
        assert queue.samples == 10 * len(model)
    assert numbers(queue) == model
    queue.close()


def test_many_small_fragments_are_written_too(tmp_path: Path) -> None:
    """The kernel takes no more than 1,024 pieces in one write."""
    losses = Losses()
    queue = DiskQueue(tmp_path, losses)
    queue.append([fragment(0)])
    assert queue.append([fragment(number, size=1, samples=1) for number in range(1, 2501)]) == 2500
    assert (queue.samples, losses) == (2510, {})
    queue.close()


def test_what_waits_is_not_given_up_for_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path, losses)
    queue.append([fragment(0, size=10_000)])
    (segment,) = tmp_path.glob("*.seg")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (segment.stat().st_size, before[1]))
    try:
        assert queue.append([fragment(1)]) == 10  # in another one
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert numbers(queue, Limits()) == [0, 1]
    assert not losses
    queue.close()


def test_without_another_segment_the_last_one_grows(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path, losses, segment_bytes=300)
    (tmp_path / "0000000000000002.seg").mkdir()
    assert [queue.append([fragment(number)]) for number in range(5)] == [10] * 5
    (tmp_path / "0000000000000002.seg").rmdir()
    assert numbers(queue) == list(range(5))
    assert not losses
    queue.close()


def test_a_segment_that_cannot_be_removed_stops_nothing(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, Losses(), segment_bytes=300)
    for number in range(5):
        queue.append([fragment(number)])
    first = tmp_path / "0000000000000001.seg"
    first.unlink()
    first.mkdir()
    assert numbers(queue) == list(range(5))
    queue.close()


def test_what_is_put_back_and_then_given_up_is_counted(make: Make) -> None:
    queue = make(1500, segment_bytes=300)
    queue.append([fragment(0)])
    chunk = queue.take(LIMITS)
    assert chunk is not None
    queue.put_back(chunk)
    for number in range(1, 30):
        queue.append([fragment(number)])
    assert make.losses["queue_full"] + queue.samples == 300
    queue.close()


def test_records_without_samples_are_not_passed_over(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, Losses(), segment_bytes=500)
    for number in range(12):
        queue.append([fragment(number, samples=10 if number % 4 == 0 else 0)])
    assert len(list(tmp_path.glob("*.seg"))) > 2
    assert numbers(queue, Limits(max_request_bytes=150)) == list(range(12))
    assert len(list(tmp_path.glob("*.seg"))) == 1
    queue.close()


def test_a_segment_that_cannot_be_read_is_kept_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "queue"
    (folder / f"{1:016d}.seg").mkdir(parents=True)  # reading it fails, as from a disk that does not answer
    for _ in range(2):
        queue = DiskQueue(folder, Losses(), patience_s=0.1)
        queue.append([fragment(7)])
        assert numbers(queue) == [7]
        queue.close()
    assert (folder / "damaged" / f"{1:016d}.seg").is_dir()
    assert caplog.text.count("start with --take-over") == 1


def test_a_segment_that_can_be_read_after_a_moment_is_delivered_first(tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    queue = DiskQueue(folder, Losses())
    queue.append([fragment(1)])
    queue.close()
    (path,) = folder.glob("*.seg")
    path.rename(tmp_path / "away")
    path.mkdir()

    def mend() -> None:
        path.rmdir()
        (tmp_path / "away").rename(path)

    mending = threading.Timer(0.3, mend)
    mending.start()
    queue = DiskQueue(folder, Losses())
    queue.append([fragment(2)])
    assert numbers(queue) == [1, 2]
    queue.close()
    mending.join()
