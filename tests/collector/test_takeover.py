"""What others have left is found, named and delivered; with real queues on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.collector.test_sender import Receiver as Taking

from trunkline.collector.backlog import ASIDE, queue_folder
from trunkline.collector.queue import DiskQueue
from trunkline.collector.sender import Sender
from trunkline.collector.takeover import Memories, Takeover, folder_of
from trunkline.component.contract import Fragment
from trunkline.component.metrics import SelfMetrics
from trunkline.testing import VirtualClock

NOW_MS = int(VirtualClock().now_s * 1000)


class Receiver(Taking):
    """Takes everything, and remembers it."""

    def __init__(self, destination: str = "https://user.example/write?token=secret") -> None:
        super().__init__(lambda _: None)
        self.destination = destination


def fragment(number: int) -> Fragment:
    return Fragment(number, bytes([number]), 30, 5, NOW_MS, NOW_MS)


def leave(folder: Path, receiver: Receiver, *numbers: int, exporter: str = "old") -> None:
    """What a collector of that exporter has left."""
    queue = DiskQueue(folder, lambda *_: None, exporter=exporter, destination=receiver.destination[:12])
    for number in numbers:
        queue.append([fragment(number)])
    queue.close()


@asynccontextmanager
async def collector(
    data_dir: Path, receiver: Receiver, others: Sequence[Path] = (), name: str = "new"
) -> AsyncIterator[tuple[Sender, SelfMetrics]]:
    """As much of a collector as delivers."""
    metrics = SelfMetrics()
    folder = folder_of(data_dir, name, receiver)
    sender = Sender(
        name,
        receiver,
        lambda lost: Memories().open_queue(folder, lost, name, receiver),
        metrics,
        VirtualClock(),
        open_aside=lambda lost: Memories().open_aside(folder, lost, name, receiver),
    )
    takeover = Takeover(data_dir, others, look_again_s=0.05)
    takeover.claim({name: sender})
    async with sender:
        task = asyncio.create_task(takeover.run({name: sender}))
        yield sender, metrics
        task.cancel()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_an_exporter_with_another_name_delivers_what_the_old_one_left_before_its_own(
    tmp_path: Path,
) -> None:
    receiver = Receiver()
    left = queue_folder(tmp_path, "old", receiver.destination)
    leave(left, receiver, 1, 2)
    async with collector(tmp_path, receiver) as (sender, metrics):
        sender.keep([fragment(3)])
        await until(lambda: len(receiver.taken) == 3)
    assert receiver.taken == [1, 2, 3]
    assert not left.exists()
    assert metrics.taken_over.total() == 0, "it is its own"


async def test_what_a_task_that_is_gone_left_on_a_volume_is_taken_over(tmp_path: Path) -> None:
    receiver = Receiver()
    gone = tmp_path / "volume" / "task-1"
    leave(queue_folder(gone, "new", receiver.destination), receiver, 1, 2)
    leave(queue_folder(gone, "new", receiver.destination) / ASIDE, receiver, 3)
    async with collector(tmp_path / "volume" / "task-2", receiver, [tmp_path / "volume"]) as (_, metrics):
        await until(lambda: len(receiver.taken) == 3)
    assert sorted(receiver.taken) == [1, 2, 3]
    assert metrics.taken_over.total() == 15
    assert list((gone / "queue").iterdir()) == []


async def test_nothing_is_taken_from_a_disk_into_memory(tmp_path: Path) -> None:
    receiver = Receiver()
    left = queue_folder(tmp_path / "gone", "new", receiver.destination)
    leave(left, receiver, 1, 2)
    (tmp_path / "file").touch()
    async with collector(tmp_path / "file", receiver, [tmp_path / "gone"]) as (sender, metrics):
        sender.keep([fragment(3)])
        await until(lambda: receiver.taken == [3])
        await asyncio.sleep(0.2)
    assert receiver.taken == [3]
    assert metrics.taken_over.total() == 0
    assert any(left.glob("*.seg"))


async def test_the_older_samples_of_a_series_that_waits_apart_come_first(tmp_path: Path) -> None:
    receiver = Receiver()
    left = queue_folder(tmp_path / "gone", "new", receiver.destination)
    leave(left, receiver, 2)
    leave(left / ASIDE, receiver, 1)
    async with collector(tmp_path / "own", receiver, [tmp_path / "gone"]):
        await until(lambda: len(receiver.taken) == 2)
    assert receiver.taken == [1, 2]


async def test_a_queue_in_use_is_left_alone_until_its_collector_has_ended(
    tmp_path: Path,
) -> None:
    receiver = Receiver()
    folder = queue_folder(tmp_path / "other", "new", receiver.destination)
    queue = DiskQueue(folder, lambda *_: None)
    queue.append([fragment(1)])
    async with collector(tmp_path / "own", receiver, [tmp_path / "other"]):
        await asyncio.sleep(0.3)
        assert receiver.taken == []
        queue.close()
        await until(lambda: receiver.taken == [1])


async def test_what_goes_nowhere_any_longer_is_named_without_its_secrets_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver, other = Receiver(), Receiver("https://elsewhere.example/write")
    folder = queue_folder(tmp_path, "old", receiver.destination)
    queue = Memories().open_queue(folder, lambda *_: None, "old", receiver)
    queue.append([fragment(1)])
    queue.close()
    with caplog.at_level(logging.WARNING):
        async with collector(tmp_path, other):
            await until(lambda: "configure one with that endpoint" in caplog.text)
    assert "5 samples" in caplog.text
    assert "old for https://user.example/write left" in caplog.text
    assert "secret" not in caplog.text
    assert other.taken == []
    assert any(folder.glob("*.seg"))
