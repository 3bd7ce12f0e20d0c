"""A whole fleet, created or brought up to date: the accounts in the right order, workload accounts side by side.

First the monitoring account, then in every workload account the roles, and in each of its regions, side by side, the
base, the images and the services; at last the ways back to VPCs that are peered. It may be repeated at any time, after a failure or an interrupt as well.
`destroy` goes the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from trunkline.errors import FleetError
from trunkline.fleet.changes import Stack
from trunkline.fleet.destroy import destroy_fleet
from trunkline.fleet.inputs import (
    PushImage,
    asked_for,
    image_values,
    missing,
    pushed_or_named,
)
from trunkline.fleet.model import Fleet, WorkloadAccount
from trunkline.fleet.network import network_parameters, peering_parameters
from trunkline.fleet.networks import peers
from trunkline.fleet.order import (
    FleetStack,
    fleet_stacks,
    global_stack,
    monitoring_stack,
    peering_stack,
    regional_stacks,
    unit_stacks,
)
from trunkline.fleet.pace import CALLS_PER_S, Place
from trunkline.fleet.retained import adoptable, find_retakable
from trunkline.fleet.run import (
    MAX_ACCOUNTS_AT_ONCE,
    MAX_REGIONS_AT_ONCE,
    AccountResult,
    Event,
    InterruptedRunError,
    OnProgress,
    Run,
    RunError,
    quietly,
)
from trunkline.fleet.services_watch import ServicesWatch, services_in
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacks import DEAD, Change, deploy_stack, stack_status
from trunkline.fleet.templates import BaseOutput, MonitoringOutput
from trunkline.fleet.units import deploy_units
from trunkline.fleet.watch import Follower, Halt, HaltedError

__all__ = ["Deployment", "Event", "InterruptedRunError", "RunError", "deploy_fleet", "destroy_fleet"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deployed fleet's monitoring account offers, and what became of each account."""

    workspace_id: str
    workspace_arn: str
    prometheus_endpoint: str
    central_role_arn: str
    query_role_arn: str
    accounts: tuple[AccountResult, ...] = field(default=(), compare=False)

    @property
    def changed(self) -> bool:
        """Whether anything was created or changed; a second run changes nothing."""
        return any(account.state == "changed" for account in self.accounts)


def deploy_fleet(
    fleet: Fleet,
    sessions: Sessions,
    on_progress: OnProgress,
    *,
    push: PushImage = pushed_or_named,
    repair: bool = False,
    halt: Halt | None = None,
    accounts_at_once: int = MAX_ACCOUNTS_AT_ONCE,
    calls_per_s: float = CALLS_PER_S,
) -> Deployment:
    """Create the fleet, or bring it up to date.

    `on_progress` is called from several threads, one call at a time. `push` brings each image into its repository.
    `repair` puts back what somebody else changed or deleted of what the stacks made.
    `calls_per_s` holds for each account and region. `halt`, or a KeyboardInterrupt, ends it: then
    `InterruptedRunError` names the stacks that AWS is still busy with. Raises `RunError` with what became of every
    account when some failed; the others are finished all the same. A template that cannot be written, or is too long,
    is a `FleetError` before anything is touched.
    """
    run = Run(fleet, sessions, on_progress, halt, calls_per_s)
    for stack in fleet_stacks(fleet):
        Stack(name=stack.name, template=run.templates[stack]).body()
    work = _Deploy(run, push, repair=repair)
    with run.interruptible():
        run.alone(quietly(work.monitoring))
        if work.outputs and any(unit_stacks(fleet)):
            run.alone(quietly(lambda: deploy_units(run, work.outputs, push, repair=repair)))
        if work.outputs:
            run.side_by_side(quietly(work.workload), fleet.workloads, accounts_at_once)
        if work.outputs and peers(fleet):
            run.alone(quietly(work.peering))
    accounts = run.results()
    run.raise_unless_well(accounts)
    return _deployment(work.outputs, accounts)


def _deployment(outputs: Mapping[str, str], accounts: tuple[AccountResult, ...]) -> Deployment:
    return Deployment(
        workspace_id=outputs[MonitoringOutput.WORKSPACE_ID],
        workspace_arn=outputs[MonitoringOutput.WORKSPACE_ARN],
        prometheus_endpoint=outputs[MonitoringOutput.PROMETHEUS_ENDPOINT],
        central_role_arn=outputs[MonitoringOutput.CENTRAL_ROLE_ARN],
        query_role_arn=outputs[MonitoringOutput.QUERY_ROLE_ARN],
        accounts=accounts,
    )


class _Deploy:
    """The steps; `outputs` are the monitoring stack's, once it stands."""

    def __init__(self, run: Run, push: PushImage, *, repair: bool) -> None:
        self.outputs: Mapping[str, str] = {}
        self._repair = repair
        self._run = run
        self._push = push

    def monitoring(self) -> None:
        stack = monitoring_stack(self._run.fleet)
        self.outputs = self._deploy(self._run.place(stack.account_id, stack.region), stack, {})

    def peering(self) -> None:
        """The ways back, to those whose connections are there."""
        run = self._run
        stack = peering_stack(run.fleet)
        place = run.place(stack.account_id, stack.region)
        with run.recorded(stack):
            vpc_id = self.outputs[MonitoringOutput.PEER_VPC_ID]
            connections = peering_parameters(run.fleet, vpc_id, place.client("ec2"))
        self._deploy(place, stack, {**self.outputs, **connections})

    def workload(self, account: WorkloadAccount) -> None:
        """All of an account; a region that fails does not stop the others."""
        run = self._run
        stack = global_stack(run.fleet, account)
        roles = self._deploy(run.place(account.account_id, account.home_region), stack, self.outputs)
        known = {**self.outputs, **roles}
        work: Callable[[str], None] = quietly(lambda region: self._region(account, region, known))
        run.side_by_side(work, account.regions, MAX_REGIONS_AT_ONCE)

    def _region(self, account: WorkloadAccount, region: str, known: Mapping[str, str]) -> None:
        run = self._run
        place = run.place(account.account_id, region)
        base, services = regional_stacks(run.fleet, account, region)
        network = {}
        with run.recorded(base):
            network = network_parameters(account.network(region), place.client("ec2"))
        outputs = self._deploy(place, base, {**known, **network})
        with run.recorded(services):
            template = run.templates[services]
            images = image_values(place, template, outputs, self._push, run.teller(base))
        self._deploy(place, services, {**known, **network, **outputs, **images})

    def _deploy(self, place: Place, stack: FleetStack, known: Mapping[str, str]) -> Mapping[str, str]:
        run = self._run
        with run.recorded(stack):
            template = run.templates[stack]
            lacking = missing(template, known)
            if lacking:
                raise FleetError(f"nobody says what {', '.join(lacking)} should be")
            wanted = Stack(
                name=stack.name,
                template=template,
                parameters=asked_for(template, known),
                tags=run.fleet.tags,
            )
            if stack.kind in ("monitoring", "base"):
                wanted = self._with_adopted(place, wanted)
            deployed = self._follow(place, stack, wanted)
            run.record(stack, deployed[0])
            return deployed[1]

    def _with_adopted(self, place: Place, wanted: Stack) -> Stack:
        """With what an earlier fleet of this name left, if there is no stack that has it."""
        if stack_status(place.client("cloudformation"), wanted.name) not in ("", "REVIEW_IN_PROGRESS", *DEAD):
            return wanted
        found = find_retakable(place, wanted.template, self._run.fleet.name)
        return replace(wanted, adopt=adoptable(found))

    def _follow(self, place: Place, stack: FleetStack, wanted: Stack) -> tuple[Change, Mapping[str, str]]:
        run, tell = self._run, self._run.teller(stack)
        cloudformation = place.client("cloudformation")
        if stack.kind != "services":
            deployed = deploy_stack(cloudformation, wanted, Follower(tell, run.halt), repair=self._repair)
            return deployed.change, deployed.outputs
        cluster = wanted.parameters.get(BaseOutput.CLUSTER_NAME, run.fleet.names.cluster)
        watch = ServicesWatch(place, cluster, services_in(wanted.template), tell)
        try:
            follower = Follower(tell, run.halt, watch.look)
            deployed = deploy_stack(cloudformation, wanted, follower, repair=self._repair)
        except HaltedError:
            raise
        except FleetError as error:
            if not watch.reasons:
                raise
            raise FleetError(f"{error} ({watch.reasons[-1]})") from error
        return deployed.change, deployed.outputs
