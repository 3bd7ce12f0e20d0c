"""Everything a fleet is made of as files, for those who deploy with a pipeline of their own.

README.md                                in which order, and what to fill in
templates/<account>/<region>/*.json      CloudFormation, one for each stack
templates/organization/*.json            for StackSets, where there are organisational units
services/<name>/collector.yaml           what the collector beside a service runs
services/<name>/docker-compose.yml, ecs-params.yml, or task-definition.json
images/*.Dockerfile
dashboards/                              Grafana's dashboards, and rules
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from trunkline.dashboards import rendering
from trunkline.fleet.model import Container, Fleet, Network, Service
from trunkline.fleet.networks import peers
from trunkline.fleet.order import Templates, fleet_stacks, monitoring_stack
from trunkline.fleet.templates import (
    APPLICATION_CONTAINER,
    APPLICATION_PORT,
    COLLECTOR_CONTAINER,
    CONTAINER_USER,
    DATA_DIR,
    collector_configuration,
    global_template,
    organization_template,
    parameters_of,
    registry_template,
)

Json = dict[str, Any]

_DEMO: Final = Container(name=APPLICATION_CONTAINER, ports=(APPLICATION_PORT,))


def write_files(fleet: Fleet, folder: Path) -> list[Path]:
    """Put all files into a folder, which is made; other files there stay.

    Raises OSError, FleetError for a template that cannot be written, ImportError without the extra `dashboards`.
    """
    paths = []
    for name, content in fleet_files(fleet):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    return paths


def fleet_files(fleet: Fleet) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each file; the same fleet gives the same bytes."""
    yield "README.md", _readme(fleet).encode()
    for name, template in _templates(fleet):
        yield f"templates/{name}", template.encode()
    for name, service, network in _services(fleet):
        for file, text in _service_files(fleet, service, network):
            yield f"services/{name}/{file}", text.encode()
    for kind in ("collector", "application"):
        source = resources.files("trunkline.fleet.images").joinpath(f"{kind}.Dockerfile")
        yield f"images/{kind}.Dockerfile", source.read_bytes()
    for name, content in rendering.files().items():
        yield f"dashboards/{name}", content


def _templates(fleet: Fleet) -> Iterator[tuple[str, str]]:
    templates = Templates(fleet)
    for stack in fleet_stacks(fleet):
        yield f"{stack.account_id}/{stack.region}/{stack.name}.json", templates[stack]
    if fleet.organization and fleet.organization.units:
        yield f"organization/{fleet.global_stack}.json", global_template(fleet)
        yield f"organization/{fleet.services_stack}.json", organization_template(fleet)
        yield f"organization/{fleet.name}-registry.json", registry_template(fleet)


# Services


def _services(fleet: Fleet) -> Iterator[tuple[str, Service, Network]]:
    """Each service once, with a folder's name; one that another account has differently is told apart by its id."""
    known: dict[str, tuple[Service, Network]] = {}
    for account in fleet.workloads:
        for written in account.services:
            service, network = replace(written, place=""), account.network(account.home_region)
            if known.setdefault(service.name, (service, network)) != (service, network):
                known.setdefault(f"{service.name}-{account.account_id}", (service, network))
    for written in fleet.organization.services if fleet.organization else ():
        known.setdefault(written.name, (replace(written, place=""), Network()))
    for name, (service, network) in known.items():
        yield name, service, network


def _service_files(fleet: Fleet, service: Service, network: Network) -> Iterator[tuple[str, str]]:
    configuration = collector_configuration(fleet, service)
    yield "collector.yaml", configuration
    if service.task_definition:
        yield "task-definition.json", json.dumps(json.loads(service.task_definition), indent=2) + "\n"
        return
    yield "docker-compose.yml", _yaml(_compose(fleet, service, configuration))
    yield "ecs-params.yml", _yaml(_ecs_params(fleet, service, network))


def _compose(fleet: Fleet, service: Service, configuration: str) -> Json:
    environment = {
        **_escaped(service.collector_environment),
        **_escaped({"AOT_CONFIG_CONTENT": configuration, "CENTRAL_ACCOUNT_ID": fleet.monitoring.account_id}),
        "AWS_REGION": "${AWS_REGION}",
        "TRUNKLINE_DATA_DIR": DATA_DIR,
        "WORKSPACE_ID": "${WORKSPACE_ID}",
    }
    collector = {
        "image": _dollars(fleet.collector_image) or "${COLLECTOR_IMAGE}",
        "user": CONTAINER_USER,
        "read_only": True,
        "environment": environment,
        "healthcheck": {"test": ["CMD", "trunkline", "collector", "healthcheck"], "interval": "10s"},
        "stop_grace_period": "30s",
        "logging": _logging(fleet, COLLECTOR_CONTAINER),
    }
    containers = {one.name: _compose_service(fleet, one) for one in service.containers or (_DEMO,)}
    return {
        "version": "3",
        "services": {COLLECTOR_CONTAINER: collector, **containers},
    }


def _compose_service(fleet: Fleet, container: Container) -> Json:
    said: Json = {
        "image": _dollars(container.image) or "${APP_IMAGE}",
        "command": [_dollars(word) for word in container.command],
        "entrypoint": [_dollars(word) for word in container.entry_point],
        "environment": _escaped(container.environment),
        "ports": [f"{port}:{port}" for port in container.ports],
        "depends_on": [COLLECTOR_CONTAINER, *container.depends_on],
        "user": container.user or ("" if container.image else CONTAINER_USER),
        "working_dir": container.working_directory,
        "read_only": container.read_only or not container.image,
        "healthcheck": _health_check(container),
        "stop_grace_period": f"{container.stop_timeout_s}s",
        "logging": _logging(fleet, container.name),
    }
    return {key: value for key, value in said.items() if value}


def _health_check(container: Container) -> Json | None:
    if not container.health_check:
        return None
    return {
        "test": [_dollars(word) for word in container.health_check],
        "interval": f"{container.health_interval_s}s",
        "timeout": f"{container.health_timeout_s}s",
        "retries": container.health_retries,
        "start_period": f"{container.health_start_s}s",
    }


def _logging(fleet: Fleet, stream: str) -> Json:
    options = {
        "awslogs-group": fleet.names.log_group,
        "awslogs-region": "${AWS_REGION}",
        "awslogs-stream-prefix": stream,
        "mode": "non-blocking",
        "max-buffer-size": "4m",
    }
    return {"driver": "awslogs", "options": options}


def _ecs_params(fleet: Fleet, service: Service, network: Network) -> Json:
    containers = service.containers or (_DEMO,)
    subnets = list(network.subnets) or ["subnet-11111111", "subnet-22222222"]
    vpc: Json = {"subnets": subnets, "assign_public_ip": "ENABLED" if network.public_ip else "DISABLED"}
    if network.security_groups:
        vpc["security_groups"] = list(network.security_groups)
    return {
        "version": 1,
        "task_definition": {
            "ecs_network_mode": "awsvpc",
            "task_role_arn": fleet.names.task_role,
            "task_execution_role": fleet.names.execution_role,
            "task_size": {"mem_limit": f"{service.memory_mib}MB", "cpu_limit": service.cpu_units},
            "services": {
                COLLECTOR_CONTAINER: {"essential": False},
                **{one.name: _ecs_service(one) for one in containers},
            },
        },
        "run_params": {"network_configuration": {"awsvpc_configuration": vpc}},
    }


def _ecs_service(container: Container) -> Json:
    said: Json = {
        "cpu_shares": container.cpu_units,
        "mem_limit": f"{container.memory_mib}MB" if container.memory_mib else "",
        "secrets": [{"name": name, "value_from": value} for name, value in container.secrets.items()],
    }
    return {"essential": container.essential, **{key: value for key, value in said.items() if value}}


def _escaped(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: _dollars(value) for name, value in variables.items()}


def _dollars(text: str) -> str:
    """A value that compose leaves as it is."""
    return text.replace("$", "$$")


class _Dumper(yaml.SafeDumper):
    """Long texts, such as a configuration within a variable, stay readable."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _yaml(document: Json) -> str:
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True))


# What to do with it


_PEERED: Final = (
    " `RouteTable1` and so on are those of the subnets, each once. A `Connection…` is the output `PeeringConnection` of "
    "the base whose VPC has these addresses."
)


def _readme(fleet: Fleet) -> str:
    templates = Templates(fleet)
    lines = [
        f"# The fleet {fleet.name}",
        "",
        (
            "Made by `trunkline fleet render`. Deploy the stacks in this order, each with the tag "
            f"`trunkline:fleet={fleet.name}` and the capability `CAPABILITY_NAMED_IAM`; the accounts after the first may go "
            "side by side. A parameter has the value of the output of the same name of a stack before it in the same account, "
            "or of the monitoring account's; `Subnets` and `RouteTables` are those of the region's network."
            f"{_PEERED if peers(fleet) else ''}"
        ),
        "",
        "| account | region | template | parameters |",
        "| --- | --- | --- | --- |",
    ]
    for stack in fleet_stacks(fleet):
        parameters = ", ".join(sorted(parameters_of(templates[stack]))) or "none"
        lines.append(f"| {stack.account_id} | {stack.region} | `{stack.name}.json` | {parameters} |")
    first = monitoring_stack(fleet)
    lines += [
        "",
        (
            "Between the base and the services of a region the images are pushed, and named by digest: "
            "`trunkline images push` does it, or your own build of `images/`."
        ),
        "",
        (
            "`services/` has each collector's configuration, and compose files with ECS parameters for `ecs-cli` and the like: "
            f"they take `COLLECTOR_IMAGE`, `APP_IMAGE`, `AWS_REGION` and `WORKSPACE_ID`, an output of `{first.name}`."
        ),
        "",
        "`dashboards/` goes into Grafana, and `trunkline.rules.yaml` into the workspace's rules.",
        "",
    ]
    return "\n".join(lines)
