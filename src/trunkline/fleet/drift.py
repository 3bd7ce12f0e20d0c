"""What somebody else changed about a stack's resources, as CloudFormation finds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trunkline.errors import FleetError
from trunkline.fleet.watch import Halt

REPAIR: Final = "trunkline fleet deploy --repair"
"""The command that puts back what drifted."""

COMPARABLE: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
"""States of a stack in which it can be compared with what is there."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A resource that is not as its stack made it; `properties` are the paths of those that differ."""

    logical_id: str
    type_: str
    status: str
    properties: tuple[str, ...] = ()


def find_drift(cloudformation: Any, found: Mapping[str, Any], halt: Halt) -> tuple[Drift, ...]:
    """What differs from a stack, as `DescribeStacks` has it; nothing of one that cannot be compared.

    Only properties that the template sets are compared. Waits for CloudFormation, some seconds for each stack.
    Raises `FleetError` when it could not look.
    """
    return tuple(_detected(cloudformation, found["StackId"], halt)) if is_comparable(found) else ()


def is_comparable(found: Mapping[str, Any]) -> bool:
    return found["StackStatus"] in COMPARABLE


def _detected(cloudformation: Any, stack_id: str, halt: Halt) -> Iterator[Drift]:
    detection = cloudformation.detect_stack_drift(StackName=stack_id)["StackDriftDetectionId"]
    for _ in halt.polls():
        answer = cloudformation.describe_stack_drift_detection_status(StackDriftDetectionId=detection)
        if answer["DetectionStatus"] != "DETECTION_IN_PROGRESS":
            break
    if answer["DetectionStatus"] == "DETECTION_FAILED" and "StackDriftStatus" not in answer:
        raise FleetError(
            f"drift could not be detected: {answer.get('DetectionStatusReason', 'no reason given')}"
        )
    wanted: dict[str, Any] = {
        "StackName": stack_id,
        "StackResourceDriftStatusFilters": ["MODIFIED", "DELETED"],
    }
    while True:
        page = cloudformation.describe_stack_resource_drifts(**wanted)
        yield from map(_resource_drift, page["StackResourceDrifts"])
        if "NextToken" not in page:
            return
        wanted["NextToken"] = page["NextToken"]


def _resource_drift(drift: Mapping[str, Any]) -> Drift:
    return Drift(
        drift["LogicalResourceId"],
        drift["ResourceType"],
        drift["StackResourceDriftStatus"],
        tuple(each["PropertyPath"] for each in drift.get("PropertyDifferences", ())),
    )
