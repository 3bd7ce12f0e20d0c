"""Plans of a fleet at the simulator's front door: what they say, and that they change nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.fleet.conftest import administrators, standing
from tests.simulator.frontdoor_live import Live

from trunkline.fleet.deploy import deploy_fleet, destroy_fleet
from trunkline.fleet.model import Fleet, MonitoringAccount, Service, WorkloadAccount
from trunkline.fleet.plan import Plan, StackPlan, plan_fleet, render
from trunkline.fleet.run import RunError
from trunkline.fleet.sessions import Sessions
from trunkline.simulator.frontdoor.faults import Fault

CENTRAL, SHOPS, BANK = "611111111111", "622222222222", "633333333333"
CHANGING = (
    "Create",
    "Delete",
    "Execute",
    "Put",
    "Update",
    "Register",
    "Tag",
    "Untag",
    "Attach",
    "Run",
    "Set",
)


def workload(account: str, *regions: str, count: int = 1) -> WorkloadAccount:
    services = (Service(name="shop", desired_count=count),)
    return WorkloadAccount(account_id=account, regions=regions, services=services)


FLEET = Fleet(
    name="planned",
    monitoring=MonitoringAccount(account_id=CENTRAL, region="eu-west-1"),
    workloads=(workload(SHOPS, "eu-west-1", "eu-north-1"), workload(BANK, "eu-west-1")),
)


@pytest.fixture(scope="module")
def sessions(live: Live) -> Sessions:
    return administrators(live, (CENTRAL, SHOPS, BANK))


@pytest.fixture(scope="module")
def deployed(sessions: Sessions) -> Iterator[None]:
    with standing(FLEET, sessions):
        yield


def stacks(sessions: Sessions) -> list[Any]:
    """All stacks there ever were in the fleet's places, and the change sets of those that are."""
    found: list[Any] = []
    for account, region in ((CENTRAL, "eu-west-1"), (SHOPS, "eu-west-1"), (SHOPS, "eu-north-1")):
        client = sessions(account, region).client("cloudformation")
        for stack in client.describe_stacks()["Stacks"]:
            found.append(stack)
            found += client.list_change_sets(StackName=stack["StackName"])["Summaries"]
    return found


def named(plan: Plan, account: str, region: str, stack: str) -> StackPlan:
    [found] = [
        each for each in plan.stacks if (each.account_id, each.region, each.stack) == (account, region, stack)
    ]
    return found


def actions(stack: StackPlan) -> dict[str, str]:
    return {each.logical_id: each.action for each in stack.resources}


def test_a_new_fleet_is_planned_from_its_templates(live: Live, sessions: Sessions) -> None:
    before = Counter(live.door.calls)
    plan = plan_fleet(FLEET, sessions)
    called = live.door.calls - before
    assert not [call for call in called if call[2].startswith(CHANGING)]
    assert stacks(sessions) == []
    assert [stack.action for stack in plan.stacks] == ["create"] * 9
    assert plan.changes
    assert plan.blocked == ()
    services = named(plan, SHOPS, "eu-north-1", "planned-services")
    assert actions(services) == {"ShopTask": "create", "ShopService": "create"}
    assert set(services.unknown) == {
        "WorkspaceId comes from planned-monitoring in eu-west-1, which is not there yet",
        "TaskRoleArn comes from planned-global in eu-west-1, which is not there yet",
        "ExecutionRoleArn comes from planned-global in eu-west-1, which is not there yet",
        "ClusterName comes from planned-base in eu-north-1, which is not there yet",
        "LogGroupName comes from planned-base in eu-north-1, which is not there yet",
        "SecurityGroups comes from planned-base in eu-north-1, which is not there yet",
        "CollectorImage is the digest of the collector's image, which has not been pushed yet",
        "ApplicationImage is the digest of the application's image, which has not been pushed yet",
    }


def test_what_is_there_under_our_names_and_is_not_ours_is_left_alone(sessions: Sessions) -> None:
    name = FLEET.names.log_group
    logs = sessions(BANK, "eu-west-1").client("logs")
    logs.create_log_group(logGroupName=name)
    try:
        base = named(plan_fleet(FLEET, sessions), BANK, "eu-west-1", "planned-base")
        assert base.action == "blocked"
        assert base.reason == (
            f"the log group {name} is there already and is not this fleet's; choose another name for the fleet's "
            "own, or give it to the fleet with the tag trunkline:fleet=planned"
        )
        with pytest.raises(RunError, match=f"planned-base: the log group {name} is there already"):
            deploy_fleet(FLEET, sessions, lambda _: None)
        logs.tag_log_group(logGroupName=name, tags={"trunkline:fleet": "planned"})
        base = named(plan_fleet(FLEET, sessions), BANK, "eu-west-1", "planned-base")
        assert actions(base)["LogGroup"] == "take up"
    finally:
        destroy_fleet(FLEET, sessions, lambda _: None, images=True, logs=True, data=True)
    assert logs.describe_log_groups()["logGroups"] == []


def test_a_plan_is_json(sessions: Sessions) -> None:
    document = json.loads(plan_fleet(FLEET, sessions).to_json())
    assert document["fleet"] == "planned"
    assert document["changes"] is True
    assert document["resources"]["create"] > 20
    [service] = [
        each
        for stack in document["stacks"]
        if (stack["account_id"], stack["stack"]) == (BANK, "planned-services")
        for each in stack["resources"]
        if each["logical_id"] == "ShopService"
    ]
    assert service == {
        "action": "create",
        "logical_id": "ShopService",
        "type": "AWS::ECS::Service",
        "properties": [],
        "physical_id": "",
        "drift": "",
    }


@pytest.mark.usefixtures("deployed")
def test_a_deployed_fleet_is_as_it_should_be(sessions: Sessions) -> None:
    before = stacks(sessions)
    plan = plan_fleet(FLEET, sessions)
    assert {stack.action for stack in plan.stacks} == {"unchanged"}
    assert not plan.changes
    assert stacks(sessions) == before
    assert "9 stacks are as they should be" in render(plan, color=False)
    assert render(plan, color=False).endswith("nothing to change")


@pytest.mark.usefixtures("deployed")
def test_a_change_names_its_resources_and_properties(live: Live, sessions: Sessions) -> None:
    larger = replace(FLEET, workloads=(workload(SHOPS, "eu-west-1", count=3), FLEET.workloads[1]))
    before, calls = stacks(sessions), Counter(live.door.calls)
    plan = plan_fleet(larger, sessions)
    changing = {call[2] for call in live.door.calls - calls if call[2].startswith(CHANGING)}
    assert changing == {"CreateChangeSet", "DeleteChangeSet"}
    assert stacks(sessions) == before
    services = named(plan, SHOPS, "eu-west-1", "planned-services")
    assert services.action == "update"
    [service] = services.resources
    assert (service.logical_id, service.action, service.properties) == (
        "ShopService",
        "change",
        ("DesiredCount",),
    )
    assert "~ change ShopService (AWS::ECS::Service): DesiredCount" in render(plan, color=False)
    assert "\x1b[33m~ change ShopService" in render(plan, color=True)


@pytest.mark.usefixtures("deployed")
def test_a_replacement_and_a_deletion_are_said(sessions: Sessions) -> None:
    [service] = FLEET.workloads[1].services
    other = replace(FLEET.workloads[1], services=(replace(service, name="till", memory_mib=1024),))
    plan = plan_fleet(replace(FLEET, workloads=(FLEET.workloads[0], other)), sessions)
    changed = actions(named(plan, BANK, "eu-west-1", "planned-services"))
    assert changed == {
        "ShopService": "delete",
        "ShopTask": "delete",
        "TillService": "create",
        "TillTask": "create",
    }
    bigger = replace(FLEET.workloads[1], services=(replace(service, memory_mib=1024),))
    plan = plan_fleet(replace(FLEET, workloads=(FLEET.workloads[0], bigger)), sessions)
    resources = named(plan, BANK, "eu-west-1", "planned-services").resources
    assert [(each.logical_id, each.action, each.properties) for each in resources] == [
        ("ShopService", "change", ("TaskDefinition",)),
        ("ShopTask", "replace", ("Memory",)),
    ]


@pytest.mark.usefixtures("deployed")
def test_an_account_that_may_not_be_looked_into_is_blocked(live: Live, sessions: Sessions) -> None:
    fault = Fault(account=SHOPS, code="AccessDenied", message="not authorized", status=403)
    live.door.faults.add(fault)
    try:
        plan = plan_fleet(FLEET, sessions)
    finally:
        live.door.faults.remove(fault)
    assert {stack.account_id for stack in plan.blocked} == {SHOPS}
    assert all("AccessDenied" in stack.reason for stack in plan.blocked)
    assert named(plan, BANK, "eu-west-1", "planned-services").action == "unchanged"


@pytest.mark.usefixtures("deployed")
def test_a_region_that_the_file_gave_up_is_a_leftover(sessions: Sessions) -> None:
    moved = replace(
        FLEET, workloads=(workload(SHOPS, "eu-west-1"), workload(BANK, "eu-west-1", "eu-north-1"))
    )
    plan = plan_fleet(moved, sessions)
    left = [(stack.account_id, stack.stack) for stack in plan.stacks if stack.action == "leftover"]
    assert left == [(SHOPS, "planned-base"), (SHOPS, "planned-services")]
    destroy_fleet(moved, sessions, lambda _: None)
    client = sessions(SHOPS, "eu-north-1").client("cloudformation")
    assert client.describe_stacks()["Stacks"] == []
