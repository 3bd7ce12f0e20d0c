from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from trunkline.errors import FleetError
from trunkline.fleet import templates
from trunkline.fleet.model import Fleet, MonitoringAccount, Names


def resources(template: str) -> dict[str, Any]:
    return {name: entry["Properties"] for name, entry in json.loads(template)["Resources"].items()}


def services(fleet: Fleet, index: int = 0) -> dict[str, Any]:
    return resources(templates.services_template(fleet, fleet.workloads[index].services))


def containers(fleet: Fleet) -> dict[str, Any]:
    definitions = services(fleet)["WebShopTask"]["ContainerDefinitions"]
    return {definition["Name"]: definition for definition in definitions}


def all_templates(fleet: Fleet) -> dict[str, str]:
    return {
        "monitoring": templates.monitoring_template(fleet),
        "global": templates.global_template(fleet),
        "base": templates.base_template(fleet),
        "services": templates.services_template(fleet, fleet.workloads[1].services),
    }


def test_cfn_lint_finds_nothing(fleet: Fleet) -> None:
    """One test for all, because importing cfn-lint takes seconds. Its informational rules count too."""
    from cfnlint.api import lint  # type: ignore[import-untyped,unused-ignore]
    from cfnlint.config import ManualArgs  # type: ignore[import-untyped,unused-ignore]

    settings = ManualArgs(regions=["eu-west-1", "us-east-1"], include_checks=["I"])
    checked = all_templates(fleet)
    checked["monitoring with a path"] = templates.monitoring_template(at_a_path(fleet))
    for name, template in checked.items():
        found = lint(template, config=settings)
        assert found == [], f"{name}: {[str(match) for match in found]}"


def at_a_path(fleet: Fleet) -> Fleet:
    return replace(
        fleet, iam_path="/metrics/", external_id="7", collector_configuration="receivers: {otlp: {}}"
    )


def test_templates_are_deterministic_and_fit_into_a_request(fleet: Fleet) -> None:
    assert all_templates(fleet) == all_templates(fleet)
    assert max(map(len, all_templates(fleet).values())) < 51_200


def test_the_central_role_trusts_one_role_in_each_account(fleet: Fleet) -> None:
    role = resources(templates.monitoring_template(replace(fleet, iam_path="/metrics/")))["CentralRole"]
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {
            "AWS": [
                {"Fn::Sub": "arn:${AWS::Partition}:iam::222222222222:root"},
                {"Fn::Sub": "arn:${AWS::Partition}:iam::333333333333:root"},
            ]
        },
        "Condition": {
            "ArnLike": {
                "aws:PrincipalArn": [
                    {
                        "Fn::Sub": "arn:${AWS::Partition}:iam::222222222222:role/metrics/ecs-xaccount-task-role"
                    },
                    {
                        "Fn::Sub": "arn:${AWS::Partition}:iam::333333333333:role/metrics/ecs-xaccount-task-role"
                    },
                ]
            }
        },
    }


def test_the_trust_asks_for_the_external_id(fleet: Fleet) -> None:
    role = resources(templates.monitoring_template(at_a_path(fleet)))["CentralRole"]
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Condition"]["StringEquals"] == {"sts:ExternalId": "7"}


def test_each_role_may_do_one_thing(fleet: Fleet) -> None:
    made = resources(templates.monitoring_template(fleet)) | resources(templates.global_template(fleet))
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


def test_a_trust_policy_that_iam_would_refuse_is_refused_here(fleet: Fleet) -> None:
    def with_accounts(count: int) -> Fleet:
        ids = [f"{number:012}" for number in range(count)]
        return replace(fleet, workloads=tuple(replace(fleet.workloads[0], account_id=i) for i in ids))

    fits = 20
    assert trust_characters(with_accounts(fits)) <= 2048
    per_account = trust_characters(with_accounts(fits)) - trust_characters(with_accounts(fits - 1))
    too_many = fits + 1 + (2048 - trust_characters(with_accounts(fits))) // per_account
    templates.monitoring_template(with_accounts(too_many - 1))
    with pytest.raises(FleetError, match=rf"characters for {too_many} workload accounts, and IAM takes 2048"):
        templates.monitoring_template(with_accounts(too_many))


def trust_characters(fleet: Fleet) -> int:
    """As IAM counts the policy that CloudFormation makes of it."""
    role = resources(templates.monitoring_template(fleet))["CentralRole"]
    text = json.dumps(role["AssumeRolePolicyDocument"], separators=(",", ":"))
    resolved = re.sub(r'{"Fn::Sub":("[^"]*")}', r"\1", text.replace("${AWS::Partition}", "aws"))
    return len(resolved)


def test_ecs_acts_for_this_account_only(fleet: Fleet) -> None:
    for role in resources(templates.global_template(fleet)).values():
        [statement] = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
        assert statement["Condition"]["ArnLike"] == {
            "aws:SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:ecs:*:${AWS::AccountId}:*"}
        }


def test_the_collector_never_takes_the_application_down(fleet: Fleet) -> None:
    collector = containers(fleet)["aws-otel-collector"]
    application = containers(fleet)["prometheus-demo-app"]
    assert collector["Essential"] is False
    assert collector["RestartPolicy"]["Enabled"] is True
    assert application["Essential"] is True
    assert application["DependsOn"] == [{"ContainerName": "aws-otel-collector", "Condition": "START"}]


def test_the_collector_writes_nowhere_but_into_its_volume(fleet: Fleet) -> None:
    collector = containers(fleet)["aws-otel-collector"]
    assert collector["ReadonlyRootFilesystem"] is True
    assert collector["User"] == "10001:10001"
    environment = {entry["Name"]: entry["Value"] for entry in collector["Environment"]}
    assert environment["TRUNKLINE_DATA_DIR"] == collector["MountPoints"][0]["ContainerPath"]


def test_the_collector_runs_the_reference_configuration(fleet: Fleet) -> None:
    environment = {e["Name"]: e["Value"] for e in containers(fleet)["aws-otel-collector"]["Environment"]}
    assert environment["WORKSPACE_ID"] == {"Ref": "WorkspaceId"}
    assert environment["CENTRAL_ACCOUNT_ID"] == "111111111111"
    assert environment["AWS_REGION"] == {"Ref": "AWS::Region"}
    exporter = yaml.safe_load(environment["AOT_CONFIG_CONTENT"])["exporters"]["awsprometheusremotewrite"]
    assert exporter == {
        "endpoint": "https://aps-workspaces.eu-west-1.amazonaws.com"
        "/workspaces/${env:WORKSPACE_ID}/api/v1/remote_write",
        "aws_auth": {
            "region": "eu-west-1",
            "service": "aps",
            "role_arn": "arn:aws:iam::${env:CENTRAL_ACCOUNT_ID}:role/ECS-AMP-Central-Role",
        },
    }


def test_the_configuration_follows_the_workspace_and_the_role(fleet: Fleet) -> None:
    elsewhere = replace(
        fleet,
        monitoring=MonitoringAccount(account_id="111111111111", region="us-west-2"),
        names=Names(central_role="Door"),
        iam_path="/metrics/",
    )
    exporters = yaml.safe_load(templates.collector_configuration(elsewhere))["exporters"]
    exporter = exporters["awsprometheusremotewrite"]
    assert exporter["endpoint"].startswith("https://aps-workspaces.us-west-2.amazonaws.com/")
    assert exporter["aws_auth"]["region"] == "us-west-2"
    assert exporter["aws_auth"]["role_arn"].endswith(":role/metrics/Door")


def test_a_configuration_of_ones_own_stays_as_it_is(fleet: Fleet) -> None:
    own = replace(fleet, collector_configuration="receivers: {}  # eu-west-1")
    assert templates.collector_configuration(own) == "receivers: {}  # eu-west-1"


def test_every_service_is_made(fleet: Fleet) -> None:
    made = services(fleet, index=1)
    assert sorted(made) == ["BillingService", "BillingTask", "WebShopService", "WebShopTask"]
    assert services(fleet)["WebShopService"]["DesiredCount"] == 2
