from __future__ import annotations

from array import array

from trunkline.collector.pipelines import FanOut
from trunkline.model import Batch, Family, Resource, Series, Table
from trunkline.testing import Recorder


class Unsteady(Recorder):
    """Fails on the first batch."""

    def consume(self, batch: Batch) -> None:
        if not self.batches and not getattr(self, "failed", False):
            self.failed = True
            raise RuntimeError("not this one")
        super().consume(batch)


def test_a_consumer_that_failed_is_told_later_what_it_has_not_seen() -> None:
    table = Table("source")
    seen: list[list[int]] = []

    class Noting(Unsteady):
        def open(self, table: Table) -> Noting:
            del table
            return self

        def consume(self, batch: Batch) -> None:
            super().consume(batch)
            seen.append(list(batch.changed))

    lost: list[tuple[str, int]] = []
    consumers = [("unsteady", Noting()), ("steady", Recorder())]
    inlet = FanOut(consumers, lambda name, samples: lost.append((name, samples))).open(table)
    for name in ("a", "b", "c"):
        table.assign(Series((("__name__", name),), Family(name), Resource()))
        inlet.consume(Batch(table, 1000, array("d", bytes(8 * len(table))), table.take_changes()))
    assert seen == [[0, 1], [2]]
    assert lost == [("unsteady", 1)]
