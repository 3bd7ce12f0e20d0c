"""A real Prometheus: taken up, written to, gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import aiohttp
import psutil
import pytest
from tests.simulator.gateway_stand_in import WRITE_HEADERS, compressed, named, now_ms, series, until

from trunkline.errors import SimulatorError
from trunkline.simulator.prometheus import PrometheusServer, find_prometheus


async def test_takes_late_samples_and_answers(tmp_path: Path) -> None:
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


async def test_ends_when_stopped_before_it_is_ready(tmp_path: Path) -> None:
    server = PrometheusServer(tmp_path / "server")
    with pytest.raises(SimulatorError, match=r"prometheus did not start within 0 s"):
        await server.start(timeout_s=0.0)
    assert server.pid is None


async def test_says_why_it_did_not_start(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "data").write_text("a file where a folder should be")
    with pytest.raises(SimulatorError, match=r"its log ends: .*data"):
        await PrometheusServer(folder).start()


def test_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulatorError, match=r"apt-get install prometheus.*2.42 or newer on the PATH"):
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


async def test_dies_with_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, str(tmp_path / "server")]
    parent = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert parent.stdout
    child = psutil.Process(int(await parent.stdout.readline()))
    assert child.name() == "prometheus"
    parent.kill()
    await parent.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
