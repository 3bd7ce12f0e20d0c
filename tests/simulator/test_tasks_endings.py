"""Nothing outlives the simulator, whatever happens to it: real supervisors, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from trunkline.errors import SimulatorError
from trunkline.simulator.tasks.namespaces import open_hub

# Starts three tasks; each leaves its session, keeps a second process, listens, and ignores SIGTERM.
SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from trunkline.simulator.tasks.definition import TaskDefinition
from trunkline.simulator.tasks.images import Image
from trunkline.simulator.tasks.namespaces import open_hub
from trunkline.simulator.tasks.runner import TaskRunner
from trunkline.simulator.tasks.state import ServiceSpec, Status

mode, folder, ending = sys.argv[1:]
program = '''
import os, signal, socket, sys, tempfile, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.create_server(("0.0.0.0", int(os.environ.get("PORT", "8000"))))
open(tempfile.mkdtemp() + "/file", "w").write("x")
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(600)
os.wait()
open("/data/ready", "w").close()
time.sleep(600)
'''
definition = TaskDefinition.from_api({
    "taskDefinitionArn": "arn:aws:ecs:eu-west-1:222222222222:task-definition/app:1", "family": "app", "revision": 1,
    "containerDefinitions": [{"name": "app", "image": "app", "portMappings": [{"containerPort": 8000}],
                              "mountPoints": [{"sourceVolume": "data", "containerPath": "/data"}]}],
    "volumes": [{"name": "data"}],
})

async def issue(role, session):
    raise AssertionError

async def main():
    with open_hub(mode) as hub:
        images = {"app": Image([sys.executable, "-c"], [program])}
        async with TaskRunner(hub=hub, state_dir=Path(folder), images=images, issue=issue) as runner:
            service = ServiceSpec("222222222222", "eu-west-1", "demo", "app", 3, definition)
            await runner.apply(service)
            await runner.steady(service.arn)
            while len([*Path(folder).glob("tasks/*/volumes/data/ready")]) < 3:
                await asyncio.sleep(0.02)
            print("steady", flush=True)
            await asyncio.to_thread(sys.stdin.read)
            if ending == "close":
                await runner.close(stop_limit_s=0.2)

asyncio.run(main())
"""


def namespaces_are_missing() -> str:
    try:
        open_hub("namespaces").close()
    except SimulatorError as error:
        return str(error)
    return ""


NO_NAMESPACES = namespaces_are_missing()
MODES = [
    pytest.param("namespaces", marks=pytest.mark.skipif(bool(NO_NAMESPACES), reason=NO_NAMESPACES or "-")),
    "ports",
]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str, str], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def run(mode: str, ending: str) -> subprocess.Popen[bytes]:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, mode, str(tmp_path), ending],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        started.append(supervisor)
        assert supervisor.stdout
        assert supervisor.stdout.readline() == b"steady\n"
        return supervisor

    yield run
    for supervisor in started:
        supervisor.kill()
        supervisor.communicate()


def links() -> set[str]:
    return {each.name for each in Path("/sys/class/net").iterdir()}


def namespaces_of_processes() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        for kind in ("net", "pid", "mnt"):
            with suppress(OSError):
                found.add(str((entry / "ns" / kind).readlink()))
    return found


def traces(folder: Path) -> list[str]:
    """Processes that know the folder: it is in the environment or the arguments of all that belong to it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and (
                str(folder) in process.environ().get("HOME", "") or str(folder) in " ".join(process.cmdline())
            ):
                found.append(f"{process.pid} {' '.join(process.cmdline())[:60]}")
    return found


def listening(owners: Sequence[Any]) -> set[int]:
    connections = [each for owner in owners for each in owner.net_connections()]
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def until(met: Callable[[], bool], within_s: float = 5) -> bool:
    end = time.monotonic() + within_s
    while not met() and time.monotonic() < end:
        time.sleep(0.02)
    return met()


def kill(supervisor: subprocess.Popen[bytes]) -> None:
    supervisor.kill()
    supervisor.wait()


def ask(supervisor: subprocess.Popen[bytes]) -> None:
    supervisor.communicate(timeout=20)
    assert supervisor.returncode == 0


def interrupt(supervisor: subprocess.Popen[bytes]) -> None:
    """Ctrl-C twice: the second one interrupts the stopping."""
    supervisor.send_signal(signal.SIGINT)
    time.sleep(0.3)
    supervisor.send_signal(signal.SIGINT)
    supervisor.communicate(timeout=60)


@pytest.mark.parametrize("ending", [kill, ask])
@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left(
    mode: str,
    ending: Callable[[subprocess.Popen[bytes]], None],
    start: Callable[[str, str], subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    links_before, namespaces_before = links(), namespaces_of_processes()
    supervisor = start(mode, "close")
    descendants = psutil.Process(supervisor.pid).children(recursive=True)
    # Per task process 1, the program, and the one that left it.
    assert len(descendants) == 9
    assert len([*(tmp_path / "tasks").iterdir()]) == 3
    ports = listening(descendants)
    ending(supervisor)

    assert until(lambda: not any(process.is_running() for process in descendants))
    assert until(lambda: not traces(tmp_path)), traces(tmp_path)
    assert until(lambda: not [*(tmp_path / "tasks").glob("*")])
    assert links() == links_before
    assert until(lambda: namespaces_of_processes() <= namespaces_before)
    if mode == "ports":
        assert len(ports) == 3
        assert not ports & listening([psutil])


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupted_ending_leaves_nothing_either(
    mode: str, start: Callable[[str, str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    supervisor = start(mode, "close")
    interrupt(supervisor)
    assert until(lambda: not traces(tmp_path)), traces(tmp_path)
    assert until(lambda: not [*(tmp_path / "tasks").glob("*")])


@pytest.mark.parametrize("mode", MODES)
def test_a_task_whose_first_process_is_killed_ends_and_is_replaced(
    mode: str, start: Callable[[str, str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    supervisor = start(mode, "close")
    (first, *_) = psutil.Process(supervisor.pid).children()
    below = first.children(recursive=True)
    assert len(below) == 2
    first.kill()
    assert until(lambda: not any(process.is_running() for process in below))
    assert until(lambda: len(psutil.Process(supervisor.pid).children()) == 3, 10)
    ask(supervisor)
    assert until(lambda: not traces(tmp_path)), traces(tmp_path)
