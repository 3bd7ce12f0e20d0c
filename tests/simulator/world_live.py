"""A simulator that is up in a process of its own, as its user has it, and what tests wait for in it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0


def trunkline(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trunkline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


@contextmanager
def simulator_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Gives its state's folder, which goes with it."""
    state_dir = tmp_path_factory.mktemp("world") / "state"
    started = trunkline("simulator", "up", "--detach", "--state-dir", str(state_dir))
    assert started.returncode == 0, started.stderr
    try:
        yield state_dir
    finally:
        ended = trunkline("simulator", "down", "--state-dir", str(state_dir))
    assert ended.returncode == 0, ended.stderr
    assert not state_dir.exists()


def until(find: Callable[[], Any], shown: Callable[[], object]) -> Any:
    """What is found at last; the test fails with what is `shown` when patience is at its end."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(0.3)
    pytest.fail(f"not within {PATIENCE_S:g} s; there is: {shown()}")
