"""The latest sample of every series, kept so that showing them all again costs little.

Every series shown has a *row*, a small number. A `View` keeps, for one format, the text of each row: what stands
before the value is made once, a line again only when its value changes, and the order of the lines only when series
come or go. So a steady source costs a comparison of two columns and one join.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import compress, count
from operator import ne
from typing import Final

from trunkline.component.translation import ending
from trunkline.exporters.prometheus.text import Format, family_name
from trunkline.model import NAN, Family, Kind, Labels, Series
from trunkline.wire import naming

NO_ROW: Final = -1
VIEW_IDLE_S: Final = 600.0
"""A format nobody has asked for that long is forgotten."""

_RANKS: Final = {"_bucket": 0, "_sum": 1, "_gsum": 1, "_count": 2, "_gcount": 2, "_created": 3}
_BOUNDS: Final = ("le", "quantile")


class NotShownError(Exception):
    """Why a series is not shown; `reason` is a short label for counting."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class ShownFamily:
    """One family as it is shown. `row` is that of its head; `alive` are the rows that have a sample."""

    name: str
    kind: Kind
    help: str
    unit: str
    row: int
    rows: set[int] = field(default_factory=set)
    alive: set[int] = field(default_factory=set)
    order: list[int] | None = None


class View:
    """Everything as text in one format. `lines` are by row; `shown` are the values they were made of, by source."""

    def __init__(self, format_: Format) -> None:
        self.format = format_
        self.prefixes: dict[int, str] = {}
        self.lines: list[str] = []
        self.shown: dict[SourceRows, array[float]] = {}
        self.seen: dict[SourceRows, int] = {}
        self.used_s = 0.0

    def forget(self, source: SourceRows, slot: int, row: int) -> None:
        """The series at `slot` was decided anew: its line has to be made anew, whatever its value."""
        self.prefixes.pop(row, None)
        shown = self.shown.get(source)
        if shown is not None and slot < len(shown):
            shown[slot] = NAN


class Exposition:
    """What is shown, by family and row, and who put it there."""

    def __init__(self, *, openmetrics: bool, send_timestamps: bool) -> None:
        self._openmetrics = openmetrics
        self.send_timestamps = send_timestamps
        self.labels: list[Labels] = []
        self.kinds: list[Kind] = []
        self.endings: list[str] = []
        self._free: list[int] = []
        self._by_labels: dict[Labels, int] = {}
        self._families: dict[str, ShownFamily] = {}
        self._family_of: dict[int, ShownFamily] = {}
        self._order: list[int] | None = None
        self.sources: list[SourceRows] = []
        self.views: dict[Format, View] = {}
        self.room = 0
        """Grows whenever a row is given back, so that what was refused can be tried again."""

    def claim(self, series: Series, labels: Labels, name: str) -> int:
        """A row for the series. `name` is the family's, `labels` are final.

        Raises NotShownError when its name or its labels are taken by something else.
        """
        if labels in self._by_labels:
            shown = f"{labels_name(labels)}{dict(labels)}"
            raise NotShownError(f"{shown} is shown already, from another source", reason="duplicate")
        family = self._family(name, series.family)
        row = self._new_row(labels, family.kind, ending(series))
        self._by_labels[labels] = row
        self._family_of[row] = family
        family.rows.add(row)
        return row

    def is_shown(self, labels: Labels) -> bool:
        """Whether there is a series with these labels."""
        return labels in self._by_labels

    def release(self, row: int) -> None:
        """Give the row of a series back."""
        self.show(row, alive=False)
        family = self._family_of.pop(row)
        family.rows.discard(row)
        del self._by_labels[self.labels[row]]
        self._free.append(row)
        self.room += 1
        if not family.rows:
            del self._families[self._key(family.name, family.kind)]
            self._free.append(family.row)
            self._order = None

    def show(self, row: int, *, alive: bool) -> None:
        """Say whether the row has a sample to show."""
        family = self._family_of[row]
        if (row in family.alive) is not alive:
            (family.alive.add if alive else family.alive.discard)(row)
            family.order = self._order = None

    def render(self, format_: Format, now_s: float) -> str:
        """The whole body. `now_s` is monotonic."""
        self.views = {one: view for one, view in self.views.items() if now_s - view.used_s < VIEW_IDLE_S}
        view = self.views.setdefault(format_, View(format_))
        view.used_s = now_s
        missing = len(self.labels) - len(view.lines)
        view.lines.extend([""] * missing)
        for source in self.sources:
            source.refresh(view)
        order = self._ordered(view)
        return "".join(map(view.lines.__getitem__, order)) + format_.end

    def forget_source(self, source: SourceRows) -> None:
        """Nothing will come from `source` any more."""
        self.sources.remove(source)
        for view in self.views.values():
            view.shown.pop(source, None)
            view.seen.pop(source, None)

    def _new_row(self, labels: Labels, kind: Kind, end: str) -> int:
        if not self._free:
            self.labels.append(labels)
            self.kinds.append(kind)
            self.endings.append(end)
            return len(self.labels) - 1
        row = self._free.pop()
        self.labels[row], self.kinds[row], self.endings[row] = labels, kind, end
        for view in self.views.values():
            view.prefixes.pop(row, None)
        return row

    def _key(self, name: str, kind: Kind) -> str:
        """What no two families may be called."""
        return family_name(name, kind) if self._openmetrics else name

    def _family(self, name: str, family: Family) -> ShownFamily:
        key = self._key(name, family.kind)
        known = self._families.get(key)
        if known is None:
            row = self._new_row((), family.kind, "")
            known = ShownFamily(name, family.kind, family.help, _unit(family), row)
            self._families[key] = known
        if known.kind is not family.kind or known.name != name:
            raise NotShownError(
                f"instrument type conflict, using existing type definition. instrument: {key}, "
                f"existing: {known.name} {known.kind}, dropped: {name} {family.kind}",
                reason="type_conflict",
            )
        return known

    def _ordered(self, view: View) -> list[int]:
        """The rows to show, heads included; families by name, their series by labels, buckets by bound."""
        if self._order is None:
            self._order = []
            for _, family in sorted(self._families.items()):
                if family.order is None:
                    family.order = sorted(family.alive, key=self._sort_key)
                if family.order:
                    self._order += (family.row, *family.order)
        for family in self._families.values():
            if family.row not in view.prefixes:
                head = view.format.head(family.name, family.kind, family.help, family.unit)
                view.lines[family.row] = view.prefixes[family.row] = head
        return self._order

    def _sort_key(self, row: int) -> tuple[list[tuple[str, str]], int, float]:
        group = [pair for pair in self.labels[row] if pair[0] not in ("__name__", *_BOUNDS)]
        return group, _RANKS.get(self.endings[row], 0), _bound(self.labels[row])


class SourceRows:
    """One source's side: its columns by slot, and the rows of its series."""

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition
        exposition.sources.append(self)
        self.rows: list[int] = []
        self.values: array[float] = array("d")
        self.stamps: array[int] = array("q")
        self.claimed = bytearray()
        self.alive = bytearray()
        self.generation = 0

    def grow(self, length: int) -> None:
        """Make the columns reach `length`."""
        missing = length - len(self.rows)
        if missing > 0:
            self.rows += [NO_ROW] * missing
            self.claimed.extend(bytes(missing))
            self.alive.extend(bytes(missing))
            self.values.frombytes(bytes(8 * missing))
            self.stamps.frombytes(bytes(8 * missing))

    def assign(self, slot: int, row: int) -> None:
        """The series at `slot` has this row from now on."""
        self.rows[slot] = row
        self.claimed[slot] = 1
        for view in self._exposition.views.values():
            view.forget(self, slot, row)

    def release(self, slot: int) -> None:
        """The slot has no series any longer, or another one."""
        if self.rows[slot] != NO_ROW:
            self._exposition.release(self.rows[slot])
            self.rows[slot] = NO_ROW
        self.claimed[slot] = self.alive[slot] = 0

    def show_only(self, alive: bytearray) -> None:
        """From now on exactly the slots at which `alive` is 1 are shown; only claimed ones may be."""
        if alive != self.alive:
            for slot in compress(count(), map(ne, alive, self.alive)):
                self._exposition.show(self.rows[slot], alive=bool(alive[slot]))
            self.alive = alive

    def refresh(self, view: View) -> None:
        """Make the lines anew whose values have changed."""
        if view.seen.get(self) == self.generation:
            return
        view.seen[self] = self.generation
        shown = view.shown.setdefault(self, array("d"))
        shown.extend([NAN] * (len(self.values) - len(shown)))
        if self._exposition.send_timestamps:
            self._write(view, range(len(self.values)), self._stamped(view.format))
        else:
            self._write(view, compress(count(), map(ne, self.values, shown)), view.format.value)
        view.shown[self] = array("d", self.values)

    def _stamped(self, format_: Format) -> Callable[[float], str]:
        stamps = iter(self.stamps)
        return lambda value: f"{format_.value(value)} {format_.timestamp(next(stamps))}"

    def _write(self, view: View, slots: Iterable[int], text: Callable[[float], str]) -> None:
        lines, prefixes, rows, values = view.lines, view.prefixes, self.rows, self.values
        for slot in slots:
            said = text(values[slot])
            row = rows[slot]
            if row == NO_ROW:
                continue
            prefix = prefixes.get(row)
            if prefix is None:
                prefix = prefixes[row] = self._prefix(view, row)
            lines[row] = f"{prefix}{said}\n" if prefix else ""

    def _prefix(self, view: View, row: int) -> str:
        """What stands before the value; empty for what the format has no place for."""
        exposition = self._exposition
        if exposition.endings[row] == "_created" and not view.format.openmetrics:
            return ""
        labels = exposition.labels[row]
        return view.format.series(labels_name(labels), labels, exposition.kinds[row])

    def close(self) -> None:
        """Take everything of this source away."""
        for slot in range(len(self.rows)):
            self.release(slot)
        self._exposition.forget_source(self)


def labels_name(labels: Labels) -> str:
    """The value of `__name__`."""
    return next((value for name, value in labels if name == "__name__"), "")


def slots_of(column: bytes | bytearray) -> Iterator[int]:
    """Where the column is 1, ascending; costs something only for those."""
    slot = column.find(1)
    while slot >= 0:
        yield slot
        slot = column.find(1, slot + 1)


def _bound(labels: Labels) -> float:
    """The bound of a bucket or quantile, for sorting."""
    text = next((value for name, value in labels if name in _BOUNDS), "")
    try:
        return float(text) if text else 0.0
    except ValueError:
        return 0.0


def _unit(family: Family) -> str:
    """The word that translated names end with for the unit: `bytes` for `By`; a word stays what it is."""
    if not family.unit or family.name.endswith(f"_{family.unit}"):
        return family.unit
    return naming.metric_name("x", family.unit, Kind.UNKNOWN).removeprefix("x_")
