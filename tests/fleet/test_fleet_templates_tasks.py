"""Task definitions and services: the collector beside whatever its owner runs, safe by default."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from tests.fleet.kinds_of_fleets import (
    EXISTING,
    FIRST,
    MONITORING,
    OWN,
    account,
    of_an_organization,
    of_named_things,
    reference,
    resources,
    templates_of_kind,
    with_everything,
)

from trunkline.errors import FleetError
from trunkline.fleet.model import Container, Fleet, MonitoringAccount, Names, Service
from trunkline.fleet.templates import (
    MAX_TASK_DEFINITION_BYTES,
    collector_configuration,
    global_template,
    parameters_of,
    pushed_images,
    services_template,
)

OLD = Service(name="old", task_definition=json.dumps(EXISTING))


def of_service(service: Service, fleet: Fleet | None = None) -> str:
    return services_template(fleet or reference(), account(FIRST, services=(service,)), "eu-west-1")


def task(service: Service, fleet: Fleet | None = None) -> dict[str, Any]:
    found: dict[str, Any] = resources(of_service(service, fleet))[f"{service.logical_name}Task"]
    return found


def containers(service: Service, fleet: Fleet | None = None) -> dict[str, Any]:
    return {each["Name"]: each for each in task(service, fleet)["ContainerDefinitions"]}


def environment(container: Mapping[str, Any]) -> dict[str, Any]:
    return {each["Name"]: each["Value"] for each in container["Environment"]}


def test_the_collector_never_takes_the_application_down() -> None:
    found = containers(Service(name="shop"))
    collector, application = found["aws-otel-collector"], found["prometheus-demo-app"]
    assert collector["Essential"] is False
    assert collector["RestartPolicy"]["Enabled"] is True
    assert application["Essential"] is True
    assert application["DependsOn"] == [{"ContainerName": "aws-otel-collector", "Condition": "START"}]


def test_the_collector_writes_nowhere_but_into_its_volume() -> None:
    collector = containers(Service(name="shop"))["aws-otel-collector"]
    assert collector["ReadonlyRootFilesystem"] is True
    assert collector["User"] == "10001:10001"
    [mount] = collector["MountPoints"]
    assert environment(collector)["TRUNKLINE_DATA_DIR"] == mount["ContainerPath"]
    assert task(Service(name="shop"))["Volumes"] == [{"Name": mount["SourceVolume"]}]


def test_the_collector_is_watched_and_has_time_to_drain() -> None:
    collector = containers(Service(name="shop"))["aws-otel-collector"]
    assert collector["HealthCheck"]["Command"][0] == "CMD"  # no shell in the image
    assert collector["StopTimeout"] == 30


def test_logs_never_stall_a_container() -> None:
    for service in (Service(name="shop"), OWN):
        for name, container in containers(service).items():
            options = container["LogConfiguration"]["Options"]
            assert options["mode"] == "non-blocking", name
            assert options["awslogs-group"] == {"Ref": "LogGroupName"}


def test_a_deployment_that_fails_ends() -> None:
    service = resources(of_service(Service(name="shop")))["ShopService"]
    assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"] == {
        "Enable": True,
        "Rollback": True,
    }
    assert service["PropagateTags"] == "SERVICE"


def test_a_container_of_ones_own_stays_as_it_is_asked_for() -> None:
    front = containers(OWN)["front"]
    assert front == {
        "Name": "front",
        "Image": "public.ecr.aws/x/front:1",
        "Essential": True,
        "StopTimeout": 60,
        "User": "1000:1000",
        "Command": ["serve"],
        "EntryPoint": ["/front"],
        "WorkingDirectory": "/srv",
        "Environment": [{"Name": "KEY", "Value": "value"}],
        "Secrets": [
            {"Name": "FLAG", "ValueFrom": "/front/flag"},
            {
                "Name": "PASSWORD",
                "ValueFrom": f"arn:aws:secretsmanager:eu-west-1:{FIRST}:secret:front-abcdef:password::",
            },
        ],
        "PortMappings": [
            {"ContainerPort": 8080, "Protocol": "tcp"},
            {"ContainerPort": 9090, "Protocol": "tcp"},
        ],
        "Cpu": 128,
        "Memory": 256,
        "ReadonlyRootFilesystem": True,
        "HealthCheck": {
            "Command": ["CMD", "/front", "health"],
            "Interval": 30,
            "Timeout": 5,
            "Retries": 3,
            "StartPeriod": 0,
        },
        "DependsOn": [
            {"ContainerName": "aws-otel-collector", "Condition": "START"},
            {"ContainerName": "cache", "Condition": "START"},
        ],
        "LogConfiguration": front["LogConfiguration"],
    }
    cache = containers(OWN)["cache"]
    assert cache["Essential"] is False
    assert not {"User", "Command", "Cpu", "Memory", "Secrets", "HealthCheck"} & set(cache)


def test_the_fleet_has_the_last_word_on_the_collectors_variables() -> None:
    collector = containers(OWN)["aws-otel-collector"]
    assert environment(collector)["LOG_LEVEL"] == "debug"
    assert environment(collector)["AWS_REGION"] == {"Ref": "AWS::Region"}


def test_only_images_that_are_pushed_are_parameters() -> None:
    def check(service: Service, fleet: Fleet, *expected: str) -> None:
        assert pushed_images(fleet, [service]) == expected
        declared = parameters_of(of_service(service, fleet))
        images = {"collector": "CollectorImage", "application": "ApplicationImage"}
        assert {name for name, parameter in images.items() if parameter in declared} == set(expected)

    check(Service(name="shop"), reference(), "collector", "application")
    check(Service(name="shop", containers=(Container(name="app"),)), reference(), "collector", "application")
    check(OWN, reference(), "collector")
    check(OLD, reference(), "collector")
    check(OWN, of_named_things())


def test_an_image_that_exists_is_used() -> None:
    fleet = of_named_things()
    assert containers(OWN, fleet)["aws-otel-collector"]["Image"] == fleet.collector_image


# Existing task definitions


def test_the_collector_is_added_to_an_existing_task_definition() -> None:
    found = task(OLD)
    kept = {name: found[name] for name in ("Cpu", "Memory", "NetworkMode", "RequiresCompatibilities")}
    assert kept == {
        "Cpu": "512",
        "Memory": "1024",
        "NetworkMode": "awsvpc",
        "RequiresCompatibilities": ["FARGATE"],
    }
    assert found["Family"] == "old"  # the fleet's, not the owner's
    assert found["TaskRoleArn"] == f"arn:aws:iam::{FIRST}:role/apps/shop"
    assert found["ExecutionRoleArn"] == f"arn:aws:iam::{FIRST}:role/shop-start"
    assert found["Volumes"] == [
        {
            "Name": "files",
            "EFSVolumeConfiguration": {
                "FilesystemId": "fs-12345678",
                "TransitEncryption": "ENABLED",
                "AuthorizationConfig": {"AccessPointId": "fsap-1234567890abcdef0", "IAM": "ENABLED"},
            },
        },
        {"Name": "collector-data"},
    ]
    shop = containers(OLD)["shop"]
    assert shop["DockerLabels"] == {"com.example.team": "shop"}
    assert shop["LogConfiguration"]["Options"]["awslogs-group"] == "shop"
    assert shop["DependsOn"] == [
        {"ContainerName": "first", "Condition": "SUCCESS"},
        {"ContainerName": "aws-otel-collector", "Condition": "START"},
    ]
    assert list(containers(OLD)) == ["aws-otel-collector", "shop", "first"]


def test_roles_of_its_own_get_what_the_collector_needs() -> None:
    made = resources(global_template(reference(), account(FIRST, services=(OLD,))))
    assert made["OwnTaskRoles"]["Roles"] == ["shop"]
    assert made["OwnTaskRoles"]["PolicyDocument"] == made["TaskRole"]["Policies"][0]["PolicyDocument"]
    assert made["OwnExecutionRoles"]["Roles"] == ["shop-start"]


def test_without_roles_of_its_own_it_gets_the_fleets() -> None:
    bare = {key: value for key, value in EXISTING.items() if not key.endswith("RoleArn")}
    service = replace(OLD, task_definition=json.dumps(bare))
    assert task(service)["TaskRoleArn"] == {"Ref": "TaskRoleArn"}
    made = resources(global_template(reference(), account(FIRST, services=(service,))))
    assert sorted(made) == ["ExecutionRole", "TaskRole"]


def test_a_task_definition_that_cannot_be_used_is_refused_with_the_reason() -> None:
    def check(change: Mapping[str, Any] | str, *expected: str) -> None:
        text = change if isinstance(change, str) else json.dumps({**EXISTING, **change})
        service = replace(OLD, task_definition=text, place="fleet.yaml:9:5")
        with pytest.raises(FleetError) as raised:
            of_service(service)
        assert str(raised.value).startswith("fleet.yaml:9:5: the task definition of service old ")
        for words in expected:
            assert words in str(raised.value)

    check("{", "is not JSON")
    check("[]", "has no containerDefinitions", "describe-task-definition")
    check({"networkMode": "bridge"}, "network mode bridge", "Fargate with awsvpc")
    check({"requiresCompatibilities": ["EC2"]}, "is for EC2")
    check({"cpu": None}, "has no cpu and memory")
    check({"surprise": 1}, "does not have a Surprise property", "leave that out")
    check({"volumes": [{"name": "collector-data"}]}, "has a volume collector-data already")
    taken = [{"name": "aws-otel-collector", "image": "x"}]
    check({"containerDefinitions": taken}, "has a container aws-otel-collector already")


# Configuration


def test_the_collector_runs_the_reference_configuration() -> None:
    found = environment(containers(Service(name="shop"))["aws-otel-collector"])
    assert found["WORKSPACE_ID"] == {"Ref": "WorkspaceId"}
    assert found["CENTRAL_ACCOUNT_ID"] == MONITORING
    exporter = yaml.safe_load(found["AOT_CONFIG_CONTENT"])["exporters"]["awsprometheusremotewrite"]
    assert exporter == {
        "endpoint": "https://aps-workspaces.eu-west-1.amazonaws.com"
        "/workspaces/${env:WORKSPACE_ID}/api/v1/remote_write",
        "aws_auth": {
            "region": "eu-west-1",
            "service": "aps",
            "role_arn": "arn:aws:iam::${env:CENTRAL_ACCOUNT_ID}:role/ECS-AMP-Central-Role",
        },
    }


def test_the_configuration_follows_the_workspace_and_the_role() -> None:
    def check(region: str, partition: str) -> None:
        fleet = replace(
            reference(),
            monitoring=MonitoringAccount(account_id=MONITORING, region=region),
            workloads=(account(FIRST, region),),
            names=Names(central_role="Door"),
            iam_path="/metrics/",
        )
        exporter = yaml.safe_load(collector_configuration(fleet))["exporters"]["awsprometheusremotewrite"]
        assert exporter["endpoint"].startswith(f"https://aps-workspaces.{region}.amazonaws.com/workspaces/")
        assert exporter["aws_auth"]["region"] == region
        role = f"arn:{partition}:iam::${{env:CENTRAL_ACCOUNT_ID}}:role/metrics/Door"
        assert exporter["aws_auth"]["role_arn"] == role

    check("us-west-2", "aws")
    check("us-gov-west-1", "aws-us-gov")


def test_a_configuration_of_ones_own_stays_as_it_is() -> None:
    fleet = replace(reference(), collector_configuration="receivers: {}  # eu-west-1")
    assert collector_configuration(fleet, OWN) == "receivers: {}  # eu-west-1"
    assert collector_configuration(fleet, replace(OWN, collector_configuration="nearer")) == "nearer"


def test_every_port_of_the_containers_is_scraped() -> None:
    def check(service: Service, expected: dict[str, list[str]]) -> None:
        document = yaml.safe_load(collector_configuration(reference(), service))
        jobs = document["receivers"]["prometheus"]["config"]["scrape_configs"]
        found = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
        own = {"trunkline": ["${env:TRUNKLINE_METRICS_ADDRESS:-127.0.0.1:8888}"]}
        assert found == {**expected, **own}

    check(Service(name="shop"), {"prometheus-demo-app": ["0.0.0.0:8000"]})
    check(OWN, {"front": ["0.0.0.0:8080", "0.0.0.0:9090"]})
    check(OLD, {"shop": ["0.0.0.0:9000"]})
    check(Service(name="quiet", containers=(Container(name="a", image="x"),)), {})


@pytest.mark.parametrize("external_id", ["", "7", "a+b=c/d:e"])
def test_the_collector_accepts_what_is_written_for_it(external_id: str) -> None:
    fleet = replace(with_everything(), external_id=external_id)
    text = collector_configuration(fleet, OWN)
    given = {"AOT_CONFIG_CONTENT": text, "CENTRAL_ACCOUNT_ID": MONITORING, "WORKSPACE_ID": "ws-1"}
    done = subprocess.run(
        [sys.executable, "-m", "trunkline", "collector", "validate"],
        env={**os.environ, **given, "AWS_REGION": "eu-west-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    document = yaml.safe_load(text)
    if external_id:
        role = document["extensions"]["sigv4auth"]["assume_role"]
        assert role["external_id"] == external_id
        assert document["service"]["extensions"] == ["sigv4auth"]
        assert document["exporters"]["prometheusremotewrite"]["auth"] == {"authenticator": "sigv4auth"}
        assert "awsprometheusremotewrite" not in text


# Sizes


def test_a_task_definition_that_ecs_would_refuse_is_refused_here() -> None:
    def check(size: int) -> None:
        services_template(
            reference(),
            account(FIRST, services=(replace(OWN, collector_configuration="x" * size),)),
            "eu-west-1",
        )

    with pytest.raises(FleetError) as raised:
        check(MAX_TASK_DEFINITION_BYTES)
    assert str(raised.value).startswith(
        f"account {FIRST}, eu-west-1, tests-services: service own: its task definition"
    )
    assert "ECS takes 65536; shorten the collector's configuration" in str(raised.value)
    check(40_000)


def test_a_template_that_cloudformation_would_refuse_is_refused_here() -> None:
    many = tuple(Service(name=f"service-{number}") for number in range(40))
    with pytest.raises(FleetError) as raised:
        services_template(reference(), account(FIRST, services=many), "eu-west-1")
    message = str(raised.value)
    assert message.startswith(f"account {FIRST}, eu-west-1, tests-services: the template would have ")
    assert message.endswith(
        "CloudFormation takes 51200; spread its 40 services over several fleets, or shorten the collectors' configurations"
    )


def test_a_template_that_only_fits_without_white_space_has_none() -> None:
    several = tuple(Service(name=f"service-{number}") for number in range(11))
    template = services_template(reference(), account(FIRST, services=several), "eu-west-1")
    assert "\n" not in template
    assert len(resources(template)) == 22


# Organisations


def test_an_organizations_services_find_everything_by_name() -> None:
    fleet = of_an_organization()
    template = templates_of_kind("organization")["units"]
    assert parameters_of(template) == {"WorkspaceId", "CollectorDigest", "ApplicationDigest"}
    found = resources(template)["WebShopTask"]
    role = f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:role{fleet.iam_path}{fleet.names.task_role}"
    assert found["TaskRoleArn"] == {"Fn::Sub": role}
    collector = found["ContainerDefinitions"][0]
    assert collector["Image"] == {
        "Fn::Sub": f"{MONITORING}.dkr.ecr.${{AWS::Region}}.${{AWS::URLSuffix}}/{fleet.names.collector_repository}"
        "@${CollectorDigest}"
    }
    assert collector["LogConfiguration"]["Options"]["awslogs-group"] == {"Ref": "LogGroup"}


def test_a_task_definition_with_one_accounts_role_is_not_for_units() -> None:
    fleet = of_an_organization()
    assert fleet.organization
    own = replace(fleet, organization=replace(fleet.organization, services=(OLD,)))
    with pytest.raises(FleetError, match="which is not in every account of the units"):
        global_template(own)
