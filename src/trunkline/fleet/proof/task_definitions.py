"""The fleet's task definitions, which outlive its stacks: found, read again, and cleared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final

from trunkline.errors import FleetError
from trunkline.fleet.lists import pages
from trunkline.fleet.model import TAG, Fleet
from trunkline.fleet.proof.leftover import Hit
from trunkline.fleet.proof.place import SearchedPlace
from trunkline.fleet.sessions import Session
from trunkline.fleet.templates import COLLECTOR_CONTAINER

_DELETED_A_CALL: Final = 10


def task_definitions(place: SearchedPlace) -> Iterator[Hit]:
    """Those of the services' families, deregistered ones too."""
    ecs = place.client("ecs")
    for each in _definitions(place.fleet, ecs, place.account_id):
        arn = each["taskDefinitionArn"]
        name = f"{each['family']}:{each['revision']} ({each['status']})"

        def read(arn: str = arn) -> bool:
            return reads_definition(ecs, arn)

        yield place.leftover("task definition", name, arn, "family"), read


def reads_definition(ecs: Any, arn: str) -> bool:
    """Whether it is still listed, as ACTIVE or INACTIVE. Raises `ClientError`."""
    found = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
    return found["status"] in {"ACTIVE", "INACTIVE"}


def clear_task_definitions(fleet: Fleet, session: Session) -> list[str]:
    """Deregister and delete the fleet's task definitions in a session's account and region; returns their ARNs.

    Deleting a stack only deregisters those it made last: they, and all revisions before, stay as INACTIVE for ever.
    Raises `ClientError`, and `FleetError` for those that ECS does not delete, as a task of theirs still runs.
    """
    ecs, account = session.client("ecs"), session.client("sts").get_caller_identity()["Account"]
    arns = [each["taskDefinitionArn"] for each in _definitions(fleet, ecs, account)]
    for arn in arns:
        if ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]["status"] == "ACTIVE":
            ecs.deregister_task_definition(taskDefinition=arn)
    failures = []
    for start in range(0, len(arns), _DELETED_A_CALL):
        answer = ecs.delete_task_definitions(taskDefinitions=arns[start : start + _DELETED_A_CALL])
        failures += [f"{each.get('arn')}: {each.get('reason')}" for each in answer.get("failures", ())]
    if failures:
        raise FleetError(f"task definitions could not be deleted: {'; '.join(failures)}")
    return arns


def _definitions(fleet: Fleet, ecs: Any, account_id: str) -> Iterator[dict[str, Any]]:
    """The fleet's task definitions, ACTIVE and INACTIVE; those being deleted are ended by AWS itself."""
    accounts = [account for account in fleet.workloads if account.account_id == account_id]
    families = dict.fromkeys(service.name for account in accounts for service in account.services)
    for family, status in product(families, ("ACTIVE", "INACTIVE")):
        for arn in pages(
            ecs, "list_task_definitions", "taskDefinitionArns", familyPrefix=family, status=status
        ):
            found = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
            definition = dict(found["taskDefinition"])
            tags = {each["key"]: each["value"] for each in found.get("tags", ())}
            if definition["family"] == family and _is_fleets(fleet, definition, tags):
                yield definition


def _is_fleets(fleet: Fleet, definition: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    """By its tag or, without one, because its tasks are the fleet's role, or its collector knows the central account.

    The family alone does not tell: whoever adds the collector to a task definition may have had it before.
    """
    if TAG in tags:
        return tags[TAG] == fleet.name
    role = f":role{fleet.iam_path}{fleet.names.task_role}"
    if str(definition.get("taskRoleArn") or "").endswith(role):
        return True
    central = {"name": "CENTRAL_ACCOUNT_ID", "value": fleet.monitoring.account_id}
    return any(
        central in container.get("environment", ())
        for container in definition["containerDefinitions"]
        if container["name"] == COLLECTOR_CONTAINER
    )
