"""Fixtures hold what upstream computes; where Trunkline differs on purpose, the difference stands here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trunkline.errors import ConfigError
from trunkline.model import Resource, Table, is_stale
from trunkline.net.message import Response
from trunkline.net.server import serve
from trunkline.receivers.awsecscontainermetrics import (
    EcsColumns,
    EcsContainerMetricsConfig,
    EcsReceiver,
    Reading,
    read,
)
from trunkline.testing import Recorder, SeenBatch, context_for

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
    check({}, 100)


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


def test_a_task_outside_aws_has_no_launch_type_of_opentelemetry() -> None:
    def check(launch_type: str, expected: str | None) -> None:
        [reading] = read({"LaunchType": launch_type}, {}, Resource())
        assert reading.resource.attributes["aws.ecs.task.launch_type"] == launch_type
        assert reading.resource.attributes.get("aws.ecs.launchtype") == expected

    check("FARGATE", "fargate")
    check("EC2", "ec2")
    check("EXTERNAL", None)
    check("MANAGED_INSTANCES", None)


def one_container(**stats: Any) -> Reading:
    container = {"DockerId": "a", "Name": "app", "Limits": {"CPU": 256}}
    [reading, _] = read({"Containers": [container]}, {"a": {"id": "a", **stats}}, Resource())
    return reading


def cpu(total: int, before: int, read_at: str, read_before: str) -> dict[str, Any]:
    return {
        "cpu_stats": {"cpu_usage": {"total_usage": total}, "online_cpus": 2},
        "precpu_stats": {"cpu_usage": {"total_usage": before}},
        "read": read_at,
        "preread": read_before,
    }


def test_cpu_use_has_nanoseconds_and_never_wraps_around() -> None:
    def check(expected: float, *arguments: Any) -> None:
        values = one_container(**cpu(*arguments)).values
        assert values["cpu.usage.vcpu"] == pytest.approx(expected, rel=1e-12)
        assert values["cpu.utilized"] == pytest.approx(expected * 100 / 256, rel=1e-12)

    check(0.5, 1_000_000_000, 500_000_000, "2026-01-01T00:00:01.000000001Z", "2026-01-01T00:00:00.000000001Z")
    check(1.0, 1, 0, "2026-01-01T00:00:00.000000001Z", "2026-01-01T00:00:00Z")
    check(0.0, 5, 10, "2026-01-01T00:00:01Z", "2026-01-01T00:00:00Z")  # upstream: 2^64 - 5 nanoseconds
    check(0.0, 10, 5, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z")
    check(0.5, 10**9, 0, "2026-01-01T02:00:02+02:00", "2026-01-01T00:00:00Z")
    check(10**9 / (2**63 - 1), 10**9, 0, "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z")


def test_without_both_cpu_readings_all_of_cpu_is_zero() -> None:
    stats = cpu(10, 5, "2026-01-01T00:00:01Z", "2026-01-01T00:00:00Z")
    assert one_container(**stats).values["cpu.onlines"] == 2
    for missing in ("cpu_stats", "precpu_stats"):
        values = one_container(**{**stats, missing: {"cpu_usage": None}}).values
        wanted = ("cpu.usage.total", "cpu.onlines", "cpu.usage.vcpu", "cpu.utilized")
        assert [values[name] for name in wanted] == [0, 0, 0, 0]


def test_storage_is_the_sum_over_devices_in_either_case() -> None:
    operations = [("Read", 1), ("read", 2), ("Write", 4), ("write", 8), ("Sync", 16), ("Total", 32)]
    entries = [{"op": name, "value": value} for name, value in operations]
    values = one_container(blkio_stats={"io_service_bytes_recursive": entries}).values
    assert (values["storage.read_bytes"], values["storage.write_bytes"]) == (3, 12)
    assert one_container(blkio_stats={"io_service_bytes_recursive": None}).values["storage.read_bytes"] == 0


@pytest.mark.parametrize("usage", ["much", 10**400, [1], {"a": 1}])
def test_a_value_no_sample_can_hold_fails_the_collection(usage: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        one_container(memory_stats={"usage": usage})


@pytest.mark.parametrize("limits", [{"Memory": "much"}, {"CPU": float("nan")}])
def test_a_limit_of_the_task_no_sample_can_hold_fails_the_collection(limits: Any) -> None:
    with pytest.raises(ValueError, match="of the task is"):
        list(read({"Limits": limits}, {}, Resource()))


@pytest.mark.parametrize("limits", [{}, None, {"CPU": 0.25, "Memory": 512}])
def test_the_tasks_limits_win_over_the_sum_of_its_containers(limits: Any) -> None:
    containers = [{"DockerId": name, "Limits": {"CPU": 100, "Memory": 64}} for name in "ab"]
    stats = {name: {"id": name} for name in "ab"}
    *_, task = read({"Containers": containers, "Limits": limits}, stats, Resource())
    expected = (256.0, 512) if limits else (200.0, 128)
    assert (task.values["cpu.reserved"], task.values["memory.reserved"]) == expected


class Endpoint:
    """A task metadata endpoint whose answers can be changed."""

    def __init__(self, case: str) -> None:
        self.task = self.ok(load(case, "task_metadata"))
        self.stats = self.ok(load(case, "task_stats"))

    @staticmethod
    def ok(document: Any) -> Response:
        return Response(200, "OK", {"content-type": "application/json"}, json.dumps(document).encode())


@asynccontextmanager
async def receiving(
    endpoint: Endpoint, seen: Recorder, estate: dict[str, object] | None = None
) -> AsyncIterator[EcsReceiver]:
    routes = {"/v4/x/task": lambda: endpoint.task, "/v4/x/task/stats": lambda: endpoint.stats}
    async with serve("127.0.0.1", 0, routes) as server:
        base = f" http://127.0.0.1:{server.address[1]}/v4/x \n"
        context = context_for("awsecscontainermetrics", environment={"ECS_CONTAINER_METADATA_URI_V4": base})
        if estate is not None:
            context = replace(context, estate=estate)
        receiver = EcsContainerMetricsConfig(collection_interval=3600.0).build(context, seen)
        assert isinstance(receiver, EcsReceiver)
        running = asyncio.create_task(receiver.run())
        try:
            await seen.wait_for(1)
            yield receiver
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.mark.parametrize("case", CASES)
async def test_what_the_endpoint_says_goes_downstream_as_one_batch(case: str) -> None:
    seen = Recorder()
    async with receiving(Endpoint(case), seen):
        [batch] = seen.batches
    expected = [
        (metric["name"], batch["resource_attributes"].get("container.name", ""), metric["value"])
        for batch in load(case, "expected")["batches"]
        for metric in batch["metrics"]
    ]
    found = [
        (sample.series.name, str(sample.series.resource.attributes.get("container.name", "")), sample.value)
        for sample in batch.samples
    ]
    assert len({sample.timestamp_ms for sample in batch.samples}) == 1
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    for (name, whose, value), (_, _, upstream) in zip(found, expected, strict=True):
        wanted = ON_PURPOSE.get(case, {}).get((whose, name), upstream)
        assert value == pytest.approx(wanted, rel=1e-9), (name, whose)
    assert {sample.series.family.unit for sample in batch.samples} >= {"Bytes", "MiB", "None", "vCPU"}


async def test_a_failing_endpoint_is_told_once_and_tried_on(caplog: pytest.LogCaptureFixture) -> None:
    endpoint, seen = Endpoint("ecs_fargate_cgroupv2"), Recorder()
    async with receiving(endpoint, seen) as receiver:
        good = endpoint.stats
        for bad in (
            Response(500, "Internal Server Error", {}, b"words"),
            Response(200, "OK", {}, b'{"cut short'),
            Response(200, "OK", {}, b"[]"),
            endpoint.ok(
                {"45f36d5449924905a16c3d03c1fba67a-1950351559": {"id": "a", "memory_stats": {"usage": "x"}}}
            ),
            endpoint.ok({"45f36d5449924905a16c3d03c1fba67a-1950351559": "words"}),
        ):
            endpoint.stats = bad
            await receiver.collect()
        assert len(seen.batches) == 1
        endpoint.stats = good
        await receiver.collect()
        assert len(seen.batches) == 2
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith("Failed to collect stats: cannot read data from task metadata endpoint: ")
    assert 'failed - "500 Internal Server Error"; trying on every 3600s' in errors[0]


async def test_everything_ends_with_the_last_reading() -> None:
    endpoint, seen = Endpoint("ecs_fargate_cgroupv2"), Recorder()
    async with receiving(endpoint, seen) as receiver:
        await receiver.drain()
        await receiver.collect()  # one that was under way
    _, last, end = seen.batches
    assert not any(is_stale(sample.value) for sample in last.samples)
    assert {sample.series for sample in end.samples} == {sample.series for sample in last.samples}
    assert all(is_stale(sample.value) for sample in end.samples)
    assert end.samples[0].timestamp_ms > last.samples[0].timestamp_ms


async def test_everything_ends_when_the_receiver_is_ended() -> None:
    endpoint, seen = Endpoint("ecs_fargate_cgroupv2"), Recorder()
    async with receiving(endpoint, seen) as receiver:
        receiver.end()
        await receiver.collect()  # one that was under way
    first, end = seen.batches
    assert [sample.series for sample in end.samples] == [sample.series for sample in first.samples]
    assert all(is_stale(sample.value) for sample in end.samples)


async def test_a_container_that_has_gone_while_the_configuration_was_read_anew_ends() -> None:
    endpoint, estate = Endpoint("ecs_ec2_bridge"), dict[str, object]()
    first, second = Recorder(), Recorder()
    async with receiving(endpoint, first, estate):
        pass
    task = load("ecs_ec2_bridge", "task_metadata")
    gone = task["Containers"].pop(0)["Name"]
    endpoint.task = endpoint.ok(task)
    async with receiving(endpoint, second, estate) as receiver:
        await receiver.collect()
        receiver.end()

    def ended(batch: SeenBatch) -> set[object]:
        stale = [sample for sample in batch.samples if is_stale(sample.value)]
        return {sample.series.resource.attributes.get("container.name") for sample in stale}

    before, after, later, _ = (*first.batches, *second.batches)
    assert ended(before) == ended(later) == set()
    assert ended(after) == {gone}
    assert {sample.series.name for sample in after.samples} == {
        sample.series.name for sample in before.samples
    }
    assert estate == {}


async def test_everything_ends_though_the_last_reading_fails() -> None:
    endpoint, seen = Endpoint("ecs_fargate_cgroupv2"), Recorder()
    async with receiving(endpoint, seen) as receiver:
        endpoint.task = Response(500, "Internal Server Error", {}, b"")
        await receiver.drain()
    first, end = seen.batches
    assert [sample.series for sample in end.samples] == [sample.series for sample in first.samples]
    assert all(is_stale(sample.value) for sample in end.samples)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "endpoint is empty"),
        ("  ", "endpoint is empty"),
        ("169.254.170.2/v4/x", 'parse "169.254.170.2/v4/x": invalid URI for request'),
        ("http:///v4", 'parse "http:///v4": invalid URI for request'),
    ],
)
def test_without_an_endpoint_it_does_not_start(address: str, why: str) -> None:
    context = context_for("awsecscontainermetrics", environment={"ECS_CONTAINER_METADATA_URI_V4": address})
    with pytest.raises(ConfigError) as raised:
        EcsContainerMetricsConfig().build(context, Recorder())
    assert raised.value.problems[0].message == (
        "unable to detect task metadata endpoint: no valid endpoint for environment variable "
        f"ECS_CONTAINER_METADATA_URI_V4: {why}"
    )
