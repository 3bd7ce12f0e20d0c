"""What of a fleet its file does not name any more: regions of its accounts, and whole accounts.

Of a region the tags tell. An account that is gone from the file cannot be entered; the central role's trust, until the
next deployment, and the metrics of the last day tell that there was one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.errors import FleetError, TrunklineError
from trunkline.fleet.members import with_members
from trunkline.fleet.metrics import Route, senders
from trunkline.fleet.model import Fleet
from trunkline.fleet.order import monitoring_stack
from trunkline.fleet.proof import elsewhere
from trunkline.fleet.proof.leftover import Leftover
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacks import stack_outputs
from trunkline.fleet.templates import MonitoringOutput

_ACCOUNT: Final = re.compile(r"(?<!\d)\d{12}(?!\d)")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """`standing` is what is there in other regions; `accounts` says, by id, what tells of an account."""

    standing: tuple[Leftover, ...] = ()
    accounts: Mapping[str, str] | None = None
    """None where nobody asked, or nobody answered."""

    def text(self) -> list[str]:
        """For people; nothing where there is nothing."""
        lines = []
        for account, region in sorted({(each.account_id, each.region) for each in self.standing}):
            names = [
                each.name for each in self.standing if (each.account_id, each.region) == (account, region)
            ]
            shown = ", ".join(names[:_SHOWN]) + (
                f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            )
            lines.append(
                f"account {account}, {region}: no longer in the file, and still there: {shown}; trunkline fleet destroy "
                "removes it with the fleet, or name the region again"
            )
        for account, why in sorted((self.accounts or {}).items()):
            lines.append(
                f"account {account}: no longer in the file, but {why}; what of the fleet is there is removed by "
                "trunkline fleet destroy with a file that names it"
            )
        return lines


_SHOWN: Final = 4


def forgotten(fleet: Fleet, sessions: Sessions, route: Route | None) -> Forgotten:
    """What there is; without `route` only what stands in other regions. Raises nothing for what may not be asked."""
    return Forgotten(elsewhere(fleet, sessions), _accounts(fleet, sessions, route) if route else None)


def _accounts(fleet: Fleet, sessions: Sessions, route: Route) -> dict[str, str] | None:
    try:
        known = {account.account_id for account in with_members(fleet, sessions).workloads}
        outputs, keys = _door(fleet, sessions)
        trusted = set(_trusted(fleet, sessions))
        sending = senders(outputs[MonitoringOutput.PROMETHEUS_ENDPOINT], fleet.monitoring.region, keys, route)
    except (ClientError, BotoCoreError, TrunklineError, KeyError):
        return None  # verify says what is in the way
    found = {}
    for account in sorted((trusted | sending) - known - {fleet.monitoring.account_id}):
        reasons = ["the central role trusts it"] * (account in trusted)
        reasons += ["it has sent metrics within a day"] * (account in sending)
        found[account] = " and ".join(reasons)
    return found


def _door(fleet: Fleet, sessions: Sessions) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The monitoring stack's outputs, and temporary credentials of the role that may query."""
    session = sessions(fleet.monitoring.account_id, fleet.monitoring.region)
    outputs = stack_outputs(session.client("cloudformation"), monitoring_stack(fleet).name)
    role = outputs.get(MonitoringOutput.QUERY_ROLE_ARN)
    if not role:
        raise FleetError("the monitoring stack names no role that may query")
    answer = session.client("sts").assume_role(RoleArn=role, RoleSessionName="trunkline-status")
    return outputs, answer["Credentials"]


def _trusted(fleet: Fleet, sessions: Sessions) -> Iterator[str]:
    """The ids of accounts in the trust of the central role."""
    session = sessions(fleet.monitoring.account_id, fleet.monitoring.region)
    role: Any = session.client("iam").get_role(RoleName=fleet.names.central_role)["Role"]
    statements = role["AssumeRolePolicyDocument"]["Statement"]
    for statement in statements if isinstance(statements, list) else [statements]:
        yield from _ACCOUNT.findall(json.dumps(statement.get("Principal", "")))
