"""Writes that must not be taken: unsigned, by a role that is not trusted, by a role that may only query.

The expected words are AMP's and STS's own (AMP user guide, "Troubleshooting"; IAM user guide, "Troubleshoot access
denied error messages").
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
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
"""A role that may ask for the central role, and that the central role has never heard of."""

_SESSION: Final = "demo"
_HEADERS: Final = {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
}


@dataclass(frozen=True, slots=True)
class Answered:
    """Status and words of an answer."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An attempt: what AWS answers to it, and what was answered."""

    name: str
    expected: Answered
    answered: Answered


@dataclass(frozen=True, slots=True)
class Target:
    """What the attempts are made against, and where AWS is.

    `keys` are boto3's arguments for the administrators of the monitoring account and of the stranger's account.
    """

    workspace_url: str
    workspace_id: str
    region: str
    monitoring_account: str
    stranger_account: str
    central_role_arn: str
    query_role_arn: str
    endpoint: str
    keys: Mapping[str, Mapping[str, str]]


class Attempts:
    """Makes the attempts, one after the other."""

    def __init__(self, target: Target, client: Client) -> None:
        self._target = target
        self._client = client

    async def make(self) -> list[Refusal]:
        """All of them; what they need is made first and removed again. Raises what boto3 raises when that fails."""
        target = self._target
        stranger = await asyncio.to_thread(self._make_stranger)
        try:
            return [
                await self._unsigned(),
                await asyncio.to_thread(self._assume_central_role, stranger),
                await self._signed(
                    "a write by that role itself", stranger, target.stranger_account, STRANGER
                ),
                await self._by_query_role(),
            ]
        finally:
            await asyncio.to_thread(self._remove_stranger)

    async def _unsigned(self) -> Refusal:
        answered = await self._write(None)
        return Refusal("an unsigned write", Answered(403, "Missing Authentication Token"), answered)

    async def _by_query_role(self) -> Refusal:
        target = self._target
        session = await asyncio.to_thread(self._assume, target.monitoring_account, target.query_role_arn)
        role = target.query_role_arn.rpartition("/")[2]
        return await self._signed("a write by the query-only role", session, target.monitoring_account, role)

    async def _signed(self, name: str, session: Credentials, account: str, role: str) -> Refusal:
        target = self._target
        workspace = f"arn:aws:aps:{target.region}:{account}:workspace/{target.workspace_id}"
        why = " because no identity-based policy allows the aps:RemoteWrite action"
        text = _denied(account, role, "aps:RemoteWrite", workspace) + why
        return Refusal(name, Answered(403, text), await self._write(session))

    def _assume_central_role(self, stranger: Credentials) -> Refusal:
        from botocore.exceptions import ClientError  # noqa: PLC0415 (not for whoever only reads results)

        target = self._target
        key = {
            "aws_access_key_id": stranger.access_key_id,
            "aws_secret_access_key": stranger.secret_access_key,
            "aws_session_token": stranger.session_token,
        }
        text = _denied(target.stranger_account, STRANGER, "sts:AssumeRole", target.central_role_arn)
        try:
            self._boto("sts", key).assume_role(RoleArn=target.central_role_arn, RoleSessionName=_SESSION)
            answered = Answered(200, "a session of the central role")
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            answered = Answered(status, error.response["Error"]["Message"])
        return Refusal("a role the central role does not trust asking for it", Answered(403, text), answered)

    def _make_stranger(self) -> Credentials:
        """The role with all it needs of its own side, and a session of it."""
        target, account = self._target, self._target.stranger_account
        iam = self._boto("iam", target.keys[account])
        trust = _statement(Principal={"AWS": f"arn:aws:iam::{account}:root"}, Action="sts:AssumeRole")
        role = iam.create_role(RoleName=STRANGER, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
        policy = _statement(Action="sts:AssumeRole", Resource=target.central_role_arn)
        iam.put_role_policy(RoleName=STRANGER, PolicyName=STRANGER, PolicyDocument=json.dumps(policy))
        return self._assume(account, role["Arn"])

    def _remove_stranger(self) -> None:
        iam = self._boto("iam", self._target.keys[self._target.stranger_account])
        iam.delete_role_policy(RoleName=STRANGER, PolicyName=STRANGER)
        iam.delete_role(RoleName=STRANGER)

    def _assume(self, account: str, role_arn: str) -> Credentials:
        made = self._boto("sts", self._target.keys[account]).assume_role(
            RoleArn=role_arn, RoleSessionName=_SESSION
        )
        key = made["Credentials"]
        return Credentials(key["AccessKeyId"], key["SecretAccessKey"], key["SessionToken"])

    def _boto(self, service: str, key: Mapping[str, Any]) -> Any:
        import boto3  # noqa: PLC0415 (not for whoever only reads results)

        create: Any = boto3.Session(region_name=self._target.region).client
        return create(service, endpoint_url=self._target.endpoint, **key)

    async def _write(self, key: Credentials | None) -> Answered:
        """Write one sample, validly but for who writes it."""
        labels = remote_write.encode_labels([("__name__", PROBE)])
        series = remote_write.encode_series(labels, [(1.0, int(time.time() * 1000))])
        body = snappy.compress(remote_write.encode_write_request([series]))
        url = f"{self._target.workspace_url}/api/v1/remote_write"
        request = Request("POST", url, _HEADERS, body)
        if key is not None:
            region = self._target.region
            request = sigv4.sign(request, key, region=region, service="aps", at=datetime.now(UTC))
        response = await self._client.exchange(request, timeout_s=15)
        return Answered(response.status, _message(response.body))


def _message(body: bytes) -> str:
    try:
        document = json.loads(body)
    except ValueError:
        return body.decode(errors="replace").strip()
    return str(document.get("message") or document.get("Message") or document)


def _denied(account: str, role: str, action: str, resource: str) -> str:
    arn = f"arn:aws:sts::{account}:assumed-role/{role}/{_SESSION}"
    return f"User: {arn} is not authorized to perform: {action} on resource: {resource}"


def _statement(**parts: object) -> dict[str, object]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **parts}]}
