"""What the demo's buttons break, and how each is mended. All of it happens as it would in AWS, by calls of its APIs.

Sources: IAM user guide, "Revoke IAM role temporary security credentials" (the policy `AWSRevokeOlderSessions`), and
IAM's API reference.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self
from urllib.parse import unquote, urlencode
from xml.etree import ElementTree as ET

from trunkline.aws import sigv4
from trunkline.aws.keys import Credentials
from trunkline.errors import FetchError, SimulatorError
from trunkline.net.client import Client
from trunkline.net.message import Request
from trunkline.page.asking import Simulator
from trunkline.simulator.gateway.client import GatewayClient
from trunkline.simulator.gateway.settings import Fault

REVOCATION: Final = "AWSRevokeOlderSessions"
WRITES: Final = "aps:RemoteWrite"
SESSION_S: Final = 3600.0
"""Of a chained role's session, which is what a collector has of the central role."""

_SOONEST: Final = 2 / 3
_LATEST: Final = 5 / 6
"""Of a session's life: between these a collector renews it (`aws.credentials`)."""

_ORIGINAL: Final = "trust-before.json"
_TIMEOUT_S: Final = 15.0
_FORM: Final = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class State:
    """What is broken now, and whom the central role trusts."""

    trusted: tuple[str, ...] = ()
    """ARNs, or patterns of them."""
    withdrawn: bool = False
    revoked: bool = False
    throttled: bool = False
    shut: bool = False
    """Sessions were revoked when no new ones could be had. Those from before the trust was withdrawn live on."""


class Troubles:
    """The buttons' other side, for the fleet whose central role is `role_arn`. Methods raise SimulatorError."""

    def __init__(self, simulator: Simulator, place: Mapping[str, Any], role_arn: str) -> None:
        self.role_arn = role_arn
        self.renewed_s = 0.0
        """When collectors last got new sessions because theirs were revoked, epoch seconds."""
        self._refused = False
        self._simulator = simulator
        self._place = place
        self._name = role_arn.rpartition("/")[2]
        self._gateway = GatewayClient(simulator.state_dir / "gateway.sock")
        self._original = simulator.state_dir / _ORIGINAL
        self._held = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._client = Client()
        self._held.push_async_callback(self._client.aclose)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._held.aclose()

    async def state(self) -> State:
        """What is broken now."""
        trust = await self._trust()
        policies = await self._iam("ListRolePolicies", RoleName=self._name)
        faults = await self._gateway.faults()
        withdrawn = self._original.exists()
        revoked = REVOCATION in (each.text for each in policies.iter())
        return State(
            trusted=tuple(trusted_roles(trust)),
            withdrawn=withdrawn,
            revoked=revoked,
            shut=withdrawn and revoked and self._refused,
            throttled=any(each["kind"] == "throttle" for each in faults.values()),
        )

    async def stop_task(self, task: str) -> None:
        """As `ecs stop-task` does: the service then starts another."""
        await self._simulator.ask("stop_task", task=task)

    async def throttle(self) -> None:
        """Every write is answered 429 until `unthrottle`."""
        await self._gateway.add_fault(Fault("throttle", workspace=self._place["id"], action=WRITES))

    async def unthrottle(self) -> None:
        for number, fault in (await self._gateway.faults()).items():
            if fault["kind"] == "throttle":
                await self._gateway.remove_fault(int(number))

    async def revoke(self) -> None:
        """Deny the central role's sessions issued so far everything, as IAM's console does it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        deny = {
            "Effect": "Deny",
            "Action": ["*"],
            "Resource": ["*"],
            "Condition": {"DateLessThan": {"aws:TokenIssueTime": now}},
        }
        await self._iam(
            "PutRolePolicy",
            RoleName=self._name,
            PolicyName=REVOCATION,
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [deny]}),
        )
        if self._original.exists():
            self._refused = True
        else:
            self.renewed_s = time.time()

    async def unrevoke(self) -> None:
        await self._iam("DeleteRolePolicy", RoleName=self._name, PolicyName=REVOCATION)

    async def withdraw(self) -> None:
        """Let the central role trust nobody but its own account."""
        if self._original.exists():
            return
        self._original.write_text(json.dumps(await self._trust()), encoding="utf-8")
        principal = {"AWS": f"arn:aws:iam::{self.role_arn.split(':')[4]}:root"}
        statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
        await self._set_trust({"Version": "2012-10-17", "Statement": [statement]})

    async def restore(self) -> None:
        """Let the central role trust whom it trusted before `withdraw`.

        Collectors whose sessions were revoked meanwhile have kept asking for new ones, and get them now.
        """
        if self._original.exists():
            await self._set_trust(json.loads(self._original.read_text(encoding="utf-8")))
            self._original.unlink()
            if self._refused:
                self._refused, self.renewed_s = False, time.time()

    async def _trust(self) -> Any:
        found = await self._iam("GetRole", RoleName=self._name)
        document = next(each.text for each in found.iter() if each.tag.endswith("AssumeRolePolicyDocument"))
        return json.loads(unquote(document or "{}"))

    async def _set_trust(self, document: Any) -> None:
        await self._iam("UpdateAssumeRolePolicy", RoleName=self._name, PolicyDocument=json.dumps(document))

    async def _iam(self, action: str, **form: str) -> ET.Element:
        """The answer of IAM to the monitoring account's administrator."""
        body = urlencode({"Action": action, "Version": "2010-05-08", **form}).encode()
        key = Credentials(self._place["key"]["access_key_id"], self._place["key"]["secret_access_key"], "")
        request = Request("POST", f"{self._place['aws_endpoint']}/", _FORM, body)
        signed = sigv4.sign(request, key, region="us-east-1", service="iam", at=datetime.now(UTC))
        try:
            response = await self._client.exchange(signed, timeout_s=_TIMEOUT_S)
            document = ET.fromstring(response.body)  # noqa: S314 (the simulator's own answer)
        except (FetchError, ET.ParseError) as error:
            raise SimulatorError(f"IAM gave no answer to {action}: {error}; is the simulator up?") from error
        if response.status != 200:
            said = next((each.text for each in document.iter() if each.tag.endswith("Message")), "")
            raise SimulatorError(f"IAM refused {action}: {said or response.status_line}")
        return document


def trusted_roles(trust: Mapping[str, Any]) -> Iterator[str]:
    """Whom a trust policy names: the roles it is narrowed to, else its principals."""
    for statement in trust.get("Statement", ()):
        narrowed = [
            arns
            for condition in statement.get("Condition", {}).values()
            for name, arns in condition.items()
            if name.lower() == "aws:principalarn"
        ]
        principal = statement.get("Principal", {})
        named = narrowed or (list(principal.values()) if isinstance(principal, Mapping) else [principal])
        for each in named:
            yield from [each] if isinstance(each, str) else each


def next_renewal(began_s: float, now_s: float) -> tuple[float, float]:
    """From when to when a collector whose session began at `began_s` asks for the next one, epoch seconds.

    With each renewal the moment becomes less certain, as each comes between two thirds and five sixths of a life.
    """
    number = 1
    while began_s + number * SESSION_S * _LATEST <= now_s:
        number += 1
    soonest = began_s + number * SESSION_S * _SOONEST
    return max(now_s, soonest), began_s + number * SESSION_S * _LATEST
