"""Takes samples from the pipelines and writes them; what cannot be written is counted, and nothing ends for it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Self

from trunkline.errors import ConfigError, Problem
from trunkline.exporters.file.lines import SourceLines
from trunkline.exporters.file.rotation import LineFile

if TYPE_CHECKING:
    from trunkline.component.contract import Context, Inlet
    from trunkline.exporters.file.config import FileConfig
    from trunkline.model import Batch, Table

log = logging.getLogger(__name__)

WAITING_BYTES: Final = 1024 * 1024
"""How much waits in memory at most, whatever `flush_interval` says."""


class FileExporter:
    """A consumer that the host enters: while entered, lines are written in intervals."""

    def __init__(self, config: FileConfig, context: Context) -> None:
        self._config = config
        self._name = str(context.id)
        self._metrics = context.metrics
        self._file = LineFile(config)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._waiting_points = 0
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    async def __aenter__(self) -> Self:
        """Open the file. Raises ConfigError when it cannot be written."""
        try:
            self._file.open()
        except OSError as error:
            path = f"exporters::{self._name}::path"
            remedy = "the folder must be there and writable for this user; create_directory: true makes it"
            message = f"cannot write {self._config.path}: {error.strerror}"
            raise ConfigError([Problem("", path, message, remedy)]) from error
        self._task = asyncio.create_task(self._flush_always(), name=f"write {self._name}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.flush()
        self._file.close()

    def open(self, table: Table) -> Inlet:
        del table  # its series come with every batch
        return _Lines(self)

    def put(self, line: bytes, points: int) -> None:
        """Have `line` written soon."""
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        self._waiting_points += points
        if self._waiting_bytes > WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits, or give it up."""
        if not self._waiting:
            return
        lines, points = b"".join(self._waiting), self._waiting_points
        self._waiting, self._waiting_bytes, self._waiting_points = [], 0, 0
        try:
            self._file.write(lines)
        except OSError as error:
            self._give_up(points, error)
        else:
            self._failing = False
            self._metrics.delivered.add(points, self._name)

    def _give_up(self, points: int, error: OSError) -> None:
        self._metrics.refused.add(points, self._name, "file")
        if not self._failing:
            log.error(
                "%s: %d samples given up: cannot write %s: %s; trying on",
                self._name,
                points,
                self._config.path,
                error.strerror,
            )
            self._failing = True

    async def _flush_always(self) -> None:
        while True:
            await asyncio.sleep(self._config.flush_interval or 1.0)
            self.flush()


class _Lines:
    """The inlet of one source."""

    def __init__(self, exporter: FileExporter) -> None:
        self._exporter = exporter
        self._lines = SourceLines()

    def consume(self, batch: Batch) -> None:
        line, points = self._lines.line(batch)
        if points:
            self._exporter.put(line, points)

    def close(self) -> None:
        """What is left is written with the rest."""
