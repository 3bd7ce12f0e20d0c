"""Holds the memory of the process below a ceiling (OpenTelemetry's memory limiter, and what differs).

What is limited is the resident memory, since that is what a container is killed for. Above the soft limit upstream
refuses everything; here only new series are refused, which is what memory would go into, and known ones go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trunkline.component.admission import Admission, refused_samples
from trunkline.component.memory import MIB, SPIKE_SHARE, MemoryCeiling, MemoryLimits, total_bytes
from trunkline.component.settings import setting
from trunkline.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trunkline.component.contract import Consumer, Context

LARGEST: Final = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class MemoryLimiterConfig:
    """Refuses what would take the process over a memory limit."""

    check_interval: Duration = setting(
        default=0.0, doc="How often the memory in use is looked at; 1s is usual."
    )
    limit_mib: int = setting(default=0, doc="The hard limit in MiB; 0 leaves it to limit_percentage.")
    spike_limit_mib: int = setting(
        default=0, doc="How far below the hard limit the soft one lies; 0 for a fifth of it."
    )
    limit_percentage: int = setting(
        default=0, doc="The hard limit as percent of what the container, or the machine, has."
    )
    spike_limit_percentage: int = setting(
        default=0, doc="The distance of the soft limit in the same percent."
    )
    min_gc_interval_when_soft_limited: Duration = setting(
        default=10.0, doc="Least time between two attempts to free memory at the soft limit."
    )
    min_gc_interval_when_hard_limited: Duration = setting(
        default=0.0, doc="Least time between two attempts to free memory at the hard limit."
    )

    def check(self) -> Iterator[tuple[str, str]]:
        if self.check_interval <= 0:
            yield "check_interval", "'check_interval' must be greater than zero, such as 1s"
        if self.min_gc_interval_when_soft_limited < self.min_gc_interval_when_hard_limited:
            text = "should be larger than 'min_gc_interval_when_hard_limited'"
            yield "min_gc_interval_when_soft_limited", f"'min_gc_interval_when_soft_limited' {text}"
        for key in ("limit_mib", "spike_limit_mib", "limit_percentage", "spike_limit_percentage"):
            if not 0 <= getattr(self, key) <= LARGEST:
                yield key, f"must be from 0 to {LARGEST}"
        yield from self._check_limits()

    def _check_limits(self) -> Iterator[tuple[str, str]]:
        if not self.limit_mib and not self.limit_percentage:
            yield "limit_mib", "'limit_mib' or 'limit_percentage' must be greater than zero"
        if max(self.limit_percentage, self.spike_limit_percentage) > 100:
            text = "must be greater than zero and less than or equal to hundred"
            yield "limit_percentage", f"'limit_percentage' and 'spike_limit_percentage' {text}"
        if 0 < self.limit_mib <= self.spike_limit_mib:
            yield "spike_limit_mib", "'spike_limit_mib' must be smaller than 'limit_mib'"
        if 0 < self.limit_percentage <= self.spike_limit_percentage:
            text = "must be smaller than 'limit_percentage'"
            yield "spike_limit_percentage", f"'spike_limit_percentage' {text}"

    def build(self, context: Context, downstream: Consumer) -> Consumer:
        return Admission(
            MemoryCeiling(self.limits()), refused_samples(context.metrics), str(context.id), downstream
        )

    def limits(self, root: Path = Path("/")) -> MemoryLimits:
        """The limits in bytes; a fixed limit is preferred to a share."""
        if self.limit_mib:
            hard_bytes, spike_bytes = self.limit_mib * MIB, self.spike_limit_mib * MIB
        else:
            total = total_bytes(root)
            hard_bytes = total * self.limit_percentage // 100
            spike_bytes = total * self.spike_limit_percentage // 100
        return MemoryLimits(
            hard_bytes,
            hard_bytes - (spike_bytes or int(hard_bytes * SPIKE_SHARE)),
            self.check_interval,
            self.min_gc_interval_when_soft_limited,
            self.min_gc_interval_when_hard_limited,
        )
