"""Many accounts in three regions, in a process of its own: how long it takes, how often AWS is asked, how much memory.

`TRUNKLINE_FLEET_ACCOUNTS=200` for the full measure; the figures are in the output of `pytest -s`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.simulator.frontdoor_live import Live, running

ACCOUNTS = int(os.environ.get("TRUNKLINE_FLEET_ACCOUNTS", "20"))
REGIONS = ("eu-west-1", "us-east-1", "ap-southeast-2")
MONITORING = "800000000000"
WORKLOADS = [f"81{number:010d}" for number in range(ACCOUNTS)]
STACKS = 1 + ACCOUNTS * (1 + 2 * len(REGIONS))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("crowd")) as live:
        yield live


@pytest.fixture(scope="module")
def description(crowd: Live) -> str:
    keys = {account: crowd.door.add_account(account) for account in (MONITORING, *WORKLOADS)}
    return json.dumps(
        {
            "name": "crowd",
            "monitoring": MONITORING,
            "workloads": WORKLOADS,
            "regions": REGIONS,
            "keys": {account: [key.access_key_id, key.secret_access_key] for account, key in keys.items()},
        }
    )


def measured(crowd: Live, description: str, command: str) -> dict[str, Any]:
    """What the command found, with the time it took, the calls and the memory it needed for each account."""
    before = sum(crowd.door.calls.values())
    arguments = [sys.executable, "-m", "tests.fleet.fleet_process", command, crowd.door.url]
    done = subprocess.run(
        arguments,
        input=description,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    result["calls"] = sum(crowd.door.calls.values()) - before
    assert crowd.emulator.pid
    emulator_mib = psutil.Process(crowd.emulator.pid).memory_info().rss / 2**20
    sys.stdout.write(
        f"{command} {ACCOUNTS} accounts x {len(REGIONS)} regions ({STACKS} stacks): {result['took_s']:.1f} s, "
        f"{result['calls'] / ACCOUNTS:.0f} calls per account, {result['after_kib'] / 1024:.0f} MiB "
        f"({(result['after_kib'] - result['before_kib']) / ACCOUNTS:.0f} KiB per account); "
        f"emulator {emulator_mib:.0f} MiB\n"
    )
    sys.stdout.flush()
    return result


def test_many_accounts_in_three_regions(crowd: Live, description: str) -> None:
    deployed = measured(crowd, description, "deploy")
    assert deployed["changed"]
    assert deployed["calls"] / ACCOUNTS < 90
    assert deployed["after_kib"] - deployed["before_kib"] < 200 * 1024 + 1024 * ACCOUNTS
    again = measured(crowd, description, "deploy")
    assert not again["changed"]
    assert again["calls"] / ACCOUNTS < 50
    assert measured(crowd, description, "plan")["actions"] == ["unchanged"] * STACKS
    assert measured(crowd, description, "destroy")["kept"] == 0
