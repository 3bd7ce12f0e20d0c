"""The state of a fleet at the simulator's front door: as deployed, changed by hand, partly gone, out of reach."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.fleet.conftest import administrators, one_shop, standing
from tests.simulator.frontdoor_live import Live

from trunkline.fleet.drift import Drift
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.status import StackStatus, Status, fleet_status, render
from trunkline.simulator.frontdoor.faults import Fault

CENTRAL, SHOPS = "711111111111", "722222222222"
FLEET = one_shop("watched", CENTRAL, SHOPS)
CLUSTER = FLEET.names.cluster


@pytest.fixture(scope="module")
def sessions(live: Live) -> Sessions:
    return administrators(live, (CENTRAL, SHOPS))


@pytest.fixture(scope="module")
def deployed(sessions: Sessions) -> Iterator[None]:
    with standing(FLEET, sessions):
        yield


def named(status: Status, stack: str) -> StackStatus:
    [found] = [each for each in status.stacks if each.stack == stack]
    return found


def test_a_fleet_that_is_not_there(sessions: Sessions) -> None:
    status = fleet_status(FLEET, sessions, drift=True)
    assert [stack.status for stack in status.stacks] == ["", "", "", ""]
    assert not status.is_well
    assert "! watched-monitoring not there" in render(status, color=False)


@pytest.mark.usefixtures("deployed")
def test_a_fleet_as_it_was_deployed(sessions: Sessions) -> None:
    status = fleet_status(FLEET, sessions, drift=True)
    assert [stack.status for stack in status.stacks] == ["CREATE_COMPLETE"] * 4
    assert [stack.drift for stack in status.stacks] == [()] * 4
    assert status.is_well
    [service] = named(status, "watched-services").services
    assert (service.name, service.desired, service.running) == ("shop", 0, 0)
    assert service.task_definition.startswith("shop:")
    assert "/collector@sha256:" in service.images["aws-otel-collector"]
    assert json.loads(status.to_json())["stacks"][3]["services"][0]["images"] == dict(service.images)
    assert render(status, color=False).endswith("4 of 4 stacks are well")


@pytest.mark.usefixtures("deployed")
def test_what_was_changed_by_hand_is_drift(sessions: Sessions) -> None:
    session = sessions(SHOPS, "eu-west-1")
    session.client("ecs").update_service(cluster=CLUSTER, service="shop", desiredCount=2)
    session.client("logs").put_retention_policy(logGroupName=CLUSTER, retentionInDays=1)
    status = fleet_status(FLEET, sessions, drift=True)
    drift = named(status, "watched-services").drift
    assert drift == (Drift("ShopService", "AWS::ECS::Service", "MODIFIED", ("/DesiredCount",)),)
    assert named(status, "watched-base").drift == (
        Drift("LogGroup", "AWS::Logs::LogGroup", "MODIFIED", ("/RetentionInDays",)),
    )
    assert named(status, "watched-global").is_well
    text = render(status, color=True)
    assert "LogGroup (AWS::Logs::LogGroup) modified by somebody else: /RetentionInDays" in text
    assert "\x1b[31m! service shop 0 of 2 running" in text
    assert fleet_status(FLEET, sessions, drift=False).stacks[2].drift is None


@pytest.mark.usefixtures("deployed")
def test_what_was_deleted_by_hand_is_drift(sessions: Sessions) -> None:
    iam = sessions(SHOPS, "eu-west-1").client("iam")
    name = FLEET.names.task_role
    iam.delete_role_policy(RoleName=name, PolicyName=FLEET.names.assume_policy)
    iam.delete_role(RoleName=name)
    drift = named(fleet_status(FLEET, sessions, drift=True), "watched-global").drift
    assert drift == (Drift("TaskRole", "AWS::IAM::Role", "DELETED"),)


@pytest.mark.usefixtures("deployed")
def test_an_account_out_of_reach_is_an_error_of_its_stacks_alone(live: Live, sessions: Sessions) -> None:
    fault = Fault(account=SHOPS, code="AccessDenied", message="not authorized", status=403)
    live.door.faults.add(fault)
    try:
        status = fleet_status(FLEET, sessions, drift=False)
    finally:
        live.door.faults.remove(fault)
    assert "AccessDenied" in named(status, "watched-base").error
    assert named(status, "watched-monitoring").is_well
