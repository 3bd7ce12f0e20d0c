"""`trunkline simulator` as its user runs it; what tasks do in it is in test_world_chain.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
import psutil
import pytest


@pytest.fixture
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "state"


def simulator(state_dir: Path, action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "trunkline",
        "simulator",
        action,
        "--state-dir",
        str(state_dir),
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def up(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "trunkline", "simulator", "up", "--state-dir", str(state_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout
        for line in process.stdout:
            if "simulator down" in line:
                break
        yield process
    finally:
        process.kill()
        process.communicate()


def gone(pids: list[int]) -> bool:
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
    return True


def children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def wait_until_gone(pids: list[int], state_dir: Path) -> None:
    deadline = time.monotonic() + 10
    while (state_dir.exists() or not gone(pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not state_dir.exists()
    assert gone(pids)


def test_from_up_to_down(state_dir: Path) -> None:
    with up(state_dir) as process:
        status = json.loads(simulator(state_dir, "status", "--json").stdout)
        assert status["pid"] == process.pid
        assert status["accounts"] == ["111111111111", "222222222222", "333333333333"]
        assert status["tasks_in"] == ("namespaces" if os.geteuid() == 0 else "ports")
        assert f"AWS_ENDPOINT_URL={status['endpoint']}" in simulator(state_dir, "status").stdout
        who_am_i(state_dir, status["endpoint"])
        second = simulator(state_dir, "up")
        assert (second.returncode, "another simulator is running in" in second.stderr) == (1, True)
        pids = children(process.pid)
        assert len(pids) >= 3
        ended = simulator(state_dir, "down")
        assert (ended.returncode, ended.stdout) == (0, "the simulator has ended\n")
        assert process.wait(10) == 0
        wait_until_gone(pids, state_dir)
    nobody = simulator(state_dir, "status")
    assert (nobody.returncode, "start one with: trunkline simulator up" in nobody.stderr) == (1, True)
    assert simulator(state_dir, "down").returncode == 0


def who_am_i(state_dir: Path, endpoint: str) -> None:
    """The keys as JSON and as profiles are those of administrators."""
    keys = json.loads((state_dir / "accounts.json").read_text())
    assert (state_dir / "accounts.json").stat().st_mode & 0o777 == 0o600
    assert (state_dir / "credentials").stat().st_mode & 0o777 == 0o600
    profiles = (state_dir / "credentials").read_text()
    for account, key in keys.items():
        sts = boto3.client(
            "sts",
            region_name="eu-west-1",
            endpoint_url=endpoint,
            **{f"aws_{name}": text for name, text in key.items()},
        )
        assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{account}:user/Administrator"
        assert f"[{account}]\naws_access_key_id = {key['access_key_id']}\n" in profiles


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(state_dir: Path, number: int) -> None:
    with up(state_dir) as process:
        pids = children(process.pid)
        process.send_signal(number)
        assert process.wait(20) == 0
        wait_until_gone(pids, state_dir)


def test_nothing_stays_of_one_that_is_killed(state_dir: Path) -> None:
    with up(state_dir) as process:
        pids = children(process.pid)
        process.kill()
        wait_until_gone(pids, state_dir)


def test_what_one_left_that_was_killed_with_its_watchdog_is_removed(state_dir: Path) -> None:
    with up(state_dir) as process:
        watchdog = next(child for child in psutil.Process(process.pid).children() if child.name() == "sh")
        watchdog.kill()
        process.kill()
        process.wait()
        assert state_dir.exists()
        status = simulator(state_dir, "status")
        assert f"removed what a simulator that died had left in {state_dir}" in status.stdout
        assert not state_dir.exists()


def test_an_account_that_is_none(state_dir: Path) -> None:
    refused = simulator(state_dir, "up", "--account", "1234")
    assert (refused.returncode, "an account's id has 12 digits" in refused.stderr) == (2, True)
