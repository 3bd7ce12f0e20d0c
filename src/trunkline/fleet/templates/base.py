"""What stands in each region of a workload account before anything runs."""

from __future__ import annotations

from typing import Any, Final

from troposphere import Ref, Template, ecs, logs  # type: ignore[import-untyped]

from trunkline.fleet.model import Fleet, WorkloadAccount
from trunkline.fleet.templates.document import Json, add_outputs, add_parameters, new_template, rendered
from trunkline.fleet.templates.interface import BaseOutput, BaseParameter, MonitoringOutput
from trunkline.fleet.templates.network import add_network
from trunkline.fleet.templates.peering import add_peering
from trunkline.fleet.templates.registry import add_repositories, pushed_images

_PARAMETERS: Final = {
    BaseParameter.ROUTE_TABLES: "CommaDelimitedList",
    MonitoringOutput.PEER_VPC_ID: "String",
    MonitoringOutput.PEER_ROLE_ARN: "String",
}


def base_template(fleet: Fleet, account: WorkloadAccount, region: str) -> str:
    """Logs, cluster, image repositories and what the network lacks, in one region.

    Log groups and images stay when the stack is deleted. Raises `FleetError` for a network that cannot be made.
    """
    place = f"account {account.account_id}, {region}, {fleet.base_stack}"
    template = new_template(fleet, "logs, cluster, image repositories and network in one region")
    network = account.network(region)
    ways = add_network(template, network, place)
    add_outputs(
        template,
        {
            **add_cluster(template, fleet),
            **add_repositories(template, fleet, pushed_images(fleet, account.services)),
            **ways.outputs(),
            **add_peering(template, fleet, network, ways),
        },
    )
    add_parameters(template, _PARAMETERS)
    return rendered(fleet, template, place, "use fewer endpoints")


def add_cluster(template: Template, fleet: Fleet) -> Json:
    """Add a cluster and the tasks' log group, and return the outputs that tell of them."""
    group = template.add_resource(_log_group(fleet))
    cluster = template.add_resource(
        ecs.Cluster(
            "Cluster",
            ClusterName=fleet.names.cluster,
            # The account's setting may be on, and it is paid for; the collector has these metrics.
            ClusterSettings=[ecs.ClusterSetting(Name="containerInsights", Value="disabled")],
        )
    )
    return {BaseOutput.CLUSTER_NAME: Ref(cluster), BaseOutput.LOG_GROUP_NAME: Ref(group)}


def _log_group(fleet: Fleet) -> Any:
    return logs.LogGroup(
        "LogGroup",
        LogGroupName=fleet.names.log_group,
        RetentionInDays=fleet.log_retention_days,
        DeletionPolicy="RetainExceptOnCreate",
        UpdateReplacePolicy="Retain",
    )
