"""The simulator's folder: one simulator at a time in it, and nothing of it left, however the simulator ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from trunkline.errors import SimulatorError

LOCK: Final = "lock"
TEMPORARY: Final = "trunkline-demo-"
_LONGEST_PATH: Final = 80
"""Of the folder: the address of a unix socket in it may have 107 characters."""
CLEANING_S: Final = 5.0
"""How long what holds the lock may take, if it is a watchdog that cleans up."""

# Holds the lock too, so that nobody moves in before it is done. It hears `read` fail when the simulator's end of the
# pipe closes, for whatever reason; a line says that there is nothing to do.
_WATCHDOG: Final = """
read -r _ && exit
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$0" 2>/dev/null; [ -e "$0" ] || exit; sleep 0.2; done
"""


class StateFolder:
    """A folder that is ours alone, locked as long as this process or its watchdog lives. See `open`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._watchdog = subprocess.Popen(  # noqa: S603 (a fixed script)
            ["/bin/sh", "-c", _WATCHDOG, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock],
            start_new_session=True,
            cwd="/",
            env={"PATH": os.defpath},
        )

    @classmethod
    def open(cls, path: Path, patience_s: float = CLEANING_S) -> Self:
        """Move into `path`, which is made; what a simulator that died has left there is removed.

        Raises SimulatorError when another simulator is in it, or something else is; what only cleans up there is
        waited for.
        """
        path = path.absolute()
        if len(str(path)) > _LONGEST_PATH:
            raise SimulatorError(
                f"the path {path} is too long for sockets in it; name a folder of at most {_LONGEST_PATH} characters"
            )
        deadline = time.monotonic() + patience_s
        while True:
            _make(path)
            lock = _take(path)
            if lock is not None:
                break
            if _answers(path) or time.monotonic() > deadline:
                raise SimulatorError(
                    f"another simulator is running in {path}; end it with `trunkline simulator down`, or choose "
                    "another folder with --state-dir"
                )
            time.sleep(0.1)  # what holds it is cleaning up
        _empty(path)
        return cls(path, lock)

    @classmethod
    def temporary(cls) -> Self:
        """A new folder among the temporary files; folders of demos that died are removed."""
        sweep()
        return cls.open(Path(tempfile.mkdtemp(prefix=TEMPORARY)))

    @property
    def watchdog_pid(self) -> int:
        return self._watchdog.pid

    def close(self) -> None:
        """Remove the folder and let go of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._watchdog.communicate(b"\n")
        os.close(self._lock)


def sweep() -> None:
    """Remove the folders of demos that were killed together with their watchdogs."""
    for path in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            remove_stale(path)


def remove_stale(path: Path) -> bool:
    """Remove a folder that a simulator has left; False when there is none, or one that is in use."""
    if not (path / LOCK).is_file():
        return False
    lock = _take(path)
    if lock is None:
        return False
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)
    return True


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        names = [entry.name for entry in path.iterdir()]
    except OSError as error:
        raise SimulatorError(f"the simulator's folder {path} cannot be used: {error.strerror}") from error
    if found.st_uid != os.getuid():
        raise SimulatorError(f"the folder {path} belongs to another user; choose another with --state-dir")
    if names and LOCK not in names:
        raise SimulatorError(
            f"the folder {path} holds files that are not a simulator's; choose an empty or new one with --state-dir"
        )
    path.chmod(0o700)


def _take(path: Path) -> int | None:
    """The lock of a folder, None when somebody has it."""
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # removed at this very moment
        return None
    with _closed_on_failure(lock):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It may have been removed with its folder between being opened and being locked.
        if os.fstat(lock).st_ino == (path / LOCK).stat().st_ino:
            return lock
        os.close(lock)
    return None


@contextlib.contextmanager
def _closed_on_failure(descriptor: int) -> Iterator[None]:
    try:
        yield
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)


def _answers(path: Path) -> bool:
    from trunkline.simulator.control import ControlClient  # noqa: PLC0415 (only when it is taken)

    return ControlClient(path).is_running()


def _empty(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name != LOCK:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
