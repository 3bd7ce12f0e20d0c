"""`target_info`: a series for each resource, with value 1 and the resource's attributes as labels (components.md 3.4)."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trunkline.component.translation import TARGET_INFO
from trunkline.model import STALE, Batch, Labels, Resource, Series, Table, is_stale

if TYPE_CHECKING:
    from trunkline.component.contract import Encoder, Fragment
    from trunkline.component.translation import Translation


class WithTargetInfo:
    """An encoder that adds to the samples of a source the `target_info` of its resources.

    A resource that no series has any longer, and a source of which everything is stale, end with a stale marker.
    Costs nothing per sample, and per series only while series change.
    """

    def __init__(
        self, table: Table, translation: Translation, encoder_for: Callable[[Table], Encoder]
    ) -> None:
        self._translation = translation
        self._series = encoder_for(table)
        self._table = Table(f"target_info of {table.name}", f"{table.key} target_info")
        self._infos = encoder_for(self._table)
        self._slots: dict[Labels, int] = {}
        self._leaving: list[int] = []

    def encode(self, batch: Batch) -> Sequence[Fragment]:
        fragments = self._series.encode(batch)
        if batch.changed:
            self._decide(batch.table)
        if not self._slots and not self._leaving:
            return fragments
        infos = self._infos.encode(self._batch(batch))
        for slot in self._leaving:
            self._table.free(slot)
        self._leaving = []
        return [*fragments, *infos]

    def _decide(self, table: Table) -> None:
        wanted = self._translation.target_infos(table)
        self._leaving = [self._slots.pop(labels) for labels in set(self._slots) - wanted]
        for labels in sorted(wanted - set(self._slots)):
            self._slots[labels] = self._table.assign(Series(labels, TARGET_INFO, Resource()))

    def _batch(self, batch: Batch) -> Batch:
        length = len(self._table)
        values = array("d", [1.0 if _lives(batch) else STALE] * length)
        present = bytearray(length)
        for slot in (*self._slots.values(), *self._leaving):
            present[slot] = 1
        for slot in self._leaving:
            values[slot] = STALE
        return Batch(self._table, batch.timestamp_ms, values, self._table.take_changes(), present)


def _lives(batch: Batch) -> bool:
    """Whether anything in the batch is a value; almost always the first sample is."""
    present, values = batch.present, batch.values
    return any(
        series is not None and (present is None or present[slot]) and not is_stale(values[slot])
        for slot, series in enumerate(batch.table.series)
    )
