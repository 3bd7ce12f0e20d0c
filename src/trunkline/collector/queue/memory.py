"""A queue without a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from trunkline.collector.queue.chunk import Chunk, Lost, Record, Window, as_records
from trunkline.component.contract import Fragment, Limits


class _Memory:
    """Where every chunk of a MemoryQueue comes from."""

    inherited = False


_HERE: Final = _Memory()


class MemoryQueue:
    """The same promise without a disk: gone with the process, and bounded.

    What is under way is the sender's: only what waits is given up, and the newest record never. `leave` is offered what
    is there in the end, and says whether it takes it.
    """

    def __init__(
        self,
        lost: Lost,
        *,
        max_bytes: int = 64 * 1024 * 1024,
        leave: Callable[[Sequence[Fragment]], bool] = lambda _: False,
    ) -> None:
        self._lost = lost
        self._leave = leave
        self._records: deque[Record] = deque()
        self._window = Window()
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self.samples = 0
        self.waiting = 0

    @property
    def oldest_ms(self) -> int | None:
        for chunk in self._window.chunks:
            return chunk.records[0].oldest_ms
        return self._records[0].oldest_ms if self._records else None

    def append(self, fragments: Sequence[Fragment], *, inherited: bool = False) -> int:
        del inherited  # what another process has kept on a disk is not moved into memory
        before = self.samples
        for record in as_records(fragments):
            self._records.append(record)
            self.size_bytes += record.data_bytes
            self.samples += record.samples
            self.waiting += record.samples
        kept = self.samples - before
        while self.size_bytes > self._max_bytes and len(self._records) > 1:
            self._give_up_first("queue_full")
        return kept

    def drop_older(self, limit_ms: int) -> None:
        while self._records and self._records[0].newest_ms < limit_ms:
            self._give_up_first("too_old")

    def take(self, limits: Limits) -> Chunk | None:
        records = self._window.gather(self._records, limits)
        if not records:
            return None
        for _ in records:
            self._records.popleft()
        chunk = Chunk(records, _HERE, 0)
        self.waiting -= chunk.samples
        self._window.add(chunk)
        return chunk

    def put_back(self, chunk: Chunk) -> None:
        self._window.remove_last(chunk)
        self._records.extendleft(reversed(chunk.records))
        self.waiting += chunk.samples
        chunk.settled = True  # this one; its records will be in another

    def settle(self, chunk: Chunk) -> None:
        if chunk.settled:
            return
        chunk.settled = True
        self.samples -= chunk.samples
        self.size_bytes -= sum([record.data_bytes for record in chunk.records])
        for _ in self._window.pass_settled():
            pass

    def fragments(self) -> Iterator[Fragment]:
        for record in self._records:
            yield from record.fragments

    @property
    def is_on_disk(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing outlives the process."""
        under_way = [record for chunk in self._window.chunks if not chunk.settled for record in chunk.records]
        left = [fragment for record in (*under_way, *self._records) for fragment in record.fragments]
        if left and not self._leave(left) and self.samples:
            self._lost(self.samples, "stopped")
        self._records.clear()
        self.samples = self.waiting = self.size_bytes = 0

    def _give_up_first(self, reason: str) -> None:
        record = self._records.popleft()
        self.size_bytes -= record.data_bytes
        self.samples -= record.samples
        self.waiting -= record.samples
        if record.samples:
            self._lost(record.samples, reason)
