"""A file that is written whole lines at a time, and renamed when it is full."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trunkline.exporters.file.config import FileConfig, RotationConfig

MIB: Final = 1024 * 1024
_STAMP: Final = "%Y-%m-%dT%H-%M-%S.%f"


class LineFile:
    """The file of one exporter. Every method raises OSError when the file system does not do as asked."""

    def __init__(self, config: FileConfig) -> None:
        self._config = config
        self._path = Path(config.path)
        self._rotation = config.rotation
        self._fd: int | None = None
        self._size = 0

    def open(self) -> None:
        """Open the file, emptying it unless it is appended to or rotated."""
        if self._config.create_directory:
            self._path.parent.mkdir(self._config.directory_mode, parents=True, exist_ok=True)
        emptied = 0 if self._config.append or self._rotation is not None else os.O_TRUNC
        self._open(emptied)

    def write(self, lines: bytes) -> None:
        """Write `lines` wholly or not at all."""
        if self._fd is None:
            self._open(0)
        assert self._fd is not None
        if self._rotation is not None and self._is_full(len(lines), self._rotation):
            self._rotate(self._rotation)
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._fd, lines[written:])
        except OSError:
            if written:
                with suppress(OSError):  # a pipe or a device takes nothing back
                    os.ftruncate(self._fd, self._size)
            raise
        self._size += written

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self, emptied: int) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | emptied, 0o644)
        self._size = os.fstat(self._fd).st_size

    def _is_full(self, more_bytes: int, rotation: RotationConfig) -> bool:
        limit_bytes = (rotation.max_megabytes or 100) * MIB
        return self._size > 0 and self._size + more_bytes > limit_bytes

    def _rotate(self, rotation: RotationConfig) -> None:
        self.close()
        now = datetime.now(UTC)
        shown = now.astimezone() if rotation.localtime else now
        stamp = shown.strftime(_STAMP)[:-3]
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        self._open(os.O_TRUNC)
        with suppress(OSError):  # what cannot be removed now is tried again the next time
            self._remove_old(rotation, now)

    def _remove_old(self, rotation: RotationConfig, now: datetime) -> None:
        kept = sorted(self._backups(rotation), reverse=True)
        limit = now - timedelta(days=rotation.max_days) if rotation.max_days else None
        for index, (written, path) in enumerate(kept):
            too_many = rotation.max_backups and index >= rotation.max_backups
            if too_many or (limit is not None and written < limit):
                path.unlink()

    def _backups(self, rotation: RotationConfig) -> Iterator[tuple[datetime, Path]]:
        """The old files, by the time in their names."""
        prefix, suffix = f"{self._path.stem}-", self._path.suffix
        for path in self._path.parent.iterdir():
            if path.name.startswith(prefix) and path.name.endswith(suffix):
                stamp = path.name[len(prefix) : len(path.name) - len(suffix)]
                with suppress(ValueError):  # somebody else's file
                    written = datetime.strptime(stamp, _STAMP)  # noqa: DTZ007 (the zone follows)
                    yield (written.astimezone() if rotation.localtime else written.replace(tzinfo=UTC)), path
