"""StackSets at the simulator's front door: real stacks in the accounts of an organisation's unit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.fleet.conftest import administrators
from tests.simulator.frontdoor_live import Live

from trunkline.errors import FleetError
from trunkline.fleet.deploy import deploy_fleet
from trunkline.fleet.destroy import destroy_fleet
from trunkline.fleet.members import with_members
from trunkline.fleet.model import Fleet, MonitoringAccount, Organization, Service
from trunkline.fleet.plan import plan_fleet
from trunkline.fleet.preflight import preflight
from trunkline.fleet.proof import leftovers
from trunkline.fleet.sessions import Session
from trunkline.fleet.stacksets import StackSet, delete_stack_set, deploy_stack_set
from trunkline.fleet.status import fleet_status
from trunkline.fleet.verify import verify_fleet
from trunkline.fleet.watch import Follower

MANAGEMENT = "977777777777"
REGIONS = ("eu-west-1", "us-east-1")


class Unit:
    """An organisation's unit with two accounts in it."""

    def __init__(self, live: Live) -> None:
        organizations = administrators(live, [MANAGEMENT])(MANAGEMENT, "us-east-1").client("organizations")
        [root] = organizations.list_roots()["Roots"]
        unit = organizations.create_organizational_unit(ParentId=root["Id"], Name="shops")[
            "OrganizationalUnit"
        ]
        self.id_ = unit["Id"]
        self.accounts = []
        for name in ("one", "two"):
            made = organizations.create_account(Email=f"{name}@example.com", AccountName=name)
            account = made["CreateAccountStatus"]["AccountId"]
            organizations.move_account(
                AccountId=account, SourceParentId=root["Id"], DestinationParentId=self.id_
            )
            self.accounts.append(account)
        self.sessions = administrators(live, [MANAGEMENT, *self.accounts])
        self.cloudformation = self.sessions(MANAGEMENT, "eu-west-1").client("cloudformation")

    def log_groups(self) -> dict[tuple[str, str], list[int]]:
        return {
            (account, region): [
                group["retentionInDays"]
                for group in self.sessions(account, region).client("logs").describe_log_groups()["logGroups"]
            ]
            for account in self.accounts
            for region in REGIONS
        }


@pytest.fixture(scope="module")
def unit(live: Live) -> Unit:
    return Unit(live)


@pytest.fixture(autouse=True)
def cleared(unit: Unit) -> Iterator[None]:
    yield
    delete_stack_set(unit.cloudformation, wanted(unit), Follower(lambda _: None))


def wanted(unit: Unit, days: str = "1", regions: tuple[str, ...] = REGIONS, **more: Any) -> StackSet:
    group = {
        "Type": "AWS::Logs::LogGroup",
        "Properties": {"LogGroupName": "set", "RetentionInDays": {"Ref": "Days"}},
    }
    template = {"Parameters": {"Days": {"Type": "Number"}}, "Resources": {"Group": group, **more}}
    return StackSet(
        name="everywhere",
        template=json.dumps(template),
        units=(unit.id_,),
        regions=regions,
        parameters={"Days": days},
        tags={"of": "tests"},
    )


def test_it_reaches_every_account_and_region_of_the_unit(unit: Unit) -> None:
    texts: list[str] = []
    assert deploy_stack_set(unit.cloudformation, wanted(unit), Follower(texts.append))
    assert unit.log_groups() == {(account, region): [1] for account in unit.accounts for region in REGIONS}
    assert f"account {unit.accounts[1]}, us-east-1: succeeded" in texts
    assert not deploy_stack_set(unit.cloudformation, wanted(unit), Follower(texts.append))
    assert texts[-1] == "unchanged"


def test_it_is_updated_and_extended(unit: Unit) -> None:
    follower = Follower(lambda _: None)
    deploy_stack_set(unit.cloudformation, wanted(unit, regions=REGIONS[:1]), follower)
    assert unit.log_groups()[unit.accounts[0], "us-east-1"] == []
    assert deploy_stack_set(unit.cloudformation, wanted(unit, days="3"), follower)
    assert set(map(tuple, unit.log_groups().values())) == {(3,)}


def test_it_is_deleted_with_its_stacks(unit: Unit) -> None:
    follower = Follower(lambda _: None)
    deploy_stack_set(unit.cloudformation, wanted(unit), follower)
    assert delete_stack_set(unit.cloudformation, wanted(unit), follower)
    assert set(map(tuple, unit.log_groups().values())) == {()}
    assert unit.cloudformation.list_stack_sets()["Summaries"] == []
    assert not delete_stack_set(unit.cloudformation, wanted(unit), follower)


def test_an_account_that_fails_is_named(unit: Unit) -> None:
    logs = unit.sessions(unit.accounts[0], "eu-west-1").client("logs")
    stream = {
        "Type": "AWS::Logs::LogStream",
        "Properties": {"LogGroupName": "only-there", "LogStreamName": "needed"},
    }
    logs.create_log_group(logGroupName="only-there")
    with pytest.raises(FleetError) as raised:
        deploy_stack_set(unit.cloudformation, wanted(unit, Stream=stream), Follower(lambda _: None))
    logs.delete_log_group(logGroupName="only-there")
    message = str(raised.value)
    assert message.startswith("stack set everywhere: account ")
    assert f"account {unit.accounts[1]}, eu-west-1: " in message
    assert f"account {unit.accounts[0]}, eu-west-1: " not in message


def check_members_are_looked_at(unit: Unit, fleet: Fleet) -> None:
    """By all that looks, whether the accounts can be entered or not."""
    whole = with_members(fleet, unit.sessions)
    assert [account.account_id for account in whole.workloads] == unit.accounts
    looked = {finding.account_id: finding.severity for finding in preflight(fleet, unit.sessions)}
    assert looked.keys() == {MANAGEMENT, *unit.accounts}
    links = verify_fleet(fleet, unit.sessions, lambda _: None)
    holding = {(link.account_id, link.name) for link in links if link.state == "ok"}
    for account in unit.accounts:
        assert {
            (account, name) for name in ("account", "task role", "trust", "cluster", "service")
        } <= holding
    left = leftovers(fleet, unit.sessions, patience_s=0).left
    assert {each.account_id for each in left} == {MANAGEMENT, *unit.accounts}

    def no_way_in(account_id: str, region: str) -> Session:
        if account_id == unit.accounts[0]:
            raise FleetError("nobody gets in")
        return unit.sessions(account_id, region)

    [found] = [each for each in preflight(fleet, no_way_in) if each.account_id == unit.accounts[0]]
    assert (found.severity, found.why) == ("not checked", "nobody gets in")
    links = verify_fleet(fleet, no_way_in, lambda _: None)
    names = {(link.name, link.state) for link in links if link.account_id == unit.accounts[0]}
    assert names == {("account", "not checked"), ("metrics", "not checked")}
    proof = leftovers(fleet, no_way_in, patience_s=0)
    assert proof.is_complete
    assert any(unit.accounts[0] in text for text in proof.not_looked)


def test_a_fleet_of_an_organisations_unit(unit: Unit) -> None:
    organization = Organization(
        id_="o-trunkline01", units=(unit.id_,), regions=REGIONS, services=(Service(name="shop"),)
    )
    monitoring = MonitoringAccount(account_id=MANAGEMENT, region="eu-west-1")
    fleet = Fleet(name="wide", monitoring=monitoring, workloads=(), organization=organization)
    planned = [(stack.stack, stack.action) for stack in plan_fleet(fleet, unit.sessions).stacks]
    names = ("wide-monitoring", "wide-registry", "wide-registry", "wide-global", "wide-services")
    assert planned == [(name, "create") for name in names]
    assert deploy_fleet(fleet, unit.sessions, lambda _: None).changed
    assert not plan_fleet(fleet, unit.sessions).changes
    status = fleet_status(fleet, unit.sessions, drift=False)
    assert [(each.status, each.reason) for each in status.stacks[3:]] == [
        ("CURRENT", "2 stacks"),
        ("CURRENT", "4 stacks"),
    ]
    assert status.is_well
    for account in unit.accounts:
        for region in REGIONS:
            ecs = unit.sessions(account, region).client("ecs")
            [shop] = ecs.describe_services(cluster=fleet.names.cluster, services=["shop"])["services"]
            assert shop["status"] == "ACTIVE"
            task = ecs.describe_task_definition(taskDefinition=shop["taskDefinition"])["taskDefinition"]
            registry = (
                f"{MANAGEMENT}.dkr.ecr.{region}.amazonaws.com/{fleet.names.collector_repository}@sha256:"
            )
            assert task["containerDefinitions"][0]["image"].startswith(registry)
            assert task["taskRoleArn"].startswith(f"arn:aws:iam::{account}:role/")
    assert not deploy_fleet(fleet, unit.sessions, lambda _: None).changed
    check_members_are_looked_at(unit, fleet)
    removal = destroy_fleet(fleet, unit.sessions, lambda _: None, images=True, data=True)
    proof = leftovers(fleet, unit.sessions, [kept.arn for kept in removal.kept], patience_s=2)
    assert proof.is_clean, proof.text()
    assert {(kept.account_id, kept.kind) for kept in removal.kept} == {
        (each, "logs") for each in unit.accounts
    }
    assert {kept.account_id for kept in proof.kept} == set(unit.accounts)
    removal = destroy_fleet(fleet, unit.sessions, lambda _: None, logs=True)
    assert (removal.kept, removal.not_looked, len(removal.removed)) == ((), (), 4)
    assert leftovers(fleet, unit.sessions, patience_s=2).kept == ()
    for account in unit.accounts:
        stacks = unit.sessions(account, "us-east-1").client("cloudformation").describe_stacks()["Stacks"]
        assert stacks == []
        assert unit.sessions(account, "us-east-1").client("iam").list_roles()["Roles"] == []
