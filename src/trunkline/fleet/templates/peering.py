"""VPC peering: tasks in other regions reach the workspace by its endpoint in a VPC of the monitoring account.

Three stacks have a part in it, as CloudFormation reaches one account and region at a time: the monitoring account's
(the VPC, the endpoints, a role that accepts), the base of each peered region (the connection, the ways there), and,
once there are connections, one more in the monitoring account (the ways back).

The endpoints' usual names are not answered in other VPCs. So collectors are told where to connect instead
(`TRUNKLINE_RESOLVE`): URL, certificate check and signature stay those of the workspace's real host.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any, Final

from troposphere import (  # type: ignore[import-untyped]
    Equals,
    GetAtt,
    Not,
    Parameter,
    Ref,
    Select,
    Split,
    Sub,
    Template,
    ec2,
)

from trunkline.errors import FleetError
from trunkline.fleet.model import Fleet, Network
from trunkline.fleet.networks import Peer, peer_role, peers, workspace_network
from trunkline.fleet.templates.document import (
    Json,
    allow,
    arn,
    document,
    inline,
    new_template,
    rendered,
    role,
)
from trunkline.fleet.templates.interface import (
    BaseOutput,
    BaseParameter,
    MonitoringOutput,
    PeeringParameter,
)
from trunkline.fleet.templates.network import Ways, add_interface_endpoint, add_side, https_group, quarters

_RULES_PER_GROUP: Final = 50  # of the 60 that a security group may have (Amazon VPC quotas)


def add_workspace_vpc(template: Template, fleet: Fleet) -> Json:
    """Add the VPC of the workspace's endpoint if anybody is peered with it, and return the outputs that tell of it.

    Raises `FleetError` when the accounts do not fit into the trust policy of the role that accepts.
    """
    network = workspace_network(fleet)
    if network is None:
        return {}
    vpc = template.add_resource(
        ec2.VPC("PeerVpc", CidrBlock=network.cidr, EnableDnsHostnames=True, EnableDnsSupport=True)
    )
    side = add_side(template, "Peer", vpc, quarters(network.cidr)[:2])
    groups = _add_groups(template, vpc, peers(fleet))
    accepter = template.add_resource(_accepter(fleet, vpc))
    outputs = {
        MonitoringOutput.PEER_VPC_ID: Ref(vpc),
        MonitoringOutput.PEER_ROUTE_TABLE: Ref(side.table),
        MonitoringOutput.PEER_ROLE_ARN: GetAtt(accepter, "Arn"),
    }
    for name, output in _endpoints(network).items():
        endpoint = add_interface_endpoint(template, name, Ref(vpc), side.subnets, groups)
        outputs[output] = _regional_name(endpoint)
    return outputs


def add_peering(template: Template, fleet: Fleet, network: Network, ways: Ways) -> Json:
    """Add the connection with the monitoring account's VPC and the ways there, if asked for."""
    there = workspace_network(fleet)
    if not network.peering or there is None:
        return {}
    connection = template.add_resource(
        ec2.VPCPeeringConnection(
            "Peering",
            VpcId=network.vpc_id or ways.vpc,
            PeerVpcId=Ref(MonitoringOutput.PEER_VPC_ID),
            PeerOwnerId=fleet.monitoring.account_id,
            PeerRegion=fleet.monitoring.region,
            PeerRoleArn=Ref(MonitoringOutput.PEER_ROLE_ARN),
        )
    )
    by = {"DestinationCidrBlock": there.cidr, "VpcPeeringConnectionId": Ref(connection)}
    if ways.table is not None:
        template.add_resource(ec2.Route("PeerRoute", RouteTableId=ways.table, **by))
    for index in range(len(network.subnets)):
        _add_optional_route(template, f"PeerRoute{index + 1}", BaseParameter.route_table(index), "", **by)
    return {BaseOutput.PEERING_CONNECTION: Ref(connection)}


def peering_template(fleet: Fleet) -> str:
    """The ways back, a route for each VPC whose connection is known. Raises `FleetError` for too many of them.

    A route is named after where it leads: so one is never made before its predecessor is gone.
    """
    found = peers(fleet)
    template = new_template(fleet, "the ways back to the VPCs that are peered")
    template.add_parameter(Parameter(MonitoringOutput.PEER_ROUTE_TABLE, Type="String"))
    for peer in found:
        name = PeeringParameter.connection(peer.cidr)
        table = Ref(MonitoringOutput.PEER_ROUTE_TABLE)
        title = name.replace("Connection", "To", 1)
        by = {"RouteTableId": table, "DestinationCidrBlock": peer.cidr}
        _add_optional_route(template, title, "", name, **by)
    account = fleet.monitoring
    place = f"account {account.account_id}, {account.region}, the ways back to {len(found)} peered VPCs"
    return rendered(fleet, template, place, "peer fewer of them, or use several fleets")


def workspace_ways(fleet: Fleet, network: Network) -> str:
    """Where the collectors of a peered network connect, as `TRUNKLINE_RESOLVE` takes it, for `Fn::Sub`; else empty."""
    there = workspace_network(fleet)
    if not network.peering or there is None:
        return ""
    region = fleet.monitoring.region
    return ",".join(
        f"{name}.{region}.amazonaws.com:443=${{{output}}}:443"
        for name, output in _endpoints(there).items()
        if name not in network.endpoints
    )


def told(own: str, ways: str) -> Any:
    """What an owner leads elsewhere himself, and these ways, as text with the endpoints' names filled in."""
    return Sub(",".join(filter(None, (own.replace("${", "${!"), ways))))


def _endpoints(there: Network) -> dict[str, str]:
    """The endpoints in the monitoring account's VPC, and the outputs that tell their names."""
    found = {"aps-workspaces": MonitoringOutput.WORKSPACE_ENDPOINT}
    return found | ({"sts": MonitoringOutput.STS_ENDPOINT} if "sts" in there.endpoints else {})


def _regional_name(endpoint: Any) -> Any:
    """An endpoint's own name, which is public and leads to its private addresses.

    The first of its names is the regional one (`AWS::EC2::VPCEndpoint`, return values), after its zone's id and a colon.
    """
    return Select(1, Split(":", Select(0, GetAtt(endpoint, "DnsEntries"))))


def _add_groups(template: Template, vpc: Any, found: tuple[Peer, ...]) -> list[Any]:
    """By addresses: a security group of another region cannot be named."""
    cidrs = sorted((peer.cidr for peer in found), key=IPv4Network)
    groups = []
    for start in range(0, len(cidrs), _RULES_PER_GROUP):
        title = f"PeerGroup{start // _RULES_PER_GROUP + 1}"
        rules = [{"CidrIp": cidr} for cidr in cidrs[start : start + _RULES_PER_GROUP]]
        groups.append(https_group(template, title, "Peered VPCs reach the endpoints.", Ref(vpc), rules))
    return groups


def _accepter(fleet: Fleet, vpc: Any) -> Any:
    """For CloudFormation in the peered accounts, on behalf of whoever deploys there."""
    here = "${AWS::Region}:${AWS::AccountId}"
    resources = [arn(f"ec2:{here}:vpc/${{{vpc.title}}}"), arn(f"ec2:{here}:vpc-peering-connection/*")]
    return role(
        fleet,
        "PeerRole",
        peer_role(fleet),
        description="Accepts that VPCs of the fleet are peered with the one of the workspace's endpoint.",
        trust=_accepter_trust(fleet),
        # Both are asked for: so it is connections with this VPC and no other.
        policies=[inline("accept-peering", allow(["ec2:AcceptVpcPeeringConnection"], resources))],
    )


def _accepter_trust(fleet: Fleet) -> Json:
    """The peered accounts; where the file names the roles they are entered by, these alone."""
    accounts = sorted({peer.account_id for peer in peers(fleet)})
    statement: Json = {"Effect": "Allow", "Principal": {"AWS": accounts}, "Action": "sts:AssumeRole"}
    roles = {
        account.credentials.role.rpartition(":role/")[2].lstrip("/")
        for account in fleet.workloads
        if account.account_id in accounts
    }
    if "" not in roles:
        patterns = [arn(f"iam::*:role/{each}") for each in sorted(roles)]
        statement["Condition"] = {"ArnLike": {"aws:PrincipalArn": patterns}}
    trust = document([statement])
    size = len(json.dumps(trust, default=lambda value: value.data["Fn::Sub"], separators=(",", ":")))
    if size > fleet.trust_characters:
        raise FleetError(
            f"the trust policy of the role that accepts peering would have {size} characters for {len(accounts)} "
            f"accounts, and IAM takes {fleet.trust_characters}; have the quota 'Role trust policy length' raised and "
            "say trust_characters: 4096, or use several fleets"
        )
    return trust


def _add_optional_route(template: Template, title: str, table: str, connection: str, **route: Any) -> None:
    """A route that is there when the parameter for its table, or for its connection, has a value."""
    parameter = table or connection
    template.add_parameter(Parameter(parameter, Type="String", Default=""))
    condition = f"Has{parameter}"
    template.add_condition(condition, Not(Equals(Ref(parameter), "")))
    route["RouteTableId" if table else "VpcPeeringConnectionId"] = Ref(parameter)
    template.add_resource(ec2.Route(title, Condition=condition, **route))
