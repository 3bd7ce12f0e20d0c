"""What is left of a fleet is found, whoever left it there, at the simulator's front door."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from trunkline.errors import FleetError
from trunkline.fleet.model import TAG, Fleet, MonitoringAccount, Service, WorkloadAccount, Workspace
from trunkline.fleet.proof import leftovers
from trunkline.fleet.proof.leftover import Proof
from trunkline.fleet.proof.task_definitions import clear_task_definitions
from trunkline.fleet.sessions import Sessions

MONITORING, WORKLOAD = "111111111111", "222222222222"
HOME, ELSEWHERE = "eu-north-1", "ap-south-1"
NAME = "gone"
TAGS = [{"Key": TAG, "Value": NAME}]
TRUST = '{"Version":"2012-10-17","Statement":[]}'
CONTAINERS: list[dict[str, Any]] = [{"name": "collector", "image": "nowhere", "memory": 64}]

FLEET = Fleet(
    name=NAME,
    iam_path="/gone/",
    monitoring=MonitoringAccount(account_id=MONITORING, region=HOME),
    workloads=(WorkloadAccount(account_id=WORKLOAD, regions=(HOME,), services=(Service(name="gone-shop"),)),),
)


@pytest.fixture
def aws(sessions: Sessions) -> Iterator[Any]:
    """Makes clients of the workload account; each test has to clear away what it made."""

    def client(service: str, region: str = HOME, account: str = WORKLOAD) -> Any:
        return sessions(account, region).client(service)

    yield client
    assert look(sessions) == [], "a test left something behind"


def proof(sessions: Sessions, *kept: str, **options: Any) -> Proof:
    return leftovers(options.pop("fleet", FLEET), sessions, kept, patience_s=0.3, **options)


def look(sessions: Sessions, *kept: str, **options: Any) -> list[tuple[str, str, str]]:
    found = proof(sessions, *kept, other_regions=False, **options)
    assert found.not_looked == ()
    return [(each.kind, each.name, each.found_by) for each in found.left]


def test_nothing_is_left_where_nothing_was(sessions: Sessions) -> None:
    found = proof(sessions)
    assert found == Proof(left=())
    assert found.document()["clean"] is True
    assert found.is_clean
    assert found.text() == ["nothing of the fleet is left in any account or region"]


def test_roles_by_path_tag_and_name(aws: Any, sessions: Sessions) -> None:
    iam = aws("iam")
    iam.create_role(RoleName="by-path", Path="/gone/", AssumeRolePolicyDocument=TRUST)
    iam.create_role(RoleName="by-tag", AssumeRolePolicyDocument=TRUST, Tags=TAGS)
    iam.create_role(RoleName="of-others", AssumeRolePolicyDocument=TRUST)
    another = [{"Key": TAG, "Value": "another"}]
    iam.create_role(RoleName="of-another", Path="/gone/", AssumeRolePolicyDocument=TRUST, Tags=another)
    try:
        assert look(sessions) == [("role", "by-path", "path /gone/"), ("role", "by-tag", "tag of IAM")]
        named = replace(FLEET, iam_path="/", names=replace(FLEET.names, task_role="of-others"))
        assert ("role", "of-others", "path /") in look(sessions, fleet=named)
    finally:
        for name in ("by-path", "by-tag", "of-others", "of-another"):
            iam.delete_role(RoleName=name)


def test_log_groups_and_repositories_by_prefix(aws: Any, sessions: Sessions) -> None:
    logs, ecr = aws("logs"), aws("ecr")
    groups = (FLEET.names.log_group, f"{FLEET.names.log_group}/by-hand", f"{FLEET.names.log_group}-of-others")
    for name in groups:
        logs.create_log_group(logGroupName=name)
    ecr.create_repository(repositoryName=FLEET.names.collector_repository)
    try:
        assert look(sessions) == [
            ("log group", groups[0], "prefix"),
            ("log group", groups[1], "prefix"),
            ("repository", FLEET.names.collector_repository, "prefix"),
        ]
        kept = [arn(sessions, "log group"), FLEET.names.collector_repository]
        found = proof(sessions, *kept, other_regions=False)
        assert [each.name for each in found.left] == [groups[1]]
        assert [each.name for each in found.kept] == [groups[0], FLEET.names.collector_repository]
        assert found.text()[-1] == "1 things of the fleet are left"
        assert sum(line.startswith("kept on purpose: ") for line in found.text()) == 2
    finally:
        for name in groups:
            logs.delete_log_group(logGroupName=name)
        ecr.delete_repository(repositoryName=FLEET.names.collector_repository)


def arn(sessions: Sessions, kind: str) -> str:
    return next(each.arn for each in proof(sessions, other_regions=False).left if each.kind == kind)


def test_what_is_marked_as_another_fleets_is_left_alone(aws: Any, sessions: Sessions) -> None:
    logs = aws("logs")
    logs.create_log_group(logGroupName=FLEET.names.log_group, tags={TAG: "another"})
    try:
        assert look(sessions) == []
    finally:
        logs.delete_log_group(logGroupName=FLEET.names.log_group)


def test_task_definitions_deregistered_ones_too(aws: Any, sessions: Sessions) -> None:
    ecs = aws("ecs")
    role = f"arn:aws:iam::{WORKLOAD}:role/gone/{FLEET.names.task_role}"
    for family in ("gone-shop", "gone-shop", "gone-shop-of-others"):
        ecs.register_task_definition(family=family, containerDefinitions=CONTAINERS, taskRoleArn=role)
    ecs.register_task_definition(
        family="gone-shop", containerDefinitions=CONTAINERS
    )  # there before the fleet
    knows = {"name": "CENTRAL_ACCOUNT_ID", "value": MONITORING}
    collector = {**CONTAINERS[0], "name": "aws-otel-collector", "environment": [knows]}
    ecs.register_task_definition(family="gone-shop", containerDefinitions=[collector])
    ecs.deregister_task_definition(taskDefinition="gone-shop:1")
    assert look(sessions) == [
        ("task definition", "gone-shop:1 (INACTIVE)", "family"),
        ("task definition", "gone-shop:2 (ACTIVE)", "family"),
        ("task definition", "gone-shop:4 (ACTIVE)", "family"),
    ]
    cleared = clear_task_definitions(FLEET, sessions(WORKLOAD, HOME))
    assert sorted(each.rpartition("/")[2] for each in cleared) == [
        "gone-shop:1",
        "gone-shop:2",
        "gone-shop:4",
    ]
    assert look(sessions) == []
    assert clear_task_definitions(FLEET, sessions(WORKLOAD, HOME)) == []
    for name in ("gone-shop:3", "gone-shop-of-others:1"):
        assert ecs.describe_task_definition(taskDefinition=name)["taskDefinition"]["status"] == "ACTIVE"


def template(name: str) -> str:
    group = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": name}}
    return json.dumps({"Resources": {"Group": group}})


def test_a_stack_in_review_and_its_change_set(aws: Any, sessions: Sessions) -> None:
    cloudformation = aws("cloudformation")
    cloudformation.create_change_set(
        StackName=FLEET.base_stack,
        ChangeSetName="abandoned",
        ChangeSetType="CREATE",
        TemplateBody=template("apart"),
    )
    try:
        assert look(sessions) == [
            ("change set", "abandoned of gone-base", "stack"),
            ("stack", "gone-base (REVIEW_IN_PROGRESS)", "name"),
        ]
    finally:
        cloudformation.delete_stack(StackName=FLEET.base_stack)


def test_other_regions_are_looked_into(aws: Any, sessions: Sessions) -> None:
    """A stack and a repository in a region that the fleet's file does not name any more."""
    cloudformation, ecr = aws("cloudformation", ELSEWHERE), aws("ecr", ELSEWHERE)
    cloudformation.create_stack(StackName="renamed", TemplateBody=template("renamed"), Tags=TAGS)
    cloudformation.get_waiter("stack_create_complete").wait(StackName="renamed", WaiterConfig={"Delay": 1})
    ecr.create_repository(repositoryName="elsewhere", tags=TAGS)
    try:
        found = [each for each in proof(sessions).left if each.region == ELSEWHERE]
        kinds = {each.kind: each.name for each in found}
        assert kinds["stack"] == "renamed (CREATE_COMPLETE)"
        assert kinds["ecr repository"] == "elsewhere"
        assert {each.account_id for each in found} == {WORKLOAD}
    finally:
        cloudformation.delete_stack(StackName="renamed")
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName="renamed", WaiterConfig={"Delay": 1}
        )
        ecr.delete_repository(repositoryName="elsewhere")


def test_a_vpc_by_its_tag(aws: Any, sessions: Sessions) -> None:
    """Its tags are listed for a while after it has gone."""
    ec2 = aws("ec2")
    specification = [{"ResourceType": "vpc", "Tags": TAGS}]
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16", TagSpecifications=specification)["Vpc"]["VpcId"]
    try:
        assert look(sessions) == [("vpc", vpc, "tag")]
    finally:
        ec2.delete_vpc(VpcId=vpc)
    assert look(sessions) == []


def test_what_only_tags_know(aws: Any, sessions: Sessions) -> None:
    ecr = aws("ecr")
    ecr.create_repository(repositoryName="elsewhere", tags=TAGS)
    try:
        assert look(sessions) == [("ecr repository", "elsewhere", "tag")]
    finally:
        ecr.delete_repository(repositoryName="elsewhere")


def test_a_workspace_by_alias_but_never_one_that_was_there_before(aws: Any, sessions: Sessions) -> None:
    amp = aws("amp", HOME, MONITORING)
    id_ = amp.create_workspace(alias=FLEET.names.workspace_alias)["workspaceId"]
    try:
        assert look(sessions) == [("workspace", f"{FLEET.names.workspace_alias} {id_}", "alias")]
        used = replace(FLEET, monitoring=replace(FLEET.monitoring, workspace=Workspace(id_=id_)))
        assert look(sessions, fleet=used) == []
    finally:
        amp.delete_workspace(workspaceId=id_)


def test_an_account_that_cannot_be_entered_proves_nothing(sessions: Sessions) -> None:
    stranger = replace(FLEET.workloads[0], account_id="999999999999")
    found = proof(sessions, fleet=replace(FLEET, workloads=(stranger,)), other_regions=False)
    assert found.left == ()
    assert not found.is_clean
    assert found.not_looked[0].startswith(
        f"999999999999 {HOME}: EC2's tags: there are no credentials for account"
    )
    assert (
        found.text()[-1] == "nothing of the fleet is left in any account or region that could be looked into"
    )


def test_a_region_that_is_closed_spoils_nothing_unless_the_file_names_it(sessions: Sessions) -> None:
    def closed(region: str) -> Sessions:
        def enter(account: str, wanted: str) -> Any:
            if wanted == region:
                raise FleetError(f"{region} is closed")
            return sessions(account, wanted)

        return enter

    elsewhere = leftovers(FLEET, closed(ELSEWHERE))
    assert elsewhere.is_clean
    assert f"{WORKLOAD} {ELSEWHERE}: stacks: {ELSEWHERE} is closed" in elsewhere.not_looked
    assert not leftovers(FLEET, closed(HOME), other_regions=False).is_clean
