"""The monitoring account: the workspace with its rules, the only door to it, and Grafana if asked for."""

from __future__ import annotations

from typing import Any, Final

from troposphere import GetAtt, Sub, Template, aps  # type: ignore[import-untyped]

from trunkline.dashboards.rules import rules
from trunkline.errors import FleetError
from trunkline.fleet.model import Fleet, SeriesLimit, Workspace
from trunkline.fleet.templates.document import (
    Json,
    add_outputs,
    allow,
    arn,
    inline,
    new_template,
    rendered,
    role,
)
from trunkline.fleet.templates.grafana import add_grafana
from trunkline.fleet.templates.interface import QUERY_ACTIONS, MonitoringOutput
from trunkline.fleet.templates.peering import add_workspace_vpc
from trunkline.fleet.templates.trust import account_trust, central_trust

_MAX_NAMESPACE: Final = 64


def monitoring_template(fleet: Fleet) -> str:
    """The workspace, the role that workload tasks assume to write to it, and a role that may only query.

    Where VPCs are to be peered, also the one they are peered with, which has the workspace's endpoint.
    A workspace of the fleet's own stays when the stack is deleted, for it holds data. Raises `FleetError` when
    the workload accounts do not fit into the central role's trust policy, or a workspace that exists is to be changed.
    """
    template = new_template(fleet, "the workspace and the only door to it")
    workspace = _add_workspace(template, fleet)
    workspace_arn = workspace[MonitoringOutput.WORKSPACE_ARN]
    template.add_resource(_rules(fleet, workspace_arn))
    central_role = template.add_resource(_central_role(fleet, workspace_arn))
    query_role = template.add_resource(_query_role(fleet, workspace_arn))
    roles = {
        MonitoringOutput.CENTRAL_ROLE_ARN: GetAtt(central_role, "Arn"),
        MonitoringOutput.QUERY_ROLE_ARN: GetAtt(query_role, "Arn"),
    }
    peering = add_workspace_vpc(template, fleet)
    add_outputs(template, workspace | roles | add_grafana(template, fleet, workspace_arn) | peering)
    return rendered(
        fleet,
        template,
        f"account {fleet.monitoring.account_id}, {fleet.monitoring.region}, {fleet.monitoring_stack}",
        "use fewer limits of series, or peer fewer VPCs",
    )


def _add_workspace(template: Template, fleet: Fleet) -> Json:
    """The outputs that tell of the workspace, made here or found."""
    asked = fleet.monitoring.workspace
    configuration = _configuration(asked)
    if asked.id_ and configuration:
        raise FleetError(
            f"workspace {asked.id_} is used as it is: its retention, out-of-order window and limits are its owner's; "
            "leave them out here and set them there"
        )
    if asked.id_:
        return _outputs_of(asked.id_)
    workspace = template.add_resource(
        aps.Workspace(
            "Workspace",
            Alias=fleet.names.workspace_alias,
            **configuration,
            # Its data outlives the stack, but not a creation that failed.
            DeletionPolicy="RetainExceptOnCreate",
            UpdateReplacePolicy="Retain",
        )
    )
    return {
        MonitoringOutput.WORKSPACE_ID: GetAtt(workspace, "WorkspaceId"),
        MonitoringOutput.WORKSPACE_ARN: GetAtt(workspace, "Arn"),
        MonitoringOutput.PROMETHEUS_ENDPOINT: GetAtt(workspace, "PrometheusEndpoint"),
    }


def _outputs_of(workspace_id: str) -> Json:
    host = "https://aps-workspaces.${AWS::Region}.${AWS::URLSuffix}"
    return {
        MonitoringOutput.WORKSPACE_ID: workspace_id,
        MonitoringOutput.WORKSPACE_ARN: arn(
            f"aps:${{AWS::Region}}:${{AWS::AccountId}}:workspace/{workspace_id}"
        ),
        MonitoringOutput.PROMETHEUS_ENDPOINT: Sub(f"{host}/workspaces/{workspace_id}/api/v1/"),
    }


def _configuration(workspace: Workspace) -> Json:
    asked = {
        "RetentionPeriodInDays": workspace.retention_days,
        "OutOfOrderTimeWindowInSeconds": workspace.out_of_order_window_s,
        "LimitsPerLabelSets": [_limit(limit) for limit in workspace.limits] or None,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return {"WorkspaceConfiguration": aps.WorkspaceConfiguration(**given)} if given else {}


def _limit(limit: SeriesLimit) -> Any:
    return aps.LimitsPerLabelSet(
        LabelSet=[aps.Label(Name=name, Value=value) for name, value in sorted(limit.labels.items())],
        Limits=aps.LimitsPerLabelSetEntry(MaxSeries=limit.max_series),
    )


def _rules(fleet: Fleet, workspace_arn: Any) -> Any:
    """Recording and alerting rules, under the fleet's name: fleets may share a workspace."""
    return aps.RuleGroupsNamespace(
        "Rules", Name=fleet.name[:_MAX_NAMESPACE], Workspace=workspace_arn, Data=rules()
    )


def _central_role(fleet: Fleet, workspace_arn: Any) -> Any:
    return role(
        fleet,
        "CentralRole",
        fleet.names.central_role,
        description="Assumed by the tasks of the workload accounts to write to the workspace.",
        trust=central_trust(fleet),
        policies=[inline("remote-write", allow(["aps:RemoteWrite"], workspace_arn))],
    )


def _query_role(fleet: Fleet, workspace_arn: Any) -> Any:
    return role(
        fleet,
        "QueryRole",
        fleet.names.query_role,
        description="Reads the workspace and writes nothing.",
        trust=account_trust(),
        policies=[inline("query", allow(QUERY_ACTIONS, workspace_arn))],
    )
