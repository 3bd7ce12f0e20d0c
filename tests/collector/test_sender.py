from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from trunkline.collector.queue import DiskQueue, MemoryQueue
from trunkline.collector.sender import LINGER_S, Sender
from trunkline.component.contract import Backoff, Encoder, Fragment, Limits, QueueSettings
from trunkline.component.metrics import SelfMetrics
from trunkline.errors import DeliveryError, Hold, NotNow, Rejected, RetryLater, TooLarge
from trunkline.model import Table
from trunkline.testing import VirtualClock

NOW = VirtualClock().now_s


class Receiver:
    """Takes requests as a list of lane numbers; `answer` says what is wrong with one, if anything."""

    destination = "test"
    backoff = Backoff()
    queue = QueueSettings()

    def __init__(
        self, answer: Callable[[list[int]], DeliveryError | None], limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.answer = answer
        self.taken: list[int] = []
        self.requests: list[list[int]] = []

    def encoder(self, table: Table) -> Encoder:
        raise NotImplementedError

    def join(self, fragments: Sequence[Fragment]) -> bytes:
        return bytes(fragment.data[0] for fragment in fragments)

    def halves(self, fragment: Fragment) -> Sequence[Fragment]:
        del fragment
        return ()

    def singles(self, fragment: Fragment) -> Sequence[tuple[bytes, Fragment]]:
        return [(fragment.data, fragment)]

    def apart(
        self, fragment: Fragment, keys: Collection[bytes]
    ) -> tuple[Sequence[Fragment], Sequence[Fragment]]:
        return ([fragment], []) if fragment.data in keys else ([], [fragment])

    def describe(self, fragment: Fragment) -> str:
        return f"lane {fragment.lane}"

    async def send(self, body: bytes) -> None:
        self.requests.append(list(body))
        error = self.answer(list(body))
        if error is not None:
            raise error
        self.taken += body

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        yield


def fragment(lane: int, *, age_s: float = 0.0, samples: int = 5) -> Fragment:
    stamp = int((NOW - age_s) * 1000)
    return Fragment(lane, bytes([lane]) * 10, 30, samples, stamp, stamp)


def large(*lanes: int) -> list[Fragment]:
    """Fragments of which two make a record, and a request of `Slow`."""
    return [fragment(lane, samples=1024) for lane in lanes]


async def deliver(receiver: Receiver, fragments: Sequence[Fragment]) -> tuple[SelfMetrics, VirtualClock]:
    """Give `fragments` to a sender and wait until all of them are settled; the clock's first pause is for more."""
    metrics, clock = SelfMetrics(), VirtualClock()
    async with Sender("remote", receiver, MemoryQueue, metrics, clock, chance=lambda: 0.5) as sender:
        sender.keep(fragments)
        async with asyncio.timeout(5):
            while metrics.delivered.total() + metrics.refused.total() < 5 * len(fragments):  # noqa: ASYNC110
                await asyncio.sleep(0)
    assert clock.slept.pop(0) == LINGER_S
    return metrics, clock


async def test_everything_kept_is_delivered_in_order_and_counted() -> None:
    receiver = Receiver(lambda _: None)
    metrics, _ = await deliver(receiver, [fragment(lane) for lane in range(1, 9)])
    assert receiver.taken == list(range(1, 9))
    assert len(receiver.requests) == 1
    assert (metrics.kept.total(), metrics.delivered.total(), metrics.refused.total()) == (40, 40, 0)


async def test_what_may_succeed_later_is_sent_again_with_growing_pauses() -> None:
    failures = iter([RetryLater("down", reason="unreachable")] * 4)
    receiver = Receiver(lambda _: next(failures, None))
    metrics, clock = await deliver(receiver, [fragment(1)])
    assert receiver.requests == [[1]] * 5
    assert clock.slept == [0.5, 1.0, 2.0, 4.0]
    assert metrics.requests.values == {("remote", "unreachable"): 4, ("remote", "delivered"): 1}


async def test_the_receivers_wish_is_the_pause() -> None:
    failures = iter([RetryLater("slow down", reason="throttled", after_s=17.0)])
    _, clock = await deliver(Receiver(lambda _: next(failures, None)), [fragment(1)])
    assert clock.slept == [17.0]


async def test_what_somebody_must_repair_is_held_until_it_is() -> None:
    failures = iter([Hold("not authorized", reason="forbidden")] * 20)
    receiver = Receiver(lambda _: next(failures, None))
    metrics, clock = await deliver(receiver, [fragment(1)])
    assert receiver.taken == [1]
    assert max(clock.slept) == 15.0
    assert metrics.refused.total() == 0


async def test_one_bad_fragment_is_found_and_only_it_is_refused() -> None:
    receiver = Receiver(lambda lanes: Rejected("bad labels", reason="labels") if 6 in lanes else None)
    metrics, _ = await deliver(receiver, [fragment(lane) for lane in range(1, 9)])
    assert sorted(receiver.taken) == [1, 2, 3, 4, 5, 7, 8]
    assert metrics.refused.values == {("remote", "labels"): 5}
    assert metrics.delivered.total() == 35


async def test_a_request_too_large_is_halved_until_it_fits() -> None:
    receiver = Receiver(lambda lanes: TooLarge("413", reason="too_large") if len(lanes) > 2 else None)
    metrics, _ = await deliver(receiver, [fragment(lane) for lane in range(1, 9)])
    assert receiver.taken == list(range(1, 9))
    assert metrics.refused.total() == 0


async def test_no_request_is_larger_than_the_receiver_takes() -> None:
    receiver = Receiver(lambda _: None, Limits(max_raw_bytes=90))
    await deliver(receiver, [fragment(lane) for lane in range(1, 9)])
    assert receiver.requests == [[1, 2], [3, 4], [5, 6], [7, 8]]
    receiver = Receiver(lambda _: None, Limits(max_request_bytes=45))
    await deliver(receiver, [fragment(lane) for lane in range(1, 9)])
    assert receiver.requests == [[1, 2, 3, 4], [5, 6, 7, 8]]


async def test_a_duplicate_after_an_unclear_outcome_was_delivered_the_first_time() -> None:
    def answers(*errors: DeliveryError) -> Receiver:
        waiting = iter(errors)
        return Receiver(lambda _: next(waiting, None))

    duplicate = Rejected("duplicate sample for timestamp", reason="duplicate_timestamp")
    metrics, _ = await deliver(answers(RetryLater("cut", reason="unreachable"), duplicate), [fragment(1)])
    assert (metrics.delivered.total(), metrics.refused.total()) == (5, 0)
    metrics, _ = await deliver(answers(RetryLater("429", reason="throttled"), duplicate), [fragment(1)])
    assert (metrics.delivered.total(), metrics.refused.total()) == (0, 5)
    metrics, _ = await deliver(answers(duplicate), [fragment(1)])
    assert (metrics.delivered.total(), metrics.refused.total()) == (0, 5)


async def test_what_is_too_old_is_given_up_before_sending() -> None:
    receiver = Receiver(lambda _: None, Limits(max_age_s=60))
    metrics, _ = await deliver(receiver, [fragment(1, age_s=61), fragment(2, age_s=10)])
    assert receiver.requests == [[2]]
    assert metrics.refused.values == {("remote", "too_old"): 5}


async def test_draining_does_not_wait_out_a_pause_and_leaves_the_rest_in_the_queue() -> None:
    receiver = Receiver(lambda _: RetryLater("down", reason="unreachable", after_s=3600))
    queue = MemoryQueue(lambda *_: None)
    started = asyncio.get_running_loop().time()

    class RealClock(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    async with Sender("remote", receiver, lambda _: queue, SelfMetrics(), RealClock()) as sender:
        sender.keep([fragment(1)])
        await asyncio.sleep(0.4)
        assert await sender.drain(0.7) is False
        assert queue.samples == 5
    assert len(receiver.requests) >= 2
    assert asyncio.get_running_loop().time() - started < 3


async def test_draining_ends_when_everything_is_delivered() -> None:
    receiver = Receiver(lambda _: None)
    async with Sender("remote", receiver, MemoryQueue, SelfMetrics(), VirtualClock()) as sender:
        sender.keep([fragment(1), fragment(2)])
        assert await sender.drain(5) is True
    assert receiver.taken == [1, 2]


async def test_what_a_full_queue_gives_up_is_counted() -> None:
    metrics = SelfMetrics()
    receiver = Receiver(lambda _: Hold("closed", reason="forbidden"))
    async with Sender(
        "remote", receiver, lambda lost: MemoryQueue(lost, max_bytes=15), metrics, VirtualClock()
    ) as sender:
        sender.keep([fragment(1)] * 4)
    assert metrics.kept.total() == 20
    assert metrics.refused.values == {("remote", "queue_full"): 15, ("remote", "stopped"): 5}


@pytest.mark.parametrize(
    ("lanes", "requests", "pauses"),
    [
        ([1, 2, 3], 1, [LINGER_S]),
        ([1, 2, 1, 3, 1, 2], 3, [LINGER_S]),  # only the last could have become fuller
        (range(200), 1, []),
    ],
)
async def test_requests_wait_only_where_that_may_fill_them(
    lanes: Sequence[int], requests: int, pauses: list[float]
) -> None:
    receiver, clock, metrics = Receiver(lambda _: None), VirtualClock(), SelfMetrics()
    receiver.limits = Limits(max_samples=1000)
    async with Sender("remote", receiver, MemoryQueue, metrics, clock) as sender:
        sender.keep([fragment(lane) for lane in lanes])
        async with asyncio.timeout(5):
            while metrics.delivered.total() < 5 * len(lanes):  # noqa: ASYNC110
                await asyncio.sleep(0)
    assert (len(receiver.requests), [one for one in clock.slept if one > 0.1]) == (requests, pauses)


def test_pauses_grow_to_their_bound_and_vary_by_their_share() -> None:
    backoff = Backoff(initial_s=1, multiplier=2, max_s=15, randomization=0.5)
    assert [backoff.pause_s(failures, 0.5) for failures in (1, 2, 3, 4, 5, 100)] == [1, 2, 4, 8, 10, 10]
    assert (backoff.pause_s(1, 0.0), backoff.pause_s(1, 1.0)) == (0.5, 1.5)
    assert (backoff.pause_s(100, 0.0), backoff.pause_s(100, 1.0)) == (5, 15)


async def test_what_becomes_too_old_while_it_waits_is_given_up() -> None:
    receiver = Receiver(lambda _: RetryLater("down", reason="unreachable", after_s=50), Limits(max_age_s=120))
    metrics, _ = await deliver(receiver, [fragment(1), fragment(2, age_s=100)])
    assert [len(request) for request in receiver.requests] == [2, 1, 1]
    assert metrics.refused.values == {("remote", "too_old"): 10}


async def test_a_stopped_sender_shows_no_gauges() -> None:
    metrics = SelfMetrics()
    async with Sender("remote", Receiver(lambda _: None), MemoryQueue, metrics, VirtualClock()):
        assert b'trunkline_queue_samples{exporter="remote"} 0' in metrics.render()
    assert b"trunkline_queue_samples{" not in metrics.render()


async def test_what_is_given_up_while_it_waits_for_others_is_counted() -> None:
    class Waiting(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)
            await asyncio.Event().wait()

    receiver, metrics, clock = Receiver(lambda _: None), SelfMetrics(), Waiting()
    async with Sender(
        "remote", receiver, lambda lost: MemoryQueue(lost, max_bytes=15), metrics, clock
    ) as sender:
        sender.keep([fragment(1)])
        while not clock.slept:  # noqa: ASYNC110
            await asyncio.sleep(0)
        sender.keep([fragment(2)])
        assert await sender.drain(5) is True
    assert receiver.taken == [2]
    assert (metrics.kept.total(), metrics.delivered.total(), metrics.refused.total()) == (10, 5, 5)


async def test_a_request_that_was_cut_off_by_the_end_is_not_counted_as_delivered() -> None:
    class Silent(Receiver):
        async def send(self, body: bytes) -> None:
            self.requests.append(list(body))
            await asyncio.Event().wait()

    receiver, metrics = Silent(lambda _: None), SelfMetrics()
    async with Sender("remote", receiver, MemoryQueue, metrics, VirtualClock()) as sender:
        sender.keep([fragment(1)])
        while not receiver.requests:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert metrics.requests.values == {("remote", "interrupted"): 1}


LIMITED = NotNow("per-user series limit", reason="series_limit")


class Patience:
    """A clock whose long pauses end when somebody says so."""

    def __init__(self) -> None:
        self.now_s = NOW
        self.waiting = 0
        self._over = asyncio.Event()

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        if seconds < 30:
            self.now_s += seconds
            await asyncio.sleep(0)
            return
        self.waiting += 1
        await self._over.wait()
        self.waiting -= 1
        self.now_s += seconds

    def end(self) -> None:
        self._over.set()
        self._over = asyncio.Event()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_series_at_a_limit_wait_by_themselves_and_in_order() -> None:
    limited = {3, 6}
    receiver = Receiver(lambda lanes: LIMITED if limited & set(lanes) else None)
    metrics, clock = SelfMetrics(), Patience()
    async with Sender("remote", receiver, MemoryQueue, metrics, clock) as sender:
        for second in range(3):
            sender.keep([fragment(lane, age_s=3 - second) for lane in range(1, 9)])
            await until(lambda: metrics.delivered.total() == 30 * (second + 1))  # noqa: B023
        assert sorted(receiver.taken[:6]) == [1, 2, 4, 5, 7, 8]
        assert receiver.taken[6:] == [1, 2, 4, 5, 7, 8] * 2
        asked = [request for request in receiver.requests if {3, 6} & set(request)]
        assert len(asked) < 10, "only the first time are they asked for"
        assert b'trunkline_held_samples{exporter="remote"} 30' in metrics.render()
        limited.discard(3)
        await until(lambda: clock.waiting > 0)
        clock.end()
        await until(lambda: metrics.delivered.total() == 105)
        assert receiver.taken[18:] == [3, 3, 3]
        limited.clear()
        sender.keep([fragment(lane) for lane in range(1, 9)])
        await until(lambda: metrics.delivered.total() == 140)
        assert 6 not in receiver.taken
        assert await sender.drain(5) is True
    assert receiver.taken.count(6) == 4
    assert (metrics.kept.total(), metrics.delivered.total(), metrics.refused.total()) == (160, 160, 0)


async def test_one_series_over_which_the_receiver_falls_does_not_hold_up_the_others() -> None:
    def answer(lanes: list[int]) -> DeliveryError | None:
        return RetryLater("500: panic", reason="server_error") if 5 in lanes else None

    receiver = Receiver(answer)
    metrics, clock = SelfMetrics(), Patience()
    async with Sender("remote", receiver, MemoryQueue, metrics, clock) as sender:
        sender.keep([fragment(lane) for lane in range(1, 65)])
        await until(lambda: b'trunkline_held_samples{exporter="remote"} 5' in metrics.render())
        assert metrics.delivered.total() == 5 * 63
        first = len(receiver.requests)
        assert first < 60
        sender.keep([fragment(lane) for lane in range(1, 65)])
        await until(lambda: metrics.delivered.total() == 10 * 63)
        assert len(receiver.requests) == first + 1
        assert b'trunkline_held_samples{exporter="remote"} 10' in metrics.render()
    assert sorted(receiver.taken) == sorted([lane for lane in range(1, 65) if lane != 5] * 2)
    assert metrics.refused.values == {("remote", "stopped"): 10}, "there is no disk"


async def test_a_receiver_that_is_down_for_everything_blames_no_series() -> None:
    failures = iter([RetryLater("down", reason="server_error")] * 40)
    receiver = Receiver(lambda _: next(failures, None))
    metrics, _ = await deliver(receiver, [fragment(lane) for lane in range(1, 9)])
    assert sorted(receiver.taken) == list(range(1, 9))
    assert (metrics.delivered.total(), metrics.refused.total()) == (40, 0)
    assert all(len(request) in {1, 7, 8} for request in receiver.requests)


class Slow(Receiver):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(lambda _: None, Limits(max_samples=2048))
        self.open: list[tuple[list[int], asyncio.Future[DeliveryError | None]]] = []

    async def send(self, body: bytes) -> None:
        self.requests.append(list(body))
        answer: asyncio.Future[DeliveryError | None] = asyncio.get_running_loop().create_future()
        self.open.append((list(body), answer))
        error = await answer
        if error is not None:
            raise error
        self.taken += body


async def test_requests_of_different_lanes_are_under_way_together_and_of_one_lane_never() -> None:
    receiver, metrics = Slow(), SelfMetrics()
    async with Sender("remote", receiver, MemoryQueue, metrics, VirtualClock()) as sender:
        sender.keep(large(1, 2, 3, 4, 1, 2, 5, 6))
        await until(lambda: len(receiver.open) == 2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert [lanes for lanes, _ in receiver.open] == [[1, 2], [3, 4]]
        receiver.open[1][1].set_result(None)  # the second is answered first
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(receiver.open) == 2, "what follows holds lanes that are under way"
        receiver.open[0][1].set_result(None)
        await until(lambda: len(receiver.open) == 4)
        for _, answer in reversed(receiver.open[2:]):
            answer.set_result(None)
        assert await sender.drain(5) is True
    assert receiver.taken == [3, 4, 1, 2, 5, 6, 1, 2]


async def test_too_many_requests_halve_how_many_go_at_once() -> None:
    receiver, metrics = Slow(), SelfMetrics()
    async with Sender("remote", receiver, MemoryQueue, metrics, VirtualClock()) as sender:
        sender.keep(large(*range(1, 41)))
        await until(lambda: len(receiver.open) == 5)
        for _, answer in receiver.open[:2]:
            answer.set_result(RetryLater("429", reason="throttled"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(receiver.open) == 5, "one of five may go, and three are under way"
        for _, answer in receiver.open[2:4]:
            answer.set_result(None)
        for _ in range(50):
            await asyncio.sleep(0)
        under_way = sum(not answer.done() for _, answer in receiver.open)
        assert 1 <= under_way <= 3
        sent = 0
        while metrics.delivered.total() < 40 * 1024:
            for _, answer in receiver.open[sent:]:
                if not answer.done():
                    answer.set_result(None)
            await asyncio.sleep(0)
    assert sorted(receiver.taken) == list(range(1, 41))


async def test_a_receiver_that_fails_is_asked_with_one_request_at_a_time() -> None:
    receiver, metrics = Slow(), SelfMetrics()
    async with Sender("remote", receiver, MemoryQueue, metrics, VirtualClock()) as sender:
        sender.keep(large(*range(1, 41)))
        await until(lambda: len(receiver.open) == 5)
        for _, answer in receiver.open:
            answer.set_result(RetryLater("gone", reason="unreachable"))
        for _ in range(10):
            before = len(receiver.open)
            await until(lambda: len(receiver.open) > before)  # noqa: B023
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(receiver.open) == before + 1
            receiver.open[-1][1].set_result(RetryLater("gone", reason="unreachable"))
        while metrics.delivered.total() < 40 * 1024:
            for _, answer in receiver.open:
                if not answer.done():
                    answer.set_result(None)
            await asyncio.sleep(0)
    assert sorted(receiver.taken) == list(range(1, 41))


async def test_what_is_set_aside_outlives_the_process_in_order(tmp_path: Path) -> None:
    limited = {3}

    def sender(clock: VirtualClock | Patience) -> Sender:
        return Sender(
            "remote",
            receiver,
            lambda lost: DiskQueue(tmp_path / "queue", lost),
            metrics,
            clock,
            open_aside=lambda lost: DiskQueue(tmp_path / "queue" / "aside", lost),
        )

    receiver = Receiver(lambda lanes: LIMITED if limited & set(lanes) else None)
    metrics = SelfMetrics()
    async with sender(Patience()) as first:
        first.keep([fragment(lane, age_s=9) for lane in (2, 3, 4)])
        await until(lambda: metrics.delivered.total() == 10)
        assert await first.drain(1) is False
    asked = len(receiver.requests)
    async with sender(Patience()) as second:
        second.keep([fragment(lane, age_s=4) for lane in (2, 3, 4)])
        await until(lambda: metrics.delivered.total() == 20)
        assert receiver.requests[asked:] == [[2, 4]], "it knows again that 3 has to wait"
        limited.clear()
        assert await second.drain(5) is True
    assert receiver.taken == [2, 4, 2, 4, 3, 3]
    assert metrics.refused.total() == 0


async def test_what_an_earlier_process_may_have_delivered_counts_as_delivered(tmp_path: Path) -> None:
    duplicate = Rejected("duplicate sample for timestamp", reason="duplicate_timestamp")
    queue = DiskQueue(tmp_path, lambda *_: None)
    queue.append([fragment(1)])
    queue.close()
    metrics = SelfMetrics()
    async with Sender(
        "remote",
        Receiver(lambda _: duplicate),
        lambda lost: DiskQueue(tmp_path, lost),
        metrics,
        VirtualClock(),
    ) as sender:
        assert await sender.drain(5) is True
    assert (metrics.delivered.total(), metrics.refused.total()) == (5, 0)


async def test_the_settled_part_of_a_request_is_not_sent_again_while_the_rest_fails() -> None:
    """A receiver that goes away while a refused request is taken apart."""
    answers: list[DeliveryError | None] = [
        Rejected("label", reason="labels"),
        None,
        RetryLater("gone", reason="unreachable"),
        RetryLater("gone", reason="unreachable"),
    ]
    waiting = iter(answers)
    receiver = Receiver(lambda _: next(waiting, None))
    metrics, _ = await deliver(receiver, [fragment(lane) for lane in range(1, 5)])
    assert receiver.requests == [[1, 2, 3, 4], [1, 2], [3, 4], [3, 4], [3, 4]]
    assert metrics.delivered.total() == 20
