"""The emulator that holds the resources: ministack, as a child process on a private socket.

    __init__.py     Emulator: starts and stops the process
    __main__.py     the process
    adaptation.py   what ministack's CloudFormation is taught in it
    workspaces.py   the resource type AWS::APS::Workspace
    types.py        other resource types that ministack lacks
    cloudformation.py  what it is told of types: tags, imports, replacement
    drift.py        what differs from a stack, and change sets that put it back
    stacksets.py    StackSets for the units of an organisation
    grafana.py      the API of Amazon Managed Grafana
    network.py      the default VPC's way out
    peering.py      VPC peering, and the names of endpoints
    door.py         the front door as the process reaches it

docs/decisions/0003-emulator.md says why ministack.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

from trunkline.errors import SimulatorError
from trunkline.simulator.child import end, tied_to_parent

_START_S: Final = 30.0
_POLL_S: Final = 0.02

_ENVIRONMENT: Final = {
    "AUTH": "false",
    "DOCKER_HOST": "unix:///nonexistent",
    "IOT_MTLS_ENABLED": "0",
    "LOG_LEVEL": "WARNING",
    "PERSIST_STATE": "0",
    "SFTP_ENABLED": "0",
}


class Emulator:
    """The emulator's process; `socket` is where it listens, once started.

    `front_door` is the front door's internal socket, which need not exist yet. Use `start` and `stop`, or as
    an async context manager. Start it from a thread that lives as long as the process.
    """

    def __init__(self, state: Path, front_door: Path | None = None) -> None:
        self.socket = state / "emulator.sock"
        self.log = state / "emulator.log"
        self._front_door = front_door or state / "internal.sock"
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start it and wait until it answers; raises SimulatorError with its last words if it does not."""
        self._process = self._spawn()
        deadline = time.monotonic() + _START_S
        while not _listens(self.socket):
            if self._process.poll() is not None or time.monotonic() > deadline:
                await self.stop()
                raise SimulatorError(f"The emulator did not start. {self._last_words()}")
            await asyncio.sleep(_POLL_S)

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", __name__, str(self.socket), str(self._front_door)]
        folders = {
            "TMPDIR": str(self._state),
            "STATE_DIR": str(self._state),
            "S3_DATA_DIR": str(self._state / "s3"),
        }
        environment = {**os.environ, **_ENVIRONMENT, **folders}
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                tied_to_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def _last_words(self) -> str:
        return f"Its log, {self.log}, ends with: {self.log.read_bytes()[-2000:].decode(errors='replace')}"

    async def stop(self) -> None:
        """End the process and wait for it."""
        if self._process is not None:
            await end(self._process, 5.0)
            self._process = None
        self.socket.unlink(missing_ok=True)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
