"""Starting and ending the page's process. This module needs nothing beyond the simulator: NiceGUI is loaded over there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from trunkline.errors import SimulatorError, UsageError
from trunkline.simulator.child import end, tied_to_parent

ADDRESS: Final = "page.url"
"""The file in the simulator's folder that names the page's address while it is served."""

READY: Final = "/ready"
"""Where the page says that it is served."""

LOOPBACK: Final = "127.0.0.1:0"
NEEDS: Final = ("nicegui", "grafana_foundation_sdk")
_PATIENCE_S: Final = 30.0
_LOG_TAIL_CHARACTERS: Final = 600
_ASK: Final = f"GET {READY} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def missing() -> list[str]:
    """The packages that the page needs and this installation lacks."""
    return [name for name in NEEDS if find_spec(name) is None]


def listen(address: str) -> socket.socket:
    """A socket at `host:port` of this computer's loopback; port 0 takes a free one. Raises UsageError."""
    host, _, port = address.rpartition(":")
    host = "127.0.0.1" if host in {"", "localhost"} else host.strip("[]")
    try:
        if not ip_address(host).is_loopback:
            raise UsageError(
                f"--page-address {address}: the page has buttons that break things and asks nobody's name, so it "
                "listens on this computer's loopback only: 127.0.0.1:8080, or [::1]:8080"
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    except (ValueError, OverflowError):
        raise UsageError(f"--page-address {address}: write it as 127.0.0.1:8080") from None
    except OSError as error:
        raise UsageError(f"--page-address {address}: {error.strerror}; choose another port, or 0") from None


def url(listener: socket.socket) -> str:
    """Where a browser finds what listens there."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


@contextlib.asynccontextmanager
async def served(state_dir: Path, central_role_arn: str, listener: socket.socket) -> AsyncIterator[None]:
    """The page of the simulator in `state_dir`, from its first answer on; ended when this is left.

    Enter it in the main thread, which the process is tied to. Raises SimulatorError when it does not start.
    """
    log = state_dir / "page.log"
    command = [sys.executable, "-m", "trunkline.page", "--state-dir", str(state_dir)]
    command += ["--central-role", central_role_arn, "--fd", str(listener.fileno())]
    process = _launch(command, listener, log)
    try:
        await _wait_until_ready(process, listener, log)
        (state_dir / ADDRESS).write_text(url(listener), encoding="utf-8")
        yield
    finally:
        (state_dir / ADDRESS).unlink(missing_ok=True)
        await end(process, 3.0)


def _launch(command: list[str], listener: socket.socket, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 (our own program)
            tied_to_parent(command),
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


async def _wait_until_ready(process: subprocess.Popen[bytes], listener: socket.socket, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(max(0.1, deadline - time.monotonic())):
                if await _answers(listener):
                    return
        await asyncio.sleep(0.1)
    raise SimulatorError(f"the page did not start; its log {log} ends: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_CHARACTERS:]


async def _answers(listener: socket.socket) -> bool:
    reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
    try:
        writer.write(_ASK)
        return b" 200 " in await reader.readline()
    finally:
        writer.close()
