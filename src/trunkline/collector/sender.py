"""Takes what waits in a queue to its receiver: oldest first, a few requests at a time, until each is settled."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Final, Self

from trunkline.collector.aside import REVISIT_S, Aside
from trunkline.collector.gate import Gate, either
from trunkline.collector.queue import Chunk, Lost, MemoryQueue, Queue
from trunkline.collector.settling import Settler
from trunkline.component.contract import Delivery, Fragment
from trunkline.component.metrics import Gauge, SelfMetrics
from trunkline.component.schedule import Clock

log = logging.getLogger(__name__)

LINGER_S: Final = 1.0
"""How long samples wait for others at most, so that requests are few and full."""

LAST_ANSWER_S: Final = 1.0
"""How long a request that is under way at the end is waited for."""

_DEFECT: Final = "this is a defect of Trunkline"

LOSSES: Final = {
    "queue_full": "the queue is full and they were the oldest",
    "disk_full": "the disk of the queue is full or cannot be written",
    "too_old": "they waited longer than the receiver accepts samples for",
    "damaged": "the queue's file is damaged",
    "stopped": "they waited in memory, and the collector ends or begins anew",
}


class Sender:
    """Owns the queue of one exporter while entered. `keep` never waits; delivering goes on in the background.

    What is kept in one turn of the event loop is written together. `open_aside` opens a second queue, for series that
    the receiver does not take for now.
    """

    def __init__(
        self,
        name: str,
        delivery: Delivery,
        open_queue: Callable[[Lost], Queue],
        metrics: SelfMetrics,
        clock: Clock,
        chance: Callable[[], float] = random.random,
        open_aside: Callable[[Lost], Queue] = MemoryQueue,
    ) -> None:
        self._name = name
        self._delivery = delivery
        self._open_queue = open_queue
        self._open_aside = open_aside
        self._queue: Queue = MemoryQueue(self.lose)
        self._aside = Aside(name, MemoryQueue(self.lose), delivery)
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._gate = Gate(clock, delivery.backoff, chance, delivery.limits.max_requests)
        self._settler = Settler(
            name, delivery, self._gate, metrics, clock, self.lose, lambda: self._queue.samples
        )
        self._task: asyncio.Task[None] | None = None
        self._under_way = 0
        self._closing = False
        self._next_s = 0.0
        self._incoming: list[Fragment] = []
        self._stirred = asyncio.Event()
        self._full = asyncio.Event()
        self._settled = asyncio.Event()

    @property
    def delivery(self) -> Delivery:
        """What it delivers by."""
        return self._delivery

    async def __aenter__(self) -> Self:
        """Open the queue and begin to deliver. Raises QueueError when another collector uses the folder."""
        with ExitStack() as undo:
            self._queue = self._open_queue(self.lose)
            undo.callback(self._queue.close)
            apart = self._open_aside(self.lose)
            undo.callback(apart.close)
            self._aside = Aside(self._name, apart, self._delivery)
            undo.pop_all()
        for gauge, source in self._gauges():
            gauge.track(source, self._name)
        self._task = asyncio.create_task(self._run(), name=f"deliver {self._name}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closing = True
        with suppress(TimeoutError):  # else it would be sent again, which is harmless but needless
            async with asyncio.timeout(LAST_ANSWER_S):
                await self._settler.idle.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._write()
        for gauge, _ in self._gauges():
            gauge.remove(self._name)
        self._aside.close()
        self._queue.close()

    def keep(self, fragments: Sequence[Fragment]) -> None:
        """Write `fragments` to the queue before the event loop waits again; what had to be given up is counted."""
        if not self._incoming:
            asyncio.get_running_loop().call_soon(self._write)
        self._incoming += fragments

    def adopt(self, fragments: Sequence[Fragment]) -> None:
        """Deliver what another process has kept; its samples count as taken over."""
        self._metrics.taken_over.add(self._queue.append(fragments, inherited=True), self._name)
        self._settled.clear()
        self._stirred.set()

    def has_room_for(self, size_bytes: int) -> bool:
        """Whether that much can be adopted without giving up what waits, and is as safe here as it was."""
        return (
            self._queue.is_on_disk
            and self._queue.size_bytes + size_bytes < self._delivery.queue.max_bytes // 2
        )

    async def drain(self, timeout_s: float) -> bool:
        """Deliver without pauses until the queue is empty or the time is up; returns whether it is empty."""
        self._write()
        self._gate.hurry()
        self._full.set()
        self._stirred.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
                if self._aside.samples:
                    await self._try_aside()
        return self._queue.samples + self._aside.samples == 0

    def _write(self) -> None:
        incoming, self._incoming = self._incoming, []
        if not incoming:
            return
        self._queue.drop_older(int((self._clock.time() - self._delivery.limits.max_age_s) * 1000))
        kept = self._queue.append(incoming)
        self._metrics.kept.add(kept, self._name)
        self._gate.pace.came_in(kept, self._clock.monotonic())
        self._settled.clear()
        self._stirred.set()
        if self._queue.waiting >= self._delivery.limits.max_samples:
            self._full.set()

    async def _run(self) -> None:
        async with self._delivery.session(), asyncio.TaskGroup() as group:
            group.create_task(self._revisit_aside())
            while True:
                try:
                    chunk = await self._next_chunk()
                except Exception:
                    log.exception("%s: the queue failed in a way nobody foresaw; going on", self._name)
                    await self._gate.pause(REVISIT_S)
                    continue
                self._under_way += 1
                group.create_task(self._carry(chunk))

    async def _next_chunk(self) -> Chunk:
        """Wait until there is something to send, and a place to send it."""
        while True:
            self._stirred.clear()
            # Two at least, though perhaps one request at a time: a chunk that keeps failing shall meet one that passes.
            may_take = self._under_way < max(self._gate.width, 2) and not self._closing
            if may_take and (chunk := self._queue.take(self._delivery.limits)):
                if not self._may_fill(chunk):
                    await self._keep_pace(chunk.samples)
                    return chunk
                self._queue.put_back(chunk)
                self._full.clear()
                await either(self._clock, self._full, LINGER_S)
                if chunk := self._queue.take(self._delivery.limits):
                    return chunk
                continue
            if not self._queue.samples:
                self._settled.set()
            await self._stirred.wait()

    def _may_fill(self, chunk: Chunk) -> bool:
        """Whether it is worth waiting for more."""
        everything = not self._queue.waiting and chunk.samples < self._delivery.limits.max_samples
        return everything and not self._gate.hurried

    async def _carry(self, chunk: Chunk) -> None:
        """Bring one chunk to its end."""
        unclear = chunk.inherited
        try:
            while not await self._try_to_settle(chunk, unclear=unclear):
                unclear = True
                await self._gate.pause(REVISIT_S)
        finally:
            self._under_way -= 1
            self._stirred.set()

    async def _try_to_settle(self, chunk: Chunk, *, unclear: bool) -> bool:
        try:
            fragments, held = self._aside.sort(chunk.fragments)
            held += await self._settler.settle(fragments, unclear=unclear)
            if held:
                await self._aside.add(held)
            self._queue.settle(chunk)
        except Exception:
            log.exception(
                "%s: %d samples are tried again in a minute: %s", self._name, chunk.samples, _DEFECT
            )
            return False
        return True

    async def _revisit_aside(self) -> None:
        while True:
            await self._aside.filled.wait()
            await self._gate.pause(REVISIT_S)
            if self._gate.hurried:
                return  # the last try is the drain's
            await self._try_aside()

    async def _try_aside(self) -> None:
        try:
            await self._aside.revisit(self._settler)
        except Exception:
            log.exception("%s: what is set aside could not be tried again: %s", self._name, _DEFECT)

    async def _keep_pace(self, samples: int) -> None:
        """Leave the receiver a moment before the next request of a backlog."""
        now_s = self._clock.monotonic()
        if self._next_s > now_s and not self._gate.hurried:
            await self._gate.pause(self._next_s - now_s)
            now_s = self._clock.monotonic()
        waiting = self._queue.waiting
        self._next_s = now_s + self._gate.pace.pause_s(samples, 0.0, now_s, self._chance(), waiting)

    def lose(self, samples: int, reason: str) -> None:
        """Samples had to be given up; `reason` is one of those of `LOSSES`."""
        self._metrics.refused.add(samples, self._name, reason)
        log.error("%s: %d samples given up: %s", self._name, samples, LOSSES[reason])

    def _gauges(self) -> list[tuple[Gauge, Callable[[], float]]]:
        metrics = self._metrics
        return [
            (metrics.queue_samples, lambda: self._queue.samples + self._aside.samples),
            (metrics.queue_bytes, lambda: self._queue.size_bytes + self._aside.size_bytes),
            (metrics.queue_age, self._oldest_age_s),
            (metrics.held_samples, lambda: self._aside.samples),
        ]

    def _oldest_age_s(self) -> float:
        oldest_ms = self._queue.oldest_ms
        return 0.0 if oldest_ms is None else max(self._clock.time() - oldest_ms / 1000, 0.0)
