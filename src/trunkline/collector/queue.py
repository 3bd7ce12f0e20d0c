"""What has been accepted and not yet delivered: append-only segment files and a cursor.

A record is written with one `write`, so that the kernel holds it before its samples count as kept; it survives the
process being killed at any moment. What was written last is remembered too, so that it need not be read again when
it is sent soon, as is usual. Layout of a queue's folder, all numbers little-endian:

    lock                    held with flock while a process uses the folder
    cursor                  two slots of {u32 crc, u64 generation, u64 segment, u64 offset}, written in turn
    0000000000000001.seg    records: {"TLq1", u32 crc of the payload, u32 payload bytes} payload
                            payload: u16 fragments, then for each {u64 lane, u32 raw bytes, u32 samples,
                            i64 oldest and newest timestamp in ms, u32 data bytes}, then the data of each
    damaged/                what could not be read, by segment and offset

Behind damage, the next record is found by the four bytes it begins with: damage costs the records it lies in.
Every process starts a segment of its own, and a chunk never spans segments: slots, and with them lanes, mean
something only within one process.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from zlib_ng.zlib_ng import crc32

from trunkline.component.contract import Fragment, Limits
from trunkline.errors import QueueError

log = logging.getLogger(__name__)

_MAGIC: Final = b"TLq1"
_HEAD: Final = struct.Struct("<4sII")
_COUNT: Final = struct.Struct("<H")
_FRAGMENT: Final = struct.Struct("<QIIqqI")
_CURSOR: Final = struct.Struct("<IQQQ")

ASIDE_BYTES: Final = 16 * 1024 * 1024
"""How much of what cannot be read is kept for somebody to look at."""

SEGMENT_BYTES: Final = 4 * 1024 * 1024
RECORD_BYTES: Final = 256 * 1024
RECORD_RAW_BYTES: Final = 1024 * 1024
RECORD_SAMPLES: Final = 2048
RECORD_FRAGMENTS: Final = 1000
"""A batch larger than these is written as several records, so that a request can end between them.

Linux takes 1,024 pieces (IOV_MAX) in one `write`, each fragment is one, and two stand before them.
"""

REMEMBERED_BYTES: Final = 4 * 1024 * 1024
"""How much of what waits is kept in memory beside the disk: more than a second of 100,000 samples."""

Lost: TypeAlias = Callable[[int, str], None]
"""Told how many samples were given up, and why: `queue_full`, `disk_full`, `too_old` or `damaged`."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a write fails with that succeeds when something is given up."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one request will carry: whole records, in order, at most one fragment of any lane."""

    fragments: Sequence[Fragment]
    end: int

    @property
    def samples(self) -> int:
        return sum(fragment.samples for fragment in self.fragments)


class Queue(Protocol):
    """Keeps fragments in the order they came until they are acknowledged."""

    def append(self, fragments: Sequence[Fragment]) -> int:
        """Keep `fragments`, giving up the oldest if there is no room; returns the samples kept."""
        ...

    def drop_older(self, limit_ms: int) -> None:
        """Give up what is wholly older than `limit_ms`, as far as that is cheap; the rest is the sender's to drop."""
        ...

    def peek(self, limits: Limits) -> Chunk | None:
        """The oldest samples that fit one request, or None when nothing waits."""
        ...

    def put_back(self, chunk: Chunk) -> None:
        """The chunk given last is not sent yet: should it have to be given up, that is counted here."""
        ...

    def acknowledge(self, chunk: Chunk) -> None:
        """The chunk given last is settled; nothing happens if it has been given up meanwhile."""
        ...

    @property
    def samples(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def oldest_ms(self) -> int | None: ...

    def close(self) -> None: ...


def gather(records: Iterable[tuple[Sequence[Fragment], int]], limits: Limits) -> Chunk | None:
    """Whole records from the front, as long as no lane repeats and the request stays within `limits`."""
    taken: list[Fragment] = []
    lanes: set[int] = set()
    size = raw = samples = end = 0
    for fragments, position in records:
        new = set()
        for fragment in fragments:
            size += len(fragment.data)
            raw += fragment.raw_bytes
            samples += fragment.samples
            new.add(fragment.lane)
        full = size > limits.max_request_bytes or raw > limits.max_raw_bytes or samples > limits.max_samples
        if taken and (full or not lanes.isdisjoint(new)):
            break
        lanes |= new
        taken += fragments
        end = position
    return Chunk(taken, end) if taken else None


def as_records(fragments: Iterable[Fragment]) -> Iterator[list[Fragment]]:
    """Group `fragments` into records of a bounded size, never two of one lane in a record."""
    group: list[Fragment] = []
    lanes: set[int] = set()
    size = raw = samples = 0
    for fragment in fragments:
        size += len(fragment.data)
        raw += fragment.raw_bytes
        samples += fragment.samples
        full = size > RECORD_BYTES or raw > RECORD_RAW_BYTES or samples > RECORD_SAMPLES
        full = full or len(group) >= RECORD_FRAGMENTS
        if group and (full or fragment.lane in lanes):
            yield group
            group, lanes = [], set()
            size, raw, samples = len(fragment.data), fragment.raw_bytes, fragment.samples
        group.append(fragment)
        lanes.add(fragment.lane)
    if group:
        yield group


@dataclass(slots=True)
class _Segment:
    """One file. `end` is where the next record goes, `samples` what is in it and not acknowledged."""

    number: int
    path: Path
    fd: int
    unreadable: Callable[[_Segment, int, int], None]
    """Told of the bytes from one offset to another that are no record."""
    end: int = 0
    samples: int = 0
    newest_ms: int = 0
    remembered: deque[tuple[int, Sequence[Fragment], int]] = field(default_factory=deque)
    """Records with where they begin and end: none, or all from some offset to the end."""

    def add(self, fragments: Sequence[Fragment], end: int) -> None:
        self.end = end
        for fragment in fragments:
            self.samples += fragment.samples
            self.newest_ms = max(self.newest_ms, fragment.newest_ms)

    def remember(self, fragments: Sequence[Fragment], start: int, delivered_to: int, limit: int) -> None:
        """Keep the record that was added last in memory too, as long as they are less than `limit` bytes."""
        if self.remembered or start == delivered_to:
            self.remembered.append((start, fragments, self.end))
        if self.remembered and self.end - self.remembered[0][0] > limit:
            self.remembered.clear()

    def forget(self, offset: int) -> None:
        """What lies before `offset` is not asked for again."""
        while self.remembered and self.remembered[0][0] < offset:
            self.remembered.popleft()

    def records(self, offset: int) -> Iterator[tuple[Sequence[Fragment], int]]:
        """Each record from `offset` on and where it ends."""
        if self.remembered and self.remembered[0][0] == offset:
            return ((fragments, end) for _, fragments, end in self.remembered)
        return self.read(offset, self.end)

    def read(self, offset: int, end: int) -> Iterator[tuple[Sequence[Fragment], int]]:
        """The same, from the file; what cannot be read is passed over."""
        while offset < end:
            payload = self._payload_at(offset, end)
            if payload is None:
                behind = self._next_record(offset + 1, end)
                self.unreadable(self, offset, behind)
                offset = behind
            else:
                offset += _HEAD.size + len(payload)
                yield _decode(payload), offset

    def remove(self) -> None:
        """Nothing in it waits any longer. If it stays, it is delivered again after a restart, which is harmless."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the queue's segment %s cannot be removed: %s", self.path, error.strerror)

    def _payload_at(self, offset: int, end: int) -> bytes | None:
        head = os.pread(self.fd, _HEAD.size, offset)
        if len(head) < _HEAD.size:
            return None
        magic, checksum, size = _HEAD.unpack(head)
        if magic != _MAGIC or not 0 < size <= end - offset - _HEAD.size:
            return None
        payload = os.pread(self.fd, size, offset + _HEAD.size)
        return payload if len(payload) == size and crc32(payload) == checksum else None

    def _next_record(self, offset: int, end: int) -> int:
        """Where the next record begins; the end if there is none."""
        data = os.pread(self.fd, end - offset, offset)
        found = data.find(_MAGIC)
        while found >= 0:
            if self._payload_at(offset + found, end) is not None:
                return offset + found
            found = data.find(_MAGIC, found + 1)
        return end


class DiskQueue:
    """The queue of one exporter, in a folder of its own.

    Raises OSError when the folder cannot be written, QueueError when another collector uses it.
    """

    def __init__(
        self,
        folder: Path,
        lost: Lost,
        *,
        max_bytes: int = 1024**3,
        segment_bytes: int = SEGMENT_BYTES,
        remembered_bytes: int = REMEMBERED_BYTES,
        patience_s: float = 5.0,
    ) -> None:
        self._folder = folder
        self._lost = lost
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._remembered_bytes = remembered_bytes
        self._segments: deque[_Segment] = deque()
        self._out: Chunk | None = None
        self._set_aside: set[tuple[int, int]] = set()
        with ExitStack() as undo:
            self._lock_fd = _lock(folder, patience_s)
            undo.callback(os.close, self._lock_fd)
            self._cursor = _CursorFile(folder / "cursor")
            undo.callback(self._cursor.close)
            self._offset = self._open_segments(undo)
            undo.pop_all()

    @property
    def samples(self) -> int:
        return sum(segment.samples for segment in self._segments)

    @property
    def size_bytes(self) -> int:
        return sum(segment.end for segment in self._segments) - self._offset

    @property
    def oldest_ms(self) -> int | None:
        offset = self._offset
        for segment in self._segments:
            for fragments, _ in segment.records(offset):
                return min(fragment.oldest_ms for fragment in fragments)
            offset = 0
        return None

    def append(self, fragments: Sequence[Fragment]) -> int:
        kept = 0
        for record in as_records(fragments):
            samples = sum(fragment.samples for fragment in record)
            if self._append_record(record):
                kept += samples
            else:
                self._lost(samples, "disk_full")
        return kept

    def drop_older(self, limit_ms: int) -> None:
        while len(self._segments) > 1 and self._segments[0].newest_ms < limit_ms:
            self._give_up_first("too_old")

    def peek(self, limits: Limits) -> Chunk | None:
        while True:
            self._drop_empty()
            segment = self._segments[0]
            self._out = gather(segment.records(self._offset), limits)
            if self._out is not None:
                return self._out
            if segment.samples:  # they were in what cannot be read
                self._lost(segment.samples, "damaged")
                segment.samples = 0
            self._offset = segment.end
            if len(self._segments) == 1:
                return None

    def put_back(self, chunk: Chunk) -> None:
        if chunk is self._out:
            self._out = None

    def acknowledge(self, chunk: Chunk) -> None:
        if chunk is not self._out:
            return
        self._out = None
        segment = self._segments[0]
        segment.samples -= chunk.samples
        self._offset = chunk.end
        segment.forget(chunk.end)
        self._cursor.write(segment.number, chunk.end)
        self._drop_empty()

    def close(self) -> None:
        for segment in self._segments:
            os.close(segment.fd)
            if not segment.samples:
                segment.remove()
        self._cursor.close()
        os.close(self._lock_fd)

    def _append_record(self, fragments: Sequence[Fragment]) -> bool:
        """Write one record; a disk that is full gets room by giving up the oldest segments.

        Whatever else is wrong with a file may not be with another one, and is no reason to give up what waits.
        """
        record, size = _encode(fragments)
        while self.size_bytes + size > self._max_bytes and self._give_up_oldest("queue_full"):
            pass
        while (failed := self._write(record, size, fragments)) is not None:
            is_full = failed.errno in _NO_ROOM
            if not (self._give_up_oldest("disk_full") if is_full else self._begin_segment()):
                return False
        return True

    def _write(self, record: Sequence[bytes], size: int, fragments: Sequence[Fragment]) -> OSError | None:
        if self._segments[-1].end + size > self._segment_bytes:
            self._begin_segment()
        segment = self._segments[-1]
        start = segment.end
        try:
            if os.pwritev(segment.fd, record, start) < size:
                raise OSError(errno.ENOSPC, "disk full")  # noqa: TRY301 (one way to fail)
        except OSError as error:
            log.error("the queue's segment %s cannot be written: %s", segment.path, error.strerror)  # noqa: TRY400
            with suppress(OSError):
                os.ftruncate(segment.fd, segment.end)
            return error
        segment.add(fragments, start + size)
        delivered_to = self._offset if len(self._segments) == 1 else 0
        segment.remember(fragments, start, delivered_to, self._remembered_bytes)
        return None

    def _begin_segment(self) -> bool:
        """Go on in another file; false if the last one is still empty, or no other can be made."""
        last = self._segments[-1]
        if not last.end:
            return False
        try:
            segment = self._create(last.number + 1)
        except OSError as error:
            log.warning("no segment of the queue can follow %s: %s", last.path, error.strerror)
            return False
        for waiting in islice(self._segments, 1, None):  # a backlog stays on the disk
            waiting.remembered.clear()
        self._segments.append(segment)
        return True

    def _give_up_oldest(self, reason: str) -> bool:
        """Unlink the oldest segment, if need be the one that is being written; whether that made room."""
        if len(self._segments) == 1 and not self._begin_segment():
            return False
        self._give_up_first(reason)
        return True

    def _give_up_first(self, reason: str) -> None:
        out = self._out.samples if self._out else 0  # the sender settles those
        self._out = None
        samples = self._segments[0].samples - out
        self._discard_first()
        if samples:
            self._lost(samples, reason)

    def _drop_empty(self) -> None:
        """Drop what has been delivered to its end; there may be records without samples (metadata) behind the last."""
        while len(self._segments) > 1:
            first = self._segments[0]
            if first.samples or self._offset < first.end:
                return
            self._discard_first()

    def _discard_first(self) -> None:
        segment = self._segments.popleft()
        os.close(segment.fd)
        segment.remove()
        self._offset = 0

    def _create(self, number: int) -> _Segment:
        path = self._folder / f"{number:016d}.seg"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return _Segment(number, path, fd, self._keep_aside)

    def _open_segments(self, undo: ExitStack) -> int:
        """Take up what earlier processes left, and start a segment of our own; returns the offset to go on at."""
        numbers = sorted(int(path.stem) for path in self._folder.glob("*.seg") if path.stem.isdigit())
        offset = 0
        for number in numbers:
            segment = self._create(number)
            undo.callback(os.close, segment.fd)
            if number == self._cursor.segment:
                offset = self._cursor.offset
            self._segments.append(segment)
            self._index(segment, offset if number == self._cursor.segment else 0)
        self._segments.append(self._create(max([self._cursor.segment, *numbers]) + 1))
        undo.callback(os.close, self._segments[-1].fd)
        while self._segments[0].number < self._cursor.segment:
            self._discard_first()
        if self._segments[0].number != self._cursor.segment:
            offset = 0
        return offset

    def _index(self, segment: _Segment, start: int) -> None:
        """Count the records an earlier process left; a torn one at the end never counted as kept."""
        size = os.fstat(segment.fd).st_size
        for fragments, end in segment.read(start, size):
            segment.add(fragments, end)
        segment.end = size

    def _keep_aside(self, segment: _Segment, start: int, stop: int) -> None:
        """Put bytes that are no record where somebody can look at them, as long as they are not too many."""
        if (segment.number, start) in self._set_aside:
            return
        self._set_aside.add((segment.number, start))
        place = self._folder / "damaged" / f"{segment.number:016d}-{start}"
        kept = "and not kept, there is too much of it already"
        with suppress(OSError):
            place.parent.mkdir(exist_ok=True)
            there = sum(path.stat().st_size for path in place.parent.iterdir())
            if there + stop - start <= ASIDE_BYTES:
                place.write_bytes(os.pread(segment.fd, stop - start, start))
                kept = f"kept as {place}"
        log.error("%s: bytes %d to %d cannot be read, %s", segment.path, start, stop, kept)


class MemoryQueue:
    """The same promise without a disk: bounded, and gone with the process."""

    def __init__(self, lost: Lost, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._lost = lost
        self._records: deque[tuple[int, list[Fragment]]] = deque()
        self._out: Chunk | None = None
        self._number = 0
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self.samples = 0

    @property
    def oldest_ms(self) -> int | None:
        return min(fragment.oldest_ms for fragment in self._records[0][1]) if self._records else None

    def append(self, fragments: Sequence[Fragment]) -> int:
        before = self.samples
        for record in as_records(fragments):
            self._number += 1
            self._records.append((self._number, record))
            self._count(record, 1)
        kept = self.samples - before
        while self.size_bytes > self._max_bytes and len(self._records) > 1:
            self._give_up_first("queue_full")
        return kept

    def drop_older(self, limit_ms: int) -> None:
        while self._records and all(one.newest_ms < limit_ms for one in self._records[0][1]):
            self._give_up_first("too_old")

    def peek(self, limits: Limits) -> Chunk | None:
        self._out = gather(((record, number) for number, record in self._records), limits)
        return self._out

    def put_back(self, chunk: Chunk) -> None:
        if chunk is self._out:
            self._out = None

    def acknowledge(self, chunk: Chunk) -> None:
        while self._records and self._records[0][0] <= chunk.end:
            self._count(self._records.popleft()[1], -1)
        self._out = None

    def close(self) -> None:
        """Nothing outlives the process."""

    def _give_up_first(self, reason: str) -> None:
        number, record = self._records.popleft()
        self._count(record, -1)
        if self._out is None or number > self._out.end:  # else the sender settles it
            self._lost(sum(fragment.samples for fragment in record), reason)

    def _count(self, record: Sequence[Fragment], sign: int) -> None:
        self.size_bytes += sign * sum(len(fragment.data) for fragment in record)
        self.samples += sign * sum(fragment.samples for fragment in record)


class _CursorFile:
    """Where delivery has got to; of two slots the valid one with the higher generation counts."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.generation, self.segment, self.offset = max(
            (self._read(slot) for slot in (0, 1)), default=(0, 0, 0)
        )

    def write(self, segment: int, offset: int) -> None:
        self.generation += 1
        body = _CURSOR.pack(0, self.generation, segment, offset)[4:]
        record = struct.pack("<I", crc32(body)) + body
        try:
            os.pwrite(self._fd, record, self.generation % 2 * _CURSOR.size)
        except OSError as error:
            # Delivered twice after a restart at worst, which is harmless.
            log.warning("the queue's cursor cannot be written: %s", error)

    def close(self) -> None:
        os.close(self._fd)

    def _read(self, slot: int) -> tuple[int, int, int]:
        record = os.pread(self._fd, _CURSOR.size, slot * _CURSOR.size)
        if len(record) != _CURSOR.size:
            return 0, 0, 0
        checksum, generation, segment, offset = _CURSOR.unpack(record)
        return (generation, segment, offset) if crc32(record[4:]) == checksum else (0, 0, 0)


def _lock(folder: Path, patience_s: float) -> int:
    """Hold the folder for this process; a collector that is just stopping gets a moment to let go."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                raise QueueError(
                    f"the queue's folder {folder} is used by another collector; give each its own --data-dir"
                ) from None
            time.sleep(0.1)
        else:
            return fd


def _encode(fragments: Sequence[Fragment]) -> tuple[list[bytes], int]:
    """A record in parts, and its size."""
    table = _COUNT.pack(len(fragments)) + b"".join(
        [
            _FRAGMENT.pack(f.lane, f.raw_bytes, f.samples, f.oldest_ms, f.newest_ms, len(f.data))
            for f in fragments
        ]
    )
    parts = [table, *[fragment.data for fragment in fragments]]
    checksum = size = 0
    for part in parts:
        checksum = crc32(part, checksum)
        size += len(part)
    return [_HEAD.pack(_MAGIC, checksum, size), *parts], _HEAD.size + size


def _decode(payload: bytes) -> list[Fragment]:
    (count,) = _COUNT.unpack_from(payload)
    at = _COUNT.size + count * _FRAGMENT.size
    fragments = []
    for index in range(count):
        lane, raw_bytes, samples, oldest_ms, newest_ms, size = _FRAGMENT.unpack_from(
            payload, _COUNT.size + index * _FRAGMENT.size
        )
        fragments.append(Fragment(lane, payload[at : at + size], raw_bytes, samples, oldest_ms, newest_ms))
        at += size
    return fragments
