"""The control socket between the command line and a simulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from trunkline.errors import SimulatorError
from trunkline.simulator.control import SOCKET, ControlClient, ControlServer, default_state_dir


async def count(to: int, *, fail: bool = False) -> AsyncIterator[Any]:
    for number in range(to):
        yield {"number": number}
    if fail:
        raise SimulatorError("no further")


async def broken() -> AsyncIterator[Any]:
    yield 1
    raise RuntimeError("a defect")


async def asked(folder: Path, name: str, **arguments: Any) -> list[Any]:
    async with ControlServer(folder / SOCKET, {"count": count, "broken": broken}):
        return await asyncio.to_thread(lambda: list(ControlClient(folder).stream(name, **arguments)))


async def test_items_come_in_order(tmp_path: Path) -> None:
    assert await asked(tmp_path, "count", to=3) == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert await asked(tmp_path, "count", to=0) == []
    assert not (tmp_path / SOCKET).exists()


async def test_a_refusal_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"^no further$"):
        await asked(tmp_path, "count", to=1, fail=True)
    with pytest.raises(SimulatorError, match="knows no 'dance'"):
        await asked(tmp_path, "dance")
    with pytest.raises(SimulatorError, match="unexpected keyword argument 'up'"):
        await asked(tmp_path, "count", to=1, up=1)
    with pytest.raises(SimulatorError, match="its log has the details"):
        await asked(tmp_path, "broken")


def test_nobody_there(tmp_path: Path) -> None:
    client = ControlClient(tmp_path)
    assert not client.is_running()
    with pytest.raises(SimulatorError, match="start one with: trunkline simulator up"):
        client.ask("status")


async def test_the_socket_is_its_owners_alone(tmp_path: Path) -> None:
    async with ControlServer(tmp_path / SOCKET, {}):
        assert (tmp_path / SOCKET).stat().st_mode & 0o777 == 0o600
        assert await asyncio.to_thread(ControlClient(tmp_path).is_running)


def test_where_the_folder_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert default_state_dir() == Path("/run/user/7/trunkline")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_state_dir().name.startswith("trunkline-")
