"""Whom the central role trusts, in which form, and where it ends."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.fleet.kinds_of_fleets import (
    EXISTING,
    FIRST,
    MONITORING,
    SECOND,
    account,
    of_accounts,
    of_an_organization,
    policies,
    reference,
    resources,
)

from trunkline.aws.iam import AccessRequest, Policies, Principal, evaluate, parse_policy
from trunkline.errors import FleetError
from trunkline.fleet.model import Fleet, Names, Organization, Service
from trunkline.fleet.templates import monitoring_template, trust_size

ORGANIZATION = Organization(id_="o-abcdefghij")


def trust(fleet: Fleet) -> dict[str, Any]:
    """As IAM gets it."""
    found = {
        name: document for name, kind, document in policies(monitoring_template(fleet)) if kind == "trust"
    }
    return found["CentralRole"]


def trusted(fleet: Fleet, role: str, account_id: str = FIRST, **context: str) -> bool:
    """Whether a session of this role (`role/path/name`) may assume the central one, as IAM decides."""
    policy = parse_policy({**trust(fleet)})
    arn = f"arn:aws:iam::{account_id}:{role}"
    session = f"arn:aws:sts::{account_id}:assumed-role/{role.rpartition('/')[2]}/session"
    request = AccessRequest(
        principal=Principal(account=account_id, arn=session, principal_arn=arn),
        action="sts:AssumeRole",
        resource=f"arn:aws:iam::{MONITORING}:role/central",
        resource_account=MONITORING,
        context=context,
    )
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
    identity = [parse_policy({"Version": "2012-10-17", "Statement": [statement]})]
    return evaluate(request, Policies(identity=identity, resource=policy, resource_required=True)).allowed


TASK_ROLE = "role/ecs-xaccount-task-role"


def test_only_the_task_roles_of_the_accounts_get_in() -> None:
    def check(fleet: Fleet) -> None:
        known = fleet.workloads[0].account_id
        assert trusted(fleet, TASK_ROLE, known)
        assert not trusted(fleet, TASK_ROLE, "999999999999")
        assert not trusted(fleet, "role/another", known)
        assert not trusted(fleet, f"{TASK_ROLE}-and-more", known)
        assert not trusted(fleet, "role/path/ecs-xaccount-task-role", known)

    check(reference())
    check(of_accounts(40))


def test_the_path_belongs_to_the_role() -> None:
    fleet = replace(reference(), iam_path="/metrics/")
    assert trusted(fleet, "role/metrics/ecs-xaccount-task-role")
    assert not trusted(fleet, TASK_ROLE)


def test_the_trust_asks_for_the_external_id() -> None:
    fleet = replace(reference(), external_id="7")
    assert trusted(fleet, TASK_ROLE, **{"sts:ExternalId": "7"})
    assert not trusted(fleet, TASK_ROLE, **{"sts:ExternalId": "8"})
    assert not trusted(fleet, TASK_ROLE)


def test_an_organization_is_trusted_as_far_as_it_reaches() -> None:
    fleet = of_an_organization()
    inside = {"aws:PrincipalOrgID": "o-abcdefghij", "sts:ExternalId": "7"}
    assert trusted(fleet, "role/metrics/ecs-xaccount-task-role", "999999999999", **inside)
    assert not trusted(fleet, "role/metrics/another", "999999999999", **inside)
    outside = {**inside, "aws:PrincipalOrgID": "o-0000000000"}
    assert not trusted(fleet, "role/metrics/ecs-xaccount-task-role", **outside)


def test_a_task_definitions_own_role_is_trusted_too() -> None:
    old = Service(name="old", task_definition=json.dumps(EXISTING))
    fleet = replace(reference(), workloads=(account(FIRST, services=(old,)), account(SECOND)))
    assert trusted(fleet, "role/apps/shop")
    assert trusted(fleet, TASK_ROLE, SECOND)
    assert not trusted(fleet, "role/apps/shop", SECOND)


def test_the_narrowest_form_that_fits_is_taken() -> None:
    """The numbers of accounts are those that IAM's default and highest quota have room for."""

    def check(accounts: int, form: str, **more: Any) -> None:
        fleet = of_accounts(accounts, **more)
        size = trust_size(fleet)
        assert size.form == form
        assert size.characters == len(json.dumps(trust(fleet), separators=(",", ":"))) <= size.limit

    check(1, "roles")
    check(2, "roles")
    check(21, "roles")
    check(22, "pattern")
    check(56, "pattern")
    check(57, "organization", organization=ORGANIZATION)
    check(44, "roles", trust_characters=4096)
    check(118, "pattern", trust_characters=4096)
    check(118, "organization", organization=ORGANIZATION)
    check(5000, "organization", organization=ORGANIZATION)


def test_a_trust_policy_that_iam_would_refuse_is_refused_here() -> None:
    def check(fleet: Fleet, *expected: str) -> None:
        with pytest.raises(FleetError) as raised:
            monitoring_template(fleet)
        for words in expected:
            assert words in str(raised.value)

    organization = "name the organization of the accounts"
    check(of_accounts(57), "characters for 57 workload accounts, and IAM takes 2048", organization, "4096")
    check(of_accounts(200), "characters for 200 workload accounts", organization, "use several fleets")
    with pytest.raises(FleetError) as raised:
        trust_size(of_accounts(200))
    assert "have the quota" not in str(raised.value)  # which would not help


def test_an_organization_that_is_not_needed_is_not_trusted() -> None:
    fleet = of_accounts(2, organization=ORGANIZATION)
    assert trust_size(fleet).form == "roles"
    assert trust_size(of_an_organization()).form == "organization"  # units have accounts that nobody named


def test_names_count_as_they_are() -> None:
    short = trust_size(reference())
    long = trust_size(replace(reference(), names=Names(task_role="x" * 60)))
    assert long.characters - short.characters == 2 * (60 - len("ecs-xaccount-task-role"))


def test_a_role_of_another_account_is_refused() -> None:
    old = Service(name="old", task_definition=json.dumps(EXISTING), place="fleet.yaml:12:7")
    fleet = replace(reference(), workloads=(account(SECOND, services=(old,)),))
    with pytest.raises(FleetError) as raised:
        monitoring_template(fleet)
    assert str(raised.value) == (
        f"fleet.yaml:12:7: the task definition of service old has the role arn:aws:iam::{FIRST}:role/apps/shop, which "
        f"is not in {SECOND}; give each account its own task definition, or take taskRoleArn out: then it gets the "
        "fleet's"
    )


def test_ecs_and_grafana_act_for_this_account_only() -> None:
    from tests.fleet.kinds_of_fleets import templates_of_kind

    made = {
        name: properties
        for template in templates_of_kind("everything").values()
        for name, properties in resources(template).items()
    }

    def check(role: str, service: str, source: str) -> None:
        [statement] = made[role]["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": service}
        assert statement["Condition"] == {
            "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
            "ArnLike": {"aws:SourceArn": {"Fn::Sub": f"arn:${{AWS::Partition}}:{source}"}},
        }

    ecs = "ecs:*:${AWS::AccountId}:*"
    check("TaskRole", "ecs-tasks.amazonaws.com", ecs)
    check("ExecutionRole", "ecs-tasks.amazonaws.com", ecs)
    check("GrafanaRole", "grafana.amazonaws.com", "grafana:${AWS::Region}:${AWS::AccountId}:/workspaces/*")
