"""Networks: what is made in which kind, and what the stacks are told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from tests.fleet.kinds_of_fleets import (
    ENDPOINTS,
    FIRST,
    GROUPS,
    NETWORKS,
    SUBNETS,
    VPC,
    account,
    reference,
    resources,
    templates_of_kind,
)

from trunkline.errors import FleetError
from trunkline.fleet.model import Network
from trunkline.fleet.network import network_parameters
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.templates import base_template, services_template


def template_of(network: Network) -> dict[str, Any]:
    workload = replace(account(FIRST), networks={"eu-west-1": network})
    found: dict[str, Any] = json.loads(base_template(reference(), workload, "eu-west-1"))
    return found


def made(network: Network) -> dict[str, Any]:
    return {name: each["Properties"] for name, each in template_of(network)["Resources"].items()}


def types(network: Network) -> list[str]:
    beside = {"AWS::Logs::LogGroup", "AWS::ECS::Cluster", "AWS::ECR::Repository"}
    found = (each["Type"] for each in template_of(network)["Resources"].values())
    return sorted(kind.rpartition("::")[2] for kind in found if kind not in beside)


def test_the_default_vpc_only_gets_a_security_group() -> None:
    assert types(Network()) == ["SecurityGroup"]
    group = made(Network())["TaskGroup"]
    assert "VpcId" not in group  # so it is the default VPC's
    assert "SecurityGroupIngress" not in group
    assert template_of(Network())["Outputs"]["SecurityGroups"]["Value"]["Fn::Join"][1] == [
        {"Fn::GetAtt": ["TaskGroup", "GroupId"]}
    ]


def test_a_new_vpc_has_two_zones_and_a_way_out() -> None:
    network = NETWORKS["eu-north-1"]
    assert types(network) == [
        *("InternetGateway", "Route", "RouteTable", "SecurityGroup", "Subnet", "Subnet"),
        *("SubnetRouteTableAssociation", "SubnetRouteTableAssociation", "VPC", "VPCGatewayAttachment"),
    ]
    subnets = [made(network)[f"PublicSubnet{zone}"] for zone in "AB"]
    assert [subnet["AvailabilityZone"]["Fn::Select"] for subnet in subnets] == [
        [0, {"Fn::GetAZs": ""}],
        [1, {"Fn::GetAZs": ""}],
    ]
    assert "MapPublicIpOnLaunch" not in subnets[0]
    assert template_of(network)["Resources"]["PublicRoute"]["DependsOn"] == "GatewayAttachment"
    outputs = template_of(network)["Outputs"]
    assert outputs["Subnets"]["Value"] == {
        "Fn::Join": [",", [{"Ref": "PublicSubnetA"}, {"Ref": "PublicSubnetB"}]]
    }
    assert outputs["VpcId"]["Value"] == {"Ref": "Vpc"}


def test_with_a_nat_gateway_tasks_are_in_private_subnets() -> None:
    network = NETWORKS["eu-central-1"]
    found = made(network)
    assert found["PrivateRoute"]["NatGatewayId"] == {"Ref": "Nat"}
    assert found["Nat"]["SubnetId"] == {"Ref": "PublicSubnetA"}
    assert template_of(network)["Outputs"]["Subnets"]["Value"]["Fn::Join"][1][0] == {"Ref": "PrivateSubnetA"}


def test_without_a_way_out_there_is_no_gateway() -> None:
    found = types(NETWORKS["eu-west-1"])
    assert not {"InternetGateway", "NatGateway", "Route"} & set(found)
    assert found.count("VPCEndpoint") == len(ENDPOINTS)


def test_subnets_lie_in_the_vpc_and_apart() -> None:
    def check(cidr: str) -> None:
        found = made(Network(kind="new", cidr=cidr, nat=True))
        parts = [
            ip_network(each["CidrBlock"])
            for name, each in found.items()
            if "Subnet" in name and "CidrBlock" in each
        ]
        assert len(parts) == 4
        assert sum(part.num_addresses for part in parts) == ip_network(cidr).num_addresses
        assert len({part.network_address for part in parts}) == 4
        assert all(
            part.prefixlen <= 28 and part.overlaps(ip_network(cidr)) for part in parts
        )  # as AWS demands

    check("10.40.0.0/16")
    check("192.168.1.0/24")


def test_endpoints_answer_the_tasks_only() -> None:
    found = made(NETWORKS["us-east-1"])
    rules = found["EndpointGroup"]["SecurityGroupIngress"]
    assert [rule["SourceSecurityGroupId"] for rule in rules] == list(GROUPS)
    assert {(rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) for rule in rules} == {(443, 443, "tcp")}
    sts = found["StsEndpoint"]
    assert sts["ServiceName"] == {"Fn::Sub": "com.amazonaws.${AWS::Region}.sts"}
    assert (sts["VpcId"], sts["SubnetIds"], sts["PrivateDnsEnabled"]) == (VPC, list(SUBNETS), True)
    assert sts["SecurityGroupIds"] == [{"Fn::GetAtt": ["EndpointGroup", "GroupId"]}]
    assert found["S3Endpoint"]["RouteTableIds"] == {"Ref": "RouteTables"}
    assert "EcrApiEndpoint" in found
    assert "TaskGroup" not in found


def test_private_dns_works_in_a_new_vpc() -> None:
    found = made(NETWORKS["eu-west-1"])
    assert found["Vpc"]["EnableDnsHostnames"] is True
    assert found["Vpc"]["EnableDnsSupport"] is True
    assert found["S3Endpoint"]["RouteTableIds"] == [{"Ref": "PrivateRoutes"}]
    assert found["ApsWorkspacesEndpoint"]["SubnetIds"] == [
        {"Ref": "PrivateSubnetA"},
        {"Ref": "PrivateSubnetB"},
    ]


def test_tasks_get_public_addresses_where_that_is_the_way_out() -> None:
    def check(network: Network, expected: str) -> None:
        workload = replace(account(FIRST), networks={"eu-west-1": network})
        service = resources(services_template(reference(), workload, "eu-west-1"))["WebShopService"]
        assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == expected

    check(Network(), "ENABLED")
    check(Network(kind="new", cidr="10.40.0.0/16"), "ENABLED")
    check(NETWORKS["eu-central-1"], "DISABLED")
    check(NETWORKS["eu-west-1"], "DISABLED")


def test_what_cannot_be_made_is_refused_with_a_way_round() -> None:
    def check(network: Network, *expected: str) -> None:
        # Not by way of a fleet, whose own checks come first.
        workload = replace(account(FIRST), networks={"eu-west-1": network})
        with pytest.raises(FleetError) as raised:
            base_template(reference(), workload, "eu-west-1")
        assert str(raised.value).startswith(f"account {FIRST}, eu-west-1, tests-base: ")
        for words in expected:
            assert words in str(raised.value)

    check(Network(peering=True), "the default VPC cannot be peered", "write vpc: new with a cidr")
    check(Network(kind="existing", subnets=SUBNETS, security_groups=GROUPS, peering=True), "is not known")
    check(Network(endpoints=("sts",)), "the default VPC gets no endpoints", "write vpc: new")
    check(Network(kind="existing", subnets=SUBNETS), "the subnets' VPC is not known", "vpc: vpc-…")
    check(
        Network(kind="existing", subnets=SUBNETS, security_groups=GROUPS, endpoints=("sts",)), "is not known"
    )


def test_the_stacks_are_told_what_the_owner_named() -> None:
    def check(network: Network, **expected: str) -> None:
        assert network_parameters(network, None) == expected

    check(NETWORKS["eu-west-1"])
    check(NETWORKS["us-west-2"], Subnets=",".join(SUBNETS))
    given = replace(NETWORKS["us-west-2"], security_groups=GROUPS)
    check(given, Subnets=",".join(SUBNETS), SecurityGroups=",".join(GROUPS))


def test_a_default_vpc_is_looked_up(sessions: Sessions) -> None:
    ec2 = sessions(FIRST, "eu-west-1").client("ec2")
    found = network_parameters(Network(), ec2)
    assert list(found) == ["Subnets"]
    assert len(found["Subnets"].split(",")) == 3


def test_route_tables_of_the_subnets_are_looked_up(sessions: Sessions) -> None:
    ec2 = sessions(FIRST, "eu-north-1").client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    parts = ("10.9.1.0/24", "10.9.2.0/24")
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=part)["Subnet"]["SubnetId"] for part in parts]
    own = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=own, SubnetId=subnets[0])
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    network = Network(kind="existing", vpc_id=vpc, subnets=tuple(subnets), endpoints=("s3",))
    told = network_parameters(network, ec2)["RouteTables"].split(",")
    assert sorted(told) == sorted(table["RouteTableId"] for table in tables)
    assert len(told) == 2
    alone = replace(network, subnets=(subnets[0],))
    assert network_parameters(alone, ec2)["RouteTables"] == own


def test_a_vpc_of_nobody_is_said(sessions: Sessions) -> None:
    ec2 = sessions(FIRST, "eu-north-1").client("ec2")
    with pytest.raises(FleetError, match=f"{VPC} has no route table; check that it is the VPC"):
        network_parameters(replace(NETWORKS["us-west-2"], endpoints=("s3",)), ec2)


def test_the_organizations_services_wait_for_the_way_out() -> None:
    found = json.loads(templates_of_kind("organization")["units"])["Resources"]
    assert found["WebShopService"]["DependsOn"] == ["PublicRoute", "PublicRoutesA", "PublicRoutesB"]
    assert set(found["WebShopService"]["DependsOn"]) <= set(found)
