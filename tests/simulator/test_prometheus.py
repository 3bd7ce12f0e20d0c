"""A real Prometheus: taken up, written to, gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import aiohttp
import psutil
import pytest
from trunkline.errors import SimulatorError
from trunkline.simulator.prometheus import PrometheusServer, find_prometheus

from tests.simulator.gateway_stand_in import WRITE_HEADERS, compressed, named, now_ms, series, until


async def test_takes_late_samples_and_answers(tmp_path: Path):
    folder = tmp_path / "server"
    async with PrometheusServer(folder) as server, aiohttp.ClientSession() as client:
        assert server.url.startswith("http://127.0.0.1:")
        # As late as the oldest sample that the gateway lets through.
        for age_ms in (0, 3_600_000, 1_800_000):
            body = compressed(series(named("late"), [(1.0, now_ms() - age_ms)]))
            async with client.post(f"{server.url}/api/v1/write", data=body, headers=WRITE_HEADERS) as answer:
                assert answer.status == 204, await answer.text()
        async with client.get(f"{server.url}/api/v1/query", params={"query": "late[2h]"}) as answer:
            found = (await answer.json())["data"]["result"]
        assert len(found[0]["values"]) == 3
        assert server.pid is not None
        process = psutil.Process(server.pid)
        assert process.name() == "prometheus"
    assert not process.is_running()
    assert not folder.exists()


async def test_ends_when_stopped_before_it_is_ready(tmp_path: Path):
    server = PrometheusServer(tmp_path / "server")
    with pytest.raises(SimulatorError, match=r"prometheus did not start within 0 s"):
        await server.start(timeout_s=0.0)
    assert server.pid is None


async def test_says_why_it_did_not_start(tmp_path: Path):
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "data").write_text("a file where a folder should be")
    with pytest.raises(SimulatorError, match="its log ends: .*data"):
        await PrometheusServer(folder).start()


def test_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulatorError, match="apt-get install prometheus.*2.42 or newer on the PATH"):
        find_prometheus()


_PARENT = """
import asyncio, sys
from pathlib import Path
from trunkline.simulator.prometheus import PrometheusServer

async def main():
    server = PrometheusServer(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_dies_with_its_parent(tmp_path: Path):
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PARENT), str(tmp_path / "server")],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout
    with parent, parent.stdout:
        line = await asyncio.to_thread(parent.stdout.readline)
        child = psutil.Process(int(line))
        assert child.name() == "prometheus"
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
