from __future__ import annotations

import logging
from array import array
from typing import Any

import pytest

from trunkline.exporters.debug import DebugConfig, LoggingConfig, Sampler
from trunkline.model import STALE, Batch, Family, Kind, Resource, Series, Table, make_labels
from trunkline.testing import context_for


def batch() -> Batch:
    table = Table("http://app/metrics")
    resource = Resource({"service.name": "shop"}, {"aws_ecs_task_id": "t1"})
    for name, code in (("hits_total", "200"), ("hits_total", "500"), ("gone", "")):
        family = Family(name, Kind.COUNTER, help="Requests.")
        table.assign(Series(make_labels({"__name__": name, "code": code}), family, resource))
    return Batch(table, 1_700_000_000_123, array("d", [1, 0.1, STALE]), table.take_changes())


def logged(config: DebugConfig | LoggingConfig, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    one = batch()
    with caplog.at_level(logging.INFO):
        inlet = config.build(context_for("debug")).open(one.table)
        inlet.consume(one)
        inlet.close()
    return caplog.records[0].getMessage().splitlines()


HEAD = "Metrics source=http://app/metrics resource metrics: 1 metrics: 2 data points: 3"


def test_basic_counts(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(DebugConfig(), caplog) == [HEAD]


def test_normal_has_a_line_for_each_sample(caplog: pytest.LogCaptureFixture) -> None:
    expected = [HEAD, "hits_total{code=200} 1", "hits_total{code=500} 0.10000000000000001", "gone{} stale"]
    assert logged(DebugConfig(verbosity="Normal"), caplog) == expected
    assert logged(LoggingConfig(), caplog) == expected
    assert logged(LoggingConfig(loglevel="info"), caplog) == expected


def test_detailed_shows_everything(caplog: pytest.LogCaptureFixture) -> None:
    lines = logged(LoggingConfig(loglevel="debug"), caplog)
    assert "     -> service.name: 'shop'" in lines
    assert "     -> label aws_ecs_task_id: 't1'" in lines
    assert "Metric: hits_total DataType: counter Unit:  Description: Requests." in lines
    assert "     hits_total{code=200} Timestamp: 2023-11-14T22:13:20.123+00:00 Value: 1" in lines


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
