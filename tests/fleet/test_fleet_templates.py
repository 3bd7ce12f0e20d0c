"""The monitoring account's template, an account's roles, the base of a region, and the organisation's registry."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from tests.fleet.kinds_of_fleets import (
    FIRST,
    MONITORING,
    OWN,
    WORKSPACE,
    account,
    of_an_organization,
    of_named_things,
    reference,
    resources,
    templates_of_kind,
    with_everything,
)

from trunkline.dashboards.rules import rules
from trunkline.errors import FleetError
from trunkline.fleet import templates
from trunkline.fleet.model import Fleet


def outputs(template: str) -> dict[str, Any]:
    return {name: output["Value"] for name, output in json.loads(template)["Outputs"].items()}


def monitoring(fleet: Fleet) -> dict[str, Any]:
    return resources(templates.monitoring_template(fleet))


def statements(properties: dict[str, Any], policy: str) -> list[dict[str, Any]]:
    [found] = [each for each in properties["Policies"] if each["PolicyName"] == policy]
    listed: list[dict[str, Any]] = found["PolicyDocument"]["Statement"]
    return listed


# Monitoring


def test_each_role_may_do_one_thing() -> None:
    made = monitoring(reference())
    made |= resources(templates.global_template(reference(), reference().workloads[0]))
    workspace = {"Fn::GetAtt": ["Workspace", "Arn"]}

    def check(role: str, policy: str, actions: list[str], resource: object) -> None:
        document = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resource}],
        }
        assert made[role]["Policies"] == [{"PolicyName": policy, "PolicyDocument": document}]

    check("CentralRole", "remote-write", ["aps:RemoteWrite"], workspace)
    check("QueryRole", "query", list(templates.QUERY_ACTIONS), workspace)
    central = {"Fn::Sub": "arn:${AWS::Partition}:iam::111111111111:role/ECS-AMP-Central-Role"}
    check("TaskRole", "xaccount-amp-write", ["sts:AssumeRole"], central)
    assert "Policies" not in made["ExecutionRole"]


def test_what_is_left_out_is_left_to_amp() -> None:
    assert "WorkspaceConfiguration" not in monitoring(reference())["Workspace"]


def test_the_workspace_is_as_it_is_asked_for() -> None:
    assert monitoring(with_everything())["Workspace"]["WorkspaceConfiguration"] == {
        "RetentionPeriodInDays": 300,
        "OutOfOrderTimeWindowInSeconds": 120,
        "LimitsPerLabelSets": [
            {
                "LabelSet": [{"Name": "cloud_account_id", "Value": FIRST}],
                "Limits": {"MaxSeries": 1_000_000},
            }
        ],
    }


def test_a_window_of_zero_is_no_window_and_not_the_default() -> None:
    fleet = reference()
    asked = replace(fleet.monitoring.workspace, out_of_order_window_s=0)
    made = monitoring(replace(fleet, monitoring=replace(fleet.monitoring, workspace=asked)))
    assert made["Workspace"]["WorkspaceConfiguration"] == {"OutOfOrderTimeWindowInSeconds": 0}


def test_the_rules_are_those_of_the_dashboards() -> None:
    made = monitoring(reference())["Rules"]
    assert made["Workspace"] == {"Fn::GetAtt": ["Workspace", "Arn"]}
    assert made["Data"] == rules()
    [group] = yaml.safe_load(made["Data"])["groups"]
    assert {"record", "alert"} <= {key for rule in group["rules"] for key in rule}


def test_a_workspace_that_exists_is_used_and_not_made() -> None:
    template = templates.monitoring_template(of_named_things())
    assert "Workspace" not in resources(template)
    arn = {
        "Fn::Sub": f"arn:${{AWS::Partition}}:aps:${{AWS::Region}}:${{AWS::AccountId}}:workspace/{WORKSPACE}"
    }
    said = outputs(template)
    assert said["WorkspaceId"] == WORKSPACE
    assert said["WorkspaceArn"] == arn
    assert said["PrometheusEndpoint"] == {
        "Fn::Sub": "https://aps-workspaces.${AWS::Region}.${AWS::URLSuffix}/workspaces/"
        + WORKSPACE
        + "/api/v1/"
    }
    assert resources(template)["Rules"]["Workspace"] == arn
    assert statements(resources(template)["CentralRole"], "remote-write")[0]["Resource"] == arn


def test_a_workspace_that_exists_is_not_changed() -> None:
    fleet = of_named_things()
    asked = replace(fleet.monitoring.workspace, retention_days=30)
    with pytest.raises(FleetError, match=f"workspace {WORKSPACE} is used as it is: its retention"):
        monitoring(replace(fleet, monitoring=replace(fleet.monitoring, workspace=asked)))


def test_grafana_is_made_if_asked_for() -> None:
    assert "Grafana" not in monitoring(reference())
    template = templates.monitoring_template(with_everything())
    made = resources(template)
    assert made["Grafana"]["AuthenticationProviders"] == ["AWS_SSO", "SAML"]
    assert made["Grafana"]["PermissionType"] == "CUSTOMER_MANAGED"
    assert made["Grafana"]["RoleArn"] == {"Fn::GetAtt": ["GrafanaRole", "Arn"]}
    query, choose = statements(made["GrafanaRole"], "query")
    assert query["Action"] == ["aps:DescribeWorkspace", *templates.QUERY_ACTIONS]
    assert (choose["Action"], choose["Resource"]) == (["aps:ListWorkspaces"], "*")
    assert outputs(template)["GrafanaEndpoint"] == {"Fn::GetAtt": ["Grafana", "Endpoint"]}


# Roles


def test_the_execution_role_reads_the_secrets_that_are_named() -> None:
    made = resources(templates.global_template(reference(), account(FIRST, services=(OWN,))))
    secrets, parameters = statements(made["ExecutionRole"], "secrets")
    assert secrets["Action"] == ["secretsmanager:GetSecretValue"]
    assert secrets["Resource"] == [f"arn:aws:secretsmanager:eu-west-1:{FIRST}:secret:front-abcdef"]
    assert parameters["Action"] == ["ssm:GetParameters"]
    assert parameters["Resource"] == [
        {"Fn::Sub": "arn:${AWS::Partition}:ssm:*:${AWS::AccountId}:parameter/front/flag"}
    ]


def test_accounts_that_are_alike_share_their_templates() -> None:
    first, second = account(FIRST), account("444444444444")
    fleet = replace(reference(), workloads=(first, second))
    assert templates.global_template(fleet, first) == templates.global_template(fleet, second)
    for make in (templates.base_template, templates.services_template):
        assert make(fleet, first, "eu-west-1") == make(fleet, second, "eu-west-1")


# Base


def test_images_are_scanned_and_tags_are_immutable() -> None:
    found = resources(templates.base_template(reference(), reference().workloads[0], "eu-west-1"))
    for repository in ("CollectorRepository", "ApplicationRepository"):
        assert found[repository]["ImageTagMutability"] == "IMMUTABLE"
        assert found[repository]["ImageScanningConfiguration"] == {"ScanOnPush": True}


def test_only_images_that_are_pushed_have_a_repository() -> None:
    def check(fleet: Fleet, *expected: str) -> None:
        template = templates.base_template(fleet, fleet.workloads[0], "eu-west-1")
        assert {name for name in resources(template) if "Repository" in name} == set(expected)
        assert {name.removesuffix("Uri") for name in outputs(template) if "Repository" in name} == set(
            expected
        )

    check(reference(), "CollectorRepository", "ApplicationRepository")
    own = account(FIRST, services=(OWN,))
    check(replace(reference(), workloads=(own,)), "CollectorRepository")
    check(of_named_things())


def test_logs_are_kept_as_long_as_asked_for() -> None:
    def check(fleet: Fleet, days: int) -> None:
        made = resources(templates.base_template(fleet, fleet.workloads[0], "eu-west-1"))
        assert made["LogGroup"]["RetentionInDays"] == days

    check(reference(), 14)
    check(with_everything(), 30)


def test_container_insights_are_off() -> None:
    made = resources(templates.base_template(reference(), reference().workloads[0], "eu-west-1"))
    assert made["Cluster"]["ClusterSettings"] == [{"Name": "containerInsights", "Value": "disabled"}]


# Organisation


def test_the_organization_pulls_and_nobody_else() -> None:
    made = resources(templates_of_kind("organization")["registry"])
    assert set(made) == {"CollectorRepository", "ApplicationRepository"}
    for properties in made.values():
        [statement] = properties["RepositoryPolicyText"]["Statement"]
        assert statement["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-abcdefghij"}}
        assert not [action for action in statement["Action"] if "Put" in action or "Delete" in action]


def test_the_units_roles_know_the_central_one() -> None:
    made = resources(templates_of_kind("organization")["units' roles"])
    [statement] = statements(made["TaskRole"], of_an_organization().names.assume_policy)
    role = f"arn:${{AWS::Partition}}:iam::{MONITORING}:role/metrics/ECS-AMP-Central-Role"
    assert statement["Resource"] == {"Fn::Sub": role}


def test_without_an_organization_there_are_no_templates_for_units() -> None:
    for make in (templates.registry_template, templates.organization_template):
        with pytest.raises(FleetError, match="name the organization"):
            make(reference())
