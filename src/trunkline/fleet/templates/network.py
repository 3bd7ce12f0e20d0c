"""Where tasks run: a VPC of the fleet's own, security groups that let nothing in, and private ways to AWS.

Endpoints are answered under AWS's usual names (private DNS), so nothing that runs has to know of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any, Final

from troposphere import (  # type: ignore[import-untyped]
    GetAtt,
    GetAZs,
    Join,
    Ref,
    Select,
    Sub,
    Template,
    ec2,
)

from trunkline.errors import FleetError
from trunkline.fleet.model import Network
from trunkline.fleet.templates.document import Json
from trunkline.fleet.templates.interface import BaseOutput, BaseParameter

_ANYWHERE: Final = "0.0.0.0/0"
_HTTPS: Final = 443
_ZONES: Final = ("A", "B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """References to where tasks run. What is None is looked up, or was named by the owner, when deploying."""

    vpc: Any = None
    subnets: list[Any] | None = None
    security_groups: list[Any] | None = None
    table: Any = None
    """The route table of the subnets, if it is made here."""

    def outputs(self) -> Json:
        said = {BaseOutput.VPC_ID: self.vpc}
        if self.subnets:
            said[BaseOutput.SUBNETS] = Join(",", self.subnets)
        if self.security_groups:
            said[BaseOutput.SECURITY_GROUPS] = Join(",", self.security_groups)
        return {name: value for name, value in said.items() if value is not None}


def add_network(template: Template, network: Network, place: str) -> Ways:
    """Add what the network asks for. Raises `FleetError` for what CloudFormation cannot do alone."""
    _check(network, place)
    if network.kind == "new":
        return _add_vpc(template, network)
    if network.kind == "existing":
        return _add_to_existing(template, network)
    return Ways(security_groups=[_add_task_group(template)])


def _check(network: Network, place: str) -> None:
    if network.peering and network.kind == "default":
        raise FleetError(
            f"{place}: the default VPC cannot be peered, as all of them have the same addresses; write vpc: new with a "
            "cidr of its own"
        )
    if network.endpoints and network.kind == "default":
        raise FleetError(
            f"{place}: the default VPC gets no endpoints; write vpc: new, or name a VPC and its subnets"
        )
    if (
        network.kind == "existing"
        and not network.vpc_id
        and (network.endpoints or network.peering or not network.security_groups)
    ):
        raise FleetError(
            f"{place}: the subnets' VPC is not known, and something has to be made in it; "
            "name it (vpc: vpc-…), or name security_groups, no endpoints and no peering"
        )


def _add_to_existing(template: Template, network: Network) -> Ways:
    groups: list[Any] = list(network.security_groups)
    made = None if groups else _add_task_group(template, network.vpc_id)
    if network.endpoints:
        tables = Ref(BaseParameter.ROUTE_TABLES)
        _add_endpoints(
            template, network, network.vpc_id, list(network.subnets), [made] if made else groups, tables
        )
    return Ways(security_groups=[made] if made else None)


@dataclass(frozen=True, slots=True)
class Side:
    """Subnets in two zones that share a route table."""

    subnets: list[Any]
    table: Any


def _add_vpc(template: Template, network: Network) -> Ways:
    """Two zones, each with a subnet for the tasks; public ones beside them if anything goes out that way."""
    vpc = template.add_resource(
        ec2.VPC("Vpc", CidrBlock=network.cidr, EnableDnsHostnames=True, EnableDnsSupport=True)
    )
    public, private = quarters(network.cidr)[:2], quarters(network.cidr)[2:]
    outside = _add_public_side(template, vpc, public) if network.public_ip or network.nat else None
    inside = add_side(template, "Private", vpc, private) if network.nat or not network.public_ip else None
    if outside and inside:
        _add_nat(template, outside.subnets[0], inside.table)
    sides = [side for side in (inside, outside) if side]
    subnets, group = sides[0].subnets, _add_task_group(template, Ref(vpc))
    if network.endpoints:
        _add_endpoints(template, network, Ref(vpc), subnets, [group], [Ref(side.table) for side in sides])
    return Ways(vpc=Ref(vpc), subnets=subnets, security_groups=[group], table=Ref(sides[0].table))


def quarters(cidr: str) -> list[IPv4Network]:
    """The four parts of a VPC's addresses: two for public subnets, and two for private ones."""
    whole = ip_network(cidr)
    assert isinstance(whole, IPv4Network)
    return list(whole.subnets(prefixlen_diff=2))


def _add_public_side(template: Template, vpc: Any, cidrs: list[IPv4Network]) -> Side:
    gateway = template.add_resource(ec2.InternetGateway("Gateway"))
    template.add_resource(
        ec2.VPCGatewayAttachment("GatewayAttachment", VpcId=Ref(vpc), InternetGatewayId=Ref(gateway))
    )
    side = add_side(template, "Public", vpc, cidrs)
    out = {"GatewayId": Ref(gateway), "DependsOn": "GatewayAttachment"}
    template.add_resource(_route_out("PublicRoute", side.table, **out))
    return side


def add_side(template: Template, kind: str, vpc: Any, cidrs: list[IPv4Network]) -> Side:
    """Add a subnet in each of two zones, and a route table for both; `kind` begins their names."""
    table = template.add_resource(ec2.RouteTable(f"{kind}Routes", VpcId=Ref(vpc)))
    return Side(_add_subnets(template, kind, vpc, cidrs, table), table)


def _route_out(title: str, table: Any, **way: Any) -> Any:
    return ec2.Route(title, RouteTableId=Ref(table), DestinationCidrBlock=_ANYWHERE, **way)


def _add_subnets(template: Template, kind: str, vpc: Any, cidrs: list[IPv4Network], table: Any) -> list[Any]:
    """One in each of the first two zones; addresses are given to tasks, never to subnets as such."""
    made = []
    for index, (zone, cidr) in enumerate(zip(_ZONES, cidrs, strict=True)):
        subnet = template.add_resource(
            ec2.Subnet(
                f"{kind}Subnet{zone}",
                VpcId=Ref(vpc),
                CidrBlock=str(cidr),
                AvailabilityZone=Select(index, GetAZs("")),
            )
        )
        template.add_resource(
            ec2.SubnetRouteTableAssociation(
                f"{kind}Routes{zone}", SubnetId=Ref(subnet), RouteTableId=Ref(table)
            )
        )
        made.append(Ref(subnet))
    return made


def _add_nat(template: Template, public_subnet: Any, table: Any) -> None:
    """One gateway for both zones: it costs by the hour, and metrics of a zone that is down can wait in the queue."""
    address = template.add_resource(ec2.EIP("NatAddress", Domain="vpc", DependsOn="GatewayAttachment"))
    nat = template.add_resource(
        ec2.NatGateway("Nat", AllocationId=GetAtt(address, "AllocationId"), SubnetId=public_subnet)
    )
    template.add_resource(_route_out("PrivateRoute", table, NatGatewayId=Ref(nat)))


def _add_task_group(template: Template, vpc_id: Any = None) -> Any:
    """Without rules: EC2 then lets everything out and nothing in. Without a VPC it is the default one's."""
    made = template.add_resource(
        ec2.SecurityGroup(
            "TaskGroup",
            GroupDescription="Tasks reach out, and nothing reaches them.",
            **({"VpcId": vpc_id} if vpc_id else {}),
        )
    )
    return GetAtt(made, "GroupId")


def _add_endpoints(
    template: Template, network: Network, vpc: Any, subnets: list[Any], groups: list[Any], tables: Any
) -> None:
    """S3 by the route tables; the others by addresses in the tasks' subnets that only the tasks may reach."""
    interfaces = [name for name in network.endpoints if name != "s3"]
    if "s3" in network.endpoints:
        template.add_resource(
            ec2.VPCEndpoint(
                "S3Endpoint",
                VpcId=vpc,
                VpcEndpointType="Gateway",
                ServiceName=Sub("com.amazonaws.${AWS::Region}.s3"),
                RouteTableIds=tables,
            )
        )
    if not interfaces:
        return
    sources = [{"SourceSecurityGroupId": group} for group in groups]
    door = https_group(template, "EndpointGroup", "Tasks reach the endpoints.", vpc, sources)
    for name in interfaces:
        add_interface_endpoint(template, name, vpc, subnets, [door])


def add_interface_endpoint(
    template: Template, name: str, vpc: Any, subnets: list[Any], groups: list[Any]
) -> Any:
    """Add addresses in the subnets that lead to a service of this region, such as `ecr.api`."""
    return template.add_resource(
        ec2.VPCEndpoint(
            "".join(part.capitalize() for part in name.replace(".", "-").split("-")) + "Endpoint",
            VpcId=vpc,
            VpcEndpointType="Interface",
            ServiceName=Sub(f"com.amazonaws.${{AWS::Region}}.{name}"),
            PrivateDnsEnabled=True,
            SubnetIds=subnets,
            SecurityGroupIds=groups,
        )
    )


def https_group(
    template: Template, title: str, description: str, vpc: Any, sources: Sequence[Mapping[str, Any]]
) -> Any:
    """Add a security group that lets these sources reach port 443, and return its id."""
    made = template.add_resource(
        ec2.SecurityGroup(
            title,
            GroupDescription=description,
            VpcId=vpc,
            SecurityGroupIngress=[
                ec2.SecurityGroupRule(
                    IpProtocol="tcp",
                    FromPort=_HTTPS,
                    ToPort=_HTTPS,
                    Description="From tasks",
                    **source,
                )
                for source in sources
            ],
        )
    )
    return GetAtt(made, "GroupId")
