"""What the tests of queues have in common."""

from __future__ import annotations

from collections import Counter

from trunkline.collector.queue import Chunk, Queue
from trunkline.component.contract import Fragment, Limits

LIMITS = Limits(max_request_bytes=1000)


def fragment(number: int, *, lane: int | None = None, size: int = 100, samples: int = 10) -> Fragment:
    stamp = 1000 + number
    data = bytes([number % 256]) * size
    return Fragment(number if lane is None else lane, data, size * 3, samples, stamp, stamp)


class Losses(Counter[str]):
    """What a queue gave up, by reason."""

    def __call__(self, samples: int, reason: str) -> None:
        self[reason] += samples


def numbers(queue: Queue, limits: Limits = LIMITS) -> list[int]:
    """Take everything out, a chunk at a time; the first byte of each fragment is its number."""
    found = []
    while chunk := queue.take(limits):
        found += [one.data[0] for one in chunk.fragments]
        queue.settle(chunk)
    return found


def taken(queue: Queue, limits: Limits = LIMITS) -> Chunk:
    """The next chunk, which there is."""
    chunk = queue.take(limits)
    assert chunk is not None
    return chunk


def numbers_of(chunk: Chunk) -> list[int]:
    return [one.data[0] for one in chunk.fragments]
