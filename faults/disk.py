"""A disk that goes wrong as it is told, by a shim before the C library (`disk.c`); only the queue's segments notice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("disk.c")


def compiler_on_linux() -> str:
    """Why there is no such disk here."""
    return "" if sys.platform == "linux" and shutil.which("cc") else "needs a C compiler on Linux, for a shim"


class Disk:
    """What collectors started with `environment` get for a disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "disk"
        self._folder.mkdir()
        library = folder / "disk.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(_SOURCE), "-ldl"], check=True
        )
        self.environment = {"LD_PRELOAD": str(library), "FAULTS_DISK": str(self._folder)}

    def be(self, *what: str) -> None:
        """From now on `fail-writes`, `fail-reads` and `slow`, or none of them."""
        for name in ("fail-writes", "fail-reads", "slow"):
            marker = self._folder / name
            if name in what:
                marker.touch()
            else:
                marker.unlink(missing_ok=True)

    def lose_power(self, data_dir: Path) -> int:
        """Take away what was never flushed; returns how many bytes that is. No collector may run."""
        lost = 0
        for path in data_dir.rglob("*.seg"):
            flushed = self._folder / path.name
            there = path.stat().st_size
            kept = int(flushed.read_text()) if flushed.exists() else 0
            if not (self._folder / f"named-{path.name}").exists():
                kept = 0
            lost += max(0, there - kept)
            with path.open("r+b") as file:
                file.truncate(min(kept, there))
        return lost
