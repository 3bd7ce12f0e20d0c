"""The demo as its user runs it: a command, from its first process to the last trace of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from trunkline.simulator.demo.refusals import STRANGER

REFUSED = "refused: "


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where temporary files go; a short path, for the sockets below it."""
    return tmp_path_factory.mktemp("t")


@contextmanager
def demo(temporary: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "trunkline", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**without_runtime_dir(), "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def trunkline(temporary: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "trunkline", *arguments]
    environment = {**without_runtime_dir(), "TMPDIR": str(temporary)}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def without_runtime_dir() -> dict[str, str]:
    """So that state folders lie among the temporary files, whatever runs on this machine."""
    return {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    pytest.fail(f"{words!r} is not in: {''.join(lines)}")


@dataclass(frozen=True)
class Traces:
    """The processes of a demo, and the namespaces they are in that are not ours."""

    pids: frozenset[int]
    namespaces: frozenset[str]

    @classmethod
    def of(cls, pid: int) -> Traces:
        pids = frozenset(child.pid for child in psutil.Process(pid).children(recursive=True))
        return cls(pids | {pid}, namespaces(pids) - namespaces({os.getpid()}))

    def left(self) -> list[str]:
        living = [each for each in self.pids if lives(each)]
        everywhere = set(psutil.pids())
        return [*map(str, living), *(self.namespaces & namespaces(everywhere))]


def namespaces(pids: set[int] | frozenset[int]) -> frozenset[str]:
    found = set()
    for pid in pids:
        for kind in ("net", "pid", "mnt", "uts"):
            with suppress(OSError):
                found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
    return frozenset(found)


def lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def nothing_stays(traces: Traces, temporary: Path) -> None:
    assert len(traces.pids) > 3
    wait(lambda: not traces.left() and not list(temporary.iterdir()))
    assert traces.left() == []
    assert list(temporary.iterdir()) == []


def wait(done: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.1)


def test_a_demo_proves_what_it_shows(temporary: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with demo(temporary, "--for", "20s", "--json", str(report)) as process:
        early = read_until(process, "its first metrics are in the workspace")
        traces = Traces.of(process.pid)
        late, _ = process.communicate(timeout=120)
    assert process.returncode == 0, early + late
    check_report(json.loads(report.read_text()))
    assert (
        "333333333333 us-east-1: trunkline-services: WebShopService (AWS::ECS::Service) create complete"
        in early
    )
    assert "222222222222 eu-west-1 web-shop: 2 of 2 tasks up, " in late
    assert late.count("MiB resident") == 4
    nothing_stays(traces, temporary)


def check_report(report: dict[str, Any]) -> None:
    assert sorted(report) == ["accounts", "checks"]
    assert {account: found["region"] for account, found in report["accounts"].items()} == {
        "222222222222": "eu-west-1",
        "333333333333": "us-east-1",
    }
    for found in report["accounts"].values():
        assert sorted(found) == ["region", "samples", "series", "tasks"]
        assert found["tasks"] == 2
        assert 100 < found["series"] < found["samples"]
    assert all(
        sorted(check) == ["detail", "name", "ok"] and check["ok"] is True for check in report["checks"]
    )
    names = [check["name"] for check in report["checks"]]
    assert "first metrics within 20 s" in names
    details = [check["detail"] for check in report["checks"] if check["name"].startswith(REFUSED)]
    assert details[0] == "403 Missing Authentication Token"
    stranger = (
        f"403 User: arn:aws:sts::222222222222:assumed-role/{STRANGER}/demo is not authorized to perform: "
    )
    assert (
        details[1]
        == f"{stranger}sts:AssumeRole on resource: arn:aws:iam::111111111111:role/ECS-AMP-Central-Role"
    )
    assert details[2].startswith(
        f"{stranger}aps:RemoteWrite on resource: arn:aws:aps:eu-west-1:222222222222:workspace/"
    )
    reader = "403 User: arn:aws:sts::111111111111:assumed-role/ECS-AMP-Central-Role-query/demo is not authorized to"
    assert details[3].startswith(
        f"{reader} perform: aps:RemoteWrite on resource: arn:aws:aps:eu-west-1:111111111111:"
    )
    assert len(details) == 4


def test_nothing_stays_of_a_demo_that_is_killed(temporary: Path) -> None:
    with demo(temporary) as process:
        read_until(process, "its first metrics are in the workspace")
        traces = Traces.of(process.pid)
        if os.geteuid() == 0:
            assert len(traces.namespaces) >= 4 * 3  # for each of four tasks: network, processes, files, name
        process.kill()
        process.wait()
        nothing_stays(traces, temporary)


def test_nothing_stays_of_a_demo_that_is_interrupted_while_it_deploys(temporary: Path) -> None:
    with demo(temporary, "--for", "20s") as process:
        read_until(process, "trunkline-base: creating")
        traces = Traces.of(process.pid)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130
        nothing_stays(traces, temporary)


def test_ctrl_c_is_the_usual_end_of_a_demo_without_one(temporary: Path) -> None:
    with demo(temporary) as process:
        said = read_until(process, "samples/s")
        asked = trunkline(temporary, "query", "count(ecs_task_memory_utilized_MiB)")
        other = trunkline(temporary, "simulator", "status")
        traces = Traces.of(process.pid)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "trunkline simulator logs --follow --container aws-otel-collector" in said
    assert "4" in asked.split()  # found without being told where the demo is
    assert "web-shop" in other
    assert "first metrics of every account: " in rest
    nothing_stays(traces, temporary)


def test_a_report_needs_an_end() -> None:
    command = [sys.executable, "-m", "trunkline", "demo", "--json", "report.json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "say how long with --for 60s" in ended.stderr
