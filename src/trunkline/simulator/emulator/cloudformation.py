"""What ministack's CloudFormation is told of resource types: tags, imports, replacement.

Sources: the resource types' schemas (`createOnlyProperties`, `conditionalCreateOnlyProperties`, `primaryIdentifier`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Final

from trunkline.simulator.emulator.workspaces import Workspaces

REPLACING: Final[Mapping[str, tuple[str, ...]]] = {
    "AWS::APS::RuleGroupsNamespace": ("Name", "Workspace"),
    "AWS::APS::Workspace": ("KmsKeyArn",),
    "AWS::EC2::EIP": ("Address", "NetworkBorderGroup"),
    "AWS::EC2::InternetGateway": (),
    "AWS::EC2::NatGateway": ("AllocationId", "ConnectivityType", "PrivateIpAddress", "SubnetId"),
    "AWS::EC2::Route": ("DestinationCidrBlock", "RouteTableId"),
    "AWS::EC2::RouteTable": ("VpcId",),
    "AWS::EC2::SecurityGroup": ("GroupDescription", "GroupName", "VpcId"),
    "AWS::EC2::Subnet": ("AvailabilityZone", "CidrBlock", "VpcId"),
    "AWS::EC2::VPC": ("CidrBlock",),
    "AWS::EC2::VPCEndpoint": ("ServiceName", "ServiceRegion", "VpcEndpointType", "VpcId"),
    "AWS::EC2::VPCPeeringConnection": ("PeerOwnerId", "PeerRegion", "PeerRoleArn", "PeerVpcId", "VpcId"),
    "AWS::ECS::Cluster": ("ClusterName",),
    "AWS::ECS::Service": ("Cluster", "Role", "SchedulingStrategy", "ServiceName"),
    "AWS::ECS::TaskDefinition": (
        *(
            "Family",
            "ContainerDefinitions",
            "Cpu",
            "EphemeralStorage",
            "ExecutionRoleArn",
            "IpcMode",
            "Memory",
        ),
        *("NetworkMode", "PidMode", "PlacementConstraints", "ProxyConfiguration", "RequiresCompatibilities"),
        *("RuntimePlatform", "TaskRoleArn", "Volumes"),
    ),
    "AWS::Grafana::Workspace": (),
    "AWS::IAM::Policy": (),
    "AWS::Logs::LogGroup": ("LogGroupName",),
}
"""Properties whose change makes a new resource."""

CONDITIONALLY_REPLACING: Final[Mapping[str, tuple[str, ...]]] = {"AWS::ECS::Service": ("LaunchType",)}

TAGGED: Final = (
    *("AWS::APS::RuleGroupsNamespace", "AWS::APS::Workspace", "AWS::EC2::EIP", "AWS::EC2::NatGateway"),
    "AWS::ECS::TaskDefinition",
)
"""Types that get the stack's tags as a list `Tags`; a Grafana workspace in CloudFormation gets none."""


def tell_of_types(
    cloudformation: Mapping[str, ModuleType],
    ecr: ModuleType,
    workspaces: Workspaces,
) -> None:
    """Complete ministack's tables; `cloudformation` are its modules by name."""
    provisioners, changesets = cloudformation["provisioners"], cloudformation["changesets"]
    provisioners._REPLACING_PROPERTIES.update(REPLACING)  # noqa: SLF001
    provisioners._CONDITIONALLY_REPLACING_PROPERTIES.update(CONDITIONALLY_REPLACING)  # noqa: SLF001
    provisioners._STACK_TAG_PROPERTY.update(dict.fromkeys(TAGGED, ("Tags", "list")))  # noqa: SLF001
    known = provisioners._RESOURCE_HANDLERS  # noqa: SLF001
    lookups = changesets._IMPORT_LOOKUPS  # noqa: SLF001

    def import_repository(identifier: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        found = ecr._repositories[identifier["RepositoryName"]]  # noqa: SLF001
        attributes = {"Arn": found["repositoryArn"], "RepositoryUri": found["repositoryUri"]}
        return identifier["RepositoryName"], attributes

    def repository_problem(name: str) -> str | None:
        if name in ecr._repositories:  # noqa: SLF001
            return None
        return f"Resource of type 'AWS::ECR::Repository' with identifier '{name}' was not found."

    known["AWS::ECR::Repository"]["import"] = import_repository
    lookups["AWS::ECR::Repository"] = (("RepositoryName",), repository_problem)
    known["AWS::APS::Workspace"]["import"] = workspaces.take_up
    lookups["AWS::APS::Workspace"] = (("Arn",), workspaces.import_problem)
