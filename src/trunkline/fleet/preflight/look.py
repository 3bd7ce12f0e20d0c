"""A look at one account: its door, then what all regions share, then region by region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.errors import FleetError
from trunkline.fleet.model import TAG, Fleet
from trunkline.fleet.own_images import OwnImages
from trunkline.fleet.preflight.finding import Finding, Severity
from trunkline.fleet.sessions import Sessions


class Look:
    """What a sort of account is looked at for is in `account` and `region`; checks `say` what they find."""

    images: OwnImages | None = None

    def __init__(self, fleet: Fleet, sessions: Sessions, account_id: str, regions: Sequence[str]) -> None:
        self.fleet = fleet
        self.account_id = account_id
        self.regions = regions
        self.findings: list[Finding] = []
        self._sessions = sessions
        self._clients: dict[tuple[str, str], Any] = {}

    def all(self) -> list[Finding]:
        """Everything there is to find; into regions that are not enabled nobody looks."""
        if self._can_enter():
            self.account()
            for region in self.regions:
                if self._is_enabled(region):
                    self.region(region)
                self._clients.clear()  # a client has megabytes, and a fleet hundreds of accounts
        return self.findings

    def account(self) -> None:
        """What all regions share."""

    def region(self, region: str) -> None:
        """One region."""

    def client(self, service: str, region: str = "") -> Any:
        """A client of the account; in its first region if none is given."""
        key = (service, region or self.regions[0])
        if key not in self._clients:
            self._clients[key] = self._sessions(self.account_id, key[1]).client(service)
        return self._clients[key]

    def say(self, severity: Severity, region: str, what: str, why: str = "", remedy: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(severity, self.account_id, region, what, why, remedy))

    @contextmanager
    def checking(self, what: str, region: str = "") -> Iterator[None]:
        """A check that fails to be made is said to be so."""
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            self.say("not checked", region, what, str(error))

    def cannot_enter(self, why: str) -> None:
        """Say that the account has no door."""
        self.say("error", "", "credentials", why, "correct the account's credentials")

    def owned(
        self,
        what: str,
        region: str,
        tags: Mapping[str, str],
        arn: str,
        remedy: str = "remove it, or choose another name under names",
    ) -> None:
        """Something of this name exists: the fleet's own is as good as none."""
        if tags.get(TAG) == self.fleet.name:
            self.say("ok", region, what)
        else:
            whose = f"of fleet {tags[TAG]}" if TAG in tags else "not of this fleet"
            self.say("error", region, what, f"{arn} exists and is {whose}", remedy)

    def _can_enter(self) -> bool:
        try:
            self._sessions(self.account_id, self.regions[0])
        except (FleetError, ClientError, BotoCoreError) as error:
            self.cannot_enter(str(error))
            return False
        self.say("ok", "", "credentials")
        return True

    def _is_enabled(self, region: str) -> bool:
        with self.checking("region", region):
            answer = self.client("account").get_region_opt_status(RegionName=region)
            status = answer["RegionOptStatus"]
            if status in {"DISABLED", "DISABLING"}:
                remedy = f"aws account enable-region --region-name {region}, then wait until it is"
                self.say("error", region, "region", f"it is {status} in this account", remedy)
                return False
            self.say("ok", region, "region")
        return True
