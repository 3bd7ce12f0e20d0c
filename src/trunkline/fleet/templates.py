"""The four CloudFormation templates of a fleet, as deterministic JSON.

Each says in `Outputs` what the stacks after it need, under the names of its class of constants here. What is
the same in the whole fleet is written into the template; what differs from one account or region to the next
is a parameter or a pseudo parameter, so that one template serves many accounts.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

from troposphere import (  # type: ignore[import-untyped]
    GetAtt,
    Output,
    Parameter,
    Ref,
    Sub,
    Template,
    aps,
    ecr,
    ecs,
    iam,
    logs,
)

from trunkline.errors import FleetError
from trunkline.fleet.model import Fleet, Service

COLLECTOR_CONTAINER: Final = "aws-otel-collector"
APPLICATION_CONTAINER: Final = "prometheus-demo-app"
APPLICATION_PORT: Final = 8000
DATA_DIR: Final = "/var/lib/trunkline"
# Not root, and the same number in the image, whose data directory belongs to it.
CONTAINER_USER: Final = "10001:10001"

# IAM's default quota "Role trust policy length"; white space does not count.
MAX_TRUST_CHARACTERS: Final = 2048
LOG_RETENTION_DAYS: Final = 14
QUERY_ACTIONS: Final = ("aps:GetLabels", "aps:GetMetricMetadata", "aps:GetSeries", "aps:QueryMetrics")

_REFERENCE_REGION: Final = "eu-west-1"
_REFERENCE_ROLE: Final = "role/ECS-AMP-Central-Role"
_EXECUTION_POLICY: Final = (
    "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
)

Json = dict[str, Any]


class MonitoringOutput:
    """Outputs of the monitoring stack."""

    WORKSPACE_ID = "WorkspaceId"
    WORKSPACE_ARN = "WorkspaceArn"
    PROMETHEUS_ENDPOINT = "PrometheusEndpoint"
    CENTRAL_ROLE_ARN = "CentralRoleArn"
    QUERY_ROLE_ARN = "QueryRoleArn"


class GlobalOutput:
    """Outputs of an account's global stack; the services stack takes them as parameters of the same names."""

    TASK_ROLE_ARN = "TaskRoleArn"
    EXECUTION_ROLE_ARN = "ExecutionRoleArn"


class BaseOutput:
    """Outputs of the base stack of an account and region; the first two are parameters of the services."""

    CLUSTER_NAME = "ClusterName"
    LOG_GROUP_NAME = "LogGroupName"
    COLLECTOR_REPOSITORY = "CollectorRepository"
    APPLICATION_REPOSITORY = "ApplicationRepository"
    COLLECTOR_REPOSITORY_URI = "CollectorRepositoryUri"
    APPLICATION_REPOSITORY_URI = "ApplicationRepositoryUri"


class ServicesParameter:
    """Parameters of the services stack beyond those of `GlobalOutput` and `BaseOutput`."""

    WORKSPACE_ID = "WorkspaceId"
    COLLECTOR_IMAGE = "CollectorImage"
    APPLICATION_IMAGE = "ApplicationImage"
    SUBNETS = "Subnets"
    SECURITY_GROUP = "SecurityGroup"


def monitoring_template(fleet: Fleet) -> str:
    """The workspace, the role that workload tasks assume to write to it, and a role that may only query.

    Raises `FleetError` when the workload accounts do not fit into the central role's trust policy.
    """
    template = _template(fleet, "the workspace and the only door to it")
    workspace = template.add_resource(aps.Workspace("Workspace", Alias=fleet.names.workspace_alias))
    central_role = template.add_resource(
        iam.Role(
            "CentralRole",
            RoleName=fleet.names.central_role,
            Path=fleet.iam_path,
            Description="Assumed by the tasks of the workload accounts to write to the workspace.",
            AssumeRolePolicyDocument=_central_trust(fleet),
            Policies=[_inline("remote-write", ["aps:RemoteWrite"], workspace.get_att("Arn"))],
        )
    )
    query_role = template.add_resource(
        iam.Role(
            "QueryRole",
            RoleName=fleet.names.query_role,
            Path=fleet.iam_path,
            Description="Reads the workspace and writes nothing.",
            AssumeRolePolicyDocument=_document(
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": Sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")},
                    "Action": "sts:AssumeRole",
                }
            ),
            Policies=[_inline("query", list(QUERY_ACTIONS), workspace.get_att("Arn"))],
        )
    )
    _outputs(
        template,
        {
            MonitoringOutput.WORKSPACE_ID: GetAtt(workspace, "WorkspaceId"),
            MonitoringOutput.WORKSPACE_ARN: GetAtt(workspace, "Arn"),
            MonitoringOutput.PROMETHEUS_ENDPOINT: GetAtt(workspace, "PrometheusEndpoint"),
            MonitoringOutput.CENTRAL_ROLE_ARN: GetAtt(central_role, "Arn"),
            MonitoringOutput.QUERY_ROLE_ARN: GetAtt(query_role, "Arn"),
        },
    )
    return _json(template)


def global_template(fleet: Fleet) -> str:
    """A workload account's roles: what its tasks are, and what starts them."""
    template = _template(fleet, "the roles of the tasks in a workload account")
    task_role = template.add_resource(
        iam.Role(
            "TaskRole",
            RoleName=fleet.names.task_role,
            Path=fleet.iam_path,
            Description="What the tasks are: may assume the central role, and nothing else.",
            AssumeRolePolicyDocument=_ecs_trust(),
            Policies=[_inline(fleet.names.assume_policy, ["sts:AssumeRole"], _central_role_arn(fleet))],
        )
    )
    execution_role = template.add_resource(
        iam.Role(
            "ExecutionRole",
            RoleName=fleet.names.execution_role,
            Path=fleet.iam_path,
            Description="Pulls the images and writes the logs of the tasks.",
            AssumeRolePolicyDocument=_ecs_trust(),
            ManagedPolicyArns=[Sub(_EXECUTION_POLICY)],
        )
    )
    _outputs(
        template,
        {
            GlobalOutput.TASK_ROLE_ARN: GetAtt(task_role, "Arn"),
            GlobalOutput.EXECUTION_ROLE_ARN: GetAtt(execution_role, "Arn"),
        },
    )
    return _json(template)


def base_template(fleet: Fleet) -> str:
    """What stands in each region of a workload account before anything runs."""
    names = fleet.names
    template = _template(fleet, "logs, cluster and image repositories in one region")
    log_group = template.add_resource(
        logs.LogGroup(
            "LogGroup",
            LogGroupName=names.log_group,
            RetentionInDays=LOG_RETENTION_DAYS,
            DeletionPolicy="Delete",
            UpdateReplacePolicy="Delete",
        )
    )
    cluster = template.add_resource(ecs.Cluster("Cluster", ClusterName=names.cluster))
    collector = template.add_resource(_repository("CollectorRepository", names.collector_repository))
    application = template.add_resource(_repository("ApplicationRepository", names.application_repository))
    _outputs(
        template,
        {
            BaseOutput.CLUSTER_NAME: Ref(cluster),
            BaseOutput.LOG_GROUP_NAME: Ref(log_group),
            BaseOutput.COLLECTOR_REPOSITORY: Ref(collector),
            BaseOutput.APPLICATION_REPOSITORY: Ref(application),
            BaseOutput.COLLECTOR_REPOSITORY_URI: GetAtt(collector, "RepositoryUri"),
            BaseOutput.APPLICATION_REPOSITORY_URI: GetAtt(application, "RepositoryUri"),
        },
    )
    return _json(template)


def services_template(fleet: Fleet, services: tuple[Service, ...]) -> str:
    """The services of one account in one region, each a task of the application and its collector."""
    template = _template(fleet, "the services of one region")
    _services_parameters(template)
    for service in services:
        task = template.add_resource(_task_definition(fleet, service))
        template.add_resource(_service(service, task))
    return _json(template)


def collector_configuration(fleet: Fleet) -> str:
    """The configuration the fleet's collectors run, led to the fleet's own region and central role."""
    if fleet.collector_configuration:
        return fleet.collector_configuration
    text = resources.files("trunkline.fleet").joinpath("collector.yaml").read_text("utf-8")
    role = f"role{fleet.iam_path}{fleet.names.central_role}"
    return text.replace(_REFERENCE_REGION, fleet.monitoring.region).replace(_REFERENCE_ROLE, role)


def _central_trust(fleet: Fleet) -> Json:
    """Trust in accounts, narrowed to one role in each.

    A role as the principal itself would have to exist first, and trust in it would not survive its being
    recreated. For a session `aws:PrincipalArn` is the role's ARN, path included.
    """
    accounts = [account.account_id for account in fleet.workloads]
    role = f"role{fleet.iam_path}{fleet.names.task_role}"
    condition: Json = {
        "ArnLike": {
            "aws:PrincipalArn": [
                Sub(f"arn:${{AWS::Partition}}:iam::{account}:{role}") for account in accounts
            ]
        }
    }
    if fleet.external_id:
        condition["StringEquals"] = {"sts:ExternalId": fleet.external_id}
    roots = [Sub(f"arn:${{AWS::Partition}}:iam::{account}:root") for account in accounts]
    trust = _document(
        {
            "Effect": "Allow",
            "Principal": {"AWS": roots},
            "Action": "sts:AssumeRole",
            "Condition": condition,
        }
    )
    _check_trust_size(trust, len(accounts))
    return trust


def _check_trust_size(trust: Json, account_count: int) -> None:
    text = json.dumps(trust, default=lambda value: value.data["Fn::Sub"], separators=(",", ":"))
    characters = len(text.replace("${AWS::Partition}", "aws"))
    if characters > MAX_TRUST_CHARACTERS:
        raise FleetError(
            f"the trust policy of the central role would have {characters} characters for {account_count} "
            f"workload accounts, and IAM takes {MAX_TRUST_CHARACTERS}; use fewer accounts in one fleet"
        )


def _ecs_trust() -> Json:
    """Trust in ECS, on behalf of this very account only (against the confused deputy)."""
    return _document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "ecs-tasks.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")},
                "ArnLike": {"aws:SourceArn": Sub("arn:${AWS::Partition}:ecs:*:${AWS::AccountId}:*")},
            },
        }
    )


def _central_role_arn(fleet: Fleet) -> Any:
    role = f"role{fleet.iam_path}{fleet.names.central_role}"
    return Sub(f"arn:${{AWS::Partition}}:iam::{fleet.monitoring.account_id}:{role}")


def _inline(name: str, actions: list[str], resource: Any) -> Any:
    # Inline, because AWS::IAM::ManagedPolicy takes no tags and would escape the proof of clean-up.
    statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
    return iam.Policy(PolicyName=name, PolicyDocument=_document(statement))


def _document(statement: Json) -> Json:
    return {"Version": "2012-10-17", "Statement": [statement]}


def _repository(title: str, name: str) -> Any:
    return ecr.Repository(
        title,
        RepositoryName=name,
        ImageTagMutability="IMMUTABLE",
        ImageScanningConfiguration=ecr.ImageScanningConfiguration(ScanOnPush=True),
        EmptyOnDelete=True,
    )


def _services_parameters(template: Template) -> None:
    types = {
        ServicesParameter.WORKSPACE_ID: "String",
        ServicesParameter.COLLECTOR_IMAGE: "String",
        ServicesParameter.APPLICATION_IMAGE: "String",
        ServicesParameter.SUBNETS: "List<AWS::EC2::Subnet::Id>",
        ServicesParameter.SECURITY_GROUP: "AWS::EC2::SecurityGroup::Id",
        GlobalOutput.TASK_ROLE_ARN: "String",
        GlobalOutput.EXECUTION_ROLE_ARN: "String",
        BaseOutput.CLUSTER_NAME: "String",
        BaseOutput.LOG_GROUP_NAME: "String",
    }
    for name, kind in types.items():
        template.add_parameter(Parameter(name, Type=kind))


def _task_definition(fleet: Fleet, service: Service) -> Any:
    return ecs.TaskDefinition(
        f"{service.logical_name}Task",
        Family=service.name,
        RequiresCompatibilities=["FARGATE"],
        NetworkMode="awsvpc",
        Cpu=str(service.cpu_units),
        Memory=str(service.memory_mib),
        TaskRoleArn=Ref(GlobalOutput.TASK_ROLE_ARN),
        ExecutionRoleArn=Ref(GlobalOutput.EXECUTION_ROLE_ARN),
        Volumes=[ecs.Volume(Name="collector-data")],
        ContainerDefinitions=[_collector(fleet), _application()],
    )


def _collector(fleet: Fleet) -> Any:
    """The collector: never takes the application down with it, and drains after it."""
    environment = {
        "AOT_CONFIG_CONTENT": collector_configuration(fleet),
        "AWS_REGION": Ref("AWS::Region"),
        "CENTRAL_ACCOUNT_ID": fleet.monitoring.account_id,
        "TRUNKLINE_DATA_DIR": DATA_DIR,
        "WORKSPACE_ID": Ref(ServicesParameter.WORKSPACE_ID),
    }
    return ecs.ContainerDefinition(
        Name=COLLECTOR_CONTAINER,
        Image=Ref(ServicesParameter.COLLECTOR_IMAGE),
        Essential=False,
        RestartPolicy=ecs.RestartPolicy(Enabled=True, RestartAttemptPeriod=60),
        StopTimeout=30,
        User=CONTAINER_USER,
        ReadonlyRootFilesystem=True,
        Environment=[ecs.Environment(Name=name, Value=value) for name, value in environment.items()],
        MountPoints=[ecs.MountPoint(SourceVolume="collector-data", ContainerPath=DATA_DIR, ReadOnly=False)],
        HealthCheck=ecs.HealthCheck(
            Command=["CMD", "trunkline", "collector", "healthcheck"],
            Interval=10,
            Timeout=5,
            Retries=3,
            StartPeriod=10,
        ),
        LogConfiguration=_log_configuration("aws-otel-collector"),
    )


def _application() -> Any:
    """The application starts after the collector, so ECS stops it first and the last scrape finds it ended.

    START and never HEALTHY: a collector that is broken must not keep the application down.
    """
    return ecs.ContainerDefinition(
        Name=APPLICATION_CONTAINER,
        Image=Ref(ServicesParameter.APPLICATION_IMAGE),
        Essential=True,
        StopTimeout=30,
        User=CONTAINER_USER,
        ReadonlyRootFilesystem=True,
        PortMappings=[ecs.PortMapping(ContainerPort=APPLICATION_PORT, Protocol="tcp")],
        DependsOn=[ecs.ContainerDependency(ContainerName=COLLECTOR_CONTAINER, Condition="START")],
        LogConfiguration=_log_configuration("demo-app"),
    )


def _log_configuration(stream_prefix: str) -> Any:
    return ecs.LogConfiguration(
        LogDriver="awslogs",
        Options={
            "awslogs-group": Ref(BaseOutput.LOG_GROUP_NAME),
            "awslogs-region": Ref("AWS::Region"),
            "awslogs-stream-prefix": stream_prefix,
            # A slow CloudWatch must not stall whoever writes a line.
            "mode": "non-blocking",
            "max-buffer-size": "4m",
        },
    )


def _service(service: Service, task: Any) -> Any:
    return ecs.Service(
        f"{service.logical_name}Service",
        ServiceName=service.name,
        Cluster=Ref(BaseOutput.CLUSTER_NAME),
        TaskDefinition=Ref(task),
        DesiredCount=service.desired_count,
        LaunchType="FARGATE",
        EnableECSManagedTags=True,
        PropagateTags="SERVICE",
        # Without the breaker CloudFormation waits about three hours for a service that keeps crashing.
        DeploymentConfiguration=ecs.DeploymentConfiguration(
            DeploymentCircuitBreaker=ecs.DeploymentCircuitBreaker(Enable=True, Rollback=True),
            MinimumHealthyPercent=100,
            MaximumPercent=200,
        ),
        NetworkConfiguration=ecs.NetworkConfiguration(
            AwsvpcConfiguration=ecs.AwsvpcConfiguration(
                Subnets=Ref(ServicesParameter.SUBNETS),
                SecurityGroups=[Ref(ServicesParameter.SECURITY_GROUP)],
                AssignPublicIp="ENABLED",
            )
        ),
    )


def _template(fleet: Fleet, purpose: str) -> Template:
    return Template(Description=f"Trunkline fleet {fleet.name}: {purpose}.")


def _outputs(template: Template, values: Json) -> None:
    for name, value in values.items():
        template.add_output(Output(name, Value=value))


def _json(template: Template) -> str:
    return str(template.to_json(indent=1, sort_keys=True))
