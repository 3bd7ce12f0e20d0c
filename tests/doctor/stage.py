"""A simulator's front door and workspace gateway under AWS's real names, with every kind of role, and the command
line to be run against them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import boto3

from trunkline.simulator.certificates import create_certificates
from trunkline.simulator.emulator import Emulator
from trunkline.simulator.frontdoor.calls import Answer, Call
from trunkline.simulator.frontdoor.server import FrontDoor, Listener
from trunkline.simulator.frontdoor.sessions import AccessKey, Credentials
from trunkline.simulator.gateway.control import WorkspaceApi
from trunkline.simulator.gateway.process import Gateway

MONITORING, WORKLOAD, REGION = "111111111111", "222222222222", "eu-west-1"
WRITE_POLICY = "arn:aws:iam::aws:policy/AmazonPrometheusRemoteWriteAccess"
EXTERNAL_ID = "shared-word-17"

CONFIGURATION = """
receivers:
  awsecscontainermetrics:
extensions:
  sigv4auth:
    region: {signed_for}
    assume_role: {{arn: "{role}", sts_region: "{sts_region}", external_id: "{external_id}"}}
exporters:
  prometheusremotewrite:
    endpoint: {endpoint}
    auth: {{authenticator: sigv4auth}}
    timeout: 3s
service:
  extensions: [sigv4auth]
  pipelines:
    metrics: {{receivers: [awsecscontainermetrics], exporters: [prometheusremotewrite]}}
"""


@dataclass
class Doctor:
    """What one run of the doctor printed."""

    code: int
    output: str
    errors: str

    @property
    def hops(self) -> list[dict[str, Any]]:
        [chain] = json.loads(self.output)["exporters"]
        return list(chain["hops"])

    @property
    def last(self) -> dict[str, Any]:
        return self.hops[-1]


@dataclass
class Stage:
    state: Path
    door: FrontDoor
    gateway: Gateway
    ca: Path
    door_port: int
    keys: dict[str, AccessKey]
    workspace: str = ""
    secrets: set[str] = field(default_factory=set)

    async def call(self, account: str, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """boto3 as the administrator of `account`."""
        key = self.keys[account]
        client: Any = boto3.client(  # type: ignore[call-overload]
            service,
            region_name=REGION,
            endpoint_url=self.door.url,
            aws_access_key_id=key.access_key_id,
            aws_secret_access_key=key.secret_access_key,
        )
        try:
            return dict(await asyncio.to_thread(partial(getattr(client, operation), **parameters)))
        finally:
            client.close()

    async def role(self, account: str, name: str, trust: Mapping[str, Any], *allowed: str) -> None:
        """A role with an inline policy that allows the actions."""
        policy = document(trust)
        await self.call(account, "iam", "create_role", RoleName=name, AssumeRolePolicyDocument=policy)
        if allowed:
            policy = document({"Effect": "Allow", "Action": list(allowed), "Resource": "*"})
            await self.call(
                account, "iam", "put_role_policy", RoleName=name, PolicyName="p", PolicyDocument=policy
            )

    async def build(self) -> None:
        task = {
            "Effect": "Allow",
            "Principal": {"Service": "ecs-tasks.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        for name, allowed in (
            ("trusted", ["sts:AssumeRole"]),
            ("untrusted", ["sts:AssumeRole"]),
            ("powerless", []),
            ("local", ["aps:*"]),
        ):
            await self.role(WORKLOAD, name, task, *allowed)
        trusted = [arn(WORKLOAD, "trusted"), arn(WORKLOAD, "powerless")]
        trust: dict[str, Any] = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{WORKLOAD}:root"},
            "Action": "sts:AssumeRole",
            "Condition": {"ArnLike": {"aws:PrincipalArn": trusted}},
        }
        await self.role(MONITORING, "central", trust, "aps:RemoteWrite")
        await self.role(MONITORING, "reader", trust, "aps:RemoteWrite", "aps:QueryMetrics")
        await self.role(MONITORING, "useless", trust)
        secretive = {**trust, "Condition": {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}}
        await self.role(MONITORING, "secretive", secretive, "aps:RemoteWrite")
        made = await self.call(MONITORING, "amp", "create_workspace", alias="doctor")
        self.workspace = made["workspaceId"]
        async with asyncio.timeout(20):
            while True:
                found = await self.call(MONITORING, "amp", "describe_workspace", workspaceId=self.workspace)
                if found["workspace"]["status"]["statusCode"] == "ACTIVE":
                    return
                await asyncio.sleep(0.05)

    async def session(self, role: str) -> dict[str, str]:
        """The environment of a task with this role."""
        made: Credentials = await self.door.issue_task_session(arn(WORKLOAD, role), "task-1", REGION)
        self.secrets |= {made.secret_access_key, made.token}
        return {
            "AWS_ACCESS_KEY_ID": made.access_key_id,
            "AWS_SECRET_ACCESS_KEY": made.secret_access_key,
            "AWS_SESSION_TOKEN": made.token,
        }

    def endpoint(self, region: str = REGION, workspace: str = "") -> str:
        path = f"workspaces/{workspace or self.workspace}/api/v1/remote_write"
        return f"https://aps-workspaces.{region}.amazonaws.com/{path}"

    def configuration(self, **changes: str) -> str:
        values = {
            "endpoint": self.endpoint(),
            "signed_for": REGION,
            "role": arn(MONITORING, "central"),
            "sts_region": REGION,
            "external_id": "",
        }
        return CONFIGURATION.format(**{**values, **changes})

    @property
    def resolve(self) -> str:
        """AMP's names lead to the gateway, all others to the front door."""
        gateway = f"127.0.0.1:{self.gateway.tls_port}"
        regions = ("eu-west-1", "us-east-1")
        rules = [f"aps-workspaces.{region}.amazonaws.com:443={gateway}" for region in regions]
        return ",".join([*rules, f"*:443=127.0.0.1:{self.door_port}"])

    def everything_secret(self) -> set[str]:
        """Every secret and token there is: administrators', tasks', and of roles assumed by whoever did."""
        sessions = self.door.sessions._keys.values()
        found = {secret for key in sessions for secret in (key.secret, key.token) if secret}
        return found | self.secrets | {EXTERNAL_ID}


def arn(account: str, role: str) -> str:
    return f"arn:aws:iam::{account}:role/{role}"


def document(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@asynccontextmanager
async def stage_in(state: Path) -> AsyncIterator[Stage]:
    certificates = create_certificates(state, ("eu-west-1", "us-east-1"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.server, certificates.server_key)
    listening = socket.create_server(("127.0.0.1", 0))
    async with AsyncExitStack() as held:
        emulator = await held.enter_async_context(Emulator(state))
        gateway = await held.enter_async_context(Gateway(state, certificates.server, certificates.server_key))
        api = WorkspaceApi(gateway, state)
        held.push_async_callback(api.close)

        async def aps(call: Call) -> Answer:
            it = call.received
            place = call.account, call.region
            status, headers, body = await api.handle(*place, it.method, it.raw_path, it.raw_query, it.body)
            return Answer(status, body, headers)

        door = FrontDoor(state, emulator.socket, handlers={"aps": aps}, listeners=[Listener(listening, tls)])
        await held.enter_async_context(door)
        keys = {account: door.add_account(account) for account in (MONITORING, WORKLOAD)}
        port = listening.getsockname()[1]
        stage = Stage(state, door, gateway, certificates.ca, port, keys)
        await stage.build()
        yield stage


async def trunkline(
    *arguments: str, environment: Mapping[str, str], timeout_s: float = 30
) -> tuple[int, str, str]:
    """Run the command line; its exit code, output and errors."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "trunkline", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**inherited, "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true", **environment},
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()
