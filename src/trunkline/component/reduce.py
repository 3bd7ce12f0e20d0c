"""A processor that decides about the series of a metric together, and may make one column out of several.

`PerSeries` is for decisions that look at one series. Here a *unit* of series (a metric, or several that are combined)
is decided whenever one of them changes: `plan` turns the points of the unit into those that go on. A point is a series
and where its value comes from: a slot of the source, or a calculation. What stays at its slot with its own value costs
nothing per sample; the rest is a short loop over arrays for each scrape.

A calculated point is stale when all it is made of is stale. What a later plan no longer has ends with a stale marker.
"""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeAlias

from trunkline.component.contract import Consumer, Inlet
from trunkline.model import STALE, Batch, Extra, Series, Table, is_stale

log = logging.getLogger(__name__)

Fold: TypeAlias = Callable[[list[float]], float]
"""Makes one value of one or more, none of them a stale marker."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """One value of those of `members` that carry a sample. Its timestamp is the newest of theirs."""

    members: tuple[Value, ...]
    fold: Fold


@dataclass(frozen=True, slots=True)
class Changed:
    """Another value of each sample of `of`; made with `changed`."""

    of: int | Reduced
    by: Callable[[float], float]

    def fold(self, found: list[float]) -> float:
        return self.by(found[0])


Value: TypeAlias = int | Reduced | Changed
"""Where a point's value comes from: a slot of the source, or a calculation."""


def changed(value: Value, by: Callable[[float], float]) -> Changed:
    """`value` with each of its samples changed by a function."""
    if isinstance(value, Changed):
        inner = value.by
        return Changed(value.of, lambda number: by(inner(number)))
    return Changed(value, by)


class Point(NamedTuple):
    """A series and where its value comes from."""

    series: Series
    value: Value


Plan: TypeAlias = Callable[[Sequence[Point]], Iterable[Point]]


def _mean(found: list[float]) -> float:
    return sum(found) / len(found)


def _median(found: list[float]) -> float:
    ordered, middle = sorted(found), len(found) // 2
    return ordered[middle] if len(found) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _first(found: list[float]) -> float:
    return found[0]


def _unless_nan(fold: Fold) -> Fold:
    """`fold`, but NaN as soon as one of the values is, whatever order Python would find in them."""
    return lambda found: math.nan if any(map(math.isnan, found)) else fold(found)


FOLDS: Final[Mapping[str, Fold]] = {
    "": _first,
    "sum": sum,
    "mean": _mean,
    "min": _unless_nan(min),
    "max": _unless_nan(max),
    "count": lambda found: float(len(found)),
    "median": _unless_nan(_median),
}
"""By OpenTelemetry's names; the empty one takes the first value there is."""


@dataclass(frozen=True, slots=True)
class PerMetric:
    """A processor that decides about every unit of series by `plan`; `unit_of` tells the units of a source apart."""

    unit_of: Callable[[Series], Hashable]
    plan: Plan
    downstream: Consumer

    def open(self, table: Table) -> Inlet:
        return _PerMetricInlet(self, table)


_Key: TypeAlias = tuple[object, ...]


def _key(series: Series) -> _Key:
    """What tells a series from another once it has left: its labels, and those of its identity."""
    return series.labels, tuple(series.resource.identity.items())


def _slot_of(value: Value) -> int | None:
    """The slot at which a point can stay: the one its value alone comes from."""
    origin = value.of if isinstance(value, Changed) else value
    return origin if isinstance(origin, int) else None


class _Step(NamedTuple):
    """Fills the column at `target` from those at `members`: by `fold`, or from the only one `by` a function."""

    target: int
    members: tuple[int, ...]
    fold: Fold
    by: Callable[[float], float] | None = None


class _Placed(NamedTuple):
    target: int
    series: Series


@dataclass(slots=True)
class _Unit:
    """The series of a unit by slot, and what its plan made of them; `scratch` are columns between steps."""

    members: dict[int, Series] = field(default_factory=dict)
    placed: dict[_Key, _Placed] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)
    changes: list[_Step] = field(default_factory=list)
    scratch: list[int] = field(default_factory=list)

    def clear(self) -> dict[_Key, _Placed]:
        """Forget what was made; returns what was placed."""
        placed, self.placed = self.placed, {}
        self.steps, self.changes, self.scratch = [], [], []
        return placed


class _Layout:
    """The table of what goes on: the source's slots from the front, calculated columns from the back.

    Calculated columns are known by negative numbers, -1 the last column, so that they need not be renumbered while
    the source's slots grow towards them; when both meet, the table is made longer.
    """

    def __init__(self, table: Table) -> None:
        self._series: list[Series | None] = []
        self.table = Table(table.name, table.key, self._series)
        self.changed: set[int] = set()
        self._slots = 0
        self._made = 0
        self._free: list[int] = []

    def fit(self, slots: int) -> None:
        """Have room for as many slots of the source."""
        self._slots = slots
        if slots + self._made > len(self._series):
            self._lengthen()

    def allocate(self) -> int:
        """A column from the back."""
        if self._free:
            return self._free.pop()
        if self._slots + self._made + 1 > len(self._series):
            self._lengthen(1)
        self._made += 1
        return -self._made

    def release(self, target: int) -> None:
        """Take a column from the back again."""
        self.place(target, None)
        self._free.append(target)

    def place(self, target: int, series: Series | None) -> None:
        index = target if target >= 0 else len(self._series) + target
        if self._series[index] != series:
            self._series[index] = series
            self.changed.add(index)

    def _lengthen(self, more: int = 0) -> None:
        series, made = self._series, self._made
        border = len(series) - made
        length = self._slots if not made + more else (self._slots + made + more) * 3 // 2 + 64
        moved = series[border:]
        series[border:] = [None] * (length - len(series)) + moved
        if made:
            self.changed.update(range(border, border + made), range(length - made, length))


class _Calculation:
    """The columns of one batch: the source's, and behind them those that the steps fill."""

    def __init__(self, batch: Batch, length: int) -> None:
        self._batch = batch
        self._length = length
        missing = length - len(batch.values)
        self.values = array("d", batch.values)
        self.values.frombytes(bytes(8 * missing))
        self.present = bytearray(batch.present or b"\1" * len(batch.values)) + bytes(missing)
        self.stamps = None if batch.timestamps_ms is None else array("q", batch.timestamps_ms)
        if self.stamps is not None:
            self.stamps.frombytes(bytes(8 * missing))

    def run(self, steps: Iterable[_Step]) -> None:
        values, present, stamps = self.values, self.present, self.stamps
        for target, members, fold, by in steps:
            if by is not None and stamps is None:
                member = members[0]
                if present[member]:
                    value = values[member]
                    values[target] = by(value) if value == value else value  # noqa: PLR0124 (NaN, a stale one too)
                    present[target] = 1
                continue
            found = [values[member] for member in members if present[member]]
            if found:
                if stamps is not None:
                    stamps[target] = max(stamps[member] for member in members if present[member])
                values[target] = _folded(found, fold)
                present[target] = 1

    def end(self, targets: Iterable[int]) -> None:
        """Stale markers at `targets`."""
        for target in targets:
            self.values[target], self.present[target] = STALE, 1
            if self.stamps is not None:
                self.stamps[target] = self._batch.timestamp_ms

    def extras(self, steps: Sequence[_Step]) -> Sequence[Extra]:
        """Further samples of a series, with those of what is made of it alone; sums of them cannot be told."""
        if not self._batch.extras:
            return ()
        alone = [step for step in steps if len(step.members) == 1 and step.members[0] >= 0]
        changed = {step.target: step.fold for step in alone if step.target >= 0}
        made: dict[int, list[_Step]] = {}
        for step in alone:
            if step.target < 0:
                made.setdefault(step.members[0], []).append(step)
        return [
            *(
                replace(one, value=_folded([one.value], changed.get(one.slot, _first)))
                for one in self._batch.extras
            ),
            *(
                Extra(self._length + step.target, _folded([one.value], step.fold), one.timestamp_ms)
                for one in self._batch.extras
                for step in made.get(one.slot, ())
            ),
        ]

    def batch(self, steps: Sequence[_Step]) -> Batch:
        return replace(
            self._batch,
            values=self.values,
            present=self.present,
            timestamps_ms=self.stamps,
            extras=self.extras(steps),
        )

    def carried(self, target: int) -> bool:
        """Whether there was a value at `target`, a calculated column."""
        known = -target <= len(self.values)
        return known and bool(self.present[target]) and not is_stale(self.values[target])


def _folded(found: list[float], fold: Fold) -> float:
    if math.isnan(sum(found)):
        found = [value for value in found if not is_stale(value)]
        if not found:
            return STALE
    return fold(found)


class _PerMetricInlet:
    """Keeps the units of one source, and the table of what goes on."""

    def __init__(self, processor: PerMetric, table: Table) -> None:
        self._unit_of = processor.unit_of
        self._plan = processor.plan
        self._layout = _Layout(table)
        self._downstream = processor.downstream.open(self._layout.table)
        self._units: dict[Hashable, _Unit] = {}
        self._source: dict[int, tuple[Series, Hashable]] = {}
        self._steps: list[_Step] = []
        self._parting: list[int] = []
        self._last: _Calculation | None = None
        self._refused = False

    def consume(self, batch: Batch) -> None:
        layout = self._layout
        if batch.changed or self._parting:
            self._decide(batch)
        if self._steps or len(layout.table) != len(batch.values):
            self._last = self._calculate(batch, len(layout.table))
            batch = self._last.batch(self._steps)
        moved = sorted(layout.changed)
        layout.changed.clear()
        self._downstream.consume(replace(batch, table=layout.table, changed=moved))

    def close(self) -> None:
        self._downstream.close()

    def _calculate(self, batch: Batch, length: int) -> _Calculation:
        calculation = _Calculation(batch, length)
        calculation.run(self._steps)
        calculation.end(self._parting)
        return calculation

    def _decide(self, batch: Batch) -> None:
        for target in self._parting:
            self._layout.release(target)
        self._parting = []
        self._layout.fit(len(batch.table))
        ended: set[int] = set()
        dirty = self._sort_in(batch, ended)
        before = [entry for unit in dirty.values() for entry in self._plan_anew(unit).items()]
        after = {key: placed.target for unit in dirty.values() for key, placed in unit.placed.items()}
        for key, placed in before:
            if placed.target < 0 and after.get(key) != placed.target:
                self._retire(placed.target, marked=key not in after)
            elif placed.target >= 0 and key not in after and placed.target not in ended:
                self._say_farewell(placed.series)
        for name in [name for name, unit in dirty.items() if not unit.members]:
            del self._units[name]
        self._steps = [step for unit in self._units.values() for step in unit.steps]
        # Changes in place come last: until then a slot holds the value as it came.
        self._steps += [step for unit in self._units.values() for step in unit.changes]

    def _sort_in(self, batch: Batch, ended: set[int]) -> dict[Hashable, _Unit]:
        """Bring the units up to date; returns those to decide, and adds slots whose series has ended to `ended`."""
        dirty: dict[Hashable, _Unit] = {}
        for slot in batch.changed:
            now = batch.table.series[slot]
            name = None if now is None else self._unit_of(now)
            if slot in self._source:
                before, old_name = self._source.pop(slot)
                dirty[old_name] = self._units[old_name]
                del self._units[old_name].members[slot]
                if now is None or now.labels != before.labels:
                    ended.add(slot)
                if name != old_name:
                    self._layout.place(slot, None)
            if now is not None:
                unit = dirty[name] = self._units.setdefault(name, _Unit())
                unit.members[slot] = now
                self._source[slot] = now, name
        return dirty

    def _plan_anew(self, unit: _Unit) -> dict[_Key, _Placed]:
        """Plan the unit, keeping calculated columns where their series still is; returns what was placed before."""
        for target in unit.scratch:
            self._layout.release(target)
        before = unit.clear()
        points = [Point(series, slot) for slot, series in sorted(unit.members.items())]
        taken: set[int] = set()
        for series, value in self._plan(points) if points else ():
            key = _key(series)
            if key in unit.placed:
                self._refuse(series)
                continue
            slot = _slot_of(value)
            if slot is None or slot in taken:
                known = before[key].target if key in before and before[key].target < 0 else None
                slot = self._made(unit, value, known)
            elif isinstance(value, Changed):
                unit.changes.append(_Step(slot, (slot,), value.fold, value.by))
            taken.add(slot)
            unit.placed[key] = _Placed(slot, series)
            self._layout.place(slot, series)
        for slot in unit.members.keys() - taken:
            self._layout.place(slot, None)
        return before

    def _made(self, unit: _Unit, value: Value, known: int | None = None) -> int:
        """Add the steps that calculate `value`; returns its column, the one `known` if that is given."""
        members = (
            value.members
            if isinstance(value, Reduced)
            else (value.of if isinstance(value, Changed) else value,)
        )
        columns = tuple(
            member if isinstance(member, int) else self._between(unit, member) for member in members
        )
        target = self._layout.allocate() if known is None else known
        if isinstance(value, int):
            unit.steps.append(_Step(target, columns, _first, float))
        else:
            unit.steps.append(
                _Step(target, columns, value.fold, value.by if isinstance(value, Changed) else None)
            )
        return target

    def _between(self, unit: _Unit, value: Value) -> int:
        target = self._made(unit, value)
        unit.scratch.append(target)
        return target

    def _retire(self, target: int, *, marked: bool) -> None:
        """Give up a calculated column, with a stale marker if it carried a value last."""
        if marked and self._last is not None and self._last.carried(target):
            self._parting.append(target)
        else:
            self._layout.release(target)

    def _say_farewell(self, series: Series) -> None:
        """A stale marker for a series that goes on under other labels, or not at all."""
        target = self._layout.allocate()
        self._layout.place(target, series)
        self._parting.append(target)

    def _refuse(self, series: Series) -> None:
        if not self._refused:
            self._refused = True
            log.warning(
                "%s: two series become %s; the second is left out, and so are others like it: keep a label that tells "
                "them apart, or aggregate them",
                self._layout.table.name,
                dict(series.labels),
            )
