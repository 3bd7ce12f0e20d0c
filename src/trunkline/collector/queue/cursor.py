"""How far delivery has got, in a file of two slots."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path
from typing import Final

from zlib_ng.zlib_ng import crc32

log = logging.getLogger(__name__)

_CURSOR: Final = struct.Struct("<IQQQ")


class CursorFile:
    """Where delivery has got to; of two slots the valid one with the higher generation counts.

    Without a valid slot it is at the beginning: what is there is delivered once more. Raises OSError when there is no
    such file and none can be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._generation, self.segment, self.offset = max(_slots(self._fd))
        self._failing = False

    def write(self, segment: int, offset: int) -> None:
        """Never fails: what is not written is delivered twice after a restart, which is harmless."""
        if (segment, offset) == (self.segment, self.offset):
            return
        self.segment, self.offset = segment, offset
        self._generation += 1
        body = _CURSOR.pack(0, self._generation, segment, offset)[4:]
        try:
            os.pwrite(self._fd, struct.pack("<I", crc32(body)) + body, self._generation % 2 * _CURSOR.size)
        except OSError as error:
            if not self._failing:
                log.warning("the queue's cursor %s cannot be written: %s", self._path, error.strerror)
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        os.close(self._fd)


def read_cursor(path: Path) -> tuple[int, int]:
    """The segment and offset a queue has got to, without disturbing who uses it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0, 0
    try:
        return max(_slots(fd))[1:]
    finally:
        os.close(fd)


def _slots(fd: int) -> list[tuple[int, int, int]]:
    return [_slot(fd, 0), _slot(fd, 1)]


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
