"""What has been accepted and not yet delivered: append-only segment files and a cursor.

A record is written with one `write`, so that the kernel holds it before the scrape counts as kept; it survives the
process being killed at any moment. Layout of a queue's folder, all numbers little-endian:

    lock                    held with flock while a process uses the folder
    cursor                  two slots of {u32 crc, u64 generation, u64 segment, u64 offset}, written in turn
    0000000000000001.seg    records: {u32 crc of the rest, u32 payload bytes} payload
                            payload: u16 fragments, then for each {u64 lane, u32 raw bytes, u32 samples,
                            i64 oldest timestamp in ms, u32 data bytes}, then the data of each

Every process starts a segment of its own, and a chunk never spans segments: slots, and with them lanes, mean
something only within one process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from trunkline.component.contract import Fragment, Limits
from trunkline.errors import QueueError

log = logging.getLogger(__name__)

_HEAD: Final = struct.Struct("<II")
_COUNT: Final = struct.Struct("<H")
_FRAGMENT: Final = struct.Struct("<QIIqI")
_CURSOR: Final = struct.Struct("<IQQQ")

SEGMENT_BYTES: Final = 4 * 1024 * 1024
RECORD_BYTES: Final = 256 * 1024
"""A batch larger than this is written as several records, so that a request can end between them."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one request will carry: whole records, in order, at most one fragment of any lane."""

    fragments: Sequence[Fragment]
    end: object

    @property
    def samples(self) -> int:
        return sum(fragment.samples for fragment in self.fragments)


class Queue(Protocol):
    """Keeps fragments in the order they came until they are acknowledged."""

    def append(self, fragments: Sequence[Fragment]) -> int:
        """Keep `fragments`; returns how many *samples* had to be given up for them, oldest first."""
        ...

    def peek(self, limits: Limits) -> Chunk | None:
        """The oldest samples that fit one request, or None when nothing waits."""
        ...

    def acknowledge(self, chunk: Chunk) -> None: ...

    @property
    def samples(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def oldest_ms(self) -> int | None: ...

    def close(self) -> None: ...


def gather(records: Iterable[tuple[Sequence[Fragment], object]], limits: Limits) -> Chunk | None:
    """Whole records from the front, as long as no lane repeats and the request stays within `limits`."""
    taken: list[Fragment] = []
    lanes: set[int] = set()
    size = raw = samples = 0
    end: object = None
    for fragments, position in records:
        size += sum(len(fragment.data) for fragment in fragments)
        raw += sum(fragment.raw_bytes for fragment in fragments)
        samples += sum(fragment.samples for fragment in fragments)
        new = {fragment.lane for fragment in fragments}
        full = size > limits.max_request_bytes or raw > limits.max_raw_bytes or samples > limits.max_samples
        if taken and (full or lanes & new):
            break
        lanes |= new
        taken += fragments
        end = position
    return Chunk(taken, end) if taken else None


def as_records(fragments: Iterable[Fragment]) -> Iterator[list[Fragment]]:
    """Group `fragments` into records of a bounded size, never two of one lane in a record."""
    group: list[Fragment] = []
    size = 0
    for fragment in fragments:
        if group and (
            size + len(fragment.data) > RECORD_BYTES or any(f.lane == fragment.lane for f in group)
        ):
            yield group
            group, size = [], 0
        group.append(fragment)
        size += len(fragment.data)
    if group:
        yield group


@dataclass(slots=True)
class _Segment:
    """One file: `end` is where the next record goes; the records not yet acknowledged count below."""

    number: int
    path: Path
    fd: int
    end: int = 0
    samples: int = 0
    pending: deque[tuple[int, int]] = field(default_factory=deque)
    """(samples, oldest timestamp) of each record from the cursor on."""


class DiskQueue:
    """The queue of one exporter, in a folder of its own.

    Raises OSError when the folder cannot be written, QueueError when another collector uses it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = 1024**3,
        segment_bytes: int = SEGMENT_BYTES,
        patience_s: float = 5.0,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._lock_fd = _lock(folder, patience_s)
        self._cursor = _CursorFile(folder / "cursor")
        self._segments = deque(self._open_segments())
        self._offset = self._cursor.offset if self._resumes() else 0
        for segment in self._segments:
            self._index(segment)
        newest = max([self._cursor.segment, *(segment.number for segment in self._segments)])
        self._drop_empty()
        self._segments.append(self._create(newest + 1))

    @property
    def samples(self) -> int:
        return sum(segment.samples for segment in self._segments)

    @property
    def size_bytes(self) -> int:
        return sum(segment.end for segment in self._segments) - self._offset

    @property
    def oldest_ms(self) -> int | None:
        return next((segment.pending[0][1] for segment in self._segments if segment.pending), None)

    def append(self, fragments: Sequence[Fragment]) -> int:
        given_up = 0
        for record in as_records(fragments):
            given_up += self._append_record(record)
        return given_up

    def peek(self, limits: Limits) -> Chunk | None:
        self._drop_empty()
        segment = self._segments[0]
        return gather(self._records(segment, self._offset), limits)

    def acknowledge(self, chunk: Chunk) -> None:
        number, offset = chunk.end if isinstance(chunk.end, tuple) else (0, 0)
        segment = self._segments[0]
        if segment.number != number or offset <= self._offset:
            return  # given up in the meantime
        remaining = chunk.samples
        while remaining > 0:
            samples, _ = segment.pending.popleft()
            segment.samples -= samples
            remaining -= samples
        self._offset = offset
        self._cursor.write(number, offset)
        self._drop_empty()

    def close(self) -> None:
        for segment in self._segments:
            os.close(segment.fd)
            if not segment.pending:
                segment.path.unlink(missing_ok=True)
        self._cursor.close()
        os.close(self._lock_fd)

    def _append_record(self, fragments: Sequence[Fragment]) -> int:
        data = _encode(fragments)
        given_up = self._make_room(len(data))
        segment = self._segments[-1]
        if segment.end + len(data) > self._segment_bytes and segment.end:
            segment = self._create(segment.number + 1)
            self._segments.append(segment)
        samples = sum(fragment.samples for fragment in fragments)
        if not _written(segment, data):
            return given_up + samples
        segment.end += len(data)
        segment.samples += samples
        segment.pending.append((samples, min(fragment.oldest_ms for fragment in fragments)))
        return given_up

    def _make_room(self, needed: int) -> int:
        """Unlink the oldest segments until `needed` bytes fit; returns the samples they still held."""
        given_up = 0
        while self.size_bytes + needed > self._max_bytes and self._segments[0].pending:
            if len(self._segments) == 1:
                self._segments.append(self._create(self._segments[0].number + 1))
            given_up += self._segments[0].samples
            self._discard_first()
        return given_up

    def _drop_empty(self) -> None:
        while len(self._segments) > 1 and not self._segments[0].pending:
            self._discard_first()

    def _discard_first(self) -> None:
        segment = self._segments.popleft()
        os.close(segment.fd)
        segment.path.unlink(missing_ok=True)
        self._offset = 0

    def _create(self, number: int) -> _Segment:
        path = self._folder / f"{number:016d}.seg"
        return _Segment(number, path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _open_segments(self) -> Iterator[_Segment]:
        for path in sorted(self._folder.glob("*.seg")):
            number = int(path.stem) if path.stem.isdigit() else 0
            if number < self._cursor.segment:
                path.unlink(missing_ok=True)
            else:
                yield self._create(number)

    def _resumes(self) -> bool:
        return bool(self._segments) and self._segments[0].number == self._cursor.segment

    def _index(self, segment: _Segment) -> None:
        """Find the records an earlier process left; what is torn at the end never counted as kept."""
        start = self._offset if segment is self._segments[0] else 0
        segment.end = start
        for fragments, position in self._records(segment, start, os.fstat(segment.fd).st_size):
            samples = sum(fragment.samples for fragment in fragments)
            segment.samples += samples
            segment.pending.append((samples, min(fragment.oldest_ms for fragment in fragments)))
            segment.end = position[1]
        torn = os.fstat(segment.fd).st_size - segment.end
        if torn:
            log.warning("%s: %d bytes after offset %d cannot be read", segment.path, torn, segment.end)

    def _records(
        self, segment: _Segment, offset: int, end: int | None = None
    ) -> Iterator[tuple[Sequence[Fragment], tuple[int, int]]]:
        end = segment.end if end is None else end
        while offset + _HEAD.size <= end:
            head = os.pread(segment.fd, _HEAD.size, offset)
            if len(head) < _HEAD.size:
                return
            checksum, size = _HEAD.unpack(head)
            payload = os.pread(segment.fd, size, offset + _HEAD.size) if size <= end - offset else b""
            if len(payload) != size or not size or zlib.crc32(payload) != checksum:
                return
            offset += _HEAD.size + size
            yield _decode(payload), (segment.number, offset)


class MemoryQueue:
    """The same promise without a disk: bounded, and gone with the process."""

    def __init__(self, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._records: deque[tuple[int, list[Fragment]]] = deque()
        self._number = 0
        self._max_bytes = max_bytes
        self._bytes = 0
        self._samples = 0

    @property
    def samples(self) -> int:
        return self._samples

    @property
    def size_bytes(self) -> int:
        return self._bytes

    @property
    def oldest_ms(self) -> int | None:
        return min(f.oldest_ms for f in self._records[0][1]) if self._records else None

    def append(self, fragments: Sequence[Fragment]) -> int:
        before = self._samples
        for record in as_records(fragments):
            self._number += 1
            self._records.append((self._number, record))
            self._count(record, 1)
        added = self._samples - before
        while self._bytes > self._max_bytes and len(self._records) > 1:
            self._count(self._records.popleft()[1], -1)
        return before + added - self._samples

    def peek(self, limits: Limits) -> Chunk | None:
        return gather(((record, number) for number, record in self._records), limits)

    def acknowledge(self, chunk: Chunk) -> None:
        assert isinstance(chunk.end, int)
        while self._records and self._records[0][0] <= chunk.end:
            self._count(self._records.popleft()[1], -1)

    def close(self) -> None:
        """Nothing outlives the process."""

    def _count(self, record: Sequence[Fragment], sign: int) -> None:
        self._bytes += sign * sum(len(fragment.data) for fragment in record)
        self._samples += sign * sum(fragment.samples for fragment in record)


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
        record = struct.pack("<I", zlib.crc32(body)) + body
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
        return (generation, segment, offset) if zlib.crc32(record[4:]) == checksum else (0, 0, 0)


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


def _written(segment: _Segment, data: bytes) -> bool:
    """Whether all of `data` is at the end of the segment now; a part of it is taken back."""
    try:
        if os.pwrite(segment.fd, data, segment.end) == len(data):
            return True
        reason = "disk full"
    except OSError as error:
        reason = error.strerror or str(error)
    log.error("the queue's segment %s cannot be written (%s): samples are given up", segment.path, reason)
    os.ftruncate(segment.fd, segment.end)
    return False


def _encode(fragments: Sequence[Fragment]) -> bytes:
    parts = [_COUNT.pack(len(fragments))]
    parts += [_FRAGMENT.pack(f.lane, f.raw_bytes, f.samples, f.oldest_ms, len(f.data)) for f in fragments]
    parts += [fragment.data for fragment in fragments]
    payload = b"".join(parts)
    return _HEAD.pack(zlib.crc32(payload), len(payload)) + payload


def _decode(payload: bytes) -> list[Fragment]:
    (count,) = _COUNT.unpack_from(payload)
    at = _COUNT.size + count * _FRAGMENT.size
    fragments = []
    for index in range(count):
        lane, raw_bytes, samples, oldest_ms, size = _FRAGMENT.unpack_from(
            payload, _COUNT.size + index * _FRAGMENT.size
        )
        fragments.append(Fragment(lane, payload[at : at + size], raw_bytes, samples, oldest_ms))
        at += size
    return fragments
