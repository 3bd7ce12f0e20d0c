"""A whole fleet against a running emulator of AWS: three accounts, three regions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.fleet.kinds_of_fleets import ENDPOINTS

from trunkline.errors import FleetError
from trunkline.fleet.deploy import Deployment, Event, deploy_fleet, destroy_fleet
from trunkline.fleet.images import image_manifest, push_image
from trunkline.fleet.model import Fleet, Grafana, Network, Service
from trunkline.fleet.run import OnProgress
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacks import stack_outputs

CLUSTER = "ecs-xaccount-metrics-demo"


@pytest.fixture(scope="module")
def deployed(fleet: Fleet, sessions: Sessions) -> Iterator[tuple[Deployment, list[Event]]]:
    events: list[Event] = []
    yield deploy_fleet(fleet, sessions, events.append), events
    remove(fleet, sessions)


def remove(fleet: Fleet, sessions: Sessions, on_progress: OnProgress = lambda _: None) -> None:
    assert destroy_fleet(fleet, sessions, on_progress, images=True, logs=True, data=True).kept == ()


def services(sessions: Sessions, account_id: str, region: str) -> dict[str, Any]:
    ecs = sessions(account_id, region).client("ecs")
    arns = ecs.list_services(cluster=CLUSTER)["serviceArns"]
    found = ecs.describe_services(cluster=CLUSTER, services=arns)["services"] if arns else []
    return {service["serviceName"]: service for service in found}


def task_definition(sessions: Sessions, account_id: str, region: str, family: str) -> dict[str, Any]:
    ecs = sessions(account_id, region).client("ecs")
    return dict(ecs.describe_task_definition(taskDefinition=family)["taskDefinition"])


@pytest.mark.usefixtures("deployed")
def test_the_services_stand_in_every_region(sessions: Sessions) -> None:
    def check(account_id: str, region: str, expected: dict[str, int]) -> None:
        found = services(sessions, account_id, region)
        assert {name: service["desiredCount"] for name, service in found.items()} == expected

    check("222222222222", "eu-west-1", {"web-shop": 2})
    check("222222222222", "eu-central-1", {"web-shop": 2})
    check("333333333333", "us-east-1", {"web-shop": 1, "billing": 1})


def test_a_task_has_its_roles_and_images_and_workspace(
    sessions: Sessions, deployed: tuple[Deployment, list[Event]]
) -> None:
    task = task_definition(sessions, "333333333333", "us-east-1", "billing")
    assert task["taskRoleArn"] == "arn:aws:iam::333333333333:role/ecs-xaccount-task-role"
    assert task["executionRoleArn"] == "arn:aws:iam::333333333333:role/ecs-xaccount-task-execution-role"
    collector, application = task["containerDefinitions"]
    registry = "333333333333.dkr.ecr.us-east-1.amazonaws.com/ecs-xaccount-metrics-demo"
    assert collector["image"].startswith(f"{registry}/collector@sha256:")
    assert application["image"].startswith(f"{registry}/application@sha256:")
    environment = {entry["name"]: entry["value"] for entry in collector["environment"]}
    assert environment["WORKSPACE_ID"] == deployed[0].workspace_id
    assert environment["AWS_REGION"] == "us-east-1"
    assert "aps-workspaces.eu-west-1.amazonaws.com" in environment["AOT_CONFIG_CONTENT"]


@pytest.mark.usefixtures("deployed")
def test_an_image_says_which_program_it_is(sessions: Sessions) -> None:
    task = task_definition(sessions, "222222222222", "eu-central-1", "web-shop")
    repository, _, digest = task["containerDefinitions"][0]["image"].partition("/")[2].partition("@")
    ecr = sessions("222222222222", "eu-central-1").client("ecr")
    [image] = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageDigest": digest}])["images"]
    annotations = json.loads(image["imageManifest"])["annotations"]
    assert annotations["org.opencontainers.image.title"] == "trunkline-collector"


def test_the_monitoring_account_comes_first_and_services_last(
    deployed: tuple[Deployment, list[Event]],
) -> None:
    _, events = deployed
    order = list(dict.fromkeys(event.stack for event in events if event.account_id != "222222222222"))
    assert order == ["tests-monitoring", "tests-global", "tests-base", "tests-services"]
    assert Event("333333333333", "us-east-1", "tests-base", "has the image of the collector") in events


def test_deploying_again_changes_nothing(
    fleet: Fleet, sessions: Sessions, deployed: tuple[Deployment, list[Event]]
) -> None:
    events: list[Event] = []
    assert deploy_fleet(fleet, sessions, events.append) == deployed[0]
    assert {event.text for event in events if not event.text.startswith("has the image")} == {"unchanged"}


def test_scaling_is_an_update_of_the_services_alone(small_fleet: Fleet, sessions: Sessions) -> None:
    deploy_fleet(small_fleet, sessions, lambda _: None)
    larger = replace(small_fleet.workloads[0], services=(Service(name="shop", desired_count=3),))
    events: list[Event] = []
    deploy_fleet(replace(small_fleet, workloads=(larger,)), sessions, events.append)
    assert {event.stack for event in events if event.text == "updating"} == {"small-services"}
    assert services(sessions, "444444444444", "eu-west-1")["shop"]["desiredCount"] == 3
    remove(small_fleet, sessions)


def test_what_holds_data_is_kept_and_taken_up_again(small_fleet: Fleet, sessions: Sessions) -> None:
    first = deploy_fleet(small_fleet, sessions, lambda _: None)
    removal = destroy_fleet(small_fleet, sessions, lambda _: None)
    assert [(kept.kind, kept.name) for kept in removal.kept] == [
        ("data", CLUSTER),
        ("images", f"{CLUSTER}/application"),
        ("images", f"{CLUSTER}/collector"),
        ("logs", CLUSTER),
    ]
    assert destroy_fleet(small_fleet, sessions, lambda _: None).kept == removal.kept
    events: list[Event] = []
    again = deploy_fleet(small_fleet, sessions, events.append)
    assert again.workspace_id == first.workspace_id
    took_up = [event.text for event in events if event.text.endswith("import complete")]
    assert took_up[0] == "Workspace (AWS::APS::Workspace) import complete"
    assert sorted(took_up[1:]) == [
        "ApplicationRepository (AWS::ECR::Repository) import complete",
        "CollectorRepository (AWS::ECR::Repository) import complete",
        "LogGroup (AWS::Logs::LogGroup) import complete",
    ]
    assert not deploy_fleet(small_fleet, sessions, lambda _: None).changed
    removal = destroy_fleet(small_fleet, sessions, lambda _: None, images=True, logs=True)
    assert [kept.kind for kept in removal.kept] == ["data"]
    assert destroy_fleet(small_fleet, sessions, lambda _: None, data=True).kept == ()


def test_nothing_is_left_after_destroy(small_fleet: Fleet, sessions: Sessions) -> None:
    deploy_fleet(small_fleet, sessions, lambda _: None)
    events: list[Event] = []
    remove(small_fleet, sessions, events.append)
    order = [event.stack for event in events if event.text == "deleted"]
    assert order == ["small-services", "small-base", "small-global", "small-monitoring"]
    session = sessions("444444444444", "eu-west-1")
    stacks = session.client("cloudformation").list_stacks()["StackSummaries"]
    assert {stack["StackStatus"] for stack in stacks} == {"DELETE_COMPLETE"}
    assert session.client("ecs").list_clusters()["clusterArns"] == []
    assert session.client("ecr").describe_repositories()["repositories"] == []
    assert session.client("iam").list_roles()["Roles"] == []
    assert session.client("logs").describe_log_groups()["logGroups"] == []
    assert session.client("amp").list_workspaces()["workspaces"] == []


def test_destroying_what_is_not_there_is_no_error(fleet: Fleet, sessions: Sessions) -> None:
    destroy_fleet(replace(fleet, name="never"), sessions, lambda _: None)


def test_one_account_that_fails_does_not_stop_the_other(small_fleet: Fleet, sessions: Sessions) -> None:
    [known] = small_fleet.workloads
    broken = replace(small_fleet, workloads=(replace(known, account_id="555555555555"), known))
    with pytest.raises(FleetError) as raised:
        deploy_fleet(broken, sessions, lambda _: None)
    assert str(raised.value) == (
        "account 555555555555, eu-west-1, small-global: "
        "there are no credentials for account 555555555555; name a key for it"
    )
    assert sorted(services(sessions, "444444444444", "eu-west-1")) == ["shop"]
    remove(small_fleet, sessions)


def test_an_immutable_tag_keeps_its_image(sessions: Sessions) -> None:
    ecr = sessions("222222222222", "eu-west-1").client("ecr")
    ecr.create_repository(repositoryName="apart", imageTagMutability="IMMUTABLE")
    try:
        digest = push_image(ecr, "apart", "1", "collector")
        assert push_image(ecr, "apart", "1", "collector") == digest
        with pytest.raises(FleetError, match=f"the tag 1 in repository apart is that of another .*{digest}"):
            push_image(ecr, "apart", "1", "application")
    finally:
        ecr.delete_repository(repositoryName="apart", force=True)


def test_images_differ_in_their_program_only() -> None:
    collector, application = (json.loads(image_manifest(kind)) for kind in ("collector", "application"))
    assert collector.pop("annotations") != application.pop("annotations")
    assert collector == application


def test_a_network_of_its_own_and_grafana(small_fleet: Fleet, sessions: Sessions) -> None:
    [account] = small_fleet.workloads
    network = Network(kind="new", cidr="10.40.0.0/16", nat=True, public_ip=False, endpoints=ENDPOINTS)
    monitoring = replace(small_fleet.monitoring, grafana=Grafana())
    fleet = replace(
        small_fleet, workloads=(replace(account, networks={"eu-west-1": network}),), monitoring=monitoring
    )
    deploy_fleet(fleet, sessions, lambda _: None)
    session = sessions("444444444444", "eu-west-1")
    ec2 = session.client("ec2")
    [gateway] = ec2.describe_nat_gateways()["NatGateways"]
    [address] = ec2.describe_addresses()["Addresses"]
    [shop] = services(sessions, "444444444444", "eu-west-1").values()
    where = shop["networkConfiguration"]["awsvpcConfiguration"]
    subnets = ec2.describe_subnets(SubnetIds=where["subnets"])["Subnets"]
    assert {subnet["VpcId"] for subnet in subnets} == {gateway["VpcId"]}
    assert where["assignPublicIp"] == "DISABLED"
    assert address["PublicIp"]
    endpoints = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert sorted(
        each["ServiceName"].removeprefix("com.amazonaws.eu-west-1.") for each in endpoints
    ) == sorted(ENDPOINTS)
    outputs = stack_outputs(session.client("cloudformation"), "small-monitoring")
    assert outputs["GrafanaEndpoint"].endswith(".grafana-workspace.eu-west-1.amazonaws.com")
    assert not deploy_fleet(fleet, sessions, lambda _: None).changed
    remove(fleet, sessions)
    assert [
        each["State"] for each in ec2.describe_nat_gateways()["NatGateways"] if each["State"] != "deleted"
    ] == []
    assert ec2.describe_addresses()["Addresses"] == []
    assert ec2.describe_vpc_endpoints()["VpcEndpoints"] == []
    assert len(ec2.describe_vpcs()["Vpcs"]) == 1
