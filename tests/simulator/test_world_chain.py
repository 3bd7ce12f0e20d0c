"""Each link of the cross-account chain, broken in turn, and the error that names it in the collector's log.

Every case is a service of its own, with a real collector in it, in one simulator; they run side by side.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.simulator.world_live import simulator_up, trunkline, until

from trunkline.fleet.images import push_image
from trunkline.simulator.control import ControlClient

MONITORING, WORKLOAD, REGION = "111111111111", "222222222222", "eu-west-1"
CLUSTER, GROUP, REPOSITORY = "chain", "chain", "chain/collector"
EXECUTION_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
WRITE_POLICY = "arn:aws:iam::aws:policy/AmazonPrometheusRemoteWriteAccess"

CONFIGURATION = """
receivers:
  awsecscontainermetrics:
    collection_interval: 1s
exporters:
  awsprometheusremotewrite:
    endpoint: {endpoint}
    aws_auth:
      region: {signed_for}
      service: aps
      role_arn: {role}
service:
  pipelines:
    metrics:
      receivers: [awsecscontainermetrics]
      exporters: [awsprometheusremotewrite]
"""


@dataclass(frozen=True)
class Case:
    """One service; what is not named is as it should be."""

    name: str
    task_role: str = "trusted"
    central_role: str = "central"
    workspace: str = ""
    region: str = REGION
    signed_for: str = REGION
    environment: Mapping[str, str] = field(default_factory=dict)


NOBODY = "169.254.171.1" if os.geteuid() == 0 else "127.0.0.1"
"""Where nothing listens on port 9: the simulator as its tasks see it."""

CASES = (
    Case("whole"),
    Case("no-task-role", task_role=""),
    Case("no-permission", task_role="powerless"),
    Case("no-trust", task_role="untrusted"),
    Case("no-central-role", central_role="forgotten"),
    Case("no-write-permission", central_role="central-without-write"),
    Case("wrong-workspace", workspace="ws-00000000-0000-0000-0000-000000000000"),
    Case("wrong-region", region="us-east-1", signed_for="us-east-1"),
    Case("signed-for-wrong-region", signed_for="us-east-1"),
    Case("revoked", central_role="central-revoked"),
    Case("no-sts", environment={"TRUNKLINE_RESOLVE": f"*:443={NOBODY}:9"}),
)


class Chain:
    """A simulator that is up, with a workspace, roles and a cluster, and one service for each case."""

    def __init__(self, state_dir: Path) -> None:
        self.control = ControlClient(state_dir)
        self.endpoint = self.control.ask("status")["endpoint"]
        self._keys = json.loads((state_dir / "accounts.json").read_text())
        self._clients: dict[tuple[str, str], Any] = {}
        self.workspace = self.client(MONITORING, "amp").create_workspace(alias="chain")["workspaceId"]

    def client(self, account: str, service: str) -> Any:
        if (account, service) not in self._clients:
            key = {f"aws_{name}": value for name, value in self._keys[account].items()}
            session: Any = boto3.Session(region_name=REGION, **key)
            self._clients[account, service] = session.client(service, endpoint_url=self.endpoint)
        return self._clients[account, service]

    def build(self) -> None:
        self._make_central_roles()
        self._make_task_roles()
        ecs, ecr = self.client(WORKLOAD, "ecs"), self.client(WORKLOAD, "ecr")
        ecs.create_cluster(clusterName=CLUSTER)
        self.client(WORKLOAD, "logs").create_log_group(logGroupName=GROUP)
        uri = ecr.create_repository(repositoryName=REPOSITORY)["repository"]["repositoryUri"]
        image = f"{uri}@{push_image(ecr, REPOSITORY, '1', 'collector')}"
        for case in CASES:
            self._start(case, image)

    def _make_central_roles(self) -> None:
        trusted = [arn(WORKLOAD, "trusted"), arn(WORKLOAD, "powerless")]
        trust = statement(
            Principal={"AWS": f"arn:aws:iam::{WORKLOAD}:root"},
            Action="sts:AssumeRole",
            Condition={"ArnLike": {"aws:PrincipalArn": trusted}},
        )
        iam = self.client(MONITORING, "iam")
        for name in ("central", "central-without-write", "central-revoked"):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        for name in ("central", "central-revoked"):
            iam.attach_role_policy(RoleName=name, PolicyArn=WRITE_POLICY)

    def _make_task_roles(self) -> None:
        iam = self.client(WORKLOAD, "iam")
        trust = statement(Principal={"Service": "ecs-tasks.amazonaws.com"}, Action="sts:AssumeRole")
        for name in ("trusted", "untrusted", "powerless", "execution"):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        may_knock = statement(Action="sts:AssumeRole", Resource=f"arn:aws:iam::{MONITORING}:role/*")
        for name in ("trusted", "untrusted"):
            iam.put_role_policy(RoleName=name, PolicyName="knock", PolicyDocument=json.dumps(may_knock))
        iam.attach_role_policy(RoleName="execution", PolicyArn=EXECUTION_POLICY)

    def _start(self, case: Case, image: str) -> None:
        workspace = case.workspace or self.workspace
        configuration = CONFIGURATION.format(
            endpoint=f"https://aps-workspaces.{case.region}.amazonaws.com/workspaces/{workspace}/api/v1/remote_write",
            signed_for=case.signed_for,
            role=arn(MONITORING, case.central_role),
        )
        environment = {"AOT_CONFIG_CONTENT": configuration, **case.environment}
        options = {"awslogs-group": GROUP, "awslogs-region": REGION, "awslogs-stream-prefix": case.name}
        container = {
            "name": "collector",
            "image": image,
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
            "logConfiguration": {"logDriver": "awslogs", "options": options},
        }
        ecs = self.client(WORKLOAD, "ecs")
        definition = ecs.register_task_definition(
            family=case.name,
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            executionRoleArn=arn(WORKLOAD, "execution"),
            containerDefinitions=[container],
            **({"taskRoleArn": arn(WORKLOAD, case.task_role)} if case.task_role else {}),
        )
        ecs.create_service(
            cluster=CLUSTER,
            serviceName=case.name,
            taskDefinition=definition["taskDefinition"]["taskDefinitionArn"],
            desiredCount=1,
            launchType="FARGATE",
        )

    def log(self, service: str) -> str:
        return "\n".join(line["text"] for line in self.control.stream("logs", service=service))

    def said(self, service: str, pattern: str) -> None:
        """Wait until the collector has logged that."""
        until(lambda: re.search(pattern, self.log(service)), lambda: self.log(service))

    def query(self, promql: str) -> list[Any]:
        """Ask the workspace as a user would, by the command line; the result of the answer."""
        answer = trunkline("query", "--json", "--state-dir", str(self.control.state_dir), promql)
        assert answer.returncode == 0, answer.stderr
        return list(json.loads(answer.stdout)["result"])

    def samples(self, service: str) -> list[tuple[float, str]]:
        """(time, value) of the metric every case sends, of one service."""
        found = self.query(f'ecs_task_cpu_reserved_None{{aws_ecs_service_name="{service}"}}[2m]')
        return sorted((at_s, value) for each in found for at_s, value in each["values"])


def arn(account: str, role: str) -> str:
    return f"arn:aws:iam::{account}:role/{role}"


def statement(**parts: object) -> dict[str, object]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **parts}]}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with simulator_up(tmp_path_factory) as state_dir:
        chain = Chain(state_dir)
        chain.build()
        yield chain


def assumed(role: str) -> str:
    return rf"arn:aws:sts::{WORKLOAD}:assumed-role/{role}/[0-9a-f]{{32}}"


def test_the_whole_chain_carries_metrics(chain: Chain) -> None:
    until(lambda: chain.samples("whole"), lambda: chain.log("whole"))
    assert not re.search("WARNING|ERROR", chain.log("whole"))


NOT_AUTHORIZED = (
    "AWS says «User: {} is not authorized to perform: sts:AssumeRole on resource: {}» \\(AccessDenied\\)"
)
MAY_NOT_WRITE = (
    "answered 403: User: {} is not authorized to perform: aps:RemoteWrite on resource: {} because no identity-based "
    "policy allows the aps:RemoteWrite action"
)
CENTRAL = arn(MONITORING, "central")
WRITER = rf"arn:aws:sts::{MONITORING}:assumed-role/central-without-write/\S+"
WORKSPACE = rf"arn:aws:aps:{REGION}:{MONITORING}:workspace/\S+"

ERRORS = {
    "no-task-role": (
        "no AWS credentials found",
        r"In ECS give the task definition a task role \(taskRoleArn\)",
    ),
    "no-permission": (
        NOT_AUTHORIZED.format(assumed("powerless"), CENTRAL),
        r"the identity policy of \S*/powerless/\S+ lacks sts:AssumeRole",
    ),
    "no-trust": (
        NOT_AUTHORIZED.format(assumed("untrusted"), CENTRAL),
        r"the trust policy of \S*/central does not name \S*/untrusted/",
    ),
    "no-central-role": (
        NOT_AUTHORIZED.format(assumed("trusted"), arn(MONITORING, "forgotten")),
        r"\(or there is no such role\)",
    ),
    "no-write-permission": (MAY_NOT_WRITE.format(WRITER, WORKSPACE), "give it aps:RemoteWrite"),
    "wrong-workspace": (r"/ws-0{8}-\S+ answered 404: Workspace not found", "compare the workspace id"),
    "wrong-region": (
        r"aps-workspaces\.us-east-1\.\S+ answered 404: Workspace not found",
        "the region in the host name",
    ),
    "signed-for-wrong-region": (
        "answered 403: Credential should be scoped to a valid region",
        "check the region and service",
    ),
    "no-sts": (
        r"STS gave no answer: https://sts\.eu-west-1\.amazonaws\.com:443: cannot connect",
        "that there is a way to STS from here",
    ),
}
"""Case → AWS's words, and what the collector says to do about it."""


@pytest.mark.parametrize("service", ERRORS)
def test_a_broken_link_is_named(chain: Chain, service: str) -> None:
    words, remedy = ERRORS[service]
    chain.said(service, f"{words}.*{remedy}.*; [1-9][0-9]* samples wait in the queue")
    assert chain.samples(service) == []


def test_revoked_sessions_are_refused_and_nothing_is_lost(chain: Chain) -> None:
    until(lambda: chain.samples("revoked"), lambda: chain.log("revoked"))
    iam = chain.client(MONITORING, "iam")
    revoked = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"DateLessThan": {"aws:TokenIssueTime": "2999-01-01T00:00:00Z"}},
            }
        ],
    }
    iam.put_role_policy(
        RoleName="central-revoked", PolicyName="AWSRevokeOlderSessions", PolicyDocument=json.dumps(revoked)
    )
    chain.said(
        "revoked", r"answered 403: .*aps:RemoteWrite.* with an explicit deny in an identity-based policy"
    )
    time.sleep(3)
    iam.delete_role_policy(RoleName="central-revoked", PolicyName="AWSRevokeOlderSessions")
    repaired_at = time.time()
    times = until(
        lambda: (
            [at_s for at_s, _ in samples]
            if (samples := chain.samples("revoked"))[-1][0] > repaired_at + 1
            else []
        ),
        lambda: chain.log("revoked")[-3000:],
    )
    assert max(later - earlier for earlier, later in pairwise(times)) < 2.5


def test_a_replaced_task_waits_for_sts_to_come_back(chain: Chain) -> None:
    before = chain.log("whole")
    task = next(each for each in chain.control.ask("status")["tasks"] if each["service"] == "whole")
    unavailable = {"code": "ServiceUnavailable", "message": "Service Unavailable", "status": 503}
    chain.control.ask("add_front_door_fault", service="sts", **unavailable)
    chain.control.ask("stop_task", task=task["id"])
    chain.said("whole", r"cannot assume \S*/central: AWS says «Service Unavailable» \(ServiceUnavailable\)")
    chain.control.ask("clear_faults")
    seen = f'ecs_task_cpu_reserved_None{{aws_ecs_service_name="whole",aws_ecs_task_id!="{task["id"]}"}}'
    until(lambda: chain.query(seen), lambda: chain.log("whole")[len(before) :])


def test_a_forced_deployment_replaces_the_task(chain: Chain) -> None:
    ecs = chain.client(WORKLOAD, "ecs")

    def tasks() -> list[str]:
        return list(ecs.list_tasks(cluster=CLUSTER, serviceName="whole")["taskArns"])

    def deployments() -> list[dict[str, Any]]:
        return list(ecs.describe_services(cluster=CLUSTER, services=["whole"])["services"][0]["deployments"])

    before = until(tasks, tasks)
    ecs.update_service(cluster=CLUSTER, service="whole", forceNewDeployment=True)
    until(lambda: len(tasks()) == 1 and tasks() != before, tasks)
    until(lambda: [each["rolloutState"] for each in deployments()] == ["COMPLETED"], deployments)


def test_logs_are_in_cloudwatch_too(chain: Chain) -> None:
    logs = chain.client(WORKLOAD, "logs")
    events = until(
        lambda: logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix="no-trust")["events"],
        lambda: logs.describe_log_streams(logGroupName=GROUP),
    )
    assert any("running: 1 receivers" in event["message"] for event in events)


def test_ecs_describes_what_runs(chain: Chain) -> None:
    ecs = chain.client(WORKLOAD, "ecs")
    [service] = ecs.describe_services(cluster=CLUSTER, services=["no-trust"])["services"]
    assert (service["desiredCount"], service["runningCount"], service["pendingCount"]) == (1, 1, 0)
    assert service["deployments"][0]["rolloutState"] == "COMPLETED"
    assert "steady state" in service["events"][0]["message"]
    arns = ecs.list_tasks(cluster=CLUSTER, serviceName="no-trust")["taskArns"]
    [task] = ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"]
    assert (task["lastStatus"], task["group"]) == ("RUNNING", "service:no-trust")
    [cluster] = ecs.describe_clusters(clusters=[CLUSTER])["clusters"]
    assert cluster["runningTasksCount"] == len(CASES)


def test_a_service_that_is_scaled_down_and_deleted_goes(chain: Chain) -> None:
    ecs = chain.client(WORKLOAD, "ecs")
    ecs.update_service(cluster=CLUSTER, service="wrong-region", desiredCount=0)
    until(lambda: not ecs.list_tasks(cluster=CLUSTER, serviceName="wrong-region")["taskArns"], lambda: "")
    ecs.delete_service(cluster=CLUSTER, service="wrong-region")

    def names() -> set[str]:
        return {each["service"] for each in chain.control.ask("status")["services"]}

    until(lambda: "wrong-region" not in names(), names)
