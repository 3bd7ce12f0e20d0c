"""What somebody changes behind the stacks' backs: planned, put back when told so, and otherwise left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.fleet.conftest import administrators, one_shop, standing
from tests.simulator.frontdoor_live import Live

from trunkline.fleet.deploy import Deployment, Event, deploy_fleet
from trunkline.fleet.plan import plan_fleet, render
from trunkline.fleet.run import RunError
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.status import fleet_status
from trunkline.simulator.frontdoor.faults import Fault

CENTRAL, SHOPS, REGION = "811111111111", "822222222222", "eu-west-1"
FLEET = one_shop("mended", CENTRAL, SHOPS)
NAMES = FLEET.names
NOBODY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::999999999999:root"},
            "Action": "sts:AssumeRole",
        }
    ],
}


@pytest.fixture(scope="module")
def sessions(live: Live) -> Sessions:
    return administrators(live, (CENTRAL, SHOPS))


@pytest.fixture(scope="module")
def deployed(sessions: Sessions) -> Iterator[None]:
    with standing(FLEET, sessions):
        yield


def meddle(sessions: Sessions) -> None:
    """With the trust, a policy, a role, retention, a service and a repository."""
    central = sessions(CENTRAL, REGION).client("iam")
    central.update_assume_role_policy(RoleName=NAMES.central_role, PolicyDocument=json.dumps(NOBODY))
    central.delete_role_policy(RoleName=NAMES.query_role, PolicyName="query")
    shops = sessions(SHOPS, REGION)
    iam = shops.client("iam")
    iam.delete_role_policy(RoleName=NAMES.task_role, PolicyName=NAMES.assume_policy)
    iam.delete_role(RoleName=NAMES.task_role)
    shops.client("logs").put_retention_policy(logGroupName=NAMES.log_group, retentionInDays=1)
    shops.client("ecs").update_service(cluster=NAMES.cluster, service="shop", desiredCount=3)
    shops.client("ecr").put_image_tag_mutability(
        repositoryName=NAMES.collector_repository, imageTagMutability="MUTABLE"
    )


def deploy(sessions: Sessions, *, repair: bool) -> tuple[Deployment, str]:
    events: list[Event] = []
    done = deploy_fleet(FLEET, sessions, events.append, repair=repair)
    return done, "\n".join(event.text for event in events)


def drifted(sessions: Sessions) -> dict[str, tuple[str, tuple[str, ...]]]:
    found = fleet_status(FLEET, sessions, drift=True).stacks
    return {each.logical_id: (each.status, each.properties) for stack in found for each in stack.drift or ()}


@pytest.mark.usefixtures("deployed")
def test_it_is_planned_and_put_back_only_when_told(sessions: Sessions) -> None:
    central = sessions(CENTRAL, REGION).client("iam")
    trust = central.get_role(RoleName=NAMES.central_role)["Role"]["AssumeRolePolicyDocument"]
    assert not plan_fleet(FLEET, sessions, repair=True).changes
    meddle(sessions)
    before = drifted(sessions)
    assert {name: status for name, (status, _) in before.items()} == {
        "CentralRole": "MODIFIED",
        "QueryRole": "MODIFIED",
        "TaskRole": "DELETED",
        "LogGroup": "MODIFIED",
        "CollectorRepository": "MODIFIED",
        "ShopService": "MODIFIED",
    }

    assert not plan_fleet(FLEET, sessions).changes
    plan = plan_fleet(FLEET, sessions, repair=True)
    text = render(plan, color=False)
    assert plan.counts() == {"change": 5, "create": 1}
    assert (
        "~ change CentralRole (AWS::IAM::Role): AssumeRolePolicyDocument (changed by somebody else)" in text
    )
    assert "+ create TaskRole (AWS::IAM::Role) (deleted by somebody else)" in text
    done, _ = deploy(sessions, repair=False)
    assert not done.changed
    assert drifted(sessions) == before

    done, told = deploy(sessions, repair=True)
    assert done.changed
    assert "putting back CentralRole (AWS::IAM::Role), changed by somebody else" in told
    assert drifted(sessions) == {}
    assert central.get_role(RoleName=NAMES.central_role)["Role"]["AssumeRolePolicyDocument"] == trust
    assert central.list_role_policies(RoleName=NAMES.query_role)["PolicyNames"] == ["query"]
    iam = sessions(SHOPS, REGION).client("iam")
    assert iam.list_role_policies(RoleName=NAMES.task_role)["PolicyNames"] == [NAMES.assume_policy]
    ecs = sessions(SHOPS, REGION).client("ecs")
    [service] = ecs.describe_services(cluster=NAMES.cluster, services=["shop"])["services"]
    assert service["desiredCount"] == 0
    assert not deploy(sessions, repair=True)[0].changed


@pytest.mark.usefixtures("deployed")
def test_a_policy_that_somebody_added_is_taken_away(sessions: Sessions) -> None:
    iam = sessions(CENTRAL, REGION).client("iam")
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
    iam.put_role_policy(RoleName=NAMES.central_role, PolicyName="revoked", PolicyDocument=json.dumps(deny))
    assert deploy(sessions, repair=True)[0].changed
    assert iam.list_role_policies(RoleName=NAMES.central_role)["PolicyNames"] == ["remote-write"]


@pytest.mark.usefixtures("deployed")
def test_drift_that_cannot_be_looked_for_is_an_error_and_not_none(live: Live, sessions: Sessions) -> None:
    fault = Fault(
        account=SHOPS, operation="DetectStackDrift", code="AccessDenied", message="not authorized", status=403
    )
    live.door.faults.add(fault)
    try:
        plan = plan_fleet(FLEET, sessions, repair=True)
        with pytest.raises(RunError, match="DetectStackDrift"):
            deploy(sessions, repair=True)
    finally:
        live.door.faults.remove(fault)
    assert {stack.account_id for stack in plan.blocked} == {SHOPS}
