"""The simulator's folder: one at a time, and what dead ones leave is removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.errors import SimulatorError
from trunkline.simulator.folder import LOCK, StateFolder, remove_stale

HOLD = """
import sys, time
from pathlib import Path
from trunkline.simulator.folder import StateFolder
folder = StateFolder.open(Path(sys.argv[1]))
(folder.path / "file").write_text("left")
print(folder.watchdog_pid, flush=True)
time.sleep(60)
"""


def hold(path: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, int(process.stdout.readline())


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A shorter one than pytest's: the path of a socket is limited."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def test_a_folder_goes_when_it_is_closed(tmp_path: Path) -> None:
    folder = StateFolder.open(tmp_path / "deep" / "state")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "file").write_text("left")
    folder.close()
    assert not folder.path.exists()


def test_a_second_simulator_is_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "state"
    process, _ = hold(path)
    try:
        with pytest.raises(SimulatorError, match=r"another simulator is running in .*state; end it with"):
            StateFolder.open(path, patience_s=0.3)
        assert (path / "file").read_text() == "left"
        assert not remove_stale(path)
    finally:
        end(process)


def test_the_folder_of_one_that_is_killed_is_removed_by_its_watchdog(tmp_path: Path) -> None:
    path = tmp_path / "state"
    process, _ = hold(path)
    end(process)
    again = StateFolder.open(path)  # waits until that is done
    assert [entry.name for entry in again.path.iterdir()] == [LOCK]
    again.close()
    assert not path.exists()


def test_the_folder_of_one_that_is_killed_with_its_watchdog_is_removed_by_the_next(tmp_path: Path) -> None:
    def leave(path: Path) -> None:
        process, watchdog = hold(path)
        os.kill(watchdog, signal.SIGKILL)
        time.sleep(0.05)
        end(process)
        assert (path / "file").exists()

    leave(tmp_path / "one")
    again = StateFolder.open(tmp_path / "one")
    assert not (again.path / "file").exists()
    again.close()
    leave(tmp_path / "two")
    assert remove_stale(tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_the_watchdog_does_not_mind_signals_to_the_terminal(tmp_path: Path) -> None:
    process, watchdog = hold(tmp_path / "state")
    try:
        assert os.getpgid(process.pid) != os.getpgid(watchdog)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_folders_that_are_not_a_simulators_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(SimulatorError, match="holds files that are not a simulator's"):
        StateFolder.open(tmp_path)
    assert not remove_stale(tmp_path)
    assert (tmp_path / "letter").read_text() == "dear"
    with pytest.raises(SimulatorError, match="cannot be used"):
        StateFolder.open(tmp_path / "letter" / "state")


def test_a_path_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="too long for sockets"):
        StateFolder.open(tmp_path / ("x" * 80))
