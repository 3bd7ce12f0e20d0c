"""The templates of an organisation's units: they go out as StackSets, so nothing may be looked up or waited for."""

from __future__ import annotations

from typing import Any, Final

from troposphere import Ref, Sub, Template  # type: ignore[import-untyped]

from trunkline.errors import FleetError
from trunkline.fleet.model import Fleet, Network
from trunkline.fleet.templates.base import add_cluster
from trunkline.fleet.templates.containers import Surroundings
from trunkline.fleet.templates.document import add_parameters, arn, new_template, rendered
from trunkline.fleet.templates.interface import BaseOutput, ServicesParameter
from trunkline.fleet.templates.network import Ways, add_network
from trunkline.fleet.templates.services import add_services, too_many

UNITS_NETWORK: Final = Network(kind="new", cidr="10.40.0.0/16")
"""A default VPC could not be looked up, and no account's subnets are known. VPCs that never meet may be alike."""

_PARAMETERS: Final = {
    ServicesParameter.WORKSPACE_ID: "String",
    ServicesParameter.COLLECTOR_DIGEST: "String",
    ServicesParameter.APPLICATION_DIGEST: "String",
}


def organization_template(fleet: Fleet) -> str:
    """All that a region of any account of the units has: base and services in one, as there is no push between them.

    Images come from the monitoring account's registry of the same region, by digests that are parameters; roles are
    those of the global template, by name. Raises `FleetError` as the other templates do.
    """
    if fleet.organization is None:
        raise FleetError("a template for an organization's units needs them; name the organization")
    services = fleet.organization.services
    place = f"every account of the organization's units, {fleet.services_stack}"
    template = new_template(fleet, "everything in one region of an account of the organisation")
    cluster = add_cluster(template, fleet)
    ways = add_network(template, UNITS_NETWORK, place)
    around = _surroundings(fleet, cluster, ways)
    add_services(template, fleet, services, around, place)
    _wait_for_the_way_out(template)
    add_parameters(template, _PARAMETERS)
    return rendered(fleet, template, place, too_many(services))


def _surroundings(fleet: Fleet, cluster: dict[str, Any], ways: Ways) -> Surroundings:
    names = fleet.names
    return Surroundings(
        task_role=arn(f"iam::${{AWS::AccountId}}:role{fleet.iam_path}{names.task_role}"),
        execution_role=arn(f"iam::${{AWS::AccountId}}:role{fleet.iam_path}{names.execution_role}"),
        cluster=cluster[BaseOutput.CLUSTER_NAME],
        log_group=cluster[BaseOutput.LOG_GROUP_NAME],
        workspace_id=Ref(ServicesParameter.WORKSPACE_ID),
        collector_image=fleet.collector_image
        or _image(fleet, names.collector_repository, ServicesParameter.COLLECTOR_DIGEST),
        application_image=_image(fleet, names.application_repository, ServicesParameter.APPLICATION_DIGEST),
        subnets=ways.subnets,
        security_groups=ways.security_groups,
        public_ip=UNITS_NETWORK.public_ip,
    )


def _image(fleet: Fleet, repository: str, digest_parameter: str) -> Any:
    registry = f"{fleet.monitoring.account_id}.dkr.ecr.${{AWS::Region}}.${{AWS::URLSuffix}}"
    return Sub(f"{registry}/{repository}@${{{digest_parameter}}}")


def _wait_for_the_way_out(template: Template) -> None:
    """Tasks that start before there is a route cannot pull their images, and the breaker takes that for a crash."""
    for resource in template.resources.values():
        if resource.resource["Type"] == "AWS::ECS::Service":
            resource.DependsOn = ["PublicRoute", "PublicRoutesA", "PublicRoutesB"]
