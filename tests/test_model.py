"""Tables: which slot a series gets."""

from trunkline.model import YOUNG_SLOTS, Family, Resource, Series, Table


def series(number: int) -> Series:
    return Series((("__name__", f"s{number}"),), Family(f"s{number}"), Resource())


def test_series_that_come_and_go_stay_together_at_the_end() -> None:
    table = Table("t")
    for number in range(2000):
        table.assign(series(number))
    leaving = list(range(0, 2000, 100))
    young = set()
    for scrape in range(50):  # a new series comes before the slot of the one it replaces is free
        arriving = [table.assign(series(2000 + scrape)) for _ in leaving]
        for slot in leaving:
            table.free(slot)
        leaving = arriving
        young.update(arriving)
    assert min(young) >= 2000 - YOUNG_SLOTS
    assert len(table) <= 2000 + YOUNG_SLOTS


def test_free_slots_are_taken_when_there_are_many() -> None:
    table = Table("t")
    slots = [table.assign(series(number)) for number in range(2000)]
    for slot in slots[:1000]:
        table.free(slot)
    taken = [table.assign(series(2000 + number)) for number in range(1500)]
    assert len(set(taken)) == len(taken)
    assert len(table) <= 2000 + 1000
    assert table.series.count(None) <= len(table) / 8


def test_a_free_slot_in_a_small_table_is_taken_at_once() -> None:
    table = Table("t")
    slots = [table.assign(series(number)) for number in range(10)]
    table.free(slots[3])
    table.free(slots[5])
    assert [table.assign(series(20 + number)) for number in range(3)] == [5, 3, 10]
