"""An account and region that is searched: its clients, and whose a thing in it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.fleet.model import TAG, Fleet
from trunkline.fleet.proof.leftover import Leftover
from trunkline.fleet.sessions import Sessions


class SearchedPlace:
    """One account and region, looked into for one fleet. A client is made once, until `forget_clients`."""

    def __init__(self, fleet: Fleet, sessions: Sessions, account_id: str, region: str) -> None:
        self.fleet = fleet
        self.account_id = account_id
        self.region = region
        self._sessions = sessions
        self._clients: dict[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.account_id} {self.region}"

    def client(self, service: str) -> Any:
        """Raises `ClientError`, `BotoCoreError` or `FleetError` where the account cannot be entered."""
        if service not in self._clients:
            self._clients[service] = self._sessions(self.account_id, self.region).client(service)
        return self._clients[service]

    def forget_clients(self) -> None:
        """A client has megabytes, and a fleet hundreds of accounts."""
        self._clients.clear()

    def is_home(self) -> bool:
        """Whether it is the region where one looks for what is global to the account."""
        first = next(each for each in named_places(self.fleet) if each[0] == self.account_id)
        return (self.account_id, self.region) == first

    def is_monitoring(self) -> bool:
        """Whether it is the region of the monitoring account."""
        monitoring = self.fleet.monitoring
        return (self.account_id, self.region) == (monitoring.account_id, monitoring.region)

    def leftover(self, kind: str, name: str, arn: str, found_by: str) -> Leftover:
        """Something found here."""
        region = "" if kind == "role" else self.region
        return Leftover(self.account_id, region, kind, name, arn, found_by)

    def owns(self, tags: Mapping[str, str]) -> bool:
        """What has the fleet's name counts as the fleet's unless it is marked as another fleet's."""
        return tags.get(TAG, self.fleet.name) == self.fleet.name


def named_places(fleet: Fleet) -> list[tuple[str, str]]:
    """The accounts and regions that the fleet's file names, the monitoring account first."""
    monitoring = (fleet.monitoring.account_id, fleet.monitoring.region)
    others = [(account.account_id, region) for account in fleet.workloads for region in account.regions]
    return list(dict.fromkeys([monitoring, *others]))
