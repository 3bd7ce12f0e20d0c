from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from tests.processors.scrapes import Run, Source, Values, configured, problems

from trunkline import __version__
from trunkline.model import STALE, Batch, Kind, Origin, Resource
from trunkline.testing import Recorder, context_for


def run(*transforms: dict[str, Any], source: Source | None = None) -> Run:
    return Run("metricstransform", {"transforms": list(transforms)}, source)


def update(include: str, *operations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"include": include, "action": "update", "operations": list(operations), **more}


def check(
    transform: dict[str, Any], given: Values, expected: Values, kinds: dict[str, Kind] | None = None
) -> None:
    assert run(transform, source=Source(kinds)).give(given) == expected  # type: ignore[arg-type]


def test_rename() -> None:
    check(update("a", new_name="b"), {"a{x=1}": 1, "ab": 2}, {"b{x=1}": 1, "ab": 2})
    check(update("^a.", match_type="regexp", new_name="b"), {"a": 1, "ab": 2}, {"a": 1, "b": 2})
    regexp = update(r"^system\.(?P<what>\w+)\.(.*)$", match_type="regexp")
    check(
        {**regexp, "new_name": "sys_$${2}_$what_x"}, {"system.cpu.time": 1}, {"sys_time_": 1}
    )  # `what_x` is no group
    check({**regexp, "new_name": "sys_$${what}_$2$$"}, {"system.cpu.time": 1}, {"sys_cpu_time$": 1})


def test_rename_keeps_the_parts_of_a_metric() -> None:
    given: Values = {"h_bucket{le=1.0}": 1, "h_bucket{le=+Inf}": 2, "h_sum": 3, "h_count": 2, "c_total": 5}
    check(
        update("^[hc].*", match_type="regexp", new_name="new_$0"),
        given,
        {
            "new_h_bucket{le=1.0}": 1,
            "new_h_bucket{le=+Inf}": 2,
            "new_h_sum": 3,
            "new_h_count": 2,
            "new_c_total": 5,
        },
        {"h": Kind.HISTOGRAM, "c_total": Kind.COUNTER},
    )


def test_labels() -> None:
    add = {"action": "add_label", "new_label": "v", "new_value": "{{version}}"}
    check(update("a", add), {"a{x=1}": 1, "b": 2}, {f"a{{v={__version__},x=1}}": 1, "b": 2})
    rename = {"action": "update_label", "label": "x", "new_label": "y"}
    check(update("a", rename), {"a{x=1}": 1, "a{z=1}": 2}, {"a{y=1}": 1, "a{z=1}": 2})
    values = {"action": "update_label", "label": "x", "value_actions": [{"value": "1", "new_value": "one"}]}
    check(update("a", values), {"a{x=1}": 1, "a{x=2}": 2}, {"a{x=one}": 1, "a{x=2}": 2})
    check(update("a", {**values, "new_label": "y"}), {"a{x=1}": 1}, {"a{y=one}": 1})
    delete = {"action": "delete_label_value", "label": "x", "label_value": "1"}
    check(update("a", delete), {"a{x=1}": 1, "a{x=2}": 2, "b{x=1}": 3}, {"a{x=2}": 2, "b{x=1}": 3})


def test_job_instance_and_le_are_not_touched() -> None:
    given: Values = {"h_bucket{instance=i,job=j,le=1.0,x=1}": 1, "h_bucket{instance=i,job=j,le=1.0,x=2}": 2}
    aggregate = {"action": "aggregate_labels", "label_set": [], "aggregation_type": "sum"}
    check(update("h", aggregate), given, {"h_bucket{instance=i,job=j,le=1.0}": 3}, {"h": Kind.HISTOGRAM})
    rename = {"action": "update_label", "label": "le", "new_label": "y"}
    check(update("h", rename), given, given, {"h": Kind.HISTOGRAM})


@pytest.mark.parametrize(
    ("how", "expected"),
    [("sum", 7.0), ("mean", 3.5), ("min", 3.0), ("max", 4.0), ("count", 2.0), ("median", 3.5)],
)
def test_aggregate_labels(how: str, expected: float) -> None:
    operation = {"action": "aggregate_labels", "label_set": ["x"], "aggregation_type": how}
    one = 1.0 if how == "count" else 9.0
    given: Values = {"a{x=1,y=1}": 3, "a{x=1,y=2}": 4, "a{x=2,y=1}": 9, "b{x=1,y=1}": 5}
    check(update("a", operation), given, {"a{x=1}": expected, "a{x=2}": one, "b{x=1,y=1}": 5})


def test_aggregate_label_values() -> None:
    operation = {
        "action": "aggregate_label_values",
        "label": "state",
        "aggregated_values": ["user", "system"],
        "new_value": "used",
        "aggregation_type": "sum",
    }
    given: Values = {"a{state=user}": 1, "a{state=system}": 2, "a{state=idle}": 4, "a": 8}
    check(update("a", operation), given, {"a{state=used}": 3, "a{state=idle}": 4, "a": 8})
    check(
        update("a", operation),
        {**given, "a{state=used}": 16},
        {"a{state=used}": 19, "a{state=idle}": 4, "a": 8},
    )


def test_histograms_are_summed_bound_by_bound_whatever_is_asked() -> None:
    operation = {"action": "aggregate_labels", "label_set": [], "aggregation_type": "max"}
    given: Values = {
        "h_bucket{le=1.0,x=1}": 1,
        "h_bucket{le=+Inf,x=1}": 2,
        "h_sum{x=1}": 3,
        "h_count{x=1}": 2,
        "h_bucket{le=1.0,x=2}": 10,
        "h_bucket{le=+Inf,x=2}": 20,
        "h_sum{x=2}": 30,
        "h_count{x=2}": 20,
    }
    expected: Values = {"h_bucket{le=1.0}": 11, "h_bucket{le=+Inf}": 22, "h_sum": 33, "h_count": 22}
    check(update("h", operation), given, expected, {"h": Kind.HISTOGRAM})


def test_summaries_cannot_be_aggregated(caplog: pytest.LogCaptureFixture) -> None:
    operation = {"action": "aggregate_labels", "label_set": [], "aggregation_type": "sum"}
    one = run(update("s", operation), source=Source({"s": Kind.SUMMARY}))
    for _ in range(2):
        assert one.give({"s{quantile=0.5,x=1}": 1, "s_sum{x=1}": 2, "b": 1}) == {"b": 1}
    assert [record.message for record in caplog.records] == [
        "metricstransform: s is a summary, which cannot be aggregated; it is dropped"
    ]


def test_scale_and_toggle() -> None:
    scale = {"action": "experimental_scale_value", "experimental_scale": 1000}
    check(update("a", scale), {"a{x=1}": 1.5, "b": 2}, {"a{x=1}": 1500, "b": 2})
    toggle = {"action": "toggle_scalar_data_type"}
    check(update("a", toggle), {"a": -1.9, "b": 2.5}, {"a": -1, "b": 2.5})
    check(update("a", scale, toggle), {"a": 0.0019}, {"a": 1})
    check(update("a", toggle), {"a": math.inf}, {"a": math.inf})


def test_scaling_a_histogram_scales_its_bounds_and_sum() -> None:
    scale = {"action": "experimental_scale_value", "experimental_scale": 1000}
    given: Values = {"h_bucket{le=0.5}": 1, "h_bucket{le=+Inf}": 2, "h_sum": 3, "h_count": 2}
    expected: Values = {"h_bucket{le=500.0}": 1, "h_bucket{le=+Inf}": 2, "h_sum": 3000, "h_count": 2}
    check(update("h", scale), given, expected, {"h": Kind.HISTOGRAM})


def test_insert_leaves_the_original_and_copies_what_matches() -> None:
    scale = {"action": "experimental_scale_value", "experimental_scale": 2}
    insert = {"include": "a", "action": "insert", "new_name": "b", "operations": [scale]}
    check(insert, {"a{x=1}": 1, "a{x=2}": 2}, {"a{x=1}": 1, "a{x=2}": 2, "b{x=1}": 2, "b{x=2}": 4})
    labels = {**insert, "experimental_match_labels": {"x": "1"}}
    check(labels, {"a{x=1}": 1, "a{x=2}": 2}, {"a{x=1}": 1, "a{x=2}": 2, "b{x=1}": 2})


def test_an_inserted_copy_has_the_value_from_before_a_later_change() -> None:
    scale = update("a", {"action": "experimental_scale_value", "experimental_scale": 10})
    insert = {"include": "a", "action": "insert", "new_name": "b"}
    assert run(insert, scale).give({"a": 1}) == {"a": 10, "b": 1}
    assert run(scale, insert).give({"a": 1}) == {"a": 10, "b": 10}


def test_match_labels_restrict_to_points_and_whole_metrics() -> None:
    matching = {"experimental_match_labels": {"x": "1"}}
    rename = update("a", new_name="b", **matching)
    check(rename, {"a{x=1,y=1}": 1, "a{x=1,y=2}": 2}, {"b{x=1,y=1}": 1, "b{x=1,y=2}": 2})
    check(rename, {"a{x=1}": 1, "a{x=2}": 2}, {"a{x=1}": 1, "a{x=2}": 2})  # only as a whole
    scale = update("a", {"action": "experimental_scale_value", "experimental_scale": 10}, **matching)
    check(scale, {"a{x=1}": 1, "a{x=2}": 2}, {"a{x=1}": 10, "a{x=2}": 2})
    absent = update("a", new_name="b", experimental_match_labels={"x": ""})
    check(absent, {"a{y=1}": 1}, {"b{y=1}": 1})
    regexp = update("a", new_name="b", match_type="regexp", experimental_match_labels={"x": "^."})
    check(regexp, {"a{x=5}": 1}, {"b{x=5}": 1})


def test_a_rename_that_ends_leaves_a_stale_marker() -> None:
    one = run(update("a", new_name="b", experimental_match_labels={"x": "1"}))
    assert one.give({"a{x=1}": 1}) == {"b{x=1}": 1}
    assert one.give({"a{x=1}": 1, "a{x=2}": 2}) == {"a{x=1}": 1, "a{x=2}": 2, "b{x=1}": "stale"}
    assert one.give({"a{x=1}": 1, "a{x=2}": 2}) == {"a{x=1}": 1, "a{x=2}": 2}


COMBINE = {
    "include": r"^web/(?P<method>\w+) Requests (\d)$",
    "match_type": "regexp",
    "action": "combine",
    "new_name": "requests",
    "submatch_case": "lower",
}


def test_combine_makes_labels_of_the_groups() -> None:
    given: Values = {"web/Get Requests 1{h=1}": 1, "web/Post Requests 1{h=1}": 2, "other": 3}
    check(
        COMBINE, given, {"requests{$2=1,h=1,method=get}": 1, "requests{$2=1,h=1,method=post}": 2, "other": 3}
    )
    strict = {"include": "^x.$", "match_type": "regexp", "action": "combine", "new_name": "x"}
    check({**strict, "aggregation_type": "sum"}, {"xa": 1, "xb": 2}, {"x": 3})
    check(strict, {"xa": 1, "xb": 2}, {"x": 1})  # upstream's first, where it is not said how


def test_combine_refuses_what_does_not_belong_together(caplog: pytest.LogCaptureFixture) -> None:
    strict = {
        "include": "^x.$",
        "match_type": "regexp",
        "action": "combine",
        "new_name": "x",
        "aggregation_type": "sum",
    }

    def refused(why: str, given: Values, **source: Any) -> None:
        caplog.clear()
        one = run(strict, source=Source(**source))
        assert one.give(given) == given  # type: ignore[arg-type]
        assert one.give(given) == given  # type: ignore[arg-type]
        assert [record.message for record in caplog.records] == [
            f"metricstransform: metrics cannot be combined as they {why}; they stay as they are"
        ]

    refused("are of different types: xa and xb", {"xa": 1, "xb": 2}, kinds={"xa": Kind.COUNTER})
    refused("have different units: xa and xb", {"xa": 1, "xb": 2}, units={"xa": "By"})
    refused("have different attributes: xa and xb", {"xa": 1, "xb{x=1}": 2})
    refused("are summaries: xa", {"xa{quantile=0.5}": 1}, kinds={"xa": Kind.SUMMARY})


def test_combine_finds_metrics_under_the_names_they_have_by_then() -> None:
    rename = update("^old_(.*)", match_type="regexp", new_name="new_$1")
    combine = {
        "include": "^new_",
        "match_type": "regexp",
        "action": "combine",
        "new_name": "x",
        "aggregation_type": "sum",
    }
    one = run(rename, combine)
    assert one.give({"old_a": 1, "new_b": 2}) == {"x": 3}
    assert one.give({"old_a": 1, "new_b": 2, "old_c": 4}) == {"x": 7}
    assert one.give({"old_a": 1}) == {"x": 1}


def test_group_gives_a_resource_of_its_own() -> None:
    group = {
        "include": "^k8s",
        "match_type": "regexp",
        "action": "group",
        "group_resource_labels": {"type": "pod"},
    }
    one = run(group, source=Source(resource=Resource({"a": 1}), origin=Origin.OPENTELEMETRY))
    one.give({"k8s.pod": 1, "other": 2})
    assert {series.name: dict(series.resource.attributes) for series in one.series} == {
        "k8s.pod": {"a": 1, "type": "pod"},
        "other": {"a": 1},
    }


SUM = update("a", {"action": "aggregate_labels", "label_set": [], "aggregation_type": "sum"})


def test_staleness_of_an_aggregate_is_that_of_its_last_member() -> None:
    one = run(SUM)
    assert one.give({"a{x=1}": 1, "a{x=2}": 2}) == {"a": 3}
    assert one.give({"a{x=1}": 5}) == {"a": 5}
    assert one.give({"a{x=1}": 6, "b": 1}) == {"a": 6, "b": 1}
    assert one.give({"b": 1}) == {"a": "stale", "b": 1}
    assert one.give({"b": 1}) == {"b": 1}
    assert one.give({"a{x=9}": 4, "b": 1}) == {"a": 4, "b": 1}


def test_nan_is_a_value_and_stays_one() -> None:
    for how in ("sum", "mean", "min", "max", "median"):
        operation = {"action": "aggregate_labels", "label_set": [], "aggregation_type": how}
        one = run(update("a", operation))
        assert one.give({"a{x=1}": math.nan, "a{x=2}": 1}) == {"a": "nan"}
        assert one.give({"a{x=1}": STALE, "a{x=2}": 1}) == {"a": 1}
        assert one.give({"a{x=1}": STALE, "a{x=2}": STALE}) == {"a": "stale"}
    scale = run(update("a", {"action": "experimental_scale_value", "experimental_scale": 2}))
    assert scale.give({"a": math.nan, "a{x=1}": STALE, "b": STALE}) == {
        "a": "nan",
        "a{x=1}": "stale",
        "b": "stale",
    }


def test_columns_of_growing_and_shrinking_sources_stay_right() -> None:
    scale = update("b", {"action": "experimental_scale_value", "experimental_scale": 2})
    one = run(SUM, scale, update("c", new_name="d"))
    for members in (1, 3, 200, 5, 800, 2, 900):
        given: Values = {f"a{{x={number}}}": 1 for number in range(members)}
        given |= {"b": members, "c{x=1}": 1} | {f"c{{y={number}}}": 2 for number in range(members)}
        found = {name: value for name, value in one.give(given).items() if value != "stale"}  # type: ignore[arg-type]
        expected: Values = {"a": members, "b": 2 * members, "d{x=1}": 1}
        assert found == expected | {f"d{{y={number}}}": 2 for number in range(members)}


def test_own_timestamps_and_further_samples() -> None:
    one = run(
        SUM,
        {"include": "b", "action": "insert", "new_name": "c"},
        update("d", {"action": "toggle_scalar_data_type"}),
    )
    given = {"a{x=1}": 1, "a{x=2}": 2, "b": 3, "d": 4.5}
    extras = [("b", 7.0, 60), ("d", 8.5, 61)]
    assert one.give(given, stamps={"a{x=1}": 50, "a{x=2}": 70, "b": 40}, extras=extras) == {
        "a": 3,
        "b": 3,
        "c": 3,
        "d": 4,
    }
    batch = one.seen.batches[-1]
    stamps = {sample.series.name: sample.timestamp_ms for sample in batch.samples}
    assert stamps == {"a": 70, "b": 40, "c": 40, "d": 1000}
    table = one.seen.opened[0]
    named = {
        (str(found.name), extra.value, extra.timestamp_ms)
        for extra in batch.extras
        if (found := table.series[extra.slot])
    }
    assert named == {("b", 7.0, 60), ("c", 7.0, 60), ("d", 8.0, 61)}


def test_series_that_become_one_are_refused_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    one = run(
        update(
            "a",
            {"action": "update_label", "label": "y", "new_label": "x"},
            {"action": "toggle_scalar_data_type"},
        )
    )
    for _ in range(2):
        assert one.give({"a{x=1}": 1, "a{y=1}": 2}) == {"a{x=1}": 1}
    assert len(caplog.records) == 1
    assert "two series become {'__name__': 'a', 'x': '1'}" in caplog.text


class Kept(Recorder):
    def consume(self, batch: Batch) -> None:
        self.values = batch.values
        super().consume(batch)


def test_what_changes_no_value_passes_the_columns_on_untouched() -> None:
    label = {"action": "add_label", "new_label": "x", "new_value": "1"}
    config = configured("metricstransform", {"transforms": [update("a", new_name="b"), update("b", label)]})
    source, seen = Source(), Kept()
    batch = source.scrape({"a": 1, "c": 2})
    config.build(context_for("metricstransform"), seen).open(source.table).consume(batch)
    assert seen.values is batch.values
    assert seen.batches[0].value("b", x="1") == 1


def test_settings_are_checked_in_upstreams_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def check_problem(transform: dict[str, Any], *expected: str) -> None:
        assert problems("metricstransform", {"transforms": [transform]}) == list(expected)

    check_problem({"action": "update"}, 'transforms::0: missing required field "include"')
    check_problem(
        {"include": "a"}, 'transforms::0::action: "action" must be in [insert update combine group]'
    )
    check_problem(
        {"include": "a", "action": "insert"},
        'transforms::0: missing required field "new_name" while "action" is insert',
    )
    check_problem(
        {"include": "a", "action": "group"},
        'transforms::0: missing required field "group_resource_labels" while "action" is group',
    )
    check_problem(
        update("a", {"action": "scale"}),
        'transforms::0::operations::0::action: operation 1: "action" must be in [add_label update_label '
        "delete_label_value toggle_scalar_data_type experimental_scale_value aggregate_labels aggregate_label_values]",
    )
    check_problem(
        update("a", {"action": "add_label", "new_label": "x"}),
        'transforms::0::operations::0: operation 1: missing required field "new_value" while "action" is add_label',
    )
    check_problem(
        update("a", {"action": "aggregate_labels", "aggregation_type": "avg"}),
        'transforms::0::operations::0::aggregation_type: operation 1: "aggregation_type" must be in '
        "[sum mean min max count median]",
    )
    [wrong] = problems("metricstransform", {"transforms": [update("(", match_type="regexp")]})
    assert wrong.startswith('transforms::0::include: "include", error parsing regexp: missing )')
    [unknown] = problems("metricstransform", {"transforms": [update("a", metric_name="b")]})
    assert "has invalid keys: metric_name" in unknown
