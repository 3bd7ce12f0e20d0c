"""Regions that a fleet's file does not name any more: said, and cleared with the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fleet.conftest import administrators
from tests.simulator.frontdoor_live import Live

from trunkline.fleet.deploy import deploy_fleet
from trunkline.fleet.destroy import destroy_fleet, stacks_beyond
from trunkline.fleet.forgotten import forgotten
from trunkline.fleet.model import Fleet, MonitoringAccount, Service, WorkloadAccount
from trunkline.fleet.proof import leftovers
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.status import fleet_status, render

CENTRAL, SHOPS = "831111111111", "832222222222"
BEFORE = Fleet(
    name="shrunk",
    monitoring=MonitoringAccount(account_id=CENTRAL, region="eu-west-1"),
    workloads=(
        WorkloadAccount(
            account_id=SHOPS,
            regions=("eu-west-1", "us-west-2"),
            services=(Service(name="shop", desired_count=0),),
        ),
    ),
)
NOW = replace(BEFORE, workloads=(replace(BEFORE.workloads[0], regions=("eu-west-1",)),))


@pytest.fixture(scope="module")
def sessions(live: Live) -> Sessions:
    return administrators(live, (CENTRAL, SHOPS))


def test_a_region_that_was_taken_out_of_the_file(sessions: Sessions) -> None:
    deploy_fleet(BEFORE, sessions, lambda _: None)
    assert forgotten(BEFORE, sessions, None).standing == ()
    status = fleet_status(NOW, sessions, False, look_around=True)
    assert status.is_well
    found = status.forgotten.standing
    assert {(each.account_id, each.region) for each in found} == {(SHOPS, "us-west-2")}
    assert any(each.kind == "ecs cluster" for each in found)
    assert f"account {SHOPS}, us-west-2: no longer in the file, and still there: " in render(status, False)
    destroy_fleet(NOW, sessions, lambda _: None, images=True, logs=True, data=True)
    beyond = stacks_beyond(NOW, leftovers(NOW, sessions, patience_s=0))
    assert beyond == {(SHOPS, "us-west-2")}
    destroy_fleet(NOW, sessions, lambda _: None, images=True, logs=True, data=True, beyond=beyond)
    assert leftovers(NOW, sessions, patience_s=2).text() == [
        "nothing of the fleet is left in any account or region"
    ]
