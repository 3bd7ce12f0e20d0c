from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
from tests.collector.queue_samples import Losses, fragment, numbers, numbers_of, taken

from trunkline.collector.backlog import ASIDE, Backlog, backlogs, claim, queue_folder, remove_empty
from trunkline.collector.queue import DiskQueue
from trunkline.component.contract import Limits
from trunkline.errors import QueueError

THERE = "http://there/write?token=secret"


def leave(folder: Path, first: int, last: int, exporter: str = "", *, delivered: int = 0) -> Path:
    """A backlog with the samples from `first` to `last`; some were delivered."""
    queue = DiskQueue(
        folder, Losses(), exporter=exporter, destination="http://there/write" if exporter else ""
    )
    for number in range(first, last + 1):
        queue.append([fragment(number)])
    for _ in range(delivered):
        queue.settle(taken(queue, Limits(max_request_bytes=1)))
    queue.close()
    return folder


def read(folder: Path) -> list[int]:
    queue = DiskQueue(folder, Losses(), patience_s=0)
    try:
        return numbers(queue)
    finally:
        queue.close()


def test_an_ordinary_exporter_keeps_its_folder(tmp_path: Path) -> None:
    assert queue_folder(tmp_path, "remote", THERE).parent == tmp_path / "queue"
    assert queue_folder(tmp_path, "prometheusremotewrite", "https://a/").name == (
        "prometheusremotewrite-ebb8188b607a"
    )


def test_no_two_exporters_or_destinations_share_a_folder(tmp_path: Path) -> None:
    names = ["x/a.b", "x/a_b", "x_a_b", "x/a-b", "x", "x" * 200, "x" * 201, "x/ä"]
    folders = {queue_folder(tmp_path, name, there) for name in names for there in (THERE, "http://here/")}
    assert len(folders) == 2 * len(names)
    for folder in folders:
        leave(folder, 1, 1)


def test_a_folder_of_the_earlier_naming_is_found(tmp_path: Path) -> None:
    plain = queue_folder(tmp_path, "x_a_b", THERE)
    leave(plain, 1, 3)
    folder = queue_folder(tmp_path, "x/a.b", THERE)
    assert read(folder) == [1, 2, 3]
    assert folder == queue_folder(tmp_path, "x/a.b", THERE) != plain
    assert not plain.exists()


def test_a_folder_of_the_earlier_naming_is_left_to_whom_it_belongs(tmp_path: Path) -> None:
    plain = leave(queue_folder(tmp_path, "x_a", THERE), 1, 3, "x_a")
    assert queue_folder(tmp_path, "x/a", THERE) != plain
    assert read(plain) == [1, 2, 3]


def test_a_folder_of_the_earlier_naming_is_waited_for(tmp_path: Path) -> None:
    plain = queue_folder(tmp_path, "x_a", THERE)
    queue = DiskQueue(plain, Losses())
    assert queue_folder(tmp_path, "x/a", THERE) == plain
    queue.close()
    assert queue_folder(tmp_path, "x/a", THERE) != plain


def test_backlogs_are_named_and_counted(tmp_path: Path) -> None:
    first = leave(tmp_path / "one" / "queue" / "a-0", 3, 9, "remote/a", delivered=2)
    size = sum(path.stat().st_size for path in first.glob("*.seg"))
    leave(first / ASIDE, 1, 2)
    second = leave(tmp_path / "two" / "queue" / "b-0", 1, 1, delivered=1)
    found = backlogs([tmp_path / "one", tmp_path / "two", tmp_path / "one", tmp_path / "none"])
    per_record = size // 7
    assert found == [
        Backlog(first, "remote/a", "http://there/write", 70, 7 * per_record, 1001, 0, in_use=False),
        Backlog(second, "", "", 0, 0, None, 0, in_use=False),
    ]


def test_damage_is_measured_and_nothing_is_changed(tmp_path: Path) -> None:
    folder = leave(tmp_path / "queue" / "a-0", 0, 9)
    [segment] = folder.glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[200:204] = b"spot"
    segment.write_bytes(content)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    [found] = backlogs([tmp_path])
    assert (found.samples, found.damaged_bytes) == (90, len(content) // 10)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_collector_at_work_is_seen_and_not_disturbed(tmp_path: Path) -> None:
    folder = tmp_path / "queue" / "a-0"
    queue = DiskQueue(folder, Losses(), segment_bytes=1000, remembered_bytes=0)
    stop = threading.Event()
    seen: list[Backlog] = []

    def look() -> None:
        while not stop.is_set():
            seen.extend(backlogs([tmp_path]))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        delivered: list[int] = []
        for number in range(200):
            queue.append([fragment(number)])
            if number % 5 == 4:
                delivered += numbers(queue)
            time.sleep(0.001)
    finally:
        stop.set()
        thread.join()
    assert delivered == list(range(200))
    assert len(seen) > 10
    assert all(one.in_use for one in seen)
    assert not any(one.damaged_bytes for one in seen)
    queue.close()
    assert [one.in_use for one in backlogs([tmp_path])] == [False]


def test_what_is_in_use_is_not_read_where_only_what_is_left_counts(tmp_path: Path) -> None:
    leave(tmp_path / "queue" / "a-0", 1, 1)
    queue = DiskQueue(tmp_path / "queue" / "b-0", Losses())
    assert [one.folder.name for one in backlogs([tmp_path], only_left=True)] == ["a-0"]
    queue.close()
    assert len(backlogs([tmp_path], only_left=True)) == 2


def test_only_an_empty_folder_that_nobody_uses_is_removed(tmp_path: Path) -> None:
    full, empty, damaged = tmp_path / "a-0", leave(tmp_path / "b-0", 1, 1, delivered=1), tmp_path / "c-0"
    queue = DiskQueue(leave(full, 1, 1), Losses())
    with pytest.raises(QueueError):
        remove_empty(full)
    queue.close()
    (damaged / "damaged").mkdir(parents=True)
    (damaged / "damaged" / "bytes").touch()
    for folder in (full, empty, damaged):
        remove_empty(folder)
    assert (full.exists(), empty.exists(), damaged.exists()) == (True, False, True)


def folders(data_dir: Path) -> tuple[Path, Path]:
    return queue_folder(data_dir, "remote/old", THERE), queue_folder(data_dir, "remote/new", THERE)


@pytest.mark.parametrize("own", ["none", "empty", "delivered"])
def test_a_backlog_of_another_name_becomes_our_own(tmp_path: Path, own: str) -> None:
    old, new = folders(tmp_path)
    leave(old, 1, 5, "remote/old", delivered=1)
    if own != "none":
        leave(new, 7, 7 if own == "delivered" else 6, delivered=int(own == "delivered"))
    found = next(one for one in backlogs([tmp_path]) if one.folder == old)
    assert claim(new, found) == new
    assert not old.exists()
    queue = DiskQueue(new, Losses(), exporter="remote/new", destination="http://there/write")
    queue.append([fragment(8)])
    chunk = taken(queue)
    assert (numbers_of(chunk), chunk.inherited) == ([2, 3, 4, 5], True)
    queue.settle(chunk)
    assert numbers(queue) == [8]
    assert [one.exporter for one in backlogs([tmp_path])] == ["remote/new"]
    queue.close()


def test_a_backlog_is_left_where_it_is_when_ours_holds_something(tmp_path: Path) -> None:
    def check(own: Path, name: str) -> None:
        old = tmp_path / name / "queue" / queue_folder(tmp_path, "remote/old", THERE).name
        leave(old, 1, 5)
        found = next(one for one in backlogs([tmp_path / name]) if one.folder == old)
        assert claim(own, found) is None
        assert read(old) == [1, 2, 3, 4, 5]

    new = folders(tmp_path / "waiting")[1]
    check(leave(new, 7, 9), "waiting")
    assert read(new) == [7, 8, 9]
    new = folders(tmp_path / "aside")[1]
    leave(new / ASIDE, 7, 9)
    check(new, "aside")
    assert read(new / ASIDE) == [7, 8, 9]
    new = folders(tmp_path / "damaged")[1]
    (new / "damaged").mkdir(parents=True)
    (new / "damaged" / "1-0").touch()
    check(new, "damaged")
    check(folders(tmp_path / "elsewhere")[1], "other folder")
    check(queue_folder(tmp_path / "destination", "remote/new", "http://here/"), "destination")


def test_what_somebody_uses_is_not_claimed(tmp_path: Path) -> None:
    old, new = folders(tmp_path)
    leave(old, 1, 5)
    [found] = backlogs([tmp_path])
    owner = DiskQueue(old, Losses())
    assert claim(new, found) is None
    assert owner.waiting == 50
    owner.close()
    owner = DiskQueue(new, Losses())
    assert claim(new, found) is None
    owner.close()
    shutil.rmtree(old)
    assert claim(new, found) is None
    assert claim(new, next(iter(backlogs([tmp_path])))) is None  # itself


def test_who_waits_for_a_folder_does_not_use_what_took_its_place(tmp_path: Path) -> None:
    """A lock on a file that has been renamed away, or removed, is none."""
    folder = tmp_path / "queue"
    owner = DiskQueue(folder, Losses())
    opened: list[DiskQueue] = []
    waiting = threading.Thread(target=lambda: opened.append(DiskQueue(folder, Losses())))
    waiting.start()
    time.sleep(0.05)
    folder.rename(tmp_path / "renamed")
    owner.close()
    waiting.join()
    with pytest.raises(QueueError, match="is used by another collector"):
        DiskQueue(folder, Losses(), patience_s=0)
    DiskQueue(tmp_path / "renamed", Losses(), patience_s=0).close()
    opened[0].close()
