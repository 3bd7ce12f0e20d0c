"""The parts of the task runner that need no process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from trunkline.errors import SimulatorError
from trunkline.simulator.tasks import logs
from trunkline.simulator.tasks.credentials import ContainerCredentials
from trunkline.simulator.tasks.definition import Condition, TaskDefinition
from trunkline.simulator.tasks.environment import ContainerFolders
from trunkline.simulator.tasks.images import Image, ImageReference
from trunkline.simulator.tasks.logs import LogCollector, LogStream
from trunkline.simulator.tasks.metadata import container_document, task_document
from trunkline.simulator.tasks.sandbox import Reading, Sample
from trunkline.simulator.tasks.state import ServiceSpec, Status, TaskState, describe, rfc3339
from trunkline.simulator.tasks.stats import NEVER, Stats

ROLE = "arn:aws:iam::222222222222:role/app"


def definition(*containers: dict[str, Any], **more: Any) -> TaskDefinition:
    document = {
        "taskDefinitionArn": "arn:aws:ecs:eu-west-1:222222222222:task-definition/app:3",
        "family": "app",
        "revision": 3,
        "containerDefinitions": [{"image": "app", **each} for each in containers],
        **more,
    }
    return TaskDefinition.from_api(document)


def task(*containers: dict[str, Any], **more: Any) -> TaskState:
    spec = ServiceSpec("222222222222", "eu-west-1", "demo", "app", 1, definition(*containers, **more))
    return TaskState(spec, "eu-west-1a")


def test_a_definition_is_read_with_ecs_defaults() -> None:
    read = definition({"name": "app"}, cpu="256", memory="512")
    (app,) = read.containers
    assert (read.cpu, read.memory, read.ephemeral_storage_gib) == (256, 512, 20)
    assert (app.essential, app.stop_timeout_s, app.health_check, app.restart_policy) == (True, 30, None, None)


def test_a_definition_is_read_in_full() -> None:
    read = definition(
        {
            "name": "app",
            "stopTimeout": 600,
            "healthCheck": {"command": ["CMD-SHELL", "exit 0"]},
            "restartPolicy": {"enabled": True, "ignoredExitCodes": [3]},
            "dependsOn": [{"containerName": "collector", "condition": "HEALTHY"}],
            "mountPoints": [{"sourceVolume": "data", "containerPath": "/data"}],
        },
        {"name": "collector", "essential": False},
        volumes=[{"name": "data"}],
    )
    app = read.containers[0]
    assert app.stop_timeout_s == 120
    assert app.health_check
    assert app.health_check.argv == ["/bin/sh", "-c", "exit 0"]
    assert (app.health_check.interval_s, app.health_check.timeout_s, app.health_check.retries) == (30, 5, 3)
    assert app.restart_policy
    assert app.restart_policy.attempt_period_s == 300
    assert app.depends_on[0].condition is Condition.HEALTHY
    assert app.mount_points == {"/data": "data"}


@pytest.mark.parametrize(
    ("dependencies", "message"),
    [
        ({"a": "b", "b": "a", "c": ""}, "the containers a, b depend on each other in a circle"),
        ({"a": "z"}, "a container depends on z, which the task definition lacks"),
    ],
)
def test_impossible_orders_are_refused(dependencies: dict[str, str], message: str) -> None:
    containers = [
        {"name": name, "dependsOn": [{"containerName": other, "condition": "START"}] if other else []}
        for name, other in dependencies.items()
    ]
    with pytest.raises(SimulatorError) as caught:
        definition(*containers)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", ("", "nginx", "", "")),
        ("library/nginx:1.2", ("", "library/nginx", "1.2", "")),
        ("localhost:5000/app:1", ("localhost:5000", "app", "1", "")),
        (
            "1.dkr.ecr.eu-west-1.amazonaws.com/a/b@sha256:00",
            ("1.dkr.ecr.eu-west-1.amazonaws.com", "a/b", "", "sha256:00"),
        ),
    ],
)
def test_image_references(text: str, expected: tuple[str, str, str, str]) -> None:
    found = ImageReference.parse(text)
    assert (found.registry, found.repository, found.tag, found.digest) == expected


def test_programs_of_an_image_are_replaced() -> None:
    image = Image(["python", "-m", "trunkline"], programs={"/trunkline": ["python", "-m", "trunkline"]})
    assert image.resolve(["/trunkline", "collector"]) == ["python", "-m", "trunkline", "collector"]
    assert image.resolve(["other", "/trunkline"]) == ["other", "/trunkline"]
    assert image.resolve([]) == []


def test_mounted_paths_are_translated_wherever_they_begin() -> None:
    folders = ContainerFolders(Path("/home"), {"/data/queue": Path("/v/queue"), "/data": Path("/v/data")})

    def check(text: str, expected: str) -> None:
        assert folders.translate(text) == expected

    check("/data", "/v/data")
    check("--data-dir=/data/x", "--data-dir=/v/data/x")
    check("/data/queue/1", "/v/queue/1")
    check("file:///data/x", "file:///data/x")
    check("/database /other/data", "/database /other/data")
    check("a=/data:/data/queue", "a=/v/data:/v/queue")


@pytest.mark.parametrize(
    ("time_ns", "expected"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_800_000_000_120_000_000, "2027-01-15T08:00:00.12Z"),
        (1_800_000_000_000_000_001, "2027-01-15T08:00:00.000000001Z"),
    ],
)
def test_times_have_nanoseconds(time_ns: int, expected: str) -> None:
    assert rfc3339(time_ns) == expected


def reading(cpu_ns: int, memory: int = 50) -> Reading:
    return Reading(cpu_ns, cpu_ns // 2, 7, 9, {"Pss": memory, "Pss_Anon": memory - 10, "Pss_File": 10}, 2)


def sample(at_s: int, *, rx: int = 0, **containers: Reading) -> Sample:
    eth1 = {f"{way}_{what}": 0 for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")}
    network = {"eth1": {**eth1, "rx_bytes": rx, "tx_bytes": 10 * rx}}
    return Sample(at_s * 10**9, containers, network, at_s * 2 * 10**9, 2, 5 << 20)


def test_stats_stand_between_two_samples() -> None:
    state = task({"name": "app"}, memory="512", cpu="256")
    (app,) = state.containers
    app.status = Status.RUNNING
    stats = Stats(state)
    assert stats.task() == {app.docker_id: None}

    stats.record(sample(100, rx=1000, app=reading(1000, memory=90)))
    first = stats.container(app)
    assert first
    assert first["preread"] == NEVER
    assert first["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert first["network_rate_stats"] == {"rx_bytes_per_sec": 0, "tx_bytes_per_sec": 0}

    stats.record(sample(105, rx=1500, app=reading(3000)))
    second = stats.container(app)
    assert second
    assert (second["preread"], second["read"]) == ("1970-01-01T00:01:40Z", "1970-01-01T00:01:45Z")
    assert second["cpu_stats"]["cpu_usage"]["total_usage"] == 4500
    assert second["precpu_stats"]["cpu_usage"]["total_usage"] == 1500
    assert second["network_rate_stats"] == {"rx_bytes_per_sec": 100, "tx_bytes_per_sec": 1000}
    assert second["memory_stats"] == {
        "usage": 50,
        "max_usage": 90,
        "stats": {"cache": 0, "anon": 40, "file": 10},
        "limit": 512 << 20,
    }
    assert state.ephemeral_bytes == 5 << 20

    app.status = Status.STOPPED
    assert stats.task() == {app.docker_id: None}


def test_figures_never_run_backwards() -> None:
    state = task({"name": "app"})
    state.containers[0].status = Status.RUNNING
    stats = Stats(state)
    stats.record(sample(1, app=reading(2000)))
    stats.record(sample(2, app=reading(1990)))
    found = stats.container(state.containers[0])
    assert found
    assert found["cpu_stats"]["cpu_usage"] == found["precpu_stats"]["cpu_usage"]


def test_documents_have_what_a_fargate_task_shows() -> None:
    state = task({"name": "app", "cpu": 512, "memory": 1024}, cpu="1024", memory="2048")
    (app,) = state.containers
    app.image_digest = "sha256:00"
    for name in ("created_ns", "started_ns"):
        setattr(app, name, 1)
    state.pull_started_ns = state.pull_stopped_ns = 1
    document = task_document(state)
    assert {
        *(
            "Cluster",
            "TaskARN",
            "Family",
            "Revision",
            "ServiceName",
            "DesiredStatus",
            "KnownStatus",
            "Limits",
        ),
        *("PullStartedAt", "PullStoppedAt", "AvailabilityZone", "LaunchType", "EphemeralStorageMetrics"),
        "Containers",
    } == set(document)
    assert document["Limits"] == {"CPU": 1, "Memory": 2048}
    assert {
        *("DockerId", "Name", "DockerName", "Image", "ImageID", "DesiredStatus", "KnownStatus", "Limits"),
        *("CreatedAt", "StartedAt", "Type", "Snapshotter"),
    } <= set(container_document(state, app))


def test_a_container_that_has_finished_says_so() -> None:
    state = task({"name": "app"})
    (app,) = state.containers
    app.started_ns, app.finished_ns, app.exit_code = 1, 2_000_000_000, 42
    document = container_document(state, app)
    assert (document["FinishedAt"], document["ExitCode"]) == ("1970-01-01T00:00:02Z", 42)
    assert document["Limits"] == {"CPU": 2}
    described = describe(state)
    assert described["lastStatus"] == "PROVISIONING"
    assert "startedAt" not in described


class Issuer:
    """Issues sessions of a given life, and refuses when told to."""

    def __init__(self, life_s: float) -> None:
        self.life_s = life_s
        self.issued = 0
        self.refuses = False

    async def issue(self, role: str, session: str) -> Mapping[str, Any]:
        assert (role, session) == (ROLE, "task")
        if self.refuses:
            raise SimulatorError("AccessDenied")
        self.issued += 1
        return {
            "AccessKeyId": f"ASIA{self.issued}",
            "SecretAccessKey": "s",
            "Token": "t",
            "Expiration": (datetime.now(UTC) + timedelta(seconds=self.life_s)).isoformat(),
        }


async def test_a_session_is_kept_until_shortly_before_its_end() -> None:
    issuer = Issuer(life_s=6 * 3600)
    credentials = ContainerCredentials(issuer.issue, ROLE, "task")
    answers = await asyncio.gather(*(credentials.answer(credentials.path) for _ in range(5)))
    assert issuer.issued == 1
    assert {status for status, _ in answers} == {200}
    assert set(answers[0][1]) == {"RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}


async def test_a_session_is_renewed_before_its_end_and_kept_when_that_fails() -> None:
    issuer = Issuer(life_s=0.4)
    credentials = ContainerCredentials(issuer.issue, ROLE, "task")
    await credentials.current()
    await asyncio.sleep(0.32)
    issuer.refuses = True
    assert (await credentials.answer(credentials.path))[1]["AccessKeyId"] == "ASIA1"
    await asyncio.sleep(0.12)
    status, document = await credentials.answer(credentials.path)
    assert (status, document["code"]) == (503, "CredentialsUninitialized")
    issuer.refuses = False
    assert (await credentials.answer(credentials.path))[1]["AccessKeyId"] == "ASIA2"


async def test_asking_without_an_id_is_told_so() -> None:
    credentials = ContainerCredentials(Issuer(1).issue, ROLE, "task")
    for path in ("/v2/credentials", "/v2/credentials/"):
        status, document = await credentials.answer(path)
        assert (status, document["code"]) == (400, "NoIdInRequest")


def test_a_stream_has_a_file_below_the_logs_folder() -> None:
    def check(group: str, stream: str, expected: str) -> None:
        assert LogStream("1", "eu-west-1", group, stream).file(Path("logs")) == Path(expected)

    check("/ecs/app", "ecs/app/00", "logs/1/eu-west-1/ecs/app/ecs/app/00.log")
    check("../../x", "./y", "logs/1/eu-west-1/x/y.log")


async def collect(
    folder: Path, output: bytes, *, fail: int = 0, wait_s: float = 0, file_bytes: int = logs.FILE_BYTES
) -> tuple[list[str], LogCollector]:
    taken: list[str] = []
    failures = iter(range(fail))

    async def put(stream: LogStream, lines: Sequence[tuple[int, str]]) -> None:
        assert stream.group == "g"
        if lines and next(failures, None) is not None:
            raise SimulatorError("not now")
        taken.extend(line for _, line in lines)

    stream = LogStream("1", "eu-west-1", "g", "s")
    collector = LogCollector(stream, stream.file(folder), put, file_bytes)
    await collector.open()
    with open(collector.writer, "wb", closefd=False) as writer:  # noqa: ASYNC230 (a pipe)
        await asyncio.to_thread(writer.write, output)
        await asyncio.to_thread(writer.flush)
    await asyncio.sleep(wait_s)
    await collector.close()
    return taken, collector


async def test_lines_are_taken_apart(tmp_path: Path) -> None:
    taken, _ = await collect(tmp_path, b"one\r\n\ntwo \xff\nthree")
    assert taken == ["one", "", "two �", "three"]


async def test_long_lines_are_cut(tmp_path: Path) -> None:
    taken, _ = await collect(tmp_path, b"x" * 40_000 + b"\ny\n")
    assert [len(line) for line in taken] == [16384, 16384, 7232, 1]


async def test_lines_are_kept_for_another_try(tmp_path: Path) -> None:
    taken, _ = await collect(tmp_path, b"one\ntwo\n", fail=1, wait_s=1.5 * logs.FLUSH_EVERY_S)
    assert taken == ["one", "two"]


async def test_what_nobody_takes_is_bounded(tmp_path: Path) -> None:
    line = b"z" * 9_999 + b"\n"
    taken, collector = await collect(tmp_path, line * 300, fail=1000)
    assert not taken
    assert collector.dropped == 300 - logs.BUFFER_BYTES // 9_999


async def test_a_log_file_is_bounded(tmp_path: Path) -> None:
    for _ in range(4):
        await collect(tmp_path, b"x" * 60 + b"\n", file_bytes=100)
    sizes = {each.name: each.stat().st_size for each in (tmp_path / "1" / "eu-west-1" / "g").iterdir()}
    assert set(sizes) == {"s.log.1"}
    assert sizes["s.log.1"] < 200
