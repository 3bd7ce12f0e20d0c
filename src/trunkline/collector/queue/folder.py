"""The folder of a queue.

    lock                    held with flock while a process uses the folder
    destination             JSON: which exporter's queue it is, and where its samples go, without secrets
    cursor, cursor.2        how far delivery has got: see `cursor.py`
    0000000000000001.seg    the samples: see `segment.py`
    damaged/                what could not be read, by segment and offset

A folder belongs to one exporter and one destination, so that nothing is sent to a new address by mistake.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from trunkline.collector.queue.segment import Segment
from trunkline.errors import QueueError

log = logging.getLogger(__name__)

ASIDE_BYTES: Final = 16 * 1024 * 1024
"""How much of what cannot be read is kept for somebody to look at."""


def lock(folder: Path, patience_s: float) -> int:
    """Hold the folder for this process; a collector that is just stopping gets a moment to let go.

    Returns the descriptor that holds it. Raises OSError when the folder cannot be written, QueueError when it is used.
    """
    deadline = time.monotonic() + patience_s
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, folder / "lock"):  # and the folder was not renamed in between
                return fd
        except BlockingIOError:
            pass
        except OSError:  # a file system without locks
            os.close(fd)
            raise
        os.close(fd)
        if time.monotonic() >= deadline:
            raise QueueError(
                f"the queue's folder {folder} is used by another collector; give each its own --data-dir"
            )
        time.sleep(0.1)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def segment_paths(folder: Path) -> list[Path]:
    """The segments' files, oldest first."""
    paths = [path for path in folder.glob("*.seg") if path.stem.isdecimal()]
    return sorted(paths, key=lambda path: int(path.stem))


def name_destination(folder: Path, exporter: str, destination: str) -> None:
    """Say in the folder whose it is, for people and for who takes it over; without that it works as well."""
    path = folder / "destination"
    text = json.dumps({"exporter": exporter, "destination": destination}) + "\n"
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text() == text:
            return
    try:
        aside = path.with_suffix(".new")
        aside.write_text(text)
        aside.replace(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error.strerror)


def read_destination(folder: Path) -> tuple[str, str]:
    """Exporter and destination of a queue; empty when it does not say."""
    try:
        said = json.loads((folder / "destination").read_text())
        return str(said["exporter"]), str(said["destination"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


class Aside:
    """Puts bytes that are no record where somebody can look at them, as long as they are not too many."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done: set[tuple[int, int]] = set()

    def take(self, path: Path, error: OSError) -> None:
        """Put a whole segment here that the disk does not give back, so that nobody removes it as delivered."""
        said = error.strerror
        place = self._folder / path.name
        try:
            size = path.stat().st_size
            self._folder.mkdir(exist_ok=True)
            path.rename(place)
        except OSError as failure:
            log.error("the queue's segment %s is left out: %s; %s", path, said, failure.strerror)  # noqa: TRY400
            return
        log.error(
            "the queue's segment %s cannot be read (%s): its %d bytes are not delivered, and kept as %s. When the disk gives "
            "them back: make a folder, move the file into <folder>/queue/%s, and start with --take-over <folder>",
            path,
            said,
            size,
            place,
            self._folder.parent.name,
        )

    def keep(self, segment: Segment, start: int, stop: int) -> None:
        """Copy what is from `start` to `stop` in `segment`, once, and say so."""
        if (segment.number, start) in self._done:
            return
        self._done.add((segment.number, start))
        place = self._folder / f"{segment.number:016d}-{start}"
        kept = "and not kept, there is too much of it already"
        try:
            self._folder.mkdir(exist_ok=True)
            there = sum(path.stat().st_size for path in self._folder.iterdir())
            if there + stop - start <= ASIDE_BYTES:
                data = segment.bytes_at(start, stop - start)
                place.write_bytes(data)
                kept = f"kept as {place}" if data else "and not kept, the disk does not give them back"
        except OSError as error:
            kept = f"and not kept: {error.strerror}"
        log.error("%s: bytes %d to %d cannot be read, %s", segment.path, start, stop, kept)
