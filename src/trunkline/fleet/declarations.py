"""What may be written in a `fleet.yaml`: the reader, the JSON schema and the reference are made from these.

`file` decodes a file into them and makes a `model.Fleet` of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from trunkline.component.settings import Lenient, Text, setting
from trunkline.quantities import PrometheusDuration, Size


@dataclass(frozen=True, slots=True)
class Form:
    """Marks a string that has to look like something; `pattern` is common to Python and JSON schema."""

    pattern: str
    remedy: str
    numbers: tuple[int, int] | None = None
    """The least and the most, where a bare number may be written instead."""


@dataclass(frozen=True, slots=True)
class Existing:
    """Marks a string that has to name a region there is."""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Marks a number's smallest value."""

    least: int


AccountId: TypeAlias = Annotated[
    str,
    Lenient(),
    Form(r"^[0-9]{12}$", "use the account's 12 digits, in quotes", (10**11, 10**12 - 1)),
]
Region: TypeAlias = Annotated[
    str, Form(r"^[a-z]{2,4}(-[a-z]+)+-[0-9]+$", "use a region's name, such as eu-west-1"), Existing()
]
Name: TypeAlias = Annotated[
    str,
    Form(r"^[A-Za-z][A-Za-z0-9-]{0,99}$", "begin with a letter; letters, digits and hyphens, 100 at most"),
]
ServiceName: TypeAlias = Annotated[
    str, Form(r"^[A-Za-z0-9][A-Za-z0-9-]{0,99}$", "use letters, digits and hyphens, 100 at most")
]
IamPath: TypeAlias = Annotated[
    str, Form(r"^/([A-Za-z0-9_+=,.@-]+/)*$", "begin and end with a slash, as in /metrics/")
]
ExternalId: TypeAlias = Annotated[
    str, Form(r"^[A-Za-z0-9_+=,.@:/-]{2,1224}$", "use 2 to 1224 letters, digits and +=,.@:/_-")
]
Vpc: TypeAlias = Annotated[
    str, Form(r"^(default|new|vpc-[0-9a-f]{8,17})$", "write default, new or the id of a VPC: vpc-…")
]
Count: TypeAlias = Annotated[int, AtLeast(0)]
Positive: TypeAlias = Annotated[int, AtLeast(1)]
TrustCharacters: TypeAlias = Annotated[int, AtLeast(2048)]
Port: TypeAlias = Annotated[int, AtLeast(1)]

Endpoint = Literal["aps-workspaces", "sts", "ecr.api", "ecr.dkr", "logs", "s3"]


@dataclass(frozen=True, kw_only=True)
class CredentialsSettings:
    """How accounts are entered. `{account}` stands for the account's id, so that one entry serves all of them."""

    profile: str = setting(
        default="", doc="Profile of the AWS configuration files, such as `fleet-{account}`."
    )
    role: str = setting(
        default="",
        doc="Role assumed in the account, by name or ARN, such as `OrganizationAccountAccessRole`; with the profile's "
        "credentials where there is one.",
    )
    external_id: str = setting(default="", doc="External id that this role's trust asks for.")


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """At most so many active series with these labels."""

    labels: dict[str, Text] = setting(
        doc='Labels and their values, such as `cloud_account_id: "222222222222"`.'
    )
    max_series: Positive = setting(doc="How many series with these labels may be active.")


@dataclass(frozen=True, kw_only=True)
class WorkspaceSettings:
    """The central store, an Amazon Managed Service for Prometheus workspace."""

    id_: str = setting(
        default="",
        key="id",
        doc="A workspace that exists, ws-…; it is used and never removed. Else one is made.",
    )
    alias: str = setting(default="ecs-xaccount-metrics-demo", doc="Alias of the workspace that is made.")
    retention: PrometheusDuration | None = setting(
        default=None,
        doc="How long samples are kept, in whole days, such as `150d`; else as long as AMP does.",
    )
    out_of_order_window: PrometheusDuration | None = setting(
        default=None, doc="How old a sample may be when newer ones are there, such as `30m`."
    )
    max_series_per_account: Positive | None = setting(
        default=None,
        doc="Limit for each workload account, by the label `cloud_account_id`: a noisy one cannot starve the others.",
    )
    limits: tuple[LimitSettings, ...] = setting(default=(), doc="Further limits for sets of labels.")


@dataclass(frozen=True, kw_only=True)
class GrafanaSettings:
    """An Amazon Managed Grafana workspace with the data source and dashboards."""

    authentication: tuple[Literal["AWS_SSO", "SAML"], ...] = setting(
        default=("AWS_SSO",), doc="How people log in."
    )
    admins: tuple[str, ...] = setting(
        default=(),
        doc="Ids of users of IAM Identity Center who administer it; without one nobody can log in.",
    )
    version: str = setting(default="10.4", doc="Version of Grafana.")


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Where tasks run."""

    vpc: Vpc = setting(
        default="", doc="`default`, `new`, or the id of one that exists. Left out, it is that of the subnets."
    )
    subnets: tuple[str, ...] = setting(default=(), doc="Subnets that exist; two, in different zones.")
    security_groups: tuple[str, ...] = setting(
        default=(), doc="Security groups that exist; else one is made."
    )
    public_ip: bool | None = setting(
        default=None,
        doc="Whether tasks get public addresses. Default: yes, unless there are endpoints or NAT.",
    )
    cidr: str = setting(
        default="", doc="Addresses of the VPC; a new one has `10.40.0.0/16` if nothing is said."
    )
    nat: bool = setting(default=False, doc="Whether a new VPC has a NAT gateway as its way out.")
    endpoints: tuple[Endpoint, ...] = setting(
        default=(), doc="Services that get a VPC endpoint, where there is no other way out."
    )
    peering: bool = setting(
        default=False,
        doc="Whether the VPC is peered with the monitoring account's `network`, where the workspace's endpoint is. For "
        "regions other than the workspace's; it needs a `cidr` that meets no other one.",
    )


@dataclass(frozen=True, kw_only=True)
class ContainerSettings:
    """A container of a service, beside the collector."""

    name: str = setting(doc="Its name.")
    image: str = setting(default="", doc="Its image; empty is the demo application, which the fleet pushes.")
    command: tuple[str, ...] = setting(default=(), doc="Command, over the image's.")
    entry_point: tuple[str, ...] = setting(default=(), doc="Entry point, over the image's.")
    environment: dict[str, Text] = setting(default_factory=dict, doc="Environment variables.")
    secrets: dict[str, str] = setting(
        default_factory=dict, doc="Variables, and the ARNs of the secrets or parameters they hold."
    )
    ports: tuple[Port, ...] = setting(default=(), doc="TCP ports it listens on.")
    essential: bool = setting(default=True, doc="Whether the task ends with it.")
    cpu: Count = setting(default=0, doc="CPU units it is guaranteed; 0 for what is left.")
    memory: Size = setting(default=0, doc="Memory it may have, such as `128MiB`; 0 for the task's.")
    user: str = setting(default="", doc="User it runs as, over the image's.")
    working_directory: str = setting(default="", doc="Directory it starts in.")
    read_only: bool = setting(default=False, doc="Whether its root file system is read-only.")
    health_check: tuple[str, ...] = setting(
        default=(), doc="Command that tells its health, such as `[CMD-SHELL, curl -f localhost]`."
    )
    depends_on: tuple[str, ...] = setting(default=(), doc="Containers that are started before it.")
    stop_timeout: PrometheusDuration = setting(
        default=30.0, doc="Time to end before it is killed, 120s at most."
    )


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """An ECS service on Fargate, and the collector beside it.

    Its containers are given here, in a compose file, or in an existing task definition; a service with none of
    them runs the demo application.
    """

    name: ServiceName = setting(doc="Name of the service and of its task definition's family.")
    desired_count: Count | None = setting(
        default=None, doc="Tasks that run; else the compose file's `deploy: replicas`, or 1."
    )
    cpu: Positive | None = setting(
        default=None, doc="CPU units of a task, 1024 for each; else those of the ECS parameters, or 256."
    )
    memory: Size | None = setting(
        default=None, doc="Memory of a task, such as `1GiB`; else that of the ECS parameters, or 512MiB."
    )
    containers: tuple[ContainerSettings, ...] = setting(default=(), doc="Its containers.")
    compose: str = setting(default="", doc="A compose file with its containers.")
    ecs_params: str = setting(
        default="", doc="The ECS parameters (ecs-params.yml) that go with the compose file."
    )
    collector: str = setting(
        default="",
        doc="Which service of the compose file, or container of the task definition, is a collector that ours "
        "replaces; else the one called `aws-otel-collector`, or whose image is one.",
    )
    task_definition: str = setting(
        default="",
        doc="An existing task definition (JSON, as ECS describes it), to which the collector is added.",
    )
    collector_config: str = setting(default="", doc="Its collector's configuration; else the fleet's.")


@dataclass(frozen=True, kw_only=True)
class MonitoringSettings:
    """The one account that owns the workspace."""

    account: AccountId = setting(doc="Its id, 12 digits in quotes.")
    region: Region = setting(doc="Region of the workspace.")
    workspace: WorkspaceSettings = setting(default_factory=WorkspaceSettings, doc="The central store.")
    grafana: GrafanaSettings | None = setting(
        default=None, doc="A managed Grafana, if there is to be one; `{}` for one with every default."
    )
    credentials: CredentialsSettings = setting(
        default_factory=CredentialsSettings, doc="How this account is entered; else by the SDK's own chain."
    )
    network: NetworkSettings | None = setting(
        default=None,
        doc="The VPC that holds the workspace's endpoint, for networks with `peering`: `vpc: new`, with a `cidr` other "
        "than `10.255.255.0/24` if that is taken, and with `endpoints: [sts]` for networks that have none of their own.",
    )


@dataclass(frozen=True, kw_only=True)
class WorkloadSettings:
    """An account whose tasks are measured. What is left out is that of the whole fleet."""

    account: AccountId = setting(doc="Its id, 12 digits in quotes.")
    regions: tuple[Region, ...] = setting(
        default=(), doc="Where its services run; the first one has the stack with its roles."
    )
    services: tuple[ServiceSettings, ...] = setting(default=(), doc="Its services, over the fleet's.")
    network: NetworkSettings | None = setting(
        default=None, doc="Its network in each region, over the fleet's."
    )
    networks: dict[str, NetworkSettings] = setting(
        default_factory=dict, doc="Networks by region, where they differ."
    )
    credentials: CredentialsSettings | None = setting(
        default=None, doc="How it is entered, over the fleet's."
    )


@dataclass(frozen=True, kw_only=True)
class OrganizationSettings:
    """An AWS organisation: trust in it as a whole, and roll-out to organisational units by StackSets.

    The accounts of the units run the fleet's `services` in its `regions`, and so will those that join.
    """

    id_: str = setting(key="id", doc="Its id, such as `o-a1b2c3d4e5`.")
    units: tuple[str, ...] = setting(
        default=(),
        doc="Organisational units whose accounts are workload accounts, such as `ou-a1b2-c3d4e5f6`.",
    )
    delegated: bool = setting(
        default=False,
        doc="Whether the monitoring account is a delegated administrator, rather than the management account.",
    )


@dataclass(frozen=True, kw_only=True)
class NamesSettings:
    """Names of what is created; the defaults are those of the reference set-up."""

    task_role: str = setting(default="ecs-xaccount-task-role", doc="Role of the tasks.")
    execution_role: str = setting(
        default="ecs-xaccount-task-execution-role", doc="Role that pulls images and writes logs."
    )
    assume_policy: str = setting(
        default="xaccount-amp-write", doc="Policy of the task role that allows to assume the central role."
    )
    central_role: str = setting(default="ECS-AMP-Central-Role", doc="Role that may write to the workspace.")
    grafana_role: str = setting(default="ECS-AMP-Grafana-Role", doc="Role of the managed Grafana.")
    grafana: str = setting(default="ecs-xaccount-metrics-demo", doc="The managed Grafana.")
    cluster: str = setting(default="ecs-xaccount-metrics-demo", doc="ECS cluster.")
    log_group: str = setting(default="ecs-xaccount-metrics-demo", doc="Log group of the tasks.")
    collector_repository: str = setting(
        default="ecs-xaccount-metrics-demo/collector", doc="Image repository of the collector."
    )
    application_repository: str = setting(
        default="ecs-xaccount-metrics-demo/application", doc="Image repository of the demo application."
    )


@dataclass(frozen=True, kw_only=True)
class FleetSettings:
    """One monitoring account and its workload accounts."""

    monitoring: MonitoringSettings = setting(doc="The account that owns the workspace.")
    workloads: tuple[WorkloadSettings, ...] = setting(
        default=(), doc="The accounts whose tasks are measured."
    )
    regions: tuple[Region, ...] = setting(
        default=(), doc="Regions of the workload accounts that give none; else the monitoring account's."
    )
    services: tuple[ServiceSettings, ...] = setting(
        default=(), doc="Services of the workload accounts that give none."
    )
    network: NetworkSettings | None = setting(
        default=None,
        doc="Network of the workload accounts that give none; else the ECS parameters', or the default VPC.",
    )
    credentials: CredentialsSettings | None = setting(
        default=None,
        doc="How workload accounts that do not say it are entered. Default: the SDK's own chain, or "
        "`OrganizationAccountAccessRole` where there is an organisation.",
    )
    organization: OrganizationSettings | None = setting(
        default=None, doc="The AWS organisation the accounts belong to."
    )
    name: Name = setting(
        default="trunkline",
        doc="Begins the name of every stack, and is the value of the tag `trunkline:fleet`.",
    )
    collector_config: str = setting(
        default="", doc="Configuration file of the collectors; else that of the reference set-up."
    )
    collector_image: str = setting(
        default="",
        doc="An image of the collector that exists; else one is pushed into each account and region.",
    )
    external_id: ExternalId = setting(
        default="", doc="External id that the central role demands of the collectors, and they send."
    )
    trust_characters: TrustCharacters = setting(
        default=2048,
        doc="IAM's quota for a role's trust policy in the monitoring account; AWS raises it to 4096 when asked.",
    )
    iam_path: IamPath = setting(default="/", doc="Path of every role.")
    permissions_boundary: str = setting(
        default="", doc="Policy, by name or ARN, that bounds every role: organisations demand it."
    )
    tags: dict[str, Text] = setting(default_factory=dict, doc="Tags of everything, besides the fleet's own.")
    log_retention: PrometheusDuration = setting(
        default=14 * 86400.0, doc="How long the tasks' logs are kept, in days that CloudWatch Logs knows."
    )
    names: NamesSettings = setting(default_factory=NamesSettings, doc="Names of what is created.")


DEFAULT_CIDR: Final = "10.40.0.0/16"
