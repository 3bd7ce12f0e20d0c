"""What CloudFormation has of a fleet: stacks, change sets of theirs, stack sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trunkline.fleet.lists import pages, tags_of
from trunkline.fleet.model import TAG
from trunkline.fleet.order import peering_stack
from trunkline.fleet.proof.leftover import Hit, Read
from trunkline.fleet.proof.place import SearchedPlace


def stacks(place: SearchedPlace) -> Iterator[Hit]:
    """Stacks with the fleet's tag, or with its names and no fleet's tag; each followed by its change sets."""
    fleet = place.fleet
    names = {fleet.monitoring_stack, fleet.global_stack, fleet.base_stack, fleet.services_stack}
    names.add(peering_stack(fleet).name)
    for stack in pages(place.client("cloudformation"), "describe_stacks", "Stacks"):
        tags = tags_of(stack)
        if stack["StackStatus"] == "DELETE_COMPLETE":
            continue
        if tags.get(TAG) == fleet.name or (stack["StackName"] in names and TAG not in tags):
            by = "name" if TAG not in tags else "tag of CloudFormation"
            name, arn = stack["StackName"], stack["StackId"]
            shown = f"{name} ({stack['StackStatus']})"
            yield place.leftover("stack", shown, arn, by), reads_stack(place, arn)
            yield from _change_sets(place, name)


def described_stack(place: SearchedPlace, arn: str) -> dict[str, Any]:
    """A stack as CloudFormation describes it now. Raises `ClientError`."""
    return dict(place.client("cloudformation").describe_stacks(StackName=arn)["Stacks"][0])


def reads_stack(place: SearchedPlace, arn: str) -> Read:
    """Whether a stack is still there; one that is gone is described by its ARN all the same."""
    return lambda: described_stack(place, arn)["StackStatus"] != "DELETE_COMPLETE"


def _change_sets(place: SearchedPlace, stack: str) -> Iterator[Hit]:
    """Those not executed; one that was is gone with what it did."""
    cloudformation = place.client("cloudformation")
    for each in pages(cloudformation, "list_change_sets", "Summaries", StackName=stack):
        if each["ExecutionStatus"] in {"AVAILABLE", "UNAVAILABLE"}:
            arn = each["ChangeSetId"]

            def read(arn: str = arn) -> bool:
                return bool(cloudformation.describe_change_set(ChangeSetName=arn))

            yield place.leftover("change set", f"{each['ChangeSetName']} of {stack}", arn, "stack"), read


def stack_sets(place: SearchedPlace) -> Iterator[Hit]:
    """Those of the organisation's units, which only their tag tells from others."""
    cloudformation, organization = place.client("cloudformation"), place.fleet.organization
    caller = "DELEGATED_ADMIN" if organization and organization.delegated else "SELF"
    for each in pages(cloudformation, "list_stack_sets", "Summaries", Status="ACTIVE", CallAs=caller):
        name = each["StackSetName"]

        def read(name: str = name) -> bool:
            found = cloudformation.describe_stack_set(StackSetName=name, CallAs=caller)["StackSet"]
            mine = tags_of(found).get(TAG) == place.fleet.name
            return mine and found["Status"] == "ACTIVE"

        if read():
            yield place.leftover("stack set", name, each["StackSetId"], "tag of CloudFormation"), read
