"""The emulator's process, and what its CloudFormation was taught."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from tests.simulator.frontdoor_live import IRELAND, MONITORING, VIRGINIA, Live, allow, deploy, running

from trunkline.errors import SimulatorError
from trunkline.simulator.emulator import Emulator
from trunkline.simulator.frontdoor.events import ServiceChange


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("state")) as running_door:
        yield running_door


def role(statements: list[Any] | None = None, *, trust: Any = None, **properties: Any) -> dict[str, Any]:
    own = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = {"PolicyName": "inline", "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "Path": "/trunkline/",
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust or own]},
            **({"Policies": [policy]} if statements else {}),
            **properties,
        },
    }


CENTRAL = f"arn:aws:iam::{MONITORING}:role/trunkline/Central"
EXECUTION = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"


def monitoring() -> dict[str, Any]:
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": [f"arn:aws:iam::{account}:root" for account in (IRELAND, VIRGINIA)]},
        "Action": "sts:AssumeRole",
        "Condition": {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/trunkline/*"}},
    }
    arn = {"Fn::GetAtt": ["Workspace", "Arn"]}
    return {
        "Parameters": {"Days": {"Type": "Number", "Default": 150}},
        "Resources": {
            "Workspace": {
                "Type": "AWS::APS::Workspace",
                "Properties": {
                    "Alias": "trunkline",
                    "WorkspaceConfiguration": {
                        "RetentionPeriodInDays": {"Ref": "Days"},
                        "LimitsPerLabelSets": [
                            {
                                "LabelSet": [{"Name": "cloud_account_id", "Value": IRELAND}],
                                "Limits": {"MaxSeries": "1000"},
                            }
                        ],
                    },
                },
            },
            "Role": role([allow("aps:RemoteWrite", arn)], trust=trust, RoleName="Central"),
        },
        "Outputs": {
            "Arn": {"Value": {"Ref": "Workspace"}},
            "Id": {"Value": {"Fn::GetAtt": ["Workspace", "WorkspaceId"]}},
            "Endpoint": {"Value": {"Fn::GetAtt": ["Workspace", "PrometheusEndpoint"]}},
            "RoleArn": {"Value": {"Fn::GetAtt": ["Role", "Arn"]}},
        },
    }


def workload() -> dict[str, Any]:
    log = {
        "LogDriver": "awslogs",
        "Options": {"awslogs-group": {"Ref": "Logs"}, "awslogs-stream-prefix": "app"},
    }
    application = {
        "Name": "app",
        "Image": {"Ref": "Image"},
        "PortMappings": [{"ContainerPort": "8000"}],
        "DependsOn": [{"ContainerName": "collector", "Condition": "START"}],
        "HealthCheck": {"Command": ["CMD", "true"], "Interval": "5"},
        "LogConfiguration": log,
    }
    collector = {
        "Name": "collector",
        "Image": "collector",
        "Essential": False,
        "Environment": [{"Name": "AOT_CONFIG_CONTENT", "Value": "receivers:"}, {"Name": "N", "Value": 1}],
        "DockerLabels": {"Some.Label": "x"},
    }
    return {
        "Parameters": {
            "Image": {"Type": "String", "Default": "app:1"},
            "Count": {"Type": "Number", "Default": 2},
        },
        "Resources": {
            "TaskRole": role([allow("sts:AssumeRole", CENTRAL)], RoleName="Task"),
            "ExecutionRole": role(RoleName="Execution", ManagedPolicyArns=[EXECUTION]),
            "Repository": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryName": "demo/app"}},
            "Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/trunkline/demo"}},
            "Cluster": {"Type": "AWS::ECS::Cluster", "Properties": {"ClusterName": "demo"}},
            "Definition": {
                "Type": "AWS::ECS::TaskDefinition",
                "Properties": {
                    "Family": "app",
                    "NetworkMode": "awsvpc",
                    "RequiresCompatibilities": ["FARGATE"],
                    "Cpu": "256",
                    "Memory": "512",
                    "TaskRoleArn": {"Fn::GetAtt": ["TaskRole", "Arn"]},
                    "ExecutionRoleArn": {"Fn::GetAtt": ["ExecutionRole", "Arn"]},
                    "ContainerDefinitions": [application, collector],
                    "Volumes": [{"Name": "data"}],
                },
            },
            "Service": {
                "Type": "AWS::ECS::Service",
                "Properties": {
                    "ServiceName": "app",
                    "Cluster": {"Ref": "Cluster"},
                    "TaskDefinition": {"Ref": "Definition"},
                    "DesiredCount": {"Ref": "Count"},
                    "LaunchType": "FARGATE",
                    "PropagateTags": "SERVICE",
                    "EnableECSManagedTags": True,
                    "DeploymentConfiguration": {
                        "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True}
                    },
                    "NetworkConfiguration": {"AwsvpcConfiguration": {"Subnets": ["subnet-1"]}},
                },
            },
        },
        "Outputs": {
            "Repository": {"Value": {"Fn::GetAtt": ["Repository", "RepositoryUri"]}},
            "Service": {"Value": {"Fn::GetAtt": ["Service", "Name"]}},
            "TaskRoleArn": {"Value": {"Fn::GetAtt": ["TaskRole", "Arn"]}},
        },
    }


def test_the_demo_in_three_accounts(live: Live) -> None:
    changes: list[ServiceChange] = []

    async def note(change: ServiceChange) -> None:
        changes.append(change)

    live.door.on_service_change(note)
    central = live.deploy(MONITORING, "monitoring", monitoring())
    assert central["Arn"] == f"arn:aws:aps:eu-west-1:{MONITORING}:workspace/{central['Id']}"
    assert central["Endpoint"].startswith("https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-")
    assert central["RoleArn"] == CENTRAL
    for account, region in ((IRELAND, "eu-west-1"), (VIRGINIA, "us-east-1")):
        outputs = live.deploy(account, "workload", workload())
        assert outputs["Repository"] == f"{account}.dkr.ecr.{region}.amazonaws.com/demo/app"
        roles = [item["Arn"] for item in live.client("iam", account).list_roles()["Roles"]]
        assert sorted(roles) == [
            f"arn:aws:iam::{account}:role/trunkline/{name}" for name in ("Execution", "Task")
        ]
        assert ServiceChange(account, region, "demo", "app") in changes
    writer = live.run(live.door.issue_task_session(outputs["TaskRoleArn"], "task", "us-east-1"))
    sts = live.client("sts", credentials=writer)
    assert sts.assume_role(RoleArn=CENTRAL, RoleSessionName="task")["Credentials"]
    _check_definition(live)
    _check_service(live)
    assert live.workspaces.configurations[central["Id"]] == {
        "workspaceId": central["Id"],
        "retentionPeriodInDays": 150,
        "limitsPerLabelSet": [{"labelSet": {"cloud_account_id": IRELAND}, "limits": {"maxSeries": 1000}}],
    }
    _check_update(live, changes)
    _check_removal(live, central["Id"], changes)


def _check_definition(live: Live) -> None:
    found = live.client("ecs").describe_task_definition(taskDefinition="app")["taskDefinition"]
    assert (found["cpu"], found["memory"], found["networkMode"]) == ("256", "512", "awsvpc")
    assert found["taskRoleArn"] == f"arn:aws:iam::{IRELAND}:role/trunkline/Task"
    assert found["volumes"] == [{"name": "data"}]
    application, collector = found["containerDefinitions"]
    assert application["dependsOn"] == [{"containerName": "collector", "condition": "START"}]
    assert application["portMappings"] == [{"containerPort": 8000}]
    assert application["healthCheck"] == {"command": ["CMD", "true"], "interval": 5}
    assert application["logConfiguration"]["options"]["awslogs-group"] == "/trunkline/demo"
    assert application["essential"]
    assert not collector["essential"]
    assert collector["environment"][1] == {"name": "N", "value": "1"}
    assert collector["dockerLabels"] == {"Some.Label": "x"}


def _check_service(live: Live) -> None:
    found = live.client("ecs").describe_services(cluster="demo", services=["app"])["services"][0]
    assert (found["desiredCount"], found["runningCount"], found["launchType"]) == (2, 0, "FARGATE")
    assert (found["propagateTags"], found["enableECSManagedTags"]) == ("SERVICE", True)
    assert found["deploymentConfiguration"]["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
    # Tasks are the task runner's: the emulator must not make any up.
    assert live.client("ecs").list_tasks(cluster="demo")["taskArns"] == []


def _check_update(live: Live, changes: list[ServiceChange]) -> None:
    changes.clear()
    live.deploy(IRELAND, "workload", workload(), kind="UPDATE", parameters={"Image": "app:2", "Count": "3"})
    found = live.client("ecs").describe_services(cluster="demo", services=["app"])["services"][0]
    assert (found["desiredCount"], found["taskDefinition"].rpartition("/")[2]) == (3, "app:2")
    newest = live.client("ecs").describe_task_definition(taskDefinition="app:2")["taskDefinition"]
    assert [item["image"] for item in newest["containerDefinitions"]] == ["app:2", "collector"]
    assert newest["containerDefinitions"][0]["dependsOn"][0]["containerName"] == "collector"
    assert ServiceChange(IRELAND, "eu-west-1", "demo", "app") in changes
    live.deploy(MONITORING, "monitoring", monitoring(), kind="UPDATE", parameters={"Days": "30"})
    assert [item["retentionPeriodInDays"] for item in live.workspaces.configurations.values()] == [30]


def _check_removal(live: Live, workspace: str, changes: list[ServiceChange]) -> None:
    changes.clear()
    for account, stack in ((MONITORING, "monitoring"), (IRELAND, "workload"), (VIRGINIA, "workload")):
        cloudformation = live.client("cloudformation", account)
        cloudformation.delete_stack(StackName=stack)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=stack, WaiterConfig={"Delay": 0.05, "MaxAttempts": 100}
        )
        assert live.client("iam", account).list_roles()["Roles"] == []
    assert workspace not in live.workspaces.known
    assert ServiceChange(IRELAND, "eu-west-1", "demo", "app") in changes


def test_deploying_needs_permission_and_capabilities(live: Live) -> None:
    template = {"Resources": {"R": role(RoleName="Capable")}}
    session = live.assume(live.role(IRELAND, "Deployer", allow(["iam:*", "cloudformation:List*"])))
    with pytest.raises(ClientError, match=r"cloudformation:CreateChangeSet on resource: \S+:stack/s/\*"):
        deploy(live.client("cloudformation", credentials=session), "s", template)
    cloudformation = live.client("cloudformation")
    with pytest.raises(ClientError, match=r"Requires capabilities : \[CAPABILITY_NAMED_IAM\]"):
        cloudformation.create_stack(StackName="s", TemplateBody=str(template).replace("'", '"'))


def test_a_change_by_cloudformation_acts_at_once(live: Live) -> None:
    trust = {"Effect": "Allow", "Principal": {"AWS": IRELAND}, "Action": "sts:AssumeRole"}

    def template(action: str) -> dict[str, Any]:
        return {"Resources": {"R": role([allow(action)], trust=trust, RoleName="Stacked")}}

    live.deploy(IRELAND, "stacked", template("ecs:*"))
    session = live.assume(f"arn:aws:iam::{IRELAND}:role/trunkline/Stacked")
    ecs = live.client("ecs", credentials=session)
    ecs.list_clusters()
    live.deploy(IRELAND, "stacked", template("logs:*"), kind="UPDATE")
    with pytest.raises(ClientError, match="no identity-based policy allows the ecs:ListClusters action"):
        ecs.list_clusters()


def test_what_is_wrong_is_rolled_back(live: Live) -> None:
    def check(*resources: dict[str, Any], expected: str = "ROLLBACK_COMPLETE", because: str) -> None:
        name = f"wrong-{because[:5].strip()}"
        log = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": f"/{name}"}}
        named = {f"R{number}": {**item, "DependsOn": "Logs"} for number, item in enumerate(resources)}
        client = live.client("cloudformation")
        assert deploy(client, name, {"Resources": {"Logs": log, **named}}) == expected
        found = client.describe_stack_events(StackName=name)["StackEvents"]
        assert any(because in event.get("ResourceStatusReason", "") for event in found)
        groups = live.client("logs").describe_log_groups(logGroupNamePrefix=f"/{name}")["logGroups"]
        assert groups == []

    live.role(IRELAND, "Taken")
    check(role(RoleName="Taken"), because="Role with name Taken already exists.")
    assert live.client("iam").get_role(RoleName="Taken")
    known = dict(live.workspaces.known)
    workspace = {"Type": "AWS::APS::Workspace", "Properties": {"Alias": "refused"}}
    check(workspace, because="workspaceId")
    assert live.workspaces.known == known


def one_stack(live: Live, resources: dict[str, Any], **more: Any) -> Any:
    live.deploy(IRELAND, "apart", {"Resources": resources}, **more)
    return live.client("cloudformation", IRELAND)


def gone(cloudformation: Any, stack: str) -> None:
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=stack, WaiterConfig={"Delay": 0.05, "MaxAttempts": 100}
    )


def test_types_that_ministack_lacks(live: Live) -> None:
    network = {
        "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.9.0.0/16"}},
        "Subnet": {
            "Type": "AWS::EC2::Subnet",
            "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.9.0.0/24"},
        },
        "Address": {"Type": "AWS::EC2::EIP", "Properties": {"Domain": "vpc"}},
        "Nat": {
            "Type": "AWS::EC2::NatGateway",
            "Properties": {
                "SubnetId": {"Ref": "Subnet"},
                "AllocationId": {"Fn::GetAtt": ["Address", "AllocationId"]},
            },
        },
    }
    store = {
        "Store": {"Type": "AWS::APS::Workspace", "Properties": {"Alias": "rules"}},
        "Rules": {
            "Type": "AWS::APS::RuleGroupsNamespace",
            "Properties": {
                "Name": "own",
                "Workspace": {"Fn::GetAtt": ["Store", "Arn"]},
                "Data": "groups: []",
            },
        },
        "Grafana": {"Type": "AWS::Grafana::Workspace", "Properties": {"Name": "shown"}},
    }
    cloudformation = one_stack(live, {**network, **store}, Tags=[{"Key": "of", "Value": "tests"}])
    resources = cloudformation.describe_stack_resources(StackName="apart")["StackResources"]
    names = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources}
    ec2 = live.client("ec2")
    [gateway] = ec2.describe_nat_gateways(NatGatewayIds=[names["Nat"]])["NatGateways"]
    assert gateway["SubnetId"] == names["Subnet"]
    assert {"Key": "of", "Value": "tests"} in gateway["Tags"]
    [address] = ec2.describe_addresses()["Addresses"]
    assert address["PublicIp"] == names["Address"]
    assert names["Rules"].endswith("/own")
    assert names["Grafana"].startswith("g-")
    [workspace] = [each for each in live.workspaces.known.values() if each["alias"] == "rules"]
    assert workspace["tags"] == {"of": "tests"}
    gone(cloudformation, "apart")
    assert ec2.describe_addresses()["Addresses"] == []


def test_a_repository_and_a_workspace_are_taken_up(live: Live) -> None:
    resources = {
        "Images": {
            "Type": "AWS::ECR::Repository",
            "Properties": {"RepositoryName": "kept/images"},
            "DeletionPolicy": "RetainExceptOnCreate",
        },
        "Store": {
            "Type": "AWS::APS::Workspace",
            "Properties": {"Alias": "kept"},
            "DeletionPolicy": "RetainExceptOnCreate",
        },
    }
    gone(one_stack(live, resources), "apart")
    [workspace] = [each for each in live.workspaces.known.values() if each["alias"] == "kept"]
    cloudformation = live.client("cloudformation", IRELAND)
    change = cloudformation.create_change_set(
        StackName="apart",
        ChangeSetName="again",
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps({"Resources": {"Store": resources["Store"]}}),
        ResourcesToImport=[
            {
                "ResourceType": "AWS::APS::Workspace",
                "LogicalResourceId": "Store",
                "ResourceIdentifier": {"Arn": workspace["arn"]},
            }
        ],
    )
    cloudformation.execute_change_set(ChangeSetName=change["Id"])
    cloudformation.get_waiter("stack_import_complete").wait(
        StackName="apart", WaiterConfig={"Delay": 0.05, "MaxAttempts": 100}
    )
    one_stack(live, resources, kind="UPDATE", ImportExistingResources=True)
    events = cloudformation.describe_stack_events(StackName="apart")["StackEvents"]
    taken = {each["LogicalResourceId"] for each in events if each["ResourceStatus"] == "IMPORT_COMPLETE"}
    assert taken >= {"Images", "Store"}
    gone(cloudformation, "apart")
    live.client("ecr").delete_repository(repositoryName="kept/images", force=True)


def test_a_service_needs_its_cluster(live: Live) -> None:
    service = {"Type": "AWS::ECS::Service", "Properties": {"Cluster": "nowhere", "TaskDefinition": "app"}}
    cloudformation = live.client("cloudformation", IRELAND)
    assert deploy(cloudformation, "lost", {"Resources": {"S": service}}) == "ROLLBACK_COMPLETE"
    events = cloudformation.describe_stack_events(StackName="lost")["StackEvents"]
    [failed] = [each for each in events if each["ResourceStatus"] == "CREATE_FAILED"]
    assert "ClusterNotFoundException" in failed["ResourceStatusReason"]


def test_a_role_keeps_its_permissions_boundary(live: Live) -> None:
    trust = {"Effect": "Allow", "Principal": {"AWS": IRELAND}, "Action": "sts:AssumeRole"}
    boundary = "arn:aws:iam::aws:policy/AmazonPrometheusQueryAccess"
    bounded = role([allow()], trust=trust, RoleName="Bounded", PermissionsBoundary=boundary)
    live.deploy(IRELAND, "bounded", {"Resources": {"R": bounded}})
    session = live.assume(f"arn:aws:iam::{IRELAND}:role/trunkline/Bounded")
    with pytest.raises(ClientError, match="no permissions boundary allows the ecs:ListClusters action"):
        live.client("ecs", credentials=session).list_clusters()


async def test_it_starts_and_ends(tmp_path: Path) -> None:
    async with Emulator(tmp_path) as emulator:
        assert emulator.socket.stat().st_mode & 0o077 == 0
        assert psutil.Process(emulator.pid).net_connections("inet") == []
    assert "cognito-rsa-key.pem" in _names(tmp_path)  # its own files, too, lie in the folder it was given
    assert {name.partition(".")[0] for name in _names(tmp_path)} == {"emulator", "cognito-rsa-key"}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_failed_start_is_told(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)  # longer than the address of a socket may be
    folder.mkdir()
    emulator = Emulator(folder)
    with pytest.raises(
        SimulatorError, match=r"The emulator did not start\. Its log, .* ends with: (.|\n)+too long"
    ):
        await emulator.start()
    assert emulator.pid is None


def test_it_dies_with_whoever_started_it(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from trunkline.simulator.emulator import Emulator
async def main():
    emulator = Emulator(Path(sys.argv[1]))
    await emulator.start()
    print(emulator.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    starter = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert starter.stdout
    pid = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    starter.stdout.close()
    for _ in range(200):
        if not _alive(pid):
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the emulator outlived whoever started it")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
