"""Takes what waits in a queue to its receiver: one request at a time, oldest first, until each is settled."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from trunkline.collector.pace import Pace
from trunkline.collector.queue import Chunk, Lost, MemoryQueue, Queue
from trunkline.component.contract import Delivery, Fragment
from trunkline.component.metrics import SelfMetrics
from trunkline.component.schedule import Clock
from trunkline.errors import DeliveryError, Hold, Rejected, RetryLater, TooLarge

log = logging.getLogger(__name__)

LINGER_S: Final = 1.0
"""How long samples wait for others at most, so that requests are few and full."""

HOLD_S: Final = 15.0
"""How often a receiver is tried again that refuses us until somebody repairs something."""

FUTILE_S: Final = 600.0
"""For how long nobody waits for a limit to rise after somebody has done so in vain."""

UNCLEAR: Final = frozenset({"unreachable", "server_error"})
"""After these nobody knows whether the receiver took the request."""

MAX_REJECTIONS: Final = 64
"""How often what one request carried is rejected before the rest of it is given up with whatever is at fault."""

ALREADY_THERE: Final = frozenset({"duplicate_timestamp", "out_of_order"})
"""What is refused like this after an unclear outcome was taken then: said of a single series, not of a request in
which others may be new.
"""

LOSSES: Final = {
    "queue_full": "the queue is full and they were the oldest",
    "disk_full": "the disk of the queue is full or cannot be written",
    "too_old": "they waited longer than the receiver accepts samples for",
    "damaged": "the queue's file is damaged",
}


@dataclass(slots=True)
class _Part:
    """Some fragments of a chunk. `unclear` says that the receiver may have taken them already."""

    fragments: list[Fragment]
    unclear: bool = False


class Sender:
    """Owns the queue of one exporter while entered. `keep` never waits; delivering goes on in the background.

    What is kept in one turn of the event loop is written together.
    """

    def __init__(
        self,
        name: str,
        delivery: Delivery,
        open_queue: Callable[[Lost], Queue],
        metrics: SelfMetrics,
        clock: Clock,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._delivery = delivery
        self._open_queue = open_queue
        self._queue: Queue = MemoryQueue(self._lose)
        self._task: asyncio.Task[None] | None = None
        self._metrics = metrics
        self._clock = clock
        self._backoff = delivery.backoff
        self._chance = chance
        self._pace = Pace(clock.monotonic())
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._full = asyncio.Event()
        self._incoming: list[Fragment] = []
        self._settled = asyncio.Event()
        self._failures = 0
        self._explained = ""
        self._futile_until_s = -math.inf

    @property
    def destination(self) -> str:
        """Where the bytes go."""
        return self._delivery.destination

    async def __aenter__(self) -> Self:
        """Open the queue and begin to deliver. Raises QueueError when another collector uses the folder."""
        self._queue = self._open_queue(self._lose)
        self._metrics.queue_samples.track(lambda: self._queue.samples, self._name)
        self._metrics.queue_bytes.track(lambda: self._queue.size_bytes, self._name)
        self._metrics.queue_age.track(self._oldest_age_s, self._name)
        self._task = asyncio.create_task(self._run(), name=f"deliver {self._name}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._write()
        for gauge in (self._metrics.queue_samples, self._metrics.queue_bytes, self._metrics.queue_age):
            gauge.remove(self._name)
        self._queue.close()

    def keep(self, fragments: Sequence[Fragment]) -> None:
        """Write `fragments` to the queue before the event loop waits again; what had to be given up is counted."""
        if not self._incoming:
            asyncio.get_running_loop().call_soon(self._write)
        self._incoming += fragments

    def _write(self) -> None:
        incoming, self._incoming = self._incoming, []
        if not incoming:
            return
        self._queue.drop_older(self._too_old_ms())
        kept = self._queue.append(incoming)
        self._metrics.kept.add(kept, self._name)
        self._pace.came_in(kept, self._clock.monotonic())
        self._settled.clear()
        self._wake.set()
        if self._queue.samples >= self._delivery.limits.max_samples:
            self._full.set()

    async def drain(self, timeout_s: float) -> bool:
        """Deliver without pauses until the queue is empty or the time is up; returns whether it is empty."""
        self._write()
        self._hurry.set()
        self._full.set()
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        return self._queue.samples == 0

    async def _run(self) -> None:
        async with self._delivery.session():
            while True:
                try:
                    await self._deliver_next()
                except Exception:
                    log.exception("%s: delivering failed in a way nobody foresaw; going on", self._name)
                    await self._pause(HOLD_S)

    async def _deliver_next(self) -> None:
        limits = self._delivery.limits
        chunk = self._queue.peek(limits)
        if chunk is not None and chunk.samples == self._queue.samples < limits.max_samples:
            self._full.clear()
            if not self._hurry.is_set():
                self._queue.put_back(chunk)
                await self._either(self._full, LINGER_S)
            chunk = self._queue.peek(limits)
        if chunk is None:
            self._settled.set()
            self._wake.clear()
            await self._wake.wait()
        else:
            started_s = self._clock.monotonic()
            await self._settle(chunk)
            self._queue.acknowledge(chunk)
            if self._queue.samples and not self._hurry.is_set():
                await self._keep_pace(chunk.samples, started_s)

    async def _keep_pace(self, samples: int, started_s: float) -> None:
        """Leave the receiver a moment before the next request of a backlog."""
        now_s = self._clock.monotonic()
        pause_s = self._pace.pause_s(samples, now_s - started_s, now_s, self._chance())
        if pause_s > 0:
            await self._pause(pause_s)

    async def _settle(self, chunk: Chunk) -> None:
        """Deliver or refuse every sample of `chunk`; a refused request is halved to find the series at fault."""
        work = deque([_Part(list(chunk.fragments))])
        rejections = 0
        while work:
            part = work.popleft()
            try:
                await self._deliver(part)
            except (Rejected, TooLarge) as error:
                rejections += isinstance(error, Rejected)
                halves = self._halves(part.fragments)
                if halves and rejections <= MAX_REJECTIONS:
                    work.extendleft(_Part(half, part.unclear) for half in reversed(halves))
                elif not halves and part.unclear and error.reason in ALREADY_THERE:
                    self._delivered(part.fragments, 0)
                else:
                    self._refuse(part.fragments, error)

    def _halves(self, part: list[Fragment]) -> Sequence[list[Fragment]]:
        """Two smaller parts, in order; nothing for a part of one series."""
        middle = len(part) // 2
        if middle:
            return part[:middle], part[middle:]
        return [[half] for half in self._delivery.halves(part[0])]

    async def _deliver(self, part: _Part) -> None:
        """Send until there is a clear answer. Raises Rejected or TooLarge when that is a refusal."""
        tries = 0
        while self._leave_out_outdated(part):
            body = self._delivery.join(part.fragments)
            try:
                await self._send(body)
            except (RetryLater, Hold) as error:
                part.unclear = part.unclear or error.reason in UNCLEAR
                if isinstance(error, RetryLater) and error.tries is not None:
                    tries += 1
                    self._wait_no_longer(error, tries, error.tries)
                await self._pause_after(error)
                continue
            except Rejected:
                self._failures = 0
                raise
            self._delivered(part.fragments, len(body))
            return

    def _wait_no_longer(self, error: RetryLater, tries: int, limit: int) -> None:
        """Raise Rejected after enough tries, and then for a time at once: others wait behind what is refused."""
        now_s = self._clock.monotonic()
        if tries > limit:
            self._futile_until_s = max(self._futile_until_s, now_s + FUTILE_S)
        if now_s < self._futile_until_s:
            raise Rejected(str(error), reason=error.reason) from error

    async def _send(self, body: bytes) -> None:
        started = self._clock.monotonic()
        outcome = "interrupted"
        try:
            await self._delivery.send(body)
            outcome = "delivered"
        except DeliveryError as error:
            outcome = error.reason
            raise
        finally:
            self._metrics.requests.add(1, self._name, outcome)
            self._metrics.delivery_duration.observe(self._clock.monotonic() - started, self._name)

    def _delivered(self, part: list[Fragment], size: int) -> None:
        if self._failures:
            log.info("%s: samples are being delivered again", self._name)
        self._failures = 0
        self._explained = ""
        self._pace.taken()
        self._metrics.delivered.add(sum(fragment.samples for fragment in part), self._name)
        self._metrics.sent_bytes.add(size, self._name)

    async def _pause_after(self, error: RetryLater | Hold) -> None:
        self._failures += 1
        if error.reason == "throttled":
            self._pace.throttled()
        if error.reason != self._explained:
            self._explained = error.reason
            log.warning("%s: %s; %d samples wait in the queue", self._name, error, self._queue.samples)
        wish_s = error.after_s if isinstance(error, RetryLater) else None
        pause_s = wish_s or self._backoff.pause_s(self._failures, self._chance())
        await self._pause(min(pause_s, HOLD_S) if isinstance(error, Hold) else pause_s)

    async def _pause(self, pause_s: float) -> None:
        """Wait, but at a shutdown only for a moment, and from then on never longer than that."""
        if self._hurry.is_set():
            await self._clock.sleep(min(pause_s, 0.5))
            return
        await self._either(self._hurry, pause_s)

    async def _either(self, event: asyncio.Event, pause_s: float) -> None:
        """Wait for the event, but not longer than the pause."""
        waiting = asyncio.ensure_future(event.wait())
        sleeping = asyncio.ensure_future(self._clock.sleep(pause_s))
        try:
            await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()

    def _leave_out_outdated(self, part: _Part) -> bool:
        """Give up what the receiver can no longer accept because of its age; whether something is left."""
        limit_ms = self._too_old_ms()
        outdated = [fragment for fragment in part.fragments if fragment.newest_ms < limit_ms]
        if outdated:
            self._lose(sum(fragment.samples for fragment in outdated), "too_old")
            part.fragments = [fragment for fragment in part.fragments if fragment.newest_ms >= limit_ms]
        return bool(part.fragments)

    def _too_old_ms(self) -> int:
        return int((self._clock.time() - self._delivery.limits.max_age_s) * 1000)

    def _lose(self, samples: int, reason: str) -> None:
        self._metrics.refused.add(samples, self._name, reason)
        log.error("%s: %d samples given up: %s", self._name, samples, LOSSES[reason])

    def _refuse(self, part: list[Fragment], error: Rejected | TooLarge) -> None:
        """Give up a part: a single series for the reason given, or more of them when nobody knows which is at fault."""
        samples = sum(fragment.samples for fragment in part)
        known = len(part) == 1 and not self._delivery.halves(part[0])
        self._metrics.refused.add(samples, self._name, error.reason if known else "unknown")
        log.error(
            "%s: %d samples refused, of %s: %s", self._name, samples, self._delivery.describe(part[0]), error
        )

    def _oldest_age_s(self) -> float:
        oldest_ms = self._queue.oldest_ms
        return 0.0 if oldest_ms is None else max(self._clock.time() - oldest_ms / 1000, 0.0)
