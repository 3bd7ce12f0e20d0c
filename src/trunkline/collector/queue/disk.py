"""A queue on disk: segment files, oldest first, and a cursor over what is settled.

Every process starts a segment of its own, as does what is taken over from another one, and a chunk never spans
segments: slots, and with them lanes, mean something only within one process. For the same reason nothing is taken of a segment while chunks of another one are
under way, if another process wrote either of them.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from trunkline.collector.queue.chunk import Chunk, Lost, Record, Window, as_records
from trunkline.collector.queue.cursor import CursorFile
from trunkline.collector.queue.folder import Aside, lock, name_destination, segment_paths
from trunkline.collector.queue.segment import SEGMENT_BYTES, Segment, record_bytes
from trunkline.component.contract import Fragment, Limits

log = logging.getLogger(__name__)

REMEMBERED_BYTES: Final = 4 * 1024 * 1024
"""How much of what waits is kept in memory beside the disk: more than a second of 100,000 samples."""

MEMORY_BYTES: Final = 16 * 1024 * 1024
"""How much is kept in memory instead of a disk that does not take it."""

RETRY_S: Final = 5.0
"""How often a disk is tried that does not take what is written."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a write fails with that succeeds when something is given up."""

_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What opening a file fails with that succeeds later."""


class DiskQueue:
    """The queue of one exporter, in a folder of its own.

    With `fsync`, what is appended is on the device when `append` returns, and survives the power going off. `exporter`
    and `destination` (without secrets) are for people who find the folder. Raises OSError when the folder cannot be
    written, QueueError when another collector uses it.
    """

    def __init__(
        self,
        folder: Path,
        lost: Lost,
        *,
        exporter: str = "",
        destination: str = "",
        max_bytes: int = 1024**3,
        fsync: bool = False,
        memory_bytes: int = MEMORY_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        remembered_bytes: int = REMEMBERED_BYTES,
        retry_s: float = RETRY_S,
        patience_s: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._lost = lost
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._memory_bytes = memory_bytes
        self._segment_bytes = segment_bytes
        self._remembered_bytes = remembered_bytes
        self._retry_s = retry_s
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._aside = Aside(folder / "damaged")
        self._window = Window()
        self._behind: deque[Segment] = deque()  # taken to their ends, with chunks under way
        self._ahead: deque[Segment] = deque()  # the first is taken from, the last is written to
        self._unsynced: list[Record] = []  # of the last segment
        self._unopened: Segment | None = None  # about which has been complained
        self._failure: OSError | None = None  # why records are held in memory
        self._retry_at_s = 0.0
        self.samples = self.waiting = self.size_bytes = 0
        with ExitStack() as undo:
            self._lock_fd = lock(folder, patience_s)
            undo.callback(os.close, self._lock_fd)
            self._cursor = CursorFile(folder / "cursor")
            undo.callback(self._cursor.close)
            self._take_up()
            undo.pop_all()
        if exporter or destination:
            name_destination(folder, exporter, destination)

    @property
    def is_on_disk(self) -> bool:
        return self._failure is None

    @property
    def oldest_ms(self) -> int | None:
        for chunk in self._window.chunks:
            if not (chunk.lost_as or chunk.settled):
                return chunk.records[0].oldest_ms
        for segment in self._ahead:
            try:
                for record in segment.records():
                    return record.oldest_ms
            except OSError:
                return None
        return None

    def append(self, fragments: Sequence[Fragment], *, inherited: bool = False) -> int:
        kept = 0
        last = self._ahead[-1]
        if last.inherited != inherited:
            (self._begin_segment() if last.end else last).inherited = inherited
        for record in as_records(fragments):
            kept += self._keep(record)
        return kept - self._sync() if self._unsynced else kept

    def drop_older(self, limit_ms: int) -> None:
        while len(self._behind) + len(self._ahead) > 1 and self._first.newest_ms < limit_ms:
            self._give_up(self._first, "too_old")

    def take(self, limits: Limits) -> Chunk | None:
        while True:
            segment = self._ahead[0]
            if self._window.chunks:
                last = self._window.chunks[-1].place
                if last is not segment and (last.inherited or segment.inherited):
                    return None
            try:
                records = self._window.gather(segment.records(), limits)
            except OSError as error:
                if segment is not self._unopened:
                    self._unopened = segment
                    log.error("the queue's segment %s cannot be opened: %s", segment.path, error.strerror)  # noqa: TRY400
                if error.errno in _NO_FILES:
                    return None
                records = []
            if records is None:
                return None
            if records:
                return self._take(segment, records)
            self._end(segment)
            if segment is self._ahead[-1]:
                return None
            self._leave_ended()

    def put_back(self, chunk: Chunk) -> None:
        if chunk.lost_as:
            self._lost(chunk.samples, chunk.lost_as)
            self.settle(chunk)
            return
        self._window.remove_last(chunk)
        segment = self._segment_of(chunk)
        while segment in self._behind:
            self._ahead.appendleft(self._behind.pop())
        segment.put_back(chunk.records, chunk.start)
        self.waiting += chunk.samples
        chunk.settled = True  # this one; its records will be in another

    def settle(self, chunk: Chunk) -> None:
        if chunk.settled:
            return
        chunk.settled = True
        if not chunk.lost_as:
            self._segment_of(chunk).samples -= chunk.samples
            self.samples -= chunk.samples
        if chunk is self._window.chunks[0]:
            self._advance()

    def fragments(self) -> Iterator[Fragment]:
        for segment in self._ahead:
            for record in segment.records():
                yield from record.fragments

    def close(self) -> None:
        """What memory holds is written out if the disk takes it; what is settled leaves."""
        for chunk in self._window.chunks:
            if chunk.lost_as and chunk.samples and not chunk.settled:  # nobody will settle it any more
                self._lost(chunk.samples, chunk.lost_as)
        for segment in (*self._behind, *self._ahead):
            if segment.samples and not segment.on_disk:
                self._write_out_last(segment)
            if segment.samples:
                segment.close()
            else:
                segment.remove()
        self._cursor.close()
        os.close(self._lock_fd)

    @property
    def _first(self) -> Segment:
        return self._behind[0] if self._behind else self._ahead[0]

    def _segment_of(self, chunk: Chunk) -> Segment:
        assert isinstance(chunk.place, Segment)
        return chunk.place

    # Taking and settling

    def _take(self, segment: Segment, records: list[Record]) -> Chunk:
        chunk = Chunk(records, segment, segment.taken_to)
        segment.take(records)
        self.waiting -= chunk.samples
        self._window.add(chunk)
        return chunk

    def _end(self, segment: Segment) -> None:
        """There is no record in what is left of `segment`."""
        segment.taken_to = segment.end
        self._miss(segment)
        if not self._window.chunks:
            self._advance()

    def _miss(self, segment: Segment) -> None:
        """What should wait in `segment`, and was not found up to its end, is lost."""
        missing, segment.waiting = segment.waiting, 0
        segment.samples -= missing
        self.samples -= missing
        self.waiting -= missing
        if missing:
            self._lost(missing, "damaged")

    def _leave_ended(self) -> None:
        """Put behind what is taken to its end, and drop what nothing is under way of."""
        while len(self._ahead) > 1 and self._ahead[0].taken_to >= self._ahead[0].end:
            segment = self._ahead.popleft()
            self._miss(segment)
            segment.close()
            self._behind.append(segment)
        while self._behind and not self._behind[0].chunks:
            self._discard(self._behind.popleft())

    def _advance(self) -> None:
        """Move the cursor over what is settled without a gap."""
        for chunk in self._window.pass_settled():
            if not chunk.lost_as:
                self._segment_of(chunk).chunks -= 1
        self._leave_ended()
        segment = self._first
        offset = segment.taken_to
        for chunk in self._window.chunks:
            if chunk.place is segment:
                offset = chunk.start
                break
        self.size_bytes -= offset - segment.passed_to
        segment.passed_to = offset
        self._cursor.write(segment.number, offset)

    # Keeping

    def _keep(self, record: Record) -> int:
        """Write a record, or hold it in memory; returns how many samples are kept."""
        size = record_bytes(record)
        while self.size_bytes + size > self._max_bytes and self._give_up_oldest("queue_full"):
            pass
        if not ((self._may_write() and self._write(record, size)) or self._hold(record, size)):
            self._lost(record.samples, "disk_full")
            return 0
        return record.samples

    def _write(self, record: Record, size: int) -> bool:
        """Write a record to the disk; a file that cannot be written says nothing of another one."""
        last = self._ahead[-1]
        if last.end and (last.end + size > self._segment_bytes or not last.on_disk):
            last = self._begin_segment()
        try:
            last.write(record)
        except OSError as error:
            self._fail(error)
            if not last.end or error.errno in _NO_ROOM:
                return False
            self._begin_segment()
            return self._write(record, size)
        self._kept(record)
        last.remember(record, self._remembered_bytes)
        if self._fsync:
            self._unsynced.append(record)
        if self._failure is not None and not self._held_bytes():
            self._failure = None
            log.warning("the disk takes the queue %s again", self._folder)
        return True

    def _hold(self, record: Record, size: int) -> bool:
        """Hold a record in memory, giving up the oldest when that is full too."""
        while self._held_bytes() + size > self._memory_bytes:
            full = self._failure is not None and self._failure.errno in _NO_ROOM
            if not (self._give_up_oldest("disk_full") if full else self._give_up_held()):
                return False
            if full and self._write_out() and self._write(record, size):
                return True
        last = self._ahead[-1]
        if last.on_disk or (last.end and last.end + size > self._held_segment_bytes):
            last = self._begin_segment()
        last.hold(record)
        self._kept(record)
        return True

    def _kept(self, record: Record) -> None:
        self.samples += record.samples
        self.waiting += record.samples
        self.size_bytes += record.end - record.start

    def _sync(self) -> int:
        """See what was appended onto the device, or hold it in memory; returns how many samples that costs."""
        last, records = self._ahead[-1], self._unsynced
        self._unsynced = []
        try:
            last.sync()
        except OSError as error:
            self._fail(error)
        else:
            return 0
        last.cut(records[0].start, records)
        lost = 0
        for record in records:
            self.samples -= record.samples
            self.waiting -= record.samples
            self.size_bytes -= record.end - record.start
        for record in records:
            if not self._hold(record, record_bytes(record)):
                self._lost(record.samples, "disk_full")
                lost += record.samples
        return lost

    # A disk that does not take what is written

    @property
    def _held_segment_bytes(self) -> int:
        return min(self._segment_bytes, self._memory_bytes // 4)

    def _held(self) -> Iterator[Segment]:
        for segment in (*self._behind, *self._ahead):
            if segment.end and not segment.on_disk:
                yield segment

    def _held_bytes(self) -> int:
        return sum(segment.end - segment.passed_to for segment in self._held())

    def _fail(self, error: OSError) -> None:
        self._retry_at_s = self._monotonic() + self._retry_s
        if self._failure is None:
            log.error(
                "%s cannot be written (%s): up to %d MiB of samples wait in memory, where they are lost if the "
                "collector is killed. Make room or repair the disk; it is tried again every %g s",
                self._folder,
                error.strerror,
                self._memory_bytes // 1024**2,
                self._retry_s,
            )
        self._failure = error

    def _may_write(self) -> bool:
        """Whether to try the disk: if it failed, only now and then, and first with what memory holds."""
        if self._failure is None:
            return True
        return self._monotonic() >= self._retry_at_s and self._write_out()

    def _write_out(self) -> bool:
        """Make files of what is held in memory, oldest first; whether the disk took all of it."""
        for segment in list(self._held()):
            if not (records := self._records_of(segment)):
                continue
            _, error = segment.write_out(records)
            if error is None and self._fsync:
                error = _sync_error(segment)
            if error is not None:
                segment.remove()
                self._fail(error)
                return False
            if segment is not self._ahead[-1]:
                segment.close()
        return True

    def _write_out_last(self, segment: Segment) -> None:
        """The same when the process ends: as much as there is room for."""
        rest, error = segment.write_out(self._records_of(segment))
        if error is None and self._fsync:
            error = _sync_error(segment)
        if error is None:
            return
        log.error("%s cannot be written: %s", segment.path, error.strerror)
        settled = [chunk for chunk in self._window.chunks if chunk.settled and chunk.place is segment]
        open_ = [one for one in rest if not any(one in chunk.records for chunk in settled)]
        lost = sum(record.samples for record in open_)
        segment.samples -= lost
        if lost:
            self._lost(lost, "disk_full")

    def _records_of(self, segment: Segment) -> list[Record]:
        """All that a segment held in memory has, from where the cursor is."""
        chunks = [chunk for chunk in self._window.chunks if chunk.place is segment]
        return [record for chunk in chunks for record in chunk.records] + list(segment.remembered)

    # Segments come and go

    def _begin_segment(self) -> Segment:
        """Go on in another segment; its file is made with the first record."""
        if self._unsynced:
            self._sync()
        last = self._ahead[-1]
        if last is not self._ahead[0] and last.on_disk:  # a backlog stays on the disk
            last.remembered.clear()
            last.close()
        segment = Segment(self._path(last.number + 1), self._aside.keep)
        segment.inherited = last.inherited
        self._ahead.append(segment)
        return segment

    def _give_up_oldest(self, reason: str) -> bool:
        """Remove the oldest segment, if need be the one that is being written; whether that made room."""
        if len(self._behind) + len(self._ahead) == 1:
            if not self._ahead[0].end:
                return False
            self._begin_segment()
        self._give_up(self._first, reason)
        return True

    def _give_up_held(self) -> bool:
        """The same with the oldest segment in memory: what is on a disk that fails can still be delivered."""
        oldest = next(self._held(), None)
        if oldest is None:
            return False
        if oldest is self._ahead[-1]:
            self._begin_segment()
        self._give_up(oldest, "disk_full")
        return True

    def _give_up(self, segment: Segment, reason: str) -> None:
        """What is under way of `segment` is settled by the sender; the rest is lost."""
        for chunk in self._window.chunks:
            if chunk.place is segment:
                chunk.lost_as = reason
        waiting = segment.waiting
        (self._behind if segment in self._behind else self._ahead).remove(segment)
        self._discard(segment)
        if waiting:
            self._lost(waiting, reason)

    def _discard(self, segment: Segment) -> None:
        self.samples -= segment.samples
        self.waiting -= segment.waiting
        self.size_bytes -= segment.end - segment.passed_to
        segment.remove()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:016d}.seg"

    def _take_up(self) -> None:
        """Take up what earlier processes left, and start a segment of our own."""
        newest = self._cursor.segment
        patient_until_s = time.monotonic() + self._patience_s
        for path in segment_paths(self._folder):
            segment = Segment(path, self._aside.keep, inherited=True)
            newest = max(newest, segment.number)
            if segment.number < self._cursor.segment:
                segment.remove()
                continue
            try:
                self._index(segment, patient_until_s)
            except OSError as error:
                self._aside.take(path, error)
                continue
            self.samples += segment.samples
            self.waiting += segment.waiting
            self.size_bytes += segment.end - segment.passed_to
            self._ahead.append(segment)
        self._ahead.append(Segment(self._path(newest + 1), self._aside.keep))

    def _index(self, segment: Segment, patient_until_s: float) -> None:
        """See what is in a segment; a disk that does not give it back gets a while. Raises OSError."""
        offset = self._cursor.offset if segment.number == self._cursor.segment else 0
        while True:
            try:
                return segment.index(offset)
            except OSError:
                segment.close()
                if time.monotonic() > patient_until_s:
                    raise
                time.sleep(min(0.5, self._patience_s / 10))


def _sync_error(segment: Segment) -> OSError | None:
    try:
        segment.sync()
    except OSError as error:
        return error
    return None
