"""What a receiver leaves to its successor when the configuration is read anew, so that no series breaks or lingers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from trunkline.receivers.prometheus.columns import TargetColumns
from trunkline.receivers.prometheus.loop import JUST_AFTER_S, TargetLoop
from trunkline.receivers.prometheus.target import Target

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context


@dataclass(frozen=True, slots=True)
class Remains:
    """The series of a target that was scraped last at `scraped_s`, in seconds since the epoch."""

    target: Target
    columns: TargetColumns
    scraped_s: float

    def fit(self, target: Target) -> bool:
        """Whether the job that `target` has now decides series as before."""
        return self.target.job.decides == target.job.decides

    def end(self, timestamp_s: float, downstream: Consumer) -> None:
        """Mark them as stale, after the last scrape in any case, as nobody continues them."""
        self.columns.renew(self.target)
        inlet = downstream.open(self.columns.table)
        inlet.consume(self.columns.ended(max(timestamp_s, self.scraped_s + JUST_AFTER_S), reports=True))
        inlet.close()


def leave(context: Context, loops: Iterable[TargetLoop], inherited: Mapping[str, Remains]) -> None:
    """Leave the series of loops that are closed to the receiver of the same id, and what was inherited, too."""
    own = {
        loop.target.key: Remains(loop.target, loop.columns, loop.scraped_s)
        for loop in loops
        if loop.scraped_s
    }
    context.estate[str(context.id)] = {**inherited, **own}


def take(context: Context) -> dict[str, Remains]:
    """What the receiver before has left, by target key."""
    return cast("dict[str, Remains]", context.estate.pop(str(context.id), {}))
