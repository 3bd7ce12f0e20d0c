"""What runs in one region of an account: services, each a task of its owner's containers and a collector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from troposphere import Ref, Template, ecs  # type: ignore[import-untyped]

from trunkline.errors import FleetError
from trunkline.fleet.model import Fleet, Network, Service, WorkloadAccount
from trunkline.fleet.templates import existing
from trunkline.fleet.templates.containers import DEMO, Surroundings, application, collector
from trunkline.fleet.templates.document import add_parameters, new_template, rendered
from trunkline.fleet.templates.interface import (
    DATA_VOLUME,
    BaseOutput,
    GlobalOutput,
    MonitoringOutput,
    ServicesParameter,
)
from trunkline.fleet.templates.peering import workspace_ways

MAX_TASK_DEFINITION_BYTES: Final = 65_536
"""ECS's quota "Task definition size"."""

_PARAMETERS: Final = {
    ServicesParameter.WORKSPACE_ID: "String",
    ServicesParameter.COLLECTOR_IMAGE: "String",
    ServicesParameter.APPLICATION_IMAGE: "String",
    ServicesParameter.SUBNETS: "List<AWS::EC2::Subnet::Id>",
    ServicesParameter.SECURITY_GROUPS: "List<AWS::EC2::SecurityGroup::Id>",
    GlobalOutput.TASK_ROLE_ARN: "String",
    GlobalOutput.EXECUTION_ROLE_ARN: "String",
    BaseOutput.CLUSTER_NAME: "String",
    BaseOutput.LOG_GROUP_NAME: "String",
    MonitoringOutput.WORKSPACE_ENDPOINT: "String",
    MonitoringOutput.STS_ENDPOINT: "String",
}


def services_template(fleet: Fleet, account: WorkloadAccount, region: str) -> str:
    """The services of one account in one region.

    Raises `FleetError` when they are too large for CloudFormation or ECS, or a task definition cannot be used.
    """
    place = f"account {account.account_id}, {region}, {fleet.services_stack}"
    template = new_template(fleet, "the services of one region")
    add_services(template, fleet, account.services, _by_parameters(fleet, account.network(region)), place)
    add_parameters(template, _PARAMETERS)
    return rendered(fleet, template, place, too_many(account.services))


def too_many(services: Sequence[Service]) -> str:
    """The remedy for a template that is too large because of its services."""
    return (
        f"spread its {len(services)} services over several fleets, or shorten the collectors' configurations"
    )


def add_services(
    template: Template, fleet: Fleet, services: Sequence[Service], around: Surroundings, place: str
) -> None:
    for service in services:
        task = template.add_resource(_task_definition(fleet, service, around))
        _check_size(task, f"{place}: service {service.name}")
        template.add_resource(_service(service, task, around))


def _by_parameters(fleet: Fleet, network: Network) -> Surroundings:
    return Surroundings(
        task_role=Ref(GlobalOutput.TASK_ROLE_ARN),
        execution_role=Ref(GlobalOutput.EXECUTION_ROLE_ARN),
        cluster=Ref(BaseOutput.CLUSTER_NAME),
        log_group=Ref(BaseOutput.LOG_GROUP_NAME),
        workspace_id=Ref(ServicesParameter.WORKSPACE_ID),
        collector_image=fleet.collector_image or Ref(ServicesParameter.COLLECTOR_IMAGE),
        application_image=Ref(ServicesParameter.APPLICATION_IMAGE),
        subnets=Ref(ServicesParameter.SUBNETS),
        security_groups=Ref(ServicesParameter.SECURITY_GROUPS),
        public_ip=network.public_ip and not network.nat,
        resolve=workspace_ways(fleet, network),
    )


def _task_definition(fleet: Fleet, service: Service, around: Surroundings) -> Any:
    """The family is the service's name, so that revisions of the fleet are told from others'."""
    given = existing.properties(service) if service.task_definition else _fargate(service)
    given.setdefault("TaskRoleArn", around.task_role)
    given.setdefault("ExecutionRoleArn", around.execution_role)
    beside = (
        existing.containers(service)
        if service.task_definition
        else [application(container, around) for container in service.containers or (DEMO,)]
    )
    return ecs.TaskDefinition(
        f"{service.logical_name}Task",
        Family=service.name,
        Volumes=[*given.pop("Volumes", []), ecs.Volume(Name=DATA_VOLUME)],
        ContainerDefinitions=[collector(fleet, service, around), *beside],
        **given,
    )


def _fargate(service: Service) -> dict[str, Any]:
    return {
        "RequiresCompatibilities": ["FARGATE"],
        "NetworkMode": "awsvpc",
        "Cpu": str(service.cpu_units),
        "Memory": str(service.memory_mib),
    }


def _check_size(task: Any, place: str) -> None:
    size_bytes = len(json.dumps(task.to_dict()["Properties"], separators=(",", ":")).encode())
    if size_bytes > MAX_TASK_DEFINITION_BYTES:
        raise FleetError(
            f"{place}: its task definition would have {size_bytes} bytes, and ECS takes {MAX_TASK_DEFINITION_BYTES}; "
            "shorten the collector's configuration or the containers' environment"
        )


def _service(service: Service, task: Any, around: Surroundings) -> Any:
    return ecs.Service(
        f"{service.logical_name}Service",
        ServiceName=service.name,
        Cluster=around.cluster,
        TaskDefinition=Ref(task),
        DesiredCount=service.desired_count,
        LaunchType="FARGATE",
        EnableECSManagedTags=True,
        PropagateTags="SERVICE",
        # Without the breaker CloudFormation waits about three hours for a service that keeps crashing.
        DeploymentConfiguration=ecs.DeploymentConfiguration(
            DeploymentCircuitBreaker=ecs.DeploymentCircuitBreaker(Enable=True, Rollback=True),
            MinimumHealthyPercent=100,
            MaximumPercent=200,
        ),
        NetworkConfiguration=ecs.NetworkConfiguration(
            AwsvpcConfiguration=ecs.AwsvpcConfiguration(
                Subnets=around.subnets,
                SecurityGroups=around.security_groups,
                AssignPublicIp="ENABLED" if around.public_ip else "DISABLED",
            )
        ),
    )
