"""Which stacks a fleet consists of: in which account and region, in which order, from which template.

The one definition that plan, deploy, status, destroy and the proof go by. First the monitoring account's; then, the
accounts side by side, each account's roles, and in each of its regions the base and the services; at last, where VPCs
are peered, the ways back to them. Removing goes the other way round, but for the ways back, which go before the
monitoring account's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from trunkline.fleet.model import Fleet, WorkloadAccount
from trunkline.fleet.networks import peers
from trunkline.fleet.templates import (
    base_template,
    global_template,
    monitoring_template,
    peering_template,
    registry_template,
    services_template,
)

Kind = Literal["monitoring", "registry", "units", "global", "base", "services", "peering"]


@dataclass(frozen=True, slots=True)
class FleetStack:
    """One stack of a fleet; `workload` is the account it belongs to, None for the monitoring account's."""

    kind: Kind
    account_id: str
    region: str
    name: str
    workload: WorkloadAccount | None = None

    @property
    def place(self) -> str:
        """Where it is, as errors begin."""
        return f"account {self.account_id}, {self.region}, {self.name}"


def monitoring_stack(fleet: Fleet) -> FleetStack:
    account = fleet.monitoring
    return FleetStack("monitoring", account.account_id, account.region, fleet.monitoring_stack)


def global_stack(fleet: Fleet, account: WorkloadAccount) -> FleetStack:
    return FleetStack("global", account.account_id, account.home_region, fleet.global_stack, account)


def regional_stacks(fleet: Fleet, account: WorkloadAccount, region: str) -> tuple[FleetStack, FleetStack]:
    """The base and the services of one region."""
    return (
        FleetStack("base", account.account_id, region, fleet.base_stack, account),
        FleetStack("services", account.account_id, region, fleet.services_stack, account),
    )


def account_stacks(fleet: Fleet, account: WorkloadAccount) -> Iterator[FleetStack]:
    """A workload account's, in the order of creation."""
    yield global_stack(fleet, account)
    for region in account.regions:
        yield from regional_stacks(fleet, account, region)


def registry_stacks(fleet: Fleet) -> Iterator[FleetStack]:
    """The monitoring account's, one in each region of an organisation's units, whose accounts pull from there."""
    organization, account_id = fleet.organization, fleet.monitoring.account_id
    for region in organization.regions if organization and organization.units else ():
        yield FleetStack("registry", account_id, region, f"{fleet.name}-registry")


def peering_stack(fleet: Fleet) -> FleetStack:
    """The monitoring account's ways back to peered VPCs; it is there if the fleet has any."""
    account = fleet.monitoring
    return FleetStack("peering", account.account_id, account.region, f"{fleet.name}-peering")


def unit_stacks(fleet: Fleet) -> Iterator[FleetStack]:
    """The StackSets of an organisation's units, where they are managed: roles, then all else in every region."""
    if fleet.organization and fleet.organization.units:
        for name in (fleet.global_stack, fleet.services_stack):
            yield FleetStack("units", fleet.monitoring.account_id, fleet.monitoring.region, name)


def fleet_stacks(fleet: Fleet) -> Iterator[FleetStack]:
    """All of them, in the order of creation, but for those that StackSets make."""
    yield monitoring_stack(fleet)
    yield from registry_stacks(fleet)
    for account in fleet.workloads:
        yield from account_stacks(fleet, account)
    if peers(fleet):
        yield peering_stack(fleet)


def all_stacks(fleet: Fleet) -> tuple[FleetStack, ...]:
    """All of them, the StackSets last."""
    return (*fleet_stacks(fleet), *unit_stacks(fleet))


def regions_of(fleet: Fleet) -> tuple[str, ...]:
    """Every region that the fleet's file names, where anything of it may be or have been."""
    named = {fleet.monitoring.region, *(region for account in fleet.workloads for region in account.regions)}
    return tuple(sorted(named.union(fleet.organization.regions if fleet.organization else ())))


class Templates:
    """The templates of a fleet's stacks, each written once: most accounts share theirs."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._known: dict[tuple[str, ...], str] = {}

    def __getitem__(self, stack: FleetStack) -> str:
        """The template of a stack. Raises `FleetError` when it cannot be written."""
        key = self._key(stack)
        if key not in self._known:
            self._known[key] = self._written(stack)
        return self._known[key]

    def _key(self, stack: FleetStack) -> tuple[str, ...]:
        """What the template depends on; where things were written in a file is nothing of it."""
        account = stack.workload
        if account is None:
            return (stack.kind,)
        services = repr([replace(service, place="") for service in account.services])
        network = repr(account.network(stack.region))
        # A task definition that came with a role of its own is the account's alone.
        own = account.account_id if any(service.task_definition for service in account.services) else ""
        return (stack.kind, "" if stack.kind == "global" else stack.region, services, network, own)

    def _written(self, stack: FleetStack) -> str:
        fleet, account = self._fleet, stack.workload
        if account is None:
            of_monitoring = {"registry": registry_template, "peering": peering_template}
            return of_monitoring.get(stack.kind, monitoring_template)(fleet)
        if stack.kind == "global":
            return global_template(fleet, account)
        write = base_template if stack.kind == "base" else services_template
        return write(fleet, account, stack.region)


def declared_parameters(template: str) -> Mapping[str, Mapping[str, Any]]:
    """The parameters that a template takes."""
    found: Mapping[str, Mapping[str, Any]] = json.loads(template).get("Parameters", {})
    return found
