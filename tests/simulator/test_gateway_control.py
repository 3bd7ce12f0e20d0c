"""The control API, called by boto3, with the gateway and Prometheus servers it commands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import pytest_asyncio
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.simulator.gateway_stand_in import (
    OWNER,
    REGION,
    Caller,
    FrontDoor,
    make_certificate,
    named,
    now_ms,
    role,
    series,
    until,
)

from trunkline.errors import SimulatorError
from trunkline.simulator.gateway.control import MAX_WORKSPACES, WorkspaceApi
from trunkline.simulator.gateway.process import Gateway
from trunkline.simulator.gateway.settings import Limits

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Stage:
    """The API behind a port, and what it commands."""

    api: WorkspaceApi
    gateway: Gateway
    state: Path
    caller: Caller
    client: Any

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """A call of boto3, which would hold up the loop that serves it."""
        found: dict[str, Any] = await asyncio.to_thread(
            partial(getattr(self.client, operation), **parameters)
        )
        return found

    async def refused(self, operation: str, **parameters: Any) -> dict[str, Any]:
        with pytest.raises(ClientError) as raised:
            await self.call(operation, **parameters)
        return {**raised.value.response, **raised.value.response["Error"]}

    async def create(self, **parameters: Any) -> str:
        created = await self.call("create_workspace", **parameters)
        waiter = self.client.get_waiter("workspace_active")
        config = {"Delay": 0.05, "MaxAttempts": 200}
        await asyncio.to_thread(partial(waiter.wait, workspaceId=created["workspaceId"], WaiterConfig=config))
        workspace_id: str = created["workspaceId"]
        return workspace_id

    async def delete(self, workspace_id: str) -> None:
        await self.call("delete_workspace", workspaceId=workspace_id)
        waiter = self.client.get_waiter("workspace_deleted")
        config = {"Delay": 0.05, "MaxAttempts": 200}
        await asyncio.to_thread(partial(waiter.wait, workspaceId=workspace_id, WaiterConfig=config))

    def servers(self) -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if child.name() == "prometheus"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    state = tmp_path_factory.mktemp("state")
    front_door = FrontDoor(state / "authorize.sock")
    owner = role(OWNER, "central", "aps:RemoteWrite", "aps:QueryMetrics")
    front_door.know(owner)
    await front_door.start()
    async with Gateway(state, *make_certificate(state)) as gateway:
        api = WorkspaceApi(gateway, state)

        async def mounted(request: web.Request) -> web.Response:
            path, _, query = request.raw_path.partition("?")
            body = await request.read()
            status, headers, content = await api.handle(OWNER, REGION, request.method, path, query, body)
            return web.Response(status=status, headers=headers, body=content)

        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", mounted)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        client = boto3.session.Session().client(
            "amp",
            region_name=REGION,
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="secret",
            config=Config(retries={"max_attempts": 1}),
        )
        yield Stage(api, gateway, state, Caller(owner, "", gateway.plain_port), client)
        client.close()
        await api.close()
        await runner.cleanup()
    await front_door.stop()


async def test_a_workspace_lives(stage: Stage) -> None:
    created = await stage.call("create_workspace", alias="central", tags={"fleet": "demo"})
    workspace_id = created["workspaceId"]
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert created["status"] == {"statusCode": "CREATING"}
    assert created["arn"] == f"arn:aws:aps:{REGION}:{OWNER}:workspace/{workspace_id}"
    assert created["tags"] == {"fleet": "demo"}

    async def active() -> bool:
        found = await stage.call("describe_workspace", workspaceId=workspace_id)
        return bool(found["workspace"]["status"]["statusCode"] == "ACTIVE")

    await until(active)
    described = (await stage.call("describe_workspace", workspaceId=workspace_id))["workspace"]
    host = f"aps-workspaces.{REGION}.amazonaws.com"
    assert described["prometheusEndpoint"] == f"https://{host}/workspaces/{workspace_id}/api/v1/"
    assert described["alias"] == "central"
    assert described["createdAt"].year >= 2026
    assert len(stage.servers()) == 1

    caller = replace(stage.caller, workspace=workspace_id)
    assert (await caller.write(series(named("alive"), [(7.0, now_ms())]))).status == 200
    assert await caller.value("alive") == [7.0]

    await stage.delete(workspace_id)
    assert (await caller.write(series(named("alive"), [(8.0, now_ms())]))).status == 404
    assert stage.servers() == []
    assert list((stage.state / "workspaces").iterdir()) == []
    gone = await stage.refused("describe_workspace", workspaceId=workspace_id)
    assert (gone["Code"], gone["Message"]) == ("ResourceNotFoundException", "Workspace not found")
    assert gone["resourceId"] == workspace_id


async def test_configuration_alias_and_tags(stage: Stage) -> None:
    workspace_id = await stage.create(alias="first")
    arn = f"arn:aws:aps:{REGION}:{OWNER}:workspace/{workspace_id}"
    configuration = await stage.call("describe_workspace_configuration", workspaceId=workspace_id)
    assert configuration["workspaceConfiguration"] == {
        "status": {"statusCode": "ACTIVE"},
        "limitsPerLabelSet": [],
        "retentionPeriodInDays": 150,
        "outOfOrderTimeWindowInSeconds": 60,
        "ruleQueryOffsetInSeconds": 0,
    }
    sets = [{"labelSet": {"cloud_account_id": "222222222222"}, "limits": {"maxSeries": 1}}]
    answer = await stage.call(
        "update_workspace_configuration",
        workspaceId=workspace_id,
        outOfOrderTimeWindowInSeconds=0,
        retentionPeriodInDays=30,
        limitsPerLabelSet=sets,
    )
    assert answer["status"] == {"statusCode": "UPDATING"}
    caller = replace(stage.caller, workspace=workspace_id)
    stamp = now_ms()

    async def in_force() -> bool:
        found = await stage.call("describe_workspace_configuration", workspaceId=workspace_id)
        return bool(found["workspaceConfiguration"]["status"]["statusCode"] == "ACTIVE")

    await until(in_force)
    found = await stage.call("describe_workspace_configuration", workspaceId=workspace_id)
    assert found["workspaceConfiguration"]["limitsPerLabelSet"] == sets
    assert (
        await caller.write(series(named("a", cloud_account_id="222222222222"), [(1.0, stamp)]))
    ).status == 200
    late = await caller.write(series(named("a", cloud_account_id="222222222222"), [(1.0, stamp - 1)]))
    assert "out of order sample" in late.text
    limited = await caller.write(series(named("b", cloud_account_id="222222222222"), [(1.0, stamp)]))
    assert "per-labelset series limit of 1 exceeded" in limited.text

    await stage.call("update_workspace_alias", workspaceId=workspace_id, alias="second")
    await stage.call("tag_resource", resourceArn=arn, tags={"a": "1", "b": "2"})
    await stage.call("untag_resource", resourceArn=arn, tagKeys=["a"])
    assert (await stage.call("list_tags_for_resource", resourceArn=arn))["tags"] == {"b": "2"}
    described = await stage.call("describe_workspace", workspaceId=workspace_id)
    assert (described["workspace"]["alias"], described["workspace"]["tags"]) == ("second", {"b": "2"})
    await stage.delete(workspace_id)


async def test_lists_and_pages(stage: Stage) -> None:
    made = [
        (await stage.call("create_workspace", alias=alias))["workspaceId"]
        for alias in ("one-a", "one-b", "two")
    ]
    found = await stage.call("list_workspaces", alias="one")
    assert [item["alias"] for item in found["workspaces"]] == ["one-a", "one-b"]
    paginator = stage.client.get_paginator("list_workspaces")
    pages = await asyncio.to_thread(lambda: list(paginator.paginate(PaginationConfig={"PageSize": 2})))
    assert [[item["workspaceId"] for item in page["workspaces"]] for page in pages] == [made[:2], made[2:]]
    for workspace_id in made:
        # One that is still coming up can be deleted as well.
        await stage.delete(workspace_id)
    assert stage.servers() == []


async def test_a_token_makes_one_workspace(stage: Stage) -> None:
    first = await stage.call("create_workspace", clientToken="once")
    second = await stage.call("create_workspace", clientToken="once")
    assert first["workspaceId"] == second["workspaceId"]
    # As CloudFormation does: configured while it is being created.
    await stage.call(
        "update_workspace_configuration",
        workspaceId=first["workspaceId"],
        outOfOrderTimeWindowInSeconds=7,
    )
    await stage.delete(first["workspaceId"])


async def test_resource_policies(stage: Stage) -> None:
    workspace_id = await stage.create()
    none = await stage.refused("describe_resource_policy", workspaceId=workspace_id)
    assert none["Code"] == "ResourceNotFoundException"
    document = json.dumps({"Version": "2012-10-17", "Statement": []})
    put = await stage.call("put_resource_policy", workspaceId=workspace_id, policyDocument=document)
    found = await stage.call("describe_resource_policy", workspaceId=workspace_id)
    assert (found["policyDocument"], found["policyStatus"]) == (document, "ACTIVE")
    assert found["revisionId"] == put["revisionId"]
    stale = await stage.refused(
        "put_resource_policy",
        workspaceId=workspace_id,
        policyDocument=document,
        revisionId="another",
    )
    assert (stale["Code"], stale["ResponseMetadata"]["HTTPStatusCode"]) == ("ConflictException", 409)
    await stage.call("delete_resource_policy", workspaceId=workspace_id)
    await stage.refused("describe_resource_policy", workspaceId=workspace_id)
    await stage.delete(workspace_id)


async def check_invalid(stage: Stage, field: str, operation: str, **parameters: Any) -> None:
    found = await stage.refused(operation, **parameters)
    assert (found["Code"], found["reason"]) == ("ValidationException", "FIELD_VALIDATION_FAILED")
    assert found["fieldList"][0]["name"] == field


async def test_what_cannot_be(stage: Stage) -> None:
    workspace_id = await stage.create()
    configure = partial(
        check_invalid, stage, operation="update_workspace_configuration", workspaceId=workspace_id
    )
    await configure("retentionPeriodInDays", retentionPeriodInDays=1096)
    await check_invalid(stage, "tags", "create_workspace", tags={"aws:reserved": "x"})
    await check_invalid(stage, "tags", "create_workspace", tags={"a": "<"})
    await check_invalid(stage, "nextToken", "list_workspaces", nextToken="@@@")
    unknown = await stage.refused(
        "list_tags_for_resource", resourceArn=f"arn:aws:aps:{REGION}:{OWNER}:workspace/x"
    )
    assert unknown["Code"] == "ResourceNotFoundException"
    other = await stage.refused("list_rule_groups_namespaces", workspaceId=workspace_id)
    assert (other["Code"], other["reason"]) == ("ValidationException", "UNKNOWN_OPERATION")
    status, headers, body = await stage.api.handle(OWNER, REGION, "POST", "/workspaces", "", b"{")
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert json.loads(body)["reason"] == "CANNOT_PARSE"
    # Accounts and regions do not see each other.
    for account, region in (("222222222222", REGION), (OWNER, "us-east-1")):
        assert (await stage.api.handle(account, region, "GET", f"/workspaces/{workspace_id}", "", b""))[
            0
        ] == 404
    await stage.delete(workspace_id)


async def test_quota_and_a_missing_prometheus(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    api = WorkspaceApi(stage.gateway, tmp_path)
    for _ in range(MAX_WORKSPACES):
        status, _, body = await api.handle(OWNER, REGION, "POST", "/workspaces", "", b"{}")
        assert status == 202
    status, headers, _ = await api.handle(OWNER, REGION, "POST", "/workspaces", "", b"{}")
    assert (status, headers["x-amzn-errortype"]) == (402, "ServiceQuotaExceededException")
    workspace_id = json.loads(body)["workspaceId"]

    async def failed() -> bool:
        found = (await api.handle(OWNER, REGION, "GET", f"/workspaces/{workspace_id}", "", b""))[2]
        return bool(json.loads(found)["workspace"]["status"]["statusCode"] == "CREATION_FAILED")

    await until(failed)
    assert (await api.handle(OWNER, REGION, "DELETE", f"/workspaces/{workspace_id}", "", b""))[0] == 202
    await api.close()


async def test_raised_quotas(stage: Stage) -> None:
    workspace_id = await stage.create()
    await stage.api.set_limits(workspace_id, Limits(max_active_series=1, min_capacity_series=1))
    caller = replace(stage.caller, workspace=workspace_id)
    sample = [(1.0, now_ms())]
    refused = await caller.write(series(named("a"), sample), series(named("b"), sample))
    assert "per-user series limit of 1 exceeded" in refused.text
    with pytest.raises(SimulatorError, match="there is no workspace ws-x"):
        await stage.api.set_limits("ws-x", Limits())
    await stage.delete(workspace_id)
