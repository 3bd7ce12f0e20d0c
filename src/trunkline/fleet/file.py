"""A `fleet.yaml` → a `Fleet`: read, files it refers to included, defaults filled in, with every problem and its place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trunkline.collector.config.decoding import INVALID, At, Decoder
from trunkline.collector.config.document import parse_document
from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Node
from trunkline.errors import ConfigError, Problem
from trunkline.fleet.collector import MAX_TASK_DEFINITION_BYTES, RESERVED_BYTES, configuration_problems
from trunkline.fleet.declarations import (
    DEFAULT_CIDR,
    CredentialsSettings,
    FleetSettings,
    NetworkSettings,
    WorkloadSettings,
    WorkspaceSettings,
)
from trunkline.fleet.forms import Keys, Report, form_problems
from trunkline.fleet.model import (
    Credentials,
    Fleet,
    Grafana,
    MonitoringAccount,
    Names,
    Network,
    Organization,
    SeriesLimit,
    Service,
    WorkloadAccount,
    Workspace,
)
from trunkline.fleet.networks import WORKSPACE_CIDR, network_problems
from trunkline.fleet.services.reading import ServicesReading, same

DEFAULT_FILE: Final = "fleet.yaml"

_DAY_S: Final = 86400


@dataclass(frozen=True, slots=True)
class FleetFile:
    """A fleet, and what there is to tell of how it was read."""

    fleet: Fleet
    notes: tuple[Problem, ...]


def read_fleet(path: Path) -> Fleet:
    """The fleet a file describes. Raises ConfigError with everything wrong in it and in what it refers to."""
    return read_fleet_file(path).fleet


def read_fleet_file(path: Path, environment: Mapping[str, str] | None = None) -> FleetFile:
    """As `read_fleet`, with notes; `environment` is what compose files refer to, ours if not given."""
    findings = Findings()
    findings.source(str(path))
    root = _document(path, findings)
    report = Report(root, findings)
    written = Decoder(findings).decode(root, FleetSettings, At(root.place, ()))
    for problem in form_problems(root, FleetSettings):
        report.add(problem)
    if written is INVALID:
        findings.raise_problems()
    fleet = _Reading(path.parent, report, os.environ if environment is None else environment, written).fleet()
    findings.raise_problems()
    assert fleet is not None
    return FleetFile(fleet, findings.warnings())


def _document(path: Path, findings: Findings) -> Node:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        remedy = "make one with `trunkline fleet init`, or say where it is with -f FILE"
        raise ConfigError([Problem(str(path), "", f"cannot be read: {why}", remedy)]) from None
    root = parse_document(text, str(path), findings)
    findings.raise_problems()
    assert root is not None
    return root


class _Reading:
    def __init__(
        self, folder: Path, report: Report, environment: Mapping[str, str], written: FleetSettings
    ) -> None:
        self._report = report
        self._written = written
        self._names = Names(**same(written.names, Names), workspace_alias=written.monitoring.workspace.alias)
        self._services = ServicesReading(folder, self._names, report, environment)

    def fleet(self) -> Fleet | None:
        """None, or a fleet that has problems, after any were found."""
        written, read = self._written, self._services
        services = read.services(written.services, ("services",))
        network = self._network(written.network, ("network",))
        workloads = tuple(
            self._workload(one, ("workloads", str(index)), services, network)
            for index, one in enumerate(written.workloads)
        )
        arguments: dict[str, Any] = {
            **same(written, Fleet),
            "monitoring": self._monitoring(),
            "workloads": workloads,
            "extra_tags": written.tags,
            "collector_configuration": read.configuration(written.collector_config, ("collector_config",)),
            "collector_image": written.collector_image or read.collector_image(),
            "log_retention_days": self._days(written.log_retention, ("log_retention",)),
            "organization": self._organization(services),
            "names": self._names,
        }
        self._check_configurations(workloads, arguments["collector_configuration"])
        try:
            fleet = Fleet(**arguments)
        except ConfigError as error:
            for problem in error.problems:
                self._report.add_news(problem)
            return None
        self._check_sizes(fleet)
        return fleet

    # Accounts

    def _monitoring(self) -> MonitoringAccount:
        given, shared = self._written.monitoring, self._written.credentials
        credentials = given.credentials
        if credentials == CredentialsSettings() and shared:
            # A profile serves every account; a role to assume is that of the accounts entered from here.
            credentials = CredentialsSettings(profile=shared.profile)
        return MonitoringAccount(
            account_id=given.account,
            region=given.region,
            workspace=self._workspace(given.workspace, ("monitoring", "workspace")),
            grafana=Grafana(**same(given.grafana, Grafana)) if given.grafana else None,
            credentials=_credentials(credentials, given.account),
            network=self._network(given.network, ("monitoring", "network")),
        )

    def _workspace(self, given: WorkspaceSettings, keys: Keys) -> Workspace:
        window, retention, most = (
            given.out_of_order_window,
            given.retention,
            given.max_series_per_account,
        )
        limits = [SeriesLimit(labels=one.labels, max_series=one.max_series) for one in given.limits]
        if most is not None:
            accounts = [one.account for one in self._written.workloads]
            limits += [SeriesLimit(labels={"cloud_account_id": each}, max_series=most) for each in accounts]
        return Workspace(
            id_=given.id_,
            retention_days=None if retention is None else self._days(retention, (*keys, "retention")),
            out_of_order_window_s=None if window is None else round(window),
            limits=tuple(limits),
        )

    def _organization(self, services: tuple[Service, ...]) -> Organization | None:
        """The units' accounts run the fleet's services in the fleet's regions."""
        given = self._written.organization
        if given is None:
            return None
        regions = self._written.regions or (self._written.monitoring.region,)
        return Organization(
            id_=given.id_,
            units=given.units,
            delegated=given.delegated,
            regions=regions if given.units else (),
            services=services if given.units else (),
            credentials=_credentials(self._written.credentials or CredentialsSettings(), "{account}"),
        )

    def _workload(
        self, given: WorkloadSettings, keys: Keys, shared: tuple[Service, ...], network: Network | None
    ) -> WorkloadAccount:
        written, read = self._written, self._services
        regions = given.regions or written.regions or (written.monitoring.region,)
        services = read.services(given.services, (*keys, "services")) or shared
        networks = {
            region: self._network(one, (*keys, "networks", region)) for region, one in given.networks.items()
        }
        own = self._network(given.network, (*keys, "network"))
        default = own or network or read.network(services)
        found = {region: networks.get(region) or default for region in dict.fromkeys((*regions, *networks))}
        credentials = given.credentials or written.credentials or CredentialsSettings()
        return WorkloadAccount(
            account_id=given.account,
            regions=regions,
            services=services,
            networks={region: one for region, one in found.items() if one is not None},
            credentials=_credentials(credentials, given.account),
            place=str(self._report.place(keys)),
        )

    def _network(self, given: NetworkSettings | None, keys: Keys) -> Network | None:
        if given is None:
            return None
        is_id = given.vpc.startswith("vpc-")
        kind = "existing" if is_id or (given.subnets and not given.vpc) else given.vpc or "default"
        has_way = bool(given.endpoints or given.nat)
        free = WORKSPACE_CIDR if keys[0] == "monitoring" else DEFAULT_CIDR
        default_cidr = free if kind == "new" and not given.peering else ""
        network = Network(
            **{
                **same(given, Network),
                "kind": kind,
                "vpc_id": given.vpc if is_id else "",
                "public_ip": not has_way if given.public_ip is None else given.public_ip,
                "cidr": given.cidr or default_cidr,
            }
        )
        for problem in network_problems(network):
            self._report.add(problem, keys)
        return network

    # The collector

    def _check_configurations(self, workloads: Sequence[WorkloadAccount], general: str) -> None:
        """Collector configurations of one's own, each once, with the number of tasks that run it."""
        runs = [(service, len(account.regions)) for account in workloads for service in account.services]
        units = bool(self._written.organization and self._written.organization.units)
        for path, text in self._services.configurations.items():
            users = [(one, count) for one, count in runs if (one.collector_configuration or general) == text]
            # How many accounts the units have is not known here.
            tasks = sum(one.desired_count * count for one, count in users) + (2 if units else 0)
            environment = {key: value for one, _ in users for key, value in one.collector_environment.items()}
            for problem in configuration_problems(path, text, self._written.external_id, environment, tasks):
                self._report.add(problem)

    def _check_sizes(self, fleet: Fleet) -> None:
        """Whether the task definitions stay under what ECS takes; said once for each service."""
        for service in {one.place: one for one in _all_services(fleet)}.values():
            configuration = service.collector_configuration or fleet.collector_configuration
            size = RESERVED_BYTES + len(configuration.encode()) + len(service.task_definition.encode())
            size += sum(_bytes(container.environment) for container in service.containers)
            size += _bytes(service.collector_environment)
            if size > MAX_TASK_DEFINITION_BYTES:
                message = (
                    f"the task definition of {service.name} would have about {size:,} bytes, "
                    f"{len(configuration.encode()):,} of them the collector's configuration, and ECS takes "
                    f"{MAX_TASK_DEFINITION_BYTES:,}"
                )
                remedy = "make the configuration or the variables smaller, or put them into an image"
                self._report.add(Problem(service.place, "services", message, remedy))

    def _days(self, seconds: float, keys: Keys) -> int:
        if seconds % _DAY_S:
            self._report.problem(keys, "is not a number of whole days", "write it like 14d")
        return int(seconds // _DAY_S)


def _credentials(given: CredentialsSettings, account_id: str) -> Credentials:
    return Credentials(
        profile=given.profile.replace("{account}", account_id),
        role=given.role.replace("{account}", account_id),
        external_id=given.external_id,
    )


def _all_services(fleet: Fleet) -> Iterator[Service]:
    for account in fleet.workloads:
        yield from account.services
    if fleet.organization:
        yield from fleet.organization.services


def _bytes(variables: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(value.encode()) + 24 for name, value in variables.items())
