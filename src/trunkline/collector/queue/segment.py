"""The files of a queue: append-only segments of records, each with a checksum.

A record is written with one `write`, so that the kernel holds it before its samples count as kept; it survives the
process being killed at any moment. What was written last is remembered too, so that it need not be read again when
it is sent soon, as is usual. A segment that the disk does not take exists in memory alone. All numbers little-endian:

    record   {"TLq1", u32 crc of the payload, u32 payload bytes} payload
    payload  u16 fragments, then for each {u64 lane, u32 raw bytes, u32 samples, i64 oldest and newest timestamp in
             ms, u32 data bytes}, then the data of each

Behind damage, the next record is found by the four bytes it begins with: damage costs the records it lies in.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from zlib_ng.zlib_ng import crc32

from trunkline.collector.queue.chunk import Record
from trunkline.component.contract import Fragment

log = logging.getLogger(__name__)

_MAGIC: Final = b"TLq1"
_HEAD: Final = struct.Struct("<4sII")
_COUNT: Final = struct.Struct("<H")
_FRAGMENT: Final = struct.Struct("<QIIqqI")

SEGMENT_BYTES: Final = 4 * 1024 * 1024
_SCAN_BYTES: Final = 64 * 1024
"""How much is read at a time behind damage; where the disk itself cannot read, as much is passed over."""

Unreadable: TypeAlias = Callable[["Segment", int, int], None]
"""Told of the bytes of a segment, from one offset to another, that are no record."""


class Segment:
    """A run of records and how far they have been taken and passed.

    `end` is where the next record goes. `taken_to` is where the next chunk begins. Up to `passed_to` all is settled.
    `samples` counts what is not settled, `waiting` what of it is not taken, `chunks` those of it under way.
    """

    __slots__ = (
        *("_fd", "_is_new", "_last_read", "_unreadable", "chunks", "end", "inherited", "newest_ms", "number"),
        *("on_disk", "passed_to", "path", "remembered", "samples", "taken_to", "waiting"),
    )

    def __init__(self, path: Path, unreadable: Unreadable, *, inherited: bool = False) -> None:
        self.path = path
        self.number = int(path.stem)
        self.inherited = inherited
        self.on_disk = inherited
        self.end = self.taken_to = self.passed_to = 0
        self.samples = self.waiting = self.newest_ms = self.chunks = 0
        self.remembered: deque[Record] = deque()
        """Records that wait: none, or all from some offset to the end."""
        self._unreadable = unreadable
        self._fd = -1
        self._is_new = False
        self._last_read: Record | None = None

    def index(self, offset: int) -> None:
        """Count the records an earlier process left; a torn one at the end never counted as kept.

        Raises OSError when the disk does not let us read them.
        """
        size = self.path.stat().st_size
        self.taken_to = self.passed_to = min(offset, size)
        if self.taken_to < size:  # a disk that gives nothing back may do so later
            self._open_to_read()
            os.pread(self._fd, 1, self.taken_to)
        for record in self.read(self.taken_to, size):
            self._count(record)
        self.end = size
        self._last_read = None
        self.close()

    def write(self, record: Record) -> None:
        """Append `record` to the file, which is made if need be. Raises OSError; then it is not there."""
        parts, size = _encode(record.fragments)
        self._open_to_write()
        try:
            _write_at(self._fd, parts, size, self.end)
        except OSError:
            if not self.end:
                self.remove()
            raise
        self._place(record, size)

    def hold(self, record: Record) -> None:
        """Append `record` in memory alone."""
        self._place(record, record_bytes(record))
        self.remembered.append(record)

    def remember(self, record: Record, limit: int) -> None:
        """Keep the record that was written last in memory too, as long as they are less than `limit` bytes."""
        if self.remembered or record.start == self.taken_to:
            self.remembered.append(record)
            if self.end - self.remembered[0].start > limit:
                self.remembered.clear()

    def write_out(self, records: Sequence[Record]) -> tuple[Sequence[Record], OSError | None]:
        """Make the file of a segment held in memory; returns what could not be written, and why."""
        for done, record in enumerate(records):
            parts, size = _encode(record.fragments)
            try:
                self._open_to_write()
                _write_at(self._fd, parts, size, record.start)
            except OSError as error:
                return records[done:], error
        return (), None

    def sync(self) -> None:
        """See what is written onto the device. Raises OSError."""
        os.fdatasync(self._fd)
        if self._is_new:
            _sync_folder(self.path.parent)
            self._is_new = False

    def cut(self, start: int, records: Sequence[Record]) -> None:
        """Take back what was written last, from `start` on."""
        with suppress(OSError):
            os.ftruncate(self._fd, start)
        self.end = start
        for record in records:
            self.samples -= record.samples
            self.waiting -= record.samples
            if self.remembered and self.remembered[-1] is record:
                self.remembered.pop()

    def records(self) -> Iterator[Record]:
        """Those that wait, in order. Raises OSError when the file cannot be opened."""
        while self.remembered and self.remembered[0].start < self.taken_to:
            self.remembered.popleft()
        if self.remembered and self.remembered[0].start == self.taken_to:
            return iter(self.remembered)
        return self.read(self.taken_to, self.end)

    def take(self, records: Sequence[Record]) -> None:
        """`records` are under way."""
        self.chunks += 1
        for record in records:
            self.waiting -= record.samples
            if self.remembered and self.remembered[0] is record:
                self.remembered.popleft()
        self.taken_to = records[-1].end

    def put_back(self, records: Sequence[Record], start: int) -> None:
        """`records`, which were taken last, wait again."""
        self.chunks -= 1
        for record in records:
            self.waiting += record.samples
        following = self.remembered[0].start if self.remembered else self.end
        if following == self.taken_to:
            self.remembered.extendleft(reversed(records))
        self.taken_to = start

    def read(self, offset: int, end: int) -> Iterator[Record]:
        """Each record in the file; what cannot be read is passed over. Raises OSError when it cannot be opened."""
        while offset < end:
            record = self._last_read
            if record is None or record.start != offset:
                self._open_to_read()
                record = self._last_read = self._record_at(offset, end)
            if record is None:
                behind = self._next_record(offset + 1, end)
                self._unreadable(self, offset, behind)
                offset = behind
            else:
                offset = record.end
                yield record

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Some of the file; nothing where the disk cannot read."""
        try:
            return os.pread(self._fd, size, offset)
        except OSError:
            return b""

    def close(self) -> None:
        """The file can be opened again when it is needed."""
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
        self._fd = -1

    def remove(self) -> None:
        """Nothing in the file is needed any longer. If it stays, it is delivered again, which is harmless."""
        self.close()
        self._last_read = None
        if not self.on_disk:
            return
        self.on_disk = False
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the queue's segment %s cannot be removed: %s", self.path, error.strerror)

    def _count(self, record: Record) -> None:
        self.samples += record.samples
        self.waiting += record.samples
        self.newest_ms = max(self.newest_ms, record.newest_ms)

    def _place(self, record: Record, size: int) -> None:
        record.start = self.end
        self.end = record.end = record.start + size
        self._count(record)

    def _open_to_write(self) -> None:
        if self._fd >= 0:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self.path, flags if self.on_disk else flags | os.O_TRUNC, 0o600)
        self.on_disk = self._is_new = True

    def _open_to_read(self) -> None:
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def _record_at(self, offset: int, end: int) -> Record | None:
        head = self.bytes_at(offset, _HEAD.size)
        if len(head) < _HEAD.size:
            return None
        magic, checksum, size = _HEAD.unpack(head)
        if magic != _MAGIC or not _COUNT.size < size <= end - offset - _HEAD.size:
            return None
        payload = self.bytes_at(offset + _HEAD.size, size)
        if len(payload) < size or crc32(payload) != checksum:
            return None
        record = Record.of(_decode(payload))
        record.start, record.end = offset, offset + _HEAD.size + size
        return record

    def _next_record(self, offset: int, end: int) -> int:
        """Where the next record begins; the end if there is none."""
        for start in range(offset, end, _SCAN_BYTES - len(_MAGIC) + 1):
            data = self.bytes_at(start, min(_SCAN_BYTES, end - start))
            found = data.find(_MAGIC)
            while found >= 0:
                if self._record_at(start + found, end) is not None:
                    return start + found
                found = data.find(_MAGIC, found + 1)
        return end


def record_bytes(record: Record) -> int:
    """The size of `record` in a file."""
    return _HEAD.size + _COUNT.size + len(record.fragments) * _FRAGMENT.size + record.data_bytes


def _write_at(fd: int, parts: Sequence[bytes], size: int, offset: int) -> None:
    """All or nothing, as far as the disk lets us."""
    try:
        if os.pwritev(fd, parts, offset) < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 (one way to fail)
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, offset)
        raise


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _encode(fragments: Sequence[Fragment]) -> tuple[list[bytes], int]:
    """A record in parts, and its size."""
    pack = _FRAGMENT.pack
    table = _COUNT.pack(len(fragments)) + b"".join(
        [
            pack(lane, raw_bytes, samples, oldest_ms, newest_ms, len(data))
            for lane, data, raw_bytes, samples, oldest_ms, newest_ms in fragments
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
    table = payload[_COUNT.size : at]
    fragments = []
    for lane, raw_bytes, samples, oldest_ms, newest_ms, size in _FRAGMENT.iter_unpack(table):
        fragments.append(Fragment(lane, payload[at : at + size], raw_bytes, samples, oldest_ms, newest_ms))
        at += size
    return fragments
