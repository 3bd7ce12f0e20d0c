"""What would fail is found before anything is touched, at the simulator's front door."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.simulator.frontdoor_live import running

from trunkline.fleet.model import (
    TAG,
    Fleet,
    MonitoringAccount,
    Network,
    Service,
    WorkloadAccount,
    Workspace,
)
from trunkline.fleet.networks import ENDPOINTS
from trunkline.fleet.preflight import preflight
from trunkline.fleet.preflight.finding import Finding
from trunkline.fleet.sessions import AccessKey, Sessions, key_sessions

MONITORING, WORKLOAD, REGION = "111111111111", "222222222222", "eu-west-1"
TRUST = '{"Version":"2012-10-17","Statement":[]}'
EDGE = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
FLEET = Fleet(
    name="before",
    monitoring=MonitoringAccount(account_id=MONITORING, region=REGION),
    workloads=(WorkloadAccount(account_id=WORKLOAD, regions=(REGION,), services=(Service(name="shop"),)),),
)
NAMES = FLEET.names

Client = Callable[..., Any]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, AccessKey], str]]:
    with running(tmp_path_factory.mktemp("state")) as live:
        accounts = {account: live.door.add_account(account) for account in (MONITORING, WORKLOAD)}
        yield (
            {a: AccessKey(key.access_key_id, key.secret_access_key) for a, key in accounts.items()},
            live.door.url,
        )


@pytest.fixture(scope="module")
def sessions(keys: tuple[dict[str, AccessKey], str]) -> Sessions:
    return key_sessions(*keys)


@pytest.fixture(scope="module")
def aws(sessions: Sessions) -> Client:
    return lambda service, region=REGION, account=WORKLOAD: sessions(account, region).client(service)


def with_network(network: Network, region: str = REGION) -> Fleet:
    changed = replace(FLEET.workloads[0], regions=(region,), networks={region: network})
    return replace(FLEET, workloads=(changed,))


def in_region(region: str) -> Fleet:
    return replace(FLEET, workloads=(replace(FLEET.workloads[0], regions=(region,)),))


def bad(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(each.severity, each.what, each.why) for each in findings if each.severity not in {"ok", "note"}]


def test_where_nothing_stands_in_the_way_everything_is_looked_at(sessions: Sessions) -> None:
    findings = preflight(FLEET, sessions)
    assert bad(findings) == []
    looked_at = {(each.account_id, each.what) for each in findings}
    assert {
        (MONITORING, "credentials"),
        (MONITORING, "trust of the central role"),
        (MONITORING, "permissions"),
        (MONITORING, "workspace"),
        (MONITORING, "quota of workspaces"),
        (MONITORING, "stack before-monitoring"),
        (WORKLOAD, "region"),
        (WORKLOAD, "quota of Fargate"),
        (WORKLOAD, "network"),
        (WORKLOAD, "way out"),
        (WORKLOAD, f"role {NAMES.task_role}"),
        (WORKLOAD, f"cluster {NAMES.cluster}"),
        (WORKLOAD, f"log group {NAMES.log_group}"),
        (WORKLOAD, f"repository {NAMES.collector_repository}"),
    } <= looked_at
    [linked] = [each for each in findings if each.what == "service-linked role of ECS"]
    assert linked.severity == "note"
    assert "aws iam create-service-linked-role" in linked.remedy


def test_an_account_that_cannot_be_entered_is_looked_at_no_further(sessions: Sessions) -> None:
    stranger = replace(FLEET.workloads[0], account_id="999999999999")
    findings = preflight(replace(FLEET, workloads=(stranger, *FLEET.workloads)), sessions)
    [found] = [each for each in findings if each.account_id == "999999999999"]
    assert (found.severity, found.what) == ("error", "credentials")
    assert str(found).startswith(
        "999999999999: credentials: there are no credentials for account 999999999999"
    )
    assert any(each.account_id == WORKLOAD and each.what == "network" for each in findings)


def test_what_may_not_be_looked_at_is_never_ok(aws: Client, keys: tuple[dict[str, AccessKey], str]) -> None:
    iam = aws("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": WORKLOAD}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName="blind", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    made = aws("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    blind = AccessKey(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    try:
        findings = preflight(FLEET, key_sessions({**keys[0], WORKLOAD: blind}, keys[1]))
    finally:
        iam.delete_role(RoleName="blind")
    own = [each for each in findings if each.account_id == WORKLOAD and each.what != "credentials"]
    assert {each.severity for each in own} == {"not checked"}
    assert all("is not authorized to perform" in each.why for each in own)


def test_permissions_that_are_missing_are_named(aws: Client, keys: tuple[dict[str, AccessKey], str]) -> None:
    iam = aws("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": WORKLOAD}, "Action": "sts:AssumeRole"}
    allowed = {"Effect": "Allow", "NotAction": ["iam:CreateRole", "ecr:PutImage"], "Resource": "*"}
    for_role, for_policy = (
        json.dumps({"Version": "2012-10-17", "Statement": [each]}) for each in (trust, allowed)
    )
    role = iam.create_role(RoleName="some", AssumeRolePolicyDocument=for_role)["Role"]["Arn"]
    iam.put_role_policy(RoleName="some", PolicyName="some", PolicyDocument=for_policy)
    made = aws("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    some = AccessKey(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    try:
        findings = preflight(FLEET, key_sessions({**keys[0], WORKLOAD: some}, keys[1]))
    finally:
        iam.delete_role_policy(RoleName="some", PolicyName="some")
        iam.delete_role(RoleName="some")
    assert bad(findings) == [
        (
            "warning",
            "permissions",
            f"arn:aws:sts::{WORKLOAD}:assumed-role/some/test may not do iam:CreateRole, ecr:PutImage",
        )
    ]


def test_names_that_are_taken(aws: Client, sessions: Sessions) -> None:
    iam, ecs, logs, ecr = aws("iam"), aws("ecs"), aws("logs"), aws("ecr")
    others = [{"Key": TAG, "Value": "another"}]
    own = [{"Key": TAG, "Value": "before"}]
    role = iam.create_role(RoleName=NAMES.task_role, AssumeRolePolicyDocument=TRUST, Tags=others)["Role"][
        "Arn"
    ]
    iam.create_role(RoleName=NAMES.execution_role, AssumeRolePolicyDocument=TRUST, Tags=own)
    cluster = ecs.create_cluster(clusterName=NAMES.cluster)["cluster"]["clusterArn"]
    logs.create_log_group(logGroupName=NAMES.log_group)
    logs.create_log_group(logGroupName=f"{NAMES.log_group}-of-others")
    ecr.create_repository(repositoryName=NAMES.collector_repository, tags=own)
    try:
        findings = preflight(FLEET, sessions)
    finally:
        iam.delete_role(RoleName=NAMES.task_role)
        iam.delete_role(RoleName=NAMES.execution_role)
        ecs.delete_cluster(cluster=NAMES.cluster)
        logs.delete_log_group(logGroupName=NAMES.log_group)
        logs.delete_log_group(logGroupName=f"{NAMES.log_group}-of-others")
        ecr.delete_repository(repositoryName=NAMES.collector_repository)
    group = f"arn:aws:logs:{REGION}:{WORKLOAD}:log-group:{NAMES.log_group}"
    assert bad(findings) == [
        ("error", f"role {NAMES.task_role}", f"{role} exists and is of fleet another"),
        ("error", f"cluster {NAMES.cluster}", f"{cluster} exists and is not of this fleet"),
        ("error", f"log group {NAMES.log_group}", f"{group} exists and is not of this fleet"),
    ]


def test_stacks_that_are_others_or_in_review(aws: Client, sessions: Sessions) -> None:
    cloudformation = aws("cloudformation")
    group = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "apart"}}
    template = json.dumps({"Resources": {"Group": group}})
    cloudformation.create_stack(StackName=FLEET.base_stack, TemplateBody=template)
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=FLEET.base_stack, WaiterConfig={"Delay": 1}
    )
    cloudformation.create_change_set(
        StackName=FLEET.services_stack, ChangeSetName="one", ChangeSetType="CREATE", TemplateBody=template
    )
    try:
        findings = preflight(FLEET, sessions)
    finally:
        cloudformation.delete_stack(StackName=FLEET.base_stack)
        cloudformation.delete_stack(StackName=FLEET.services_stack)
    [(severity, what, why)] = bad(findings)
    assert (severity, what) == ("error", "stack before-base")
    assert why.endswith("exists and is not of this fleet")
    [review] = [each for each in findings if each.what == "stack before-services"]
    assert review.severity == "note"


def test_a_boundary_that_is_not_there(aws: Client, sessions: Sessions) -> None:
    fleet = replace(FLEET, permissions_boundary="edge")
    expected = f"there is no policy arn:aws:iam::{WORKLOAD}:policy/edge"
    assert ("error", "permissions boundary", expected) in bad(preflight(fleet, sessions))
    arn = aws("iam").create_policy(PolicyName="edge", PolicyDocument=EDGE)["Policy"]["Arn"]
    try:
        assert ("error", "permissions boundary", expected) not in bad(preflight(fleet, sessions))
    finally:
        aws("iam").delete_policy(PolicyArn=arn)


def test_more_vcpu_than_the_quota(sessions: Sessions) -> None:
    services = (Service(name="large", cpu_units=4096, memory_mib=8192, desired_count=2),)
    fleet = replace(FLEET, workloads=(replace(FLEET.workloads[0], services=services),))
    assert bad(preflight(fleet, sessions)) == [
        ("error", "quota of Fargate", "the services take 8 vCPU, and the quota is 6")
    ]


def test_a_region_without_a_default_vpc(aws: Client, sessions: Sessions) -> None:
    ec2 = aws("ec2", "eu-west-3")
    for vpc in ec2.describe_vpcs()["Vpcs"]:
        for subnet in ec2.describe_subnets()["Subnets"]:
            ec2.delete_subnet(SubnetId=subnet["SubnetId"])
        for gateway in ec2.describe_internet_gateways()["InternetGateways"]:
            ec2.detach_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"], VpcId=vpc["VpcId"])
        ec2.delete_vpc(VpcId=vpc["VpcId"])
    findings = preflight(in_region("eu-west-3"), sessions)
    assert bad(findings) == [("error", "network", "there is no default VPC")]
    assert "aws ec2 create-default-vpc --region eu-west-3" in next(
        each.remedy for each in findings if each.severity == "error"
    )


def test_networks_that_exist(aws: Client, sessions: Sessions) -> None:
    ec2 = aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.1.0/24")["Subnet"]["SubnetId"]
    [default] = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["SecurityGroups"]
    default_vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    elsewhere = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [default_vpc]}])
    stranger = elsewhere["SecurityGroups"][0]["GroupId"]
    network = Network(
        kind="existing", vpc_id=vpc, subnets=(subnet,), security_groups=(default["GroupId"],), public_ip=False
    )

    def check(network: Network, *expected: tuple[str, str, str]) -> None:
        assert bad(preflight(with_network(network), sessions)) == list(expected)

    names = ", ".join(ENDPOINTS)
    closed = f"no route to the internet leads from {subnet}, and there are no VPC endpoints of {names}"
    check(network, ("error", "way out", closed))
    check(replace(network, endpoints=ENDPOINTS))
    check(
        replace(network, subnets=("subnet-0123456789abcdef0",)),
        ("error", "network", "there is no subnet-0123456789abcdef0 in this region"),
    )
    why = f"{stranger} is not in {vpc}, where the subnets are"
    check(replace(network, security_groups=(stranger,)), ("error", "network", why))
    why = f"the subnets and the VPC are of {', '.join(sorted((vpc, default_vpc)))}"
    check(replace(network, vpc_id=default_vpc), ("error", "network", why))
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
    why = f"{subnet} lead to the internet for public addresses only, and tasks get none"
    check(network, ("error", "way out", why))
    check(replace(network, public_ip=True))


def test_a_vpc_that_has_other_addresses_than_the_file_says(aws: Client, sessions: Sessions) -> None:
    ec2 = aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.50.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.50.1.0/24")["Subnet"]["SubnetId"]
    network = Network(
        kind="existing", vpc_id=vpc, subnets=(subnet,), endpoints=ENDPOINTS, cidr="10.51.0.0/16"
    )
    assert bad(preflight(with_network(network), sessions)) == [
        ("error", "addresses", f"{vpc} has 10.50.0.0/16, and the file says 10.51.0.0/16")
    ]
    assert bad(preflight(with_network(replace(network, cidr="10.50.0.0/16")), sessions)) == []


def test_a_vpc_of_ones_own(aws: Client, sessions: Sessions) -> None:
    region = "eu-central-1"
    ec2 = aws("ec2", region)
    network = Network(kind="new", cidr="10.40.0.0/16")
    assert bad(preflight(with_network(network, region), sessions)) == []
    made = [ec2.create_vpc(CidrBlock=f"10.{number}.0.0/16")["Vpc"]["VpcId"] for number in (40, 41, 42, 43)]
    assert bad(preflight(with_network(network, region), sessions)) == [
        ("error", "quota of VPCs", "there are 5 VPCs, and the quota is 5"),
        (
            "warning",
            "addresses",
            f"10.40.0.0/16 overlaps with {made[0]} (10.40.0.0/16): they can never be peered",
        ),
    ]


def test_workspaces(aws: Client, sessions: Sessions) -> None:
    named = replace(FLEET, monitoring=replace(FLEET.monitoring, workspace=Workspace(id_="ws-none")))
    assert bad(preflight(named, sessions)) == [("error", "workspace", "there is no workspace ws-none here")]
    amp = aws("amp", REGION, MONITORING)
    id_ = amp.create_workspace(alias=NAMES.workspace_alias)["workspaceId"]
    try:
        assert bad(preflight(FLEET, sessions)) == [
            ("warning", "workspace", f"{id_} has the alias {NAMES.workspace_alias} too")
        ]
    finally:
        amp.delete_workspace(workspaceId=id_)


def test_a_trust_that_iam_would_refuse(sessions: Sessions) -> None:
    accounts = tuple(replace(FLEET.workloads[0], account_id=f"{number:012}") for number in range(300))
    findings = preflight(replace(FLEET, workloads=accounts), sessions)
    [found] = [each for each in findings if each.what == "trust of the central role"]
    assert found.severity == "error"
    assert "300 workload accounts" in found.why
