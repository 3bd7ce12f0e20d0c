"""What `deploy` would do to a fleet, computed without changing anything.

A stack that does not exist is planned from its template: a change set would leave a stack in review behind. One that
exists is planned by a change set of CloudFormation's own, which is deleted afterwards. What only deploying tells (a
digest not pushed yet, an output of a stack that is not there) is said to be unknown; an existing stack is then
planned with the value it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from trunkline import __version__
from trunkline.errors import FleetError
from trunkline.fleet.changes import (
    ResourceChange,
    Stack,
    create_change_set,
    delete_change_set,
    is_as_wanted,
    local_changes,
    stack_template,
)
from trunkline.fleet.destroy import tagged_stacks
from trunkline.fleet.drift import find_drift
from trunkline.fleet.inputs import IMAGES, asked_for, find_image, missing
from trunkline.fleet.model import Fleet, WorkloadAccount
from trunkline.fleet.network import network_parameters, peering_parameters
from trunkline.fleet.networks import peers
from trunkline.fleet.order import (
    FleetStack,
    Kind,
    account_stacks,
    declared_parameters,
    fleet_stacks,
    global_stack,
    monitoring_stack,
    peering_stack,
    regional_stacks,
    regions_of,
    registry_stacks,
    unit_stacks,
)
from trunkline.fleet.pace import CALLS_PER_S, Place
from trunkline.fleet.planned import Plan, StackAction, StackPlan, render
from trunkline.fleet.retained import find_retakable
from trunkline.fleet.run import MAX_ACCOUNTS_AT_ONCE, MAX_REGIONS_AT_ONCE, Run
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacks import DEAD, STUCK, busy_text, is_ours, stack_outputs
from trunkline.fleet.stacksets import stack_set_change
from trunkline.fleet.templates import MonitoringOutput, PeeringParameter
from trunkline.fleet.units import stack_set
from trunkline.fleet.watch import Halt, HaltedError, describe, is_in_progress, token_of

__all__ = ["Plan", "StackPlan", "plan_fleet", "render"]

_ABSENT: Final = ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE")


def plan_fleet(
    fleet: Fleet,
    sessions: Sessions,
    *,
    repair: bool = False,
    halt: Halt | None = None,
    accounts_at_once: int = MAX_ACCOUNTS_AT_ONCE,
    calls_per_s: float = CALLS_PER_S,
) -> Plan:
    """What `deploy_fleet` would do now, with `repair` or without. An account that cannot be looked into is `blocked`, with the reason.

    Raises `FleetError` for a template that cannot be written.
    """
    run = Run(fleet, sessions, lambda _: None, halt, calls_per_s)
    for stack in fleet_stacks(fleet):
        Stack(name=stack.name, template=run.templates[stack]).body()
    planner = _Planner(run, repair=repair)
    monitoring = run.alone(lambda: planner.monitoring(monitoring_stack(fleet)))
    units = run.alone(planner.units)
    accounts = run.side_by_side(planner.workload, fleet.workloads, accounts_at_once)
    peering = run.alone(planner.peering)
    of_accounts = (stack for account in accounts for stack in account)
    return Plan(fleet.name, (*monitoring, *units, *of_accounts, *peering))


@dataclass(frozen=True, slots=True)
class _Known:
    """Parameters by name, and of those that deploying will tell, why they are not known yet."""

    values: Mapping[str, str]
    unknown: Mapping[str, str]

    def and_outputs(self, of: Mapping[str, str] | None, stack: FleetStack, template: str) -> _Known:
        """With the outputs of a stack, or the promise of them."""
        if of:
            return _Known({**self.values, **of}, self.unknown)
        promised = json.loads(template).get("Outputs", {})
        reason = f"comes from {stack.name} in {stack.region}, which is not there yet"
        return _Known(self.values, {**self.unknown, **dict.fromkeys(promised, reason)})


class _Planner:
    def __init__(self, run: Run, *, repair: bool) -> None:
        self._run = run
        self._repair = repair
        self._monitoring = _Known({}, {})

    def monitoring(self, stack: FleetStack) -> list[StackPlan]:
        place = self._run.place(stack.account_id, stack.region)
        planned = self._plan(place, stack, _Known({}, {}))
        self._monitoring = self._after(place, stack, _Known({}, {}))
        return [planned, *self._leftovers(stack.account_id, (stack.region,), {stack.name})]

    def units(self) -> list[StackPlan]:
        """The registries, and the StackSets as wholes: what they do in each account, CloudFormation does not tell."""
        fleet = self._run.fleet
        registries = [
            self._plan(self._run.place(stack.account_id, stack.region), stack, _Known({}, {}))
            for stack in registry_stacks(fleet)
        ]
        return [*registries, *map(self._unit, unit_stacks(fleet))]

    def _unit(self, stack: FleetStack) -> StackPlan:
        try:
            client = self._run.place(stack.account_id, stack.region).client("cloudformation")
            action = stack_set_change(client, stack_set(self._run.fleet, stack, self._monitoring.values))
        except HaltedError:
            raise
        except (FleetError, ClientError, BotoCoreError) as error:
            return _stack_plan(stack, "blocked", reason=str(error))
        if action == "unchanged":
            return _stack_plan(stack, action)
        return _stack_plan(
            stack, action, unknown=("what it does in each account of the units",), notes=("a StackSet",)
        )

    def peering(self) -> list[StackPlan]:
        """The ways back to VPCs that are peered; a connection that is not there yet comes with its base."""
        fleet, known = self._run.fleet, self._monitoring
        stack = peering_stack(fleet)
        place = self._run.place(stack.account_id, stack.region)
        if not peers(fleet):
            return self._peered_before(place, stack)
        names = {PeeringParameter.connection(peer.cidr): peer.name for peer in peers(fleet)}
        why = f"comes from {fleet.base_stack} of {{}}, which has none yet"
        unknown = {name: why.format(peer) for name, peer in names.items()}
        found: dict[str, str] = {}
        with _ignored():
            if vpc_id := known.values.get(MonitoringOutput.PEER_VPC_ID):
                found = peering_parameters(fleet, vpc_id, place.client("ec2"))
        return [self._plan(place, stack, _Known({**known.values, **found}, {**known.unknown, **unknown}))]

    def _peered_before(self, place: Place, stack: FleetStack) -> list[StackPlan]:
        note = "the file peers no VPC any more; deploy leaves it, and destroy removes it"
        with _ignored():
            if stack.name in tagged_stacks(place.client("cloudformation"), self._run.fleet.name):
                return [_stack_plan(stack, "leftover", notes=(note,))]
        return []

    def workload(self, account: WorkloadAccount) -> list[StackPlan]:
        run = self._run
        stack = global_stack(run.fleet, account)
        place = run.place(account.account_id, account.home_region)
        planned = self._plan(place, stack, self._monitoring)
        known = self._after(place, stack, self._monitoring)
        work: Callable[[str], list[StackPlan]] = lambda region: self._region(account, region, known)  # noqa: E731
        regions = run.side_by_side(work, account.regions, MAX_REGIONS_AT_ONCE)
        names = {each.name for each in account_stacks(run.fleet, account)}
        leftovers = self._leftovers(account.account_id, account.regions, names)
        return [planned, *(each for region in regions for each in region), *leftovers]

    def _region(self, account: WorkloadAccount, region: str, known: _Known) -> list[StackPlan]:
        run = self._run
        place = run.place(account.account_id, region)
        base, services = regional_stacks(run.fleet, account, region)
        network, refusal = self._network(place, account)
        known = _Known({**known.values, **network}, known.unknown)
        planned = self._plan(place, base, known)
        if refusal and planned.action != "blocked":
            planned = replace(planned, action="blocked", reason=refusal)
        known = self._after(place, base, known)
        known = self._images(place, run.templates[services], known)
        return [planned, self._plan(place, services, known)]

    def _network(self, place: Place, account: WorkloadAccount) -> tuple[dict[str, str], str]:
        try:
            return network_parameters(account.network(place.region), place.client("ec2")), ""
        except HaltedError:
            raise
        except (FleetError, ClientError, BotoCoreError) as error:
            return {}, str(error)

    def _images(self, place: Place, template: str, known: _Known) -> _Known:
        """The images that have been pushed already; of the others the digest is not known."""
        values, unknown = dict(known.values), dict(known.unknown)
        for kind, repository, uri, parameter in IMAGES:
            if parameter not in declared_parameters(template):
                continue
            digest = ""
            if repository in values:
                with _ignored():
                    digest = find_image(place.client("ecr"), values[repository], __version__)
            if digest:
                values[parameter] = f"{values[uri]}@{digest}"
            else:
                unknown[parameter] = f"is the digest of the {kind}'s image, which has not been pushed yet"
        return _Known(values, unknown)

    def _after(self, place: Place, stack: FleetStack, known: _Known) -> _Known:
        outputs: Mapping[str, str] | None = None
        with _ignored():
            outputs = stack_outputs(place.client("cloudformation"), stack.name)
        return known.and_outputs(outputs, stack, self._run.templates[stack])

    def _leftovers(self, account_id: str, regions: tuple[str, ...], names: set[str]) -> list[StackPlan]:
        """The fleet's stacks in regions that the file does not name any more for this account."""
        found: list[StackPlan] = []
        note = "the file does not name it any more; deploy leaves it, and destroy removes it"
        for region in regions_of(self._run.fleet):
            if region in regions:
                continue
            with _ignored():
                client = self._run.place(account_id, region).client("cloudformation")
                left = sorted(tagged_stacks(client, self._run.fleet.name) & names)
                found += [_leftover(self._run.fleet, account_id, region, name, note) for name in left]
        return found

    def _plan(self, place: Place, stack: FleetStack, known: _Known) -> StackPlan:
        try:
            return self._planned(place, stack, known)
        except HaltedError:
            raise
        except (FleetError, ClientError, BotoCoreError) as error:
            return _stack_plan(stack, "blocked", reason=str(error))

    def _planned(self, place: Place, stack: FleetStack, known: _Known) -> StackPlan:
        cloudformation = place.client("cloudformation")
        found = describe(cloudformation, stack.name)
        wanted = self._wanted(stack, known, found)
        lacking = [name for name in missing(wanted.template, known.values) if name not in known.unknown]
        unknown = tuple(
            f"{name} {known.unknown[name]}"
            for name in declared_parameters(wanted.template)
            if name in known.unknown and name not in known.values
        )
        if lacking:
            return _stack_plan(stack, "blocked", reason=f"nobody says what {', '.join(lacking)} should be")
        if found is None or found["StackStatus"] in (*_ABSENT, *DEAD):
            return self._created(place, stack, wanted, found, unknown)
        return self._updated(cloudformation, stack, wanted, found, unknown)

    def _wanted(self, stack: FleetStack, known: _Known, found: Mapping[str, Any] | None) -> Stack:
        """With the previous value of what nobody knows yet."""
        template = self._run.templates[stack]
        values = asked_for(template, known.values)
        before = {each["ParameterKey"] for each in (found or {}).get("Parameters", ())}
        previous = tuple(
            name for name in declared_parameters(template) if name not in values and name in before
        )
        tags = self._run.fleet.tags
        return Stack(name=stack.name, template=template, parameters=values, previous=previous, tags=tags)

    def _created(
        self,
        place: Place,
        stack: FleetStack,
        wanted: Stack,
        found: Mapping[str, Any] | None,
        unknown: tuple[str, ...],
    ) -> StackPlan:
        notes = []
        status = found["StackStatus"] if found else ""
        if status in DEAD:
            notes.append(f"it is in {status} from an earlier attempt: deleted first, and made anew")
        if status == "REVIEW_IN_PROGRESS":
            notes.append("an empty stack from an abandoned attempt is there, and is taken")
        there = {each.logical_id for each in find_retakable(place, wanted.template, self._run.fleet.name)}
        changes = tuple(local_changes({}, json.loads(wanted.template), there.__contains__))
        return _stack_plan(stack, "create", changes, unknown=unknown, notes=tuple(notes))

    def _updated(
        self,
        cloudformation: Any,
        stack: FleetStack,
        wanted: Stack,
        found: Mapping[str, Any],
        unknown: tuple[str, ...],
    ) -> StackPlan:
        status, notes = found["StackStatus"], []
        if is_in_progress(status):
            if not is_ours(token_of(cloudformation, found["StackId"])):
                return _stack_plan(stack, "blocked", reason=busy_text(stack.name, status))
            notes.append(f"an earlier run left it in {status}: waited for first; what follows may change")
        if status == STUCK:
            notes.append(f"it is in {status}: the rollback is continued first")
        if is_in_progress(status) or status == STUCK or _lacks_values(wanted):
            # CloudFormation computes no change set for a stack like this.
            before = stack_template(cloudformation, found["StackId"])
            changes = tuple(local_changes(before, json.loads(wanted.template)))
            notes.append("compared with its template only")
        else:
            drifted = self._repair and bool(find_drift(cloudformation, found, self._run.halt))
            as_wanted = not drifted and is_as_wanted(cloudformation, found, wanted)
            changes = () if as_wanted else self._change_set(cloudformation, wanted, repair=drifted)
        action: StackAction = "update" if changes or status == STUCK else "unchanged"
        return _stack_plan(stack, action, changes, unknown=unknown, notes=tuple(notes))

    def _change_set(self, cloudformation: Any, wanted: Stack, *, repair: bool) -> tuple[ResourceChange, ...]:
        change_set = create_change_set(cloudformation, wanted, "UPDATE", self._run.halt, repair=repair)
        if change_set is None:
            return ()
        delete_change_set(cloudformation, change_set.arn)
        return change_set.changes


def _lacks_values(wanted: Stack) -> bool:
    return bool(missing(wanted.template, {**wanted.parameters, **dict.fromkeys(wanted.previous, "")}))


def _stack_plan(
    stack: FleetStack,
    action: StackAction,
    resources: tuple[ResourceChange, ...] = (),
    *,
    reason: str = "",
    unknown: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> StackPlan:
    place = (stack.kind, stack.account_id, stack.region, stack.name)
    return StackPlan(*place, action, resources, reason, unknown, notes)


def _leftover(fleet: Fleet, account_id: str, region: str, name: str, note: str) -> StackPlan:
    kinds: dict[str, Kind] = {
        fleet.monitoring_stack: "monitoring",
        fleet.global_stack: "global",
        fleet.base_stack: "base",
        fleet.services_stack: "services",
    }
    return StackPlan(kinds[name], account_id, region, name, "leftover", notes=(note,))


@contextmanager
def _ignored() -> Iterator[None]:
    """What cannot be looked up stays unknown; the stack it belongs to says why."""
    try:
        yield
    except HaltedError:
        raise
    except (FleetError, ClientError, BotoCoreError):
        return
