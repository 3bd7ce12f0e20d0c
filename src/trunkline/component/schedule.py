"""When a source is read: a steady rhythm whose phase is spread over the interval."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

log = logging.getLogger(__name__)

TIMESTAMP_TOLERANCE_S: Final = 0.002
"""A tick at most this late (and at most 1 % of the interval) counts as on time, as in Prometheus."""


class Clock(Protocol):
    """Time as a seam: tests bring their own."""

    def time(self) -> float: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def phase_of(key: str, interval_s: float) -> float:
    """Where in the interval the source named `key` is read, in seconds: the same after every restart."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 * interval_s


BEATS: Final = 10
"""How many moments of an interval serve all sources with that interval."""


def beat_of(key: str, interval_s: float, process: str) -> float:
    """Where in the interval the source named `key` is read, in seconds, if `process` reads many.

    What is done for many sources in one go finds its code and data in the processor's caches, and costs half. The
    beats of different processes lie at different moments, so that a fleet does not send with one voice.
    """
    beat_s = interval_s / BEATS
    return phase_of(process, beat_s) + int(phase_of(key, BEATS)) * beat_s


async def ticks(
    interval_s: float, phase_s: float, clock: Clock, *, at_once: bool = False
) -> AsyncIterator[float]:
    """Yield the timestamp (seconds since the epoch) of each collection, when it is due.

    Ticks lie at `phase_s` past whole intervals of the wall clock, so that a restarted collector goes on in the same
    rhythm; `at_once` adds one now. Ticks missed (a slow consumer, a suspended machine) are skipped, not made up
    for. The timestamp is the ideal one when the tick came on time, else the real one.
    """
    tolerance_s = min(interval_s / 100, TIMESTAMP_TOLERANCE_S)
    if at_once:
        yield clock.time()
    while True:
        now = clock.time()
        due = now + interval_s - (now - phase_s) % interval_s
        if due - now < tolerance_s:  # woken a moment early: that tick has been given already
            due += interval_s
        await clock.sleep(due - now)
        late_s = clock.time() - due
        yield due if abs(late_s) <= tolerance_s else clock.time()


async def collect_at(
    due: AsyncIterator[float], collect: Callable[[float], Awaitable[None]], name: str
) -> None:
    """Call `collect` with the timestamp of every tick until cancelled; whatever it raises is logged, not passed on."""
    async for timestamp_s in due:
        try:
            await collect(timestamp_s)
        except Exception:
            log.exception("collecting from %s failed in a way nobody foresaw; going on", name)
