"""VPC peering: what is made on both sides, who may have it, and whole fleets that are deployed with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.fleet.kinds_of_fleets import ENDPOINTS, GROUPS, SUBNETS, VPC, account, reference, resources

from trunkline.errors import ConfigError, FleetError
from trunkline.fleet.changes import Stack
from trunkline.fleet.deploy import Event, deploy_fleet
from trunkline.fleet.destroy import destroy_fleet
from trunkline.fleet.file import read_fleet
from trunkline.fleet.model import Credentials, Fleet, Network, Organization, Service
from trunkline.fleet.network import network_parameters
from trunkline.fleet.networks import MAX_PEERS
from trunkline.fleet.order import Templates, fleet_stacks
from trunkline.fleet.plan import plan_fleet
from trunkline.fleet.preflight import preflight
from trunkline.fleet.proof import leftovers
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacks import deploy_stack
from trunkline.fleet.status import fleet_status
from trunkline.fleet.templates import (
    MAX_TEMPLATE_BYTES,
    base_template,
    collector_configuration,
    monitoring_template,
    peering_template,
    services_template,
)
from trunkline.fleet.watch import Follower, Halt
from trunkline.net.resolve import Resolve
from trunkline.simulator.tasks.environment import ways_in

MONITORING, FIRST, SECOND = "111111111111", "222222222222", "333333333333"
ORGANIZATION = Organization(id_="o-a1b2c3d4e5")
OWN = tuple(name for name in ENDPOINTS if name != "aps-workspaces")
PEERED = Network(kind="new", cidr="10.41.0.0/16", public_ip=False, endpoints=OWN, peering=True)
EXISTING = Network(
    kind="existing", cidr="10.42.0.0/16", vpc_id=VPC, subnets=SUBNETS, security_groups=GROUPS, peering=True
)


def fleet_of(*networks: Network, there: Network | None = None, **more: Any) -> Fleet:
    """Each network in an account of its own, all in another region than the workspace."""
    known = reference()
    accounts = tuple(
        replace(account(f"{222_222_222_222 + index}", "us-east-1"), networks={"us-east-1": network})
        for index, network in enumerate(networks)
    )
    return replace(
        known, monitoring=replace(known.monitoring, network=there), **{"workloads": accounts, **more}
    )


def refused(*networks: Network, **more: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        fleet_of(*networks, **more)
    return str(raised.value)


def base_of(network: Network) -> dict[str, Any]:
    fleet = fleet_of(network)
    found: dict[str, Any] = json.loads(base_template(fleet, fleet.workloads[0], "us-east-1"))
    return found


def many(count: int) -> list[Network]:
    return [replace(PEERED, cidr=f"10.{index // 200}.{index % 200}.0/24") for index in range(count)]


# The monitoring account


def test_the_workspaces_endpoint_is_in_a_vpc_of_its_own() -> None:
    found = resources(monitoring_template(fleet_of(PEERED, EXISTING)))
    assert found["PeerVpc"]["CidrBlock"] == "10.255.255.0/24"
    assert found["PeerSubnetA"]["CidrBlock"] == "10.255.255.0/26"
    endpoint = found["ApsWorkspacesEndpoint"]
    assert endpoint["SubnetIds"] == [{"Ref": "PeerSubnetA"}, {"Ref": "PeerSubnetB"}]
    assert endpoint["SecurityGroupIds"] == [{"Fn::GetAtt": ["PeerGroup1", "GroupId"]}]
    assert "StsEndpoint" not in found
    rules = found["PeerGroup1"]["SecurityGroupIngress"]
    assert [(rule["CidrIp"], rule["FromPort"], rule["ToPort"]) for rule in rules] == [
        ("10.41.0.0/16", 443, 443),
        ("10.42.0.0/16", 443, 443),
    ]


def test_without_peering_there_is_no_vpc() -> None:
    there = Network(kind="new", cidr="10.9.0.0/16")
    fleet = fleet_of(replace(PEERED, peering=False, nat=True), there=there)
    assert "PeerVpc" not in resources(monitoring_template(fleet))
    assert "peering" not in [stack.kind for stack in fleet_stacks(fleet)]


def test_what_the_file_says_of_the_vpc_is_taken() -> None:
    there = Network(kind="new", cidr="10.9.0.0/16", endpoints=("aps-workspaces", "sts"))
    found = resources(monitoring_template(fleet_of(PEERED, there=there)))
    assert found["PeerVpc"]["CidrBlock"] == "10.9.0.0/16"
    assert found["StsEndpoint"]["ServiceName"] == {"Fn::Sub": "com.amazonaws.${AWS::Region}.sts"}


def test_the_accepting_role_accepts_for_this_vpc_alone() -> None:
    role = resources(monitoring_template(fleet_of(PEERED, EXISTING)))["PeerRole"]
    assert role["RoleName"] == "ECS-AMP-Central-Role-peer"
    [statement] = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert statement["Action"] == ["ec2:AcceptVpcPeeringConnection"]
    here = "arn:${AWS::Partition}:ec2:${AWS::Region}:${AWS::AccountId}"
    assert [resource["Fn::Sub"] for resource in statement["Resource"]] == [
        f"{here}:vpc/${{PeerVpc}}",
        f"{here}:vpc-peering-connection/*",
    ]
    [trust] = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"AWS": ["222222222222", "222222222223"]}


def test_trust_is_narrowed_to_the_roles_that_deploy() -> None:
    def check(*roles: str, expected: list[str] | None) -> None:
        fleet = fleet_of(PEERED, EXISTING)
        entered = [
            replace(each, credentials=Credentials(role=role))
            for each, role in zip(fleet.workloads, roles, strict=True)
        ]
        role = resources(monitoring_template(replace(fleet, workloads=tuple(entered))))["PeerRole"]
        [trust] = role["AssumeRolePolicyDocument"]["Statement"]
        patterns = trust.get("Condition", {}).get("ArnLike", {}).get("aws:PrincipalArn")
        assert patterns == (None if expected is None else [{"Fn::Sub": each} for each in expected])

    everywhere = "arn:${AWS::Partition}:iam::*:role/"
    check("Deployer", "Deployer", expected=[f"{everywhere}Deployer"])
    check("ops/A", "arn:aws:iam::222222222223:role/B", expected=[f"{everywhere}B", f"{everywhere}ops/A"])
    check("Deployer", "", expected=None)


def test_accounts_that_do_not_fit_into_the_trust_are_refused_with_the_number() -> None:
    fleet = fleet_of(*many(20), trust_characters=350, organization=ORGANIZATION)
    with pytest.raises(FleetError, match=r"would have \d+ characters for 20 accounts, and IAM takes 350; "):
        monitoring_template(fleet)


# The peered side


def test_a_new_vpc_is_led_there() -> None:
    found = base_of(PEERED)
    assert found["Resources"]["Peering"]["Properties"] == {
        "VpcId": {"Ref": "Vpc"},
        "PeerVpcId": {"Ref": "PeerVpcId"},
        "PeerOwnerId": MONITORING,
        "PeerRegion": "eu-west-1",
        "PeerRoleArn": {"Ref": "PeerRoleArn"},
        "Tags": [{"Key": "trunkline:fleet", "Value": "tests"}],
    }
    assert found["Resources"]["PeerRoute"]["Properties"] == {
        "RouteTableId": {"Ref": "PrivateRoutes"},
        "DestinationCidrBlock": "10.255.255.0/24",
        "VpcPeeringConnectionId": {"Ref": "Peering"},
    }


def test_each_route_table_of_an_existing_vpc_is_led_there_once(sessions: Sessions) -> None:
    ec2 = sessions(FIRST, "ca-central-1").client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.43.0.0/16")["Vpc"]["VpcId"]
    parts = [f"10.43.{index}.0/24" for index in range(3)]
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=part)["Subnet"]["SubnetId"] for part in parts]
    own = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=own, SubnetId=subnets[2])
    network = replace(EXISTING, vpc_id=vpc, subnets=tuple(subnets))
    told = network_parameters(network, ec2)
    assert told["RouteTable3"] == own
    assert told["RouteTable1"] not in ("", own)
    assert "RouteTable2" not in told
    assert "RouteTables" not in told

    found = base_of(network)
    assert found["Resources"]["Peering"]["Properties"]["VpcId"] == vpc
    assert found["Parameters"]["RouteTable2"] == {"Type": "String", "Default": ""}
    assert found["Resources"]["PeerRoute2"]["Condition"] == "HasRouteTable2"


def test_collectors_connect_to_the_endpoint_under_the_real_name() -> None:
    def check(fleet: Fleet, expected: Any) -> None:
        found = resources(services_template(fleet, fleet.workloads[0], "us-east-1"))["WebShopTask"]
        environment = {
            each["Name"]: each["Value"] for each in found["ContainerDefinitions"][0]["Environment"]
        }
        assert environment.get("TRUNKLINE_RESOLVE") == expected

    workspace = "aps-workspaces.eu-west-1.amazonaws.com:443=${WorkspaceEndpoint}:443"
    fleet = fleet_of(PEERED)
    check(fleet, {"Fn::Sub": workspace})
    assert "https://aps-workspaces.eu-west-1.amazonaws.com/" in collector_configuration(fleet)
    check(fleet_of(replace(PEERED, peering=False, nat=True)), None)

    closed = replace(PEERED, endpoints=OWN[1:])
    there = Network(kind="new", cidr="10.9.0.0/16", endpoints=("sts",))
    sts = "sts.eu-west-1.amazonaws.com:443=${StsEndpoint}:443"
    check(fleet_of(closed, there=there), {"Fn::Sub": f"{workspace},{sts}"})
    check(fleet_of(PEERED, there=there), {"Fn::Sub": workspace})

    own = Service(name="web-shop", collector_environment={"TRUNKLINE_RESOLVE": "a:1=b:2"})
    services = (replace(fleet.workloads[0], services=(own,)),)
    check(replace(fleet, workloads=services), {"Fn::Sub": f"a:1=b:2,{workspace}"})


def test_the_way_is_one_that_the_collector_takes() -> None:
    rules = (
        "aps-workspaces.eu-west-1.amazonaws.com:443=vpce-1-2.aps-workspaces.eu-west-1.vpce.amazonaws.com:443"
    )
    found = Resolve.parse(rules).lookup("aps-workspaces.eu-west-1.amazonaws.com", 443)
    assert found == ("vpce-1-2.aps-workspaces.eu-west-1.vpce.amazonaws.com", 443)


def test_in_the_simulator_its_own_ways_stand_for_endpoints() -> None:
    ours = "aps-workspaces.eu-west-1.amazonaws.com:443=127.0.0.1:9,*:443=127.0.0.1:8"
    sts = "sts.eu-west-1.amazonaws.com:443=vpce-1-2.sts.eu-west-1.vpce.amazonaws.com:443"
    assert ways_in(ours, f"aps-workspaces.eu-west-1.amazonaws.com:443=10.0.0.1:443,{sts}") == ours
    assert ways_in(ours, "*:443=127.0.0.1:7") == "*:443=127.0.0.1:7"


# What is refused


def test_what_cannot_be_peered_is_refused() -> None:
    where = "workloads::0::networks::us-east-1"

    def check(network: Network, expected: str, **more: Any) -> None:
        assert refused(network, **more).splitlines()[0].startswith(expected)

    check(Network(peering=True), f"{where}::peering: a default VPC cannot be peered")
    no_vpc = replace(EXISTING, vpc_id="")
    check(no_vpc, f"{where}::peering: peering is with the subnets' VPC, and it is not named (add vpc: vpc-…)")
    check(replace(EXISTING, cidr=""), f"{where}::peering: peering needs to know the VPC's addresses")
    check(replace(PEERED, endpoints=OWN[1:]), f"{where}::endpoints: tasks without public addresses and")
    check(
        replace(PEERED, cidr="10.255.0.0/16"),
        f"{where}::cidr: the addresses 10.255.0.0/16 overlap with 10.255.255.0/24 of the monitoring account, which has",
    )
    existing = replace(EXISTING, peering=False, security_groups=())
    check(PEERED, "monitoring::network::vpc: the VPC that others are peered with is one", there=existing)
    there = Network(kind="new", cidr="10.9.0.0/16", nat=True, endpoints=("aps-workspaces", "logs"))
    said = refused(PEERED, there=there).splitlines()
    assert [line.split(" (")[0] for line in said] == [
        "monitoring::network::endpoints: logs cannot be reached by peering, only aps-workspaces and sts",
        "monitoring::network::nat: nat is of no use to the VPC of the workspace's endpoint, where no task runs",
    ]


def test_the_workspaces_own_region_needs_no_peering() -> None:
    fleet = fleet_of(PEERED)
    here = replace(fleet.workloads[0], regions=("eu-west-1",), networks={"eu-west-1": PEERED})
    with pytest.raises(
        ConfigError, match="peering: the workspace is in eu-west-1 as well, where an endpoint"
    ):
        replace(fleet, workloads=(here,))


def test_networks_that_overlap_are_refused() -> None:
    said = refused(PEERED, replace(PEERED, cidr="10.41.128.0/17"))
    assert said.startswith(
        "workloads::1::networks::us-east-1::cidr: the addresses 10.41.128.0/17 overlap with 10.41.0.0/16 of account "
        "222222222222 in us-east-1, and both are peered"
    )


def test_one_sts_serves_all_collectors() -> None:
    there = Network(kind="new", cidr="10.9.0.0/16", endpoints=("sts",))
    without = replace(PEERED, endpoints=OWN[1:])
    fleet_of(without, there=there)
    said = refused(without, replace(PEERED, cidr="10.44.0.0/16"), there=there)
    assert said.startswith("workloads::0::networks::us-east-1::endpoints: other networks of the fleet have")
    assert "\n" not in said


def test_too_many_peers_are_refused_and_as_many_as_can_be_fit() -> None:
    fleet = fleet_of(*many(MAX_PEERS), organization=ORGANIZATION)
    assert len(peering_template(fleet).encode()) <= MAX_TEMPLATE_BYTES
    found = resources(monitoring_template(fleet))
    assert [len(found[f"PeerGroup{index}"]["SecurityGroupIngress"]) for index in (1, 2, 3)] == [50, 50, 25]
    assert len(found["ApsWorkspacesEndpoint"]["SecurityGroupIds"]) == 3
    said = refused(*many(MAX_PEERS + 1))
    assert said.startswith("workloads::125::networks::us-east-1::peering: 126 VPCs would be peered")
    assert "AWS takes 125" in said


def test_errors_have_their_lines(tmp_path: Any) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(
        'monitoring: {account: "111111111111", region: eu-west-1}\n'
        "services: [{name: shop}]\n"
        "workloads:\n"
        '  - account: "222222222222"\n'
        "    regions: [us-east-1]\n"
        "    network: {vpc: new, cidr: 10.255.255.0/24, nat: true, peering: true}\n"
        '  - account: "333333333333"\n'
        "    network: {vpc: new, cidr: 10.41.0.0/16, nat: true, peering: true}\n"
    )
    with pytest.raises(ConfigError) as raised:
        read_fleet(file)
    overlapping, here = str(raised.value).splitlines()
    assert (
        "fleet.yaml:4:5: workloads::0::networks::us-east-1::cidr: the addresses 10.255.255.0/24"
        in overlapping
    )
    assert "fleet.yaml:7:5: workloads::1::networks::eu-west-1::peering: the workspace is in" in here


def test_the_monitoring_accounts_vpc_has_addresses_by_default(tmp_path: Any) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(
        'monitoring: {account: "111111111111", region: eu-west-1, network: {vpc: new}}\n'
        "services: [{name: shop}]\n"
        "workloads:\n"
        '  - account: "222222222222"\n'
        "    regions: [us-east-1]\n"
        "    network: {vpc: new, cidr: 10.40.0.0/16, nat: true, peering: true}\n"
    )
    found = resources(monitoring_template(read_fleet(file)))
    assert found["PeerVpc"]["CidrBlock"] == "10.255.255.0/24"


# Preflight


def test_what_peering_needs_is_looked_into_before(sessions: Sessions) -> None:
    def check(fleet: Fleet, *expected: str) -> None:
        found = {each.what: each.why for each in preflight(fleet, sessions) if each.account_id == MONITORING}
        assert not found["stack tests-peering"]
        assert not found["role ECS-AMP-Central-Role-peer"]
        assert found["quota of peering connections"] == "".join(expected)

    check(fleet_of(PEERED))
    check(fleet_of(*many(51), organization=ORGANIZATION), "51 VPCs are peered with one, and the quota is 50")


# Whole fleets


def connections(sessions: Sessions, account_id: str, region: str) -> list[dict[str, Any]]:
    found = sessions(account_id, region).client("ec2").describe_vpc_peering_connections()
    return [each for each in found["VpcPeeringConnections"] if each["Status"]["Code"] == "active"]


def routes(sessions: Sessions, account_id: str, region: str, vpc_id: str) -> dict[str, str]:
    """Destinations and the connections they are reached by."""
    ec2 = sessions(account_id, region).client("ec2")
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["RouteTables"]
    return {
        route["DestinationCidrBlock"]: route["VpcPeeringConnectionId"]
        for table in tables
        for route in table["Routes"]
        if "VpcPeeringConnectionId" in route
    }


@pytest.fixture
def peered(sessions: Sessions) -> Iterator[Fleet]:
    """A new VPC in one account, one that exists in another."""
    ec2 = sessions(SECOND, "us-west-2").client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.42.0.0/16")["Vpc"]["VpcId"]
    parts = ("10.42.1.0/24", "10.42.2.0/24")
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=part)["Subnet"]["SubnetId"] for part in parts]
    there = replace(EXISTING, vpc_id=vpc, subnets=tuple(subnets), security_groups=())
    known = reference()
    accounts = (
        replace(account(FIRST, "us-east-1"), networks={"us-east-1": PEERED}),
        replace(account(SECOND, "us-west-2"), networks={"us-west-2": there}),
    )
    fleet = replace(known, name="peered", workloads=accounts)
    yield fleet
    destroy_fleet(fleet, sessions, lambda _: None, images=True, logs=True, data=True)
    for subnet in subnets:
        ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)


def test_a_peered_fleet_comes_changes_and_goes(peered: Fleet, sessions: Sessions) -> None:
    planned = plan_fleet(peered, sessions)
    assert planned.stacks[-1].stack == "peered-peering"
    assert planned.stacks[-1].action == "create"
    assert not planned.blocked
    assert any("peered-base of account 222222222222" in each for each in planned.stacks[-1].unknown)

    assert deploy_fleet(peered, sessions, lambda _: None).changed
    found = connections(sessions, MONITORING, "eu-west-1")
    by_account = {each["RequesterVpcInfo"]["OwnerId"]: each["VpcPeeringConnectionId"] for each in found}
    assert set(by_account) == {FIRST, SECOND}
    vpc_id = found[0]["AccepterVpcInfo"]["VpcId"]
    assert routes(sessions, MONITORING, "eu-west-1", vpc_id) == {
        "10.41.0.0/16": by_account[FIRST],
        "10.42.0.0/16": by_account[SECOND],
    }
    for account_id, region in ((FIRST, "us-east-1"), (SECOND, "us-west-2")):
        [own] = connections(sessions, account_id, region)
        there = routes(sessions, account_id, region, own["RequesterVpcInfo"]["VpcId"])
        assert there == {"10.255.255.0/24": by_account[account_id]}
    assert told_to_collectors(sessions).startswith("aps-workspaces.eu-west-1.amazonaws.com:443=vpce-")

    assert not plan_fleet(peered, sessions).changes
    assert not deploy_fleet(peered, sessions, lambda _: None).changed
    assert {each.status for each in fleet_status(peered, sessions).stacks} == {"CREATE_COMPLETE"}

    # One VPC is not peered any more: both ways go, and the other ones stay.
    alone = without_peering(peered)
    assert {each.stack for each in plan_fleet(alone, sessions).stacks if each.action == "update"} >= {
        "peered-base"
    }
    deploy_fleet(alone, sessions, lambda _: None)
    assert routes(sessions, MONITORING, "eu-west-1", vpc_id) == {"10.42.0.0/16": by_account[SECOND]}
    assert connections(sessions, FIRST, "us-east-1") == []

    events: list[Event] = []
    removal = destroy_fleet(alone, sessions, events.append, images=True, logs=True, data=True)
    assert removal.kept == ()
    order = [event.stack for event in events if event.text == "deleted"]
    assert order[-2:] == ["peered-peering", "peered-monitoring"]
    assert connections(sessions, MONITORING, "eu-west-1") == []
    assert leftovers(peered, sessions).left == ()


def told_to_collectors(sessions: Sessions) -> str:
    ecs = sessions(FIRST, "us-east-1").client("ecs")
    task = ecs.describe_task_definition(taskDefinition="web-shop")["taskDefinition"]
    environment = {each["name"]: each["value"] for each in task["containerDefinitions"][0]["environment"]}
    return str(environment["TRUNKLINE_RESOLVE"])


def without_peering(fleet: Fleet) -> Fleet:
    first, second = fleet.workloads
    own = {"us-east-1": replace(PEERED, peering=False, nat=True)}
    return replace(fleet, workloads=(replace(first, networks=own), second))


def test_a_fleet_that_peers_nobody_any_more_is_cleared(peered: Fleet, sessions: Sessions) -> None:
    deploy_fleet(peered, sessions, lambda _: None)
    one = without_peering(peered)
    none = replace(one, workloads=one.workloads[:1])
    [left] = [each for each in plan_fleet(none, sessions).stacks if each.action == "leftover"]
    assert (left.stack, left.notes) == (
        "peered-peering",
        ("the file peers no VPC any more; deploy leaves it, and destroy removes it",),
    )
    events: list[Event] = []
    destroy_fleet(none, sessions, events.append)
    assert "peered-peering" in [event.stack for event in events if event.text == "deleted"]


def test_a_peered_account_that_fails_does_not_stop_the_others(peered: Fleet, sessions: Sessions) -> None:
    missing = replace(peered.workloads[1].network("us-west-2"), vpc_id=VPC)
    broken = replace(peered.workloads[1], networks={"us-west-2": missing})
    with pytest.raises(FleetError, match=f"{VPC} has no route table"):
        deploy_fleet(replace(peered, workloads=(peered.workloads[0], broken)), sessions, lambda _: None)
    [own] = connections(sessions, MONITORING, "eu-west-1")
    there = routes(sessions, MONITORING, "eu-west-1", own["AccepterVpcInfo"]["VpcId"])
    assert there == {"10.41.0.0/16": own["VpcPeeringConnectionId"]}


def test_the_simulators_peering_fails_where_aws_would(sessions: Sessions) -> None:
    region = "ap-south-1"
    here, there = (sessions(each, region).client("ec2") for each in (FIRST, MONITORING))
    own = here.create_vpc(CidrBlock="10.60.0.0/16")["Vpc"]["VpcId"]
    apart, same = (there.create_vpc(CidrBlock=f"10.{part}.0.0/16")["Vpc"]["VpcId"] for part in (61, 60))

    def check(peer_vpc: str, role: str, expected: str) -> None:
        connection = {
            "VpcId": own,
            "PeerVpcId": peer_vpc,
            "PeerOwnerId": MONITORING,
            "PeerRegion": region,
            "PeerRoleArn": role,
        }
        resource = {"Type": "AWS::EC2::VPCPeeringConnection", "Properties": connection}
        stack = Stack(name="fails", template=json.dumps({"Resources": {"Peering": resource}}))
        cloudformation = sessions(FIRST, region).client("cloudformation")
        with pytest.raises(FleetError, match=expected):
            deploy_stack(cloudformation, stack, Follower(lambda _: None, Halt()))
        cloudformation.delete_stack(StackName="fails")

    check("vpc-00000000", "", "failed to stabilize: the VPC vpc-00000000 does not exist")
    check(same, "", "failed to stabilize: the VPCs have overlapping CIDR blocks")
    nobody = f"arn:aws:iam::{MONITORING}:role/nobody"
    check(apart, nobody, f"failed to stabilize: {nobody} cannot be assumed to accept it")
    here.delete_vpc(VpcId=own)
    for vpc_id in (apart, same):
        there.delete_vpc(VpcId=vpc_id)


def test_the_ways_back_are_one_template_of_the_fleet() -> None:
    fleet = fleet_of(PEERED, EXISTING)
    *_, last = fleet_stacks(fleet)
    assert (last.kind, last.account_id, last.region, last.name) == (
        "peering",
        MONITORING,
        "eu-west-1",
        "tests-peering",
    )
    assert Templates(fleet)[last] == peering_template(fleet)
