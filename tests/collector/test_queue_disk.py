"""A queue on a disk that is full, fails, or has to be trusted."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.collector.queue_samples import LIMITS, Losses, fragment, numbers, numbers_of, taken

from trunkline.collector.queue import DiskQueue
from trunkline.component.contract import Limits

ONE = Limits(max_request_bytes=1)


@contextmanager
def limit(which: int, value: int) -> Iterator[None]:
    before = resource.getrlimit(which)
    resource.setrlimit(which, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


def failing() -> Any:
    """No file may grow: every write of a record fails."""
    return limit(resource.RLIMIT_FSIZE, 0)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(disk: Path) -> Path:
    filling = disk / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filling


def test_somebody_else_fills_the_disk_and_nothing_is_lost(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    losses, clock = Losses(), Clock()
    queue = DiskQueue(small_disk / "queue", losses, segment_bytes=8000, monotonic=clock)
    for number in range(10):
        queue.append([fragment(number)])
    filling = fill(small_disk)
    for number in range(10, 40):
        clock.now_s += 1
        assert queue.append([fragment(number, size=1000)]) == 10
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "No space left on device" in caplog.messages[0]
    assert "16 MiB of samples wait in memory" in caplog.messages[0]
    chunk = taken(queue, Limits(max_request_bytes=50_000))
    filling.unlink()
    clock.now_s += 10
    queue.append([fragment(40)])
    queue.append([fragment(41)])
    assert caplog.messages[1:] == [f"the disk takes the queue {small_disk / 'queue'} again"]
    queue.settle(chunk)
    assert numbers_of(chunk) + numbers(queue, Limits()) == list(range(42))
    assert not losses
    queue.close()


def test_what_memory_held_is_on_the_disk_as_soon_as_that_takes_it(tmp_path: Path) -> None:
    clock = Clock()
    queue = DiskQueue(tmp_path / "queue", Losses(), segment_bytes=400, monotonic=clock)
    queue.append([fragment(0)])
    with failing():
        for number in range(1, 9):
            queue.append([fragment(number)])
        under_way = [taken(queue, ONE) for _ in range(4)]
        queue.settle(under_way[0])
        queue.settle(under_way[1])
    clock.now_s += 10
    queue.append([fragment(9)])
    shutil.copytree(tmp_path / "queue", tmp_path / "killed")
    killed = DiskQueue(tmp_path / "killed", Losses())
    assert numbers(killed)[-8:] == list(range(2, 10))
    killed.close()
    assert numbers(queue) == list(range(4, 10))
    queue.close()


@pytest.mark.parametrize("fsync", [False, True])
def test_what_was_delivered_from_memory_needs_no_file(tmp_path: Path, fsync: bool) -> None:
    clock = Clock()
    queue = DiskQueue(tmp_path / "queue", Losses(), fsync=fsync, monotonic=clock)
    with failing():
        queue.append([fragment(0)])
        assert numbers(queue) == [0]
    clock.now_s += 10
    assert queue.append([fragment(1)]) == 10
    assert len(list((tmp_path / "queue").glob("*.seg"))) == 1
    assert numbers(queue) == [1]
    queue.close()


def test_closing_writes_what_memory_holds(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path, losses, memory_bytes=10_000)
    with failing():
        for number in range(20):
            queue.append([fragment(number)])
    queue.close()
    reopened = DiskQueue(tmp_path, losses)
    assert numbers(reopened) == list(range(20))
    assert not losses
    reopened.close()


def test_closing_counts_what_the_disk_does_not_take(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path, losses)
    with failing():
        for number in range(20):
            queue.append([fragment(number)])
    first, second = taken(queue, ONE), taken(queue, ONE)
    queue.settle(second)
    with limit(resource.RLIMIT_FSIZE, 1000):  # six records of 150 bytes
        queue.close()
    assert losses == {"disk_full": 140}
    reopened = DiskQueue(tmp_path, losses)
    assert numbers(reopened) == list(range(6))
    reopened.close()
    del first


def test_a_disk_that_fails_keeps_what_it_has_and_the_oldest_in_memory_leave(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path, losses, memory_bytes=2000)
    for number in range(3):
        queue.append([fragment(number)])
    with failing():
        for number in range(3, 30):
            assert queue.append([fragment(number)]) == 10
    left = numbers(queue)
    assert left[:3] == [0, 1, 2]
    assert left[3:] == list(range(33 - len(left), 30))
    assert 8 <= len(left) - 3 <= 2000 // 150
    assert losses == {"disk_full": 10 * (30 - len(left))}
    queue.close()


def test_without_a_file_to_be_had_samples_wait_in_memory(tmp_path: Path) -> None:
    losses, clock = Losses(), Clock()
    queue = DiskQueue(tmp_path, losses, segment_bytes=400, monotonic=clock)
    for number in range(5):
        queue.append([fragment(number)])
    with limit(resource.RLIMIT_NOFILE, 3):
        for number in range(5, 10):
            assert queue.append([fragment(number)]) == 10
        assert [one.on_disk for one in queue._ahead][-1] is False
        queue.settle(taken(queue, Limits()))
        chunk = queue.take(Limits())  # of the next segment, whose file is closed
        assert chunk is None
        assert queue.waiting == 80
    clock.now_s += 10
    queue.append([fragment(10)])
    assert numbers(queue) == list(range(2, 11))
    assert not losses
    queue.close()


def test_a_file_somebody_has_removed_is_counted(tmp_path: Path) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path, losses, segment_bytes=400)
    for number in range(6):
        queue.append([fragment(number)])
    sorted(tmp_path.glob("*.seg"))[1].unlink()
    assert numbers(queue) == [0, 1, 4, 5]
    assert losses == {"damaged": 20}
    queue.close()


def test_a_cursor_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue = DiskQueue(tmp_path, Losses())
    for number in range(4):
        queue.append([fragment(number)])
    with failing():
        for _ in range(3):
            queue.settle(taken(queue, ONE))
    assert [message for message in caplog.messages if "cursor" in message] == caplog.messages
    assert len(caplog.messages) == 1
    queue.close()


def test_with_fsync_every_append_is_on_the_device(tmp_path: Path) -> None:
    """Seen by the system calls: one for all records of an append, one for a new file's name."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    script = (
        "import sys\nfrom pathlib import Path\nfrom trunkline.collector.queue import DiskQueue\n"
        "from trunkline.component.contract import Fragment\n"
        "queue = DiskQueue(Path(sys.argv[1]), print, fsync=sys.argv[2] == 'yes')\n"
        "for number in range(3):\n"
        "    queue.append([Fragment(lane, b'x' * 9, 1, 2000, 1, 1) for lane in range(4)])\n"
    )

    def check(fsync: str, expected: dict[str, int]) -> None:
        trace = tmp_path / f"trace-{fsync}"
        command = [
            "strace",
            "-f",
            "-o",
            str(trace),
            "-e",
            "trace=fsync,fdatasync,pwritev,pwritev2",
            sys.executable,
            "-c",
            script,
        ]
        subprocess.run([*command, str(tmp_path / fsync), fsync], check=True)
        calls = trace.read_text()
        assert {name: len(re.findall(rf" {name}2?\(", calls)) for name in expected} == expected

    check("no", {"fdatasync": 0, "fsync": 0, "pwritev": 12})
    check("yes", {"fdatasync": 3, "fsync": 1, "pwritev": 12})


def test_what_cannot_be_synced_waits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Losses()
    queue = DiskQueue(tmp_path / "queue", losses, fsync=True, segment_bytes=400)
    queue.append([fragment(0)])

    def fail(fd: int) -> None:
        del fd
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        assert queue.append([fragment(1, lane=1), fragment(2, lane=1)]) == 20
        assert queue.append([fragment(number) for number in range(3, 9)]) == 60
    shutil.copytree(tmp_path / "queue", tmp_path / "killed")
    killed = DiskQueue(tmp_path / "killed", losses)
    assert numbers(killed) == [0]
    killed.close()
    assert numbers(queue, LIMITS) == list(range(9))
    assert (queue.samples, queue.size_bytes) == (0, 0)
    assert not losses
    queue.close()


def test_the_folder_says_whose_it_is(tmp_path: Path) -> None:
    for exporter in ("remote/a", "remote/b"):
        DiskQueue(tmp_path, Losses(), exporter=exporter, destination="http://there/").close()
        said = json.loads((tmp_path / "destination").read_text())
        assert said == {"exporter": exporter, "destination": "http://there/"}
    assert not list(tmp_path.glob("*.new"))


def test_a_folder_that_cannot_say_whose_it_is_works_as_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "destination").mkdir()
    queue = DiskQueue(tmp_path, Losses(), exporter="remote", destination="http://there/")
    queue.append([fragment(1)])
    assert numbers(queue) == [1]
    assert "destination cannot be written" in caplog.text
    queue.close()
