"""How the commands of `trunkline fleet` reach the accounts and the workspace: in AWS, or in a simulator."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.errors import UsageError

if TYPE_CHECKING:
    from trunkline.fleet.metrics import Route
    from trunkline.fleet.model import Fleet
    from trunkline.fleet.sessions import Sessions
    from trunkline.simulator.control import ControlClient


@dataclass(frozen=True, slots=True)
class Way:
    """Sessions in the fleet's accounts; `simulator` is the one they lead into, if it is one that runs here."""

    sessions: Sessions
    simulator: ControlClient | None = None

    def route(self) -> Route:
        """To the workspace: a simulated one has the names of AWS, which lead nowhere without a rule."""
        from trunkline.fleet.metrics import Route

        found = self.simulator.ask("workspaces") if self.simulator else []
        if not found:
            return Route()
        return Route(resolve=",".join(each["resolve"] for each in found), ca_bundle=found[0]["ca_bundle"])


def find_way(fleet: Fleet, options: argparse.Namespace) -> Way:
    """As the options and the environment say. Raises UsageError for a simulator that does not run."""
    from trunkline.fleet.sessions import fleet_sessions
    from trunkline.simulator.control import ControlClient, default_state_dir

    if options.simulator or options.state_dir:
        return _into(ControlClient(options.state_dir or default_state_dir()))
    endpoint = options.endpoint_url or os.environ.get("AWS_ENDPOINT_URL")
    return Way(fleet_sessions(fleet, options.endpoint_url), _simulator_at(endpoint) if endpoint else None)


def _simulator_at(endpoint: str) -> ControlClient | None:
    """Whoever only changed the endpoint means the simulator as a whole; its folder is where its credentials are."""
    from trunkline.simulator.control import ControlClient, default_state_dir

    credentials = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    folders = [default_state_dir(), *([Path(credentials).parent] if credentials else [])]
    running = (client for client in map(ControlClient, folders) if client.is_running())
    return next((client for client in running if client.ask("status")["endpoint"] == endpoint), None)


def _into(client: ControlClient) -> Way:
    """Into a simulator, as the administrators of its accounts, whatever credentials the fleet's file names."""
    import json

    from trunkline.fleet.sessions import AccessKey, key_sessions

    status = client.ask("status")
    try:
        accounts = json.loads((Path(status["state_dir"]) / "accounts.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the simulator's accounts cannot be read: {error}") from None
    keys = {
        account: AccessKey(key["access_key_id"], key["secret_access_key"])
        for account, key in accounts.items()
    }
    return Way(key_sessions(keys, status["endpoint"]), client)
