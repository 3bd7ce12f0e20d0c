from __future__ import annotations

import logging
from array import array
from pathlib import Path
from typing import Any

import pytest

from trunkline.errors import ConfigError
from trunkline.exporters.debug import DebugConfig, LoggingConfig
from trunkline.exporters.debug.exporter import DebugExporter, OutputExporter, Sampler
from trunkline.model import STALE, Batch, Extra, Family, Kind, Resource, Series, Table, make_labels
from trunkline.testing import context_for

RESOURCE = Resource({"service.name": "shop", "n": 1}, {"aws_ecs_task_id": "t1"})


def table_of(*found: tuple[str, Family, dict[str, str]]) -> Table:
    table = Table("http://app/metrics")
    for name, family, labels in found:
        table.assign(Series(make_labels({"__name__": name, **labels}), family, RESOURCE))
    return table


def batch() -> Batch:
    hits = Family("hits_total", Kind.COUNTER, help="Requests.")
    table = table_of(
        ("hits_total", hits, {"code": "200", "job": "shop"}),
        ("hits_total", hits, {"code": "500", "job": "other"}),
        ("gone", Family("gone"), {}),
    )
    return Batch(table, 1_700_000_000_123, array("d", [1, 0.1, STALE]), table.take_changes())


def complex_batch() -> Batch:
    latency, size = Family("l", Kind.HISTOGRAM, "seconds"), Family("s", Kind.SUMMARY)
    table = table_of(
        ("l_bucket", latency, {"le": "+Inf"}),
        ("l_bucket", latency, {"le": "0.5"}),
        ("l_sum", latency, {}),
        ("l_count", latency, {}),
        ("l_created", latency, {}),
        ("s", size, {"quantile": "0.5"}),
        ("s_sum", size, {}),
        ("s_count", size, {}),
    )
    values = array("d", [5, 3, 2.25, 5, 1_600_000_000, 7, 9.5, 2])
    return Batch(table, 1_700_000_000_000, values, table.take_changes())


def shown(
    config: DebugConfig | LoggingConfig, caplog: pytest.LogCaptureFixture, one: Batch | None = None
) -> list[str]:
    caplog.clear()
    one = one or batch()
    with caplog.at_level(logging.INFO):
        inlet = config.build(context_for("debug")).open(one.table)
        inlet.consume(one)
        inlet.close()
    return caplog.records[0].getMessage().splitlines()


HEAD = 'Metrics {"source": "http://app/metrics", "resource metrics": 1, "metrics": 2, "data points": 3}'


def test_basic_counts(caplog: pytest.LogCaptureFixture) -> None:
    assert shown(DebugConfig(), caplog) == [HEAD]


def test_normal_has_a_line_for_each_data_point(caplog: pytest.LogCaptureFixture) -> None:
    expected = [
        HEAD,
        "ResourceMetrics #0 aws_ecs_task_id=t1 service.name=shop n=1",
        "ScopeMetrics #0",
        "hits_total{code=200} 1",
        "hits_total{code=500,job=other} 0.1",
        "gone{} stale",
    ]
    assert shown(DebugConfig(verbosity="Normal"), caplog) == expected
    assert shown(LoggingConfig(), caplog) == expected
    assert shown(LoggingConfig(loglevel="info"), caplog) == expected
    assert shown(DebugConfig(verbosity="normal"), caplog, complex_batch())[-2:] == [
        "l{} count=5 sum=2.25 le0.5=3 le+Inf=2",
        "s{} count=2 sum=9.5 q0.5=7",
    ]


def test_detailed_shows_everything(caplog: pytest.LogCaptureFixture) -> None:
    assert shown(LoggingConfig(loglevel="debug"), caplog)[1:24] == [
        "ResourceMetrics #0",
        "Resource SchemaURL: ",
        "Resource attributes:",
        "     -> aws_ecs_task_id: Str(t1)",
        "     -> service.name: Str(shop)",
        "     -> n: Int(1)",
        "ScopeMetrics #0",
        "ScopeMetrics SchemaURL: ",
        "InstrumentationScope  ",
        "Metric #0",
        "Descriptor:",
        "     -> Name: hits_total",
        "     -> Description: Requests.",
        "     -> Unit: ",
        "     -> DataType: Sum",
        "     -> IsMonotonic: true",
        "     -> AggregationTemporality: Cumulative",
        "NumberDataPoints #0",
        "Data point attributes:",
        "     -> code: Str(200)",
        "StartTimestamp: 1970-01-01 00:00:00 +0000 UTC",
        "Timestamp: 2023-11-14 22:13:20.123 +0000 UTC",
        "Value: 1.000000",
    ]
    lines = shown(DebugConfig(verbosity="detailed"), caplog, complex_batch())
    at = lines.index("HistogramDataPoints #0")
    assert lines[at : at + 9] == [
        "HistogramDataPoints #0",
        "StartTimestamp: 2020-09-13 12:26:40 +0000 UTC",
        "Timestamp: 2023-11-14 22:13:20 +0000 UTC",
        "Count: 5",
        "Sum: 2.25",
        "ExplicitBounds #0: 0.500000",
        "Buckets #0, Count: 3",
        "Buckets #1, Count: 2",
        "Metric #1",
    ]
    assert lines[-1] == "QuantileValue #0: Quantile 0.500000, Value 7.000000"
    assert shown(DebugConfig(verbosity="detailed"), caplog)[-1] == "Flags: NoRecordedValue"


def test_what_comes_from_a_target_cannot_break_it(caplog: pytest.LogCaptureFixture) -> None:
    one = batch()
    one.extras = [Extra(0, 5.0, 2**62)]
    lines = shown(DebugConfig(verbosity="detailed"), caplog, one)
    assert any(
        line.startswith("Timestamp: 4611686018427") and line.endswith("Value: 5.000000") for line in lines
    )


def test_a_log_that_leaves_it_out_costs_no_text(caplog: pytest.LogCaptureFixture) -> None:
    one = batch()
    with caplog.at_level(logging.WARNING, "trunkline"):
        inlet = DebugConfig(verbosity="detailed").build(context_for("debug")).open(one.table)
        inlet.consume(one)
    assert caplog.records == []


def test_what_changed_while_nothing_was_shown_is_known_later() -> None:
    family, texts = Family("m", Kind.GAUGE), list[str]()
    table = table_of(("m", family, {"a": "0"}))
    inlet = DebugExporter("normal", Sampler(1, 3, lambda: 0.0), texts.append).open(table)
    for number in range(1, 5):
        inlet.consume(Batch(table, 1000, array("d", [1.0] * number), table.take_changes()))
        table.assign(Series(make_labels({"__name__": "m", "a": str(number)}), family, RESOURCE))
    assert [text.count("m{a=") for text in texts] == [1, 4]


def test_a_second_shows_its_first_batches_then_every_nth() -> None:
    now = [10.0]
    sampler = Sampler(2, 3, lambda: now[0])
    assert [sampler.lets_through() for _ in range(8)] == [True, True, False, False, True, False, False, True]
    now[0] = 11.0
    assert sampler.lets_through()
    assert [Sampler(1, 0, lambda: 0.0).lets_through(), Sampler(0, 0, lambda: 0.0).lets_through()] == [
        True,
        False,
    ]


async def test_it_writes_elsewhere_when_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.txt"
    config = DebugConfig(use_internal_logger=False, output_paths=("stdout", str(path)))
    made = config.build(context_for("debug"))
    assert isinstance(made, OutputExporter)
    one = batch()
    async with made:
        made.open(one.table).consume(one)
    assert path.read_text() == capsys.readouterr().out == f"{HEAD}\n"
    made.open(one.table).consume(one)  # nobody listens any longer
    assert path.read_text() == f"{HEAD}\n"


async def test_an_output_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "none" / "out.txt"
    made = DebugConfig(use_internal_logger=False, output_paths=(str(path),)).build(context_for("debug"))
    assert isinstance(made, OutputExporter)
    with pytest.raises(ConfigError, match=r"cannot write .*: No such file or directory"):
        async with made:
            pass


def test_what_is_wrong_is_named() -> None:
    def problems(config: Any) -> list[str]:
        return [f"{path}: {message}" for path, message in config.check()]

    assert problems(DebugConfig(verbosity="loud")) == [
        'verbosity: verbosity level "loud" is not supported; use basic, normal or detailed'
    ]
    assert problems(LoggingConfig(loglevel="info", verbosity="basic")) == [
        "loglevel: 'loglevel' and 'verbosity' are incompatible. Use only 'verbosity' instead"
    ]
    assert problems(LoggingConfig(loglevel="loud")) == [
        'loglevel: unrecognized level: "loud"; use debug, info, warn or error'
    ]
    assert problems(DebugConfig(use_internal_logger=False, output_paths=("",))) == [
        "output_paths: an output path is empty; write stdout, stderr or the path of a file"
    ]
