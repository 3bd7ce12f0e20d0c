"""Which batches are shown, and where the text goes: the collector's log, or outputs of the exporter's own."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Self

from trunkline.component.otlp import Shape
from trunkline.errors import ConfigError, Problem
from trunkline.exporters.debug.rendering import render

if TYPE_CHECKING:
    from trunkline.component.contract import Inlet
    from trunkline.model import Batch, Table

log = logging.getLogger("trunkline.exporters.debug")

_STREAMS: Final = ("stdout", "stderr")


class Sampler:
    """Lets the first batches of each second through, then every n-th."""

    def __init__(
        self, initial: int, thereafter: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._initial = initial
        self._thereafter = thereafter
        self._monotonic = monotonic
        self._second = -1
        self._count = 0

    def lets_through(self) -> bool:
        second = int(self._monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        beyond = self._count - self._initial
        return beyond <= 0 or (self._thereafter > 0 and beyond % self._thereafter == 0)


@dataclass(slots=True)
class DebugExporter:
    """A consumer that hands what it makes of a batch to `write`."""

    verbosity: str
    sampler: Sampler
    write: Callable[[str], None]

    def open(self, table: Table) -> Inlet:
        del table  # its series come with every batch
        return _Shown(self, Shape())


@dataclass(slots=True)
class OutputExporter(DebugExporter):
    """A debug exporter with outputs of its own; the host enters it."""

    outputs: Outputs

    async def __aenter__(self) -> Self:
        """Open the outputs. Raises ConfigError when one cannot be written."""
        self.outputs.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.outputs.close()


class Outputs:
    """The standard streams and files that are written to instead of the log."""

    def __init__(self, paths: tuple[str, ...], exporter: str) -> None:
        self._paths = paths
        self._exporter = exporter
        self._files: list[IO[str]] = []
        self._stack = ExitStack()

    def open(self) -> None:
        for path in self._paths:
            self._files.append(getattr(sys, path) if path in _STREAMS else self._open(path))

    def _open(self, path: str) -> IO[str]:
        try:
            return self._stack.enter_context(open(path, "a", encoding="utf-8"))  # noqa: PTH123 (as given)
        except OSError as error:
            where = f"exporters::{self._exporter}::output_paths"
            message = f"cannot write {path}: {error.strerror}"
            remedy = "write stdout, stderr or the path of a file in a folder that is there"
            raise ConfigError([Problem("", where, message, remedy)]) from error

    def write(self, text: str) -> None:
        for file in self._files:
            try:
                file.write(f"{text}\n")
                file.flush()
            except OSError as error:
                log.warning("%s: cannot write %s: %s", self._exporter, file.name, error.strerror)

    def close(self) -> None:
        self._stack.close()
        self._files = []


@dataclass(frozen=True, slots=True)
class _Shown:
    """The inlet of one source."""

    exporter: DebugExporter
    shape: Shape

    def consume(self, batch: Batch) -> None:
        self.shape.note(batch)
        exporter = self.exporter
        heard = exporter.write is not write_to_log or log.isEnabledFor(logging.INFO)
        if heard and exporter.sampler.lets_through():
            exporter.write("\n".join(render(self.shape.of(batch), batch, exporter.verbosity)))

    def close(self) -> None:
        """Nothing was kept that has to be given back."""


def write_to_log(text: str) -> None:
    log.info("%s", text)
