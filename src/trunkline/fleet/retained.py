"""What a fleet's stacks leave behind on purpose: the workspace, log groups, image repositories.

Their templates say `DeletionPolicy: Retain`. They are found by the names in the templates, counted as the fleet's
only if they carry its tag, and removed through their own APIs when somebody says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from botocore.exceptions import ClientError

from trunkline.errors import FleetError
from trunkline.fleet.lists import pages, tag_values
from trunkline.fleet.model import TAG
from trunkline.fleet.pace import Place

KeptKind = Literal["images", "logs", "data"]

_NOUNS: Final[Mapping[KeptKind, str]] = {
    "images": "image repository",
    "logs": "log group",
    "data": "workspace",
}
_RETAINED: Final = ("Retain", "RetainExceptOnCreate")


@dataclass(frozen=True, slots=True, order=True)
class Kept:
    """A resource that outlives its stack; `kind` is what `destroy` has to be told to remove it."""

    account_id: str
    region: str
    kind: KeptKind
    logical_id: str
    name: str
    arn: str

    def __str__(self) -> str:
        return f"account {self.account_id}, {self.region}: {_NOUNS[self.kind]} {self.name} ({self.arn})"

    def to_document(self) -> dict[str, str]:
        return asdict(self)


def find_retained(place: Place, template: str, fleet_name: str) -> tuple[Kept, ...]:
    """What the template would retain and is there, with the fleet's tag."""
    return tuple(kept for kept, tags in _found(place, template) if tags.get(TAG) == fleet_name)


def find_retakable(place: Place, template: str, fleet_name: str) -> tuple[Kept, ...]:
    """What a new stack of this template would take up.

    Raises `FleetError` for what is there under such a name without the fleet's tag: CloudFormation would take it up
    as well, and it would then be the fleet's to remove. Several workspaces may have one alias, and stay apart.
    """
    found = list(_found(place, template))
    for kept, tags in found:
        if tags.get(TAG) != fleet_name and kept.kind != "data":
            raise FleetError(
                f"the {_NOUNS[kept.kind]} {kept.name} is there already and is not this fleet's; choose another name "
                f"for the fleet's own, or give it to the fleet with the tag {TAG}={fleet_name}"
            )
    return tuple(kept for kept, tags in found if tags.get(TAG) == fleet_name)


def _found(place: Place, template: str) -> Iterator[tuple[Kept, Mapping[str, str]]]:
    resources: Mapping[str, Mapping[str, Any]] = json.loads(template).get("Resources", {})
    for logical_id, resource in resources.items():
        known = _TYPES.get(resource["Type"])
        if known is None or resource.get("DeletionPolicy") not in _RETAINED:
            continue
        name = resource.get("Properties", {}).get(known.name_property)
        if isinstance(name, str):
            for arn, tags in known.find(place, name):
                yield Kept(place.account_id, place.region, known.kind, logical_id, name, arn), tags


def remove_retained(place: Place, kept: Kept) -> None:
    """Remove it with all that is in it; what is gone already is as good."""
    try:
        _REMOVERS[kept.kind](place, kept)
    except ClientError as error:
        if not _says_not_found(error):
            raise


def adoptable(found: tuple[Kept, ...]) -> dict[str, dict[str, str]]:
    """Those that CloudFormation cannot find by a name of their own, with the identifiers it takes for them.

    The primary identifier of `AWS::APS::Workspace` is its ARN, which AWS gives (schema of the resource type).
    """
    return {each.logical_id: {"Arn": each.arn} for each in found if each.kind == "data"}


def _find_log_group(place: Place, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    logs = place.client("logs")
    groups = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    for group in groups:
        if group["logGroupName"] == name:
            arn = group["arn"].removesuffix(":*")
            yield arn, logs.list_tags_for_resource(resourceArn=arn).get("tags", {})


def _find_repository(place: Place, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    ecr = place.client("ecr")
    try:
        [found] = ecr.describe_repositories(repositoryNames=[name])["repositories"]
    except ecr.exceptions.RepositoryNotFoundException:
        return
    arn = found["repositoryArn"]
    tags = ecr.list_tags_for_resource(resourceArn=arn)["tags"]
    yield arn, tag_values(tags)


def _find_workspace(place: Place, alias: str) -> Iterator[tuple[str, dict[str, str]]]:
    for each in pages(place.client("amp"), "list_workspaces", "workspaces", alias=alias):
        # The alias asked for is only the beginning of those found.
        if each.get("alias") == alias and each["status"]["statusCode"] in ("ACTIVE", "UPDATING"):
            yield each["arn"], each.get("tags", {})


def _remove_log_group(place: Place, kept: Kept) -> None:
    place.client("logs").delete_log_group(logGroupName=kept.name)


def _remove_repository(place: Place, kept: Kept) -> None:
    place.client("ecr").delete_repository(repositoryName=kept.name, force=True)


def _remove_workspace(place: Place, kept: Kept) -> None:
    place.client("amp").delete_workspace(workspaceId=kept.arn.rpartition("/")[2])


@dataclass(frozen=True, slots=True)
class _Type:
    kind: KeptKind
    name_property: str
    find: Callable[[Place, str], Iterator[tuple[str, dict[str, str]]]]


_TYPES: Final = {
    "AWS::Logs::LogGroup": _Type("logs", "LogGroupName", _find_log_group),
    "AWS::ECR::Repository": _Type("images", "RepositoryName", _find_repository),
    "AWS::APS::Workspace": _Type("data", "Alias", _find_workspace),
}
_REMOVERS: Final[dict[KeptKind, Callable[[Place, Kept], None]]] = {
    "logs": _remove_log_group,
    "images": _remove_repository,
    "data": _remove_workspace,
}


def _says_not_found(error: ClientError) -> bool:
    return "NotFound" in str(error.response.get("Error", {}).get("Code", ""))
