"""Where the tasks of an account run when its owner names no network: the default VPC of the region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trunkline.errors import FleetError


@dataclass(frozen=True, slots=True)
class Network:
    """Subnets, in the order of their names, and one security group in the same VPC."""

    subnet_ids: tuple[str, ...]
    security_group_id: str


def default_network(ec2: Any) -> Network:
    """The default subnets and the default security group, which lets everything out and only itself in.

    Raises `FleetError` when the region has no default VPC, or one that lost its default subnets.
    """
    vpcs = ec2.describe_vpcs(Filters=[_filter("is-default", "true")])["Vpcs"]
    if not vpcs:
        raise FleetError(f"there is no default VPC; {_remedy(ec2)}")
    in_vpc = _filter("vpc-id", vpcs[0]["VpcId"])
    subnets = ec2.describe_subnets(Filters=[in_vpc, _filter("default-for-az", "true")])["Subnets"]
    groups = ec2.describe_security_groups(Filters=[in_vpc, _filter("group-name", "default")])
    if not subnets:
        raise FleetError(f"the default VPC has no default subnet; {_remedy(ec2)}")
    subnet_ids = sorted(subnet["SubnetId"] for subnet in subnets)
    return Network(tuple(subnet_ids), groups["SecurityGroups"][0]["GroupId"])


def _filter(name: str, value: str) -> dict[str, Any]:
    return {"Name": name, "Values": [value]}


def _remedy(ec2: Any) -> str:
    return f"create it with: aws ec2 create-default-vpc --region {ec2.meta.region_name}"
