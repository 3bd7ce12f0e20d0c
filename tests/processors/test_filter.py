from __future__ import annotations

from array import array
from typing import Any

from trunkline.component.contract import PerSeries
from trunkline.component.matching import AttributeMatch, attributes_match
from trunkline.model import AttributeValue, Batch, Family, Resource, Series, Table, make_labels
from trunkline.processors.filter import FilterConfig, Match, MetricFilters, keeper


def series(name: str, family: str = "", **attributes: AttributeValue) -> Series:
    return Series(make_labels({"__name__": name}), Family(family or name), Resource(attributes))


def check(filters: MetricFilters, subject: Series, *, kept: bool) -> None:
    assert keeper(filters)(subject) is kept


def test_strict_names_are_equal_and_are_the_familys() -> None:
    include = MetricFilters(
        include=Match(match_type="strict", metric_names=["ecs.task.cpu.utilized", "latency"])
    )
    check(include, series("ecs.task.cpu.utilized"), kept=True)
    check(include, series("ECS.task.cpu.utilized"), kept=False)
    check(include, series("ecs.task.cpu.utilized.more"), kept=False)
    check(include, series("latency_bucket", family="latency"), kept=True)
    check(include, series("latency_bucket"), kept=False)


def test_regexp_searches_anywhere_unless_anchored() -> None:
    check(
        MetricFilters(include=Match(match_type="regexp", metric_names=["cpu"])),
        series("ecs.cpu.x"),
        kept=True,
    )
    check(
        MetricFilters(include=Match(match_type="regexp", metric_names=["^cpu"])),
        series("ecs.cpu.x"),
        kept=False,
    )
    check(
        MetricFilters(exclude=Match(match_type="regexp", metric_names=["c.u$"])),
        series("ecs.cpu"),
        kept=False,
    )


def test_include_acts_first_and_exclude_takes_from_what_is_left() -> None:
    filters = MetricFilters(
        include=Match(match_type="strict", metric_names=["a", "b"]),
        exclude=Match(match_type="strict", metric_names=["b"]),
    )
    check(filters, series("a"), kept=True)
    check(filters, series("b"), kept=False)
    check(filters, series("c"), kept=False)


def test_sections_that_name_nothing_filter_nothing() -> None:
    check(MetricFilters(), series("a"), kept=True)
    check(MetricFilters(include=Match(), exclude=Match()), series("a"), kept=True)


def test_resource_attributes_are_a_stage_of_their_own() -> None:
    web = [AttributeMatch(key="service", value="web")]
    include = MetricFilters(include=Match(match_type="strict", resource_attributes=web))
    check(include, series("a", service="web"), kept=True)
    check(include, series("a", service="db"), kept=False)
    check(include, series("a"), kept=False)
    exclude = MetricFilters(exclude=Match(match_type="strict", metric_names=["a"], resource_attributes=web))
    check(exclude, series("b", service="web"), kept=False)  # names and attributes together act as an OR
    check(exclude, series("a", service="db"), kept=False)
    check(exclude, series("b", service="db"), kept=True)


def test_attribute_values_compare_with_their_type() -> None:
    def matches(wanted: Any, actual: AttributeValue, match_type: Any = "strict") -> bool:
        return attributes_match(match_type, [AttributeMatch(key="k", value=wanted)], {"k": actual})

    assert matches("1", "1")
    assert not matches("1", 1)
    assert not matches(1, True)
    assert matches(None, "anything")
    assert matches("^t", True, "regexp")
    assert matches("^0.5$", 0.5, "regexp")


def test_what_is_wrong_is_named() -> None:
    def problems(**section: Any) -> list[str]:
        config = FilterConfig(metrics=MetricFilters(include=Match(**section)))
        return [f"{path}: {message}" for path, message in config.check()]

    assert problems(metric_names=["a"]) == [
        "metrics::include::match_type: unrecognized match_type: '', valid types are: [regexp strict]"
    ]
    assert problems(match_type="strict", resource_attributes=[AttributeMatch()]) == [
        "metrics::include::resource_attributes::0: can't have empty key in the list of attributes"
    ]
    assert problems(match_type="regexp", resource_attributes=[AttributeMatch(key="k", value=3)]) == [
        'metrics::include::resource_attributes::0: match_type=regexp for "k" only supports Str, but found Int'
    ]
    [wrong] = problems(match_type="regexp", metric_names=["a(b"])
    assert wrong.startswith("metrics::include::metric_names::0: error parsing regexp: missing ): a(b")
    assert problems(match_type="regexp", metric_names=["(?=x)"])  # look-around is not RE2
    assert problems(match_type="strict", metric_names=["a(b"]) == []


class Seen:
    """A consumer that remembers which series arrived."""

    def __init__(self) -> None:
        self.names: list[list[str]] = []
        self.closed = False

    def open(self, table: Table) -> Seen:
        del table
        return self

    def consume(self, batch: Batch) -> None:
        found = [batch.table.series[slot] for slot in batch.slots()]
        self.names.append([one.name for one in found if one is not None])

    def close(self) -> None:
        self.closed = True


def test_a_series_is_decided_once_and_again_only_when_its_slot_changes() -> None:
    decided: list[str] = []
    seen = Seen()

    def decide(one: Series) -> Series | None:
        decided.append(one.name)
        return one if one.name != "b" else None

    table = Table("target")
    for name in "abc":
        table.assign(series(name))
    inlet = PerSeries(decide, seen).open(table)
    values = array("d", [1, 2, 3])
    inlet.consume(Batch(table, 1, values, table.take_changes()))
    inlet.consume(Batch(table, 2, values, table.take_changes()))
    table.free(0)
    table.assign(series("d"))
    inlet.consume(Batch(table, 3, values, table.take_changes()))
    inlet.close()
    assert seen.names == [["a", "c"], ["a", "c"], ["d", "c"]]
    assert decided == ["a", "b", "c", "d"]
    assert seen.closed
