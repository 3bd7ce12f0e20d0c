"""Queues against a simple model of them, whatever happens: `QUEUE_EXAMPLES=2000` makes it look longer."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from trunkline.collector.queue import Chunk, DiskQueue, MemoryQueue
from trunkline.component.contract import Fragment, Limits

EXAMPLES: Final = int(os.environ.get("QUEUE_EXAMPLES", "100"))
LANES: Final = 16
MAX_BYTES: Final = 3500
MEMORY_BYTES: Final = 1500
SEGMENT_BYTES: Final = 700
BATCH: Final = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 40), st.sampled_from([1, 10, 0])),
    min_size=1,
    max_size=4,
)
"""Shift of the lane, size in words of eight bytes, and samples of each fragment."""
DISK: Path | None = None
"""A small file system, if we may mount one."""


def number(fragment: Fragment) -> int:
    return int.from_bytes(fragment.data[:8], "big")


class QueueMachine(RuleBasedStateMachine):
    """What both queues promise.

    Every fragment has a number, which is its time, too. What was `accepted` is taken in that order, at most one
    fragment of a lane is under way, and what does not come out was counted as lost.
    """

    queue: DiskQueue | MemoryQueue

    def __init__(self) -> None:
        super().__init__()
        self.accepted: dict[int, Fragment] = {}
        self.taken: set[int] = set()
        self.settled: set[int] = set()
        self.newest_taken: dict[int, int] = {}
        self.chunks: list[Chunk] = []
        self.window: list[Chunk] = []  # with those that are settled while an older one is not
        self.last: tuple[Chunk, dict[int, int], set[int]] | None = None
        self.lost: Counter[str] = Counter()
        self.entered = self.left = 0  # samples that came to wait, and that were taken
        self.excused = 0  # samples nobody could count as lost
        self.anything_may_repeat = False
        self.damaged = self.reopened = False
        self.possible = {"queue_full", "too_old"}
        """Why something may be given up, after what has happened so far."""

    def lose(self, samples: int, reason: str) -> None:
        assert samples > 0
        assert reason in self.possible
        self.lost[reason] += samples

    @contextmanager
    def disk(self) -> Iterator[None]:
        yield

    @rule(batches=st.lists(BATCH, min_size=1, max_size=8))
    def append(self, batches: list[list[tuple[int, int, int]]]) -> None:
        for batch in batches:
            self._append(batch)

    def _append(self, batch: list[tuple[int, int, int]]) -> None:
        fragments = []
        for shift, words, samples in batch:
            one = len(self.accepted) + 1
            body = one.to_bytes(8, "big") * words
            lane = (one + shift) % LANES
            fragments.append(Fragment(lane, body, len(body), samples, one, one))
            self.accepted[one] = fragments[-1]
        before = self.lost.total()
        with self.disk():
            kept = self.queue.append(fragments)
        samples = sum(fragment.samples for fragment in fragments)
        assert 0 <= samples - kept <= self.lost.total() - before
        self.entered += samples
        self.last = None

    @precondition(lambda self: self.queue.samples)
    @rule(steps=st.lists(st.sampled_from([1, 200, 1, 10_000, -2, -1, 1]), min_size=1, max_size=12))
    def deliver(self, steps: list[int]) -> None:
        """Take chunks of so many bytes, and settle the first, second or third of those under way."""
        for step in steps:
            if step > 0:
                self._take(step)
            elif self.chunks:
                self._settle(-step - 1)

    def _take(self, limit_bytes: int) -> None:
        with self.disk():
            chunk = self.queue.take(Limits(max_request_bytes=limit_bytes))
        if chunk is None:
            assert self.chunks or self.queue.waiting == 0
            return
        self.last = chunk, dict(self.newest_taken), self.taken & {number(one) for one in chunk.fragments}
        lanes = [one.lane for one in chunk.fragments]
        assert len(set(lanes)) == len(lanes)
        for other in self.chunks:
            assert other.place is chunk.place or not other.inherited
            assert chunk.inherited == other.inherited
        for other in self.window:
            assert not {one.lane for one in other.fragments} & set(lanes)
        for one in chunk.fragments:
            self._check_order(one, chunk)
            self.taken.add(number(one))
            self.newest_taken[one.lane] = max(number(one), self.newest_taken.get(one.lane, 0))
        assert chunk.samples == sum(one.samples for one in chunk.fragments)
        self.left += chunk.samples
        self.chunks.append(chunk)
        self.window.append(chunk)

    def _check_order(self, one: Fragment, chunk: Chunk) -> None:
        assert one == self.accepted[number(one)]
        newest = self.newest_taken.get(one.lane, 0)
        if number(one) <= newest:
            assert chunk.inherited
            assert number(one) == newest or self.anything_may_repeat

    @precondition(lambda self: self.last)
    @rule()
    def put_back(self) -> None:
        assert self.last
        chunk, self.newest_taken, before = self.last
        self.last = None
        self.chunks.remove(chunk)
        self.window.remove(chunk)
        self.taken -= {number(one) for one in chunk.fragments} - before
        self.left -= chunk.samples
        with self.disk():
            self.queue.put_back(chunk)

    def _settle(self, place: int) -> None:
        chunk = self.chunks.pop(place % len(self.chunks))
        self.settled |= {number(one) for one in chunk.fragments}
        while self.window and self.window[0] not in self.chunks:
            self.window.pop(0)
        self.last = None
        with self.disk():
            self.queue.settle(chunk)

    @precondition(lambda self: len(self.accepted) > 20)
    @rule(newest=st.integers(10, 50))
    def drop_older(self, newest: int) -> None:
        limit = len(self.accepted) - newest
        before = self.lost.copy()
        old = sum(one.samples for key, one in self.accepted.items() if key < limit)
        with self.disk():
            self.queue.drop_older(limit)
        self.last = None
        assert (self.lost - before).keys() <= {"too_old"}
        assert self.lost["too_old"] - before["too_old"] <= old

    @invariant()
    def every_sample_is_somewhere(self) -> None:
        assert self.queue.waiting == self.entered - self.left - self.lost.total()
        under_way = sum(chunk.samples for chunk in self.chunks if not chunk.lost_as)
        assert self.queue.samples == self.queue.waiting + under_way

    @invariant()
    def the_oldest_is_not_settled(self) -> None:
        oldest_ms = self.queue.oldest_ms
        if self.queue.samples and not self.damaged:
            assert oldest_ms is not None
        if oldest_ms is not None:
            unsettled = {number(one) for chunk in self.chunks for one in chunk.fragments}
            assert oldest_ms in unsettled or oldest_ms not in self.taken or self.reopened

    def _missing(self) -> int:
        """Samples that were accepted and are not settled."""
        return sum(one.samples for key, one in self.accepted.items() if key not in self.settled)

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        while self.chunks:
            self._settle(0)
        while (chunk := self.queue.take(Limits())) is not None:
            for one in chunk.fragments:
                self._check_order(one, chunk)
                self.settled.add(number(one))
                self.newest_taken[one.lane] = max(number(one), self.newest_taken.get(one.lane, 0))
            self.queue.settle(chunk)
        assert (self.queue.samples, self.queue.waiting) == (0, 0)
        self.queue.close()
        missing = self._missing()
        assert missing <= self.lost.total() + self.excused


SEEDS: Final = st.integers(0, 1000)


class MemoryMachine(QueueMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = MemoryQueue(self.lose, max_bytes=MAX_BYTES)


class DiskMachine(QueueMachine):
    """What a disk adds: processes that end, and a disk that is full, fails or forgets."""

    queue: DiskQueue

    @initialize(
        remembered=st.sampled_from([0, 300, 1 << 20]),
        fsync=st.booleans(),
        troubles=st.sets(st.sampled_from(["fails", "is full", "damage", "damage cursor"]), max_size=2),
    )
    def begin(self, remembered: int, fsync: bool, troubles: set[str]) -> None:
        self.troubles = troubles  # not all at once: in the worst, little can be told for sure
        self.folder = Path(tempfile.mkdtemp(dir=DISK)) / "queue"
        self.remembered, self.fsync = remembered, fsync
        self.failing = False
        self.now_s = 0.0
        self.open()

    def open(self) -> None:
        self.queue = DiskQueue(
            self.folder,
            self.lose,
            max_bytes=MAX_BYTES,
            memory_bytes=MEMORY_BYTES,
            segment_bytes=SEGMENT_BYTES,
            remembered_bytes=self.remembered,
            fsync=self.fsync,
            monotonic=lambda: self.now_s,
        )

    @contextmanager
    def disk(self) -> Iterator[None]:
        """A disk that refuses every write while `failing`."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if self.failing:
            self.anything_may_repeat = True  # the cursor cannot be written
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    @precondition(lambda self: self.troubles & {"fails", "is full"})
    @rule(how=st.sampled_from(["fails", "is full", "is well again"]))
    def disk_changes(self, how: str) -> None:
        self.now_s += 10
        if how == "is well again":
            self._repair()
        elif how == "fails" and how in self.troubles:
            self.failing = True
            self.possible.add("disk_full")
        elif DISK and how in self.troubles:
            self._fill()
            self.possible.add("disk_full")

    def _fill(self) -> None:
        with suppress(OSError), (self.folder.parent / "filling").open("ab", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def _repair(self) -> None:
        self.failing = False
        with suppress(OSError):
            (self.folder.parent / "filling").unlink()

    @precondition(lambda self: self.accepted)
    @rule(how=st.sampled_from(["kill", "close", "damage", "damage cursor"]), at=st.floats(0, 1), seed=SEEDS)
    def restart(self, how: str, at: float, seed: int) -> None:
        under_way = sum(chunk.samples for chunk in self.window if not chunk.lost_as)
        expected = self.queue.waiting + under_way
        if how == "close":
            expected = self.queue.samples + self.lost.total()
            with self.disk():
                self.queue.close()
            expected -= self.lost.total()  # or more: what is settled may come again
        else:
            expected -= self._kill()
        if how == "damage":
            self._damage(at, seed)
        if how == "damage cursor" and how in self.troubles:
            spoil(self.folder / "cursor", at, seed)
            self.anything_may_repeat = True
        self._reopen()
        if not (self.damaged or self.anything_may_repeat):
            assert self.queue.waiting == expected or (how == "close" and self.queue.waiting >= expected)

    @precondition(lambda self: "damage" in self.troubles)
    @rule(at=st.floats(0, 1), seed=SEEDS)
    def damage_while_open(self, at: float, seed: int) -> None:
        self._damage(at, seed)

    def _damage(self, at: float, seed: int) -> None:
        paths = sorted(path for path in self.folder.glob("*.seg") if path.stat().st_size)
        if paths and "damage" in self.troubles:
            spoil(random.Random(seed).choice(paths), at, seed)
            self.damaged = True
            self.possible.add("damaged")
            self.excused += 10 * 4 * 3  # of each record hit

    def _kill(self) -> int:
        """All that is left is what the kernel has; returns how many samples were in memory alone."""
        held = [record for segment in self.queue._held() for record in self.queue._records_of(segment)]
        lost = sum(record.samples for record in held)
        self.excused += lost
        for segment in (*self.queue._behind, *self.queue._ahead):
            segment.close()
        self.queue._cursor.close()
        os.close(self.queue._lock_fd)
        return lost

    def _reopen(self) -> None:
        self.reopened = True
        self.excused += sum(chunk.samples for chunk in self.chunks if chunk.lost_as)
        self.chunks.clear()
        self.window.clear()
        self.last = None
        self.open()
        missing = self._missing()
        assert self.queue.waiting + self.lost.total() + self.excused >= missing
        self.entered, self.left = self.queue.waiting + self.lost.total(), 0

    @invariant()
    def sizes_are_bounded(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert 0 <= self.queue.size_bytes <= MAX_BYTES
        assert self.queue._held_bytes() <= MEMORY_BYTES
        files = sum(path.stat().st_size for path in self.folder.glob("*.seg"))
        assert files <= MAX_BYTES + 2 * SEGMENT_BYTES

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        try:
            self._repair()
            super().teardown()
        finally:
            shutil.rmtree(self.folder.parent)


def spoil(path: Path, at: float, seed: int) -> None:
    """Overwrite up to 60 bytes of a file from some place on."""
    chance = random.Random(seed)
    with path.open("r+b") as file:
        size = path.stat().st_size
        offset = int(at * size)
        file.seek(offset)
        file.write(chance.randbytes(min(chance.randint(1, 60), size - offset)))


LOOK: Final = settings(
    max_examples=EXAMPLES,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_a_queue_in_memory_is_as_the_model() -> None:
    run_state_machine_as_test(MemoryMachine, settings=settings(LOOK, max_examples=max(EXAMPLES // 4, 1)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    if os.geteuid() != 0:
        yield None
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_queue_on_disk_is_as_the_model(small_disk: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.DISK", small_disk)
    run_state_machine_as_test(DiskMachine, settings=LOOK)
