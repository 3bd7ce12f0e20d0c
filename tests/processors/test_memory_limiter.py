from __future__ import annotations

import gc
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from tests.processors.scrapes import Source, Watching, problems, shown

from trunkline.component.admission import Admission, refused_samples
from trunkline.component.memory import (
    MIB,
    MemoryCeiling,
    MemoryLimits,
    Pressure,
    container_limit_bytes,
    give_back,
    resident_bytes,
    total_bytes,
)
from trunkline.component.metrics import SelfMetrics
from trunkline.model import Family, Series
from trunkline.processors.memory_limiter import MemoryLimiterConfig


class Memory:
    """Memory as a number, and time as another."""

    def __init__(self, used_mib: int = 0, freed_mib: int = 0) -> None:
        self.used_mib = used_mib
        self.freed_mib = freed_mib
        self.relieved = 0
        self.now_s = 0.0

    def resident(self) -> int:
        return self.used_mib * MIB

    def relieve(self) -> None:
        self.relieved += 1
        self.used_mib -= self.freed_mib

    def ceiling(self) -> MemoryCeiling:
        limits = MemoryLimits(hard_bytes=100 * MIB, soft_bytes=80 * MIB)
        return MemoryCeiling(limits, resident=self.resident, relieve=self.relieve, now=lambda: self.now_s)

    def after(self, seconds: float, used_mib: int) -> None:
        self.now_s += seconds
        self.used_mib = used_mib


def test_pressure_rises_and_falls_and_is_said_once_for_each_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    memory = Memory()
    ceiling = memory.ceiling()
    for used_mib, expected in [(79, 0), (80, 1), (99, 1), (100, 2), (150, 2), (99, 1), (10, 0), (11, 0)]:
        memory.after(1, used_mib)
        assert ceiling.check() == expected
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "WARNING", "INFO"]
    assert "80 MiB of memory in use, the soft limit is 80 MiB: new series are refused" in caplog.text


def test_the_memory_is_looked_at_once_an_interval() -> None:
    memory = Memory(used_mib=10)
    ceiling = memory.ceiling()
    assert ceiling.check() is Pressure.NONE
    memory.after(0.9, 200)
    assert ceiling.check() is Pressure.NONE
    memory.after(0.1, 200)
    assert ceiling.check() is Pressure.HARD


def test_memory_is_given_back_before_anything_is_refused() -> None:
    memory = Memory(used_mib=90, freed_mib=20)
    ceiling = memory.ceiling()
    assert ceiling.check() is Pressure.NONE
    assert memory.relieved == 1
    memory.after(5, 90)
    assert (
        ceiling.check() is Pressure.SOFT
    )  # within ten seconds of the last time it is not tried at the soft limit
    assert memory.relieved == 1
    memory.after(1, 115)
    assert ceiling.check() is Pressure.SOFT  # at the hard limit it is, and 95 is left
    assert memory.relieved == 2


class Limited:
    def __init__(self) -> None:
        self.memory = Memory()
        self.metrics = SelfMetrics()
        self.seen = Watching()
        self.source = Source()
        self.counter = refused_samples(self.metrics)
        self.inlet = Admission(self.memory.ceiling(), self.counter, "m", self.seen).open(self.source.table)

    def give(self, used_mib: int, values: dict[str, float]) -> dict[str, float] | None:
        self.memory.after(1, used_mib)
        before = len(self.seen.batches)
        self.inlet.consume(self.source.scrape(values))
        if len(self.seen.batches) == before:
            return None
        return {
            shown(sample.series): sample.value
            for sample in self.seen.batches[-1].samples
            if sample.value == sample.value
        }


def test_known_series_go_on_at_the_soft_limit_and_new_ones_wait() -> None:
    limited = Limited()
    assert limited.give(10, {"a": 1}) == {"a": 1}
    assert limited.give(85, {"a": 2, "b": 1}) == {"a": 2}
    assert limited.give(85, {"a": 3, "b": 2, "c": 1}) == {"a": 3}
    assert limited.counter.values == {("m", "new series"): 3}
    assert limited.give(10, {"a": 4, "b": 3, "c": 2}) == {"a": 4, "b": 3, "c": 2}
    assert limited.give(85, {"a": 5, "b": 4}) == {"a": 5, "b": 4}  # let in, they stay


def test_everything_is_refused_at_the_hard_limit_and_no_change_is_forgotten() -> None:
    limited = Limited()
    assert limited.give(10, {"a": 1, "b": 1}) == {"a": 1, "b": 1}
    assert limited.give(120, {"a": 2, "c": 1}) is None
    assert limited.counter.values == {("m", "batches"): 3}  # a stale marker is a sample, too
    assert limited.give(120, {"a": 2, "d": 1}) is None
    assert limited.give(85, {"a": 3, "d": 2}) == {"a": 3}  # b's slot belongs to another series by now
    assert limited.give(10, {"a": 4, "d": 3}) == {"a": 4, "d": 3}


def test_a_known_series_that_is_decided_anew_is_still_known() -> None:
    limited = Limited()
    limited.give(10, {"a": 1})
    old = limited.source.table.series[0]
    assert old is not None
    limited.source.table.replace(0, Series(old.labels, Family("a", help="New words."), old.resource))
    assert limited.give(85, {"a": 2, "b": 1}) == {"a": 2}
    [sample] = limited.seen.batches[-1].samples
    assert sample.series.family.help == "New words."


def test_a_refused_series_that_has_gone_is_forgotten() -> None:
    limited = Limited()
    limited.give(10, {"a": 1})
    limited.give(85, {"a": 1, "b": 1})
    limited.give(85, {"a": 1})
    limited.give(85, {"a": 1})
    total = limited.counter.total()
    limited.give(85, {"a": 1})
    assert limited.counter.total() == total


def test_limits_of_settings(tmp_path: Path) -> None:
    def limits(**settings: float) -> tuple[float, float]:
        config = MemoryLimiterConfig(check_interval=1.0, **settings)  # type: ignore[arg-type]
        found = config.limits(tmp_path)
        return found.hard_bytes / MIB, found.soft_bytes / MIB

    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  2048000 kB\n")
    assert limits(limit_mib=100, spike_limit_mib=30) == (100, 70)
    assert limits(limit_mib=100, limit_percentage=50) == (100, 80)
    assert limits(limit_percentage=50, spike_limit_percentage=10) == (1000, 800)
    assert limits(limit_percentage=50) == (1000, 800)


def test_settings_are_checked_in_upstreams_words() -> None:
    def check(settings: dict[str, object], *expected: str) -> None:
        assert problems("memory_limiter", settings) == list(expected)

    check({"check_interval": "1s", "limit_mib": 100})
    check(
        {},
        "check_interval: 'check_interval' must be greater than zero, such as 1s",
        "limit_mib: 'limit_mib' or 'limit_percentage' must be greater than zero",
    )
    good = {"check_interval": "1s", "limit_mib": 100}
    check(
        {**good, "spike_limit_mib": 100},
        "spike_limit_mib: 'spike_limit_mib' must be smaller than 'limit_mib'",
    )
    check(
        {**good, "limit_percentage": 120},
        "limit_percentage: 'limit_percentage' and 'spike_limit_percentage' must be greater than zero and less than or "
        "equal to hundred",
    )
    check(
        {**good, "min_gc_interval_when_hard_limited": "20s"},
        "min_gc_interval_when_soft_limited: 'min_gc_interval_when_soft_limited' should be larger than "
        "'min_gc_interval_when_hard_limited'",
    )
    check({**good, "limit_mib": -1}, "limit_mib: must be from 0 to 4294967295")


def groups(root: Path, membership: str, **limits: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    (root / "proc/meminfo").write_text("MemTotal:  1024000 kB\n")
    for path, limit in limits.items():
        file = root / "sys/fs/cgroup" / path.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_name(
            file.name.replace("_max", ".max").replace("LIMIT", "memory.limit_in_bytes")
        ).write_text(limit + "\n")
    return root


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    inside = groups(tmp_path / "a", "0::/\n", memory_max="268435456")
    assert container_limit_bytes(inside) == 256 * MIB
    assert MemoryLimits.default(inside).hard_bytes == int(256 * MIB * 0.8)
    nested = groups(
        tmp_path / "b",
        "0::/ecs/t/c\n",
        ecs__t__c__memory_max="max",
        ecs__t__memory_max="1048576",
        memory_max="max",
    )
    assert container_limit_bytes(nested) == MIB
    first = groups(tmp_path / "c", "4:cpu,memory:/docker/x\n1:name=systemd:/\n", memory__LIMIT="536870912")
    assert container_limit_bytes(first) == 512 * MIB
    unlimited = groups(tmp_path / "d", "4:memory:/\n", memory__LIMIT="9223372036854771712")
    assert container_limit_bytes(unlimited) is None
    assert total_bytes(unlimited) == 1000 * MIB
    assert MemoryLimits.default(unlimited) == MemoryLimits(500 * MIB, 400 * MIB)
    assert container_limit_bytes(tmp_path / "nowhere") is None


def test_this_process_has_memory_and_gives_some_back() -> None:
    script = """
import resource
from trunkline.component.memory import give_back, resident_bytes
blocks = [bytes(1000) for _ in range(100_000)]
kept = blocks[::5000]
full = resident_bytes()
del blocks
give_back()
print(full, resident_bytes())
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    full, left = map(int, found.split())
    assert left < full - 50 * MIB
    assert 0 < resident_bytes() < 4096 * MIB
    give_back()
    assert gc.isenabled()
