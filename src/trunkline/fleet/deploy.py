"""A whole fleet, created or removed: the accounts in the right order, workload accounts side by side.

Creating goes monitoring account, then in every workload account the roles, and in each of its regions the
base, the images and the services. Removing goes the other way. Both may be repeated after a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from trunkline import __version__
from trunkline.errors import FleetError
from trunkline.fleet.images import ImageKind, push_image
from trunkline.fleet.model import Fleet, WorkloadAccount
from trunkline.fleet.network import default_network
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacks import Stack, delete_stack, deploy_stack
from trunkline.fleet.templates import (
    BaseOutput,
    MonitoringOutput,
    ServicesParameter,
    base_template,
    global_template,
    monitoring_template,
    services_template,
)

MAX_ACCOUNTS_AT_ONCE: Final = 16

# Each image, the outputs of the base stack that say where it goes, and the parameter that hands it on.
_IMAGES: Final[tuple[tuple[ImageKind, str, str, str], ...]] = (
    (
        "collector",
        BaseOutput.COLLECTOR_REPOSITORY,
        BaseOutput.COLLECTOR_REPOSITORY_URI,
        ServicesParameter.COLLECTOR_IMAGE,
    ),
    (
        "application",
        BaseOutput.APPLICATION_REPOSITORY,
        BaseOutput.APPLICATION_REPOSITORY_URI,
        ServicesParameter.APPLICATION_IMAGE,
    ),
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on the way; `text` is a few words, such as `creating` or `unchanged`."""

    account_id: str
    region: str
    stack: str
    text: str


OnProgress = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deployed fleet's monitoring account offers."""

    workspace_id: str
    workspace_arn: str
    prometheus_endpoint: str
    central_role_arn: str
    query_role_arn: str


def deploy_fleet(fleet: Fleet, sessions: Sessions, on_progress: OnProgress) -> Deployment:
    """Create the fleet, or bring it up to date.

    `on_progress` is called from several threads, one call at a time. Raises `FleetError` naming every account
    that failed and why; the others are finished all the same.
    """
    driver = _Driver(fleet, sessions, on_progress)
    deployment = driver.deploy_monitoring()
    driver.in_every_workload(lambda account: driver.deploy_workload(account, deployment.workspace_id))
    return deployment


def destroy_fleet(fleet: Fleet, sessions: Sessions, on_progress: OnProgress) -> None:
    """Remove the fleet with everything in it; what does not exist is no error.

    The monitoring account comes last, and stays as it is while a workload account cannot be cleared, so that
    tasks that still run have somewhere to send to. Raises `FleetError` as `deploy_fleet` does.
    """
    driver = _Driver(fleet, sessions, on_progress)
    driver.in_every_workload(driver.destroy_workload)
    driver.destroy_monitoring()


class _Driver:
    """The steps on one fleet, each in one account and region, with progress told and errors placed."""

    def __init__(self, fleet: Fleet, sessions: Sessions, on_progress: OnProgress) -> None:
        self._fleet = fleet
        self._sessions = sessions
        self._on_progress = on_progress
        self._lock = Lock()

    def deploy_monitoring(self) -> Deployment:
        fleet, account = self._fleet, self._fleet.monitoring
        outputs = self._deploy(
            account.account_id, account.region, fleet.monitoring_stack, monitoring_template(fleet)
        )
        return Deployment(
            workspace_id=outputs[MonitoringOutput.WORKSPACE_ID],
            workspace_arn=outputs[MonitoringOutput.WORKSPACE_ARN],
            prometheus_endpoint=outputs[MonitoringOutput.PROMETHEUS_ENDPOINT],
            central_role_arn=outputs[MonitoringOutput.CENTRAL_ROLE_ARN],
            query_role_arn=outputs[MonitoringOutput.QUERY_ROLE_ARN],
        )

    def deploy_workload(self, account: WorkloadAccount, workspace_id: str) -> None:
        fleet = self._fleet
        roles = self._deploy(
            account.account_id, account.home_region, fleet.global_stack, global_template(fleet)
        )
        for region in account.regions:
            base = self._deploy(account.account_id, region, fleet.base_stack, base_template(fleet))
            parameters = {
                **roles,
                BaseOutput.CLUSTER_NAME: base[BaseOutput.CLUSTER_NAME],
                BaseOutput.LOG_GROUP_NAME: base[BaseOutput.LOG_GROUP_NAME],
                ServicesParameter.WORKSPACE_ID: workspace_id,
                **self._images(account.account_id, region, base),
                **self._network(account.account_id, region),
            }
            template = services_template(fleet, account.services)
            self._deploy(account.account_id, region, fleet.services_stack, template, parameters)

    def destroy_workload(self, account: WorkloadAccount) -> None:
        for region in account.regions:
            self._delete(account.account_id, region, self._fleet.services_stack)
            self._delete(account.account_id, region, self._fleet.base_stack)
        self._delete(account.account_id, account.home_region, self._fleet.global_stack)

    def destroy_monitoring(self) -> None:
        account = self._fleet.monitoring
        self._delete(account.account_id, account.region, self._fleet.monitoring_stack)

    def in_every_workload(self, step: Callable[[WorkloadAccount], None]) -> None:
        """Run the step for all accounts, whatever becomes of any, then raise what went wrong."""
        with ThreadPoolExecutor(MAX_ACCOUNTS_AT_ONCE, thread_name_prefix="fleet") as pool:
            failures = list(pool.map(lambda account: _failure(step, account), self._fleet.workloads))
        _raise_all(failure for failure in failures if failure)

    def _deploy(
        self, account_id: str, region: str, name: str, template: str, parameters: dict[str, str] | None = None
    ) -> dict[str, str]:
        stack = Stack(name=name, template=template, parameters=parameters or {}, tags=self._fleet.tags)
        with _errors_say(account_id, region, name):
            client = self._sessions(account_id, region).client("cloudformation")
            return deploy_stack(client, stack, self._teller(account_id, region, name))

    def _delete(self, account_id: str, region: str, name: str) -> None:
        with _errors_say(account_id, region, name):
            client = self._sessions(account_id, region).client("cloudformation")
            delete_stack(client, name, self._teller(account_id, region, name))

    def _images(self, account_id: str, region: str, base: dict[str, str]) -> dict[str, str]:
        name = self._fleet.base_stack
        tell = self._teller(account_id, region, name)
        images = {}
        with _errors_say(account_id, region, name):
            ecr = self._sessions(account_id, region).client("ecr")
            for kind, repository, uri, parameter in _IMAGES:
                digest = push_image(ecr, base[repository], __version__, kind)
                images[parameter] = f"{base[uri]}@{digest}"
                tell(f"pushed the image of the {kind}")
        return images

    def _network(self, account_id: str, region: str) -> dict[str, str]:
        with _errors_say(account_id, region, self._fleet.services_stack):
            network = default_network(self._sessions(account_id, region).client("ec2"))
        return {
            ServicesParameter.SUBNETS: ",".join(network.subnet_ids),
            ServicesParameter.SECURITY_GROUP: network.security_group_id,
        }

    def _teller(self, account_id: str, region: str, stack: str) -> Callable[[str], None]:
        def tell(text: str) -> None:
            with self._lock:
                self._on_progress(Event(account_id, region, stack, text))

        return tell


@contextmanager
def _errors_say(account_id: str, region: str, stack: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes a `FleetError` that begins with where it was."""
    try:
        yield
    except (FleetError, ClientError, BotoCoreError) as error:
        raise FleetError(f"account {account_id}, {region}, {stack}: {error}") from error


def _failure(step: Callable[[WorkloadAccount], None], account: WorkloadAccount) -> FleetError | None:
    try:
        step(account)
    except FleetError as error:
        return error
    return None


def _raise_all(failures: Iterable[FleetError]) -> None:
    found = list(failures)
    if len(found) == 1:
        raise found[0]
    if found:
        raise FleetError("\n".join(str(error) for error in found))
