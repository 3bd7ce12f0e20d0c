"""Series that the receiver does not take for now, while it takes others: kept apart and tried again every minute.

A limit on new series, or one series over which a receiver falls. What is kept is on disk as everything that waits is,
each series for itself, and samples of such a series that come later are put behind those that wait, so that its order
holds and the others are not held up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count

from trunkline.collector.queue import Chunk, Queue
from trunkline.collector.settling import MAX_REJECTIONS, SUSPECT, Held, Settler
from trunkline.component.contract import Delivery, Fragment

log = logging.getLogger(__name__)

REVISIT_S = 60.0
"""How often what is kept apart is tried again."""
REQUEST_SAMPLES = 1000
MAX_BYTES = 16 * 1024 * 1024


class Aside:
    """The series kept apart, and a queue of their samples. Fragments in it hold one series, and its lane is theirs."""

    def __init__(self, name: str, queue: Queue, delivery: Delivery) -> None:
        self._name = name
        self._queue = queue
        self._delivery = delivery
        self._limits = replace(delivery.limits, max_samples=min(REQUEST_SAMPLES, delivery.limits.max_samples))
        self._lanes: dict[bytes, int] = {}
        self._free: dict[int, tuple[int, int]] = {}  # sources' lanes with none of these, and their size
        self._tried: set[int] = set()  # refused lately, while there was no time to try others
        self._numbers = count()
        self._settler: Settler | None = None  # by which series got out
        self._busy = asyncio.Lock()
        self.filled = asyncio.Event()
        """Set while something is kept."""
        self._recover()

    @property
    def samples(self) -> int:
        return self._queue.samples

    @property
    def size_bytes(self) -> int:
        return self._queue.size_bytes

    @property
    def known(self) -> int:
        """How many series are kept apart."""
        return len(self._lanes)

    def close(self) -> None:
        self._queue.close()

    def sort(self, fragments: Sequence[Fragment]) -> tuple[Sequence[Fragment], list[Held]]:
        """What may be sent of `fragments`, and what belongs behind samples that wait here."""
        if not self._lanes:
            return fragments, []
        rest: list[Fragment] = []
        held: list[Fragment] = []
        for fragment in fragments:
            size = fragment.raw_bytes, fragment.samples
            if self._free.get(fragment.lane) == size:
                rest.append(fragment)
                continue
            waiting, others = self._delivery.apart(fragment, self._lanes.keys())
            held += waiting
            rest += others
            if waiting:
                self._free.pop(fragment.lane, None)
            else:
                self._free[fragment.lane] = size
        return rest, [Held(held, "", "")] if held else []

    async def add(self, held: Iterable[Held]) -> None:
        """Keep these apart, but send those whose series has got out since `sort` found that it waits."""
        async with self._busy:
            for one in held:
                if one.reason:
                    self._keep(one)
                else:
                    await self._keep_or_send(one.fragments)
            if self._queue.samples:
                self.filled.set()

    async def _keep_or_send(self, fragments: Sequence[Fragment]) -> None:
        if self._settler is None:
            self._queue.append(list(self._singles(fragments)))
            return
        waiting = [one for one in fragments if self._waits(one)]
        late = [one for one in fragments if one not in waiting]
        if waiting:
            self._queue.append(list(self._singles(waiting)))
        for one in await self._ask(self._settler, late):
            self._keep(one)

    def _waits(self, fragment: Fragment) -> bool:
        return any(key in self._lanes for key, _ in self._delivery.singles(fragment))

    def _keep(self, held: Held) -> None:
        self._explain(held)
        self._queue.append(list(self._singles(held.fragments)))

    async def revisit(self, settler: Settler) -> None:
        """Try what is kept, oldest first; what is refused again moves to the end, and the others of its series with it."""
        async with self._busy:
            self._settler = settler
            self._free.clear()
            try:
                await self._revisit(settler)
            except Exception:
                self._put_in_order()
                raise
            if not self._queue.samples:
                self._lanes.clear()
                self.filled.clear()

    async def _revisit(self, settler: Settler) -> None:
        refused: set[int] = set()
        staying: set[int] = set()
        passed: set[int] = set()
        remaining = self._queue.samples
        while remaining > 0 and (chunk := self._take(remaining)):
            remaining -= chunk.samples
            asked = [] if len(refused) > MAX_REJECTIONS else self._worth_asking(chunk, refused)
            try:
                held = await self._ask(settler, asked)
            except BaseException:
                self._queue.put_back(chunk)
                raise
            again = {fragment.lane for one in held for fragment in one.fragments}
            refused |= again
            if not (staying or passed) and len(refused) == len(self._lanes):  # nothing has changed
                self._queue.put_back(chunk)
                return
            taken = {fragment.lane for fragment in asked} - again
            back = [one for one in chunk.fragments if one.lane not in taken]
            passed |= taken
            staying.update(fragment.lane for fragment in back)
            self._queue.append(back)
            self._queue.settle(chunk)
            await asyncio.sleep(0)
        if remaining > 0:  # the queue gives no more for now
            staying.update(fragment.lane for fragment in self._queue.fragments())
        self._forget_all_but(staying)
        self._tried |= refused
        if passed or self._tried >= staying:
            self._tried.clear()

    def _take(self, remaining: int) -> Chunk | None:
        """The oldest, but nothing of what has been put behind those that remain."""
        most = min(self._limits.max_samples, remaining)
        return self._queue.take(replace(self._limits, max_samples=most))

    def _worth_asking(self, chunk: Chunk, refused: set[int]) -> list[Fragment]:
        return [one for one in chunk.fragments if one.lane not in refused and one.lane not in self._tried]

    async def _ask(self, settler: Settler, asked: Sequence[Fragment]) -> list[Held]:
        """Others wait for the lanes of these: one more failure is enough to leave a series where it is."""
        return await settler.settle(asked, unclear=True, failures=SUSPECT - 1) if asked else []

    def _forget_all_but(self, staying: set[int]) -> None:
        released = len(self._lanes) - len(staying)
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane in staying}
        if released:
            log.info("%s: %d series that had been set aside wait no longer", self._name, released)

    def _singles(self, fragments: Iterable[Fragment]) -> Iterable[Fragment]:
        for fragment in fragments:
            for key, single in self._delivery.singles(fragment):
                if key not in self._lanes:
                    self._lanes[key] = next(self._numbers)
                    self._free.clear()
                yield single._replace(lane=self._lanes[key])

    def _explain(self, held: Held) -> None:
        log.warning(
            "%s: %s is set aside and tried again every %d s, as the receiver takes others: %s",
            self._name,
            self._delivery.describe(held.fragments[0]),
            REVISIT_S,
            held.said,
        )

    def _recover(self) -> None:
        """Know again which series an earlier process has set aside."""
        for fragment in self._queue.fragments():
            for key, _ in self._delivery.singles(fragment):
                self._lanes[key] = fragment.lane
        self._numbers = count(max(self._lanes.values(), default=-1) + 1)
        self._put_in_order()
        if self._queue.samples:
            self.filled.set()

    def _put_in_order(self) -> None:
        """A process that ends while it tries leaves the later samples of a series before those it has moved."""
        if self._is_in_order():
            return
        kept = self._queue.append(sorted(self._queue.fragments(), key=lambda fragment: fragment.oldest_ms))
        remaining = self._queue.samples - kept
        while remaining > 0:
            chunk = self._take(remaining)
            if chunk is None:
                return
            remaining -= chunk.samples
            self._queue.settle(chunk)

    def _is_in_order(self) -> bool:
        latest: dict[int, int] = {}
        for fragment in self._queue.fragments():
            if fragment.oldest_ms < latest.get(fragment.lane, fragment.oldest_ms):
                return False
            latest[fragment.lane] = fragment.oldest_ms
        return True
