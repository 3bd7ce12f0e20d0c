"""Writes that must not be taken: unsigned, by a role that is not trusted, by a role that may only query.

The expected words are AMP's and STS's own (AMP user guide, "Troubleshooting"; IAM user guide, "Access denied error
messages").
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from trunkline.aws import sigv4
from trunkline.aws.keys import Credentials
from trunkline.net.client import Client
from trunkline.net.message import Request
from trunkline.wire import remote_write, snappy

PROBE: Final = "trunkline_demo_refused_write"
"""The metric these writes try to store."""

STRANGER: Final = "demo-stranger"
"""A role of a workload account that nobody has named to the central role."""

_SESSION: Final = "demo"
_HEADERS: Final = {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
}


@dataclass(frozen=True, slots=True)
class Answered:
    """Status and words of a refusal, or of a success that should have been one."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """One attempt: what AWS answers to it, and what was answered."""

    name: str
    expected: Answered
    answered: Answered


@dataclass(frozen=True, slots=True)
class Place:
    """What the attempts are made against; ARNs and ids as AWS writes them."""

    workspace_url: str
    workspace_id: str
    region: str
    monitoring_account: str
    stranger_account: str
    central_role_arn: str
    query_role_arn: str

    def denied(self, account: str, role: str, action: str, resource: str, why: str = "") -> str:
        """AWS's sentence for a session of `role` that may not."""
        arn = f"arn:aws:sts::{account}:assumed-role/{role}/{_SESSION}"
        return f"User: {arn} is not authorized to perform: {action} on resource: {resource}{why}"


class Attempts:
    """Makes the attempts with sessions of roles got through `sessions` (account, region → a boto3-like session)."""

    def __init__(self, place: Place, client: Client, sessions: Callable[[str, str], Any]) -> None:
        self._place = place
        self._client = client
        self._sessions = sessions

    async def unsigned(self) -> Refusal:
        """A write without a signature."""
        answered = await self._write(None)
        return Refusal("an unsigned write", Answered(403, "Missing Authentication Token"), answered)

    async def untrusted(self, stranger: Credentials) -> Refusal:
        """A write of its own by a role that the central role does not trust."""
        place = self._place
        resource = f"arn:aws:aps:{place.region}:{place.stranger_account}:workspace/{place.workspace_id}"
        text = place.denied(place.stranger_account, STRANGER, "aps:RemoteWrite", resource, _NO_POLICY)
        name = "a write by a role that the central role does not trust"
        return Refusal(name, Answered(403, text), await self._write(stranger))

    def assume_untrusted(self) -> tuple[Refusal, Credentials]:
        """The central role asked for by that role; blocking. The second is the stranger's own session."""
        place = self._place
        account, region = place.stranger_account, place.region
        iam = self._sessions(account, region).client("iam")
        arn = _make_stranger(iam, account, place.central_role_arn)
        try:
            own = self._sessions(account, region).client("sts").assume_role(RoleArn=arn, RoleSessionName=_SESSION)
            stranger = _credentials(own)
            sts = self._sessions(account, region).client("sts")
            answered = _assume(sts, stranger, place.central_role_arn)
        finally:
            iam.delete_role_policy(RoleName=STRANGER, PolicyName=STRANGER)
            # The role itself stays until `forget_stranger`: its session would end with it.
        text = place.denied(account, STRANGER, "sts:AssumeRole", place.central_role_arn)
        name = "the central role asked for by a role that it does not trust"
        return Refusal(name, Answered(403, text), answered), stranger
