"""What the fault suite has found, as small as it gets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from trunkline.collector.queue import DiskQueue, Lost, MemoryQueue, Queue
from trunkline.collector.sender import Sender
from trunkline.component.contract import Backoff, Encoder, Fragment, Limits, QueueSettings
from trunkline.component.metrics import SelfMetrics
from trunkline.component.schedule import SystemClock
from trunkline.errors import DeliveryError, Rejected, RetryLater
from trunkline.model import Table


def fragment(lane: int, age_s: float = 0) -> Fragment:
    stamp = int((time.time() - age_s) * 1000)
    return Fragment(lane, b"x" * 10, 30, 5, stamp, stamp)


class Receiver:
    """Answers a request by the lanes in it; a lane is a series."""

    destination = "anywhere"
    limits = Limits(max_age_s=60)
    queue = QueueSettings()
    backoff = Backoff(initial_s=0.001, multiplier=1)

    def __init__(self, answer: Callable[[list[int]], DeliveryError | None]) -> None:
        self._answer = answer
        self.taken: list[int] = []

    def encoder(self, table: Table) -> Encoder:
        raise NotImplementedError

    def join(self, fragments: Sequence[Fragment]) -> bytes:
        return bytes(one.lane for one in fragments)

    def halves(self, fragment: Fragment) -> Sequence[Fragment]:
        del fragment
        return ()

    def singles(self, fragment: Fragment) -> Sequence[tuple[bytes, Fragment]]:
        return [(bytes((fragment.lane,)), fragment)]

    def apart(
        self, fragment: Fragment, keys: Collection[bytes]
    ) -> tuple[Sequence[Fragment], Sequence[Fragment]]:
        return ([fragment], []) if bytes((fragment.lane,)) in keys else ([], [fragment])

    def describe(self, fragment: Fragment) -> str:
        return str(fragment.lane)

    async def send(self, body: bytes) -> None:
        error = self._answer(list(body))
        if error:
            raise error
        self.taken += body

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        yield


async def deliver(receiver: Receiver, fragments: Sequence[Fragment]) -> SelfMetrics:
    metrics = SelfMetrics()
    async with Sender("remote", receiver, MemoryQueue, metrics, SystemClock()) as sender:
        sender.keep(fragments)
        assert await sender.drain(5)
    return metrics


def disk(lost: Lost, folder: Path) -> Queue:
    return DiskQueue(folder, lost, max_bytes=150)


def memory(lost: Lost, folder: Path) -> Queue:
    del folder
    return MemoryQueue(lost, max_bytes=15)


@pytest.mark.parametrize("open_queue", [disk, memory])
def test_what_is_given_up_before_it_was_sent_is_counted(
    open_queue: Callable[[Lost, Path], Queue], tmp_path: Path
) -> None:
    lost: list[int] = []
    queue = open_queue(lambda samples, _: lost.append(samples), tmp_path)
    queue.append([fragment(1)])
    chunk = queue.take(Limits())
    assert chunk is not None
    queue.put_back(chunk)
    for lane in range(2, 5):
        queue.append([fragment(lane)])
    assert sum(lost) + queue.samples == 20
    queue.close()


async def test_after_an_unclear_outcome_one_late_series_does_not_stand_for_the_others() -> None:
    answers: list[DeliveryError] = [RetryLater("500", reason="server_error")]

    def answer(lanes: list[int]) -> DeliveryError | None:
        if answers:
            return answers.pop()
        return Rejected("out of order sample", reason="out_of_order") if 3 in lanes else None

    receiver = Receiver(answer)
    metrics = await deliver(receiver, [fragment(lane) for lane in range(1, 9)])
    assert sorted(receiver.taken) == [1, 2, 4, 5, 6, 7, 8]
    assert (metrics.delivered.total(), metrics.refused.total()) == (40, 0)


async def test_what_is_too_old_in_a_refused_request_is_counted_once() -> None:
    held: list[DeliveryError] = [RetryLater("slow down", reason="throttled", after_s=0.4)]

    def answer(lanes: list[int]) -> DeliveryError | None:
        if held:
            return held.pop()
        return Rejected("labels", reason="labels") if 2 in lanes else None

    receiver = Receiver(answer)
    metrics = await deliver(receiver, [fragment(1, age_s=59.8), fragment(2), fragment(3)])
    assert receiver.taken == [3]
    assert metrics.refused.values == {("remote", "too_old"): 5, ("remote", "labels"): 5}


async def test_what_is_given_up_while_it_waits_for_company_is_counted() -> None:
    metrics, receiver = SelfMetrics(), Receiver(lambda _: None)
    queues = lambda lost: MemoryQueue(lost, max_bytes=15)  # noqa: E731
    async with Sender("remote", receiver, queues, metrics, SystemClock()) as sender:
        for lane in range(1, 4):
            sender.keep([fragment(lane)])
            await asyncio.sleep(0.01)  # the sender lingers
        assert await sender.drain(5)
    assert receiver.taken == [3]
    assert (metrics.kept.total(), metrics.refused.total()) == (15, 10)
