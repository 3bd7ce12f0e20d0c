from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.fleet.model import Fleet, MonitoringAccount, Service, WorkloadAccount
from trunkline.fleet.sessions import AccessKey, Sessions, key_sessions

MONITORING, FIRST, SECOND, APART = "111111111111", "222222222222", "333333333333", "444444444444"


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an emulated AWS without authorisation, whose access key ids are account ids."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("emulator")
    environment = {
        "PATH": os.environ["PATH"],
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "LOG_LEVEL": "WARNING",
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
    program = Path(__file__).with_name("emulator_with_workspaces.py")
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, program], cwd=folder, env=environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            wait_until_listening(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert process.poll() is None, "it ended at once"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("it does not listen")


@pytest.fixture(scope="session")
def sessions(emulator: str) -> Sessions:
    accounts = (MONITORING, FIRST, SECOND, APART)
    return key_sessions({account: AccessKey(account, "unchecked") for account in accounts}, emulator)


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """Two workload accounts, one of them in two regions."""
    return Fleet(
        name="tests",
        monitoring=MonitoringAccount(account_id=MONITORING, region="eu-west-1"),
        workloads=(
            WorkloadAccount(
                account_id=FIRST,
                regions=("eu-west-1", "eu-central-1"),
                services=(Service(name="web-shop", desired_count=2),),
            ),
            WorkloadAccount(
                account_id=SECOND,
                regions=("us-east-1",),
                services=(Service(name="web-shop"), Service(name="billing")),
            ),
        ),
    )


@pytest.fixture(scope="session")
def small_fleet() -> Fleet:
    """Everything in one account that no other test uses."""
    return Fleet(
        name="small",
        monitoring=MonitoringAccount(account_id=APART, region="eu-west-1"),
        workloads=(
            WorkloadAccount(account_id=APART, regions=("eu-west-1",), services=(Service(name="shop"),)),
        ),
    )
