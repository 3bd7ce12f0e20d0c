"""Drift: what was changed behind a stack's back is found, and put back by a drift-aware change set.

Sources: CloudFormation User Guide, "Detect unmanaged configuration changes to stacks and resources with drift
detection" (only properties that a template sets are compared) and "Using drift-aware change sets": those compare
with the actual state, a resource that was deleted is created again, and a rollback leads back to the actual state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, Final

from trunkline.simulator.emulator.types import Kept
from trunkline.simulator.emulator.workspaces import Workspaces

Params = Mapping[str, list[str]]
Answer = tuple[int, dict[str, str], bytes]
Handler = Callable[[Params], Answer]
Reader = Callable[[str, Mapping[str, Any]], dict[str, Any] | None]

_MODE: Final = "REVERT_DRIFT"
_ID: Final = re.compile(r"<Id>([^<]+)</Id>")
_CHANGED: Final = re.compile(
    r"<LogicalResourceId>([^<]+)</LogicalResourceId>(<PhysicalResourceId>[^<]+</PhysicalResourceId>)?"
    r"<ResourceType>[^<]+</ResourceType>"
)
_DESCRIBED: Final = re.compile(r"<ChangeSetId>([^<]+)</ChangeSetId>")
_DRIFTED: Final = "_drifted"
"""Under which a change set keeps the drift of its stack's resources, by logical id."""


def tell_of_drift(
    drift: ModuleType, services: Mapping[str, ModuleType], workspaces: Workspaces, kept: Mapping[str, Kept]
) -> None:
    """Complete ministack's readers; `services` are its modules of IAM, ECS and ECR by name."""
    known: dict[str, tuple[Reader, frozenset[str]]] = drift._DRIFT_READERS  # noqa: SLF001 (there is no public way)
    known["AWS::APS::Workspace"] = (workspaces.read, frozenset(("Alias",)))
    for name, each in kept.items():
        known[name] = (each.read, frozenset())
    _tell_of_ecs(known, services["ecs"])
    _tell_of_iam(known, services["iam"])
    _tell_of_ecr(known, services["ecr"])


def _tell_of_ecs(known: dict[str, tuple[Reader, frozenset[str]]], ecs: ModuleType) -> None:
    def cluster(physical_id: str, _props: Mapping[str, Any]) -> dict[str, Any] | None:
        found = ecs._clusters.get(physical_id)  # noqa: SLF001
        return {} if found is not None and found.get("status") != "INACTIVE" else None

    def service(physical_id: str, _props: Mapping[str, Any]) -> dict[str, Any] | None:
        found = ecs._services.get(physical_id.partition(":service/")[2])  # noqa: SLF001
        if found is None or found.get("status") == "INACTIVE":
            return None
        return {"DesiredCount": found["desiredCount"], "TaskDefinition": found["taskDefinition"]}

    def definition(physical_id: str, _props: Mapping[str, Any]) -> dict[str, Any] | None:
        found = ecs._task_defs.get(physical_id.rpartition("/")[2])  # noqa: SLF001
        return {} if found is not None and found.get("status") != "INACTIVE" else None

    known["AWS::ECS::Cluster"] = (cluster, frozenset())
    known["AWS::ECS::Service"] = (service, frozenset(("DesiredCount", "TaskDefinition")))
    known["AWS::ECS::TaskDefinition"] = (definition, frozenset())


def _tell_of_iam(known: dict[str, tuple[Reader, frozenset[str]]], iam: ModuleType) -> None:
    read, compared = known["AWS::IAM::Role"]

    def role(physical_id: str, props: Mapping[str, Any]) -> dict[str, Any] | None:
        found = read(physical_id, props)
        if found is None:
            return None
        record = iam._roles[physical_id]  # noqa: SLF001
        inline = record.get("InlinePolicies", {})
        found["Policies"] = [
            {"PolicyName": name, "PolicyDocument": _document(text)} for name, text in inline.items()
        ]
        found["ManagedPolicyArns"] = list(record.get("AttachedPolicies", ()))
        found["PermissionsBoundary"] = record.get("PermissionsBoundary") or ""
        return found

    def policy(_physical_id: str, props: Mapping[str, Any]) -> dict[str, Any] | None:
        name, roles = props["PolicyName"], [iam._roles.get(each) for each in props.get("Roles", ())]  # noqa: SLF001
        texts = [each["InlinePolicies"].get(name) for each in roles if each is not None]
        there = [_document(text) for text in texts if text is not None]
        return {"PolicyDocument": there[0] if len(there) == len(roles) else {}} if there else None

    known["AWS::IAM::Role"] = (role, compared | {"Policies", "ManagedPolicyArns", "PermissionsBoundary"})
    known["AWS::IAM::Policy"] = (policy, frozenset(("PolicyDocument",)))


def _tell_of_ecr(known: dict[str, tuple[Reader, frozenset[str]]], ecr: ModuleType) -> None:
    def repository(physical_id: str, _props: Mapping[str, Any]) -> dict[str, Any] | None:
        found = ecr._repositories.get(physical_id)  # noqa: SLF001
        return None if found is None else {"ImageTagMutability": found["imageTagMutability"]}

    known["AWS::ECR::Repository"] = (repository, frozenset(("ImageTagMutability",)))


def _document(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else text


class DriftAware:
    """Change sets with `DeploymentMode=REVERT_DRIFT`, around ministack's own.

    Left out: `SyncWithActual`, and the three values of each property beside one another.
    """

    def __init__(
        self, drift: ModuleType, handlers: Mapping[str, Handler], stacks: Any, change_sets: Any
    ) -> None:
        self._drift = drift
        self._original = {
            name: handlers[name] for name in ("CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet")
        }
        self._stacks = stacks
        self._change_sets = change_sets

    def actions(self) -> dict[str, Handler]:
        return {
            "CreateChangeSet": self._create,
            "DescribeChangeSet": self._describe,
            "ExecuteChangeSet": self._execute,
        }

    def _create(self, params: Params) -> Answer:
        answer = self._original["CreateChangeSet"](params)
        found = _ID.search(answer[2].decode())
        if answer[0] < 300 and found and params.get("DeploymentMode", [""])[0] == _MODE:
            self._add_drift(self._change_sets[found[1]])
        return answer

    def _add_drift(self, change_set: dict[str, Any]) -> None:
        """What drifted is changed too, unless that cannot be computed at all."""
        change_set[_DRIFTED] = {}
        if change_set["Status"] == "FAILED" and "didn't contain changes" not in change_set["StatusReason"]:
            return
        drifts = dict(self._drifts(change_set["StackName"]))
        known = {each["ResourceChange"]["LogicalResourceId"] for each in change_set["Changes"]}
        kept = {name: each for name, each in drifts.items() if name in change_set["_template"]["Resources"]}
        change_set["Changes"] += [_change(each) for name, each in kept.items() if name not in known]
        change_set[_DRIFTED] = kept
        if change_set["Changes"]:
            change_set.update(Status="CREATE_COMPLETE", ExecutionStatus="AVAILABLE", StatusReason="")

    def _drifts(self, stack_name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        stack = self._stacks[stack_name]
        for logical_id, record in stack["_resources"].items():
            if self._drift.supports_drift(record.get("ResourceType", "")):
                found = self._drift.detect_resource_drift(stack, logical_id, record, "")
                if found["StackResourceDriftStatus"] in ("MODIFIED", "DELETED"):
                    yield logical_id, found

    def _describe(self, params: Params) -> Answer:
        status, headers, body = self._original["DescribeChangeSet"](params)
        found = _DESCRIBED.search(body.decode())
        drifted = self._change_sets.get(found[1], {}).get(_DRIFTED) if found else None
        if drifted is None:
            return status, headers, body

        def with_drift(match: re.Match[str]) -> str:
            state = drifted[match[1]]["StackResourceDriftStatus"] if match[1] in drifted else "IN_SYNC"
            return f"{match[0]}<ResourceDriftStatus>{state}</ResourceDriftStatus>"

        text = _CHANGED.sub(with_drift, body.decode())
        mode = f"<DeploymentMode>{_MODE}</DeploymentMode></DescribeChangeSetResult>"
        return status, headers, text.replace("</DescribeChangeSetResult>", mode).encode()

    def _execute(self, params: Params) -> Answer:
        wanted = params.get("ChangeSetName", [""])[0]
        change_set: dict[str, Any] = self._change_sets.get(wanted, {})
        stack = self._stacks.get(change_set.get("StackName", ""))
        if change_set.get("ExecutionStatus") == "AVAILABLE" and stack:
            for logical_id, drift in change_set.get(_DRIFTED, {}).items():
                _make_actual(stack["_resources"], logical_id, drift)
        return self._original["ExecuteChangeSet"](params)


def _change(drift: Mapping[str, Any]) -> dict[str, Any]:
    """As a change set lists a resource whose template has not changed."""
    deleted = drift["StackResourceDriftStatus"] == "DELETED"
    names = dict.fromkeys(each["PropertyPath"].split("/")[1] for each in drift.get("PropertyDifferences", ()))
    details = [
        {
            "Target": {"Attribute": "Properties", "Name": name, "RequiresRecreation": "Never"},
            "Evaluation": "Static",
            "ChangeSource": "DirectModification",
        }
        for name in names
    ]
    change = {
        "Action": "Add" if deleted else "Modify",
        "LogicalResourceId": drift["LogicalResourceId"],
        "ResourceType": drift["ResourceType"],
        "Scope": [] if deleted else ["Properties"],
        "Details": details,
    }
    if not deleted:
        change |= {"Replacement": "False", "PhysicalResourceId": drift["PhysicalResourceId"]}
    return {"ResourceChange": change}


def _make_actual(records: dict[str, Any], logical_id: str, drift: Mapping[str, Any]) -> None:
    """Let the stack know a resource as it really is, so that the update changes it and a rollback leads back there."""
    if drift["StackResourceDriftStatus"] == "DELETED":
        records.pop(logical_id, None)
        return
    record = records[logical_id]
    actual = json.loads(drift["ActualProperties"])
    # Tags of the stack are put in when a resource is changed, and are not among its own properties.
    own = {name: value for name, value in actual.items() if name in record["Properties"]}
    records[logical_id] = {**record, "Properties": {**record["Properties"], **own}}
