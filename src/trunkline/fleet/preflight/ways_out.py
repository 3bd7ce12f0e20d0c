"""The way out of a task's subnet: to the internet by a route, or to the services it needs by VPC endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trunkline.fleet.lists import filtered
from trunkline.fleet.model import Network
from trunkline.fleet.networks import ENDPOINTS, reached_by_peering
from trunkline.fleet.preflight.look import Look

_ANYWHERE: Final = "0.0.0.0/0"
_TARGETS: Final = (
    "GatewayId",
    "NatGatewayId",
    "TransitGatewayId",
    "NetworkInterfaceId",
    "VpcPeeringConnectionId",
)


def check_way_out(look: Look, region: str, network: Network, vpc_id: str, subnets: Sequence[str]) -> None:
    """Every subnet needs one, as a task may start in any."""
    ec2, what = look.client("ec2", region), "way out"
    with look.checking(what, region):
        in_vpc = [filtered("vpc-id", vpc_id)]
        tables = ec2.describe_route_tables(Filters=in_vpc)["RouteTables"]
        ways = {subnet: _way_out(tables, subnet) for subnet in subnets}
        there = ec2.describe_vpc_endpoints(Filters=in_vpc)["VpcEndpoints"]
        lacking = _lacking(look, region, network, [each["ServiceName"] for each in there])
        closed = sorted(subnet for subnet, way in ways.items() if not _leads_out(way, network))
        if not closed or not lacking:
            look.say("ok", region, what)
        elif any(ways[subnet].startswith("igw-") for subnet in closed):
            why = f"{', '.join(closed)} lead to the internet for public addresses only, and tasks get none"
            look.say("error", region, what, why, "set public_ip: true, or name subnets with a NAT gateway")
        else:
            without = f"there are no VPC endpoints of {', '.join(lacking)}"
            why = f"no route to the internet leads from {', '.join(closed)}, and {without}"
            look.say(
                "error", region, what, why, "give it a NAT gateway, public addresses, or these endpoints"
            )


def _lacking(look: Look, region: str, network: Network, there: Sequence[str]) -> list[str]:
    """The endpoints that are needed and neither there nor to be made.

    One of workspaces is of use in the workspace's own region only; where VPCs are peered it is in the other one.
    """
    known = {*network.endpoints, *(name.split(".", 3)[-1] for name in there)}
    if network.peering:
        known.update(reached_by_peering(look.fleet.monitoring))
    elif region != look.fleet.monitoring.region:
        known.discard("aps-workspaces")
    return [name for name in ENDPOINTS if name not in known]


def _way_out(tables: Sequence[Mapping[str, Any]], subnet: str) -> str:
    """What the subnet's default route leads to (`igw-…`, `nat-…`, …); empty when there is none."""
    own = [each for each in tables if any(a.get("SubnetId") == subnet for a in each["Associations"])]
    main = [each for each in tables if any(a.get("Main") for a in each["Associations"])]
    for route in (own or main or [{"Routes": []}])[0]["Routes"]:
        if route.get("DestinationCidrBlock") == _ANYWHERE and route.get("State", "active") == "active":
            return next((str(route[name]) for name in _TARGETS if route.get(name)), "")
    return ""


def _leads_out(way: str, network: Network) -> bool:
    return bool(way) and (network.public_ip or not way.startswith("igw-"))
