"""The settings of the `debug` exporter, and of `logging`, which it replaced (components.md, section 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from trunkline.component.settings import setting
from trunkline.exporters.debug.exporter import (
    DebugExporter,
    OutputExporter,
    Outputs,
    Sampler,
    write_to_log,
)

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context

Verbosity: TypeAlias = Literal["basic", "normal", "detailed"]
LEVELS: Final[dict[str, Verbosity]] = {
    "debug": "detailed",
    "info": "normal",
    "warn": "basic",
    "error": "basic",
}


@dataclass(frozen=True, kw_only=True)
class DebugConfig:
    """Writes what passes to the collector's log."""

    verbosity: str = setting(
        default="basic", doc="`basic` counts, `normal` a line a sample, `detailed` everything."
    )
    sampling_initial: int = setting(default=2, doc="Batches written at the start of each second.")
    sampling_thereafter: int = setting(
        default=1, doc="Of further ones in that second, every n-th; 0 for none."
    )
    use_internal_logger: bool = setting(
        default=True, doc="Whether the collector's log is written to; else `output_paths`."
    )
    output_paths: tuple[str, ...] = setting(
        default=("stdout",), doc="`stdout`, `stderr` or files, where the log is not written to."
    )
    sending_queue: Any = setting(
        default=None, doc="Upstream's queue in memory.", ignored="batches are written as they come"
    )

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _check_verbosity(self.verbosity)
        if not self.use_internal_logger and not all(self.output_paths):
            yield "output_paths", "an output path is empty; write stdout, stderr or the path of a file"

    def build(self, context: Context) -> Consumer:
        sampler = Sampler(self.sampling_initial, self.sampling_thereafter)
        verbosity = self.verbosity.lower()
        if self.use_internal_logger:
            return DebugExporter(verbosity, sampler, write_to_log)
        outputs = Outputs(self.output_paths, str(context.id))
        return OutputExporter(verbosity, sampler, outputs.write, outputs)


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """The `debug` exporter under its older name and with its older keys."""

    loglevel: str | None = setting(
        default=None, doc="`debug` means detailed, `info` normal, `warn` and `error` basic."
    )
    verbosity: str | None = setting(
        default=None, doc="As of the debug exporter; normal when neither is given."
    )
    sampling_initial: int = setting(default=2, doc="Batches written at the start of each second.")
    sampling_thereafter: int = setting(
        default=500, doc="Of further ones in that second, every n-th; 0 for none."
    )

    def check(self) -> Iterator[tuple[str, str]]:
        if self.loglevel is not None and self.verbosity is not None:
            yield "loglevel", "'loglevel' and 'verbosity' are incompatible. Use only 'verbosity' instead"
        if self.loglevel is not None and self.loglevel.lower() not in LEVELS:
            yield "loglevel", f'unrecognized level: "{self.loglevel}"; use debug, info, warn or error'
        if self.verbosity is not None:
            yield from _check_verbosity(self.verbosity)

    def build(self, context: Context) -> Consumer:
        del context
        level = LEVELS[self.loglevel.lower()] if self.loglevel else (self.verbosity or "normal").lower()
        return DebugExporter(level, Sampler(self.sampling_initial, self.sampling_thereafter), write_to_log)


def _check_verbosity(verbosity: str) -> Iterator[tuple[str, str]]:
    if verbosity.lower() not in LEVELS.values():
        message = f'verbosity level "{verbosity}" is not supported; use basic, normal or detailed'
        yield "verbosity", message
