"""The state of a fleet as it is: stacks and what drifted from them, services and their tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.errors import FleetError
from trunkline.fleet.drift import REPAIR, Drift, find_drift
from trunkline.fleet.forgotten import Forgotten, forgotten
from trunkline.fleet.metrics import Route
from trunkline.fleet.model import Fleet
from trunkline.fleet.order import FleetStack, Kind, fleet_stacks, unit_stacks
from trunkline.fleet.pace import CALLS_PER_S, Place
from trunkline.fleet.run import MAX_ACCOUNTS_AT_ONCE, Run
from trunkline.fleet.services_watch import services_in
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacksets import stack_set_state
from trunkline.fleet.units import stack_set
from trunkline.fleet.watch import Halt, HaltedError, describe

_GOOD: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "CURRENT")
_SERVICES_A_CALL: Final = 10  # DescribeServices takes no more


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """An ECS service. `images` are by container; `rollout` is the state of its newest deployment."""

    name: str
    status: str
    desired: int = 0
    running: int = 0
    pending: int = 0
    rollout: str = ""
    task_definition: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    last_event: str = ""

    @property
    def is_well(self) -> bool:
        return self.status == "ACTIVE" and self.running == self.desired


@dataclass(frozen=True, slots=True)
class StackStatus:
    """One stack; without `status` there is none. `error` is why it cannot be told, `drift` None where nobody looked."""

    kind: Kind
    account_id: str
    region: str
    stack: str
    status: str = ""
    reason: str = ""
    changed_at: str = ""
    drift: tuple[Drift, ...] | None = None
    services: tuple[ServiceStatus, ...] = ()
    error: str = ""

    @property
    def is_well(self) -> bool:
        """Whether it is complete, as it was made, and its services run what they should."""
        return (
            not self.error
            and self.status in _GOOD
            and not self.drift
            and all(service.is_well for service in self.services)
        )


@dataclass(frozen=True, slots=True)
class Status:
    """All the stacks of a fleet, in the order of deployment."""

    fleet: str
    stacks: tuple[StackStatus, ...]
    forgotten: Forgotten = field(default_factory=Forgotten)
    """What the file does not name any more, which does not make the fleet less well."""

    @property
    def is_well(self) -> bool:
        return all(stack.is_well for stack in self.stacks)

    def to_document(self) -> dict[str, Any]:
        stacks = [{**asdict(stack), "is_well": stack.is_well} for stack in self.stacks]
        for stack in stacks:
            for drift in stack["drift"] or ():
                drift["type"] = drift.pop("type_")
        head = {"fleet": self.fleet, "is_well": self.is_well, "stacks": stacks}
        return {**head, "forgotten": asdict(self.forgotten)}

    def to_json(self) -> str:
        return json.dumps(self.to_document(), indent=2)


def fleet_status(
    fleet: Fleet,
    sessions: Sessions,
    drift: bool = True,
    *,
    look_around: bool = False,
    route: Route | None = None,
    halt: Halt | None = None,
    accounts_at_once: int = MAX_ACCOUNTS_AT_ONCE,
    calls_per_s: float = CALLS_PER_S,
) -> Status:
    """The state of every stack; `drift` has CloudFormation compare the resources with them, which takes a while.

    `look_around` has a look at what the file does not name any more, by `route` at the accounts whose metrics are in
    the workspace. What cannot be looked into is told as the stack's `error`. Raises `FleetError` for a template that cannot be
    written.
    """
    run = Run(fleet, sessions, lambda _: None, halt, calls_per_s)
    by_place: dict[tuple[str, str], list[FleetStack]] = {}
    for stack in fleet_stacks(fleet):
        by_place.setdefault((stack.account_id, stack.region), []).append(stack)

    def look(stacks: list[FleetStack]) -> list[StackStatus]:
        place = run.place(stacks[0].account_id, stacks[0].region)
        return [_look(run, place, stack, drift=drift) for stack in stacks]

    found = run.side_by_side(look, by_place.values(), accounts_at_once)
    known = {(each.account_id, each.region, each.stack): each for stacks in found for each in stacks}
    order = [(stack.account_id, stack.region, stack.name) for stack in fleet_stacks(fleet)]
    units = tuple(_look_at_units(run, stack) for stack in unit_stacks(fleet))
    stacks = (*(known[place] for place in order), *units)
    return Status(fleet.name, stacks, forgotten(fleet, sessions, route) if look_around else Forgotten())


def _look_at_units(run: Run, stack: FleetStack) -> StackStatus:
    named = (stack.kind, stack.account_id, stack.region, stack.name)
    try:
        client = run.place(stack.account_id, stack.region).client("cloudformation")
        status, reason = stack_set_state(client, stack_set(run.fleet, stack, {}))
        return StackStatus(*named, status=status, reason=reason)
    except HaltedError:
        raise
    except (FleetError, ClientError, BotoCoreError) as error:
        return StackStatus(*named, error=str(error))


def _look(run: Run, place: Place, stack: FleetStack, *, drift: bool) -> StackStatus:
    named = (stack.kind, stack.account_id, stack.region, stack.name)
    try:
        found = describe(place.client("cloudformation"), stack.name)
        if found is None:
            return StackStatus(*named)
        return StackStatus(
            *named,
            status=found["StackStatus"],
            reason=found.get("StackStatusReason", ""),
            changed_at=_moment(found.get("LastUpdatedTime", found["CreationTime"])),
            drift=find_drift(place.client("cloudformation"), found, run.halt) if drift else None,
            services=tuple(_services(run, place, stack, found)) if stack.kind == "services" else (),
        )
    except HaltedError:
        raise
    except (FleetError, ClientError, BotoCoreError) as error:
        return StackStatus(*named, error=str(error))


def _moment(when: datetime) -> str:
    return when.isoformat(timespec="seconds")


def _services(run: Run, place: Place, stack: FleetStack, found: Mapping[str, Any]) -> Iterator[ServiceStatus]:
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", ())}
    cluster = parameters.get("ClusterName", run.fleet.names.cluster)
    names = services_in(run.templates[stack])
    ecs = place.client("ecs")
    for first in range(0, len(names), _SERVICES_A_CALL):
        asked = list(names[first : first + _SERVICES_A_CALL])
        answer = ecs.describe_services(cluster=cluster, services=asked)
        known = {each["serviceName"]: each for each in answer["services"]}
        for name in asked:
            yield _service(ecs, known[name]) if name in known else ServiceStatus(name, "MISSING")


def _service(ecs: Any, service: Mapping[str, Any]) -> ServiceStatus:
    deployments, events = service.get("deployments", []), service.get("events", [])
    task = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    return ServiceStatus(
        service["serviceName"],
        service["status"],
        service["desiredCount"],
        service["runningCount"],
        service.get("pendingCount", 0),
        deployments[0].get("rolloutState", "") if deployments else "",
        service["taskDefinition"].rpartition("/")[2],
        {each["name"]: each["image"] for each in task["containerDefinitions"]},
        events[0]["message"] if events else "",
    )


def render(status: Status, color: bool) -> str:
    """The status in lines, by account and region."""
    lines, place = [f"fleet {status.fleet}"], ("", "")
    for stack in status.stacks:
        if place != (stack.account_id, stack.region):
            place = (stack.account_id, stack.region)
            lines += ["", f"account {stack.account_id}, {stack.region}"]
        lines += _stack_lines(stack, color)
    if any(stack.drift for stack in status.stacks):
        lines += ["", f"what somebody else changed is put back by: {REPAIR}"]
    if around := status.forgotten.text():
        lines += ["", *around]
    well = sum(stack.is_well for stack in status.stacks)
    return "\n".join([*lines, "", f"{well} of {len(status.stacks)} stacks are well"])


def _stack_lines(stack: StackStatus, color: bool) -> Iterator[str]:
    said = stack.error or stack.status or "not there"
    reason = f": {stack.reason}" if stack.reason and not stack.is_well else ""
    yield "  " + _painted(f"{stack.stack} {said}{reason}", color, well=stack.is_well)
    for drift in stack.drift or ():
        properties = f": {', '.join(drift.properties)}" if drift.properties else ""
        text = f"{drift.logical_id} ({drift.type_}) {drift.status.lower()} by somebody else{properties}"
        yield "    " + _painted(text, color, well=False)
    for service in stack.services:
        text = f"service {service.name} {service.running} of {service.desired} running"
        about = " ".join(part for part in (service.task_definition, service.rollout) if part)
        yield "    " + _painted(f"{text} ({about or service.status})", color, well=service.is_well)
        yield from (f"      {name}: {image}" for name, image in service.images.items())


def _painted(text: str, color: bool, *, well: bool) -> str:
    sign, code = ("=", 32) if well else ("!", 31)
    return f"\x1b[{code}m{sign} {text}\x1b[0m" if color else f"{sign} {text}"
