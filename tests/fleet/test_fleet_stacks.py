"""Stacks against a running emulator of AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from trunkline.errors import FleetError
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacks import Stack, delete_stack, deploy_stack, stack_outputs, stack_status

LOST_STREAM = {
    "Type": "AWS::Logs::LogStream",
    "DependsOn": "Group",
    "Properties": {"LogGroupName": "nowhere", "LogStreamName": "lost"},
}


@pytest.fixture
def cloudformation(sessions: Sessions) -> Iterator[Any]:
    client = sessions("222222222222", "eu-west-1").client("cloudformation")
    yield client
    delete_stack(client, "one", lambda _: None)


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
    return deploy_stack(cloudformation, wanted, texts.append), texts


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
    assert cloudformation.list_change_sets(StackName="one")["Summaries"][1:] == []


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
    delete_stack(cloudformation, "one", texts.append)
    assert texts == ["deleting", "Group (AWS::Logs::LogGroup) delete complete", "deleted"]
    assert log_groups(sessions) == []
    delete_stack(cloudformation, "never-there", texts.append)
    assert texts[-1] == "does not exist"


def test_a_stack_that_is_not_there_has_no_outputs(cloudformation: Any) -> None:
    with pytest.raises(FleetError, match="stack nobody does not exist"):
        stack_outputs(cloudformation, "nobody")
