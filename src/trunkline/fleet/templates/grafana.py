"""A managed Grafana workspace beside the Prometheus one, and the role it reads with."""

from __future__ import annotations

from typing import Any

from troposphere import GetAtt, Ref, Template, grafana  # type: ignore[import-untyped]

from trunkline.fleet.model import Fleet
from trunkline.fleet.templates.document import Json, allow, inline, role
from trunkline.fleet.templates.interface import QUERY_ACTIONS, MonitoringOutput
from trunkline.fleet.templates.trust import service_trust


def add_grafana(template: Template, fleet: Fleet, workspace_arn: Any) -> Json:
    """Add it if the fleet asks for it, and return the outputs that tell of it.

    Nobody can log in until permissions are given, which CloudFormation cannot do.
    """
    asked = fleet.monitoring.grafana
    if asked is None:
        return {}
    reader = template.add_resource(_role(fleet, workspace_arn))
    made = template.add_resource(
        grafana.Workspace(
            "Grafana",
            Name=fleet.names.grafana,
            GrafanaVersion=asked.version,
            AccountAccessType="CURRENT_ACCOUNT",
            AuthenticationProviders=list(asked.authentication),
            PermissionType="CUSTOMER_MANAGED",
            RoleArn=GetAtt(reader, "Arn"),
            DataSources=["PROMETHEUS"],
        )
    )
    return {
        MonitoringOutput.GRAFANA_ID: Ref(made),
        MonitoringOutput.GRAFANA_ENDPOINT: GetAtt(made, "Endpoint"),
    }


def _role(fleet: Fleet, workspace_arn: Any) -> Any:
    query = allow(["aps:DescribeWorkspace", *QUERY_ACTIONS], workspace_arn)
    # Grafana's list of workspaces to choose from; the action knows no resource.
    choose = allow(["aps:ListWorkspaces"], "*")
    return role(
        fleet,
        "GrafanaRole",
        fleet.names.grafana_role,
        description="What Grafana reads the workspace with.",
        trust=service_trust(
            "grafana.amazonaws.com", "grafana:${AWS::Region}:${AWS::AccountId}:/workspaces/*"
        ),
        policies=[inline("query", query, choose)],
    )
