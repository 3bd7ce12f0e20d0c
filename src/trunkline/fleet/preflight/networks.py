"""Networks of the fleet: a VPC to be made, the default VPC, or subnets and security groups that exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, ip_network
from typing import Any, Final

from trunkline.fleet.lists import filtered, pages, tags_of
from trunkline.fleet.model import TAG, Network
from trunkline.fleet.preflight.look import Look
from trunkline.fleet.preflight.quotas import check_quota
from trunkline.fleet.preflight.ways_out import check_way_out


def check_network(look: Look, region: str, network: Network) -> None:
    """Whether tasks can run in the region's network, or it can be made."""
    with look.checking("network", region):
        _CHECKS[network.kind](look, region, network)


def check_new_vpc(look: Look, region: str, network: Network) -> None:
    """Whether there is room for one more, and whether its addresses are free."""
    with look.checking("VPCs", region):
        vpcs = list(pages(look.client("ec2", region), "describe_vpcs", "Vpcs"))
        others = [each for each in vpcs if tags_of(each).get(TAG) != look.fleet.name]
        if len(vpcs) == len(others):
            _check_vpc_quota(look, region, len(vpcs))
        taken = [each for each in others if _overlap(network.cidr, each["CidrBlock"])]
        if taken:
            names = ", ".join(f"{each['VpcId']} ({each['CidrBlock']})" for each in taken)
            why = f"{network.cidr} overlaps with {names}: they can never be peered"
            look.say("warning", region, "addresses", why, "choose another cidr")
        else:
            look.say("ok", region, "addresses")


def check_addresses(look: Look, region: str, network: Network, vpc_id: str) -> None:
    """Whether a VPC that exists has the addresses the file says: overlaps are judged by those."""
    if not network.cidr:
        return
    with look.checking("addresses", region):
        [vpc] = _found(look.client("ec2", region).describe_vpcs, "vpc-id", (vpc_id,), "Vpcs")
        real = [each["CidrBlock"] for each in vpc["CidrBlockAssociationSet"]]
        if network.cidr in real:
            look.say("ok", region, "addresses")
        else:
            why = f"{vpc_id} has {', '.join(real)}, and the file says {network.cidr}"
            look.say("error", region, "addresses", why, f"write cidr: {real[0]}")


def _check_vpc_quota(look: Look, region: str, count: int) -> None:
    check_quota(
        look,
        region,
        count + 1,
        f"there are {count} VPCs",
        what="quota of VPCs",
        code="vpc/L-F678F1CE",
        remedy="have it raised, or use a network that exists",
    )


def _check_default_vpc(look: Look, region: str, network: Network) -> None:
    ec2 = look.client("ec2", region)
    vpcs = ec2.describe_vpcs(Filters=[filtered("is-default", "true")])["Vpcs"]
    remedy = f"aws ec2 create-default-vpc --region {region}, or give the region a network of its own"
    if not vpcs:
        look.say("error", region, "network", "there is no default VPC", remedy)
        return
    vpc_id = vpcs[0]["VpcId"]
    filters = [filtered("vpc-id", vpc_id), filtered("default-for-az", "true")]
    subnets = ec2.describe_subnets(Filters=filters)["Subnets"]
    if not subnets:
        look.say("error", region, "network", f"the default VPC {vpc_id} has no default subnet", remedy)
        return
    look.say("ok", region, "network")
    check_way_out(look, region, network, vpc_id, [each["SubnetId"] for each in subnets])


def _check_existing_vpc(look: Look, region: str, network: Network) -> None:
    ec2 = look.client("ec2", region)
    subnets = _found(ec2.describe_subnets, "subnet-id", network.subnets, "Subnets")
    groups = _found(ec2.describe_security_groups, "group-id", network.security_groups, "SecurityGroups")
    if misfit := next(_misfits(network, subnets, groups), None):
        look.say("error", region, "network", *misfit)
        return
    vpc_id = network.vpc_id or subnets[0]["VpcId"]
    look.say("ok", region, "network")
    check_addresses(look, region, network, vpc_id)
    if len({each["AvailabilityZone"] for each in subnets}) == 1:
        look.say("note", region, "availability", "all subnets are in one Availability Zone")
    check_way_out(look, region, network, vpc_id, network.subnets)


def _misfits(network: Network, subnets: Sequence[Any], groups: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """What does not exist, or not in one VPC, and what to do about it; what comes first explains what follows."""
    known = {each["SubnetId"] for each in subnets} | {each["GroupId"] for each in groups}
    if missing := [each for each in (*network.subnets, *network.security_groups) if each not in known]:
        why = f"there is no {' and no '.join(missing)} in this region"
        yield why, "correct the subnets and security groups"
    vpcs = sorted({each["VpcId"] for each in subnets} | ({network.vpc_id} if network.vpc_id else set()))
    if len(vpcs) > 1:
        yield f"the subnets and the VPC are of {', '.join(vpcs)}", "name subnets of one VPC"
    if strangers := [each["GroupId"] for each in groups if each["VpcId"] not in vpcs]:
        why = f"{', '.join(strangers)} is not in {vpcs[0]}, where the subnets are"
        yield why, "name security groups of that VPC"


_CHECKS: Final[Mapping[str, Callable[[Look, str, Network], None]]] = {
    "default": _check_default_vpc,
    "existing": _check_existing_vpc,
    "new": check_new_vpc,
}


def _overlap(one: str, other: str) -> bool:
    first, second = ip_network(one), ip_network(other)
    return isinstance(first, IPv4Network) and isinstance(second, IPv4Network) and first.overlaps(second)


def _found(describe: Callable[..., Any], name: str, ids: Sequence[str], key: str) -> list[Any]:
    """Those of `ids` that exist; asked by a filter, which takes one that does not exist for no error."""
    found: list[Any] = describe(Filters=[filtered(name, *ids)])[key] if ids else []
    # The key of an id is named like its filter: SubnetId, GroupId.
    return [each for each in found if each[name.title().replace("-", "")] in ids]
