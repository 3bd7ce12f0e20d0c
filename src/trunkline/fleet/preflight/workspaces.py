"""The workspace of the monitoring account: the one that is named, or room and an alias for a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.fleet.lists import pages
from trunkline.fleet.model import TAG
from trunkline.fleet.preflight.look import Look


def check_workspace(look: Look, region: str) -> None:
    """Whether the workspace that is named can be written to, or one can be made."""
    wanted = look.fleet.monitoring.workspace.id_
    with look.checking("workspace", region):
        found = list(pages(look.client("amp", region), "list_workspaces", "workspaces"))
        if wanted:
            _check_named(look, region, wanted, found)
            return
        own = [each for each in found if each.get("tags", {}).get(TAG) == look.fleet.name]
        _check_alias(look, region, [each for each in found if each not in own])
        if not own:
            _check_quota(look, region, len(found))


def _check_named(look: Look, region: str, wanted: str, found: Sequence[Mapping[str, Any]]) -> None:
    statuses = {each["workspaceId"]: each["status"]["statusCode"] for each in found}
    status = statuses.get(wanted, "")
    if status in {"ACTIVE", "UPDATING"}:
        look.say("ok", region, "workspace")
    else:
        why = f"{wanted} is {status}" if status else f"there is no workspace {wanted} here"
        look.say("error", region, "workspace", why, "correct the id of the workspace, or leave it out")


def _check_alias(look: Look, region: str, others: Sequence[Mapping[str, Any]]) -> None:
    alias = look.fleet.names.workspace_alias
    namesakes = [each["workspaceId"] for each in others if each.get("alias") == alias]
    if namesakes:
        why = f"{namesakes[0]} has the alias {alias} too"
        remedy = "choose another monitoring.workspace.alias, or use that one as monitoring.workspace.id"
        look.say("warning", region, "workspace", why, remedy)
    else:
        look.say("ok", region, "workspace")


def _check_quota(look: Look, region: str, count: int) -> None:
    """By the name of the quota, whatever its code is."""
    what = "quota of workspaces"
    with look.checking(what, region):
        quotas = pages(
            look.client("service-quotas", region), "list_service_quotas", "Quotas", ServiceCode="aps"
        )
        limits = [each["Value"] for each in quotas if each["QuotaName"].lower().startswith("workspaces per")]
        if not limits:
            look.say("not checked", region, what, "Service Quotas does not list it")
        elif count >= limits[0]:
            why = f"there are {count} workspaces, and the quota is {limits[0]:g}"
            look.say("error", region, what, why, "have it raised, or use a workspace that exists")
        else:
            look.say("ok", region, what)
