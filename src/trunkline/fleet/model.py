"""What a fleet is: the accounts, their regions and services, and the names of everything created in them.

All of it is resolved: compose files are read, defaults are filled in. `file` makes it from a `fleet.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from trunkline.errors import ConfigError

TAG: Final = "trunkline:fleet"
"""The tag that everything of a fleet carries; its value is the fleet's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of what is created; the defaults are those of the reference set-up."""

    task_role: str = "ecs-xaccount-task-role"
    execution_role: str = "ecs-xaccount-task-execution-role"
    assume_policy: str = "xaccount-amp-write"
    central_role: str = "ECS-AMP-Central-Role"
    grafana_role: str = "ECS-AMP-Grafana-Role"
    workspace_alias: str = "ecs-xaccount-metrics-demo"
    grafana: str = "ecs-xaccount-metrics-demo"
    cluster: str = "ecs-xaccount-metrics-demo"
    log_group: str = "ecs-xaccount-metrics-demo"
    collector_repository: str = "ecs-xaccount-metrics-demo/collector"
    application_repository: str = "ecs-xaccount-metrics-demo/application"

    @property
    def query_role(self) -> str:
        """The role that may read the workspace and nothing else."""
        return f"{self.central_role}-query"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How an account is entered: a profile of the AWS configuration files, a role to assume, or both.

    With neither, the SDK's own chain is used for it. `role` is a name (path included) or an ARN.
    """

    profile: str = ""
    role: str = ""
    external_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesLimit:
    """At most so many active series with these labels, so that one account cannot starve the others."""

    labels: Mapping[str, str]
    max_series: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The central store; what is None is left to AMP's defaults.

    With `id_` one that exists is used, and never removed.
    """

    id_: str = ""
    retention_days: int | None = None
    out_of_order_window_s: int | None = None
    limits: tuple[SeriesLimit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grafana:
    """A managed Grafana workspace with its data source and dashboards; `admins` are ids of users of IAM Identity Center."""

    authentication: tuple[Literal["AWS_SSO", "SAML"], ...] = ("AWS_SSO",)
    admins: tuple[str, ...] = ()
    version: str = "10.4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Where the tasks of a region run: the default VPC, subnets that exist, or a VPC of the fleet's own.

    `endpoints` are the services that get a VPC endpoint, for a network without another way out: `aps-workspaces`,
    `sts`, `ecr.api`, `ecr.dkr`, `logs`, `s3`. A VPC that exists has to be named for them.
    """

    kind: Literal["default", "existing", "new"] = "default"
    vpc_id: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    public_ip: bool = True
    cidr: str = ""
    """Of a VPC of the fleet's own, such as 10.40.0.0/16."""
    nat: bool = False
    """Whether a VPC of the fleet's own has a NAT gateway, for tasks without public addresses."""
    endpoints: tuple[str, ...] = ()
    peering: bool = False
    """Whether the VPC is peered with one in the monitoring account, which holds the workspace's endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringAccount:
    """The account that owns the workspace, and the workspace's region."""

    account_id: str
    region: str
    workspace: Workspace = field(default_factory=Workspace)
    grafana: Grafana | None = None
    credentials: Credentials = field(default_factory=Credentials)
    network: Network | None = None
    """The VPC that holds the workspace's endpoint, if not as by default; only made for VPCs that are peered with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container of a service beside the collector. An empty `image` is the fleet's demo application."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    entry_point: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Names of variables and the ARNs of what they hold."""
    ports: tuple[int, ...] = ()
    essential: bool = True
    cpu_units: int = 0
    memory_mib: int = 0
    user: str = ""
    working_directory: str = ""
    read_only: bool = False
    health_check: tuple[str, ...] = ()
    """Begins with CMD or CMD-SHELL; empty for none."""
    health_interval_s: int = 30
    health_timeout_s: int = 5
    health_retries: int = 3
    health_start_s: int = 0
    depends_on: tuple[str, ...] = ()
    stop_timeout_s: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An ECS service of containers and a collector beside them; sizes are those of one task.

    `task_definition` is an existing one (as ECS describes it, in JSON) to which the collector is added; then
    `containers` is empty. No containers and no task definition mean the demo application.
    """

    name: str
    desired_count: int = 1
    cpu_units: int = 256
    memory_mib: int = 512
    containers: tuple[Container, ...] = ()
    task_definition: str = ""
    collector_configuration: str = ""
    """The collector's; empty means the fleet's."""
    collector_environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the collector beside those the fleet gives it."""
    place: str = ""
    """Where it is written, for errors."""

    @property
    def logical_name(self) -> str:
        """Its part of CloudFormation's logical names, which are of letters and digits only."""
        return "".join(part.capitalize() for part in self.name.split("-"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadAccount:
    """An account whose tasks are measured; its services run in each of its regions.

    IAM is global to an account: the first region is the home of the stack that holds the roles. `networks` has
    what differs from the default VPC, by region.
    """

    account_id: str
    regions: tuple[str, ...]
    services: tuple[Service, ...]
    networks: Mapping[str, Network] = field(default_factory=dict)
    credentials: Credentials = field(default_factory=Credentials)
    place: str = ""
    """Where it is written, for errors."""

    @property
    def home_region(self) -> str:
        return self.regions[0]

    def network(self, region: str) -> Network:
        return self.networks.get(region, Network())


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """An AWS organisation: trust in it as a whole, and roll-out as StackSets to organisational units.

    With `units` the workload accounts are those of the units, new ones included; the templates of the accounts go
    out as service-managed StackSets, and images come from the monitoring account.
    """

    id_: str
    units: tuple[str, ...] = ()
    delegated: bool = False
    """Whether the monitoring account is a delegated administrator rather than the management account."""
    regions: tuple[str, ...] = ()
    """Where the services of the units' accounts run; the first one has the roles."""
    services: tuple[Service, ...] = ()
    """Of every account of the units."""
    credentials: Credentials = field(default_factory=Credentials)
    """How an account of the units is looked into; `{account}` stands for its id. Empty: by the organisation's role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One monitoring account and its workload accounts.

    `name` begins the name of every stack and is the value of every resource's tag `trunkline:fleet`.
    `iam_path` is the path of the fleet's roles. `external_id` is demanded by the central role's trust; the
    collector sends it, and a `collector_configuration` of one's own has to. An empty `collector_configuration`
    means the reference one, led to this fleet's workspace and role. `workloads` may be empty only where an
    organisation's units have the accounts.

    Raises `ConfigError` with everything that is wrong.
    """

    monitoring: MonitoringAccount
    workloads: tuple[WorkloadAccount, ...]
    name: str = "trunkline"
    iam_path: str = "/"
    permissions_boundary: str = ""
    """The ARN or name of a policy that organisations demand of every role."""
    extra_tags: Mapping[str, str] = field(default_factory=dict)
    external_id: str = ""
    trust_characters: int = 2048
    """IAM's quota "Role trust policy length" in the monitoring account; AWS raises it to 4096 on request."""
    collector_configuration: str = ""
    collector_image: str = ""
    """An image that exists, with its digest; empty means the fleet's own, pushed into each account and region."""
    log_retention_days: int = 14
    organization: Organization | None = None
    names: Names = field(default_factory=Names)

    def __post_init__(self) -> None:
        from trunkline.fleet.checks import problems  # noqa: PLC0415 (it is made of these classes)

        found = tuple(problems(self))
        if found:
            raise ConfigError(found)

    @property
    def tags(self) -> dict[str, str]:
        return {**self.extra_tags, TAG: self.name}

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
