"""What goes wrong while a fleet is deployed, each on purpose, and the state and words it ends in."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.fleet.conftest import administrators
from tests.fleet.fleet_process import described
from tests.simulator.frontdoor_live import Live

from trunkline.fleet.deploy import Event, deploy_fleet
from trunkline.fleet.destroy import destroy_fleet
from trunkline.fleet.pace import Place
from trunkline.fleet.run import InterruptedRunError, RunError
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.watch import Halt
from trunkline.simulator.frontdoor.faults import Fault

CENTRAL, SHOPS, BANK = "911111111111", "922222222222", "933333333333"
REGIONS = ("eu-west-1", "us-east-1")
DESCRIPTION = {"name": "frail", "monitoring": CENTRAL, "workloads": [SHOPS, BANK], "regions": REGIONS}
FLEET = described(DESCRIPTION)


@pytest.fixture(scope="module")
def sessions(live: Live) -> Sessions:
    return administrators(live, (CENTRAL, SHOPS, BANK))


@pytest.fixture(autouse=True)
def cleared(live: Live, sessions: Sessions) -> Iterator[None]:
    yield
    live.door.faults.clear()
    destroy_fleet(FLEET, sessions, lambda _: None, images=True, logs=True, data=True)


@contextmanager
def fault(live: Live, **aimed: Any) -> Iterator[Fault]:
    added = live.door.faults.add(Fault(**aimed))
    yield added
    live.door.faults.remove(added)


def states(error: RunError) -> dict[str, str]:
    return {account.account_id: account.state for account in error.accounts}


def test_a_throttled_api_is_asked_again(live: Live, sessions: Sessions) -> None:
    with fault(live, account=SHOPS, service="cloudformation", is_throttling=True, every=7) as throttled:
        assert deploy_fleet(FLEET, sessions, lambda _: None).changed
    assert throttled.seen > 20


def test_a_stack_that_rolls_back_names_its_first_failure(sessions: Sessions) -> None:
    iam = sessions(SHOPS, "eu-west-1").client("iam")
    # A role that is there, and was made by nobody of the fleet: its name is taken.
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": SHOPS}, "Action": "sts:AssumeRole"}]}
    name = FLEET.names.execution_role
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    with pytest.raises(RunError) as raised:
        deploy_fleet(FLEET, sessions, lambda _: None)
    iam.delete_role(RoleName=name)
    assert str(raised.value).startswith(
        f"account {SHOPS}, eu-west-1, frail-global: stack frail-global: CloudFormation refused the change set: "
        "CloudFormation is attempting to import some resources because they already exist in your account."
    )
    assert "ExecutionRole" in str(raised.value)
    assert states(raised.value) == {CENTRAL: "changed", SHOPS: "failed", BANK: "changed"}
    assert raised.value.some_succeeded
    assert deploy_fleet(FLEET, sessions, lambda _: None).changed


def test_a_resource_that_fails_is_named_in_aws_words(live: Live, sessions: Sessions) -> None:
    """The services of one region cannot be made: their cluster is deleted behind CloudFormation's back."""
    regional = sessions(BANK, "us-east-1").client("ecs")

    def meddle(event: Event) -> None:
        if (event.account_id, event.region, event.text) == (
            BANK,
            "us-east-1",
            "has the image of the application",
        ):
            regional.delete_cluster(cluster=FLEET.names.cluster)

    with pytest.raises(RunError) as raised:
        deploy_fleet(FLEET, sessions, meddle)
    message = str(raised.value)
    assert message.startswith(
        f"account {BANK}, us-east-1, frail-services: stack frail-services was rolled back"
    )
    assert "ShopService (AWS::ECS::Service): " in message
    assert states(raised.value) == {CENTRAL: "changed", SHOPS: "changed", BANK: "failed"}
    [bank] = [account for account in raised.value.accounts if account.account_id == BANK]
    outcome = {(stack.region, stack.stack): stack.state for stack in bank.stacks}
    assert outcome["eu-west-1", "frail-services"] == "created"
    assert outcome["us-east-1", "frail-services"] == "failed"
    assert live.door.calls[BANK, "ecs", "DeleteCluster"] > 0


def test_an_account_without_access_does_not_stop_the_others(live: Live, sessions: Sessions) -> None:
    with (
        fault(live, account=SHOPS, code="AccessDenied", message="not authorized to perform this", status=403),
        pytest.raises(RunError) as raised,
    ):
        deploy_fleet(FLEET, sessions, lambda _: None)
    assert states(raised.value) == {CENTRAL: "changed", SHOPS: "failed", BANK: "changed"}
    assert str(raised.value).startswith(
        f"account {SHOPS}, eu-west-1, frail-global: An error occurred (AccessDenied)"
    )
    assert raised.value.some_succeeded
    [reached] = [account for account in raised.value.accounts if account.account_id == SHOPS]
    assert {stack.state for stack in reached.stacks} == {"failed", "not reached"}


def test_without_the_monitoring_account_nothing_is_touched(live: Live, sessions: Sessions) -> None:
    with (
        fault(live, account=CENTRAL, code="AccessDenied", message="not authorized", status=403),
        pytest.raises(RunError) as raised,
    ):
        deploy_fleet(FLEET, sessions, lambda _: None)
    assert states(raised.value) == {CENTRAL: "failed", SHOPS: "not reached", BANK: "not reached"}
    assert not raised.value.some_succeeded
    assert sessions(SHOPS, "eu-west-1").client("cloudformation").describe_stacks()["Stacks"] == []


def test_the_monitoring_account_stays_while_a_workload_account_cannot_be_cleared(
    live: Live, sessions: Sessions
) -> None:
    deploy_fleet(FLEET, sessions, lambda _: None)
    with (
        fault(live, account=BANK, operation="DeleteStack", code="AccessDenied", message="no", status=403),
        pytest.raises(
            RunError, match=rf"account {BANK}, us-east-1, frail-services: .*AccessDenied"
        ) as raised,
    ):
        destroy_fleet(FLEET, sessions, lambda _: None)
    assert states(raised.value)[SHOPS] == "changed"
    [central] = sessions(CENTRAL, "eu-west-1").client("cloudformation").describe_stacks()["Stacks"]
    assert central["StackStatus"] == "CREATE_COMPLETE"


def test_asked_to_stop_it_stops_and_goes_on_later(sessions: Sessions) -> None:
    halt = Halt()

    def stop(event: Event) -> None:
        if event.account_id == SHOPS and event.text == "creating":
            halt.ask()

    with pytest.raises(InterruptedRunError, match=r"interrupted; .*repeat the command"):
        deploy_fleet(FLEET, sessions, stop, halt=halt)
    assert deploy_fleet(FLEET, sessions, lambda _: None).changed
    assert not deploy_fleet(FLEET, sessions, lambda _: None).changed


def test_an_interrupt_from_the_keyboard(live: Live, sessions: Sessions) -> None:
    """A real process and a real SIGINT, while it waits for the events of a stack that is being made."""
    keys = {account: live.door.add_account(account) for account in (CENTRAL, SHOPS, BANK)}
    document = {
        **DESCRIPTION,
        "keys": {name: [key.access_key_id, key.secret_access_key] for name, key in keys.items()},
    }
    with fault(live, account=SHOPS, operation="DescribeStackEvents", delay_s=1.5) as slow:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet.fleet_process", "deploy", live.door.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdin
        process.stdin.write(json.dumps(document))
        process.stdin.close()
        process.stdin = None
        while not slow.seen:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert errors == ""
    assert process.returncode == 130
    result = json.loads(rest.splitlines()[-1])
    assert f"account {SHOPS}, eu-west-1, frail-global" in result["in_progress"]
    assert result["error"] == (
        f"interrupted; AWS goes on by itself with: {'; '.join(result['in_progress'])}; "
        "repeat the command: it waits for what is under way, and goes on from there"
    )
    assert deploy_fleet(FLEET, sessions, lambda _: None).changed
    assert not deploy_fleet(FLEET, sessions, lambda _: None).changed


def test_calls_to_a_place_are_paced(live: Live) -> None:
    place = Place(SHOPS, "eu-west-1", administrators(live, [SHOPS]), Halt(), calls_per_s=100)
    sts = place.client("sts")
    for _ in range(50):  # the first may come at once
        sts.get_caller_identity()
    began, asked = time.monotonic(), place.calls
    for _ in range(100):
        sts.get_caller_identity()
    assert place.calls - asked == 100
    assert time.monotonic() - began > 0.4  # and then no faster than agreed, but for what was saved up
