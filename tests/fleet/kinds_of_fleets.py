"""Fleets of every kind that templates are written for, and their templates with every reference filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from trunkline.fleet import templates
from trunkline.fleet.model import (
    Container,
    Fleet,
    Grafana,
    MonitoringAccount,
    Network,
    Organization,
    SeriesLimit,
    Service,
    WorkloadAccount,
    Workspace,
)
from trunkline.fleet.networks import peers

MONITORING, FIRST, SECOND = "111111111111", "222222222222", "333333333333"
ENDPOINTS = ("aps-workspaces", "sts", "ecr.api", "ecr.dkr", "logs", "s3")
SUBNETS = ("subnet-0123456789abcdef0", "subnet-0123456789abcdef1")
GROUPS = ("sg-0123456789abcdef0", "sg-0123456789abcdef1")
VPC = "vpc-0123456789abcdef0"
PEERED = ("eu-central-1", "us-east-1")
WORKSPACE = "ws-12345678-90ab-cdef-1234-567890abcdef"

EXISTING: dict[str, Any] = {
    "taskDefinitionArn": f"arn:aws:ecs:eu-west-1:{FIRST}:task-definition/shop:7",
    "family": "shop",
    "revision": 7,
    "status": "ACTIVE",
    "requiresAttributes": [{"name": "ecs.capability.task-eni"}],
    "compatibilities": ["EC2", "FARGATE"],
    "requiresCompatibilities": ["FARGATE"],
    "registeredAt": "2026-01-01T00:00:00Z",
    "registeredBy": f"arn:aws:iam::{FIRST}:user/me",
    "networkMode": "awsvpc",
    "cpu": "512",
    "memory": "1024",
    "taskRoleArn": f"arn:aws:iam::{FIRST}:role/apps/shop",
    "executionRoleArn": f"arn:aws:iam::{FIRST}:role/shop-start",
    "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
    "ephemeralStorage": {"sizeInGiB": 30},
    "placementConstraints": [],
    "volumes": [
        {
            "name": "files",
            "efsVolumeConfiguration": {
                "fileSystemId": "fs-12345678",
                "transitEncryption": "ENABLED",
                "authorizationConfig": {"accessPointId": "fsap-1234567890abcdef0", "iam": "ENABLED"},
            },
        }
    ],
    "containerDefinitions": [
        {
            "name": "shop",
            "image": "public.ecr.aws/x/shop:1",
            "cpu": 0,
            "essential": True,
            "portMappings": [
                {
                    "containerPort": 9000,
                    "hostPort": 9000,
                    "protocol": "tcp",
                    "name": "web",
                    "appProtocol": "http",
                }
            ],
            "environment": [{"name": "COLOUR", "value": "blue"}],
            "environmentFiles": [],
            "mountPoints": [{"sourceVolume": "files", "containerPath": "/data", "readOnly": True}],
            "volumesFrom": [],
            "dockerLabels": {"com.example.team": "shop"},
            "dependsOn": [{"containerName": "first", "condition": "SUCCESS"}],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": "shop",
                    "awslogs-region": "eu-west-1",
                    "awslogs-stream-prefix": "s",
                },
                "secretOptions": [],
            },
            "ulimits": [{"name": "nofile", "softLimit": 1024, "hardLimit": 2048}],
        },
        {"name": "first", "image": "public.ecr.aws/x/first:1", "essential": False},
    ],
}

OWN = Service(
    name="own",
    cpu_units=512,
    memory_mib=1024,
    collector_environment={"LOG_LEVEL": "debug", "AWS_REGION": "nowhere"},
    containers=(
        Container(
            name="front",
            image="public.ecr.aws/x/front:1",
            command=("serve",),
            entry_point=("/front",),
            environment={"KEY": "value"},
            secrets={
                "PASSWORD": f"arn:aws:secretsmanager:eu-west-1:{FIRST}:secret:front-abcdef:password::",
                "FLAG": "/front/flag",
            },
            ports=(8080, 9090),
            cpu_units=128,
            memory_mib=256,
            user="1000:1000",
            working_directory="/srv",
            read_only=True,
            health_check=("CMD", "/front", "health"),
            depends_on=("cache",),
            stop_timeout_s=60,
        ),
        Container(name="cache", image="public.ecr.aws/x/cache:1", essential=False),
    ),
)

NETWORKS = {
    "eu-west-1": Network(kind="new", cidr="10.40.0.0/16", public_ip=False, endpoints=ENDPOINTS),
    "eu-central-1": Network(kind="new", cidr="10.41.0.0/24", nat=True, endpoints=("s3",)),
    "eu-north-1": Network(kind="new", cidr="10.42.0.0/20"),
    "us-east-1": Network(
        kind="existing",
        vpc_id=VPC,
        subnets=SUBNETS,
        security_groups=GROUPS,
        public_ip=False,
        endpoints=ENDPOINTS[1:],
    ),
    "us-west-2": Network(kind="existing", vpc_id=VPC, subnets=SUBNETS),
}


def reference() -> Fleet:
    """As in `examples/`: two accounts, defaults."""
    return Fleet(
        name="tests",
        monitoring=MonitoringAccount(account_id=MONITORING, region="eu-west-1"),
        workloads=(
            account(FIRST, "eu-west-1", "eu-central-1"),
            account(SECOND, "us-east-1", services=(Service(name="web-shop"), Service(name="billing"))),
        ),
    )


def account(account_id: str, *regions: str, services: tuple[Service, ...] = ()) -> WorkloadAccount:
    return WorkloadAccount(
        account_id=account_id,
        regions=regions or ("eu-west-1",),
        services=services or (Service(name="web-shop", desired_count=2),),
    )


def of_accounts(count: int, **more: Any) -> Fleet:
    """That many accounts, with everything else as in the reference."""
    accounts = tuple(account(f"{100_000_000_000 + number}") for number in range(count))
    return replace(reference(), workloads=accounts, **more)


def with_everything() -> Fleet:
    """Everything switched on that can be, all networks and an existing task definition among it."""
    services = (
        Service(name="web-shop"),
        OWN,
        Service(name="old", task_definition=json.dumps({"taskDefinition": EXISTING, "tags": []})),
    )
    return replace(
        reference(),
        name="full",
        monitoring=MonitoringAccount(
            account_id=MONITORING,
            region="eu-west-1",
            workspace=Workspace(
                retention_days=300,
                out_of_order_window_s=120,
                limits=(SeriesLimit(labels={"cloud_account_id": FIRST}, max_series=1_000_000),),
            ),
            grafana=Grafana(authentication=("AWS_SSO", "SAML")),
        ),
        workloads=(replace(account(FIRST, *NETWORKS, services=services), networks=NETWORKS),),
        iam_path="/metrics/",
        permissions_boundary="Boundary",
        extra_tags={"cost-centre": "42"},
        external_id="7",
        log_retention_days=30,
    )


def of_an_organization() -> Fleet:
    units = Organization(
        id_="o-abcdefghij",
        units=("ou-abcd-12345678",),
        regions=("eu-west-1", "us-east-1"),
        services=(Service(name="web-shop"), OWN),
    )
    return replace(with_everything(), name="units", workloads=(), organization=units)


def peered() -> Fleet:
    """VPCs of both kinds that reach the workspace through the monitoring account's."""
    known = reference()
    own = tuple(name for name in ENDPOINTS if name not in ("aps-workspaces", "sts"))
    new = Network(kind="new", cidr="10.41.0.0/16", public_ip=False, endpoints=own, peering=True)
    there = Network(kind="existing", cidr="10.42.0.0/16", vpc_id=VPC, subnets=SUBNETS, peering=True)
    return replace(
        known,
        monitoring=replace(
            known.monitoring, network=Network(kind="new", cidr="10.9.0.0/24", endpoints=("sts",))
        ),
        workloads=(replace(account(FIRST, *PEERED), networks=dict(zip(PEERED, (new, there), strict=True))),),
        iam_path="/metrics/",
        permissions_boundary="Boundary",
    )


def of_named_things() -> Fleet:
    """A workspace, an image and a boundary that exist."""
    known = reference()
    return replace(
        known,
        monitoring=replace(known.monitoring, workspace=Workspace(id_=WORKSPACE)),
        collector_image=f"public.ecr.aws/x/collector@sha256:{'0' * 64}",
        permissions_boundary=f"arn:aws:iam::{MONITORING}:policy/Boundary",
        workloads=(account(FIRST, services=(OWN,)),),
    )


KINDS: dict[str, Callable[[], Fleet]] = {
    "reference": reference,
    "everything": with_everything,
    "organization": of_an_organization,
    "named": of_named_things,
    "peered": peered,
    "118 accounts": lambda: of_accounts(118, trust_characters=4096),
    "500 accounts": lambda: of_accounts(500, organization=Organization(id_="o-abcdefghij")),
}


def templates_of(fleet: Fleet) -> dict[str, str]:
    """Every template of the fleet once, by what it is."""
    names: dict[str, str] = {}
    for name, text in _all(fleet):
        names.setdefault(text, name)
    return {name: text for text, name in names.items()}


def _all(fleet: Fleet) -> Iterator[tuple[str, str]]:
    yield "monitoring", templates.monitoring_template(fleet)
    if fleet.organization and fleet.organization.units:
        yield "registry", templates.registry_template(fleet)
        yield "units' roles", templates.global_template(fleet)
        yield "units", templates.organization_template(fleet)
    for workload in fleet.workloads[:2]:
        yield f"{workload.account_id} roles", templates.global_template(fleet, workload)
        for region in workload.regions:
            place = f"{workload.account_id} {region}"
            yield f"{place} base", templates.base_template(fleet, workload, region)
            yield f"{place} services", templates.services_template(fleet, workload, region)
    if peers(fleet):
        yield "peering", templates.peering_template(fleet)


@cache
def templates_of_kind(kind: str) -> dict[str, str]:
    return templates_of(KINDS[kind]())


_PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::AccountId": FIRST,
    "AWS::Region": "eu-west-1",
    "AWS::URLSuffix": "amazonaws.com",
    "PeerVpc": VPC,
}


def resolved(value: Any) -> Any:
    """With references filled in as CloudFormation would, as far as policies have them."""
    if isinstance(value, list):
        return [resolved(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([^}]+)\}", lambda found: _PSEUDO[found[1]], value["Fn::Sub"])
    if "Ref" in value:
        return _PSEUDO[value["Ref"]]
    if value.get("Fn::GetAtt") == ["Workspace", "Arn"]:
        return f"arn:aws:aps:eu-west-1:{MONITORING}:workspace/{WORKSPACE}"
    return {key: resolved(each) for key, each in value.items()}


def resources(template: str) -> dict[str, Any]:
    """Properties by logical name."""
    return {name: each.get("Properties", {}) for name, each in json.loads(template)["Resources"].items()}


def policies(template: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Logical name, kind (identity, trust, resource) and document of every policy in a template, filled in."""
    for name, properties in resources(template).items():
        for inline in properties.get("Policies", ()):
            yield name, "identity", resolved(inline["PolicyDocument"])
        if "PolicyDocument" in properties:
            yield name, "identity", resolved(properties["PolicyDocument"])
        if "AssumeRolePolicyDocument" in properties:
            yield name, "trust", resolved(properties["AssumeRolePolicyDocument"])
        if "RepositoryPolicyText" in properties:
            yield name, "resource", resolved(properties["RepositoryPolicyText"])
