"""How fragments get to a clear end: delivered, refused for a reason, or set aside because only they cannot be taken now.

A request that is refused is halved to find the series at fault. One that keeps failing while others pass is halved,
too: a receiver that falls over one series shall not hold up all others.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.collector.gate import Gate
from trunkline.component.contract import Delivery, Fragment
from trunkline.component.metrics import SelfMetrics
from trunkline.component.schedule import Clock
from trunkline.errors import DeliveryError, Hold, NotNow, Rejected, RetryLater, TooLarge

log = logging.getLogger(__name__)

HOLD_S: Final = 15.0
"""How often a receiver is tried again that refuses us until somebody repairs something."""

LOCAL_PAUSE_S: Final = 1.0
"""The longest pause of a request that fails while others pass."""

SAY_AGAIN_S: Final = 60.0
"""How long the same reason is not said again, though requests passed in between."""

UNCLEAR: Final = frozenset({"unreachable", "server_error"})
"""After these nobody knows whether the receiver took the request."""

SUSPECT: Final = 5
"""So many failures make a request suspect: it is halved if others have passed since the first, or a small part of it is
tried alone, to see whether others would.
"""
CONFIRM: Final = 2
"""How many more failures each half needs."""

MAX_DOUBTS: Final = 8
"""After so many unclear outcomes in a row, that others have passed says nothing any more."""

MAX_REJECTIONS: Final = 64
"""How often what one request carried is refused before the rest of it goes with whatever is at fault."""

NAMING: Final = 12
"""The last so many of these go into naming a series at fault; those before part what is refused from what is not.

With 8 at fault among 10,000, largest parts first, 76 others go with them on average; smallest first, 2,700 would.
"""

ALREADY_THERE: Final = frozenset({"duplicate_timestamp", "out_of_order"})
"""What is refused like this after an unclear outcome was taken then: said of a single series, not of a request in
which others may be new.
"""


@dataclass(slots=True)
class Part:
    """Some fragments of a request. `unclear` says that the receiver may have taken them already.

    `failures` have happened to it without a clear answer, the first at `since_s`.
    """

    fragments: Sequence[Fragment]
    unclear: bool = False
    failures: int = 0
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """Fragments that the receiver does not take now while it takes others, and in which words it said so."""

    fragments: Sequence[Fragment]
    reason: str
    said: str


class Settler:
    """Sends fragments until each has come to an end, and counts how."""

    def __init__(
        self,
        name: str,
        delivery: Delivery,
        gate: Gate,
        metrics: SelfMetrics,
        clock: Clock,
        lose: Callable[[int, str], None],
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        self._name = name
        self._delivery = delivery
        self._gate = gate
        self._metrics = metrics
        self._clock = clock
        self._lose = lose
        self._waiting = waiting
        self._explained = self._said = ""
        self._say_again_s = 0.0
        self._sending = 0
        self.idle = asyncio.Event()
        """Set while no request is under way."""
        self.idle.set()

    async def settle(self, fragments: Sequence[Fragment], *, unclear: bool, failures: int = 0) -> list[Held]:
        """Deliver or refuse all of `fragments`, but for those returned, in order; `failures` they have had before."""
        work = deque([Part(fragments, unclear, failures)])
        held: list[Held] = []
        refusals = 0
        while work:
            part = work[0]
            if self._exceeds_limits(part) and (halves := self._halves(part.fragments)):
                work.popleft()
                work.extendleft(Part(half, part.unclear) for half in reversed(halves))
                continue
            try:
                await self._deliver(part)
            except (Rejected, TooLarge, NotNow) as error:
                work.popleft()
                refusals += not isinstance(error, TooLarge)
                halves = self._halves(part.fragments) if refusals <= MAX_REJECTIONS else ()
                if (
                    halves and error.reason in UNCLEAR
                ):  # later, when others have shown that the receiver is there
                    work.extend(Part(half, part.unclear, SUSPECT - CONFIRM, part.since_s) for half in halves)
                elif halves and refusals <= MAX_REJECTIONS - NAMING:  # the largest parts first
                    work.extend(Part(half, part.unclear) for half in halves)
                elif halves:
                    work.extendleft(Part(half, part.unclear) for half in reversed(halves))
                elif isinstance(error, NotNow):
                    held.append(Held(part.fragments, error.reason, str(error)))
                else:
                    self._end(part, error)
            except Exception:
                log.exception("%s: delivering failed in a way nobody foresaw; going on", self._name)
                await self._gate.pause(HOLD_S)
            else:
                work.popleft()
        return held

    def _exceeds_limits(self, part: Part) -> bool:
        """Whether a request would be larger than the receiver takes: a record of the queue may be."""
        limits = self._delivery.limits
        return (
            sum([fragment.raw_bytes for fragment in part.fragments]) > limits.max_raw_bytes
            or sum([len(fragment.data) for fragment in part.fragments]) > limits.max_request_bytes
        )

    def _halves(self, part: Sequence[Fragment]) -> Sequence[Sequence[Fragment]]:
        """Two smaller parts, in order; nothing for a part of one series."""
        middle = len(part) // 2
        if middle:
            return part[:middle], part[middle:]
        return [[half] for half in self._delivery.halves(part[0])]

    async def _deliver(self, part: Part) -> None:
        """Send until there is a clear answer. Raises Rejected, TooLarge or NotNow when that is a refusal."""
        while True:
            try:
                await self._send(part)
            except RetryLater as error:
                if error.reason in UNCLEAR:
                    await self._suspect(part, error)
                else:
                    samples = sum(fragment.samples for fragment in part.fragments)
                    self._gate.throttled(error.after_s, samples)
                    self._explain(error)
            except Hold as error:
                self._gate.failed(longest_s=HOLD_S)
                self._explain(error)
            except DeliveryError:
                self._gate.refused()
                raise
            else:
                return

    async def _suspect(self, part: Part, error: RetryLater) -> None:
        """After an unclear outcome: wait for the receiver, or for this part if others pass. Raises NotNow if it is to blame."""
        self._gate.doubts += 1
        if not part.failures or self._gate.doubts > MAX_DOUBTS:
            part.since_s = self._clock.monotonic()
        part.failures += 1
        part.unclear = True
        if self._gate.taken_s <= part.since_s:
            self._gate.failed(error.after_s)
            self._explain(error)
            if part.failures >= SUSPECT:
                await self._try_some(part)
        elif part.failures >= SUSPECT:
            raise NotNow(str(error), reason=error.reason) from error
        else:
            await self._gate.pause(min(error.after_s or 2.0**part.failures / 20, LOCAL_PAUSE_S))

    async def _try_some(self, part: Part) -> None:
        """Send a little of a part alone: if that is taken, the receiver is there and something else at fault."""
        pieces = part.fragments if len(part.fragments) > 1 else self._delivery.halves(part.fragments[0])
        if not pieces:
            return
        some = random.choice(pieces)  # noqa: S311 (no secret)
        try:
            await self._send(Part([some], unclear=True))
        except DeliveryError:
            return
        part.fragments = [piece for piece in pieces if piece is not some]

    async def _send(self, part: Part) -> None:
        """One request. Raises DeliveryError."""
        async with self._gate.turn():
            if not self._leave_out_outdated(part):
                return
            body = self._delivery.join(part.fragments)
            started = self._clock.monotonic()
            outcome = "interrupted"
            self._sending += 1
            self.idle.clear()
            try:
                await self._delivery.send(body)
                outcome = "delivered"
            except DeliveryError as error:
                outcome = error.reason
                raise
            finally:
                self._sending -= 1
                if not self._sending:
                    self.idle.set()
                self._metrics.requests.add(1, self._name, outcome)
                self._metrics.delivery_duration.observe(self._clock.monotonic() - started, self._name)
        self._delivered(part.fragments, len(body))

    def _delivered(self, fragments: Iterable[Fragment], size: int) -> None:
        if self._explained:
            log.info("%s: samples are being delivered again", self._name)
            self._explained = ""
        self._gate.taken()
        self._metrics.delivered.add(sum(fragment.samples for fragment in fragments), self._name)
        self._metrics.sent_bytes.add(size, self._name)

    def _explain(self, error: DeliveryError) -> None:
        """Say once why nothing gets through; again when the reason is another one, or after a while."""
        now_s = self._clock.monotonic()
        said_lately = error.reason == self._said and now_s < self._say_again_s
        if error.reason != self._explained and not said_lately:
            self._explained = self._said = error.reason
            self._say_again_s = now_s + SAY_AGAIN_S
            log.warning("%s: %s; %d samples wait in the queue", self._name, error, self._waiting())

    def _leave_out_outdated(self, part: Part) -> bool:
        """Give up what the receiver can no longer accept because of its age; whether something is left."""
        limit_ms = int((self._clock.time() - self._delivery.limits.max_age_s) * 1000)
        outdated = [fragment for fragment in part.fragments if fragment.newest_ms < limit_ms]
        if outdated:
            self._lose(sum(fragment.samples for fragment in outdated), "too_old")
            part.fragments = [fragment for fragment in part.fragments if fragment.newest_ms >= limit_ms]
        return bool(part.fragments)

    def _end(self, part: Part, error: DeliveryError) -> None:
        """Give up a part: a single series for the reason given, or more of them when nobody knows which is at fault."""
        samples = sum(fragment.samples for fragment in part.fragments)
        known = len(part.fragments) == 1 and not self._delivery.halves(part.fragments[0])
        if known and part.unclear and error.reason in ALREADY_THERE:
            self._delivered(part.fragments, 0)
            return
        self._metrics.refused.add(samples, self._name, error.reason if known else "unknown")
        log.error(
            "%s: %d samples refused, of %s: %s",
            self._name,
            samples,
            self._delivery.describe(part.fragments[0]),
            error,
        )
