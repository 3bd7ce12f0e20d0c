"""What a network may not be: its own keys, a way out for its tasks, and addresses that meet others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, ip_network
from typing import Final

from trunkline.errors import Problem
from trunkline.fleet.model import Fleet, MonitoringAccount, Network, WorkloadAccount
from trunkline.fleet.problems import below, matching, repeated, wrong

ENDPOINTS: Final = ("aps-workspaces", "sts", "ecr.api", "ecr.dkr", "logs", "s3")
"""What a task without another way out needs an endpoint of: the workspace, its role, its image, its logs."""

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
    if network.peering and monitoring.network is None:
        message = "there is no network in the monitoring account to peer with"
        yield Problem("", "peering", message, "add monitoring: {network: {vpc: new, cidr: …}}")
    if network.kind != "new" or network.public_ip or network.nat:
        return
    needed = [name for name in ENDPOINTS if name != "aps-workspaces" or not network.peering]
    missing = [name for name in needed if name not in network.endpoints]
    if missing:
        yield Problem(
            "",
            "endpoints",
            f"tasks without public addresses and without NAT cannot reach: {', '.join(missing)}",
            "add them to endpoints, or write nat: true or public_ip: true",
        )


def peering_problems(fleet: Fleet) -> Iterator[Problem]:
    """VPCs that meet in the monitoring account's must not share addresses, or one of them gets no answers."""
    found = _peered(fleet)
    known: list[tuple[IPv4Network, str]] = []
    for cidr, path, where in sorted(found, key=lambda one: one[1]):
        for other, whose in known:
            if cidr.overlaps(other):
                message = f"the addresses {cidr} overlap with {other} of {whose}, and both are peered"
                yield Problem("", f"{path}::cidr", message, "give each VPC addresses of its own")
                break
        known.append((cidr, where))


def _peered(fleet: Fleet) -> list[tuple[IPv4Network, str, str]]:
    networks = [
        (network, f"workloads::{index}::networks::{region}", f"account {account.account_id} in {region}")
        for index, account in enumerate(fleet.workloads)
        for region, network in account.networks.items()
        if network.peering
    ]
    if networks and fleet.monitoring.network:
        networks.append((fleet.monitoring.network, "monitoring::network", "the monitoring account"))
    return [
        (IPv4Network(network.cidr), path, where) for network, path, where in networks if _is_cidr(network)
    ]


def _is_cidr(network: Network) -> bool:
    return bool(network.cidr) and not any(_cidr(network))
