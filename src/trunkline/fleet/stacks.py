"""One CloudFormation stack: brought to what its template says through a change set, or deleted.

Whoever calls waits; `on_text` is told what happens meanwhile, in a few words. What AWS answers to a request
it refuses outright (no permission, a parameter missing) is raised as it is, a botocore `ClientError`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from botocore.exceptions import ClientError

from trunkline.errors import FleetError

OnText = Callable[[str], None]

_FIRST_POLL_S: Final = 0.05
_LONGEST_POLL_S: Final = 5.0
# A change set without changes ends FAILED, with one of these in its reason.
_NO_CHANGES: Final = ("didn't contain changes", "No updates are to be performed")
# Created, rolled back and of no more use: CloudFormation only lets such a stack be deleted.
_DEAD: Final = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
_ABSENT: Final = ("", "REVIEW_IN_PROGRESS", "DELETE_COMPLETE")
# How creating or updating ends, and how deleting does; an old status may still be shown for a moment.
_CREATED: Final = ("CREATE_COMPLETE", "CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
_UPDATED: Final = ("UPDATE_COMPLETE", "UPDATE_FAILED", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED")
_GONE: Final = ("", "DELETE_COMPLETE")
_DELETED: Final = (*_GONE, "DELETE_FAILED")
# The reason of a resource that only failed because another one did.
_CANCELLED: Final = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack as it should be."""

    name: str
    template: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def deploy_stack(cloudformation: Any, stack: Stack, on_text: OnText) -> dict[str, str]:
    """Create the stack, or bring it up to date, and return its outputs.

    A stack whose creation failed earlier is replaced; one that is as it should be is left alone. Raises
    `FleetError` with the first resource that failed and AWS's words about it, after the rollback.
    """
    status = stack_status(cloudformation, stack.name)
    if status in _DEAD:
        delete_stack(cloudformation, stack.name, on_text)
        status = ""
    _refuse_busy(stack.name, status)
    creates = status in _ABSENT
    change_set_arn = _create_change_set(cloudformation, stack, creates=creates)
    if _has_changes(cloudformation, stack.name, change_set_arn, creates=creates):
        on_text("creating" if creates else "updating")
        _execute(cloudformation, stack.name, change_set_arn, on_text, creates=creates)
    else:
        on_text("unchanged")
    return stack_outputs(cloudformation, stack.name)


def delete_stack(cloudformation: Any, name: str, on_text: OnText) -> None:
    """Delete the stack with everything in it; a stack that does not exist is no error.

    Raises `FleetError` with the first resource that could not be deleted.
    """
    found = _describe(cloudformation, name)
    if found is None:
        on_text("does not exist")
        return
    on_text("deleting")
    stack_id = found["StackId"]
    watch = _Watch(cloudformation, stack_id, on_text)
    cloudformation.delete_stack(StackName=stack_id)
    if watch.until(_DELETED) not in _GONE:
        raise FleetError(f"stack {name} could not be deleted: {watch.first_failure()}")
    on_text("deleted")


def stack_status(cloudformation: Any, name: str) -> str:
    """The stack's status, such as `CREATE_COMPLETE`, or an empty string when there is no such stack."""
    found = _describe(cloudformation, name)
    return str(found["StackStatus"]) if found else ""


def stack_outputs(cloudformation: Any, name: str) -> dict[str, str]:
    """The stack's outputs. Raises `FleetError` when there is no such stack."""
    found = _describe(cloudformation, name)
    if found is None:
        raise FleetError(f"stack {name} does not exist; deploy the fleet first")
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def _describe(cloudformation: Any, name: str) -> dict[str, Any] | None:
    try:
        stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        # CloudFormation has no code of its own for this.
        if "does not exist" in str(error):
            return None
        raise
    return dict(stacks[0])


def _refuse_busy(name: str, status: str) -> None:
    if status.endswith("_IN_PROGRESS") and status not in _ABSENT:
        raise FleetError(f"stack {name} is being changed by somebody else ({status}); repeat when it is done")
    if status == "UPDATE_ROLLBACK_FAILED":
        raise FleetError(
            f"stack {name} is stuck in {status}; repair what its events name, then run: "
            f"aws cloudformation continue-update-rollback --stack-name {name}"
        )


def _create_change_set(cloudformation: Any, stack: Stack, *, creates: bool) -> str:
    answer = cloudformation.create_change_set(
        StackName=stack.name,
        ChangeSetName=f"trunkline-{uuid.uuid4().hex}",
        ChangeSetType="CREATE" if creates else "UPDATE",
        TemplateBody=stack.template,
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in stack.parameters.items()
        ],
        Tags=[{"Key": key, "Value": value} for key, value in stack.tags.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    return str(answer["Id"])


def _has_changes(cloudformation: Any, name: str, change_set_arn: str, *, creates: bool) -> bool:
    """Wait for the change set; False, and it is removed, when there is nothing to change."""
    answer = _settled_change_set(cloudformation, change_set_arn)
    if answer["Status"] == "CREATE_COMPLETE":
        return True
    cloudformation.delete_change_set(ChangeSetName=change_set_arn)
    reason = answer.get("StatusReason", "no reason given")
    if not creates and any(words in reason for words in _NO_CHANGES):
        return False
    if creates:  # a change set that would have created a stack leaves an empty one behind
        cloudformation.delete_stack(StackName=name)
    raise FleetError(f"stack {name}: CloudFormation refused the change set: {reason}")


def _settled_change_set(cloudformation: Any, change_set_arn: str) -> dict[str, Any]:
    for _ in _polls():
        answer = cloudformation.describe_change_set(ChangeSetName=change_set_arn)
        if answer["Status"] in ("CREATE_COMPLETE", "FAILED"):
            return dict(answer)
    raise AssertionError("polls have no end")


def _execute(cloudformation: Any, name: str, change_set_arn: str, on_text: OnText, *, creates: bool) -> None:
    watch = _Watch(cloudformation, name, on_text)
    cloudformation.execute_change_set(ChangeSetName=change_set_arn)
    status = watch.until((*_CREATED, *_GONE) if creates else _UPDATED)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise FleetError(f"stack {name} was rolled back ({status}): {watch.first_failure()}")


class _Watch:
    """Follows the events of a stack from the moment it is made, and tells of each resource once."""

    def __init__(self, cloudformation: Any, stack: str, on_text: OnText) -> None:
        self._cloudformation = cloudformation
        self._stack = stack
        self._on_text = on_text
        self._seen = {event["EventId"] for event in self._events()}
        self._failures: list[str] = []

    def until(self, endings: tuple[str, ...]) -> str:
        """Wait for one of these statuses and return it; that of a stack that is gone is an empty string."""
        for _ in _polls():
            status = stack_status(self._cloudformation, self._stack)
            self._tell_news()
            if status in endings:
                return status
        raise AssertionError("polls have no end")

    def first_failure(self) -> str:
        """The resource that failed first, and why: what came after it are consequences."""
        return self._failures[0] if self._failures else "AWS gave no reason; see the stack's events"

    def _tell_news(self) -> None:
        # The newest comes first, so the rest is known from the first known one on.
        news = list(takewhile(lambda event: event["EventId"] not in self._seen, self._events()))
        for event in reversed(news):
            self._seen.add(event["EventId"])
            if event["ResourceType"] != "AWS::CloudFormation::Stack":
                self._tell(event)

    def _tell(self, event: dict[str, Any]) -> None:
        resource = f"{event['LogicalResourceId']} ({event['ResourceType']})"
        status, reason = event["ResourceStatus"], event.get("ResourceStatusReason", "")
        if status.endswith("_FAILED") and _CANCELLED not in reason:
            self._failures.append(f"{resource}: {reason or status}")
        if not status.endswith("_IN_PROGRESS"):
            self._on_text(f"{resource} {status.lower().replace('_', ' ')}")

    def _events(self) -> Iterator[dict[str, Any]]:
        pages = self._cloudformation.get_paginator("describe_stack_events")
        try:
            for page in pages.paginate(StackName=self._stack):
                yield from page["StackEvents"]
        except ClientError as error:
            if "does not exist" not in str(error):
                raise


def _polls() -> Iterator[None]:
    """Endless turns, quick at first for what answers at once, then no faster than AWS likes."""
    pause_s = _FIRST_POLL_S
    while True:
        yield
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_POLL_S)
