"""The gateway with the real front door, emulator and control API: a workspace, roles, cross-account writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio
from tests.simulator.gateway_stand_in import (
    OWNER,
    REGION,
    WORKLOAD,
    Caller,
    Principal,
    make_certificate,
    named,
    now_ms,
    series,
    until,
)

from trunkline.simulator.emulator import Emulator
from trunkline.simulator.frontdoor.calls import Answer, Call
from trunkline.simulator.frontdoor.server import FrontDoor
from trunkline.simulator.frontdoor.sessions import AccessKey
from trunkline.simulator.gateway.control import WorkspaceApi
from trunkline.simulator.gateway.process import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Account:
    """boto3 as an account's administrator."""

    url: str
    key: AccessKey

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        client = boto3.client(  # type: ignore[call-overload]
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=self.key.access_key_id,
            aws_secret_access_key=self.key.secret_access_key,
        )
        try:
            found: dict[str, Any] = await asyncio.to_thread(partial(getattr(client, operation), **parameters))
        finally:
            client.close()
        return found

    async def role(self, name: str, action: str, trusts: str) -> str:
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": trusts}}
        allow = {"Effect": "Allow", "Action": action, "Resource": "*"}
        made = await self.call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=policy(trust))
        document = policy(allow)
        await self.call("iam", "put_role_policy", RoleName=name, PolicyName="p", PolicyDocument=document)
        arn: str = made["Role"]["Arn"]
        return arn

    async def assume(self, arn: str) -> Principal:
        made = await self.call("sts", "assume_role", RoleArn=arn, RoleSessionName="task")
        keys = made["Credentials"]
        session = made["AssumedRoleUser"]["Arn"]
        return Principal(
            session,
            session.split(":")[4],
            set(),
            keys["AccessKeyId"],
            keys["SecretAccessKey"],
            keys["SessionToken"],
        )


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@dataclass
class Stage:
    owner: Account
    workload: Account
    caller: Caller


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    state: Path = tmp_path_factory.mktemp("state")
    async with Emulator(state) as emulator, Gateway(state, *make_certificate(state)) as gateway:
        api = WorkspaceApi(gateway, state)

        async def mounted(call: Call) -> Answer:
            it = call.received
            place = call.account, call.region
            status, headers, body = await api.handle(*place, it.method, it.raw_path, it.raw_query, it.body)
            return Answer(status, body, headers)

        async with FrontDoor(state, emulator.socket, handlers={"aps": mounted}) as door:
            owner = Account(door.url, door.add_account(OWNER))
            workload = Account(door.url, door.add_account(WORKLOAD))
            created = await owner.call("amp", "create_workspace", alias="central")
            workspace_id = created["workspaceId"]

            async def active() -> bool:
                found = await owner.call("amp", "describe_workspace", workspaceId=workspace_id)
                return bool(found["workspace"]["status"]["statusCode"] == "ACTIVE")

            await until(active)
            yield Stage(owner, workload, Caller(None, workspace_id, gateway.plain_port))
        await api.close()


async def test_across_accounts(stage: Stage) -> None:
    writer = await stage.owner.role("writer", "aps:RemoteWrite", f"arn:aws:iam::{WORKLOAD}:root")
    reader = await stage.owner.role("reader", "aps:QueryMetrics", f"arn:aws:iam::{OWNER}:root")
    own = await stage.workload.role("own", "aps:*", f"arn:aws:iam::{WORKLOAD}:root")

    writing = replace(stage.caller, principal=await stage.workload.assume(writer))
    assert (await writing.write(series(named("crossed"), [(5.0, now_ms())]))).status == 200
    reading = replace(stage.caller, principal=await stage.owner.assume(reader))
    assert await reading.value("crossed") == [5.0]

    denied = await reading.write(series(named("crossed"), [(6.0, now_ms())]))
    assert denied.status == 403
    assert denied.json == {
        "Message": f"User: arn:aws:sts::{OWNER}:assumed-role/reader/task is not authorized to perform:"
        f" aps:RemoteWrite on resource: arn:aws:aps:{REGION}:{OWNER}:workspace/{stage.caller.workspace}"
        " because no identity-based policy allows the aps:RemoteWrite action",
    }
    # Allowed everything at home, which is not where the workspace is.
    direct = replace(stage.caller, principal=await stage.workload.assume(own))
    answer = await direct.write(series(named("crossed"), [(6.0, now_ms())]))
    assert (answer.status, answer.json) == (404, {"Message": "Workspace not found"})


async def test_a_resource_policy_lets_another_account_in(stage: Stage) -> None:
    own = await stage.workload.role("guest", "aps:RemoteWrite", f"arn:aws:iam::{WORKLOAD}:root")
    guest = replace(stage.caller, principal=await stage.workload.assume(own))
    allow = {"Effect": "Allow", "Action": "aps:RemoteWrite", "Resource": "*", "Principal": {"AWS": own}}
    await stage.owner.call(
        "amp",
        "put_resource_policy",
        workspaceId=stage.caller.workspace,
        policyDocument=policy(allow),
    )
    assert (await guest.write(series(named("guest"), [(1.0, now_ms())]))).status == 200
    refused = await guest.send("GET", "query?query=1")
    assert (refused.status, "because no identity-based policy" in refused.text) == (403, True)
    await stage.owner.call("amp", "delete_resource_policy", workspaceId=stage.caller.workspace)
    assert (await guest.write(series(named("guest"), [(1.0, now_ms())]))).status == 404


async def test_a_withdrawn_permission_is_noticed(stage: Stage) -> None:
    role = await stage.owner.role("brief", "aps:RemoteWrite", f"arn:aws:iam::{WORKLOAD}:root")
    caller = replace(stage.caller, principal=await stage.workload.assume(role))
    sample = series(named("brief"), [(1.0, now_ms())])
    assert (await caller.write(sample)).status == 200
    await stage.owner.call("iam", "delete_role_policy", RoleName="brief", PolicyName="p")

    async def refused() -> bool:
        return (await caller.write(sample)).status == 403

    await until(refused, timeout_s=2.0)
    await stage.owner.call("iam", "delete_role", RoleName="brief")

    async def unknown() -> bool:
        return "The security token included in the request is invalid." in (await caller.write(sample)).text

    await until(unknown, timeout_s=2.0)
