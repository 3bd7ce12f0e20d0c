"""Lets in what there is memory for: the host puts it before every pipeline that has no memory_limiter of its own."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from trunkline.component.contract import Consumer, Inlet
from trunkline.component.memory import MemoryCeiling, Pressure
from trunkline.component.metrics import Counter, SelfMetrics
from trunkline.model import Batch, Series, Table


def refused_samples(metrics: SelfMetrics) -> Counter:
    """The counter of what is refused for want of memory."""
    return metrics.counter(
        "trunkline_memory_refused_samples_total",
        "Samples refused because memory was short: of new series, or in whole batches.",
        "processor",
        "refused",
    )


@dataclass(frozen=True, slots=True)
class Admission:
    """Passes on what there is memory for: at the soft limit no new series, at the hard limit nothing."""

    ceiling: MemoryCeiling
    refused: Counter
    name: str
    downstream: Consumer

    def open(self, table: Table) -> Inlet:
        return _AdmissionInlet(self, table)


class _Inside:
    """The series of a table without those that wait outside; keeps none of them itself."""

    def __init__(self, table: Table, outside: set[int]) -> None:
        self._table = table
        self._outside = outside

    def __len__(self) -> int:
        return len(self._table.series)

    def __getitem__(self, slot: int, /) -> Series | None:
        return None if slot in self._outside else self._table.series[slot]

    def __iter__(self) -> Iterator[Series | None]:
        return (self[slot] for slot in range(len(self)))

    def count(self, series: Series | None, /) -> int:
        return sum(1 for one in self if one == series)

    def __setitem__(self, slot: int, series: Series | None, /) -> NoReturn:
        raise TypeError("the series of a table are changed by the source they come from")

    def append(self, series: Series | None, /) -> NoReturn:  # noqa: ARG002 (a list's method)
        raise TypeError("the series of a table are changed by the source they come from")


class _AdmissionInlet:
    """Knows which series have been let in, by the hash of their labels, and which wait until there is memory."""

    def __init__(self, admission: Admission, table: Table) -> None:
        self._admission = admission
        self._outside: set[int] = set()
        self._unseen: set[int] = set()
        self._known = array("q")
        self._table = Table(table.name, table.key, _Inside(table, self._outside))
        self._downstream = admission.downstream.open(self._table)

    def consume(self, batch: Batch) -> None:
        pressure = self._admission.ceiling.check()
        if pressure is Pressure.HARD:
            self._unseen.update(batch.changed)
            samples = len(batch.slots()) + len(batch.extras)
            self._admission.refused.add(samples, self._admission.name, "batches")
            return
        changed = batch.changed
        if self._unseen or (self._outside and pressure is Pressure.NONE):
            waiting = self._outside if pressure is Pressure.NONE else set[int]()
            changed = sorted(self._unseen.union(waiting, batch.changed))
            self._unseen.clear()
        self._admit(batch, changed, new=pressure is Pressure.NONE)
        if self._outside:
            self._count(batch)
        self._downstream.consume(replace(batch, table=self._table, changed=changed))

    def close(self) -> None:
        self._downstream.close()

    def _admit(self, batch: Batch, changed: Sequence[int], *, new: bool) -> None:
        source, known = batch.table.series, self._known
        known.frombytes(bytes(8 * (len(source) - len(known))))
        for slot in changed:
            series = source[slot]
            mark = 0 if series is None else hash(series.encoded or series.labels)
            if series is None or new or (mark == known[slot] and slot not in self._outside):
                self._outside.discard(slot)
                known[slot] = mark
            else:
                self._outside.add(slot)

    def _count(self, batch: Batch) -> None:
        present = batch.present
        samples = sum(1 for slot in self._outside if present is None or present[slot])
        self._admission.refused.add(samples, self._admission.name, "new series")
