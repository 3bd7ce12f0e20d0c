"""Lines of OTLP JSON in real files, and what happens when the file system does not cooperate."""

from __future__ import annotations

import asyncio
import json
import os
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trunkline.component.contract import Context
from trunkline.errors import ConfigError
from trunkline.exporters.file.config import FileConfig, GroupByConfig, RotationConfig
from trunkline.exporters.file.exporter import FileExporter
from trunkline.exporters.file.lines import SourceLines
from trunkline.exporters.file.rotation import LineFile
from trunkline.model import (
    NAN,
    STALE,
    Batch,
    Extra,
    Family,
    Kind,
    Origin,
    Resource,
    Series,
    Table,
    make_labels,
)
from trunkline.testing import context_for

RESOURCE = Resource({"service.name": "app", "n": 1, "on": True, "share": 0.5}, {"task": "t"})


def table_of(*found: tuple[str, Family, dict[str, str]], resource: Resource = RESOURCE) -> Table:
    table = Table("source")
    for name, family, labels in found:
        table.assign(Series(make_labels({"__name__": name, **labels}), family, resource))
    return table


def line_of(table: Table, values: list[float], lines: SourceLines | None = None, **options: Any) -> Any:
    one = Batch(table, 1_700_000_000_123, array("d", values), table.take_changes(), **options)
    line, points = (lines or SourceLines()).line(one)
    assert line.endswith(b"\n")
    document = json.loads(line)
    metrics = document["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    kinds = ("gauge", "sum", "histogram", "summary")
    found = [metric[kind]["dataPoints"] for metric in metrics for kind in kinds if kind in metric]
    assert sum(map(len, found)) == points
    return document


def metrics_of(document: Any) -> Any:
    return document["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]


def test_a_line_is_what_the_opentelemetry_collector_writes() -> None:
    hits = Family("hits_total", Kind.COUNTER, help='All "hits".')
    heat = Family("heat_celsius", Kind.GAUGE, "celsius")
    table = table_of(
        ("hits_total", hits, {"code": "200", "job": "app"}), ("heat_celsius", heat, {"where": "ö"})
    )
    assert line_of(table, [3.0, -0.5]) == {
        "resourceMetrics": [
            {
                "resource": {
                    "attributes": [
                        {"key": "task", "value": {"stringValue": "t"}},
                        {"key": "service.name", "value": {"stringValue": "app"}},
                        {"key": "n", "value": {"intValue": "1"}},
                        {"key": "on", "value": {"boolValue": True}},
                        {"key": "share", "value": {"doubleValue": 0.5}},
                    ]
                },
                "scopeMetrics": [
                    {
                        "scope": {},
                        "metrics": [
                            {
                                "name": "hits_total",
                                "description": 'All "hits".',
                                "sum": {
                                    "dataPoints": [
                                        {
                                            "attributes": [{"key": "code", "value": {"stringValue": "200"}}],
                                            "timeUnixNano": "1700000000123000000",
                                            "asDouble": 3,
                                        }
                                    ],
                                    "aggregationTemporality": 2,
                                    "isMonotonic": True,
                                },
                                "metadata": [{"key": "prometheus.type", "value": {"stringValue": "counter"}}],
                            },
                            {
                                "name": "heat_celsius",
                                "unit": "Cel",
                                "gauge": {
                                    "dataPoints": [
                                        {
                                            "attributes": [{"key": "where", "value": {"stringValue": "ö"}}],
                                            "timeUnixNano": "1700000000123000000",
                                            "asDouble": -0.5,
                                        }
                                    ]
                                },
                                "metadata": [{"key": "prometheus.type", "value": {"stringValue": "gauge"}}],
                            },
                        ],
                    }
                ],
            }
        ]
    }


def test_the_series_of_a_histogram_and_of_a_summary_are_one_point_each() -> None:
    latency, size = Family("l", Kind.HISTOGRAM, "seconds"), Family("s", Kind.SUMMARY)
    table = table_of(
        ("l_bucket", latency, {"le": "+Inf"}),
        ("l_bucket", latency, {"le": "0.5"}),
        ("l_bucket", latency, {"le": "0.1"}),
        ("l_sum", latency, {}),
        ("l_count", latency, {}),
        ("l_created", latency, {}),
        ("s", size, {"quantile": "0.99"}),
        ("s", size, {"quantile": "0.5"}),
        ("s_sum", size, {}),
        ("s_count", size, {}),
    )
    histogram, summary = metrics_of(line_of(table, [7, 5, 2, 1.5, 7, 1.6e9, 9.5, 4.5, 14, 2]))
    assert histogram["unit"] == "s"
    assert histogram["histogram"] == {
        "dataPoints": [
            {
                "startTimeUnixNano": "1600000000000000000",
                "timeUnixNano": "1700000000123000000",
                "count": "7",
                "sum": 1.5,
                "bucketCounts": ["2", "3", "2"],
                "explicitBounds": [0.1, 0.5],
            }
        ],
        "aggregationTemporality": 2,
    }
    assert summary["summary"]["dataPoints"] == [
        {
            "timeUnixNano": "1700000000123000000",
            "count": "2",
            "sum": 14,
            "quantileValues": [{"quantile": 0.5, "value": 4.5}, {"quantile": 0.99, "value": 9.5}],
        }
    ]


def test_stale_missing_odd_and_further_samples() -> None:
    table = table_of(*((name, Family(name), {}) for name in "abcde"))
    present = bytearray(b"\1\1\1\1\0")
    document = line_of(
        table,
        [STALE, NAN, float("-inf"), 1.0, 9.0],
        present=present,
        extras=[Extra(3, 2.0, 1_700_000_000_500)],
    )
    points = [metric["gauge"]["dataPoints"] for metric in metrics_of(document)]
    stamp = {"timeUnixNano": "1700000000123000000"}
    assert points == [
        [{**stamp, "flags": 1}],
        [{**stamp, "asDouble": "NaN"}],
        [{**stamp, "asDouble": "-Infinity"}],
        [{**stamp, "asDouble": 1}, {"timeUnixNano": "1700000000500000000", "asDouble": 2}],
    ]


def test_a_beginning_of_which_nothing_else_is_left_is_a_metric_of_its_own() -> None:
    hits, latency = Family("hits_total", Kind.COUNTER), Family("l", Kind.HISTOGRAM)
    table = table_of(
        ("hits_created", hits, {"code": "200"}),
        ("hits_total", hits, {"code": "500"}),
        ("l_created", latency, {}),
        ("last", Family("last", Kind.GAUGE), {}),
    )
    whole, hits_created, created, last = metrics_of(line_of(table, [5, 6, 7, 8]))
    assert [one["name"] for one in (whole, hits_created, created, last)] == [
        "hits_total",
        "hits_created",
        "l_created",
        "last",
    ]
    [point] = hits_created["gauge"]["dataPoints"]
    assert (point["asDouble"], point["attributes"][0]["value"]) == (5, {"stringValue": "200"})
    assert [point["asDouble"] for point in created["gauge"]["dataPoints"]] == [7]
    assert [point["asDouble"] for point in whole["sum"]["dataPoints"]] == [6]


def test_a_further_sample_may_be_a_stale_marker() -> None:
    table = table_of(("a", Family("a"), {}))
    [metric] = metrics_of(line_of(table, [1], extras=[Extra(0, STALE, 1_700_000_000_124)]))
    assert [point.get("flags") for point in metric["gauge"]["dataPoints"]] == [None, 1]


def test_many_further_samples_do_not_take_the_square_of_their_time() -> None:
    count = 20_000
    table = table_of(*((f"m{index}", Family(f"m{index}"), {}) for index in range(count)))
    extras = [Extra(slot, 1.0, 1_700_000_000_100) for slot in range(count)]
    began = time.process_time()
    document = line_of(table, [0.0] * count, extras=extras)
    assert time.process_time() - began < 4
    assert len(metrics_of(document)) == count


def test_opentelemetrys_own_metrics_stay_what_they_are() -> None:
    family = Family("container.cpu.usage", Kind.GAUGE, "Nanoseconds", origin=Origin.OPENTELEMETRY)
    [metric] = metrics_of(line_of(table_of(("container.cpu.usage", family, {})), [1.0]))
    assert (metric["name"], metric["unit"]) == ("container.cpu.usage", "Nanoseconds")
    assert "metadata" not in metric


def test_series_that_come_later_are_in_later_lines() -> None:
    table, lines = table_of(("a", Family("a"), {})), SourceLines()
    assert len(metrics_of(line_of(table, [1.0], lines))) == 1
    table.assign(Series(make_labels({"__name__": "b"}), Family("b"), RESOURCE))
    assert len(metrics_of(line_of(table, [1.0, 2.0], lines))) == 2
    table.free(0)
    assert [metric["name"] for metric in metrics_of(line_of(table, [1.0, 2.0], lines))] == ["b"]
    nothing = Batch(table, 1, array("d", [0, 0]), table.take_changes(), bytearray(2))
    assert lines.line(nothing) == (b"", 0)


def exporter(path: Path | str, **settings: Any) -> tuple[FileExporter, Context]:
    context = context_for("file")
    made = FileConfig(path=str(path), **settings).build(context)
    assert isinstance(made, FileExporter)
    return made, context


def push(made: FileExporter, times: int = 1) -> None:
    table = table_of(("a", Family("a"), {}), ("b", Family("b"), {}))
    inlet = made.open(table)
    for _ in range(times):
        inlet.consume(Batch(table, 1_700_000_000_000, array("d", [1, 2]), table.take_changes()))
    inlet.close()


async def test_a_file_is_emptied_at_the_start_unless_it_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    for append, lines in ((False, 2), (False, 2), (True, 4)):
        made, context = exporter(path, append=append)
        async with made:
            push(made, 2)
        assert [len(metrics_of(json.loads(line))) for line in path.read_text().splitlines()] == [2] * lines
        assert context.metrics.delivered.values == {("file",): 4.0}


async def test_lines_are_written_in_intervals(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    made, _ = exporter(path, flush_interval=0.05)
    async with made:
        push(made)
        assert path.read_bytes() == b""
        async with asyncio.timeout(5):
            while not path.read_bytes():  # noqa: ASYNC110 (a file tells nobody)
                await asyncio.sleep(0.01)


async def test_a_folder_is_made_when_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "out.json"
    made, _ = exporter(path)
    with pytest.raises(ConfigError) as raised:
        async with made:
            pass
    assert str(raised.value) == (
        f"exporters::file::path: cannot write {path}: No such file or directory "
        "(the folder must be there and writable for this user; create_directory: true makes it)"
    )
    made, _ = exporter(path, create_directory=True, directory_permissions="0700")
    async with made:
        push(made)
    assert path.stat().st_size > 0
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_what_cannot_be_written_is_counted_and_nothing_ends(caplog: pytest.LogCaptureFixture) -> None:
    made, context = exporter("/dev/full")
    async with made:
        for _ in range(2):
            push(made)
            made.flush()
    assert context.metrics.refused.values == {("file", "file"): 4.0}
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == (
        "file: 2 samples given up: cannot write /dev/full: No space left on device; trying on"
    )


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond `size` fail, as they do on a disk that fills up in the middle of a line."""
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    file = LineFile(FileConfig(path=str(path)))
    file.open()
    file.write(b"first\n")
    with file_size_limit(10), pytest.raises(OSError, match="File too large"):
        file.write(b"second line\n")
    file.write(b"third\n")
    file.close()
    assert path.read_text() == "first\nthird\n"


def test_a_full_file_is_renamed_and_old_ones_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    (tmp_path / "out-other.json").write_text("somebody else's")
    (tmp_path / "out-2001-01-01T00-00-00.000.json").write_text("old")
    file = LineFile(FileConfig(path=str(path), rotation=RotationConfig(max_megabytes=1, max_backups=2)))
    file.open()
    line = b"x" * 600_000 + b"\n"
    for _ in range(4):
        file.write(line)
    file.close()
    assert path.stat().st_size == len(line)
    kept = sorted(found.name for found in tmp_path.iterdir())
    assert len(kept) == 4
    assert "out-2001-01-01T00-00-00.000.json" not in kept
    assert "out-other.json" in kept


def test_old_files_are_removed_by_age(tmp_path: Path) -> None:
    path = tmp_path / "out"
    (tmp_path / "out-2001-01-01T00-00-00.000").write_text("old")
    rotation = RotationConfig(max_megabytes=1, max_days=3, localtime=True)
    file = LineFile(FileConfig(path=str(path), rotation=rotation))
    file.open()
    for _ in range(2):
        file.write(b"x" * 1024 * 1024)
    file.close()
    names = sorted(found.name for found in tmp_path.iterdir())
    assert len(names) == 2
    assert "out-2001-01-01T00-00-00.000" not in names


def test_a_rotated_file_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("before\n")
    file = LineFile(FileConfig(path=str(path), rotation=RotationConfig()))
    file.open()
    file.write(b"after\n")
    file.close()
    assert path.read_text() == "before\nafter\n"


@pytest.mark.skipif(os.geteuid() != 0 and not os.access("/dev/full", os.W_OK), reason="needs /dev/full")
def test_nothing_waits_without_end() -> None:
    made, context = exporter("/dev/full")
    push(made, 5000)
    assert context.metrics.refused.total() > 0


def test_what_is_wrong_with_the_settings_is_named() -> None:
    def problems(**settings: Any) -> list[str]:
        config = FileConfig(**{"path": "x", **settings})
        return [f"{path}: {message}" for path, message in config.check()]

    assert problems() == []
    assert problems(path="") == ["path: path must be non-empty"]
    assert problems(format="proto") == ["format: proto is not supported; write json"]
    assert problems(compression="zstd") == [
        "compression: zstd is not supported: the collector brings no zstd; take the key out"
    ]
    assert problems(append=True, rotation=RotationConfig(max_days=-1)) == [
        "append: append and rotation enabled at the same time is not supported",
        "rotation::max_days: must not be negative",
    ]
    assert problems(group_by=GroupByConfig(enabled=True)) == [
        "group_by::enabled: is not supported: write one exporter for each file"
    ]
    assert problems(directory_permissions="0755") == [
        "directory_permissions: directory_permissions requires create_directory to be true"
    ]
    assert problems(create_directory=True, directory_permissions="9") == [
        "directory_permissions: directory_permissions value must be a valid octal representation"
    ]
