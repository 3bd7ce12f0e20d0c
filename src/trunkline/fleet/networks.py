"""What a network may not be: its own keys, a way out for its tasks, and addresses that meet others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Final

from trunkline.errors import Problem
from trunkline.fleet.model import Fleet, MonitoringAccount, Network, WorkloadAccount
from trunkline.fleet.problems import below, matching, repeated, wrong

ENDPOINTS: Final = ("aps-workspaces", "sts", "ecr.api", "ecr.dkr", "logs", "s3")
"""What a task without another way out needs an endpoint of: the workspace, its role, its image, its logs."""
WORKSPACE_CIDR: Final = "10.255.255.0/24"
"""Addresses of the VPC of the workspace's endpoint if the file says none: always the same, as others would replace it."""
MAX_PEERS: Final = 125
"""What AWS raises the quota "Active VPC peering connections per VPC" to; 50 without asking (Amazon VPC quotas)."""
_USEFUL_TO_PEERS: Final = ("aps-workspaces", "sts")

_VPC, _SUBNET, _GROUP = (re.compile(rf"{kind}-[0-9a-f]{{8,17}}") for kind in ("vpc", "subnet", "sg"))


def network_problems(network: Network) -> Iterator[Problem]:
    """What is wrong with a network wherever it is; paths begin at its own keys."""
    yield from matching("vpc", _VPC, [network.vpc_id] if network.vpc_id else [], "vpc-0123456789abcdef0")
    yield from matching("subnets", _SUBNET, network.subnets, "subnet-0123456789abcdef0")
    yield from matching("security_groups", _GROUP, network.security_groups, "sg-0123456789abcdef0")
    yield from _network_kind(network)
    yield from _cidr(network)
    yield from _endpoints(network)
    if network.peering and network.kind == "default":
        yield Problem(
            "",
            "peering",
            "a default VPC cannot be peered: they all have the addresses 172.31.0.0/16",
            "write vpc: new with a cidr of its own",
        )
    elif network.peering and not network.cidr:
        yield Problem("", "peering", "peering needs to know the VPC's addresses", "add its cidr")
    if network.peering and network.kind == "existing" and not network.vpc_id:
        message = "peering is with the subnets' VPC, and it is not named"
        yield Problem("", "peering", message, "add vpc: vpc-…")


def account_networks(path: str, account: WorkloadAccount, monitoring: MonitoringAccount) -> Iterator[Problem]:
    for region, network in account.networks.items():
        there = f"{path}::networks::{region}"
        if region not in account.regions:
            yield Problem("", there, f"the account has no region {region}", "add it to its regions")
        for problem in (*network_problems(network), *_way_out(network, region, monitoring)):
            yield below(there, problem)


def _network_kind(network: Network) -> Iterator[Problem]:
    if network.kind == "existing" and not network.subnets:
        yield Problem("", "subnets", "a VPC that exists needs its subnets", "name two, in different zones")
    if network.kind != "existing" and network.subnets:
        yield Problem(
            "", "subnets", f"subnets do not go with vpc: {network.kind}", "name the VPC they are in"
        )
    if network.kind == "default" and network.cidr:
        yield Problem("", "cidr", "the default VPC has its own addresses", "leave it out, or write vpc: new")
    if network.kind == "new" and not network.cidr:
        yield Problem("", "cidr", "a new VPC needs addresses", "write a cidr such as 10.40.0.0/16")
    if network.nat and network.kind != "new":
        yield Problem(
            "",
            "nat",
            "a NAT gateway is only made in a new VPC",
            "write vpc: new, or route the subnets yourself",
        )


def _cidr(network: Network) -> Iterator[Problem]:
    if not network.cidr:
        return
    try:
        found = ip_network(network.cidr)
    except ValueError as error:
        yield Problem("", "cidr", str(error), "write it like 10.40.0.0/16")
        return
    if not isinstance(found, IPv4Network) or not 16 <= found.prefixlen <= 24:
        yield wrong("cidr", network.cidr, "take an IPv4 network of /16 to /24")
    elif not found.is_private:
        yield wrong("cidr", network.cidr, "take private addresses: 10.…, 172.16.… to 172.31.…, 192.168.…")


def _endpoints(network: Network) -> Iterator[Problem]:
    for name in network.endpoints:
        if name not in ENDPOINTS:
            yield wrong("endpoints", name, f"take some of: {', '.join(ENDPOINTS)}")
    yield from repeated("endpoints", network.endpoints)
    if network.endpoints and network.kind == "default":
        message = "endpoints are not made in the default VPC, which has a way out"
        yield Problem("", "endpoints", message, "write vpc: new, or name a VPC and its subnets")
    if (
        network.kind == "existing"
        and not network.vpc_id
        and (network.endpoints or not network.security_groups)
    ):
        what = "endpoints have" if network.endpoints else "a security group has"
        message = f"{what} to be made in the subnets' VPC, and it is not named"
        yield Problem("", "vpc", message, "add vpc: vpc-…, or name security_groups and no endpoints")


def _way_out(network: Network, region: str, monitoring: MonitoringAccount) -> Iterator[Problem]:
    """Whether the tasks reach the workspace, their role, their image and their logs at all."""
    here = region == monitoring.region
    if "aps-workspaces" in network.endpoints and not here:
        yield Problem(
            "",
            "endpoints",
            f"an endpoint aps-workspaces in {region} leads to the workspaces there, and ours is in {monitoring.region}",
            "take it out, and write nat: true, or join the VPCs yourself",
        )
    if network.peering and here and network.kind != "default":
        message = f"the workspace is in {region} as well, where an endpoint in the VPC itself leads to it"
        yield Problem(
            "", "peering", message, "take it out, and add aps-workspaces to endpoints if it is needed"
        )
    if network.kind != "new" or network.public_ip or network.nat:
        return
    reached = {*network.endpoints, *(reached_by_peering(monitoring) if network.peering else ())}
    missing = [name for name in ENDPOINTS if name not in reached]
    if missing:
        yield Problem(
            "",
            "endpoints",
            f"tasks without public addresses and without NAT cannot reach: {', '.join(missing)}",
            "add them to endpoints, or write nat: true or public_ip: true",
        )


def reached_by_peering(monitoring: MonitoringAccount) -> tuple[str, ...]:
    """The endpoints that peered VPCs find in the monitoring account's."""
    has_sts = monitoring.network is not None and "sts" in monitoring.network.endpoints
    return _USEFUL_TO_PEERS if has_sts else _USEFUL_TO_PEERS[:1]


# Peering


@dataclass(frozen=True, slots=True)
class Peer:
    """A VPC that is peered with the monitoring account's; `path` is where the file says so."""

    account_id: str
    region: str
    cidr: str
    path: str

    @property
    def name(self) -> str:
        return f"account {self.account_id} in {self.region}"


def peers(fleet: Fleet) -> tuple[Peer, ...]:
    """The VPCs that are peered with the monitoring account's, of which there is one in an account and region."""
    return tuple(
        Peer(account.account_id, region, network.cidr, f"workloads::{index}::networks::{region}")
        for index, account in enumerate(fleet.workloads)
        for region, network in account.networks.items()
        if network.peering
    )


def workspace_network(fleet: Fleet) -> Network | None:
    """The VPC of the workspace's endpoint, in the monitoring account; None when nobody is peered with it."""
    if not peers(fleet):
        return None
    return fleet.monitoring.network or Network(kind="new", cidr=WORKSPACE_CIDR)


def peer_role(fleet: Fleet) -> str:
    """The name of the monitoring account's role that accepts peering."""
    return f"{fleet.names.central_role}-peer"


def peering_problems(fleet: Fleet) -> Iterator[Problem]:
    """What is wrong with peering as a whole: too many VPCs, addresses that meet, ways that nobody makes."""
    found, there = peers(fleet), workspace_network(fleet)
    if there is None:
        return
    if len(found) > MAX_PEERS:
        message = (
            f"{len(found)} VPCs would be peered with the monitoring account's, and AWS takes {MAX_PEERS}"
        )
        remedy = "peer fewer of them, join them by a Transit Gateway of your own, or use several fleets"
        yield Problem("", f"{found[MAX_PEERS].path}::peering", message, remedy)
    yield from _workspace_vpc(there)
    yield from _overlaps(found, there, is_said=fleet.monitoring.network is not None)
    yield from _own_sts(fleet)


def _workspace_vpc(there: Network) -> Iterator[Problem]:
    path = "monitoring::network"
    if there.kind != "new":
        message = "the VPC that others are peered with is one of the fleet's own"
        yield Problem("", f"{path}::vpc", message, "write vpc: new with a cidr")
    useless = [name for name in there.endpoints if name in ENDPOINTS and name not in _USEFUL_TO_PEERS]
    if useless:
        message = f"{', '.join(useless)} cannot be reached by peering, only aps-workspaces and sts"
        remedy = "take them out, and add them to the endpoints of the networks that need them"
        yield Problem("", f"{path}::endpoints", message, remedy)
    for key in ("nat", "peering", "security_groups"):
        if getattr(there, key):
            message = f"{key} is of no use to the VPC of the workspace's endpoint, where no task runs"
            yield Problem("", f"{path}::{key}", message, "take it out")


def _overlaps(found: tuple[Peer, ...], there: Network, *, is_said: bool) -> Iterator[Problem]:
    """VPCs that meet in the monitoring account's must not share addresses, or one of them gets no answers."""
    known: list[tuple[IPv4Network, str]] = []
    if _is_cidr(there.cidr):
        name = "the monitoring account" if is_said else "the monitoring account, which has them by default,"
        known.append((IPv4Network(there.cidr), name))
    for peer in found:
        if not _is_cidr(peer.cidr):
            continue
        cidr = IPv4Network(peer.cidr)
        for other, whose in known:
            if cidr.overlaps(other):
                message = f"the addresses {cidr} overlap with {other} of {whose}, and both are peered"
                yield Problem("", f"{peer.path}::cidr", message, "give each VPC addresses of its own")
                break
        known.append((cidr, peer.name))


def _own_sts(fleet: Fleet) -> Iterator[Problem]:
    """All collectors ask the STS of their own region as soon as one has an endpoint of it, or all the workspace's."""
    if not any("sts" in network.endpoints for each in fleet.workloads for network in each.networks.values()):
        return
    for index, account in enumerate(fleet.workloads):
        for region, network in account.networks.items():
            closed = network.kind == "new" and not network.public_ip and not network.nat
            if network.peering and closed and "sts" not in network.endpoints:
                message = "other networks of the fleet have an endpoint sts, so its collectors ask their own region's"
                remedy = "add sts to its endpoints as well, or have it in none of them"
                yield Problem("", f"workloads::{index}::networks::{region}::endpoints", message, remedy)


def _is_cidr(cidr: str) -> bool:
    return bool(cidr) and not any(_cidr(Network(cidr=cidr)))
