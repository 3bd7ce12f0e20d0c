"""The control socket: registering workspaces, faults and counts. Its other side is `client.py`."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from trunkline.errors import SimulatorError
from trunkline.simulator.gateway.faults import Faults
from trunkline.simulator.gateway.identity import Identity
from trunkline.simulator.gateway.server import DataPlane
from trunkline.simulator.gateway.settings import Fault, Workspace
from trunkline.simulator.gateway.workspaces import Workspaces


class Operations:
    """Answers on the control socket; whoever can open it may do everything."""

    def __init__(self, workspaces: Workspaces, faults: Faults, identity: Identity, plane: DataPlane) -> None:
        self._workspaces = workspaces
        self._faults = faults
        self._identity = identity
        self._plane = plane

    def application(self) -> web.Application:
        """The application to be served on the unix socket."""
        application = web.Application(middlewares=[_explain])
        application.router.add_get("/stats", self._stats)
        application.router.add_post("/workspaces", self._register)
        application.router.add_delete("/workspaces/{id}", self._remove)
        application.router.add_get("/faults", self._list_faults)
        application.router.add_post("/faults", self._add_fault)
        application.router.add_delete("/faults", self._clear_faults)
        application.router.add_delete("/faults/{number}", self._remove_fault)
        return application

    async def _stats(self, _: web.Request) -> web.Response:
        return _json(
            {
                "workspaces": self._workspaces.stats(),
                "elsewhere": {str(status): number for status, number in self._plane.elsewhere.items()},
                "asked": self._identity.asked,
                "memory_bytes": _resident_bytes(),
            },
        )

    async def _register(self, request: web.Request) -> web.Response:
        self._workspaces.register(Workspace.decode(await request.json()), time.time())
        return _json({})

    async def _remove(self, request: web.Request) -> web.Response:
        return _json({"removed": self._workspaces.remove(request.match_info["id"])})

    async def _list_faults(self, _: web.Request) -> web.Response:
        return _json({number: asdict(fault) for number, fault in self._faults.listed(time.time()).items()})

    async def _add_fault(self, request: web.Request) -> web.Response:
        return _json({"number": self._faults.add(Fault.decode(await request.json()), time.time())})

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._faults.clear()
        return _json({})

    async def _remove_fault(self, request: web.Request) -> web.Response:
        self._faults.remove(int(request.match_info["number"]))
        return _json({})


def _resident_bytes() -> int:
    """Of this process; the second number of proc(5)'s statm, in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _json(document: dict[Any, Any], status: int = 200) -> web.Response:
    return web.json_response(document, status=status)


@web.middleware
async def _explain(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except (SimulatorError, ValueError) as error:
        return _json({"message": str(error)}, status=400)
    return response
