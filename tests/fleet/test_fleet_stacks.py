"""Stacks against a running emulator of AWS."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.simulator.frontdoor_live import Live

from trunkline.errors import FleetError
from trunkline.fleet.changes import Stack, create_change_set
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacks import delete_stack, deploy_stack, stack_outputs, stack_status
from trunkline.fleet.watch import Follower, Halt

LOST_STREAM = {
    "Type": "AWS::Logs::LogStream",
    "DependsOn": "Group",
    "Properties": {"LogGroupName": "nowhere", "LogStreamName": "lost"},
}


@pytest.fixture
def cloudformation(sessions: Sessions) -> Iterator[Any]:
    client = sessions("222222222222", "eu-west-1").client("cloudformation")
    yield client
    delete_stack(client, "one", Follower(lambda _: None))


def stack(name: str = "group-1", retention_days: int = 1, **others: Any) -> Stack:
    properties = {"LogGroupName": {"Ref": "Name"}, "RetentionInDays": retention_days}
    group = {"Type": "AWS::Logs::LogGroup", "Properties": properties}
    template = {
        "Parameters": {"Name": {"Type": "String"}},
        "Resources": {"Group": group, **others},
        "Outputs": {"Group": {"Value": {"Ref": "Group"}}},
    }
    return Stack(name="one", template=json.dumps(template), parameters={"Name": name}, tags={"of": "tests"})


def deployed(cloudformation: Any, wanted: Stack) -> tuple[dict[str, str], list[str]]:
    texts: list[str] = []
    made = deploy_stack(cloudformation, wanted, Follower(texts.append))
    assert (
        made.change
        == {"creating": "created", "updating": "updated", "unchanged": "unchanged"}[
            next(text for text in reversed(texts) if text in ("creating", "updating", "unchanged"))
        ]
    )
    return dict(made.outputs), texts


def change_sets(cloudformation: Any) -> list[str]:
    """Those that wait to be executed."""
    found = cloudformation.list_change_sets(StackName="one")["Summaries"]
    stack_id = cloudformation.describe_stacks(StackName="one")["Stacks"][0]["StackId"]
    mine = [each for each in found if each["StackId"] == stack_id]
    return [each["ChangeSetName"] for each in mine if each["ExecutionStatus"] == "AVAILABLE"]


def log_groups(sessions: Sessions) -> list[str]:
    logs = sessions("222222222222", "eu-west-1").client("logs")
    found = logs.describe_log_groups(logGroupNamePrefix="group-")["logGroups"]
    return [f"{group['logGroupName']} {group['retentionInDays']}" for group in found]


def test_a_stack_is_created_with_its_outputs(cloudformation: Any, sessions: Sessions) -> None:
    outputs, texts = deployed(cloudformation, stack())
    assert outputs == {"Group": "group-1"}
    assert texts == ["creating", "Group (AWS::Logs::LogGroup) create complete"]
    assert log_groups(sessions) == ["group-1 1"]
    [description] = cloudformation.describe_stacks(StackName="one")["Stacks"]
    assert description["Tags"] == [{"Key": "of", "Value": "tests"}]


def test_the_same_again_changes_nothing(cloudformation: Any) -> None:
    deployed(cloudformation, stack())
    outputs, texts = deployed(cloudformation, stack())
    assert outputs == {"Group": "group-1"}
    assert texts == ["unchanged"]
    assert change_sets(cloudformation) == []


def test_a_change_is_an_update(cloudformation: Any, sessions: Sessions) -> None:
    deployed(cloudformation, stack())
    _, texts = deployed(cloudformation, stack(retention_days=3))
    assert texts == ["updating", "Group (AWS::Logs::LogGroup) update complete"]
    assert log_groups(sessions) == ["group-1 3"]


def test_a_failure_names_the_resource_and_is_rolled_back(cloudformation: Any, sessions: Sessions) -> None:
    with pytest.raises(FleetError) as raised:
        deployed(cloudformation, stack(Lost=LOST_STREAM))
    message = str(raised.value)
    assert message.startswith("stack one was rolled back (ROLLBACK_COMPLETE): Lost (AWS::Logs::LogStream): ")
    assert message.endswith("The specified log group does not exist: nowhere")
    assert log_groups(sessions) == []


def test_a_stack_that_failed_is_replaced(cloudformation: Any) -> None:
    with pytest.raises(FleetError):
        deployed(cloudformation, stack(Lost=LOST_STREAM))
    outputs, texts = deployed(cloudformation, stack())
    assert outputs == {"Group": "group-1"}
    assert texts[0] == "deleting"
    assert texts[-1] == "Group (AWS::Logs::LogGroup) create complete"


def test_a_failed_update_leaves_the_stack_as_it_was(cloudformation: Any, sessions: Sessions) -> None:
    deployed(cloudformation, stack())
    with pytest.raises(FleetError, match=r"UPDATE_ROLLBACK_COMPLETE\): Lost \(AWS::Logs::LogStream\)"):
        deployed(cloudformation, stack(retention_days=3, Lost=LOST_STREAM))
    assert stack_status(cloudformation, "one") == "UPDATE_ROLLBACK_COMPLETE"
    _, texts = deployed(cloudformation, stack(retention_days=5))
    assert texts[0] == "updating"
    assert log_groups(sessions) == ["group-1 5"]


def test_an_abandoned_change_set_does_not_stop_the_next(cloudformation: Any) -> None:
    cloudformation.create_change_set(
        StackName="one",
        ChangeSetName="abandoned",
        ChangeSetType="CREATE",
        TemplateBody=stack().template,
        Parameters=[{"ParameterKey": "Name", "ParameterValue": "group-1"}],
    )
    assert stack_status(cloudformation, "one") == "REVIEW_IN_PROGRESS"
    assert deployed(cloudformation, stack())[0] == {"Group": "group-1"}


def test_deleting_removes_and_may_be_repeated(cloudformation: Any, sessions: Sessions) -> None:
    deployed(cloudformation, stack())
    texts: list[str] = []
    delete_stack(cloudformation, "one", Follower(texts.append))
    assert texts == ["deleting", "Group (AWS::Logs::LogGroup) delete complete", "deleted"]
    assert log_groups(sessions) == []
    assert not delete_stack(cloudformation, "never-there", Follower(texts.append))
    assert texts[-1] == "does not exist"


def test_a_stack_that_is_not_there_has_no_outputs(cloudformation: Any) -> None:
    with pytest.raises(FleetError, match="stack nobody does not exist"):
        stack_outputs(cloudformation, "nobody")


def test_abandoned_change_sets_of_ours_are_cleaned_up(cloudformation: Any) -> None:
    deployed(cloudformation, stack())
    assert create_change_set(cloudformation, stack(retention_days=3), "UPDATE", Halt())
    others = {"StackName": "one", "TemplateBody": stack(retention_days=5).body(), "ChangeSetName": "others"}
    known = [{"ParameterKey": "Name", "UsePreviousValue": True}]
    cloudformation.create_change_set(**others, Parameters=known)
    assert len(change_sets(cloudformation)) == 2
    deployed(cloudformation, stack())
    assert change_sets(cloudformation) == ["others"]


def test_what_a_stack_retained_is_taken_up_by_the_next(cloudformation: Any, sessions: Sessions) -> None:
    properties = {"LogGroupName": "group-kept", "RetentionInDays": 1}
    kept = {
        "Type": "AWS::Logs::LogGroup",
        "Properties": properties,
        "DeletionPolicy": "RetainExceptOnCreate",
        "UpdateReplacePolicy": "Retain",
    }
    deployed(cloudformation, stack(Kept=kept))
    sessions("222222222222", "eu-west-1").client("logs").create_log_stream(
        logGroupName="group-kept", logStreamName="evidence"
    )
    delete_stack(cloudformation, "one", Follower(lambda _: None))
    assert log_groups(sessions) == ["group-kept 1"]
    _, texts = deployed(cloudformation, stack(Kept=kept))
    assert "Kept (AWS::Logs::LogGroup) import complete" in texts
    logs = sessions("222222222222", "eu-west-1").client("logs")
    assert (
        logs.describe_log_streams(logGroupName="group-kept")["logStreams"][0]["logStreamName"] == "evidence"
    )
    delete_stack(cloudformation, "one", Follower(lambda _: None))
    logs.delete_log_group(logGroupName="group-kept")


def test_a_creation_that_fails_leaves_nothing_even_of_what_is_retained(
    cloudformation: Any, sessions: Sessions
) -> None:
    kept = {
        "Type": "AWS::Logs::LogGroup",
        "Properties": {"LogGroupName": "group-kept"},
        "DeletionPolicy": "RetainExceptOnCreate",
    }
    with pytest.raises(FleetError, match="ROLLBACK_COMPLETE"):
        deployed(cloudformation, stack(Kept=kept, Lost={**LOST_STREAM, "DependsOn": ["Group", "Kept"]}))
    assert log_groups(sessions) == []


def waiting(timeout_s: int, **more: Any) -> dict[str, Any]:
    """Resources of a stack that waits for a signal nobody sends."""
    properties = {"Handle": {"Ref": "Handle"}, "Timeout": str(timeout_s)}
    return {
        "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
        "Wait": {"Type": "AWS::CloudFormation::WaitCondition", "Properties": properties, **more},
    }


def test_a_rollback_that_got_stuck_is_continued(cloudformation: Any, live: Live) -> None:
    def workspace(alias: str) -> dict[str, Any]:
        return {"Type": "AWS::APS::Workspace", "Properties": {"Alias": alias}}

    deployed(cloudformation, stack(Store=workspace("first")))
    gone: dict[str, Any] = {}

    def meddle(text: str) -> None:
        if text == "Store (AWS::APS::Workspace) update complete":
            found = live.workspaces.known
            name = next(name for name, each in found.items() if each["alias"] == "second")
            gone[name] = found.pop(name)

    slow = stack(Store=workspace("second"), **waiting(2, DependsOn="Store"))
    with pytest.raises(FleetError, match=r"was rolled back \(UPDATE_ROLLBACK_FAILED\): Wait "):
        deploy_stack(cloudformation, slow, Follower(meddle))
    with pytest.raises(FleetError, match=r"is stuck in UPDATE_ROLLBACK_FAILED: Store .*--resources-to-skip"):
        deployed(cloudformation, stack(Store=workspace("third")))
    live.workspaces.known.update(gone)
    _, texts = deployed(cloudformation, stack(Store=workspace("third")))
    assert texts[0] == "continuing the rollback that got stuck"
    assert [live.workspaces.known[name]["alias"] for name in gone] == ["third"]


def test_a_stack_that_somebody_else_changes_is_left_alone(cloudformation: Any) -> None:
    slow = stack(**waiting(2))
    cloudformation.create_stack(
        StackName="one",
        TemplateBody=slow.body(),
        Parameters=[{"ParameterKey": "Name", "ParameterValue": "group-1"}],
    )
    with pytest.raises(FleetError, match=r"one is being changed by somebody else \(CREATE_IN_PROGRESS\)"):
        deployed(cloudformation, stack())
    while stack_status(cloudformation, "one").endswith("_IN_PROGRESS"):
        time.sleep(0.1)


def test_a_change_that_an_earlier_run_left_is_waited_for(cloudformation: Any, sessions: Sessions) -> None:
    halt = Halt()

    def stop_at(text: str) -> None:
        if text.startswith("Group "):
            halt.ask()

    with pytest.raises(FleetError, match="interrupted"):
        deploy_stack(cloudformation, stack(**waiting(2)), Follower(stop_at, halt))
    assert stack_status(cloudformation, "one") == "CREATE_IN_PROGRESS"
    _, texts = deployed(cloudformation, stack())
    assert texts[0] == "waiting for what an earlier run began (create in progress)"
    assert "deleting" in texts  # nobody signals, so the creation failed and was rolled back
    assert stack_status(cloudformation, "one") == "CREATE_COMPLETE"
    assert log_groups(sessions) == ["group-1 1"]


def test_a_template_that_is_too_long_is_refused_with_its_size(cloudformation: Any) -> None:
    long = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "g" * 60_000}}
    with pytest.raises(FleetError, match=r"has 60\d\d\d bytes, and CloudFormation takes 51200"):
        deployed(cloudformation, stack(Long=long))
    assert stack_status(cloudformation, "one") == ""
