from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from trunkline.net.loop import PromptLoop


def run(coroutine: object) -> object:
    with asyncio.Runner(loop_factory=PromptLoop) as runner:
        return runner.run(coroutine)  # type: ignore[arg-type]


def test_names_are_resolved() -> None:
    async def ask() -> object:
        return await asyncio.get_running_loop().getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)

    assert run(ask()) == socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)


def test_a_name_that_cannot_be_is_an_error() -> None:
    async def ask() -> None:
        await asyncio.get_running_loop().getaddrinfo("a" * 300, 80)

    with pytest.raises((OSError, ValueError)):
        run(ask())


def test_the_end_does_not_wait_for_a_silent_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: let_go.wait(30) and [])

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().getaddrinfo("silent.example", 80)

    started = time.monotonic()
    run(give_up())
    let_go.set()
    assert time.monotonic() - started < 5
