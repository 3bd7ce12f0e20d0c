"""What can be known to fail before anything is touched, account by account; nothing is changed.

    monitoring, workload    what is looked at in an account of either sort
    look                    one account: its door, its regions, and what was found
    identities, stacks, names, images, quotas, workspaces, networks, ways_out    the checks, by what they are of
    finding                 one thing that was looked at

A check that may not be made, or that AWS does not answer, is "not checked" with the reason, never "ok".
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from trunkline.fleet.members import member_ids, with_members
from trunkline.fleet.model import Fleet
from trunkline.fleet.own_images import OwnImages
from trunkline.fleet.preflight.finding import Finding
from trunkline.fleet.preflight.look import Look
from trunkline.fleet.preflight.monitoring import MonitoringLook
from trunkline.fleet.preflight.workload import MemberLook, WorkloadLook
from trunkline.fleet.sessions import Sessions

MAX_ACCOUNTS_AT_ONCE: Final = 16


def preflight(fleet: Fleet, sessions: Sessions, images: OwnImages | None = None) -> list[Finding]:
    """Everything that was looked at, the monitoring account first; accounts are looked at side by side.

    With `images` it is looked at whether those that are missing can be built.
    """
    monitoring = MonitoringLook(fleet, sessions, fleet.monitoring.account_id, (fleet.monitoring.region,))
    whole = fleet
    with monitoring.listing():
        whole = with_members(fleet, sessions)
    members = member_ids(fleet, whole)
    monitoring.images = images
    looks: list[Look] = [monitoring]
    for account in whole.workloads:
        look = MemberLook if account.account_id in members else WorkloadLook
        looks.append(look(whole, sessions, account.account_id, account.regions))
        looks[-1].images = None if account.account_id in members else images
    with ThreadPoolExecutor(MAX_ACCOUNTS_AT_ONCE, thread_name_prefix="preflight") as pool:
        return [finding for findings in pool.map(lambda look: look.all(), looks) for finding in findings]
