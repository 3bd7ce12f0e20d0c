"""What has the fleet's names: roles, log groups, image repositories, workspaces, Grafana. Tags say whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trunkline.fleet.lists import pages, tag_values, tags_of
from trunkline.fleet.model import TAG
from trunkline.fleet.proof.leftover import Hit
from trunkline.fleet.proof.place import SearchedPlace

_SERVICE_LINKED: Final = ("/aws-service-role/", "/aws-reserved/")


def roles(place: SearchedPlace) -> Iterator[Hit]:
    """IAM's roles with the fleet's tag, or at its path; at the path `/` with its names."""
    fleet, iam = place.fleet, place.client("iam")
    names = {
        fleet.names.task_role,
        fleet.names.execution_role,
        fleet.names.central_role,
        fleet.names.query_role,
        fleet.names.grafana_role,
    }
    for each in pages(iam, "list_roles", "Roles", PathPrefix="/"):
        name, arn = each["RoleName"], each["Arn"]
        if each["Path"].startswith(_SERVICE_LINKED):
            continue
        tags = tags_of(iam.list_role_tags(RoleName=name))
        at_path = each["Path"] == fleet.iam_path and (fleet.iam_path != "/" or name in names)
        if tags.get(TAG, fleet.name if at_path else "") == fleet.name:

            def read(name: str = name) -> bool:
                return bool(iam.get_role(RoleName=name))

            by = "tag of IAM" if TAG in tags else f"path {fleet.iam_path}"
            yield place.leftover("role", name, arn, by), read


def log_groups(place: SearchedPlace) -> Iterator[Hit]:
    """The fleet's log group, Container Insights' of its cluster, and what lies under either."""
    names, logs = place.fleet.names, place.client("logs")
    for prefix in (names.log_group, f"/aws/ecs/containerinsights/{names.cluster}/"):
        for each in pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=prefix):
            name, arn = each["logGroupName"], each["arn"].removesuffix(":*")
            if not _lies_under(name, prefix) or not place.owns(
                logs.list_tags_for_resource(resourceArn=arn).get("tags", {})
            ):
                continue

            def read(name: str = name) -> bool:
                found = pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=name)
                return any(group["logGroupName"] == name for group in found)

            yield place.leftover("log group", name, arn, "prefix"), read


def repositories(place: SearchedPlace) -> Iterator[Hit]:
    """The image repositories, and what lies under them."""
    names, ecr = place.fleet.names, place.client("ecr")
    for each in pages(ecr, "describe_repositories", "repositories"):
        name, arn = each["repositoryName"], each["repositoryArn"]
        wanted = (names.collector_repository, names.application_repository)
        if not any(_lies_under(name, prefix) for prefix in wanted):
            continue
        if place.owns(tag_values(ecr.list_tags_for_resource(resourceArn=arn)["tags"])):

            def read(name: str = name) -> bool:
                return bool(ecr.describe_repositories(repositoryNames=[name])["repositories"])

            yield place.leftover("repository", name, arn, "prefix"), read


def workspaces(place: SearchedPlace) -> Iterator[Hit]:
    """Amazon Managed Service for Prometheus: the fleet's own workspace, never one that was there before."""
    fleet, amp = place.fleet, place.client("amp")
    for each in pages(amp, "list_workspaces", "workspaces"):
        id_, tags = each["workspaceId"], each.get("tags", {})
        if id_ == fleet.monitoring.workspace.id_:
            continue  # it was there before, and is never removed
        named = each.get("alias") == fleet.names.workspace_alias
        if tags.get(TAG, fleet.name if named else "") == fleet.name:

            def read(id_: str = id_) -> bool:
                return bool(amp.describe_workspace(workspaceId=id_))

            by = "tag of AMP" if TAG in tags else "alias"
            name = f"{each.get('alias', '')} {id_}".strip()
            yield place.leftover("workspace", name, each["arn"], by), read


def grafanas(place: SearchedPlace) -> Iterator[Hit]:
    """Amazon Managed Grafana: its workspaces."""
    fleet, grafana = place.fleet, place.client("grafana")
    for each in pages(grafana, "list_workspaces", "workspaces"):
        id_, tags = each["id"], each.get("tags", {})
        named = each.get("name") == fleet.names.grafana
        if tags.get(TAG, fleet.name if named else "") == fleet.name:
            partition = grafana.meta.partition
            arn = f"arn:{partition}:grafana:{place.region}:{place.account_id}:/workspaces/{id_}"

            def read(id_: str = id_) -> bool:
                return bool(grafana.describe_workspace(workspaceId=id_))

            yield place.leftover("Grafana workspace", each.get("name", id_), arn, "name"), read


def _lies_under(name: str, prefix: str) -> bool:
    """The name itself or one below it: `demo` and `demo/x` lie under `demo`, `demonstration` does not."""
    return name == prefix or name.startswith(f"{prefix.rstrip('/')}/")
