"""Starting and stopping the gateway process."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from trunkline.errors import SimulatorError
from trunkline.simulator.child import end, tied_to_parent
from trunkline.simulator.gateway.client import GatewayClient
from trunkline.simulator.gateway.settings import GatewaySettings, Listener

_PATIENCE_S = 4.0
_BACKLOG = 512
_LOG_TAIL_CHARACTERS = 600


class Gateway(GatewayClient):
    """The gateway process of one simulator, with what can be asked of it while it runs.

    It listens with TLS on `sockets` (bound already, for instance inside another network namespace; handed
    over, and closed here) and on a free port of 127.0.0.1 (`tls_port`), and without TLS on another
    (`plain_port`). The control socket is `<state>/gateway.sock`, the log `<state>/gateway.log`; the front door
    is asked on `<state>/authorize.sock`. Start it from a thread that lives as long as the process (see
    `child.tied_to_parent`).
    """

    def __init__(
        self, state: Path, certificate: Path, key: Path, sockets: Sequence[socket.socket] = ()
    ) -> None:
        super().__init__(state / "gateway.sock")
        self._state = state
        self._certificate, self._key = certificate, key
        self._sockets = list(sockets)
        self._process: subprocess.Popen[bytes] | None = None
        self.tls_port = 0
        self.plain_port = 0

    @property
    def pid(self) -> int | None:
        """The process while it is started."""
        return self._process.pid if self._process else None

    async def start(self, timeout_s: float = 20.0) -> None:
        """Start it and wait until it answers on its control socket.

        Raises:
            SimulatorError: it ended by itself, or is not ready in time.
        """
        tls, plain = _loopback_socket(), _loopback_socket()
        self.tls_port, self.plain_port = tls.getsockname()[1], plain.getsockname()[1]
        listening = [*self._sockets, tls, plain]
        settings = GatewaySettings(
            listeners=tuple(Listener(item.fileno(), item is not plain) for item in listening),
            control_socket=str(self.control_socket),
            authorize_socket=str(self._state / "authorize.sock"),
            certificate=str(self._certificate),
            key=str(self._key),
        )
        self.control_socket.unlink(missing_ok=True)
        try:
            self._launch(settings, [item.fileno() for item in listening])
        finally:
            for item in listening:
                item.close()
        await self._wait_until_ready(timeout_s)

    async def stop(self) -> None:
        """End it; nothing happens when it is not started."""
        if self._process:
            await end(self._process, _PATIENCE_S)
            self._process = None
        self.control_socket.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _launch(self, settings: GatewaySettings, descriptors: Sequence[int]) -> None:
        path = self._state / "gateway.json"
        path.write_text(json.dumps(asdict(settings)))
        command = [sys.executable, "-m", "trunkline.simulator.gateway", "--settings", str(path)]
        with (self._state / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (a fixed command)
                tied_to_parent(command),
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            if self.control_socket.exists():
                with suppress(SimulatorError):
                    await self.stats()
                    return
            await asyncio.sleep(0.02)
        await self.stop()
        tail = (self._state / "gateway.log").read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]
        raise SimulatorError(
            f"the workspace gateway did not start within {timeout_s:g} s; its log ends: {tail}"
        )


def _loopback_socket() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    listening.setblocking(False)
    return listening
