"""How far delivery has got: two files written in turn, so that damage to one costs a single step.

Each holds a slot {u32 crc, u64 generation, u64 segment, u64 offset}, the second one behind room for another, since an
earlier version had both in one file.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from zlib_ng.zlib_ng import crc32

log = logging.getLogger(__name__)

_CURSOR: Final = struct.Struct("<IQQQ")


class CursorFile:
    """Where delivery has got to; the valid slot with the highest generation counts.

    Without a valid slot it is at the beginning: what is there is delivered once more. Raises OSError when there are no
    such files and none can be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fds: list[int] = []
        try:
            for one in _both(path):
                self._fds.append(os.open(one, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            self.close()
            raise
        self._generation, self.segment, self.offset = max(_slots(self._fds))
        self._failing = False

    def write(self, segment: int, offset: int) -> None:
        """Never fails: what is not written is delivered twice after a restart, which is harmless."""
        if (segment, offset) == (self.segment, self.offset):
            return
        self.segment, self.offset = segment, offset
        self._generation += 1
        body = _CURSOR.pack(0, self._generation, segment, offset)[4:]
        turn = self._generation % 2
        try:
            os.pwrite(self._fds[turn], struct.pack("<I", crc32(body)) + body, turn * _CURSOR.size)
        except OSError as error:
            if not self._failing:
                log.warning("the queue's cursor %s cannot be written: %s", self._path, error.strerror)
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


def read_cursor(path: Path) -> tuple[int, int]:
    """The segment and offset a queue has got to, without disturbing who uses it."""
    fds = []
    try:
        for one in _both(path):
            with suppress(OSError):
                fds.append(os.open(one, os.O_RDONLY | os.O_CLOEXEC))
        return max(_slots(fds), default=(0, 0, 0))[1:]
    finally:
        for fd in fds:
            os.close(fd)


def _both(path: Path) -> tuple[Path, Path]:
    return path, path.with_name(f"{path.name}.2")


def _slots(fds: Iterable[int]) -> list[tuple[int, int, int]]:
    return [_slot(fd, number) for fd in fds for number in (0, 1)]


def _slot(fd: int, number: int) -> tuple[int, int, int]:
    """Generation, segment and offset; zeros if that cannot be read."""
    try:
        record = os.pread(fd, _CURSOR.size, number * _CURSOR.size)
    except OSError:
        return 0, 0, 0
    if len(record) != _CURSOR.size:
        return 0, 0, 0
    checksum, generation, segment, offset = _CURSOR.unpack(record)
    return (generation, segment, offset) if crc32(record[4:]) == checksum else (0, 0, 0)
