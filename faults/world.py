"""The way through AWS goes wrong: the simulator's front door and gateway stand before the suite's own endpoint."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import boto3

from faults.endpoint import free_port
from faults.fault import Plan, fault
from faults.process import Collector, until
from faults.stage import Stage
from trunkline.simulator.certificates import create_certificates
from trunkline.simulator.emulator import Emulator
from trunkline.simulator.frontdoor.server import FrontDoor, Listener
from trunkline.simulator.frontdoor.sessions import AccessKey
from trunkline.simulator.gateway.process import Gateway
from trunkline.simulator.gateway.settings import Workspace

MONITORING, WORKLOAD, REGION = "111111111111", "222222222222", "eu-west-1"
WORKSPACE: Final = "ws-faults"
ROLE: Final = "central"
ARN: Final = f"arn:aws:iam::{MONITORING}:role/{ROLE}"
RENEWAL_S: Final = 60.0
"""New credentials are asked for at most every 10 s, STS again after at most 30 s."""


def statement(effect: str, action: str, **parts: object) -> str:
    one = {"Effect": effect, "Action": action, **parts}
    return json.dumps({"Version": "2012-10-17", "Statement": [one]})


TRUST: Final = statement("Allow", "sts:AssumeRole", Principal={"AWS": f"arn:aws:iam::{WORKLOAD}:root"})
NO_TRUST: Final = statement("Allow", "sts:AssumeRole", Principal={"AWS": f"arn:aws:iam::{MONITORING}:root"})
REVOKED: Final = statement(
    "Deny", "*", Resource="*", Condition={"DateLessThan": {"aws:TokenIssueTime": "2999-01-01T00:00:00Z"}}
)
"""What the console attaches to a role to revoke its sessions (IAM user guide, "Revoking temporary credentials")."""


class Relay:
    """The way to STS: a port of its own that leads to the front door while it is open."""

    def __init__(self, to_port: int) -> None:
        self.port = free_port()
        self._to_port = to_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to_port)
        try:
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
        finally:
            writer.close()
            back.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()


@dataclass
class Way:
    """What stands between a collector and its workspace."""

    door: FrontDoor
    gateway: Gateway
    sts: Relay
    administrator: AccessKey
    stage: Stage

    async def iam(self, operation: str, **parameters: Any) -> None:
        """Ask IAM as the administrator of the monitoring account."""
        client: Any = boto3.client(
            "iam",
            region_name=REGION,
            endpoint_url=self.door.url,
            aws_access_key_id=self.administrator.access_key_id,
            aws_secret_access_key=self.administrator.secret_access_key,
        )
        try:
            await asyncio.to_thread(partial(getattr(client, operation), **parameters))
        finally:
            client.close()

    async def is_stored_to(self, *, again: bool) -> None:
        """Wait until samples are stored, after a moment for those under way."""
        await asyncio.sleep(1.5)
        before = self.stage.store.count()
        if again:
            await until(lambda: self.stage.store.count() > before, "samples to be stored again", RENEWAL_S)
        else:
            await asyncio.sleep(3)
            self.stage.expect(
                self.stage.store.count() == before, "samples were stored that should have been refused"
            )


@asynccontextmanager
async def _way(stage: Stage) -> AsyncIterator[Way]:
    """A workspace in one account whose role another account may assume, before the stage's endpoint."""
    state = stage.folder / "state"
    state.mkdir()
    certificates = create_certificates(state, (REGION,))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.server, certificates.server_key)
    listening = socket.create_server(("127.0.0.1", 0))
    door_port = listening.getsockname()[1]
    async with AsyncExitStack() as held:
        emulator = await held.enter_async_context(Emulator(state))
        gateway = await held.enter_async_context(Gateway(state, certificates.server, certificates.server_key))
        door = FrontDoor(state, emulator.socket, listeners=[Listener(listening, tls)])
        await held.enter_async_context(door)
        administrator, workload = door.add_account(MONITORING), door.add_account(WORKLOAD)
        sts = Relay(door_port)
        await sts.open()
        held.push_async_callback(sts.close)
        way = Way(door, gateway, sts, administrator, stage)
        await way.iam("create_role", RoleName=ROLE, AssumeRolePolicyDocument=TRUST)
        write = statement("Allow", "aps:RemoteWrite", Resource="*")
        await way.iam("put_role_policy", RoleName=ROLE, PolicyName="write", PolicyDocument=write)
        await gateway.register_workspace(Workspace(WORKSPACE, MONITORING, REGION, stage.endpoint.url))
        _configure(stage, gateway.tls_port, sts.port, str(certificates.ca), workload)
        yield way
        await stage.end_collectors()  # before what they talk to


def _configure(stage: Stage, gateway_port: int, sts_port: int, ca: str, key: AccessKey) -> None:
    host = f"aps-workspaces.{REGION}.amazonaws.com"
    stage.exporter = {
        "endpoint": f"https://{host}/workspaces/{WORKSPACE}/api/v1/remote_write",
        "auth": {"authenticator": "sigv4auth"},
    }
    stage.extensions = {"sigv4auth": {"region": REGION, "assume_role": {"arn": ARN, "sts_region": REGION}}}
    stage.environment = {
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
    }
    rules = (f"{host}:443=127.0.0.1:{gateway_port}", f"sts.{REGION}.amazonaws.com:443=127.0.0.1:{sts_port}")
    stage.arguments = ["--ca-bundle", ca, *(part for rule in rules for part in ("--resolve", rule))]


async def _begin(stage: Stage) -> Collector:
    collector = await stage.start()
    await until(lambda: stage.store.count() > 0, "the first samples to be stored")
    return collector


@fault("credentials expire", "the assumed role's session ends at once; the next one is good")
async def expired(stage: Stage, plan: Plan) -> str:
    times = 1 + int(plan.for_s / 20)
    async with _way(stage) as way:
        collector = await _begin(stage)
        for _ in range(times):
            way.door.sessions.expire_all()
            await way.is_stored_to(again=True)
        await stage.finish(collector)
    return f"{times} times"


@fault(
    "sessions revoked",
    "the role gets the policy that denies everything to sessions there are, and loses it again",
)
async def revoked(stage: Stage, plan: Plan) -> None:
    async with _way(stage) as way:
        collector = await _begin(stage)
        policy = {"RoleName": ROLE, "PolicyName": "AWSRevokeOlderSessions"}
        await way.iam("put_role_policy", PolicyDocument=REVOKED, **policy)
        await way.is_stored_to(again=False)
        await asyncio.sleep(plan.for_s)
        stage.expect("with an explicit deny" in collector.log, "the log does not tell of the deny")
        await way.iam("delete_role_policy", **policy)
        await way.is_stored_to(again=True)
        await stage.finish(collector)


@fault(
    "trust withdrawn",
    "the role trusts us no longer: nothing changes until its session ends, then everything waits",
)
async def trust_withdrawn(stage: Stage, plan: Plan) -> None:
    async with _way(stage) as way:
        collector = await _begin(stage)
        await way.iam("update_assume_role_policy", RoleName=ROLE, PolicyDocument=NO_TRUST)
        await way.is_stored_to(again=True)
        way.door.sessions.expire_all()
        await way.is_stored_to(again=False)
        await until(
            lambda: "the trust policy of" in collector.log, "the log to name the trust policy", RENEWAL_S
        )
        await asyncio.sleep(plan.for_s)
        await way.iam("update_assume_role_policy", RoleName=ROLE, PolicyDocument=TRUST)
        await way.is_stored_to(again=True)
        await stage.finish(collector)


def _faketime() -> str:
    """The library that lies about the time, or nothing."""
    places = sorted(Path("/usr").glob("lib*/**/faketime/libfaketime.so.1"))
    return str(places[0]) if places else ""


@fault(
    "wrong clock",
    "the collector's clock is 20 minutes behind from the start; AWS takes signatures of the last five only",
    needs=lambda: "" if _faketime() else "needs libfaketime (Debian package faketime)",
)
async def wrong_clock(stage: Stage, plan: Plan) -> None:
    async with _way(stage):
        stage.environment |= {
            "LD_PRELOAD": _faketime(),
            "FAKETIME": "-20m",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        collector = await _begin(stage)
        await asyncio.sleep(plan.for_s)
        newest_s = stage.store.age_s()
        stage.expect(newest_s > 1150, f"the newest sample is {newest_s:.0f} s old: the clock was not wrong")
        await collector.said("the clock of this machine is 20m")
        await stage.finish(collector)


@fault("STS unreachable", "the session ends while there is no way to STS, which comes back later")
async def sts_unreachable(stage: Stage, plan: Plan) -> None:
    async with _way(stage) as way:
        collector = await _begin(stage)
        await way.sts.close()
        way.door.sessions.expire_all()
        await way.is_stored_to(again=False)
        await until(
            lambda: "STS gave no answer" in collector.log, "the log to say that STS is away", RENEWAL_S
        )
        await asyncio.sleep(plan.for_s)
        await way.sts.open()
        await way.is_stored_to(again=True)
        await stage.finish(collector)
