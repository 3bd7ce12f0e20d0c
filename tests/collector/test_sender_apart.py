"""What waits apart, and one request at fault among others: order, fairness, what a cut leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
from tests.collector.test_sender import NOW, Patience, Receiver, Slow, fragment, large, until

from trunkline.collector.aside import Aside
from trunkline.collector.gate import Gate
from trunkline.collector.queue import Chunk, DiskQueue, MemoryQueue
from trunkline.collector.sender import Sender
from trunkline.collector.settling import Held, Settler
from trunkline.component.contract import Fragment, Limits
from trunkline.component.metrics import SelfMetrics
from trunkline.errors import DeliveryError, NotNow, Rejected, RetryLater
from trunkline.testing import VirtualClock

LIMITED = NotNow("per-user series limit", reason="series_limit")
PANIC = RetryLater("500: panic", reason="server_error")


def series(number: int, second: int) -> Fragment:
    """A sample of a series, in the lane of its source: `data` names the series first, then the time."""
    stamp = int((NOW - 100 + second) * 1000)
    return Fragment(1000 + number, bytes([number, second]), 30, 1, stamp, stamp)


class Named(Receiver):
    """Takes requests as pairs of series and second; a series is named by the first byte."""

    def join(self, fragments: Sequence[Fragment]) -> bytes:
        return b"".join(one.data for one in fragments)

    def singles(self, fragment: Fragment) -> Sequence[tuple[bytes, Fragment]]:
        return [(fragment.data[:1], fragment)]

    def apart(
        self, fragment: Fragment, keys: Collection[bytes]
    ) -> tuple[Sequence[Fragment], Sequence[Fragment]]:
        return ([fragment], []) if fragment.data[:1] in keys else ([], [fragment])

    async def send(self, body: bytes) -> None:
        pairs = list(zip(body[::2], body[1::2], strict=True))
        numbers = [number for number, _ in pairs]
        self.requests.append(numbers)
        error = self.answer(numbers)
        if error is not None:
            raise error
        self.stored += pairs

    def __init__(
        self, answer: Callable[[list[int]], DeliveryError | None], limits: Limits | None = None
    ) -> None:
        super().__init__(answer, limits)
        self.stored: list[tuple[int, int]] = []


@pytest.mark.parametrize("most", [1, 5])
async def test_a_lone_series_over_which_the_receiver_falls_does_not_hold_up_what_comes_later(
    most: int,
) -> None:
    receiver = Receiver(lambda lanes: PANIC if 5 in lanes else None, Limits(max_requests=most))
    metrics, clock = SelfMetrics(), Patience()
    async with Sender("remote", receiver, MemoryQueue, metrics, clock) as sender:
        sender.keep([fragment(5)])
        await until(lambda: len(receiver.requests) > 2)
        sender.keep([fragment(1), fragment(2)])
        await until(lambda: metrics.delivered.total() == 10)
        await until(lambda: b'trunkline_held_samples{exporter="remote"} 5' in metrics.render())
        assert metrics.refused.total() == 0


async def test_a_wish_for_a_pause_holds_although_another_request_is_taken() -> None:
    receiver, metrics, clock = Slow(), SelfMetrics(), Patience()
    async with Sender("remote", receiver, MemoryQueue, metrics, clock) as sender:
        sender.keep(large(*range(1, 13)))
        await until(lambda: len(receiver.open) == 5)
        receiver.open[0][1].set_result(RetryLater("429", reason="throttled", after_s=40.0))
        for _ in range(10):
            await asyncio.sleep(0)
        for _, answer in receiver.open[1:5]:
            answer.set_result(None)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(receiver.open) == 5, "nothing is sent in the 40 s"
        clock.end()
        await until(lambda: len(receiver.open) > 5)
        sent = 0
        while metrics.delivered.total() < 12 * 1024:
            for _, answer in receiver.open[sent:]:
                if not answer.done():
                    answer.set_result(None)
            await asyncio.sleep(0)


def aside_of(receiver: Receiver, queue: MemoryQueue | DiskQueue) -> tuple[Aside, Settler, SelfMetrics]:
    clock, metrics = VirtualClock(), SelfMetrics()
    gate = Gate(clock, receiver.backoff, lambda: 0.5, receiver.limits.max_requests)
    settler = Settler("remote", receiver, gate, metrics, clock, lambda *_: None)
    return Aside("remote", queue, receiver), settler, metrics


async def test_a_series_that_is_refused_holds_up_no_other_that_waits_apart() -> None:
    refused = {1}
    receiver = Named(lambda numbers: LIMITED if refused & set(numbers) else None)
    aside, settler, _ = aside_of(receiver, MemoryQueue(lambda *_: None))
    await aside.add([Held([series(1, 1)], "", "")])
    await aside.add([Held([series(1, 2)], "", "")])
    await aside.add([Held([series(2, 2), series(1, 3)], "", "")])
    await aside.revisit(settler)
    assert receiver.stored == [(2, 2)]
    refused.clear()
    await aside.revisit(settler)
    assert receiver.stored == [(2, 2), (1, 1), (1, 2), (1, 3)]
    assert aside.samples == 0


async def test_what_is_moved_behind_the_others_is_moved_once(tmp_path: Path) -> None:
    """The last request of a round ends where what was moved in it begins."""
    refused = {1, 2}
    receiver = Named(lambda numbers: LIMITED if refused & set(numbers) else None)
    aside, settler, _ = aside_of(receiver, DiskQueue(tmp_path, lambda *_: None))
    await aside.add([Held([series(1, 1)], "", "")])
    await aside.add([Held([series(1, 3), series(2, 3)], "", "")])
    await aside.add([Held([series(2, 4)], "", "")])
    await aside.revisit(settler)
    refused.clear()
    await aside.revisit(settler)
    assert sorted(receiver.stored) == [(1, 1), (1, 3), (2, 3), (2, 4)]
    assert [second for number, second in receiver.stored if number == 1] == [1, 3]
    aside.close()


async def test_many_series_at_a_limit_do_not_keep_others_from_being_tried() -> None:
    """More are refused than may be asked in one go: the others have their turn the next time."""
    limits = Limits(max_samples=20)
    receiver = Named(lambda numbers: LIMITED if min(numbers) < 200 else None, limits)
    aside, settler, _ = aside_of(receiver, MemoryQueue(lambda *_: None))
    for first in range(0, 210, 10):
        await aside.add([Held([series(one, 1) for one in range(first, first + 10)], "", "")])
    for _ in range(4):
        await aside.revisit(settler)
    assert sorted(number for number, _ in receiver.stored) == list(range(200, 210))
    assert aside.samples == 200


async def test_a_few_good_series_among_many_refused_ones_get_out() -> None:
    receiver = Named(lambda numbers: LIMITED if min(numbers) < 200 else None)
    aside, settler, _ = aside_of(receiver, MemoryQueue(lambda *_: None))
    await aside.add([Held([series(one, 1) for one in range(210)], "", "")])
    await aside.revisit(settler)
    assert len(receiver.stored) >= 7
    assert len(receiver.requests) < 150


async def test_names_of_series_that_are_gone_are_forgotten() -> None:
    """A limit, and series that come and go: what is given up leaves nothing behind."""
    receiver = Named(lambda _: LIMITED)
    aside, settler, _ = aside_of(receiver, MemoryQueue(lambda *_: None, max_bytes=40))
    for number in range(200):
        await aside.add([Held([series(number, 1)], "", "")])
        if number % 10 == 9:
            await aside.revisit(settler)
    assert aside.samples <= 20
    assert aside.known <= 40


async def test_a_cut_while_what_waits_apart_is_tried_leaves_it_in_order(tmp_path: Path) -> None:
    """1 is refused and moved behind what waits; then the receiver is silent, and the process ends."""
    silent = asyncio.Event()

    class Halting(Named):
        async def send(self, body: bytes) -> None:
            if 2 in body[::2]:
                silent.set()
                await asyncio.Event().wait()
            await super().send(body)

    receiver = Halting(lambda numbers: LIMITED if 1 in numbers else None)
    queue = DiskQueue(tmp_path, lambda *_: None)
    aside, settler, _ = aside_of(receiver, queue)
    await aside.add([Held([series(1, 1)], "", "")])
    await aside.add([Held([series(1, 2)], "", "")])
    await aside.add([Held([series(2, 2), series(1, 3)], "", "")])
    await aside.add([Held([series(1, 4)], "", "")])
    task = asyncio.create_task(aside.revisit(settler))
    await silent.wait()
    task.cancel()
    await asyncio.wait([task])
    queue.close()

    again = Named(lambda _: None)
    aside, settler, _ = aside_of(again, DiskQueue(tmp_path, lambda *_: None))
    await aside.revisit(settler)
    assert [second for number, second in again.stored if number == 1] == [1, 2, 3, 4]
    assert aside.samples == 0
    aside.close()


async def test_a_series_that_comes_into_another_lane_is_still_kept_behind_its_own() -> None:
    receiver = Named(lambda _: LIMITED)
    aside, _, _ = aside_of(receiver, MemoryQueue(lambda *_: None))
    await aside.add([Held([series(1, 1)], "", "")])
    other = Fragment(7, bytes([9, 1]), 30, 1, 0, 0)
    assert aside.sort([other]) == ([other], [])
    moved = Fragment(7, bytes([1, 2]), 60, 2, 0, 0)
    rest, held = aside.sort([moved])
    assert not rest
    assert [one.fragments for one in held] == [[moved]]
    rest, held = aside.sort([Fragment(7, bytes([1, 3]), 30, 1, 0, 0)])
    assert not rest, "it is there still, where another one has left"


async def test_what_comes_while_the_last_of_its_series_is_delivered_is_not_set_aside_again() -> None:
    """Else a series that always has samples on the way would wait for another minute each time, for ever."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    class Pausing(Named):
        async def send(self, body: bytes) -> None:
            asked.set()
            await may_answer.wait()
            await super().send(body)

    receiver = Pausing(lambda _: None)
    aside, settler, _ = aside_of(receiver, MemoryQueue(lambda *_: None))
    await aside.add([Held([series(1, 1)], "", "")])
    trying = asyncio.create_task(aside.revisit(settler))
    await asked.wait()
    rest, held = aside.sort([series(1, 2), series(2, 2)])
    assert (rest, [one.fragments for one in held]) == ([series(2, 2)], [[series(1, 2)]])
    adding = asyncio.create_task(aside.add(held))
    may_answer.set()
    await asyncio.wait([trying, adding])
    assert receiver.stored == [(1, 1), (1, 2)]
    assert aside.samples == 0
    assert aside.sort([series(1, 3)])[1] == []


async def test_what_comes_while_its_series_is_refused_again_stays_behind_it() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    class Pausing(Named):
        async def send(self, body: bytes) -> None:
            asked.set()
            await may_answer.wait()
            await super().send(body)

    refused = {1}
    receiver = Pausing(lambda numbers: LIMITED if refused & set(numbers) else None)
    aside, settler, _ = aside_of(receiver, MemoryQueue(lambda *_: None))
    await aside.add([Held([series(1, 1), series(2, 1)], "", "")])
    trying = asyncio.create_task(aside.revisit(settler))
    await asked.wait()
    adding = asyncio.create_task(aside.add(aside.sort([series(1, 2), series(2, 2)])[1]))
    may_answer.set()
    await asyncio.wait([trying, adding])
    assert receiver.stored == [(2, 1), (2, 2)]
    assert aside.samples == 2
    refused.clear()
    await aside.revisit(settler)
    assert receiver.stored == [(2, 1), (2, 2), (1, 1), (1, 2)]


async def test_a_queue_that_gives_no_more_for_now_is_not_forgotten() -> None:
    """As when no file can be opened: what comes of its series still has to go behind what waits in it."""

    class Closed(MemoryQueue):
        takes = 1

        def take(self, limits: Limits) -> Chunk | None:
            self.takes -= 1
            return super().take(limits) if self.takes >= 0 else None

    receiver = Named(lambda _: None)
    aside, settler, _ = aside_of(receiver, Closed(lambda *_: None))
    await aside.add([Held([series(1, 1)], "", "")])
    await aside.add([Held([series(1, 2), series(2, 2)], "", "")])
    await aside.revisit(settler)
    assert receiver.stored == [(1, 1)]
    rest, held = aside.sort([series(1, 3), series(2, 3)])
    assert (rest, [one.fragments for one in held]) == ([], [[series(1, 3), series(2, 3)]])


async def test_a_defect_while_what_waits_apart_is_tried_is_no_end_of_a_drain() -> None:
    class Broken(MemoryQueue):
        def take(self, limits: Limits) -> Chunk | None:
            raise ValueError(f"broken {limits}")

    receiver = Receiver(lambda lanes: LIMITED if 3 in lanes else None)
    metrics = SelfMetrics()
    async with Sender("remote", receiver, MemoryQueue, metrics, Patience(), open_aside=Broken) as sender:
        sender.keep([fragment(3), fragment(4)])
        await until(lambda: metrics.delivered.total() == 5)
        assert await sender.drain(5) is False


async def test_a_defect_costs_a_request_a_minute_and_not_the_queue() -> None:
    class Broken(Receiver):
        failures = 1

        def halves(self, fragment: Fragment) -> Sequence[Fragment]:
            self.failures -= 1
            if self.failures >= 0:
                raise ValueError("broken")
            return super().halves(fragment)

    receiver = Broken(lambda lanes: Rejected("label", reason="labels") if 3 in lanes else None)
    metrics, clock = SelfMetrics(), VirtualClock()
    async with Sender("remote", receiver, MemoryQueue, metrics, clock) as sender:
        sender.keep([fragment(3)])
        await until(lambda: metrics.refused.total() == 5)
        assert await sender.drain(5) is True
    assert metrics.refused.values == {("remote", "labels"): 5}


async def test_a_receiver_that_now_and_then_says_it_is_too_much_is_not_complained_of_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = iter([RetryLater("429", reason="throttled", after_s=0.1), None] * 50)
    receiver = Receiver(lambda _: next(answers), Limits(max_samples=5))
    metrics, clock = SelfMetrics(), VirtualClock()
    async with Sender("remote", receiver, MemoryQueue, metrics, clock) as sender:
        for lane in range(1, 41):
            sender.keep([fragment(lane)])
            await until(lambda: metrics.delivered.total() == 5 * lane)  # noqa: B023
    said = [one for one in caplog.messages if "wait in the queue" in one]
    assert 1 <= len(said) <= 3, "the clock has gone on by about a minute"
