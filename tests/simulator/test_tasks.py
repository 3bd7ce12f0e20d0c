"""Tasks as real processes: what is said of one mode alone is said so, everything else holds in both."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from trunkline.errors import SimulatorError
from trunkline.simulator.tasks.definition import TaskDefinition
from trunkline.simulator.tasks.images import Image
from trunkline.simulator.tasks.logs import LogStream
from trunkline.simulator.tasks.namespaces import Hub, Mode, open_hub, open_listener
from trunkline.simulator.tasks.runner import TaskRunner
from trunkline.simulator.tasks.state import ServiceSpec, Status, TaskState, describe

ACCOUNT, REGION = "222222222222", "eu-west-1"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/app-task"
EXECUTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/app-execution"

SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (os.environ["NAME"] + "\\n").encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
print("listening", flush=True)
http.server.HTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8000"))), Handler).serve_forever()
"""

# Led by TRUNKLINE_RESOLVE as the collector is: host:port=address:port.
CLIENT = """
import os, time, urllib.request
led = dict(each.split("=") for each in os.environ.get("TRUNKLINE_RESOLVE", "").split(",") if each)
place = led.get("0.0.0.0:8000", "0.0.0.0:8000")
while True:
    try:
        print("scraped", urllib.request.urlopen(f"http://{place}/metrics").read().decode().strip(), flush=True)
    except OSError:
        pass
    time.sleep(0.1)
"""

ASKING = """
import json, os, urllib.request
def get(url):
    try:
        with urllib.request.urlopen(url) as answer: return answer.status, json.load(answer)
    except urllib.error.HTTPError as error: return error.code, json.load(error)
uri = os.environ["ECS_CONTAINER_METADATA_URI_V4"]
relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
credentials = "http://169.254.170.2" + relative if relative else os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
for name, url in {"self": uri, "task": uri + "/task", "tags": uri + "/taskWithTags", "unknown": uri[:-3] + "/task",
                  "credentials": credentials, "other": credentials[:-3]}.items():
    print(json.dumps([name, *get(url)]), flush=True)
import time; time.sleep(60)
"""

WORKING = """
import os, subprocess, sys, time
held = bytearray(os.urandom(30_000_000))
subprocess.run([sys.executable, "-c", "for _ in range(3_000_000): pass"])
end = time.process_time() + 0.5
while time.process_time() < end: pass
with open("written", "wb") as file:
    file.write(held); file.flush(); os.fsync(file.fileno())
print("done", flush=True)
time.sleep(60)
"""

OBEDIENT = """
import os, signal, sys, time
def leave(*_):
    print("leaving", flush=True)
    time.sleep(float(os.environ.get("LINGER", "0")))
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("up", flush=True)
while True: time.sleep(1)
"""


def root_is_missing() -> str:
    try:
        open_hub("namespaces").close()
    except SimulatorError as error:
        return str(error)
    return ""


NO_ROOT = root_is_missing()
needs_root = pytest.mark.skipif(bool(NO_ROOT), reason=NO_ROOT or "-")
MODES = [pytest.param("namespaces", marks=needs_root), "ports"]


@pytest.fixture(params=MODES)
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    with open_hub(cast("Mode", request.param)) as opened:
        yield opened


@pytest.fixture
def namespaces() -> Iterator[Hub]:
    with open_hub("namespaces") as opened:
        yield opened


class Logs:
    """Receives log lines as CloudWatch Logs would."""

    def __init__(self) -> None:
        self.lines: dict[str, list[tuple[int, str]]] = {}
        self.streams: list[LogStream] = []

    async def put(self, stream: LogStream, lines: Sequence[tuple[int, str]]) -> None:
        if stream.group == "/missing":
            raise SimulatorError("ResourceNotFoundException: The specified log group does not exist.")
        self.streams.append(stream)
        self.lines.setdefault(stream.stream.split("/")[1], []).extend(lines)

    def texts(self, container: str) -> list[str]:
        return [line for _, line in self.lines.get(container, [])]


async def issue(role: str, session: str) -> Mapping[str, Any]:
    if role.endswith("untrusted"):
        raise SimulatorError("AccessDenied")
    return {
        "AccessKeyId": "ASIA" + session[:8].upper(),
        "SecretAccessKey": "secret",
        "SessionToken": f"token of {role}",
        "Expiration": datetime.now(UTC) + timedelta(hours=6),
    }


def program(code: str, **more: Any) -> Image:
    return Image([sys.executable, "-c", code], **more)


IMAGES = {
    "server": program(SERVER),
    "client": program(CLIENT),
    "asking": program(ASKING),
    "working": program(WORKING),
    "obedient": program(OBEDIENT),
    "shell": Image(["/bin/sh", "-c"], data_dir="/var/lib/app", programs={"/probe": ["/bin/sh", "-c"]}),
    "absent": Image(["/no/such/program"]),
}


def container(name: str, image: str, **more: Any) -> dict[str, Any]:
    options = {"awslogs-group": "/ecs/app", "awslogs-region": REGION, "awslogs-stream-prefix": "ecs"}
    return {
        "name": name,
        "image": f"{REGISTRY}/{image}:1",
        "logConfiguration": {"logDriver": "awslogs", "options": options},
        **more,
    }


def service(*containers: dict[str, Any], count: int = 1, name: str = "web", **more: Any) -> ServiceSpec:
    revision = more.pop("revision", 1)
    document = {
        "taskDefinitionArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{name}:{revision}",
        "family": name,
        "revision": revision,
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": list(containers),
        **more,
    }
    definition = TaskDefinition.from_api(document)
    return ServiceSpec(ACCOUNT, REGION, "demo", name, count, definition, tags=(("fleet", "demo"),))


@asynccontextmanager
async def running(hub: Hub, folder: Path, **more: Any) -> AsyncIterator[tuple[TaskRunner, Logs]]:
    logs = Logs()
    settings = {"put_logs": logs.put, "sample_interval_s": 0.2, "back_off_s": 0.05, **more}
    runner = TaskRunner(hub=hub, state_dir=folder, images=IMAGES, issue=issue, **settings)
    try:
        yield runner, logs
    finally:
        await runner.close(stop_limit_s=0.5)
    assert not [*(folder / "tasks").glob("*")]


async def until(met: Callable[[], object], within_s: float = 15) -> None:
    end = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < end, "it did not come to pass in time"
        await asyncio.sleep(0.02)


async def start(runner: TaskRunner, spec: ServiceSpec) -> list[TaskState]:
    await runner.apply(spec)
    await asyncio.wait_for(runner.steady(spec.arn), 20)
    return [task for task in runner.tasks if task.status is Status.RUNNING]


def messages(runner: TaskRunner, spec: ServiceSpec) -> list[str]:
    return [each["message"] for each in reversed(runner.events(spec.arn))]


def stopped(runner: TaskRunner) -> list[TaskState]:
    return [task for task in runner.tasks if task.status is Status.STOPPED]


async def test_tasks_of_a_service_serve_the_same_port_side_by_side(hub: Hub, tmp_path: Path) -> None:
    environment = [{"name": "NAME", "value": "here"}]
    spec = service(
        container("app", "server", environment=environment, portMappings=[{"containerPort": 8000}]),
        container("collector", "client", essential=False),
        count=2,
    )
    async with running(hub, tmp_path) as (runner, logs):
        tasks = await start(runner, spec)
        assert len(tasks) == 2
        await until(lambda: logs.texts("collector").count("scraped here") >= 4)
        assert {stream.stream for stream in logs.streams} == {
            f"ecs/{name}/{task.id}" for task in tasks for name in ("app", "collector")
        }
        assert messages(runner, spec)[-1] == "(service web) has reached a steady state."


async def test_six_tasks_start_at_once(hub: Hub, tmp_path: Path) -> None:
    async with running(hub, tmp_path) as (runner, _):
        began = time.monotonic()
        tasks = await start(runner, service(container("app", "shell", command=["sleep 60"]), count=6))
        assert len({task.address for task in tasks}) == (6 if hub.mode == "namespaces" else 1)
        assert time.monotonic() - began < 6


async def test_a_task_can_only_read_about_itself(hub: Hub, tmp_path: Path) -> None:
    health = {"command": ["CMD", "true"], "interval": 30}
    spec = service(container("asking", "asking", cpu=64, memory=128, healthCheck=health), taskRoleArn=ROLE)
    async with running(hub, tmp_path) as (runner, logs):
        (task,) = await start(runner, spec)
        await until(lambda: len(logs.texts("asking")) == 6)
        answers = {name: (status, body) for name, status, body in map(json.loads, logs.texts("asking"))}

        status, document = answers["task"]
        assert status == 200
        assert document["Cluster"] == f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/demo"
        assert document["TaskARN"] == f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/demo/{task.id}"
        assert (document["Family"], document["Revision"], document["ServiceName"]) == ("web", "1", "web")
        assert document["Limits"] == {"CPU": 0.25, "Memory": 512}
        assert document["AvailabilityZone"] == REGION + "a"
        assert document["LaunchType"] == "FARGATE"
        assert document["EphemeralStorageMetrics"] == {"Utilized": 0, "Reserved": 20480}
        assert answers["tags"][1]["TaskTags"] == {"fleet": "demo"}

        own = answers["self"][1]
        assert own["DockerId"].startswith(task.id + "-")
        assert own["Limits"] == {"CPU": 64, "Memory": 128}
        assert own["Image"] == f"{REGISTRY}/asking:1"
        assert own["ImageID"].startswith("sha256:")
        assert own["Health"]["status"] == "UNKNOWN"
        assert own["Networks"][0]["IPv4Addresses"] == [task.address]
        assert own["LogOptions"]["awslogs-stream"] == f"ecs/asking/{task.id}"
        assert answers["unknown"][0] == 404

        status, session = answers["credentials"]
        assert (status, session["RoleArn"], session["Token"]) == (200, ROLE, f"token of {ROLE}")
        assert session["AccessKeyId"] == "ASIA" + task.id[:8].upper()
        assert datetime.fromisoformat(session["Expiration"]) > datetime.now(UTC)
        assert answers["other"] == (
            400,
            {
                "code": "InvalidIdInRequest",
                "message": "CredentialsV2Request: Credentials not found",
                "HTTPErrorCode": 400,
            },
        )


async def test_figures_are_those_of_the_processes(hub: Hub, tmp_path: Path) -> None:
    async with running(hub, tmp_path) as (runner, logs):
        (task,) = await start(runner, service(container("app", "working", memory=256)))
        await until(lambda: logs.texts("app") == ["done"])
        await asyncio.sleep(0.5)  # two more samples
        figures = (await runner.figures(task.arn))["app"]
        stats = cast("dict[str, Any]", runner._task(task.arn).stats.container(task.containers[0]))

    assert figures["memory_bytes"] > 30_000_000
    assert stats["memory_stats"]["usage"] == pytest.approx(figures["memory_bytes"], rel=0.1)
    assert stats["memory_stats"]["stats"]["cache"] == 0
    assert stats["memory_stats"]["limit"] == 256 << 20
    cpu = stats["cpu_stats"]["cpu_usage"]
    assert cpu["total_usage"] == cpu["usage_in_usermode"] + cpu["usage_in_kernelmode"]
    assert figures["cpu_seconds"] >= 0.5
    assert cpu["total_usage"] / 1e9 == pytest.approx(figures["cpu_seconds"], abs=0.06)
    assert stats["cpu_stats"]["online_cpus"] == len(os.sched_getaffinity(0))
    assert 0 <= cpu["total_usage"] - stats["precpu_stats"]["cpu_usage"]["total_usage"] < 50_000_000
    assert stats["preread"] < stats["read"]
    storage = {each["op"]: each["value"] for each in stats["blkio_stats"]["io_service_bytes_recursive"]}
    assert storage["Write"] >= 30_000_000
    assert task.ephemeral_bytes >= 30_000_000
    assert ("networks" in stats) == (hub.mode == "namespaces")


async def test_processes_that_left_their_parent_are_still_counted(hub: Hub, tmp_path: Path) -> None:
    daemon = (
        f"setsid {sys.executable} -c 'held = bytearray(40_000_000); import time; time.sleep(60)' & sleep 60"
    )
    spec = service(
        container("app", "shell", command=[f"({daemon}) & echo up; exec sleep 60"]),
        container("other", "shell", command=["exec sleep 60"]),
    )
    async with running(hub, tmp_path) as (runner, _):
        (task,) = await start(runner, spec)
        stats = runner._task(task.arn).stats

        def usage(place: int) -> int:
            found = stats.container(task.containers[place])
            return cast("int", found["memory_stats"]["usage"]) if found else 0

        await until(lambda: usage(0) > 40_000_000)
        assert usage(1) < 10_000_000


async def test_exited_children_stay_in_the_cpu_time(hub: Hub, tmp_path: Path) -> None:
    work = f"{sys.executable} -c 'for _ in range(5_000_000): pass'; echo worked; exec sleep 60"
    async with running(hub, tmp_path) as (runner, logs):
        (task,) = await start(runner, service(container("app", "shell", command=[work])))
        await until(lambda: logs.texts("app") == ["worked"])
        await asyncio.sleep(0.5)
        stats = cast("dict[str, Any]", runner._task(task.arn).stats.container(task.containers[0]))
        assert stats["pids_stats"]["current"] == 1
        assert stats["cpu_stats"]["cpu_usage"]["total_usage"] > 50_000_000


@needs_root
async def test_network_figures_are_those_of_the_interface(namespaces: Hub, tmp_path: Path) -> None:
    listener = namespaces.listen(443)
    received = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        while data := await reader.read(1 << 16):
            received += len(data)
        writer.close()

    code = (
        "import socket,time; s = socket.create_connection(('169.254.171.1', 443)); s.sendall(bytes(1_000_000));"
        "s.close(); print('sent', flush=True); time.sleep(60)"
    )
    server = await asyncio.start_server(take, sock=listener)
    async with server, running(namespaces, tmp_path) as (runner, logs):
        (task,) = await start(
            runner, service(container("app", "server", entryPoint=[sys.executable, "-c", code]))
        )
        rates: list[float] = []
        stats = runner._task(task.arn).stats

        def seen() -> bool:
            found = stats.container(task.containers[0])
            if found:
                rates.append(found["network_rate_stats"]["tx_bytes_per_sec"])
            return logs.texts("app") == ["sent"] and max(rates, default=0) > 1_000_000

        await until(seen)
        found = cast("dict[str, Any]", stats.container(task.containers[0]))
        assert received == 1_000_000
        assert [*found["networks"]] == ["eth1"]
        assert 1_000_000 < found["networks"]["eth1"]["tx_bytes"] < 1_200_000
        assert 0 < found["networks"]["eth1"]["rx_bytes"] < 100_000


@needs_root
async def test_nothing_but_the_hub_can_be_reached(namespaces: Hub, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = outside.getsockname()[1]
        code = (
            "import socket\n"
            f"for place in (('127.0.0.1', {port}), ('192.0.2.1', 80), ('169.254.171.1', 80)):\n"
            "    try: socket.create_connection(place, 2); print('reached', flush=True)\n"
            "    except OSError as error: print(error.strerror, flush=True)\n"
        )
        spec = service(container("app", "server", entryPoint=[sys.executable, "-c", code]))
        async with running(namespaces, tmp_path, back_off_s=60) as (runner, logs):
            await runner.apply(spec)
            await until(lambda: len(logs.texts("app")) == 3)
            assert logs.texts("app") == ["Connection refused", "Network is unreachable", "Connection refused"]


@needs_root
async def test_a_task_sees_only_its_own_processes(namespaces: Hub, tmp_path: Path) -> None:
    show = "ls -d /proc/[0-9]* | wc -l; hostname; exec sleep 60"
    async with running(namespaces, tmp_path) as (runner, logs):
        (task,) = await start(runner, service(container("app", "shell", command=[show])))
        await until(lambda: len(logs.texts("app")) == 2)
        count, hostname = logs.texts("app")
        assert int(count) <= 4
        assert hostname == f"ip-{task.address.replace('.', '-')}.{REGION}.compute.internal"


@needs_root
def test_sockets_are_opened_inside_a_namespace(namespaces: Hub) -> None:
    with namespaces.listen(8443) as listener:
        assert listener.getsockname() == ("169.254.171.1", 8443)
        assert not listener.get_inheritable()
        network = namespaces.attach()
        with open_listener(cast("int", network.namespace), "0.0.0.0", 8000) as inside:
            assert inside.getsockname() == ("0.0.0.0", 8000)
        network.close()


def test_without_namespaces_the_hub_listens_on_a_port_of_its_own() -> None:
    with open_hub("ports") as hub, hub.listen(443) as one, hub.listen(443) as other:
        assert one.getsockname()[0] == "127.0.0.1"
        assert one.getsockname() != other.getsockname()


async def test_the_environment_is_what_ecs_gives(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of this computer")
    monkeypatch.setenv("AWS_PROFILE", "of this computer")

    async def secret(source: str, session: Mapping[str, Any] | None) -> str:
        assert session
        return f"{source} for {session['SessionToken']}"

    spec = service(
        container(
            "app",
            "shell",
            command=["env; echo END; exec sleep 60"],
            environment=[{"name": "MODE", "value": "test"}, {"name": "AWS_REGION", "value": "us-east-1"}],
            secrets=[{"name": "PASSWORD", "valueFrom": "arn:secret"}],
        ),
        executionRoleArn=EXECUTION_ROLE,
    )
    extra = {"AWS_CA_BUNDLE": "/ca.pem", "TRUNKLINE_RESOLVE": "*:443=10.0.0.1:443"}
    async with running(hub, tmp_path, secret=secret, environment=extra) as (runner, logs):
        (task,) = await start(runner, spec)
        await until(lambda: "END" in logs.texts("app"))
        found = dict(line.split("=", 1) for line in logs.texts("app") if "=" in line)
    assert {name: value for name, value in found.items() if name.startswith("AWS_")} == {
        "AWS_CA_BUNDLE": "/ca.pem",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        "AWS_REGION": "us-east-1",
    }
    assert found["ECS_CONTAINER_METADATA_URI_V4"].endswith(f"/v4/{task.containers[0].docker_id}")
    assert found["PASSWORD"] == f"arn:secret for token of {EXECUTION_ROLE}"
    assert found["MODE"] == "test"
    assert found["TRUNKLINE_RESOLVE"] == "*:443=10.0.0.1:443"
    assert found["PATH"].startswith(str(Path(sys.executable).parent))
    assert found["TRUNKLINE_DATA_DIR"].startswith(str(tmp_path))


async def test_without_namespaces_ports_are_told(tmp_path: Path) -> None:
    command = ["env; echo END; exec sleep 60"]
    ports = [{"containerPort": 8000}, {"containerPort": 9000}]
    spec = service(
        container("app", "shell", command=command, portMappings=ports),
        container("beside", "shell", command=command),
    )
    with open_hub("ports") as hub:
        async with running(hub, tmp_path, environment={"TRUNKLINE_RESOLVE": "*:443=127.0.0.1:1"}) as (
            runner,
            logs,
        ):
            await start(runner, spec)
            await until(lambda: "END" in logs.texts("app") and "END" in logs.texts("beside"))
            app, beside = (
                dict(line.split("=", 1) for line in logs.texts(name) if "=" in line)
                for name in ("app", "beside")
            )
    assert app["PORT"] == app["PORT_8000"] != app["PORT_9000"]
    assert "PORT" not in beside
    leads = beside["TRUNKLINE_RESOLVE"].split(",")
    assert f"0.0.0.0:8000=127.0.0.1:{app['PORT_8000']}" in leads
    assert f"localhost:9000=127.0.0.1:{app['PORT_9000']}" in leads
    assert leads[-1] == "*:443=127.0.0.1:1"


async def test_a_volume_is_shared_and_its_path_is_translated(hub: Hub, tmp_path: Path) -> None:
    spec = service(
        container(
            "writer",
            "shell",
            command=["echo kept > /shared/file; echo ok > $TRUNKLINE_DATA_DIR/own; exec sleep 60"],
            mountPoints=[{"sourceVolume": "both", "containerPath": "/shared"}],
        ),
        container(
            "reader",
            "shell",
            command=["while ! cat /var/lib/app/file; do sleep 0.05; done 2>/dev/null; exec sleep 60"],
            mountPoints=[{"sourceVolume": "both", "containerPath": "/var/lib/app"}],
        ),
        volumes=[{"name": "both"}],
    )
    async with running(hub, tmp_path) as (runner, logs):
        await start(runner, spec)
        await until(lambda: logs.texts("reader") == ["kept"])


async def test_an_essential_exit_stops_the_task_and_the_service_replaces_it(hub: Hub, tmp_path: Path) -> None:
    spec = service(
        container("app", "shell", command=["sleep 0.2; exit 3"]),
        container("beside", "obedient", essential=False),
    )
    async with running(hub, tmp_path) as (runner, logs):
        await runner.apply(spec)
        await until(lambda: len(stopped(runner)) >= 3, 20)
        first = describe(stopped(runner)[0])
        assert first["lastStatus"] == first["desiredStatus"] == "STOPPED"
        assert first["stoppedReason"] == "Essential container in task exited"
        assert first["stopCode"] == "EssentialContainerExited"
        assert first["containers"][0]["exitCode"] == 3
        assert first["createdAt"] <= first["startedAt"] <= first["stoppingAt"] <= first["stoppedAt"]
        assert first["group"] == "service:web"
        assert runner.failed_tasks(spec.arn) >= 3
        assert any("unable to consistently start tasks" in each for each in messages(runner, spec))
        assert "leaving" in logs.texts("beside")
        times = [task.created_ns for task in stopped(runner)]
        assert times[2] - times[1] > 0.1e9  # the back-off has doubled


async def test_a_container_with_a_restart_policy_is_restarted_alone(hub: Hub, tmp_path: Path) -> None:
    policy = {"enabled": True, "restartAttemptPeriod": 0.1, "ignoredExitCodes": [7]}
    count = "echo x >> count; n=$(wc -l < count); echo run $n; sleep 0.3; [ $n = 3 ] && exit 7; exit 1"
    spec = service(
        container("app", "obedient"),
        container("collector", "shell", command=[count], essential=False, restartPolicy=policy),
        container("early", "shell", command=["exit 1"], essential=False, restartPolicy=policy),
    )
    async with running(hub, tmp_path) as (runner, logs):
        await runner.apply(spec)
        await until(lambda: [task.containers[1].status for task in runner.tasks] == [Status.STOPPED])
        (task,) = runner.tasks
        assert task.status is Status.RUNNING
        assert (task.containers[1].restarts, task.containers[1].exit_code) == (2, 7)
        assert task.containers[2].restarts == 0
        await until(lambda: logs.texts("collector") == ["run 1", "run 2", "run 3"])


async def test_containers_stop_in_the_reverse_of_their_order(hub: Hub, tmp_path: Path) -> None:
    linger = [{"name": "LINGER", "value": "0.3"}]
    spec = service(
        container(
            "app",
            "obedient",
            environment=linger,
            dependsOn=[{"containerName": "collector", "condition": "START"}],
        ),
        container("collector", "obedient", essential=False),
    )
    async with running(hub, tmp_path) as (runner, logs):
        (task,) = await start(runner, spec)
        await until(lambda: logs.texts("app") == logs.texts("collector") == ["up"])
        await runner.stop_task(task.arn, "enough")
        await until(lambda: task.status is Status.STOPPED)
        app, collector = task.containers
        assert app.started_ns > collector.started_ns
        assert collector.finished_ns > app.finished_ns >= app.started_ns + 0.3e9
        assert (app.exit_code, collector.exit_code) == (0, 0)
        assert (task.stopped_reason, task.stop_code) == ("enough", "UserInitiated")
        await until(lambda: len(runner.tasks) == 2)


async def test_who_ignores_sigterm_is_killed_after_the_stop_timeout(hub: Hub, tmp_path: Path) -> None:
    deaf = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    async with running(hub, tmp_path) as (runner, logs):
        (task,) = await start(runner, service(container("app", "shell", command=[deaf], stopTimeout=1)))
        await until(lambda: logs.texts("app") == ["up"])
        await runner.stop_task(task.arn)
        await until(lambda: task.status is Status.STOPPED)
        assert 1 <= (task.stopped_ns - task.stopping_ns) / 1e9 < 4
        assert task.containers[0].exit_code == 137


async def test_dependencies_are_waited_for(hub: Hub, tmp_path: Path) -> None:
    check = {"command": ["CMD", "/probe", "test -e ready"], "interval": 0.1, "retries": 50}
    spec = service(
        container("setup", "shell", command=["sleep 0.2; exit 0"], essential=False),
        container("slow", "shell", command=["sleep 0.4; touch ready; exec sleep 60"], healthCheck=check),
        container(
            "app",
            "shell",
            command=["exec sleep 60"],
            dependsOn=[
                {"containerName": "setup", "condition": "SUCCESS"},
                {"containerName": "slow", "condition": "HEALTHY"},
            ],
        ),
    )
    async with running(hub, tmp_path) as (runner, _):
        await runner.apply(spec)
        await until(lambda: [task.status for task in runner.tasks] == [Status.RUNNING])
        (task,) = runner.tasks
        setup, slow, app = task.containers
        assert app.started_ns > max(setup.finished_ns, slow.started_ns + 0.4e9)
        assert task.health == "HEALTHY"


async def test_a_failed_dependency_fails_the_start(hub: Hub, tmp_path: Path) -> None:
    spec = service(
        container("setup", "shell", command=["exit 1"], essential=False),
        container(
            "app",
            "shell",
            command=["sleep 9"],
            dependsOn=[{"containerName": "setup", "condition": "SUCCESS"}],
        ),
    )
    async with running(hub, tmp_path, back_off_s=60) as (runner, _):
        await runner.apply(spec)
        await until(lambda: stopped(runner))
        (task,) = stopped(runner)
        assert task.stop_code == "TaskFailedToStart"
        assert "container ordering dependency [setup] for target [app]" in task.stopped_reason


async def test_an_unhealthy_task_is_replaced(hub: Hub, tmp_path: Path) -> None:
    check = {"command": ["CMD-SHELL", "exit 1"], "interval": 0.1, "retries": 2}
    async with running(hub, tmp_path) as (runner, _):
        spec = service(container("app", "obedient", healthCheck=check))
        await runner.apply(spec)
        await until(lambda: stopped(runner))
        (task, *_) = stopped(runner)
        assert task.stopped_reason == "Task failed container health checks"
        assert f"(service web) (task {task.id}) failed container health checks." in messages(runner, spec)


async def test_a_health_check_that_hangs_counts_as_failed(hub: Hub, tmp_path: Path) -> None:
    check = {"command": ["CMD", "sleep", "60"], "interval": 0.1, "timeout": 0.1, "retries": 1}
    async with running(hub, tmp_path, back_off_s=60) as (runner, _):
        await runner.apply(service(container("app", "obedient", healthCheck=check)))
        await until(lambda: stopped(runner))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            {"image": f"{REGISTRY}/unknown:1"},
            "CannotPullContainerError: pull image manifest has been retried 1 time(s)",
        ),
        ({"image": f"{REGISTRY}/absent:1"}, "CannotStartContainerError: Error response from daemon"),
        ({"workingDirectory": "/no/such/folder"}, "CannotStartContainerError: Error response from daemon"),
        (
            {"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/missing"}}},
            "ResourceInitializationError: failed to validate logger args",
        ),
        (
            {"secrets": [{"name": "X", "valueFrom": "y"}]},
            "ResourceInitializationError: unable to pull secrets",
        ),
    ],
)
async def test_a_task_that_cannot_start_says_why(
    hub: Hub, tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    async with running(hub, tmp_path, back_off_s=60) as (runner, _):
        await runner.apply(service(container("app", "shell", command=["sleep 9"]) | more))
        await until(lambda: stopped(runner))
        (task,) = stopped(runner)
        assert task.stopped_reason.startswith(reason)
        assert task.stop_code == "TaskFailedToStart"


async def test_the_registry_is_asked_with_the_execution_role(hub: Hub, tmp_path: Path) -> None:
    asked = []

    async def pull(image: str, session: Mapping[str, Any] | None) -> str:
        asked.append((image, session and session["SessionToken"]))
        return "sha256:" + "0" * 64

    spec = service(container("app", "obedient"), executionRoleArn=EXECUTION_ROLE)
    async with running(hub, tmp_path, pull=pull) as (runner, _):
        (task,) = await start(runner, spec)
        assert asked == [(f"{REGISTRY}/obedient:1", f"token of {EXECUTION_ROLE}")]
        assert describe(task)["containers"][0]["imageDigest"] == "sha256:" + "0" * 64


async def test_a_task_is_not_waited_for_while_a_registry_does_not_answer(hub: Hub, tmp_path: Path) -> None:
    async def pull(image: str, session: Mapping[str, Any] | None) -> None:
        del image, session
        await asyncio.sleep(600)

    async with running(hub, tmp_path, pull=pull) as (runner, _):
        spec = service(container("app", "obedient"))
        await runner.apply(spec)
        await until(lambda: [task.status for task in runner.tasks] == [Status.PENDING])
        await asyncio.wait_for(runner.remove(spec.arn), 5)
        assert [task.stop_code for task in runner.tasks] == ["ServiceSchedulerInitiated"]


async def test_closing_is_not_held_up_by_what_is_stopping_already(hub: Hub, tmp_path: Path) -> None:
    deaf = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    async with running(hub, tmp_path) as (runner, logs):
        (task,) = await start(runner, service(container("app", "shell", command=[deaf], stopTimeout=60)))
        await until(lambda: logs.texts("app") == ["up"])
        leaving = asyncio.create_task(runner.remove(task.service.arn))
        await until(lambda: task.status is Status.STOPPING)
        assert runner.tasks == [task]
        await asyncio.wait_for(runner.close(stop_limit_s=0.2), 10)
        await leaving
        assert [each.status for each in runner.tasks] == [Status.STOPPED]


async def test_a_role_that_cannot_be_assumed_starts_nothing(hub: Hub, tmp_path: Path) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/untrusted"
    spec = service(container("app", "obedient"), taskRoleArn=role)
    async with running(hub, tmp_path, back_off_s=60) as (runner, _):
        await runner.apply(spec)
        await until(lambda: stopped(runner))
        assert any(
            each.startswith(
                f"(service web) failed to launch a task with (error ECS was unable to assume the role '{role}'"
            )
            for each in messages(runner, spec)
        )


async def test_a_new_revision_replaces_tasks_once_its_own_run(hub: Hub, tmp_path: Path) -> None:
    async with running(hub, tmp_path) as (runner, _):
        (old,) = await start(runner, service(container("app", "obedient")))
        (new,) = await start(runner, service(container("app", "obedient"), revision=2))
        assert new.definition.revision == 2
        assert old.status is Status.STOPPED
        assert old.stopping_ns > new.started_ns
        assert old.stopped_reason.startswith("Scaling activity initiated by (deployment ecs-svc/")
        await runner.reconcile([service(container("app", "obedient"), revision=2, count=0)])
        await until(lambda: new.status is Status.STOPPED)
        await runner.reconcile([])
        assert not runner.services


async def test_a_shorter_count_stops_some(hub: Hub, tmp_path: Path) -> None:
    async with running(hub, tmp_path) as (runner, _):
        assert len(await start(runner, service(container("app", "obedient"), count=3))) == 3
        assert len(await start(runner, service(container("app", "obedient"), count=1))) == 1


async def test_logs_are_kept_in_files_too(hub: Hub, tmp_path: Path) -> None:
    talk = "echo out; echo err >&2; printf 'no end'"
    async with running(hub, tmp_path, back_off_s=60) as (runner, logs):
        await runner.apply(service(container("app", "shell", command=[talk])))
        await until(lambda: stopped(runner))
        (task,) = stopped(runner)
        assert logs.texts("app") == ["out", "err", "no end"]
        assert all(abs(time.time() * 1000 - when) < 60_000 for when, _ in logs.lines["app"])
        file = tmp_path / "logs" / ACCOUNT / REGION / "ecs" / "app" / "ecs" / "app" / f"{task.id}.log"
        assert [line.split(" ", 1)[1] for line in file.read_text().splitlines()] == ["out", "err", "no end"]


async def test_a_flood_of_output_holds_nobody_up(hub: Hub, tmp_path: Path) -> None:
    flood = "i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero | tr '\\0' 'x'; echo; i=$((i+1)); done; echo done"
    release = asyncio.Event()

    async def stuck(stream: LogStream, lines: Sequence[tuple[int, str]]) -> None:
        del stream
        if lines:
            await release.wait()

    async with running(hub, tmp_path, put_logs=stuck, back_off_s=60) as (runner, _):
        await runner.apply(service(container("app", "shell", command=[flood])))
        await until(lambda: [task.containers[0].exit_code for task in runner.tasks] == [0])
        release.set()
