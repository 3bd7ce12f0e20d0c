"""Queues on disk by exporter and destination: where each lies, and what is left in those nobody delivers any longer.

A removed exporter, one with another name or a task that is gone leave their samples behind. Nothing here disturbs a
collector that is at work in a folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.collector.queue.cursor import read_cursor
from trunkline.collector.queue.folder import lock, read_destination, segment_paths
from trunkline.collector.queue.segment import Segment
from trunkline.errors import QueueError

log = logging.getLogger(__name__)

_NAME_CHARACTERS: Final = 100

ASIDE: Final = "aside"
"""The folder in a queue's folder of what waits apart from the rest: a queue like it."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a queue's folder holds, that waits apart included.

    `exporter` and `destination` are as the folder says, empty where it does not. `oldest_ms` is the time of the first
    sample that waits. `in_use` says that a process is at work there, and the rest was so when it was read.
    """

    folder: Path
    exporter: str
    destination: str
    samples: int
    size_bytes: int
    oldest_ms: int | None
    damaged_bytes: int
    in_use: bool


def queue_folder(data_dir: Path, id_: object, destination: str) -> Path:
    """The folder of an exporter's queue: its own and its URL's, so that nothing is sent to a new address by mistake.

    What an earlier version left under a name that two exporters could have is renamed, unless a process uses it.
    """
    name = str(id_)
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    digest = _digest(destination, 6)
    earlier = data_dir / "queue" / f"{readable}-{digest}"
    if readable == name and len(name) <= _NAME_CHARACTERS:
        return earlier
    folder = earlier.with_name(f"{readable[:_NAME_CHARACTERS]}.{_digest(name, 4)}-{digest}")
    with suppress(OSError):
        if not folder.exists() and earlier.is_dir() and read_destination(earlier)[0] in {"", name}:
            if _is_in_use(earlier):
                return earlier
            earlier.rename(folder)
    return folder


def backlogs(
    data_dirs: Iterable[Path], but: Collection[Path] = (), *, only_left: bool = False
) -> list[Backlog]:
    """What the queues in each of `data_dirs` hold, also those that hold nothing, by folder; without those of `but`.

    Reads all that waits, so this takes a second for each gigabyte or so. With `only_left`, nothing is read where a
    process is at work.
    """
    folders = {folder for data_dir in data_dirs for folder in (data_dir / "queue").glob("*/")}
    found = []
    for folder in sorted(folders.difference(but)):
        try:
            if not (only_left and _is_in_use(folder)):
                found.append(_look(folder))
        except OSError as error:
            log.warning("the queue %s cannot be read: %s", folder, error.strerror)
    return found


def claim(own_folder: Path, found: Backlog) -> Path | None:
    """Make a backlog for the same destination our own, by renaming it, so that it is delivered first.

    None if that cannot be: it is in use, for another destination or in another data directory, or our own folder holds
    something. Then a second queue has to deliver it. To be called before our own queue is opened.
    """
    folder = found.folder
    same = folder.parent == own_folder.parent and _destination_of(folder) == _destination_of(own_folder)
    if not same or folder == own_folder or not folder.is_dir():
        return None
    with ExitStack() as held:
        try:
            held.callback(os.close, lock(folder, 0))
            if own_folder.exists():
                held.callback(os.close, lock(own_folder, 0))
                if not _is_empty(own_folder):
                    return None
                shutil.rmtree(own_folder)
            folder.rename(own_folder)
        except (OSError, QueueError) as error:
            log.warning("the backlog %s cannot be taken over: %s", folder, error)
            return None
    return own_folder


def remove_empty(folder: Path) -> None:
    """Remove a queue's folder if nothing in it is worth keeping. Raises QueueError when a process has begun to use it."""
    held = lock(folder, 0)
    try:
        if _is_empty(folder):
            shutil.rmtree(folder)
    finally:
        os.close(held)


def _look(folder: Path) -> Backlog:
    in_use = _is_in_use(folder)
    exporter, destination = read_destination(folder)
    contents = [_Contents(folder, in_use=in_use)]
    if (folder / ASIDE).is_dir():
        contents.append(_Contents(folder / ASIDE, in_use=in_use))
    return Backlog(
        folder,
        exporter,
        destination,
        sum(one.samples for one in contents),
        sum(one.size_bytes for one in contents),
        min((one.oldest_ms for one in contents if one.oldest_ms is not None), default=None),
        sum(one.damaged_bytes for one in contents),
        in_use,
    )


class _Contents:
    """What is in the files of a folder from the cursor on."""

    def __init__(self, folder: Path, *, in_use: bool) -> None:
        self.samples = self.size_bytes = self.damaged_bytes = 0
        self.oldest_ms: int | None = None
        number, offset = read_cursor(folder / "cursor")
        paths = [path for path in segment_paths(folder) if int(path.stem) >= number]
        for path in paths:
            being_written = in_use and path is paths[-1]
            start = offset if int(path.stem) == number else 0
            with suppress(FileNotFoundError):  # delivered just now
                self._read(path, start, being_written=being_written)

    def _read(self, path: Path, offset: int, *, being_written: bool) -> None:
        size = path.stat().st_size

        def damaged(segment: Segment, start: int, stop: int) -> None:
            del segment
            if not (being_written and stop == size):
                self.damaged_bytes += stop - start

        segment = Segment(path, damaged, inherited=True)
        try:
            for record in segment.read(offset, size):
                self.samples += record.samples
                if self.oldest_ms is None:
                    self.oldest_ms = record.oldest_ms
        finally:
            segment.close()
        self.size_bytes += max(size - offset, 0)


def _is_empty(folder: Path) -> bool:
    """Whether nothing in `folder` is worth keeping; what could not be read is."""
    found = _look(folder)
    aside = [*folder.glob("damaged/*"), *folder.glob(f"{ASIDE}/damaged/*")]
    return not (found.samples or found.damaged_bytes or aside)


def _is_in_use(folder: Path) -> bool:
    """Whether a process holds the lock, which a process that begins just now has to ask for twice at worst."""
    try:
        fd = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _destination_of(folder: Path) -> str:
    return folder.name.rpartition("-")[2]


def _digest(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
