"""Change sets: what CloudFormation says it would do to a stack that exists, or is about to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from trunkline.errors import FleetError
from trunkline.fleet.lists import pages, tags_of
from trunkline.fleet.templates import MAX_TEMPLATE_BYTES
from trunkline.fleet.watch import Halt, HaltedError, new_token

NAME_PREFIX: Final = "trunkline-"
"""Begins the name of every change set of ours."""

# A change set without changes ends FAILED, with one of these in its reason.
_NO_CHANGES: Final = ("didn't contain changes", "No updates are to be performed")

ResourceAction = Literal["create", "change", "replace", "may replace", "delete", "keep", "take up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack as it should be.

    `previous` are parameters that keep the value they have. `adopt` are resources, by logical id, that exist and
    cannot be found by CloudFormation through a name: each its type and its identifier.
    """

    name: str
    template: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    previous: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    adopt: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def body(self) -> str:
        """The template as it is sent. Raises `FleetError` when it is too long."""
        text = json.dumps(json.loads(self.template), separators=(",", ":"), sort_keys=True)
        if len(text.encode()) > MAX_TEMPLATE_BYTES:
            raise FleetError(
                f"the template of stack {self.name} has {len(text.encode())} bytes, and CloudFormation takes "
                f"{MAX_TEMPLATE_BYTES}; describe fewer services in one fleet, or shorter collector configurations"
            )
        return text


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """What happens to one resource; `properties` are the names of those that change.

    `drift` is what somebody else did to it before, `changed` or `deleted`.
    """

    action: ResourceAction
    logical_id: str
    type_: str
    properties: tuple[str, ...] = ()
    physical_id: str = ""
    drift: Literal["", "changed", "deleted"] = ""


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """A change set that CloudFormation has computed; `stack_id` is that of the stack, which may be an empty one."""

    arn: str
    stack_id: str
    changes: tuple[ResourceChange, ...]


def create_change_set(
    cloudformation: Any,
    stack: Stack,
    kind: Literal["CREATE", "UPDATE", "IMPORT"],
    halt: Halt,
    *,
    repair: bool = False,
) -> ChangeSet | None:
    """Have CloudFormation compute a change set; None, and nothing is left of it, when there is nothing to change.

    With `repair` it compares with what is really there, and puts back what somebody else changed or deleted
    (CloudFormation User Guide, "Using drift-aware change sets"). Raises `FleetError` with CloudFormation's words
    when it refuses.
    """
    request: dict[str, Any] = {
        "StackName": stack.name,
        "ChangeSetName": new_token(),
        "ChangeSetType": kind,
        "TemplateBody": stack.body(),
        "Parameters": _parameters(stack),
        "Tags": [{"Key": key, "Value": value} for key, value in stack.tags.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
    if kind == "IMPORT":
        request["ResourcesToImport"] = _to_import(stack)
    elif repair:
        # Nothing says that this goes together with taking up what exists.
        request["DeploymentMode"] = "REVERT_DRIFT"
    else:
        # What an earlier fleet left on purpose (DeletionPolicy Retain) is taken up again by its name.
        request["ImportExistingResources"] = True
    answer = cloudformation.create_change_set(**request)
    try:
        return _settled(cloudformation, stack.name, answer["Id"], answer["StackId"], kind, halt)
    except HaltedError:
        delete_change_set(cloudformation, answer["Id"])
        raise


def _parameters(stack: Stack) -> list[dict[str, Any]]:
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in stack.parameters.items()]
    return [*given, *({"ParameterKey": key, "UsePreviousValue": True} for key in stack.previous)]


def _to_import(stack: Stack) -> list[dict[str, Any]]:
    resources = json.loads(stack.template)["Resources"]
    return [
        {
            "ResourceType": resources[name]["Type"],
            "LogicalResourceId": name,
            "ResourceIdentifier": dict(found),
        }
        for name, found in stack.adopt.items()
    ]


def _settled(
    cloudformation: Any, name: str, arn: str, stack_id: str, kind: str, halt: Halt
) -> ChangeSet | None:
    answer = _computed(cloudformation, arn, halt)
    if answer["Status"] == "CREATE_COMPLETE":
        changes = tuple(_change(each["ResourceChange"]) for each in answer["Changes"])
        return ChangeSet(arn, stack_id, changes)
    reason = answer.get("StatusReason", "no reason given")
    delete_change_set(cloudformation, arn)
    if kind == "UPDATE" and any(words in reason for words in _NO_CHANGES):
        return None
    if kind != "UPDATE":  # it would have created a stack, and leaves an empty one behind
        cloudformation.delete_stack(StackName=stack_id)
    raise FleetError(f"stack {name}: CloudFormation refused the change set: {reason}")


def _computed(cloudformation: Any, arn: str, halt: Halt) -> dict[str, Any]:
    """The change set's description with all its changes."""
    for _ in halt.polls():
        answer = cloudformation.describe_change_set(ChangeSetName=arn)
        if answer["Status"] in ("CREATE_COMPLETE", "FAILED"):
            changes, page = list(answer["Changes"]), answer
            while "NextToken" in page:
                page = cloudformation.describe_change_set(ChangeSetName=arn, NextToken=page["NextToken"])
                changes += page["Changes"]
            return {**answer, "Changes": changes}
    raise AssertionError("polls have no end")


def _change(change: Mapping[str, Any]) -> ResourceChange:
    details = [detail["Target"] for detail in change.get("Details", ())]
    names = [target.get("Name") or target["Attribute"] for target in details]
    return ResourceChange(
        _action(change),
        change["LogicalResourceId"],
        change["ResourceType"],
        tuple(dict.fromkeys(names)),
        change.get("PhysicalResourceId", ""),
        _DRIFTS.get(change.get("ResourceDriftStatus", ""), ""),
    )


_DRIFTS: Final[Mapping[str, Literal["changed", "deleted"]]] = {"MODIFIED": "changed", "DELETED": "deleted"}


def _action(change: Mapping[str, Any]) -> ResourceAction:
    match change["Action"], change.get("Replacement"):
        case "Add", _:
            return "create"
        case "Remove", _:
            return "keep" if change.get("PolicyAction") == "Retain" else "delete"
        # What is really there is as the template says, and is taken for that.
        case "Import" | "SyncWithActual", _:
            return "take up"
        case _, "True":
            return "replace"
        case _, "Conditional":
            return "may replace"
    return "change"


def delete_change_set(cloudformation: Any, arn: str) -> None:
    """Delete a change set; one that is gone is as good."""
    with suppress(cloudformation.exceptions.ChangeSetNotFoundException):
        cloudformation.delete_change_set(ChangeSetName=arn)


def delete_abandoned(cloudformation: Any, name: str) -> int:
    """Delete the change sets of ours that nobody will execute any more; how many there were."""
    found = list(pages(cloudformation, "list_change_sets", "Summaries", StackName=name))
    abandoned = [
        each["ChangeSetId"]
        for each in found
        if each["ChangeSetName"].startswith(NAME_PREFIX)
        and each["ExecutionStatus"] in ("AVAILABLE", "UNAVAILABLE", "OBSOLETE")
    ]
    for arn in abandoned:
        delete_change_set(cloudformation, arn)
    return len(abandoned)


def stack_template(cloudformation: Any, name: str) -> dict[str, Any]:
    """The template that a stack was last given, as a document."""
    body = cloudformation.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]
    return dict(json.loads(body) if isinstance(body, str) else body)


def is_as_wanted(cloudformation: Any, found: Mapping[str, Any], stack: Stack) -> bool:
    """Whether the stack has this very template, these parameters and tags, so that nothing is to be computed."""
    given = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", ())}
    template = json.loads(stack.template)
    wanted = {name: str(each.get("Default", "")) for name, each in template.get("Parameters", {}).items()}
    wanted |= {name: given[name] for name in stack.previous if name in given}
    if tags_of(found) != dict(stack.tags) or given != {**wanted, **stack.parameters}:
        return False
    return bool(stack_template(cloudformation, found["StackId"]) == template)


def local_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], is_there: Callable[[str], bool] = lambda _: False
) -> Iterable[ResourceChange]:
    """What two templates differ in, as far as they alone tell: for a stack that CloudFormation cannot be asked about.

    `is_there` says of a logical id whether the resource exists already and would be taken up.
    """
    before, after = old.get("Resources", {}), new.get("Resources", {})
    for name in sorted(after.keys() - before.keys()):
        yield ResourceChange("take up" if is_there(name) else "create", name, after[name]["Type"])
    for name in sorted(before.keys() - after.keys()):
        retained = before[name].get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate")
        yield ResourceChange("keep" if retained else "delete", name, before[name]["Type"])
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            was, is_ = before[name].get("Properties", {}), after[name].get("Properties", {})
            changed = sorted(key for key in was.keys() | is_.keys() if was.get(key) != is_.get(key))
            yield ResourceChange("may replace", name, after[name]["Type"], tuple(changed))
