"""What a fleet may not be. Every problem is found at once; paths are the keys of `fleet.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from trunkline.errors import Problem
from trunkline.fleet.model import (
    Container,
    Fleet,
    MonitoringAccount,
    Names,
    Organization,
    Service,
)
from trunkline.fleet.networks import account_networks, network_problems, peering_problems
from trunkline.fleet.problems import below, matching, repeated, wrong
from trunkline.fleet.regions import ROOMIEST, partition_of, regions_of

COLLECTOR_NAME: Final = "aws-otel-collector"
"""The collector's container in every task; no other may be called so."""
LOG_RETENTION_DAYS: Final = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545),
    *(731, 1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
"""What CloudWatch Logs takes (PutRetentionPolicy)."""
FARGATE_MIB: Final[Mapping[int, Sequence[int]]] = {
    256: (512, 1024, 2048),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16384 + 1, 1024),
    4096: range(8192, 30720 + 1, 1024),
    8192: range(16384, 61440 + 1, 4096),
    16384: range(32768, 122880 + 1, 8192),
}
"""CPU units of a Fargate task and the memory each goes with (ECS Developer Guide, "Task CPU and memory")."""

_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)
# Narrower than IAM: a wildcard in a path would widen the central role's trust.
_IAM_PATH = re.compile(r"/([\w+=,.@-]+/)*", re.ASCII)
_IAM_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_BOUNDARY = re.compile(r"(arn:aws[a-z-]*:iam::(\d{12}|aws):policy/)?[\w+=,.@/-]{1,512}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{1,1224}", re.ASCII)
_STACK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,99}")
_SERVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")
_CONTAINER_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_CLUSTER = re.compile(r"[A-Za-z0-9_-]{1,255}")
_LOG_GROUP = re.compile(r"[A-Za-z0-9_/.#-]{1,512}")
_REPOSITORY = re.compile(r"(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*")
_ALIAS = re.compile(r"\S(.{0,98}\S)?")
_ORGANIZATION = re.compile(r"o-[a-z0-9]{10,32}")
_UNIT = re.compile(r"(ou-[a-z0-9]{4,32}-[a-z0-9]{8,32}|r-[a-z0-9]{4,32})")
_MOST_TAGS = 40  # of AWS's 50; CloudFormation and ECS add some, and so do we

_NAMES: Final = (
    *(
        (key, _IAM_NAME, "use at most 64 letters, digits and +=,.@_-")
        for key in (
            *("task_role", "execution_role", "central_role", "query_role", "grafana_role", "assume_policy"),
        )
    ),
    ("cluster", _CLUSTER, "use at most 255 letters, digits, hyphens and underscores"),
    ("log_group", _LOG_GROUP, "use at most 512 letters, digits and _-/.#"),
    ("collector_repository", _REPOSITORY, "use small letters and digits, parted by / . _ or -"),
    ("application_repository", _REPOSITORY, "use small letters and digits, parted by / . _ or -"),
    ("workspace_alias", _ALIAS, "use 1 to 100 characters"),
)


def problems(fleet: Fleet) -> Iterator[Problem]:
    """Everything that is wrong with the fleet itself; files it refers to were read before."""
    yield from _own(fleet)
    yield from _names(fleet.names)
    yield from _monitoring(fleet.monitoring)
    if fleet.organization:
        yield from _organization(fleet.organization)
    yield from _workloads(fleet)
    yield from _one_partition(fleet)
    yield from peering_problems(fleet)


def service_problems(service: Service) -> Iterator[Problem]:
    """What is wrong with a service; paths begin at its own keys."""
    if not _SERVICE_NAME.fullmatch(service.name):
        yield wrong("name", service.name, "use letters, digits and hyphens, 100 at most")
    if service.desired_count < 0:
        yield wrong("desired_count", str(service.desired_count), "use 0 or more")
    yield from _task_size(service)
    yield from repeated("containers", [container.name for container in service.containers])
    ports = [str(port) for container in service.containers for port in container.ports]
    yield from repeated("containers", ports, "port ", "the containers of a task share their ports")
    for index, container in enumerate(service.containers):
        for problem in _container(container, service):
            yield below(f"containers::{index}", problem)
    if service.containers and not any(container.essential for container in service.containers):
        yield Problem(
            "", "containers", "no container is essential", "without one a task never ends: mark one"
        )


# The fleet's own


def _own(fleet: Fleet) -> Iterator[Problem]:
    if not _STACK_NAME.fullmatch(fleet.name):
        yield wrong("name", fleet.name, "begin with a letter; letters, digits and hyphens, 100 at most")
    if not _IAM_PATH.fullmatch(fleet.iam_path):
        yield wrong("iam_path", fleet.iam_path, "begin and end with a slash, as in /metrics/")
    if fleet.permissions_boundary and not _BOUNDARY.fullmatch(fleet.permissions_boundary):
        yield wrong(
            "permissions_boundary", fleet.permissions_boundary, "use a policy's name, or its whole ARN"
        )
    if fleet.external_id and not _EXTERNAL_ID.fullmatch(fleet.external_id):
        yield wrong("external_id", fleet.external_id, "use 1 to 1224 letters, digits and +=,.@:/_-")
    if fleet.log_retention_days not in LOG_RETENTION_DAYS:
        days = ", ".join(map(str, LOG_RETENTION_DAYS))
        yield wrong(
            "log_retention",
            f"{fleet.log_retention_days}d",
            f"CloudWatch Logs takes these numbers of days: {days}",
        )
    yield from _tags(fleet.extra_tags)


def _tags(tags: Mapping[str, str]) -> Iterator[Problem]:
    if len(tags) > _MOST_TAGS:
        yield Problem(
            "", "tags", f"there are {len(tags)} tags", f"give at most {_MOST_TAGS}; AWS takes 50 in all"
        )
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or key.lower().startswith("aws:"):
            yield wrong(f"tags::{key}", key, "a tag's key has 1 to 128 characters and no aws: in front")
        if len(value) > 256:
            yield wrong(f"tags::{key}", value, "a tag's value has at most 256 characters")
        if key.startswith("trunkline:"):
            yield wrong(f"tags::{key}", key, "tags that begin with trunkline: are the fleet's own")


def _names(names: Names) -> Iterator[Problem]:
    for key, pattern, remedy in _NAMES:
        value = getattr(names, key)
        if not pattern.fullmatch(value):
            path = "monitoring::workspace::alias" if key == "workspace_alias" else f"names::{key}"
            yield wrong(path, value, remedy)
    roles = [names.task_role, names.execution_role, names.central_role, names.query_role, names.grafana_role]
    yield from repeated("names", roles)
    yield from repeated("names", [names.collector_repository, names.application_repository])


def _monitoring(account: MonitoringAccount) -> Iterator[Problem]:
    yield from _place("monitoring", account.account_id, (account.region,))
    if partition_of(account.region) and account.region not in _regions("amp", account.region):
        yield Problem(
            "",
            "monitoring::region",
            f"Amazon Managed Service for Prometheus is not in {account.region}",
            f"take one of: {', '.join(_regions('amp', account.region)) or 'another partition'}",
        )
    if account.grafana and account.region not in _regions("grafana", account.region):
        yield Problem(
            "",
            "monitoring::grafana",
            f"Amazon Managed Grafana is not in {account.region}",
            "leave `grafana` out, and look with another Grafana",
        )
    if account.network:
        for problem in network_problems(account.network):
            yield below("monitoring::network", problem)
    yield from _workspace(account)


def _workspace(account: MonitoringAccount) -> Iterator[Problem]:
    path, workspace = "monitoring::workspace", account.workspace
    if workspace.retention_days is not None and workspace.retention_days < 1:
        yield wrong(f"{path}::retention", f"{workspace.retention_days}d", "keep samples for a day at least")
    if workspace.out_of_order_window_s is not None and workspace.out_of_order_window_s < 0:
        yield wrong(f"{path}::out_of_order_window", str(workspace.out_of_order_window_s), "use 0s or more")
    for index, limit in enumerate(workspace.limits):
        there = f"{path}::limits::{index}"
        if limit.max_series < 1:
            yield wrong(f"{there}::max_series", str(limit.max_series), "use 1 or more")
        if not limit.labels:
            yield Problem(
                "", f"{there}::labels", "there is no label", "say whose series: cloud_account_id: …"
            )
        for name in limit.labels:
            if not _LABEL.fullmatch(name):
                yield wrong(f"{there}::labels::{name}", name, "a label's name has letters, digits and _")
    sets = [str(dict(sorted(limit.labels.items()))) for limit in workspace.limits]
    yield from repeated(f"{path}::limits", sets)


def _organization(organization: Organization) -> Iterator[Problem]:
    if not _ORGANIZATION.fullmatch(organization.id_):
        yield wrong("organization::id", organization.id_, "an organisation's id is like o-a1b2c3d4e5")
    yield from matching("organization::units", _UNIT, organization.units, "ou-a1b2-c3d4e5f6")
    if not organization.units:
        return
    yield from _regions_exist("organization::regions", organization.regions)
    if not organization.services:
        yield Problem(
            "", "organization::services", "there is no service", "name what the units' accounts run"
        )
    for index, service in enumerate(organization.services):
        for problem in service_problems(service):
            yield below(f"organization::services::{index}", problem, service.place)


# Workload accounts


def _workloads(fleet: Fleet) -> Iterator[Problem]:
    if not fleet.workloads and not (fleet.organization and fleet.organization.units):
        yield Problem("", "workloads", "there is no workload account", "name at least one")
    known: set[str] = set()
    for index, account in enumerate(fleet.workloads):
        path = f"workloads::{index}"
        if account.account_id in known:
            message = f"{account.account_id!r} is named more than once"
            yield Problem("", f"{path}::account", message, "name it once, with all its regions and services")
        known.add(account.account_id)
        for problem in (
            *_place(path, account.account_id, account.regions),
            *_services(f"{path}::services", account.services),
            *account_networks(path, account, fleet.monitoring),
        ):
            yield Problem(problem.place or account.place, problem.path, problem.message, problem.remedy)


def _services(path: str, services: tuple[Service, ...]) -> Iterator[Problem]:
    if not services:
        yield Problem("", path, "there is no service", "name at least one")
    yield from repeated_services(path, services)
    for index, service in enumerate(services):
        for problem in service_problems(service):
            yield below(f"{path}::{index}", problem, service.place)


def repeated_services(path: str, services: Sequence[Service]) -> Iterator[Problem]:
    """Services whose names are one, or become one in CloudFormation's logical names, at the later one."""
    known: dict[str, Service] = {}
    for service in services:
        first = known.setdefault(service.logical_name.lower(), service)
        if first is not service:
            said = f"the services {first.name!r} and {service.name!r} are told apart by nothing CloudFormation takes"
            twice = f"two services are called {service.name!r}"
            message = twice if first.name == service.name else said
            where = f"; the other is at {first.place}" if first.place else ""
            yield Problem(service.place, path, message, f"give one of them another name{where}")


def _task_size(service: Service) -> Iterator[Problem]:
    cpu, memory = service.cpu_units, service.memory_mib
    if cpu not in FARGATE_MIB:
        units = ", ".join(map(str, FARGATE_MIB))
        yield Problem("", "cpu", f"Fargate has no task of {cpu} CPU units", f"take one of: {units}")
        return
    if memory not in FARGATE_MIB[cpu]:
        sizes = ", ".join(_mib(size) for size in FARGATE_MIB[cpu])
        message = f"Fargate has no task of {cpu} CPU units and {_mib(memory)}"
        yield Problem("", "memory", message, f"with {cpu} CPU units take one of: {sizes}")
    shares = {
        "CPU units": (sum(container.cpu_units for container in service.containers), cpu),
        "MiB of memory": (sum(container.memory_mib for container in service.containers), memory),
    }
    for what, (asked, there) in shares.items():
        if asked > there:
            message = f"the containers ask for {asked} {what}, and the task has {there}"
            yield Problem("", "containers", message, "make the task larger, or its containers smaller")


def _mib(size: int) -> str:
    return f"{size}MiB" if size % 1024 else f"{size // 1024}GiB"


def _container(container: Container, service: Service) -> Iterator[Problem]:
    if not _CONTAINER_NAME.fullmatch(container.name):
        yield wrong("name", container.name, "use letters, digits, hyphens and underscores, 255 at most")
    if container.name == COLLECTOR_NAME:
        yield Problem("", "name", f"{container.name} is the collector, which every task has", "take it out")
    for port in container.ports:
        if not 1 <= port <= 65535:
            yield wrong("ports", str(port), "use 1 to 65535")
    known = [other.name for other in service.containers if other is not container]
    for name in container.depends_on:
        if name not in known:
            message = f"{name!r} is no other container of the service"
            yield Problem("", "depends_on", message, f"name one of: {', '.join(known) or 'there is none'}")
    if container.health_check and container.health_check[0] not in ("CMD", "CMD-SHELL"):
        yield wrong("health_check", container.health_check[0], "begin with CMD or CMD-SHELL")
    if not 0 <= container.stop_timeout_s <= 120:
        yield wrong("stop_timeout", f"{container.stop_timeout_s}s", "Fargate waits 120s at most")


# Accounts and regions


def _place(path: str, account_id: str, regions: tuple[str, ...]) -> Iterator[Problem]:
    if not _ACCOUNT_ID.fullmatch(account_id):
        yield wrong(f"{path}::account", account_id, "use the account's 12 digits, in quotes")
    yield from _regions_exist(f"{path}::{'region' if path == 'monitoring' else 'regions'}", regions)


def _regions_exist(path: str, regions: Sequence[str]) -> Iterator[Problem]:
    if not regions:
        yield Problem("", path, "there is no region", "name at least one, such as eu-west-1")
    for region in regions:
        if not partition_of(region):
            yield Problem("", path, f"there is no region {region!r}", near_region(region))
    yield from repeated(path, regions)


def _one_partition(fleet: Fleet) -> Iterator[Problem]:
    ours = partition_of(fleet.monitoring.region)
    for index, account in enumerate(fleet.workloads):
        for region in account.regions:
            if ours and partition_of(region) not in ("", ours):
                message = f"{region} is in another partition of AWS than {fleet.monitoring.region}"
                remedy = "roles are not trusted across partitions: make it a fleet of its own"
                yield Problem("", f"workloads::{index}::regions", message, remedy)


def _regions(service: str, like: str) -> tuple[str, ...]:
    return regions_of(service, partition_of(like) or "aws")


def near_region(region: str) -> str:
    """What to do about a region that does not exist."""
    import difflib  # noqa: PLC0415 (only needed when something is wrong)

    known = regions_of(ROOMIEST, "aws")
    near = difflib.get_close_matches(region.lower(), known, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else "use a region's name, such as eu-west-1"
