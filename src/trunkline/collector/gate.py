"""When a request may be sent: one state of the receiver for all requests under way.

As long as a receiver fails, one request at a time asks whether it is back, after growing pauses. When it says that it
is too much, half as many go at once, and one more with each that is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from trunkline.collector.pace import Pace
from trunkline.component.contract import Backoff
from trunkline.component.schedule import Clock

HURRIED_S: Final = 0.5
"""The longest pause at a shutdown."""
_NO_PAUSE_S: Final = 1e-6


class Gate:
    """Lets requests through, `most` at once. Times in seconds."""

    def __init__(self, clock: Clock, backoff: Backoff, chance: Callable[[], float], most: int) -> None:
        self._clock = clock
        self._backoff = backoff
        self._chance = chance
        self._most = most
        self.pace = Pace(clock.monotonic())
        self._through = 0
        self._resume_s = self._wished_s = 0.0
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self.width = most
        """How many requests may be under way now."""
        self.failures = 0
        """How many requests have failed since the last that was taken."""
        self.taken_s = -1.0
        """When a request was taken last, by the monotonic clock."""
        self.doubts = 0
        """How many requests since then had an unclear outcome."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a request may be sent, and take its place until it is answered."""
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    def taken(self) -> None:
        """The receiver took a request."""
        self.failures = self.doubts = 0
        self.taken_s = self._clock.monotonic()
        self._resume_s = self._wished_s
        self._widen()

    def refused(self) -> None:
        """The receiver answered clearly, though not kindly: it is there."""
        self.failures = 0
        self._widen()

    def failed(self, after_s: float | None = None, longest_s: float | None = None) -> None:
        """The receiver is not there, or in no state to answer: pause, and then ask with one request."""
        self.failures += 1
        self.width = 1
        pause_s = after_s or self._backoff.pause_s(self.failures, self._chance())
        self._pause(pause_s if longest_s is None else min(pause_s, longest_s))

    def throttled(self, after_s: float | None, samples: int) -> None:
        """The receiver said that a request of `samples` is too much: it comes again no sooner than the pace allows."""
        self.failures += 1
        self.width = max(1, self.width // 2)
        now_s = self._clock.monotonic()
        self.pace.throttled(now_s)
        pause_s = self.pace.pause_s(samples, 0.0, now_s, self._chance())
        pause_s = after_s or max(pause_s, self._backoff.pause_s(self.failures, self._chance()))
        self._wished_s = max(self._wished_s, self._clock.monotonic() + pause_s)
        self._pause(pause_s)

    def hurry(self) -> None:
        """From now on no pause is longer than a moment."""
        self._hurry.set()

    @property
    def hurried(self) -> bool:
        return self._hurry.is_set()

    async def pause(self, pause_s: float) -> None:
        """Wait, but at a shutdown only for a moment."""
        if self.hurried:
            await self._clock.sleep(min(pause_s, HURRIED_S))
        else:
            await either(self._clock, self._hurry, pause_s)

    async def _enter(self) -> None:
        await asyncio.sleep(0)  # a request that waits goes before one that has just failed
        while True:
            while self._through >= self.width:
                self._changed.clear()
                await self._changed.wait()
            self._through += 1
            pause_s = self._resume_s - self._clock.monotonic()
            if pause_s < _NO_PAUSE_S:
                return
            was_hurried = self.hurried
            try:
                await self.pause(pause_s)
            except BaseException:
                self._leave()
                raise
            if was_hurried:
                return
            self._leave()

    def _leave(self) -> None:
        self._through -= 1
        self._changed.set()

    def _pause(self, pause_s: float) -> None:
        self._resume_s = max(self._resume_s, self._clock.monotonic() + pause_s)

    def _widen(self) -> None:
        if self.width < self._most:
            self.width += 1
            self._changed.set()


async def either(clock: Clock, event: asyncio.Event, pause_s: float) -> None:
    """Wait for the event, but not longer than the pause."""
    waiting = asyncio.ensure_future(event.wait())
    sleeping = asyncio.ensure_future(clock.sleep(pause_s))
    try:
        await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        sleeping.cancel()
