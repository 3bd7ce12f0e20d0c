"""What the front door answers beside what it guards: Service Quotas, and IAM's simulation of its own policies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.simulator.frontdoor_live import IRELAND, Live, allow, running


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    state: Path = tmp_path_factory.mktemp("state")
    with running(state) as live:
        yield live


def simulated(live: Live, source: str, *actions: str, **more: Any) -> dict[str, str]:
    iam = live.client("iam")
    answer = iam.simulate_principal_policy(PolicySourceArn=source, ActionNames=list(actions), **more)
    return {each["EvalActionName"]: each["EvalDecision"] for each in answer["EvaluationResults"]}


def test_a_quota_has_aws_default(live: Live) -> None:
    quotas = live.client("service-quotas")
    found = quotas.get_service_quota(ServiceCode="fargate", QuotaCode="L-3032A538")["Quota"]
    assert (found["QuotaName"], found["Value"]) == ("Fargate On-Demand vCPU resource count", 6.0)
    [listed] = quotas.list_service_quotas(ServiceCode="aps")["Quotas"]
    assert (listed["QuotaName"], listed["Value"]) == ("Workspaces per region per account", 25.0)


def test_a_quota_that_is_not_known_is_refused(live: Live) -> None:
    quotas = live.client("service-quotas")
    with pytest.raises(quotas.exceptions.NoSuchResourceException):
        quotas.get_service_quota(ServiceCode="fargate", QuotaCode="L-00000000")


def test_quotas_need_permission(live: Live) -> None:
    role = live.role(IRELAND, "without-quotas", allow("iam:*"))
    quotas = live.client("service-quotas", credentials=live.assume(role))
    with pytest.raises(ClientError, match="servicequotas:GetServiceQuota"):
        quotas.get_service_quota(ServiceCode="fargate", QuotaCode="L-3032A538")


def test_a_simulation_says_what_would_be_decided(live: Live) -> None:
    role = live.role(
        IRELAND,
        "some",
        allow("ecs:*", "arn:aws:ecs:*"),
        {"Effect": "Deny", "Action": "iam:*", "Resource": "*"},
    )
    assert simulated(live, role, "ecs:ListTasks", "iam:GetRole", "s3:ListBucket") == {
        "ecs:ListTasks": "implicitDeny",
        "iam:GetRole": "explicitDeny",
        "s3:ListBucket": "implicitDeny",
    }
    task = f"arn:aws:ecs:eu-west-1:{IRELAND}:task/one/two"
    assert simulated(live, role, "ecs:StopTask", ResourceArns=[task]) == {"ecs:StopTask": "allowed"}


def test_an_administrator_may_do_everything(live: Live) -> None:
    user = f"arn:aws:iam::{IRELAND}:user/Administrator"
    assert simulated(live, user, "iam:CreateRole") == {"iam:CreateRole": "allowed"}


def test_nobody_is_not_simulated(live: Live) -> None:
    with pytest.raises(ClientError, match="cannot be found"):
        simulated(live, f"arn:aws:iam::{IRELAND}:role/nobody", "iam:GetRole")
