"""What carries the fleet's tag: by the Tagging API, and by EC2's own list. Both lag behind what they list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from trunkline.fleet.lists import filtered, pages
from trunkline.fleet.model import TAG
from trunkline.fleet.proof.leftover import Hit, Read
from trunkline.fleet.proof.place import SearchedPlace
from trunkline.fleet.proof.stacks import reads_stack
from trunkline.fleet.proof.task_definitions import reads_definition

_EC2_READERS: Final = {
    "vpc": ("describe_vpcs", "VpcIds", "Vpcs"),
    "subnet": ("describe_subnets", "SubnetIds", "Subnets"),
    "security-group": ("describe_security_groups", "GroupIds", "SecurityGroups"),
    "internet-gateway": ("describe_internet_gateways", "InternetGatewayIds", "InternetGateways"),
    "route-table": ("describe_route_tables", "RouteTableIds", "RouteTables"),
    "natgateway": ("describe_nat_gateways", "NatGatewayIds", "NatGateways"),
    "elastic-ip": ("describe_addresses", "AllocationIds", "Addresses"),
    "network-interface": ("describe_network_interfaces", "NetworkInterfaceIds", "NetworkInterfaces"),
    "vpc-endpoint": ("describe_vpc_endpoints", "VpcEndpointIds", "VpcEndpoints"),
    "vpc-peering-connection": (
        "describe_vpc_peering_connections",
        "VpcPeeringConnectionIds",
        "VpcPeeringConnections",
    ),
}
"""Resource type → the operation that describes it, its parameter for ids, and where the answer has them."""


def tagged(place: SearchedPlace) -> Iterator[Hit]:
    """Whatever the Tagging API lists in the region."""
    for arn in _tagged_arns(place):
        service, resource = _parts(arn)
        kind, _, name = resource.replace(":", "/", 1).lstrip("/").partition("/")
        yield place.leftover(f"{service} {kind}", name or kind, arn, "tag"), _reader(place, arn)


def ec2_tags(place: SearchedPlace) -> Iterator[Hit]:
    """VPCs and what is in them: EC2's own list of tags, which shows what ended for a while too."""
    ec2 = place.client("ec2")
    partition = ec2.meta.partition
    filters = [filtered("key", TAG), filtered("value", place.fleet.name)]
    for each in pages(ec2, "describe_tags", "Tags", Filters=filters):
        id_, kind = each["ResourceId"], each["ResourceType"]
        arn = f"arn:{partition}:ec2:{place.region}:{place.account_id}:{kind}/{id_}"

        def read(kind: str = kind, id_: str = id_) -> bool:
            return _is_in_ec2(ec2, kind, id_)

        yield place.leftover(kind, id_, arn, "tag"), read


def _reader(place: SearchedPlace, arn: str) -> Read:
    """Asks the service itself where it is one of those a fleet has, else the list of tags once more."""
    service, resource = _parts(arn)
    if service == "ecs" and resource.startswith("task-definition/"):
        return lambda: reads_definition(place.client("ecs"), arn)
    if service == "ecs" and resource.startswith("cluster/"):
        return lambda: _any_active(place.client("ecs").describe_clusters(clusters=[arn])["clusters"])
    if service == "ecs" and resource.startswith("service/"):
        cluster = resource.split("/")[1]
        return lambda: _any_active(
            place.client("ecs").describe_services(cluster=cluster, services=[arn])["services"]
        )
    if service == "cloudformation" and resource.startswith("stack/"):
        return reads_stack(place, arn)
    return lambda: arn in set(_tagged_arns(place))


def _parts(arn: str) -> tuple[str, str]:
    """The service and the resource of an ARN."""
    return arn.split(":")[2], arn.split(":", 5)[5]


def _tagged_arns(place: SearchedPlace) -> Iterator[str]:
    tagging = place.client("resourcegroupstaggingapi")
    filters = [{"Key": TAG, "Values": [place.fleet.name]}]
    for each in pages(tagging, "get_resources", "ResourceTagMappingList", TagFilters=filters):
        yield each["ResourceARN"]


def _any_active(found: Iterable[Mapping[str, Any]]) -> bool:
    return any(each["status"] != "INACTIVE" for each in found)


def _is_in_ec2(ec2: Any, kind: str, id_: str) -> bool:
    """Whether it exists and has not ended; tags outlive what they are of."""
    if kind not in _EC2_READERS:
        return bool(ec2.describe_tags(Filters=[filtered("resource-id", id_), filtered("key", TAG)])["Tags"])
    operation, parameter, key = _EC2_READERS[kind]
    for each in getattr(ec2, operation)(**{parameter: [id_]})[key]:
        state = each.get("State") or each.get("Status") or ""
        return str(state.get("Code", "") if isinstance(state, dict) else state) != "deleted"
    return False
