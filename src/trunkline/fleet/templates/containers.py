"""The containers of a task: the collector, the fleet's demo application, and those of the services' owners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from troposphere import Ref, ecs  # type: ignore[import-untyped]

from trunkline.fleet.model import Container, Fleet, Service
from trunkline.fleet.templates.configuration import collector_configuration
from trunkline.fleet.templates.interface import (
    APPLICATION_CONTAINER,
    APPLICATION_PORT,
    COLLECTOR_CONTAINER,
    CONTAINER_USER,
    DATA_DIR,
    DATA_VOLUME,
)
from trunkline.fleet.templates.peering import told

DEMO: Final = Container(name=APPLICATION_CONTAINER, ports=(APPLICATION_PORT,))
_DEMO_STREAM: Final = "demo-app"
_RESOLVE: Final = "TRUNKLINE_RESOLVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a task finds where it runs, as references to parameters of its stack or to resources beside it."""

    task_role: Any
    execution_role: Any
    cluster: Any
    log_group: Any
    workspace_id: Any
    collector_image: Any
    application_image: Any
    subnets: Any
    security_groups: Any
    public_ip: bool
    resolve: str = ""
    """Where collectors connect instead (`TRUNKLINE_RESOLVE`), for `Fn::Sub`."""


def collector(fleet: Fleet, service: Service, around: Surroundings) -> Any:
    """The collector: never takes the application down with it, and drains after it.

    Its configuration is in the task definition itself: a parameter of the parameter store ends at 4 KB.
    """
    environment = {
        **service.collector_environment,
        "AOT_CONFIG_CONTENT": collector_configuration(fleet, service),
        "AWS_REGION": Ref("AWS::Region"),
        "CENTRAL_ACCOUNT_ID": fleet.monitoring.account_id,
        "TRUNKLINE_DATA_DIR": DATA_DIR,
        "WORKSPACE_ID": around.workspace_id,
    }
    if around.resolve:
        environment[_RESOLVE] = told(service.collector_environment.get(_RESOLVE, ""), around.resolve)
    return ecs.ContainerDefinition(
        Name=COLLECTOR_CONTAINER,
        Image=around.collector_image,
        Essential=False,
        RestartPolicy=ecs.RestartPolicy(Enabled=True, RestartAttemptPeriod=60),
        StopTimeout=30,
        User=CONTAINER_USER,
        ReadonlyRootFilesystem=True,
        Environment=_environment(environment),
        MountPoints=[ecs.MountPoint(SourceVolume=DATA_VOLUME, ContainerPath=DATA_DIR, ReadOnly=False)],
        HealthCheck=ecs.HealthCheck(
            Command=["CMD", "trunkline", "collector", "healthcheck"],
            Interval=10,
            Timeout=5,
            Retries=3,
            StartPeriod=10,
        ),
        LogConfiguration=_logs(around, COLLECTOR_CONTAINER),
    )


def application(container: Container, around: Surroundings) -> Any:
    """A container beside the collector. It starts after it, so ECS stops it first and the last scrape finds it ended.

    START and never HEALTHY: a collector that is broken must not keep the application down. The demo application
    gets what is safe; others run as their images and owners say.
    """
    demo = not container.image
    before = [name for name in container.depends_on if name != COLLECTOR_CONTAINER]
    return ecs.ContainerDefinition(
        Name=container.name,
        Image=container.image or around.application_image,
        Essential=container.essential,
        StopTimeout=container.stop_timeout_s,
        DependsOn=[
            ecs.ContainerDependency(ContainerName=name, Condition="START")
            for name in (COLLECTOR_CONTAINER, *before)
        ],
        LogConfiguration=_logs(
            around, _DEMO_STREAM if container.name == APPLICATION_CONTAINER else container.name
        ),
        ReadonlyRootFilesystem=container.read_only or demo,
        **_asked(container, user=container.user or (CONTAINER_USER if demo else "")),
    )


def _asked(container: Container, user: str) -> dict[str, Any]:
    """What is only there if somebody asked for it."""
    asked = {
        "User": user,
        "Command": list(container.command),
        "EntryPoint": list(container.entry_point),
        "WorkingDirectory": container.working_directory,
        "Environment": _environment(container.environment),
        "Secrets": [
            ecs.Secret(Name=name, ValueFrom=value) for name, value in sorted(container.secrets.items())
        ],
        "PortMappings": [ecs.PortMapping(ContainerPort=port, Protocol="tcp") for port in container.ports],
        "Cpu": container.cpu_units,
        "Memory": container.memory_mib,
        "HealthCheck": _health_check(container),
    }
    return {name: value for name, value in asked.items() if value}


def _health_check(container: Container) -> Any:
    if not container.health_check:
        return None
    return ecs.HealthCheck(
        Command=list(container.health_check),
        Interval=container.health_interval_s,
        Timeout=container.health_timeout_s,
        Retries=container.health_retries,
        StartPeriod=container.health_start_s,
    )


def _environment(variables: Any) -> list[Any]:
    return [ecs.Environment(Name=name, Value=value) for name, value in sorted(variables.items())]


def _logs(around: Surroundings, stream_prefix: str) -> Any:
    return ecs.LogConfiguration(
        LogDriver="awslogs",
        Options={
            "awslogs-group": around.log_group,
            "awslogs-region": Ref("AWS::Region"),
            "awslogs-stream-prefix": stream_prefix,
            # A slow CloudWatch must not stall whoever writes a line.
            "mode": "non-blocking",
            "max-buffer-size": "4m",
        },
    )
