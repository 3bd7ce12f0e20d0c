"""Asking the gateway over its control socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp

from trunkline.errors import SimulatorError
from trunkline.simulator.gateway.settings import Fault, Workspace

_TIMEOUT = aiohttp.ClientTimeout(total=10)


class GatewayClient:
    """The control socket of a running gateway, from any process that can reach it.

    All methods raise SimulatorError when the gateway does not answer or refuses what is asked.
    """

    def __init__(self, control_socket: Path) -> None:
        self.control_socket = control_socket

    async def register_workspace(self, workspace: Workspace) -> None:
        """Serve a workspace, or serve it with changed settings; series and counts are kept then."""
        await self._ask("POST", "/workspaces", asdict(workspace))

    async def remove_workspace(self, workspace_id: str) -> None:
        """Serve a workspace no longer: it is not found from now on."""
        await self._ask("DELETE", f"/workspaces/{workspace_id}")

    async def stats(self) -> dict[str, Any]:
        """Counts since the start.

        `{"workspaces": {id: {"account", "region", "active_series", "accepted": samples, "refused": {reason:
        samples}, "requests": {IAM action: {status: number}}, "body_bytes", "metadata_names", "sources":
        {account: {"accepted", "refused": {reason: samples}, "active_series"}}}}, "elsewhere": {status: number},
        "asked": {question to the front door: number}, "memory_bytes"}`. A source is the account that the label
        `cloud_account_id` of a series names, or without it the caller's.
        """
        return await self._ask("GET", "/stats")

    async def add_fault(self, fault: Fault) -> int:
        """Let something go wrong; the number ends it."""
        number: int = (await self._ask("POST", "/faults", asdict(fault)))["number"]
        return number

    async def remove_fault(self, number: int) -> None:
        """End one fault; nothing happens when it has ended."""
        await self._ask("DELETE", f"/faults/{number}")

    async def clear_faults(self) -> None:
        """End all faults."""
        await self._ask("DELETE", "/faults")

    async def faults(self) -> dict[str, Any]:
        """The faults in force by number, in their JSON form."""
        return await self._ask("GET", "/faults")

    async def _ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        connector = aiohttp.UnixConnector(path=str(self.control_socket))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as client,
                client.request(method, f"http://gateway{path}", json=document) as answer,
            ):
                found: dict[str, Any] = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise SimulatorError(
                f"the workspace gateway does not answer on {self.control_socket}: {error}; is the simulator up?",
            ) from error
        if answer.status != 200:
            raise SimulatorError(
                f"the workspace gateway refused {method} {path}: {found.get('message', found)}"
            )
        return found
