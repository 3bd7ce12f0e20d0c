from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from trunkline.collector.queue import MemoryQueue
from trunkline.collector.sender import LINGER_S, Sender
from trunkline.component.contract import Backoff, Encoder, Fragment, Limits
from trunkline.component.metrics import SelfMetrics
from trunkline.errors import DeliveryError, Hold, Rejected, RetryLater, TooLarge
from trunkline.model import Table
from trunkline.testing import VirtualClock

NOW = VirtualClock().now_s


class Receiver:
    """Takes requests as a list of lane numbers; `answer` says what is wrong with one, if anything."""

    destination = "test"
    backoff = Backoff()

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
        return bytes(fragment.lane for fragment in fragments)

    def halves(self, fragment: Fragment) -> Sequence[Fragment]:
        del fragment
        return ()

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


def fragment(lane: int, *, age_s: float = 0.0) -> Fragment:
    stamp = int((NOW - age_s) * 1000)
    return Fragment(lane, b"x" * 10, 30, 5, stamp, stamp)


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
    assert receiver.taken == [1, 2, 3, 4, 5, 7, 8]
    assert metrics.refused.values == {("remote", "labels"): 5}
    assert metrics.delivered.total() == 35


async def test_a_request_too_large_is_halved_until_it_fits() -> None:
    receiver = Receiver(lambda lanes: TooLarge("413", reason="too_large") if len(lanes) > 2 else None)
    metrics, _ = await deliver(receiver, [fragment(lane) for lane in range(1, 9)])
    assert receiver.taken == list(range(1, 9))
    assert metrics.refused.total() == 0


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
    assert len(receiver.requests) >= 2
    assert queue.samples == 5
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
    assert metrics.refused.values == {("remote", "queue_full"): 15}


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
    backoff = Backoff(initial_s=1, multiplier=2, max_s=10, randomization=0.5)
    assert [backoff.pause_s(failures, 0.5) for failures in (1, 2, 3, 4, 5, 100)] == [1, 2, 4, 8, 10, 10]
    assert (backoff.pause_s(1, 0.0), backoff.pause_s(1, 1.0)) == (0.5, 1.5)


async def test_a_limit_on_series_is_waited_out_once_and_then_refused() -> None:
    limited = RetryLater("per-user series limit", reason="series_limit", after_s=60, tries=1)
    receiver = Receiver(lambda lanes: limited if 3 in lanes else None)
    metrics, clock = await deliver(receiver, [fragment(lane) for lane in range(1, 5)])
    assert receiver.taken == [1, 2, 4]
    assert metrics.refused.values == {("remote", "series_limit"): 5}
    assert sum(clock.slept) < 300


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


async def test_a_limit_is_waited_out_once_in_a_while_only() -> None:
    """Or the good series would wait behind every one that is refused, until they are too old."""
    limited = RetryLater("per-user series limit", reason="series_limit", after_s=60, tries=1)
    receiver = Receiver(lambda lanes: limited if {3, 6} & set(lanes) else None)
    metrics, clock = SelfMetrics(), VirtualClock()
    async with Sender("remote", receiver, MemoryQueue, metrics, clock) as sender:
        for _ in range(3):
            sender.keep([fragment(lane) for lane in range(1, 9)])
            assert await sender.drain(5) is True
    assert receiver.taken == [1, 2, 4, 5, 7, 8] * 3
    assert metrics.refused.values == {("remote", "series_limit"): 30}
    assert len([pause_s for pause_s in clock.slept if pause_s >= 0.5]) == 1


async def test_other_failures_do_not_use_up_the_tries_of_a_limit() -> None:
    limited = RetryLater("per-user series limit", reason="series_limit", after_s=60, tries=1)
    answers = iter([RetryLater("429", reason="throttled"), RetryLater("429", reason="throttled"), limited])
    metrics, _ = await deliver(Receiver(lambda _: next(answers, None)), [fragment(1)])
    assert (metrics.delivered.total(), metrics.refused.total()) == (5, 0)


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
