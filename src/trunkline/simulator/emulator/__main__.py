"""The emulator's process: `python -m trunkline.simulator.emulator SOCKET FRONT_DOOR_SOCKET`."""

from __future__ import annotations

import asyncio
import logging
import sys
from importlib import import_module

from hypercorn.asyncio import serve
from hypercorn.config import Config

from trunkline.simulator.emulator.adaptation import adapt
from trunkline.simulator.emulator.door import InternalDoor


def main(socket: str, front_door: str) -> None:
    """Serve on `socket` until terminated."""
    app = import_module("ministack.app").app
    adapt(InternalDoor(front_door))
    config = Config()
    config.bind = [f"unix:{socket}"]
    config.umask = 0o077
    config.loglevel = "WARNING"
    config.graceful_timeout = 1.0
    asyncio.run(serve(app, config))


logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
main(*sys.argv[1:])
