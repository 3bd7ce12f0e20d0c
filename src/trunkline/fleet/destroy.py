"""A whole fleet, removed: services, bases, roles, and the monitoring account last.

Stacks are found by the fleet's tag in every region that the fleet's file names anywhere, and wherever else the proof has
found some, so that a region taken out of the file is cleared as well. What nobody can enter is an account that the
file does not name any more. What the stacks retain is removed only when told so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.errors import FleetError
from trunkline.fleet.lists import pages, tags_of
from trunkline.fleet.members import with_members
from trunkline.fleet.model import TAG, Fleet, WorkloadAccount
from trunkline.fleet.networks import peers
from trunkline.fleet.order import (
    FleetStack,
    global_stack,
    monitoring_stack,
    peering_stack,
    regional_stacks,
    regions_of,
)
from trunkline.fleet.pace import CALLS_PER_S, Place
from trunkline.fleet.proof.leftover import Proof
from trunkline.fleet.proof.task_definitions import clear_task_definitions
from trunkline.fleet.retained import Kept, KeptKind, find_retained, remove_retained
from trunkline.fleet.run import (
    MAX_ACCOUNTS_AT_ONCE,
    MAX_REGIONS_AT_ONCE,
    AccountResult,
    OnProgress,
    Run,
    quietly,
)
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacks import delete_stack
from trunkline.fleet.templates import organization_template
from trunkline.fleet.units import destroy_units
from trunkline.fleet.watch import Follower, Halt, HaltedError

# Such a stack belongs to a StackSet, which has to let go of it.
_OF_A_STACK_SET: Final = "StackSet-"


@dataclass(frozen=True, slots=True)
class Removal:
    """What is left of a fleet on purpose, what was removed beyond its stacks, and where nobody could look."""

    kept: tuple[Kept, ...] = ()
    removed: tuple[Kept, ...] = ()
    not_looked: tuple[str, ...] = ()
    accounts: tuple[AccountResult, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was removed; a second run removes nothing."""
        return bool(self.removed) or any(account.state == "changed" for account in self.accounts)


def destroy_fleet(
    fleet: Fleet,
    sessions: Sessions,
    on_progress: OnProgress,
    *,
    images: bool = False,
    logs: bool = False,
    data: bool = False,
    beyond: Collection[tuple[str, str]] = (),
    halt: Halt | None = None,
    accounts_at_once: int = MAX_ACCOUNTS_AT_ONCE,
    calls_per_s: float = CALLS_PER_S,
) -> Removal:
    """Remove the fleet; what does not exist is no error. `images`, `logs` and `data` remove what stacks retain.

    `beyond` are accounts and regions to look into besides those that the file names (`stacks_beyond`).
    The monitoring account comes last, and stays as it is while a workload account cannot be cleared, so that
    tasks that still run have somewhere to send to. Raises `RunError` or `InterruptedRunError` as `deploy_fleet` does.
    """
    run = Run(fleet, sessions, on_progress, halt, calls_per_s)
    told: dict[KeptKind, bool] = {"images": images, "logs": logs, "data": data}
    work = _Destroy(run, frozenset(kind for kind, is_told in told.items() if is_told), beyond)
    with run.interruptible():
        run.side_by_side(quietly(work.workload), fleet.workloads, accounts_at_once)
        if not work.failed(run.results()):
            run.alone(quietly(work.monitoring))
    return work.removal(run.results())


def stacks_beyond(fleet: Fleet, proof: Proof) -> set[tuple[str, str]]:
    """Accounts of the fleet and regions that its file does not name, in which the proof has found stacks of it."""
    named = set(regions_of(fleet))
    accounts = {fleet.monitoring.account_id, *(account.account_id for account in fleet.workloads)}
    return {
        (each.account_id, each.region)
        for each in proof.left
        if each.kind == "stack" and each.account_id in accounts and each.region not in named
    }


class _Destroy:
    def __init__(self, run: Run, told: frozenset[KeptKind], beyond: Collection[tuple[str, str]]) -> None:
        self._run = run
        self._beyond = beyond
        self._told = told
        self._lock = Lock()
        self._kept: list[Kept] = []
        self._removed: list[Kept] = []
        self._not_looked: list[str] = []

    @staticmethod
    def failed(accounts: Iterable[AccountResult]) -> bool:
        """Whether a workload account still has something of the fleet."""
        stacks = [stack for account in accounts for stack in account.stacks]
        return any(stack.state in ("failed", "interrupted") for stack in stacks)

    def removal(self, accounts: tuple[AccountResult, ...]) -> Removal:
        """The end of it. Raises when it did not go well."""
        self._run.raise_unless_well(accounts)
        return Removal(
            tuple(sorted(self._kept)),
            tuple(sorted(self._removed)),
            tuple(sorted(self._not_looked)),
            accounts,
        )

    def workload(self, account: WorkloadAccount) -> None:
        """All of an account: its regions, then its roles, which tasks in any region need to the last."""
        run = self._run
        home = global_stack(run.fleet, account)
        elsewhere = self._elsewhere(account.account_id, account.regions)
        regional = {run.fleet.base_stack, run.fleet.services_stack}
        regions = [*account.regions, *(region for region, names in elsewhere.items() if names & regional)]
        clear: Callable[[str], None] = quietly(lambda region: self._region(account, region))
        run.side_by_side(clear, regions, MAX_REGIONS_AT_ONCE)
        if not self.failed(run.results([home])):
            self._delete_all(home, elsewhere)

    def monitoring(self) -> None:
        """What the units have, the ways to peered VPCs, the monitoring account's stack, and its workspace if told so."""
        organization = self._run.fleet.organization
        if organization and organization.units:
            members = self._members()
            destroy_units(self._run, self._retained_of)
            self._run.side_by_side(self._left_by, members, MAX_ACCOUNTS_AT_ONCE)
        stack = monitoring_stack(self._run.fleet)
        ways_back = peering_stack(self._run.fleet)
        if peers(self._run.fleet) or ways_back.name in self._found(stack.account_id, stack.region):
            self._delete(self._run.place(stack.account_id, stack.region), ways_back)
        self._delete_all(stack, self._elsewhere(stack.account_id, (stack.region,)))
        self._retained(self._run.place(stack.account_id, stack.region), stack)

    def _members(self) -> list[tuple[Fleet, WorkloadAccount]]:
        """The accounts of the units, each beside the fleet that has it."""
        fleet, run = self._run.fleet, self._run
        try:
            whole = with_members(fleet, run.sessions)
        except (FleetError, ClientError, BotoCoreError) as error:
            why = (
                f"account {fleet.monitoring.account_id}: the accounts of the units cannot be listed: {error}"
            )
            self._not_looked.append(why)
            return []
        return [(whole, account) for account in whole.workloads[len(fleet.workloads) :]]

    def _left_by(self, member: tuple[Fleet, WorkloadAccount]) -> None:
        """What the stacks of StackSets leave in an account; nobody has to be able to enter it."""
        whole, account = member
        template = organization_template(whole)
        for region in account.regions:
            place = self._run.place(account.account_id, region)
            try:
                clear_task_definitions(whole, place)
                self._sort_out(place, find_retained(place, template, whole.name), lambda _: None)
            except HaltedError:
                raise
            except (FleetError, ClientError, BotoCoreError) as error:
                with self._lock:
                    self._not_looked.append(f"account {account.account_id}, {region}: {error}")

    def _delete_all(self, stack: FleetStack, elsewhere: Mapping[str, set[str]]) -> None:
        """A stack that an account has once, also where it was when the file named another region for it."""
        others = [region for region, names in elsewhere.items() if stack.name in names]
        for region in (stack.region, *others):
            found = replace(stack, region=region)
            self._delete(self._run.place(stack.account_id, region), found)

    def _elsewhere(self, account_id: str, regions: Sequence[str]) -> dict[str, set[str]]:
        """The names of the fleet's stacks in the regions that are not the account's."""
        known = [*regions_of(self._run.fleet), *(region for own, region in self._beyond if own == account_id)]
        others = [region for region in dict.fromkeys(known) if region not in regions]
        find: Callable[[str], set[str]] = partial(self._found, account_id)
        return dict(zip(others, self._run.side_by_side(find, others, MAX_REGIONS_AT_ONCE), strict=True))

    def _retained_of(self, stack: FleetStack) -> None:
        self._retained(self._run.place(stack.account_id, stack.region), stack)

    def _region(self, account: WorkloadAccount, region: str) -> None:
        place = self._run.place(account.account_id, region)
        base, services = regional_stacks(self._run.fleet, account, region)
        self._delete(place, services)
        self._delete(place, base)
        with self._run.recorded(base):
            clear_task_definitions(self._run.fleet, place)
        self._retained(place, base)

    def _found(self, account_id: str, region: str) -> set[str]:
        place = self._run.place(account_id, region)
        try:
            return tagged_stacks(place.client("cloudformation"), self._run.fleet.name)
        except (FleetError, ClientError, BotoCoreError) as error:
            # A region that is off, or closed by policy, has nothing of the fleet either.
            with self._lock:
                self._not_looked.append(f"account {account_id}, {region}: {error}")
            return set()

    def _delete(self, place: Place, stack: FleetStack) -> None:
        run = self._run
        with run.recorded(stack):
            follower = Follower(run.teller(stack), run.halt)
            was_there = delete_stack(place.client("cloudformation"), stack.name, follower)
            run.record(stack, "deleted" if was_there else "absent")

    def _retained(self, place: Place, stack: FleetStack) -> None:
        """What the stack leaves: removed if told so, and else written down."""
        with self._run.recorded(stack):
            found = find_retained(place, self._template(stack), self._run.fleet.name)
            self._sort_out(place, found, self._run.teller(stack))

    def _sort_out(self, place: Place, found: Iterable[Kept], tell: Callable[[str], None]) -> None:
        for kept in found:
            if kept.kind in self._told:
                remove_retained(place, kept)
                tell(f"removed {kept.name}")
            with self._lock:
                (self._removed if kept.kind in self._told else self._kept).append(kept)

    def _template(self, stack: FleetStack) -> str:
        try:
            return self._run.templates[stack]
        except FleetError:  # one that cannot be written was never deployed
            return json.dumps({})


def tagged_stacks(cloudformation: Any, fleet_name: str) -> set[str]:
    """The names of the stacks in a region that carry the fleet's tag."""
    return {
        stack["StackName"]
        for stack in pages(cloudformation, "describe_stacks", "Stacks")
        if tags_of(stack).get(TAG) == fleet_name
        and stack["StackStatus"] != "DELETE_COMPLETE"
        and not stack["StackName"].startswith(_OF_A_STACK_SET)
    }
