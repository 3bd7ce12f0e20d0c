from __future__ import annotations

import json
from pathlib import Path

import pytest

from trunkline.cli.main import main
from trunkline.collector.backlog import queue_folder
from trunkline.collector.queue import DiskQueue
from trunkline.component.contract import Fragment

THERE = "https://there.example/write"


def leave(data_dir: Path) -> DiskQueue:
    queue = DiskQueue(
        queue_folder(data_dir, "prometheusremotewrite", THERE),
        lambda *_: None,
        exporter="prometheusremotewrite",
        destination=THERE,
    )
    queue.append([Fragment(1, b"data", 9, 7, 1_700_000_000_000, 1_700_000_000_000)])
    return queue


def test_what_waits_on_a_volume_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave(tmp_path / "task-1").close()
    running = leave(tmp_path / "task-2")
    try:
        assert main(["collector", "backlog", str(tmp_path)]) == 0
        told = capsys.readouterr().out
        assert main(["collector", "backlog", str(tmp_path), "--json"]) == 0
        first, second = json.loads(capsys.readouterr().out)
    finally:
        running.close()
    assert f"prometheusremotewrite → {THERE} (nobody delivers it)" in told
    assert f"prometheusremotewrite → {THERE} (in use)" in told
    assert "7 samples, " in told
    assert "the oldest of 2023-11-14T22:13:20+00:00" in told
    assert (first["samples"], first["in_use"], second["in_use"]) == (7, False, True)
    assert first["folder"].startswith(str(tmp_path / "task-1"))


def test_where_nothing_waits_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collector", "backlog", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no queue in {tmp_path}\n"
