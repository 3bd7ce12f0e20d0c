"""The hops before anything is written: who we are, who AWS takes us for, the role, the way to the receiver."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from trunkline.aws.clock import REPORT_FROM_S, explain_offset
from trunkline.aws.explain import TO_TRUST, account_of, is_clock
from trunkline.aws.keys import Credentials
from trunkline.aws.sts import CallerIdentity, Sts
from trunkline.aws.task_metadata import VARIABLE, fetch_identity
from trunkline.collector.doctor.findings import Finding, Outcome
from trunkline.collector.doctor.visit import Visit
from trunkline.errors import CredentialsError, FetchError, FetchTimeoutError
from trunkline.exporters.prometheusremotewrite.delivery import MAX_ANSWER_BYTES
from trunkline.model import Resource
from trunkline.net.client import Client, ClientFactory, why
from trunkline.net.message import Request
from trunkline.net.target import parse_target

SET_CLOCK: Final = ("the time of this machine: chrony or NTP",)
_RETRY_WITHIN_S: Final = 5.0


async def task_metadata(clients: ClientFactory, environment: Mapping[str, str]) -> tuple[Finding, Resource]:
    """Whether the task metadata endpoint says which task this is."""
    hop = "task metadata"
    client = clients.client()
    try:
        found = await fetch_identity(client, environment)
    except FetchError as error:
        text = (
            f"the task metadata endpoint does not say which task this is: {error}. Series of two tasks could not be "
            "told apart, so that a collector does not start here"
        )
        return Finding(hop, Outcome.WRONG, text, change=(f"{VARIABLE}: unset it outside ECS",)), Resource()
    finally:
        await client.aclose()
    if found is None:
        return Finding(hop, Outcome.NOTE, f"not in ECS: {VARIABLE} is not set"), Resource()
    known = found.attributes
    service, cluster = known.get("aws.ecs.service.name", "-"), known.get("aws.ecs.cluster.name", "-")
    text = (
        f"task {known.get('aws.ecs.task.id')} of service {service} in cluster {cluster}, account "
        f"{known.get('cloud.account.id')}, {known.get('cloud.region')}"
    )
    return Finding(hop, Outcome.OK, text), found


async def credentials(visit: Visit) -> Finding:
    """Which provider of the standard chain has credentials, and until when."""
    hop = "credentials"
    await visit.own_credentials.attempted()
    try:
        found = visit.own_credentials.current()
    except CredentialsError as error:
        return Finding.of(hop, error)
    return Finding(hop, Outcome.OK, f"from {found.source}: key {found.access_key_id}, {_until(found)}")


def _until(found: Credentials) -> str:
    if found.expires_at is None:
        return "with no end that is known"
    return f"until {datetime.fromtimestamp(found.expires_at, UTC):%Y-%m-%dT%H:%M:%SZ}"


async def sts(visit: Visit) -> Finding:
    """Whether STS can be asked, and whom AWS takes us for."""
    hop = "STS"
    client = visit.context.clients.client()
    asked = Sts(client, region=visit.region, environment=visit.context.environment, clock=visit.clock)
    try:
        who = await _caller(asked, visit.own_credentials.current())
    except CredentialsError as error:
        if isinstance(error.__cause__, FetchError) and visit.signer.role is None:
            text = f"{error}. Nothing asks STS as long as no role is assumed"
            return Finding(hop, Outcome.NOTE, text, error.said)
        return Finding.of(hop, error)
    finally:
        await client.aclose()
    visit.principal = who.arn
    text = f"{asked.url} ({visit.region}) knows us as {who.arn}, account {who.account}"
    return Finding(hop, Outcome.OK, text)


async def _caller(asked: Sts, own: Credentials) -> CallerIdentity:
    """Who we are; a clock that is wrong is known after the first refusal."""
    try:
        return await asked.caller_identity(own)
    except CredentialsError as error:
        if not is_clock(error.said):
            raise
    return await asked.caller_identity(own)


async def role(visit: Visit) -> Finding:
    """Whether the role can be assumed: our own policy has to allow it, and the role's trust to let us in."""
    hop, wanted, assumed = "role", visit.signer.role, visit.signer.credentials
    assert wanted is not None
    await assumed.attempted()
    try:
        found = await _current_by_the_right_clock(visit)
    except CredentialsError as error:
        return Finding.of(hop, error)
    visit.principal = wanted.arn
    text = f"{wanted.arn} assumed, account {account_of(wanted.arn)}, {_until(found)}"
    return Finding(hop, Outcome.OK, text)


async def _current_by_the_right_clock(visit: Visit) -> Credentials:
    """The role's credentials, which are asked for again when the clock was to blame."""
    assumed = visit.signer.credentials
    try:
        return assumed.current()
    except CredentialsError as error:
        if not is_clock(error.said):
            raise
    with suppress(TimeoutError):
        async with asyncio.timeout(_RETRY_WITHIN_S):
            await assumed.ready()
    return assumed.current()


async def name(visit: Visit) -> Finding:
    """Whether the receiver's name has an address here."""
    hop = "name"
    target = parse_target(visit.endpoint)
    if not isinstance(visit.client, Client):
        return Finding(hop, Outcome.NOTE, f"{target.host} is left to the proxy to find")
    host, port = visit.context.clients.resolve.lookup(target.host, target.port)
    led = "" if (host, port) == (target.host, target.port) else " by --resolve"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # a ValueError: a name that no name server can have
        return Finding(hop, Outcome.WRONG, f"{host}: {why(error)}", change=_to_resolve(visit, host))
    addresses = ", ".join(dict.fromkeys(str(each[4][0]) for each in found))
    return Finding(hop, Outcome.OK, f"{target.host} is {addresses}{led}")


def _to_resolve(visit: Visit, host: str) -> tuple[str, ...]:
    region = visit.workspace.region
    if not region:
        return (f"the host {host} in the exporter's endpoint, or the name servers of this network",)
    return (
        f"the region in the exporter's endpoint, if {region} is not one: aps-workspaces.<region>.amazonaws.com",
        "or the name servers of this network: in a VPC, its attributes enableDnsSupport and enableDnsHostnames",
    )


async def connection(visit: Visit) -> Finding:
    """Whether the receiver answers, over TLS that is trusted; without a signature its answer itself says nothing."""
    hop, target = "connection", parse_target(visit.endpoint)
    exchange = visit.client.exchange(
        Request("GET", visit.endpoint, {}), timeout_s=visit.config.timeout, max_body_bytes=MAX_ANSWER_BYTES
    )
    try:
        response = await (visit.clock.timed(exchange) if visit.workspace.region else exchange)
    except FetchError as error:
        return Finding(hop, Outcome.WRONG, str(error), change=_to_connect(visit, error))
    how = "answers over TLS with a certificate that is trusted" if target.scheme == "https" else "answers"
    return Finding(hop, Outcome.OK, f"{target} {how} ({response.status} to a GET without a signature)")


def _to_connect(visit: Visit, error: FetchError) -> tuple[str, ...]:
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return TO_TRUST
    region = visit.workspace.region
    way = (
        f"the VPC endpoint com.amazonaws.{region}.aps-workspaces with a security group that lets port 443 in, or a "
        "NAT gateway"
        if region
        else "a route and a firewall that lets it through"
    )
    if isinstance(error, FetchTimeoutError):
        return (f"a way from this network to the receiver: {way}",)
    return ("the host and port in the exporter's endpoint (and --resolve)", f"or the way there: {way}")


async def clock(visit: Visit) -> Finding:
    """Whether this machine's time is AWS's."""
    hop, offset_s = "clock", visit.clock.offset_s
    if not visit.clock.heard_anything:
        return Finding(hop, Outcome.NOTE, "AWS has not said what time it is")
    if abs(offset_s) >= REPORT_FROM_S:
        return Finding(hop, Outcome.NOTE, explain_offset(offset_s), change=SET_CLOCK)
    return Finding(hop, Outcome.OK, f"within {max(abs(offset_s), 1):.0f}s of AWS's")
