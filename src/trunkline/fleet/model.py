"""What a fleet is: the accounts, their regions and services, and the names of everything created in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from trunkline.errors import ConfigError, Problem

_ACCOUNT_ID = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
# Narrower than IAM: a wildcard in a path would widen the central role's trust.
_IAM_PATH = re.compile(r"/([\w+=,.@-]+/)*", re.ASCII)
_IAM_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_STACK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,99}")
_SERVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of what is created; the defaults are those of the reference set-up."""

    task_role: str = "ecs-xaccount-task-role"
    execution_role: str = "ecs-xaccount-task-execution-role"
    assume_policy: str = "xaccount-amp-write"
    central_role: str = "ECS-AMP-Central-Role"
    workspace_alias: str = "ecs-xaccount-metrics-demo"
    cluster: str = "ecs-xaccount-metrics-demo"
    log_group: str = "ecs-xaccount-metrics-demo"
    collector_repository: str = "ecs-xaccount-metrics-demo/collector"
    application_repository: str = "ecs-xaccount-metrics-demo/application"

    @property
    def query_role(self) -> str:
        """The role that may read the workspace and nothing else."""
        return f"{self.central_role}-query"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringAccount:
    """The account that owns the workspace, and the workspace's region."""

    account_id: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An ECS service of the application and its collector; sizes are those of one task."""

    name: str
    desired_count: int = 1
    cpu_units: int = 256
    memory_mib: int = 512

    @property
    def logical_name(self) -> str:
        """Its part of CloudFormation's logical names, which are of letters and digits only."""
        return "".join(part.capitalize() for part in self.name.split("-"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadAccount:
    """An account whose tasks are measured; its services run in each of its regions.

    IAM is global to an account: the first region is the home of the stack that holds the roles.
    """

    account_id: str
    regions: tuple[str, ...]
    services: tuple[Service, ...]

    @property
    def home_region(self) -> str:
        return self.regions[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One monitoring account and its workload accounts.

    `name` begins the name of every stack and is the value of every resource's tag `trunkline:fleet`.
    `iam_path` is the path of the fleet's roles. `external_id` is demanded by the central role's trust and has
    to be sent by the collector, so it needs a `collector_configuration` that sends it. An empty
    `collector_configuration` means the reference one, led to this fleet's workspace and role.

    Raises `ConfigError` with everything that is wrong.
    """

    monitoring: MonitoringAccount
    workloads: tuple[WorkloadAccount, ...]
    name: str = "trunkline"
    iam_path: str = "/"
    external_id: str = ""
    collector_configuration: str = ""
    names: Names = field(default_factory=Names)

    def __post_init__(self) -> None:
        problems = tuple(_problems(self))
        if problems:
            raise ConfigError(problems)

    @property
    def tags(self) -> dict[str, str]:
        return {"trunkline:fleet": self.name}

    @property
    def monitoring_stack(self) -> str:
        return f"{self.name}-monitoring"

    @property
    def global_stack(self) -> str:
        return f"{self.name}-global"

    @property
    def base_stack(self) -> str:
        return f"{self.name}-base"

    @property
    def services_stack(self) -> str:
        return f"{self.name}-services"


def _problems(fleet: Fleet) -> Iterator[Problem]:
    if not _STACK_NAME.fullmatch(fleet.name):
        yield _wrong("name", fleet.name, "begin with a letter; letters, digits and hyphens, 100 at most")
    if not _IAM_PATH.fullmatch(fleet.iam_path):
        yield _wrong("iam_path", fleet.iam_path, "begin and end with a slash, as in /metrics/")
    if fleet.external_id and not fleet.collector_configuration:
        yield Problem(
            "",
            "external_id",
            "the reference collector configuration cannot send an external id",
            "give a collector_configuration whose sigv4auth extension has assume_role: external_id",
        )
    yield from _name_problems(fleet.names)
    yield from _place_problems("monitoring", fleet.monitoring.account_id, (fleet.monitoring.region,))
    yield from _workload_problems(fleet.workloads)


def _name_problems(names: Names) -> Iterator[Problem]:
    for key in ("task_role", "execution_role", "central_role", "query_role", "assume_policy"):
        value = getattr(names, key)
        if not _IAM_NAME.fullmatch(value):
            yield _wrong(f"names::{key}", value, "use at most 64 letters, digits and +=,.@_-")


def _workload_problems(workloads: tuple[WorkloadAccount, ...]) -> Iterator[Problem]:
    if not workloads:
        yield Problem("", "workloads", "there is no workload account", "name at least one")
    yield from _repeated("workloads", [account.account_id for account in workloads])
    for index, account in enumerate(workloads):
        path = f"workloads::{index}"
        yield from _place_problems(path, account.account_id, account.regions)
        yield from _service_problems(f"{path}::services", account.services)


def _place_problems(path: str, account_id: str, regions: tuple[str, ...]) -> Iterator[Problem]:
    if not _ACCOUNT_ID.fullmatch(account_id):
        yield _wrong(f"{path}::account_id", account_id, "use the account's 12 digits")
    if not regions:
        yield Problem("", f"{path}::regions", "there is no region", "name at least one, such as eu-west-1")
    for region in regions:
        if not _REGION.fullmatch(region):
            yield _wrong(f"{path}::region", region, "use a region's name, such as eu-west-1")
    yield from _repeated(f"{path}::regions", list(regions))


def _service_problems(path: str, services: tuple[Service, ...]) -> Iterator[Problem]:
    if not services:
        yield Problem("", path, "there is no service", "name at least one")
    yield from _repeated(path, [service.logical_name for service in services])
    for service in services:
        if not _SERVICE_NAME.fullmatch(service.name):
            yield _wrong(f"{path}::name", service.name, "use letters, digits and hyphens, 100 at most")
        if service.desired_count < 0:
            yield _wrong(f"{path}::desired_count", str(service.desired_count), "use 0 or more")


def _repeated(path: str, values: list[str]) -> Iterator[Problem]:
    for value in sorted({value for value in values if values.count(value) > 1}):
        yield Problem("", path, f"{value!r} is named more than once", "name it once")


def _wrong(path: str, value: str, remedy: str) -> Problem:
    return Problem("", path, f"{value!r} is not accepted", remedy)
