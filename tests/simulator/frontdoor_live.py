"""A running front door before a running emulator, for tests that use real boto3 clients."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from trunkline.simulator.emulator import Emulator
from trunkline.simulator.frontdoor.calls import Answer, Call
from trunkline.simulator.frontdoor.server import FrontDoor, Listener
from trunkline.simulator.frontdoor.sessions import AccessKey, Credentials

MONITORING, IRELAND, VIRGINIA = "111111111111", "222222222222", "333333333333"
REGIONS = {MONITORING: "eu-west-1", IRELAND: "eu-west-1", VIRGINIA: "us-east-1"}

_SESSION: Any = boto3.session.Session()
"""Shared, because the API models it has loaded are most of what a client costs."""

T = TypeVar("T")


class Workspaces:
    """As much of AMP as CloudFormation needs, kept in a dictionary."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.configurations: dict[str, Any] = {}
        self._made = 0

    async def handle(self, call: Call) -> Answer:
        if call.operation == "ListWorkspaces":
            return self._json(200, {"workspaces": self._mine(call)})
        found = self.known.get(call.parameters.get("workspaceId", ""))
        if call.operation not in {"CreateWorkspace", "ListWorkspaces"} and found is None:
            return self._json(404, {"message": "Workspace not found"})
        match call.operation:
            case "ListWorkspaces":
                place = f":aps:{call.region}:{call.account}:"
                own = [each for each in self.known.values() if place in each["arn"]]
                return self._json(200, {"workspaces": own})
            case "CreateWorkspace":
                return self._json(202, self._create(call))
            case "UpdateWorkspaceConfiguration":
                self.configurations[call.parameters["workspaceId"]] = dict(call.parameters)
            case "UpdateWorkspaceAlias":
                assert found is not None
                found["alias"] = call.parameters["alias"]
            case "DeleteWorkspace":
                del self.known[call.parameters["workspaceId"]]
        return self._json(202, {"workspace": found})

    def _create(self, call: Call) -> dict[str, Any]:
        if call.parameters.get("alias") == "refused":
            return {}
        self._made += 1
        name = f"ws-{self._made}"
        self.known[name] = {
            "workspaceId": name,
            "alias": call.parameters.get("alias"),
            "tags": call.parameters.get("tags", {}),
            "arn": f"arn:aws:aps:{call.region}:{call.account}:workspace/{name}",
            "status": {"statusCode": "ACTIVE"},
            "prometheusEndpoint": f"https://aps-workspaces.{call.region}.amazonaws.com/workspaces/{name}/",
        }
        return self.known[name]

    def _mine(self, call: Call) -> list[dict[str, Any]]:
        """Those of the caller's account and region whose alias begins as asked for."""
        place, alias = f":{call.region}:{call.account}:", call.parameters.get("alias") or ""
        return [
            found
            for found in self.known.values()
            if place in found["arn"] and str(found["alias"]).startswith(alias)
        ]

    @staticmethod
    def _json(status: int, document: Any) -> Answer:
        return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})


class Live:
    """The two servers in a loop of their own, so that tests can use boto3, which blocks."""

    def __init__(self, state: Path, listeners: Sequence[Listener] = ()) -> None:
        self.offset_s = 0.0
        self.workspaces = Workspaces()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.emulator = Emulator(state)
        self.door = FrontDoor(
            state,
            self.emulator.socket,
            handlers={"aps": self.workspaces.handle},
            listeners=listeners,
            clock=lambda: time.time() + self.offset_s,
        )
        self.keys: dict[str, AccessKey] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def start(self) -> None:
        self.thread.start()
        self.run(self.emulator.start())
        self.run(self.door.start())
        self.keys = {account: self.door.add_account(account) for account in REGIONS}

    def stop(self) -> None:
        try:
            self.run(self.door.stop())
            self.run(self.emulator.stop())
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()

    def client(
        self,
        service: str,
        account: str = IRELAND,
        *,
        credentials: Mapping[str, Any] | Credentials | AccessKey | None = None,
        region: str | None = None,
        url: str | None = None,
    ) -> Any:
        """A boto3 client, of the account's administrator unless `credentials` are given."""
        key_id, secret, token = _parts(credentials or self.keys[account])
        return _SESSION.client(
            service,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            aws_session_token=token,
            region_name=region or REGIONS[account],
            endpoint_url=url or self.door.url,
            config=Config(
                retries={"total_max_attempts": 1},
                read_timeout=20,
                parameter_validation=False,  # what is wrong with a parameter is the server's to say
                s3={"addressing_style": "path"},
            ),
        )

    def deploy(self, account: str, stack: str, template: Mapping[str, Any], **more: Any) -> dict[str, str]:
        """Create or update a stack through a change set; its outputs, or an AssertionError with its status."""
        cloudformation = self.client("cloudformation", account)
        status = deploy(cloudformation, stack, template, **more)
        assert status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}, status
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        return {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", [])}

    def role(
        self,
        account: str,
        name: str,
        *statements: Mapping[str, Any],
        trust: Mapping[str, Any] | None = None,
        path: str = "/",
        **more: Any,
    ) -> str:
        """Make a role, that `trust`s its own account unless said otherwise; its ARN."""
        iam = self.client("iam", account)
        own = {"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"}
        made = iam.create_role(
            RoleName=name, Path=path, AssumeRolePolicyDocument=document(trust or own), **more
        )
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=document(*statements))
        return str(made["Role"]["Arn"])

    def assume(self, arn: str, **more: Any) -> Mapping[str, Any]:
        """Credentials of a role, assumed by its own account's administrator unless by others' `credentials`."""
        credentials = more.pop("credentials", None)
        sts = self.client("sts", arn.split(":")[4], credentials=credentials)
        return dict(sts.assume_role(RoleArn=arn, RoleSessionName="test", **more)["Credentials"])


def _parts(given: Mapping[str, Any] | Credentials | AccessKey) -> tuple[str, str, str | None]:
    if isinstance(given, AccessKey):
        return given.access_key_id, given.secret_access_key, None
    if isinstance(given, Credentials):
        return given.access_key_id, given.secret_access_key, given.token
    return given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]


def document(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deploy(cloudformation: Any, stack: str, template: Mapping[str, Any], **more: Any) -> str:
    """Create or update a stack through a change set; the status it ends in."""
    parameters = [
        {"ParameterKey": name, "ParameterValue": value} for name, value in more.pop("parameters", {}).items()
    ]
    change = cloudformation.create_change_set(
        StackName=stack,
        ChangeSetName=f"change-{time.time_ns()}",
        ChangeSetType=more.pop("kind", "CREATE"),
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=parameters,
        **more,
    )
    cloudformation.get_waiter("change_set_create_complete").wait(
        ChangeSetName=change["Id"], WaiterConfig={"Delay": 0.05, "MaxAttempts": 100}
    )
    cloudformation.execute_change_set(ChangeSetName=change["Id"])
    while True:
        status = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
        if not status.endswith("IN_PROGRESS"):
            return str(status)
        time.sleep(0.02)


@contextmanager
def running(state: Path, listeners: Sequence[Listener] = ()) -> Iterator[Live]:
    live = Live(state, listeners)
    try:
        live.start()
        yield live
    finally:
        live.stop()
