"""The accounts of an organisation's units: reached by StackSets, with images from a registry in the monitoring account.

First the registry in each region, and the images pushed into it; then the roles, once in each account; then all else in
every region. CloudFormation enters the accounts; nobody needs credentials in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

from trunkline import __version__
from trunkline.fleet.changes import Stack
from trunkline.fleet.inputs import IMAGES, PushImage, asked_for
from trunkline.fleet.model import Fleet
from trunkline.fleet.order import FleetStack, registry_stacks, unit_stacks
from trunkline.fleet.run import MAX_REGIONS_AT_ONCE, Run
from trunkline.fleet.stacks import delete_stack, deploy_stack
from trunkline.fleet.stacksets import StackSet, delete_stack_set, deploy_stack_set
from trunkline.fleet.templates import (
    ServicesParameter,
    global_template,
    organization_template,
)
from trunkline.fleet.watch import Follower

# A repository's image by tag is one digest in every region; which parameter has it.
_DIGESTS = {
    "collector": ServicesParameter.COLLECTOR_DIGEST,
    "application": ServicesParameter.APPLICATION_DIGEST,
}


def deploy_units(run: Run, known: Mapping[str, str], push: PushImage, *, repair: bool = False) -> None:
    """Bring the units' accounts up to date; `known` has the monitoring stack's outputs. Raises `FleetError`.

    `repair` reaches the registries only: StackSets know no drift-aware change.
    """
    digests: dict[str, str] = {}
    lock = Lock()

    def registry(stack: FleetStack) -> None:
        found = _registry(run, stack, push, repair=repair)
        with lock:
            digests.update(found)

    run.side_by_side(registry, registry_stacks(run.fleet), MAX_REGIONS_AT_ONCE)
    for stack in unit_stacks(run.fleet):
        with run.recorded(stack):
            wanted = stack_set(run.fleet, stack, {**known, **digests})
            client = run.place(stack.account_id, stack.region).client("cloudformation")
            changed = deploy_stack_set(client, wanted, Follower(run.teller(stack), run.halt))
            run.record(stack, "updated" if changed else "unchanged")


def _registry(run: Run, stack: FleetStack, push: PushImage, *, repair: bool) -> dict[str, str]:
    """The registry of one region with its images, and their digests by parameter."""
    place, tell = run.place(stack.account_id, stack.region), run.teller(stack)
    with run.recorded(stack):
        wanted = Stack(name=stack.name, template=run.templates[stack], tags=run.fleet.tags)
        follower = Follower(tell, run.halt)
        deployed = deploy_stack(place.client("cloudformation"), wanted, follower, repair=repair)
        digests = {}
        for kind, repository, _, _ in IMAGES:
            if repository in deployed.outputs:
                name = deployed.outputs[repository]
                digests[_DIGESTS[kind]] = push(place.client("ecr"), name, __version__, kind)
                tell(f"has the image of the {kind}")
        run.record(stack, deployed.change)
    return digests


def destroy_units(run: Run, retained: Callable[[FleetStack], None]) -> None:
    """Remove the stacks of all the units' accounts, then the registries; `retained` sees to what they leave."""
    for stack in reversed(list(unit_stacks(run.fleet))):
        with run.recorded(stack):
            client = run.place(stack.account_id, stack.region).client("cloudformation")
            was_there = delete_stack_set(
                client, stack_set(run.fleet, stack, {}), Follower(run.teller(stack), run.halt)
            )
            run.record(stack, "deleted" if was_there else "absent")
    for stack in registry_stacks(run.fleet):
        with run.recorded(stack):
            client = run.place(stack.account_id, stack.region).client("cloudformation")
            was_there = delete_stack(client, stack.name, Follower(run.teller(stack), run.halt))
            run.record(stack, "deleted" if was_there else "absent")
        retained(stack)


def stack_set(fleet: Fleet, stack: FleetStack, known: Mapping[str, str]) -> StackSet:
    """The StackSet behind one of `unit_stacks`."""
    organization = fleet.organization
    assert organization is not None, "there are stack sets only where there are units"
    is_global = stack.name == fleet.global_stack
    template = global_template(fleet) if is_global else organization_template(fleet)
    return StackSet(
        name=stack.name,
        template=template,
        units=organization.units,
        regions=organization.regions[:1] if is_global else organization.regions,
        parameters=asked_for(template, known),
        tags=fleet.tags,
        delegated=organization.delegated,
    )
