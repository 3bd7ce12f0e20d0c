"""The gateway process: `python -m trunkline.simulator.gateway --settings FILE`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import ssl
import sys
from pathlib import Path

from aiohttp import web

from trunkline.errors import SimulatorError
from trunkline.simulator.gateway.faults import Faults
from trunkline.simulator.gateway.identity import Identity
from trunkline.simulator.gateway.operations import Operations
from trunkline.simulator.gateway.server import DataPlane
from trunkline.simulator.gateway.settings import GatewaySettings
from trunkline.simulator.gateway.workspaces import Workspaces

_SHUTDOWN_S = 1.0


async def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    workspaces, faults, identity = Workspaces(), Faults(), Identity(settings.authorize_socket)
    plane = DataPlane(workspaces, identity, faults)
    # The body belongs to the signature: it must arrive as it was sent, whatever its encoding.
    data = web.AppRunner(
        plane.application(),
        access_log=None,
        shutdown_timeout=_SHUTDOWN_S,
        auto_decompress=False,
        max_line_size=32_768,
    )
    operations = Operations(workspaces, faults, identity, plane)
    control = web.AppRunner(operations.application(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    for runner in (data, control):
        await runner.setup()
    tls = _tls(settings)
    for listener in settings.listeners:
        inherited = socket.socket(fileno=listener.fd)
        context = tls if listener.tls else None
        await web.SockSite(data, inherited, ssl_context=context).start()
    await web.UnixSite(control, settings.control_socket).start()
    await stop.wait()
    for runner in (control, data):
        await runner.cleanup()
    await identity.close()


def _tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    if not settings.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings.certificate, settings.key)
    return context


def main(arguments: list[str] | None = None) -> int:
    """Read the settings and serve; 2 for settings that cannot be."""
    parser = argparse.ArgumentParser(prog="trunkline.simulator.gateway", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="a JSON file of GatewaySettings")
    path: Path = parser.parse_args(arguments).settings
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        settings = GatewaySettings.decode(json.loads(path.read_text()))
    except (OSError, ValueError, SimulatorError) as error:
        sys.stderr.write(f"{path}: {error}\n")
        return 2
    # The control socket is for the user who runs the simulator alone.
    os.umask(0o077)
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
