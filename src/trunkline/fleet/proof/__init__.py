"""The proof that nothing of a fleet is left, from everything AWS can be asked about it.

    stacks              CloudFormation: stacks of the fleet's tag or names, those in review and their change sets too;
                        stack sets
    tags                the Tagging API in every region that is enabled, and EC2's own tags
    names               IAM roles by path, name and tag; log groups, image repositories, workspaces, Grafana
    task_definitions    ECS: those of the services' families, deregistered ones too

    search      one account and region: all of these, each hit read again
    place       the account and region, and its clients
    leftover    a hit, and the proof's outcome

In regions that the fleet's file does not name, CloudFormation and the Tagging API have to do. Such lists lag behind what they
list: each hit is read again, for a while, before it counts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.errors import FleetError
from trunkline.fleet.members import member_ids, with_members
from trunkline.fleet.model import Fleet
from trunkline.fleet.order import fleet_stacks
from trunkline.fleet.proof.leftover import Leftover, Proof
from trunkline.fleet.proof.place import SearchedPlace, named_places
from trunkline.fleet.proof.search import Search
from trunkline.fleet.sessions import Sessions

MAX_PLACES_AT_ONCE: Final = 16
PATIENCE_S: Final = 20.0
"""So long may something take to go, or a list to notice that it has gone."""


def leftovers(
    fleet: Fleet,
    sessions: Sessions,
    kept: Collection[str] = (),
    *,
    other_regions: bool = True,
    patience_s: float = PATIENCE_S,
) -> Proof:
    """What is left of the fleet in its accounts. `kept` has ARNs, or names, of what was left on purpose.

    `other_regions` looks into the accounts' other enabled regions too, with two calls in each. What is on its way
    out is waited for, `patience_s` at most. Changes nothing; raises nothing for what it may not look at.
    """
    given, unlisted = fleet, ""
    try:
        fleet = with_members(given, sessions)
    except (ClientError, BotoCoreError, FleetError) as error:
        unlisted = f"{given.monitoring.account_id}: accounts of the organisation's units: {error}"
    members = member_ids(given, fleet)
    searches = _in_named_places(fleet, sessions)
    if other_regions:
        searches += _in_other_regions(fleet, sessions, searches)
    deadline = time.monotonic() + patience_s
    with ThreadPoolExecutor(MAX_PLACES_AT_ONCE, thread_name_prefix="proof") as pool:
        found = [each for hits in pool.map(lambda search: search.all(deadline), searches) for each in hits]
    unique = sorted({(each.account_id, each.arn): each for each in sorted(found, reverse=True)}.values())
    on_purpose = tuple(each for each in unique if each.arn in kept or each.name in kept)
    left = tuple(each for each in unique if each not in on_purpose)
    not_looked = sorted({text for search in searches for text in search.not_looked} | {unlisted} - {""})
    needed = [search for search in searches if search.is_named and search.place.account_id not in members]
    complete = not any(search.not_looked for search in needed)
    return Proof(left, on_purpose, tuple(not_looked), complete)


def elsewhere(fleet: Fleet, sessions: Sessions) -> tuple[Leftover, ...]:
    """What carries the fleet's tag in regions of its accounts that its file does not name, by one call in each region.

    Raises nothing for a region that may not be looked at; `leftovers` says of those, too.
    """
    with_stacks = {(stack.account_id, stack.region) for stack in fleet_stacks(fleet)}
    others = [
        each
        for each in _in_other_regions(fleet, sessions, _in_named_places(fleet, sessions))
        if (each.place.account_id, each.place.region) not in with_stacks
    ]
    with ThreadPoolExecutor(MAX_PLACES_AT_ONCE, thread_name_prefix="elsewhere") as pool:
        found = pool.map(lambda search: search.tagged(), others)
        return tuple(sorted(each for hits in found for each in hits))


def _in_named_places(fleet: Fleet, sessions: Sessions) -> list[Search]:
    return [
        Search(SearchedPlace(fleet, sessions, account, region)) for account, region in named_places(fleet)
    ]


def _in_other_regions(fleet: Fleet, sessions: Sessions, searches: Sequence[Search]) -> list[Search]:
    """Searches in the enabled regions of the fleet's accounts that its file does not name."""
    known = set(named_places(fleet))
    firsts = {search.place.account_id: search for search in reversed(searches)}

    def others(first: Search) -> list[Search]:
        account_id = first.place.account_id
        return [
            Search(SearchedPlace(fleet, sessions, account_id, region), is_named=False)
            for region in first.enabled_regions()
            if (account_id, region) not in known
        ]

    with ThreadPoolExecutor(MAX_PLACES_AT_ONCE, thread_name_prefix="regions") as pool:
        return [each for found in pool.map(others, firsts.values()) for each in found]
