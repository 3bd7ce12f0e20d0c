"""Writes what passes to the collector's log, at three levels of detail (components.md, section 6)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from trunkline.component.settings import setting
from trunkline.model import Batch, Series, is_stale

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context, Inlet
    from trunkline.model import Table

log = logging.getLogger(__name__)

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
    sampling_initial: int = setting(default=2, doc="Batches logged at the start of each second.")
    sampling_thereafter: int = setting(
        default=1, doc="Of further ones in that second, every n-th; 0 for none."
    )
    use_internal_logger: bool = setting(default=True, doc="Accepted; the collector's logger is always used.")

    def check(self) -> Iterator[tuple[str, str]]:
        if self.verbosity.lower() not in LEVELS.values():
            yield (
                "verbosity",
                f'verbosity level "{self.verbosity}" is not supported; use basic, normal or detailed',
            )

    def build(self, context: Context) -> Consumer:
        del context
        return DebugExporter(self.verbosity.lower(), Sampler(self.sampling_initial, self.sampling_thereafter))


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """The `debug` exporter under its older name and with its older keys."""

    loglevel: str | None = setting(
        default=None, doc="`debug` means detailed, `info` normal, `warn` and `error` basic."
    )
    verbosity: str | None = setting(
        default=None, doc="As of the debug exporter; normal when neither is given."
    )
    sampling_initial: int = setting(default=2, doc="Batches logged at the start of each second.")
    sampling_thereafter: int = setting(
        default=500, doc="Of further ones in that second, every n-th; 0 for none."
    )

    def check(self) -> Iterator[tuple[str, str]]:
        if self.loglevel is not None and self.verbosity is not None:
            yield "loglevel", "'loglevel' and 'verbosity' are incompatible. Use only 'verbosity' instead"
        if self.loglevel is not None and self.loglevel.lower() not in LEVELS:
            yield "loglevel", f'unrecognized level: "{self.loglevel}"; use debug, info, warn or error'
        if self.verbosity is not None and self.verbosity.lower() not in LEVELS.values():
            yield (
                "verbosity",
                f'verbosity level "{self.verbosity}" is not supported; use basic, normal or detailed',
            )

    def build(self, context: Context) -> Consumer:
        del context
        level = LEVELS[self.loglevel.lower()] if self.loglevel else (self.verbosity or "normal").lower()
        return DebugExporter(level, Sampler(self.sampling_initial, self.sampling_thereafter))


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


@dataclass(frozen=True, slots=True)
class DebugExporter:
    """A consumer and, since it keeps nothing per source, its own inlet."""

    verbosity: str
    sampler: Sampler

    def open(self, table: Table) -> Inlet:
        del table
        return self

    def consume(self, batch: Batch) -> None:
        if self.sampler.lets_through() and log.isEnabledFor(logging.INFO):
            log.info("%s", "\n".join(_render(batch, self.verbosity)))

    def close(self) -> None:
        """Nothing was kept."""


def _render(batch: Batch, verbosity: str) -> Iterator[str]:
    found = [(slot, series) for slot in batch.slots() if (series := batch.table.series[slot]) is not None]
    resources = {id(series.resource) for _, series in found}
    families = {series.family.name for _, series in found}
    points = len(found) + len(batch.extras)
    yield (
        f"Metrics source={batch.table.name} resource metrics: {len(resources)} metrics: {len(families)} "
        f"data points: {points}"
    )
    if verbosity == "normal":
        yield from (f"{_labelled(series)} {_value(batch.values[slot])}" for slot, series in found)
    elif verbosity == "detailed":
        yield from _details(batch, found)


def _details(batch: Batch, found: Iterable[tuple[int, Series]]) -> Iterator[str]:
    shown: object = None
    for slot, series in found:
        if series.resource is not shown:
            shown = series.resource
            yield "Resource attributes:"
            yield from (f"     -> {name}: {value!r}" for name, value in series.resource.attributes.items())
            yield from (
                f"     -> label {name}: {value!r}" for name, value in series.resource.identity.items()
            )
        family = series.family
        stamp = datetime.fromtimestamp(batch.timestamp_of(slot) / 1000, UTC).isoformat(
            timespec="milliseconds"
        )
        yield f"Metric: {family.name} DataType: {family.kind} Unit: {family.unit} Description: {family.help}"
        yield f"     {_labelled(series)} Timestamp: {stamp} Value: {_value(batch.values[slot])}"


def _labelled(series: Series) -> str:
    labels = ",".join(f"{name}={value}" for name, value in series.labels if name != "__name__")
    return f"{series.name}{{{labels}}}"


def _value(value: float) -> str:
    return "stale" if is_stale(value) else f"{value:.17g}"
