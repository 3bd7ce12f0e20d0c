"""What the stacks tell each other: the names of outputs and parameters, and of what is in every task."""

from __future__ import annotations

from typing import Final

COLLECTOR_CONTAINER: Final = "aws-otel-collector"
APPLICATION_CONTAINER: Final = "prometheus-demo-app"
APPLICATION_PORT: Final = 8000
DATA_DIR: Final = "/var/lib/trunkline"
DATA_VOLUME: Final = "collector-data"
CONTAINER_USER: Final = "10001:10001"
"""Not root, and the same number in the image, whose data directory belongs to it."""
QUERY_ACTIONS: Final = ("aps:GetLabels", "aps:GetMetricMetadata", "aps:GetSeries", "aps:QueryMetrics")


class MonitoringOutput:
    """Outputs of the monitoring stack; Grafana's and those of peering are there only where these are."""

    WORKSPACE_ID = "WorkspaceId"
    WORKSPACE_ARN = "WorkspaceArn"
    PROMETHEUS_ENDPOINT = "PrometheusEndpoint"
    CENTRAL_ROLE_ARN = "CentralRoleArn"
    QUERY_ROLE_ARN = "QueryRoleArn"
    GRAFANA_ID = "GrafanaId"
    GRAFANA_ENDPOINT = "GrafanaEndpoint"
    PEER_VPC_ID = "PeerVpcId"
    PEER_ROUTE_TABLE = "PeerRouteTable"
    PEER_ROLE_ARN = "PeerRoleArn"
    WORKSPACE_ENDPOINT = "WorkspaceEndpoint"
    """The name of the VPC endpoint that leads to the workspace from peered VPCs."""
    STS_ENDPOINT = "StsEndpoint"


class GlobalOutput:
    """Outputs of an account's global stack; the services stack takes them as parameters of the same names."""

    TASK_ROLE_ARN = "TaskRoleArn"
    EXECUTION_ROLE_ARN = "ExecutionRoleArn"


class BaseParameter:
    """Parameters of the base stack."""

    ROUTE_TABLES = "RouteTables"
    """Of the subnets of a VPC that exists, where S3 gets an endpoint: a list."""

    @staticmethod
    def route_table(index: int) -> str:
        """That of a subnet of a VPC that exists and is peered; empty if an earlier subnet has the same."""
        return f"RouteTable{index + 1}"


class BaseOutput:
    """Outputs of the base stack of an account and region; the first two are parameters of the services.

    A repository is there only if its image is pushed, a VPC and its subnets only if the fleet makes them, the
    security groups unless the owner named his own.
    """

    CLUSTER_NAME = "ClusterName"
    LOG_GROUP_NAME = "LogGroupName"
    COLLECTOR_REPOSITORY = "CollectorRepository"
    APPLICATION_REPOSITORY = "ApplicationRepository"
    COLLECTOR_REPOSITORY_URI = "CollectorRepositoryUri"
    APPLICATION_REPOSITORY_URI = "ApplicationRepositoryUri"
    VPC_ID = "VpcId"
    SUBNETS = "Subnets"
    SECURITY_GROUPS = "SecurityGroups"
    PEERING_CONNECTION = "PeeringConnection"


class PeeringParameter:
    """Parameters of the peering stack beyond the monitoring stack's route table."""

    @staticmethod
    def connection(cidr: str) -> str:
        """The peering connection with the VPC of these addresses; empty while there is none."""
        return f"Connection{cidr.replace('.', 'x').replace('/', 'x')}"


class ServicesParameter:
    """Parameters of the services stack beyond those of `GlobalOutput` and `BaseOutput`.

    An image is a parameter only if it is pushed; the digests are those of the organisation's stack set, whose
    images come from the monitoring account.
    """

    WORKSPACE_ID = "WorkspaceId"
    COLLECTOR_IMAGE = "CollectorImage"
    APPLICATION_IMAGE = "ApplicationImage"
    COLLECTOR_DIGEST = "CollectorDigest"
    APPLICATION_DIGEST = "ApplicationDigest"
    SUBNETS = "Subnets"
    SECURITY_GROUPS = "SecurityGroups"
