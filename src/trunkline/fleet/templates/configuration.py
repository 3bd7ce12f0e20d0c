"""The collector's configuration: its owner's, or the reference one led to the fleet's workspace and role."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any, Final

import yaml

from trunkline.fleet.model import Fleet, Service
from trunkline.fleet.regions import partition_of
from trunkline.fleet.templates.existing import described
from trunkline.fleet.templates.interface import APPLICATION_CONTAINER, APPLICATION_PORT

_REFERENCE_EXPORTER: Final = "awsprometheusremotewrite"
_EXPORTER: Final = "prometheusremotewrite"
_SIGNER: Final = "sigv4auth"


def collector_configuration(fleet: Fleet, service: Service | None = None) -> str:
    """What the collectors of a service run; without `service`, what those beside the demo application run.

    A configuration of one's own stays as it is. The generated one scrapes every port of the service's containers.
    """
    own = (service.collector_configuration if service else "") or fleet.collector_configuration
    if own:
        return own
    found = yaml.safe_load(resources.files("trunkline.fleet").joinpath("collector.yaml").read_text("utf-8"))
    _lead(found, fleet)
    if service:
        _scrape(found, service)
    return str(yaml.safe_dump(found, sort_keys=False, width=1000))


def _lead(found: dict[str, Any], fleet: Fleet) -> None:
    """To the workspace and the role, and with the external id if there is one."""
    region = fleet.monitoring.region
    partition = partition_of(region) or "aws"
    exporter = found["exporters"][_REFERENCE_EXPORTER]
    path = exporter["endpoint"].split("/", 3)[3]
    exporter["endpoint"] = f"https://aps-workspaces.{region}.amazonaws.com/{path}"
    role = f"role{fleet.iam_path}{fleet.names.central_role}"
    arn = f"arn:{partition}:iam::${{env:CENTRAL_ACCOUNT_ID}}:{role}"
    exporter["aws_auth"] = {"region": region, "service": "aps", "role_arn": arn}
    if fleet.external_id or _reaches_only_its_own_sts(fleet):
        _sign_by_extension(found, fleet.external_id)


def _reaches_only_its_own_sts(fleet: Fleet) -> bool:
    """Whether some tasks have an endpoint for STS, which is that of their own region, not of the workspace's."""
    networks = [network for account in fleet.workloads for network in account.networks.values()]
    return any("sts" in network.endpoints for network in networks)


def _sign_by_extension(found: dict[str, Any], external_id: str) -> None:
    """The reference's exporter can neither send an external id nor ask the STS of the task's own region."""
    exporter = found["exporters"].pop(_REFERENCE_EXPORTER)
    auth = exporter.pop("aws_auth")
    role = {"arn": auth.pop("role_arn"), "sts_region": "${env:AWS_REGION}"}
    if external_id:
        role["external_id"] = external_id
    found["extensions"] = {_SIGNER: {**auth, "assume_role": role}}
    found["exporters"][_EXPORTER] = {**exporter, "auth": {"authenticator": _SIGNER}}
    found["service"]["extensions"] = [_SIGNER]
    for pipeline in found["service"]["pipelines"].values():
        renamed = {_REFERENCE_EXPORTER: _EXPORTER}
        pipeline["exporters"] = [renamed.get(name, name) for name in pipeline["exporters"]]


def _scrape(found: dict[str, Any], service: Service) -> None:
    """A job for each port of the service's containers, in place of the demo application's."""
    jobs = found["receivers"]["prometheus"]["config"]["scrape_configs"]
    kept = [job for job in jobs if job["job_name"] != APPLICATION_CONTAINER]
    scraped = [_job(name, ports) for name, ports in _ports(service) if ports]
    found["receivers"]["prometheus"]["config"]["scrape_configs"] = [*scraped, *kept]


def _job(name: str, ports: list[int]) -> dict[str, Any]:
    targets = [
        f"0.0.0.0:{port}" for port in ports
    ]  # as in the reference: every address of the task is its own
    return {"job_name": name, "static_configs": [{"targets": targets}]}


def _ports(service: Service) -> Iterator[tuple[str, list[int]]]:
    if service.task_definition:
        for each in described(service)["containerDefinitions"]:
            mapped = each.get("portMappings") or ()
            yield each["name"], [port["containerPort"] for port in mapped if "containerPort" in port]
    elif service.containers:
        for container in service.containers:
            yield container.name, list(container.ports)
    else:
        yield APPLICATION_CONTAINER, [APPLICATION_PORT]
