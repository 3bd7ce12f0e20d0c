"""What a workload account has once, whatever its regions: the roles of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from troposphere import GetAtt, Template, iam  # type: ignore[import-untyped]

from trunkline.fleet.model import Fleet, Service, WorkloadAccount
from trunkline.fleet.templates.document import (
    Json,
    add_outputs,
    allow,
    arn,
    document,
    inline,
    new_template,
    rendered,
    role,
)
from trunkline.fleet.templates.existing import own_execution_role, own_task_role
from trunkline.fleet.templates.interface import GlobalOutput
from trunkline.fleet.templates.registry import PULL_ACTIONS
from trunkline.fleet.templates.trust import ecs_trust

_EXECUTION_POLICY: Final = "iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
_START: Final = "start-collector"
# A secret's ARN has this many parts; what follows chooses a key or a version of it.
_SECRET_PARTS: Final = 7


def global_template(fleet: Fleet, account: WorkloadAccount | None = None) -> str:
    """A workload account's roles: what its tasks are, and what starts them.

    Without `account` it is that of every account of the organisation's units. A task definition that came with a
    role of its own keeps it; the role then gets what the collector needs.
    """
    template = new_template(fleet, "the roles of the tasks in a workload account")
    services = account.services if account else _of_units(fleet)
    task_role = template.add_resource(_task_role(fleet))
    execution_role = template.add_resource(_execution_role(fleet, services))
    _permit_own_roles(template, fleet, services, account.account_id if account else "")
    add_outputs(
        template,
        {
            GlobalOutput.TASK_ROLE_ARN: GetAtt(task_role, "Arn"),
            GlobalOutput.EXECUTION_ROLE_ARN: GetAtt(execution_role, "Arn"),
        },
    )
    place = f"account {account.account_id}" if account else "every account of the organization's units"
    return rendered(fleet, template, f"{place}, {fleet.global_stack}", "use fewer secrets")


def _of_units(fleet: Fleet) -> Sequence[Service]:
    return fleet.organization.services if fleet.organization else ()


def _task_role(fleet: Fleet) -> Any:
    return role(
        fleet,
        "TaskRole",
        fleet.names.task_role,
        description="What the tasks are: may assume the central role, and nothing else.",
        trust=ecs_trust(),
        policies=[inline(fleet.names.assume_policy, _assume_central_role(fleet))],
    )


def _execution_role(fleet: Fleet, services: Sequence[Service]) -> Any:
    return role(
        fleet,
        "ExecutionRole",
        fleet.names.execution_role,
        description="Pulls the images and writes the logs of the tasks.",
        trust=ecs_trust(),
        policies=_secrets(services),
        ManagedPolicyArns=[arn(_EXECUTION_POLICY)],
    )


def _secrets(services: Sequence[Service]) -> Iterator[Any]:
    """Reading what the containers' secrets name, and nothing beside it."""
    named = {
        value
        for service in services
        for container in service.containers
        for value in container.secrets.values()
    }
    secrets = sorted(_secret_arn(each) for each in named if _of_secrets_manager(each))
    parameters = [_parameter_arn(each) for each in sorted(named) if not _of_secrets_manager(each)]
    statements = []
    if secrets:
        statements.append(allow(["secretsmanager:GetSecretValue"], secrets))
    if parameters:
        statements.append(allow(["ssm:GetParameters"], parameters))
    if statements:
        yield inline("secrets", *statements)


def _of_secrets_manager(value: str) -> bool:
    return ":secretsmanager:" in value


def _secret_arn(value: str) -> str:
    return ":".join(value.split(":")[:_SECRET_PARTS])


def _parameter_arn(value: str) -> Any:
    """ECS takes the bare name of a parameter of the task's own account and region as well."""
    if value.startswith("arn:"):
        return value
    return arn(f"ssm:*:${{AWS::AccountId}}:parameter/{value.removeprefix('/')}")


def _permit_own_roles(template: Template, fleet: Fleet, services: Sequence[Service], account_id: str) -> None:
    """Give roles that task definitions came with what the collector needs beside what they have."""
    names = fleet.names
    tasks = _named(own_task_role, services, account_id)
    starters = _named(own_execution_role, services, account_id)
    _add_policy(template, "OwnTaskRoles", names.assume_policy, tasks, [_assume_central_role(fleet)])
    _add_policy(template, "OwnExecutionRoles", _START, starters, _start_collector(fleet))


def _named(
    own_role: Callable[[Service, str], str], services: Sequence[Service], account_id: str
) -> list[str]:
    """The names, without paths, of the roles of these services' own."""
    found = (own_role(service, account_id) for service in services)
    return sorted({role.rpartition("/")[2] for role in found if role})


def _add_policy(template: Template, title: str, name: str, roles: list[str], statements: list[Json]) -> None:
    if roles:
        template.add_resource(
            iam.PolicyType(title, PolicyName=name, PolicyDocument=document(statements), Roles=roles)
        )


def _start_collector(fleet: Fleet) -> list[Json]:
    """Pull the collector's image and write its log."""
    log = f"logs:*:${{AWS::AccountId}}:log-group:{fleet.names.log_group}:*"
    written = allow(["logs:CreateLogStream", "logs:PutLogEvents"], arn(log))
    if fleet.collector_image:
        return [written]
    repository = arn(f"ecr:*:${{AWS::AccountId}}:repository/{fleet.names.collector_repository}")
    # The sign-in to ECR knows no resource.
    return [written, allow(PULL_ACTIONS, repository), allow(["ecr:GetAuthorizationToken"], "*")]


def _assume_central_role(fleet: Fleet) -> Json:
    role = f"role{fleet.iam_path}{fleet.names.central_role}"
    return allow(["sts:AssumeRole"], arn(f"iam::{fleet.monitoring.account_id}:{role}"))
