"""Queues on disk for the exporters of a configuration, and what others have left for the same destinations.

An exporter with another name, a task that is gone: what they could not deliver waits in a folder of its own, with every
label it needs. Whoever sends to the same destination can deliver it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from trunkline.collector.backlog import ASIDE, Backlog, backlogs, claim, queue_folder, remove_empty
from trunkline.collector.queue import DiskQueue, Lost, MemoryQueue, Queue
from trunkline.collector.sender import Sender
from trunkline.component.contract import Delivery, Fragment, Limits
from trunkline.errors import QueueError

log = logging.getLogger(__name__)

ASIDE_BYTES: Final = 16 * 1024 * 1024
"""How much is kept at most of series that a receiver does not take for now."""
MEMORY_BYTES: Final = 64 * 1024 * 1024
"""How much is kept at most where there is no disk."""
LOOK_AGAIN_S: Final = 60.0
"""How often is looked for what tasks have left that ended meanwhile."""
MOVED: Final = Limits(max_request_bytes=256 * 1024, max_samples=2048)
"""How much of another's queue is moved at once."""


def folder_of(data_dir: Path, id_: object, delivery: Delivery) -> Path:
    """Where the queue of an exporter lies."""
    root = Path(delivery.queue.directory) if delivery.queue.directory else data_dir
    return queue_folder(root, id_, delivery.destination)


class Memories:
    """What queues in memory hold when a new configuration takes the place of the old one, by their folders."""

    def __init__(self) -> None:
        self.kept = True
        """Whether anybody comes to ask for it."""
        self._left: dict[Path, tuple[Sequence[Fragment], Lost]] = {}

    def open_queue(self, folder: Path, lost: Lost, id_: object, delivery: Delivery) -> Queue:
        """The queue of an exporter. Raises QueueError when another collector uses the folder."""
        return self._open(folder, lost, id_, delivery, delivery.queue.max_bytes)

    def open_aside(self, folder: Path, lost: Lost, id_: object, delivery: Delivery) -> Queue:
        """The queue of what the exporter's receiver does not take for now. Raises QueueError as `open_queue` does."""
        return self._open(folder / ASIDE, lost, id_, delivery, ASIDE_BYTES)

    def _open(self, folder: Path, lost: Lost, id_: object, delivery: Delivery, max_bytes: int) -> Queue:
        def leave(fragments: Sequence[Fragment]) -> bool:
            if self.kept:
                self._left[folder] = fragments, lost
            return self.kept

        queue = _open_or_remember(folder, lost, id_, delivery, max_bytes, leave)
        if folder in self._left:
            queue.append(self._left.pop(folder)[0], inherited=True)
        return queue

    def forget(self) -> None:
        """Nobody has asked for what is left now."""
        for fragments, lost in self._left.values():
            if samples := sum(fragment.samples for fragment in fragments):
                lost(samples, "stopped")
        self._left.clear()


def _open_or_remember(
    folder: Path,
    lost: Lost,
    id_: object,
    delivery: Delivery,
    max_bytes: int,
    leave: Callable[[Sequence[Fragment]], bool],
) -> Queue:
    shown = delivery.destination.partition("?")[0]  # what follows may be a secret
    try:
        return DiskQueue(
            folder,
            lost,
            exporter=str(id_),
            destination=shown,
            max_bytes=max_bytes,
            fsync=delivery.queue.fsync,
        )
    except OSError as error:
        reason = error.strerror or str(error)
    log.error(
        "%s cannot be written (%s): samples wait in memory and a restart loses them. Set --data-dir or "
        "TRUNKLINE_DATA_DIR to a folder this user may write",
        folder,
        reason,
    )
    return MemoryQueue(lost, max_bytes=min(max_bytes, MEMORY_BYTES), leave=leave)


class Takeover:
    """Finds what others have left in `data_dir`, and in `others`: data directories, or folders of them."""

    def __init__(
        self, data_dir: Path, others: Sequence[Path] = (), look_again_s: float = LOOK_AGAIN_S
    ) -> None:
        self._data_dir = data_dir
        self._others = others
        self._look_again_s = look_again_s
        self._named: set[Path] = set()

    def claim(self, senders: Mapping[str, Sender]) -> None:
        """Take the queue of an exporter that has another name now as its own; before any queue is opened."""
        own = self._own(senders)
        for found in self._left(own):
            for folder in own:
                if found.samples and not found.in_use and claim(folder, found):
                    log.info("%s", _told(found, f"are delivered first, from {folder}"))
                    break

    async def run(self, senders: Mapping[str, Sender]) -> None:
        """Deliver what is left for the same destinations, now and whenever a task has ended; name the rest."""
        own = self._own(senders)
        while True:
            try:
                for found in await asyncio.to_thread(self._left, own):
                    if not found.in_use:
                        await self._take(found, own)
            except Exception:
                log.exception("looking for what others have left failed in a way nobody foresaw; going on")
            if not self._others:
                return
            await asyncio.sleep(self._look_again_s)

    def _own(self, senders: Mapping[str, Sender]) -> dict[Path, Sender]:
        return {folder_of(self._data_dir, id_, one.delivery): one for id_, one in senders.items()}

    def _left(self, own: Collection[Path]) -> list[Backlog]:
        places = {self._data_dir}
        for other in self._others:
            places |= {other, *other.glob("*/")}
        known = {*own, *self._named}  # what nobody can deliver is read once
        return [one for one in backlogs(places, known, only_left=True) if one.samples or one.damaged_bytes]

    async def _take(self, found: Backlog, own: Mapping[Path, Sender]) -> None:
        suffix = found.folder.name.rpartition("-")[2]
        heir = next((one for folder, one in own.items() if folder.name.endswith(f"-{suffix}")), None)
        if heir is None:
            self._name(found)
            return
        log.info("%s", _told(found, "are taken over"))
        try:
            for folder in (found.folder / ASIDE, found.folder):  # the older samples first
                if folder.is_dir():
                    await _move(folder, heir)
            remove_empty(found.folder)
        except (OSError, QueueError) as error:
            log.warning("the backlog %s cannot be taken over: %s", found.folder, error)

    def _name(self, found: Backlog) -> None:
        if found.folder not in self._named:
            self._named.add(found.folder)
            remedy = (
                "wait, and no exporter sends there: configure one with that endpoint, or remove the folder"
            )
            log.warning("%s", _told(found, remedy))


async def _move(folder: Path, heir: Sender) -> None:
    """Everything in another's queue into the heir's, a little at a time; what is moved twice is sent twice, harmlessly."""
    left = DiskQueue(folder, heir.lose, patience_s=0.0)
    try:
        while left.samples:
            if heir.has_room_for(MOVED.max_request_bytes) and (chunk := left.take(MOVED)):
                heir.adopt([fragment for record in chunk.records for fragment in record.fragments])
                left.settle(chunk)
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(1.0)
    finally:
        left.close()


def _told(found: Backlog, what: str) -> str:
    whose = f"{found.exporter} for {found.destination}" if found.exporter else "an earlier version"
    return f"{found.samples} samples ({found.size_bytes} bytes) that {whose} left in {found.folder} {what}"
