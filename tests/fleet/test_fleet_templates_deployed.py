"""The templates as stacks in an emulator of AWS: what they refer to is there, and one stack's outputs fit the next."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from tests.fleet.kinds_of_fleets import (
    FIRST,
    MONITORING,
    SUBNETS,
    VPC,
    of_an_organization,
    with_everything,
)

from trunkline.fleet import templates
from trunkline.fleet.sessions import Sessions

FULL = with_everything()
ACCOUNT = FULL.workloads[0]
GIVEN = {
    "ApplicationImage": "registry/application@sha256:1",
    "CollectorImage": "registry/collector@sha256:2",
    "RouteTables": "rtb-1,rtb-2",
    "Subnets": ",".join(SUBNETS),
    "SecurityGroups": "sg-1,sg-2",
    "WorkspaceId": "ws-1",
    "CollectorDigest": "sha256:1",
    "ApplicationDigest": "sha256:2",
}


@contextmanager
def stack(
    sessions: Sessions, place: tuple[str, str], template: str, given: Mapping[str, str]
) -> Iterator[Any]:
    """Create it, give its outputs, and delete it with what it would keep."""
    cloudformation = sessions(*place).client("cloudformation")
    known = {name: value for name, value in given.items() if name in templates.parameters_of(template)}
    name = f"templates-{len(template)}"
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in known.items()]
    deletable = {**json.loads(template)}
    for resource in deletable["Resources"].values():
        resource.pop("DeletionPolicy", None)
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps(deletable),
        Parameters=parameters,
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    try:
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        [found] = cloudformation.describe_stacks(StackName=name)["Stacks"]
        yield {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", ())}
    finally:
        cloudformation.delete_stack(StackName=name)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )


def test_monitoring_with_everything(sessions: Sessions) -> None:
    template = templates.monitoring_template(FULL)
    with stack(sessions, (MONITORING, "eu-west-1"), template, {}) as outputs:
        assert outputs["CentralRoleArn"] == f"arn:aws:iam::{MONITORING}:role/metrics/ECS-AMP-Central-Role"
        assert outputs["WorkspaceId"].startswith("ws-")
        assert outputs["GrafanaEndpoint"]


@pytest.fixture
def own_roles(sessions: Sessions) -> Iterator[Any]:
    """Those that the existing task definition came with."""
    iam = sessions(FIRST, "eu-west-1").client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    for name in ("shop", "shop-start"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    yield iam
    for name in ("shop", "shop-start"):
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=policy)
        iam.delete_role(RoleName=name)


def test_roles_that_were_there_are_extended_and_left_again(sessions: Sessions, own_roles: Any) -> None:
    template = templates.global_template(FULL, ACCOUNT)
    with stack(sessions, (FIRST, "eu-west-1"), template, {}) as outputs:
        assert outputs["TaskRoleArn"] == f"arn:aws:iam::{FIRST}:role/metrics/ecs-xaccount-task-role"
        assert own_roles.list_role_policies(RoleName="shop")["PolicyNames"] == ["xaccount-amp-write"]
    assert own_roles.list_role_policies(RoleName="shop")["PolicyNames"] == []


@pytest.mark.parametrize("region", ACCOUNT.regions)
def test_a_region_of_every_network(sessions: Sessions, region: str) -> None:
    place = (FIRST, region)
    network = ACCOUNT.network(region)
    roles = {
        "TaskRoleArn": "arn:aws:iam::222222222222:role/t",
        "ExecutionRoleArn": "arn:aws:iam::222222222222:role/e",
    }
    with stack(sessions, place, templates.base_template(FULL, ACCOUNT, region), GIVEN) as base:
        known = {**GIVEN, **roles, **base}
        with stack(sessions, place, templates.services_template(FULL, ACCOUNT, region), known):
            ecs = sessions(*place).client("ecs")
            [service] = ecs.describe_services(cluster=base["ClusterName"], services=["web-shop"])["services"]
            found = service["networkConfiguration"]["awsvpcConfiguration"]
            if network.kind == "new":
                ec2 = sessions(*place).client("ec2")
                subnets = ec2.describe_subnets(SubnetIds=found["subnets"])["Subnets"]
                assert {subnet["VpcId"] for subnet in subnets} == {base["VpcId"]}
                assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 2
            else:
                assert found["subnets"] == list(SUBNETS)
                assert network.vpc_id == VPC
            assert found["securityGroups"] == known["SecurityGroups"].split(",")


def test_everything_of_an_organizations_account(sessions: Sessions) -> None:
    template = templates.organization_template(of_an_organization())
    with stack(sessions, (FIRST, "us-east-1"), template, GIVEN):
        ecs = sessions(FIRST, "us-east-1").client("ecs")
        task = ecs.describe_task_definition(taskDefinition="web-shop")["taskDefinition"]
        image = f"{MONITORING}.dkr.ecr.us-east-1.amazonaws.com/ecs-xaccount-metrics-demo/collector@sha256:1"
        assert task["containerDefinitions"][0]["image"] == image
        assert task["taskRoleArn"] == f"arn:aws:iam::{FIRST}:role/metrics/ecs-xaccount-task-role"


def test_the_registry_of_an_organization(sessions: Sessions) -> None:
    template = templates.registry_template(of_an_organization())
    with stack(sessions, (MONITORING, "us-east-1"), template, {}) as outputs:
        ecr = sessions(MONITORING, "us-east-1").client("ecr")
        policy = ecr.get_repository_policy(repositoryName=outputs["CollectorRepository"])["policyText"]
        assert "o-abcdefghij" in policy
