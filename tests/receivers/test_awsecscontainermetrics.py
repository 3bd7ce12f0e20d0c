"""Fixtures hold what upstream computes; where Trunkline differs on purpose, the difference stands here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trunkline.model import Resource, Table, is_stale
from trunkline.receivers.awsecscontainermetrics import EcsColumns, Reading, read

DATA = Path(__file__).parent / "data"
CASES = sorted(path.name.removesuffix(".task_metadata.json") for path in DATA.glob("*.task_metadata.json"))

ON_PURPOSE = {
    "ecs_fargate_cgroupv2": {
        ("nginx-proxy", "container.memory.usage.limit"): 0,  # 2^64-1 is no limit, upstream says -1
        ("nginx-proxy", "container.storage.read_bytes"): 6328320,  # `read` in lower case, upstream says 0
        ("nginx-proxy", "container.storage.write_bytes"): 593920,
        ("collector", "container.memory.usage.limit"): 0,
        ("collector", "container.storage.write_bytes"): 520192,
        ("", "ecs.task.memory.usage.limit"): 0,
        ("", "ecs.task.storage.read_bytes"): 6328320,
        ("", "ecs.task.storage.write_bytes"): 593920 + 520192,
    }
}


def load(case: str, what: str) -> Any:
    return json.loads((DATA / f"{case}.{what}.json").read_text())


def readings_of(case: str) -> list[Reading]:
    return list(read(load(case, "task_metadata"), load(case, "task_stats"), Resource()))


@pytest.mark.parametrize("case", CASES)
def test_values_attributes_and_order_are_upstreams(case: str) -> None:
    expected = load(case, "expected")["batches"]
    found = readings_of(case)
    assert len(found) == len(expected)
    for reading, batch in zip(found, expected, strict=True):
        assert reading.resource.attributes == batch["resource_attributes"]
        whose = str(reading.resource.attributes.get("container.name", ""))
        assert [reading.prefix + name for name in reading.values] == [
            metric["name"] for metric in batch["metrics"]
        ]
        for metric in batch["metrics"]:
            wanted = ON_PURPOSE.get(case, {}).get((whose, metric["name"]), metric["value"])
            value = reading.values[metric["name"].removeprefix(reading.prefix)]
            assert value == pytest.approx(wanted, rel=1e-9), metric["name"]


def test_memory_in_use_leaves_out_what_can_be_given_back() -> None:
    def check(stats: dict[str, int], expected_mib: int) -> None:
        container = {"DockerId": "a", "Name": "app"}
        body = {"a": {"id": "a", "memory_stats": {"usage": 100 * 1024**2, "stats": stats}}}
        [reading, _] = read({"Containers": [container]}, body, Resource())
        assert reading.values["memory.utilized"] == expected_mib

    check({"cache": 30 * 1024**2}, 70)
    check({"inactive_file": 30 * 1024**2}, 70)
    check({"cache": 10 * 1024**2, "inactive_file": 30 * 1024**2}, 90)
    check({"cache": 130 * 1024**2}, 0)  # upstream wraps around to 17592186044386
    check({"pgfault": 1}, 100)


def test_region_and_account_are_known_in_every_partition() -> None:
    def check(arn: str, region: str, account: str, task: str) -> None:
        [reading] = read({"TaskARN": arn}, {}, Resource())
        attributes = reading.resource.attributes
        found = (attributes["cloud.region"], attributes["cloud.account.id"], attributes["aws.ecs.task.id"])
        assert found == (region, account, task)

    check("arn:aws:ecs:eu-west-1:111122223333:task/prod/45f36", "eu-west-1", "111122223333", "45f36")
    check("arn:aws:ecs:eu-west-1:111122223333:task/45f36", "eu-west-1", "111122223333", "45f36")
    check("arn:aws-us-gov:ecs:us-gov-west-1:111122223333:task/c/x", "us-gov-west-1", "111122223333", "x")
    check("arn:aws-cn:ecs:cn-north-1:111122223333:task/c/x", "cn-north-1", "111122223333", "x")
    check("", "", "", "")


def test_a_finished_container_reports_how_long_it_ran() -> None:
    container = {
        "DockerId": "a",
        "Name": "migrate",
        "StartedAt": "2026-05-14T17:56:47.5Z",
        "FinishedAt": "2026-05-14T17:57:50.123456789Z",
    }
    [reading, task] = read({"Containers": [container]}, {"a": None}, Resource())
    assert reading.values == {"duration": pytest.approx(62.623456789)}
    assert set(task.values.values()) == {0}


def test_a_type_that_is_no_number_fails_the_collection() -> None:
    body = {"a": {"id": "a", "memory_stats": {"usage": "much", "stats": {"cache": 1}}}}
    with pytest.raises(TypeError):
        list(read({"Containers": [{"DockerId": "a", "Name": "app"}]}, body, Resource()))


def test_each_container_carries_its_name_and_the_tasks_identity() -> None:
    task, stats = load("ecs_fargate_cgroupv2", "task_metadata"), load("ecs_fargate_cgroupv2", "task_stats")
    identity = Resource({}, {"aws_ecs_task_id": "45f36"})
    containers = [reading.resource.identity for reading in read(task, stats, identity)]
    assert containers == [
        {"aws_ecs_task_id": "45f36", "container_name": "nginx-proxy"},
        {"aws_ecs_task_id": "45f36", "container_name": "collector"},
        {"aws_ecs_task_id": "45f36"},
    ]


def test_a_container_that_goes_ends_with_stale_markers_and_gives_its_slots_back() -> None:
    task, stats = load("ecs_fargate_cgroupv2", "task_metadata"), load("ecs_fargate_cgroupv2", "task_stats")
    columns = EcsColumns(Table("task"))
    first = columns.batch(list(read(task, stats, Resource())), 1000)
    columns.handed_on()
    assert len(first.slots()) == 26 + 26 + 28
    gone = stats.pop("45f36d5449924905a16c3d03c1fba67a-1950351559")
    second = columns.batch(list(read(task, stats, Resource())), 2000)
    assert sum(is_stale(second.values[slot]) for slot in second.slots()) == 26
    columns.handed_on()
    third = columns.batch(list(read(task, stats, Resource())), 3000)
    assert len(third.slots()) == 26 + 28
    columns.handed_on()
    stats["45f36d5449924905a16c3d03c1fba67a-1950351559"] = gone
    fourth = columns.batch(list(read(task, stats, Resource())), 4000)
    assert len(fourth.slots()) == len(columns.table) == 26 + 26 + 28
