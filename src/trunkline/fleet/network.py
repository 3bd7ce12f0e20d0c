"""What the stacks of an account and region have to be told of the network: looked up, or named by its owner."""

from __future__ import annotations

from typing import Any

from trunkline.errors import FleetError
from trunkline.fleet.lists import filtered, pages
from trunkline.fleet.model import Fleet, Network
from trunkline.fleet.networks import peers
from trunkline.fleet.templates import BaseParameter, PeeringParameter, ServicesParameter


def network_parameters(network: Network, ec2: Any) -> dict[str, str]:
    """What the stacks of a region have to be told of the network beyond what the base stack makes and tells itself.

    Raises `FleetError` when there is no default VPC where one is wanted, or a subnet is not in the VPC named.
    """
    told: dict[str, tuple[str, ...]] = {}
    if network.kind != "new":
        told[ServicesParameter.SUBNETS] = network.subnets or default_subnets(ec2)
    if network.security_groups:
        told[ServicesParameter.SECURITY_GROUPS] = network.security_groups
    if network.kind == "existing" and ("s3" in network.endpoints or network.peering):
        told |= _told_of_tables(network, _route_tables(network, ec2))
    return {name: ",".join(ids) for name, ids in told.items()}


def default_subnets(ec2: Any) -> tuple[str, ...]:
    """The default subnets of the region's default VPC.

    Raises `FleetError` when the region has no default VPC, or one that lost its default subnets.
    """
    vpcs = ec2.describe_vpcs(Filters=[filtered("is-default", "true")])["Vpcs"]
    if not vpcs:
        raise FleetError(f"there is no default VPC; {_remedy(ec2)}")
    wanted = [filtered("vpc-id", vpcs[0]["VpcId"]), filtered("default-for-az", "true")]
    subnets = ec2.describe_subnets(Filters=wanted)["Subnets"]
    if not subnets:
        raise FleetError(f"the default VPC has no default subnet; {_remedy(ec2)}")
    return tuple(sorted(subnet["SubnetId"] for subnet in subnets))


def peering_parameters(fleet: Fleet, vpc_id: str, ec2: Any) -> dict[str, str]:
    """The connections of the monitoring account's VPC with those that are to be peered with it.

    Asked there and not of the stacks that make them: an account that cannot be entered keeps its way back.
    """
    wanted = [filtered("accepter-vpc-info.vpc-id", vpc_id), filtered("status-code", "active")]
    connections = pages(ec2, "describe_vpc_peering_connections", "VpcPeeringConnections", Filters=wanted)
    found = {
        (each["RequesterVpcInfo"]["OwnerId"], each["RequesterVpcInfo"]["Region"]): each
        for each in connections
        if each["AccepterVpcInfo"]["VpcId"] == vpc_id
    }
    return {
        PeeringParameter.connection(peer.cidr): found[peer.account_id, peer.region]["VpcPeeringConnectionId"]
        for peer in peers(fleet)
        if (peer.account_id, peer.region) in found
    }


def _told_of_tables(network: Network, tables: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """All of them for S3; for peering each once, at the first subnet that has it."""
    told = {}
    if "s3" in network.endpoints:
        told[BaseParameter.ROUTE_TABLES] = tuple(sorted(set(tables)))
    if network.peering:
        told |= {BaseParameter.route_table(tables.index(table)): (table,) for table in tables}
    return told


def _route_tables(network: Network, ec2: Any) -> tuple[str, ...]:
    """For each subnet the table that leads it anywhere; a subnet without one of its own goes by the VPC's main one."""
    found = ec2.describe_route_tables(Filters=[filtered("vpc-id", network.vpc_id)])["RouteTables"]
    tables = {}
    for table in found:
        for each in table["Associations"]:
            tables["main" if each.get("Main") else each.get("SubnetId", "")] = table["RouteTableId"]
    if "main" not in tables:
        raise FleetError(f"{network.vpc_id} has no route table; check that it is the VPC of the subnets")
    return tuple(tables.get(subnet, tables["main"]) for subnet in network.subnets)


def _remedy(ec2: Any) -> str:
    return (
        f"create it with: aws ec2 create-default-vpc --region {ec2.meta.region_name}; or give the region a network of "
        "its own: vpc: new with a cidr"
    )
