from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.collector.queue import MemoryQueue
from trunkline.collector.sender import Sender
from trunkline.collector.settling import MAX_REJECTIONS
from trunkline.component.contract import Backoff, Encoder, Fragment, Limits, QueueSettings
from trunkline.component.metrics import SelfMetrics
from trunkline.errors import Rejected
from trunkline.exporters.prometheusremotewrite.splitting import apart, described, halves, singles
from trunkline.model import Table
from trunkline.testing import VirtualClock
from trunkline.wire import template
from trunkline.wire.kernel import Template, encode_labels
from trunkline.wire.remote_write import decode_write_request

STAMP = 1_700_000_000_000


def fragment(first: int, count: int, lane: int = 1) -> Fragment:
    names = range(first, first + count)
    labels = [encode_labels((("__name__", "series"), ("number", str(number)))) for number in names]
    made = Template(labels)
    data = made.fill(array("d", names), range(count), STAMP)
    return Fragment(lane, data, made.raw_bytes, count, STAMP, STAMP)


def numbers(body: bytes) -> list[int]:
    request = decode_write_request(bytes(cramjam.snappy.decompress_raw(body)))
    for one in request.series:
        assert [int(sample.value) for sample in one.samples] == [int(dict(one.labels)["number"])]
        assert one.samples[0].timestamp_ms == STAMP
    return [int(dict(one.labels)["number"]) for one in request.series]


def joined(fragments: Sequence[Fragment]) -> bytes:
    return template.join((one.data, one.raw_bytes) for one in fragments)


@given(st.integers(2, 200))
def test_halves_hold_the_same_series_in_the_same_order(count: int) -> None:
    whole = fragment(0, count)
    parts = halves(whole)
    assert [numbers(joined([part])) for part in parts] == [
        list(range(count // 2)),
        list(range(count // 2, count)),
    ]
    assert [(part.lane, part.samples, part.oldest_ms) for part in parts] == [
        (1, count // 2, STAMP),
        (1, count - count // 2, STAMP),
    ]


def test_one_series_has_no_halves_and_a_name() -> None:
    assert halves(fragment(7, 1)) == ()
    assert described(fragment(7, 1)) == 'series{number="7"}'
    assert described(fragment(7, 3)) == 'series{number="7"} and 2 more'


@given(st.integers(1, 60), st.data())
def test_series_are_taken_out_by_name(count: int, data: st.DataObject) -> None:
    whole = fragment(0, count)
    every = singles(whole)
    assert [numbers(joined([one])) for _, one in every] == [[number] for number in range(count)]
    chosen = data.draw(st.sets(st.integers(0, count - 1)))
    taken, others = apart(whole, {every[number][0] for number in chosen})
    assert sorted(numbers(joined(taken))) == sorted(chosen)
    assert numbers(joined(others)) == [number for number in range(count) if number not in chosen]
    assert sum(one.samples for one in (*taken, *others)) == count


def test_what_is_not_in_a_fragment_leaves_it_as_it_is() -> None:
    whole = fragment(0, 5)
    assert apart(whole, {b"none"}) == ((), (whole,))


class Picky:
    """A receiver that takes nothing of a request with a number it does not like."""

    destination = "picky"
    backoff = Backoff()
    limits = Limits()
    queue = QueueSettings()

    def __init__(self, dislikes: Callable[[int], bool]) -> None:
        self.dislikes = dislikes
        self.taken: list[int] = []
        self.requests = 0
        self.halves = halves
        self.singles = singles
        self.apart = apart
        self.describe = described
        self.join = joined

    def encoder(self, table: Table) -> Encoder:
        raise NotImplementedError

    async def send(self, body: bytes) -> None:
        self.requests += 1
        found = numbers(body)
        if any(map(self.dislikes, found)):
            raise Rejected("it does not like one of them", reason="label_invalid")
        self.taken += found

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        yield


async def settled(receiver: Picky, fragments: list[Fragment]) -> SelfMetrics:
    metrics, clock = SelfMetrics(), VirtualClock(STAMP / 1000)
    total = sum(one.samples for one in fragments)
    async with Sender("picky", receiver, MemoryQueue, metrics, clock) as sender:
        sender.keep(fragments)
        async with asyncio.timeout(20):
            while metrics.delivered.total() + metrics.refused.total() < total:  # noqa: ASYNC110
                await asyncio.sleep(0)
    return metrics


async def test_only_the_series_at_fault_is_refused_and_it_is_named(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Picky(lambda number: number == 777)
    fragments = [fragment(500 * index, 500, lane=index) for index in range(4)]
    with caplog.at_level(logging.ERROR):
        metrics = await settled(receiver, fragments)
    assert sorted(receiver.taken) == [number for number in range(2000) if number != 777]
    assert metrics.refused.values == {("picky", "label_invalid"): 1}
    assert receiver.requests <= 2 * 12
    assert 'series{number="777"}' in caplog.text


async def test_a_few_at_fault_take_few_others_with_them() -> None:
    receiver = Picky(lambda number: number % 1000 == 333)
    metrics = await settled(receiver, [fragment(500 * index, 500, lane=index) for index in range(16)])
    assert len(receiver.taken) >= 7800
    assert len(receiver.taken) + metrics.refused.total() == 8000
    assert receiver.requests < 3 * MAX_REJECTIONS


async def test_many_at_fault_cost_a_bounded_number_of_requests() -> None:
    receiver = Picky(lambda number: number % 2 == 0)
    metrics = await settled(receiver, [fragment(0, 500)])
    assert receiver.requests < 3 * MAX_REJECTIONS
    refused = {reason: count for (_, reason), count in metrics.refused.values.items()}
    assert set(refused) == {"label_invalid", "unknown"}
    assert refused["unknown"] + refused["label_invalid"] + len(receiver.taken) == 500
