"""One StackSet: the same template in every account of an organisation's units, new accounts included.

Service-managed: CloudFormation enters the accounts by the organisation's own trust, so nobody needs credentials in them.
Such a StackSet skips the management account, and needs trusted access of StackSets to be on in the organisation.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from trunkline.errors import FleetError
from trunkline.fleet.lists import pages, tags_of
from trunkline.fleet.watch import Follower

_SETTLED: Final = ("SUCCEEDED", "FAILED", "STOPPED")
# An account that fails stops no other: each is named at the end.
_PREFERENCES: Final = {
    "RegionConcurrencyType": "PARALLEL",
    "FailureTolerancePercentage": 100,
    "MaxConcurrentPercentage": 100,
    "ConcurrencyMode": "SOFT_FAILURE_TOLERANCE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSet:
    """A StackSet as it should be; `delegated` says that the caller is a delegated administrator."""

    name: str
    template: str
    units: tuple[str, ...]
    regions: tuple[str, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    delegated: bool = False

    @property
    def caller(self) -> dict[str, str]:
        return {"CallAs": "DELEGATED_ADMIN" if self.delegated else "SELF"}


def deploy_stack_set(cloudformation: Any, wanted: StackSet, follower: Follower) -> bool:
    """Create it, or bring it and its instances up to date; whether anything was changed.

    Raises `FleetError` naming each account and region that failed, with CloudFormation's words; the others are done.
    """
    found = _find(cloudformation, wanted)
    changed = False
    if found is None:
        follower.on_text("creating")
        options = {"PermissionModel": "SERVICE_MANAGED", "ManagedExecution": {"Active": True}}
        automatic = {"Enabled": True, "RetainStacksOnAccountRemoval": False}
        cloudformation.create_stack_set(
            StackSetName=wanted.name, **_content(wanted), **options, AutoDeployment=automatic, **wanted.caller
        )
        changed = True
    elif not _is_as_wanted(found, wanted):
        follower.on_text("updating")
        answer = cloudformation.update_stack_set(
            StackSetName=wanted.name,
            **_content(wanted),
            OperationPreferences=_PREFERENCES,
            OperationId=str(uuid.uuid4()),
            **wanted.caller,
        )
        _await(cloudformation, wanted, answer["OperationId"], follower)
        changed = True
    for units, regions in _lacking(cloudformation, wanted):
        follower.on_text(f"creating stacks of {', '.join(units)} in {', '.join(regions)}")
        answer = cloudformation.create_stack_instances(
            StackSetName=wanted.name,
            DeploymentTargets={"OrganizationalUnitIds": list(units)},
            Regions=list(regions),
            OperationPreferences=_PREFERENCES,
            OperationId=str(uuid.uuid4()),
            **wanted.caller,
        )
        _await(cloudformation, wanted, answer["OperationId"], follower)
        changed = True
    if not changed:
        follower.on_text("unchanged")
    return changed


def stack_set_change(cloudformation: Any, wanted: StackSet) -> Literal["create", "update", "unchanged"]:
    """What deploying it would do; a parameter that `wanted` does not give keeps its value."""
    found = _find(cloudformation, wanted)
    if found is None:
        return "create"
    before = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", ())}
    kept = replace(wanted, parameters={**before, **wanted.parameters})
    same = _is_as_wanted(found, kept) and not any(_lacking(cloudformation, wanted))
    return "unchanged" if same else "update"


def stack_set_state(cloudformation: Any, wanted: StackSet) -> tuple[str, str]:
    """`CURRENT` if all its stacks are, otherwise `OUTDATED` with those that are not; empty when there is no set."""
    if _find(cloudformation, wanted) is None:
        return "", ""
    instances = list(_listed(cloudformation, wanted))
    behind = [
        f"account {each['Account']}, {each['Region']}" for each in instances if each["Status"] != "CURRENT"
    ]
    return ("OUTDATED", "; ".join(behind)) if behind else ("CURRENT", f"{len(instances)} stacks")


def delete_stack_set(cloudformation: Any, wanted: StackSet, follower: Follower) -> bool:
    """Delete its stacks in all accounts, then the set itself; False when there is none."""
    if _find(cloudformation, wanted) is None:
        follower.on_text("does not exist")
        return False
    follower.on_text("deleting")
    there = _instances(cloudformation, wanted)
    if there:
        answer = cloudformation.delete_stack_instances(
            StackSetName=wanted.name,
            DeploymentTargets={"OrganizationalUnitIds": sorted({unit for unit, _ in there})},
            Regions=sorted({region for _, region in there}),
            OperationPreferences=_PREFERENCES,
            RetainStacks=False,
            OperationId=str(uuid.uuid4()),
            **wanted.caller,
        )
        _await(cloudformation, wanted, answer["OperationId"], follower)
    cloudformation.delete_stack_set(StackSetName=wanted.name, **wanted.caller)
    follower.on_text("deleted")
    return True


def _content(wanted: StackSet) -> dict[str, Any]:
    return {
        "TemplateBody": wanted.template,
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in wanted.parameters.items()
        ],
        "Tags": [{"Key": key, "Value": value} for key, value in wanted.tags.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }


def _find(cloudformation: Any, wanted: StackSet) -> Mapping[str, Any] | None:
    try:
        answer = cloudformation.describe_stack_set(StackSetName=wanted.name, **wanted.caller)
    except cloudformation.exceptions.StackSetNotFoundException:
        return None
    found: Mapping[str, Any] = answer["StackSet"]
    return found


def _is_as_wanted(found: Mapping[str, Any], wanted: StackSet) -> bool:
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", ())}
    same = parameters == dict(wanted.parameters) and tags_of(found) == dict(wanted.tags)
    return same and json.loads(found["TemplateBody"]) == json.loads(wanted.template)


def _instances(cloudformation: Any, wanted: StackSet) -> set[tuple[str, str]]:
    """Which unit has stacks in which region."""
    listed = _listed(cloudformation, wanted)
    return {(each["OrganizationalUnitId"], each["Region"]) for each in listed}


def _listed(cloudformation: Any, wanted: StackSet) -> Iterator[Any]:
    """Its stacks, as summaries."""
    named = {"StackSetName": wanted.name, **wanted.caller}
    return pages(cloudformation, "list_stack_instances", "Summaries", **named)


def _lacking(cloudformation: Any, wanted: StackSet) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Units, and the regions where they have no stacks yet."""
    there = _instances(cloudformation, wanted)
    by_regions: dict[tuple[str, ...], list[str]] = {}
    for unit in wanted.units:
        regions = tuple(region for region in wanted.regions if (unit, region) not in there)
        by_regions.setdefault(regions, []).append(unit)
    return ((tuple(units), regions) for regions, units in by_regions.items() if regions)


def _await(cloudformation: Any, wanted: StackSet, operation: str, follower: Follower) -> None:
    """Wait for an operation, telling of each account and region once it is done."""
    named = {"StackSetName": wanted.name, "OperationId": operation, **wanted.caller}
    told: set[tuple[str, str]] = set()
    for _ in follower.halt.polls():
        status = cloudformation.describe_stack_set_operation(**named)["StackSetOperation"]["Status"]
        failures = list(_tell(cloudformation, named, told, follower))
        if status in _SETTLED:
            break
    if status != "SUCCEEDED":
        reasons = "; ".join(failures) or f"the operation {operation} ended {status}"
        raise FleetError(f"stack set {wanted.name}: {reasons}")


def _tell(
    cloudformation: Any, named: Mapping[str, str], told: set[tuple[str, str]], follower: Follower
) -> Iterator[str]:
    """Tell the news, and return all failures."""
    for each in pages(cloudformation, "list_stack_set_operation_results", "Summaries", **named):
        place, status = (each["Account"], each["Region"]), each["Status"]
        if status in ("SUCCEEDED", "FAILED", "CANCELLED") and place not in told:
            told.add(place)
            follower.on_text(f"account {place[0]}, {place[1]}: {status.lower()}")
        if status == "FAILED":
            yield f"account {place[0]}, {place[1]}: {each.get('StatusReason') or 'no reason given'}"
