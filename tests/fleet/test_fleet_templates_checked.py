"""What holds for every template of every kind of fleet, by linters where there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.fleet.kinds_of_fleets import KINDS, MONITORING, policies, templates_of_kind

from trunkline.fleet.templates import MAX_TEMPLATE_BYTES

# parliament's community auditors name every action that returns credentials. These are what the roles are for:
# each has its one target or, where the action knows no resource, cannot have one.
RETURNS_CREDENTIALS = {"sts:AssumeRole", "ecr:GetAuthorizationToken"}
KNOWS_NO_RESOURCE = {"aps:ListWorkspaces", "ecr:GetAuthorizationToken"}


@pytest.mark.parametrize("kind", KINDS)
def test_cfn_lint_finds_nothing(kind: str) -> None:
    for name, template in templates_of_kind(kind).items():
        assert cfn_lint(template) == [], name


@cache
def cfn_lint(template: str) -> list[str]:
    """Its findings; its informational rules count too, and none is left out. Fleets share templates, hence the cache."""
    from cfnlint.api import lint  # type: ignore[import-untyped,unused-ignore]
    from cfnlint.config import ManualArgs  # type: ignore[import-untyped,unused-ignore]

    settings = ManualArgs(regions=["eu-west-1"], include_checks=["I"])
    return [str(match) for match in lint(template, config=settings)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_linter_finds_nothing(kind: str) -> None:
    for name, policy_kind, document in all_policies(kind):
        assert findings(policy_kind, document) == [], f"{name}: {document}"


def test_the_policy_linter_does_find_something() -> None:
    def check(action: str, resource: str, expected: str) -> None:
        statement = {"Effect": "Allow", "Action": [action], "Resource": resource}
        assert expected in findings("identity", {"Version": "2012-10-17", "Statement": [statement]})

    check("aps:RemoteWritten", "*", "UNKNOWN_ACTION")
    check("aps:RemoteWrite", "arn:aws:s3:::bucket", "RESOURCE_MISMATCH")
    check("iam:PassRole", "*", "RESOURCE_STAR")


def findings(kind: str, document: dict[str, Any]) -> list[str]:
    """parliament's, by name. It wants a resource in every statement, which trust and repositories do not have."""
    from parliament import analyze_policy_string  # type: ignore[import-untyped,unused-ignore]

    implied = {
        "trust": f"arn:aws:iam::{MONITORING}:role/any",
        "resource": f"arn:aws:ecr:eu-west-1:{MONITORING}:repository/any",
    }
    statements = [
        {**statement, **({"Resource": implied[kind]} if kind in implied else {})}
        for statement in document["Statement"]
    ]
    text = json.dumps({**document, "Statement": statements})
    found = [
        finding.issue for finding in analyze_policy_string(text, include_community_auditors=True).findings
    ]
    actions = {action for statement in statements for action in many(statement["Action"])}
    return [issue for issue in found if issue != "CREDENTIALS_EXPOSURE" or not actions & RETURNS_CREDENTIALS]


@pytest.mark.parametrize("kind", KINDS)
def test_no_wildcard_without_need(kind: str) -> None:
    for name, policy_kind, document in all_policies(kind):
        for statement in document["Statement"]:
            actions = many(statement["Action"])
            assert not any("*" in action for action in actions), name
            if "*" in many(statement.get("Resource", [])):
                assert set(actions) <= KNOWS_NO_RESOURCE, name
            if statement.get("Principal") == "*":
                # The documented exception: everybody, as far as the organisation reaches.
                assert statement["Condition"]["StringEquals"]["aws:PrincipalOrgID"].startswith("o-"), name
                assert policy_kind == "resource" or "ArnLike" in statement["Condition"], name


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_takes_tags_has_the_fleets(kind: str) -> None:
    """What takes tags is known from the resource types' schemas, which cfn-lint brings along."""
    fleet = KINDS[kind]()
    expected = [{"Key": key, "Value": value} for key, value in sorted(fleet.tags.items())]
    checked = set()
    for template in templates_of_kind(kind).values():
        for name, resource in json.loads(template)["Resources"].items():
            tags = sorted(resource["Properties"].get("Tags", []), key=lambda tag: str(tag["Key"]))
            assert tags == (expected if taggable(resource["Type"]) else []), name
            checked.add(resource["Type"])
    assert {"AWS::IAM::Role", "AWS::APS::RuleGroupsNamespace"} <= checked


def taggable(resource_type: str) -> bool:
    from cfnlint.schema.manager import (  # type: ignore[import-untyped,unused-ignore]
        PROVIDER_SCHEMA_MANAGER,
    )

    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("eu-west-1", resource_type).schema
    return "Tags" in schema["properties"] and schema.get("tagging", {}).get("taggable", True)


@pytest.mark.parametrize("kind", KINDS)
def test_templates_fit_into_a_request(kind: str) -> None:
    assert max(len(template.encode()) for template in templates_of_kind(kind).values()) <= MAX_TEMPLATE_BYTES


def test_templates_are_the_same_in_every_process() -> None:
    """Python orders sets otherwise in each, unless told."""
    script = (
        "import json; from tests.fleet.kinds_of_fleets import KINDS, templates_of_kind; "
        "print(json.dumps({kind: templates_of_kind(kind) for kind in KINDS}))"
    )

    def written(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert written("1") == written("2")


@pytest.mark.parametrize("kind", KINDS)
def test_what_holds_data_outlives_its_stack(kind: str) -> None:
    """But not a creation that failed: what is in the way then would stop the next."""
    holds_data = {"AWS::APS::Workspace", "AWS::Logs::LogGroup", "AWS::ECR::Repository"}
    for template in templates_of_kind(kind).values():
        for resource in json.loads(template)["Resources"].values():
            kept = (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
            expected = ("RetainExceptOnCreate", "Retain") if resource["Type"] in holds_data else (None, None)
            assert kept == expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_role_has_the_path_and_the_boundary(kind: str) -> None:
    fleet = KINDS[kind]()
    boundary = fleet.permissions_boundary
    expected = {
        "": None,
        "Boundary": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:policy/Boundary"},
    }
    for template in templates_of_kind(kind).values():
        for resource in json.loads(template)["Resources"].values():
            if resource["Type"] == "AWS::IAM::Role":
                assert resource["Properties"]["Path"] == fleet.iam_path
                assert resource["Properties"].get("PermissionsBoundary") == expected.get(boundary, boundary)


def all_policies(kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    found = {
        json.dumps(document, sort_keys=True): (f"{title} {name}", policy_kind, document)
        for title, template in templates_of_kind(kind).items()
        for name, policy_kind, document in policies(template)
    }
    assert found
    yield from found.values()


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
