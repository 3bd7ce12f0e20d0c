"""What containers print: read without ever holding them up, kept in a bounded file, given on in batches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trunkline.simulator.tasks.state import rfc3339

log = logging.getLogger(__name__)

LINE_BYTES: Final = 16 << 10
"""A longer line is cut into pieces of this size, as Docker does."""
BUFFER_BYTES: Final = 1 << 20
"""What waits to be taken; the default of awslogs' `max-buffer-size`. More is dropped and counted."""
FILE_BYTES: Final = 4 << 20
"""At this size a log file becomes `<name>.1` and a new one begins."""
BATCH_LINES: Final = 1000
FLUSH_EVERY_S: Final = 0.25
LAST_FLUSH_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class LogStream:
    """A stream of CloudWatch Logs."""

    account: str
    region: str
    group: str
    stream: str

    def file(self, logs_folder: Path) -> Path:
        """`<logs>/<account>/<region>/<group>/<stream>.log`; slashes in names become folders."""
        parts = [part for part in f"{self.group}/{self.stream}".split("/") if part not in ("", ".", "..")]
        return logs_folder.joinpath(self.account, self.region, *parts[:-1], f"{parts[-1]}.log")


PutLogs = Callable[[LogStream, Sequence[tuple[int, str]]], Awaitable[None]]
"""Takes lines of one stream, in order, each with its time in Unix milliseconds.

Called with no lines once before a container starts: the group must be there and the stream is made; raising then
fails the start, as in ECS. Raising later keeps the lines for another try.
"""


@dataclass
class LogCollector:
    """Collects the output of one container, over all its restarts."""

    stream: LogStream
    file: Path
    put_logs: PutLogs
    file_bytes: int = FILE_BYTES
    dropped: int = 0
    """Lines lost because they came faster than they were taken."""
    _waiting: deque[tuple[int, str]] = field(default_factory=deque)
    _unwritten: list[str] = field(default_factory=list)
    _waiting_bytes: int = 0
    _partial: bytes = b""
    _reader: int = -1
    writer: int = -1
    """The end of the pipe that processes get."""
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _flushing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises what `put_logs` raises when the stream cannot be."""
        await self.put_logs(self.stream, [])
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        asyncio.get_running_loop().add_reader(self._reader, self._read)
        self._flushing = asyncio.create_task(self._flush_forever(), name=f"logs of {self.stream.stream}")

    async def close(self) -> None:
        """Take what is still in the pipe and give it on, for a limited time."""
        if self._flushing is None:
            return
        os.close(self.writer)
        if self._reader >= 0:
            self._read()
        self._stop_reading()
        self._take(b"\n" if self._partial else b"")
        self._closing.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_FLUSH_S):
                await self._flushing
        self._write()

    def _stop_reading(self) -> None:
        if self._reader >= 0:
            asyncio.get_running_loop().remove_reader(self._reader)
            os.close(self._reader)
            self._reader = -1

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):  # the pipe's 1 MiB at most; then others get their turn
                data = os.read(self._reader, 1 << 16)
                if not data:
                    self._stop_reading()
                    return
                self._take(data)

    def _take(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        while len(self._partial) > LINE_BYTES:
            lines.append(self._partial[:LINE_BYTES])
            self._partial = self._partial[LINE_BYTES:]
        now_ns = time.time_ns()
        for line in lines:
            for start in range(0, len(line) or 1, LINE_BYTES):
                self._keep(now_ns, line[start : start + LINE_BYTES].decode(errors="replace").rstrip("\r"))

    def _keep(self, now_ns: int, line: str) -> None:
        if self._waiting_bytes + len(line) > BUFFER_BYTES:
            self.dropped += 1
            return
        self._waiting.append((now_ns // 1_000_000, line))
        self._waiting_bytes += len(line)
        self._unwritten.append(f"{rfc3339(now_ns // 1_000_000 * 1_000_000)} {line}\n")

    async def _flush_forever(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_EVERY_S):
                    await self._closing.wait()
            await self._flush()

    async def _flush(self) -> None:
        self._write()
        while self._waiting:
            batch = [self._waiting[place] for place in range(min(BATCH_LINES, len(self._waiting)))]
            try:
                await self.put_logs(self.stream, batch)
            except Exception as error:  # noqa: BLE001 (whatever the receiver's trouble is, the task goes on)
                log.warning("log lines of %s are kept for another try: %s", self.stream.stream, error)
                return
            for _, line in batch:
                self._waiting.popleft()
                self._waiting_bytes -= len(line)

    def _write(self) -> None:
        lines, self._unwritten = self._unwritten, []
        if not lines:
            return
        try:
            with self.file.open("a", encoding="utf-8") as file:
                file.writelines(lines)
                size = file.tell()
            if size > self.file_bytes:
                self.file.replace(self.file.with_name(self.file.name + ".1"))
        except OSError as error:
            log.warning("log lines of %s are not in their file: %s", self.stream.stream, error)
