"""What is looked at in a workload account, and what of it in an account of the organisation's units."""

from __future__ import annotations

from typing import Final

from trunkline.fleet.model import WorkloadAccount
from trunkline.fleet.preflight.identities import (
    check_boundary,
    check_permissions,
    check_roles,
    check_service_linked_role,
)
from trunkline.fleet.preflight.images import check_images
from trunkline.fleet.preflight.look import Look
from trunkline.fleet.preflight.names import check_names
from trunkline.fleet.preflight.networks import check_network
from trunkline.fleet.preflight.quotas import check_quota
from trunkline.fleet.preflight.stacks import check_stacks

_ACTIONS: Final = (
    "cloudformation:CreateChangeSet",
    "cloudformation:ExecuteChangeSet",
    "iam:CreateRole",
    "iam:PutRolePolicy",
    "iam:PassRole",
    "logs:CreateLogGroup",
    "ecr:CreateRepository",
    "ecr:PutImage",
    "ecs:CreateCluster",
    "ecs:RegisterTaskDefinition",
    "ecs:CreateService",
)


class WorkloadLook(Look):
    """The roles of tasks, and in each region what services run in."""

    def account(self) -> None:
        names = self.fleet.names
        check_boundary(self)
        check_roles(self, names.task_role, names.execution_role)
        check_service_linked_role(self)
        check_stacks(self, self.regions[0], self.fleet.global_stack)
        self.permissions()

    def region(self, region: str) -> None:
        workload = self._workload()
        check_stacks(self, region, self.fleet.base_stack, self.fleet.services_stack)
        check_images(self, region, workload.services)
        check_names(self, region)
        self._check_fargate(region, workload)
        check_network(self, region, workload.network(region))

    def permissions(self) -> None:
        """Those of whoever deploys."""
        check_permissions(self, _ACTIONS)

    def _workload(self) -> WorkloadAccount:
        return next(each for each in self.fleet.workloads if each.account_id == self.account_id)

    def _check_fargate(self, region: str, workload: WorkloadAccount) -> None:
        needed = sum(each.desired_count * each.cpu_units for each in workload.services) / 1024
        check_quota(
            self,
            region,
            needed,
            f"the services take {needed:g} vCPU",
            what="quota of Fargate",
            code="fargate/L-3032A538",
            remedy="have 'Fargate On-Demand vCPU resource count' raised",
        )


class MemberLook(WorkloadLook):
    """An account of the organisation's units: CloudFormation enters it, and nobody else has to."""

    def cannot_enter(self, why: str) -> None:
        self.say("not checked", "", "credentials", why)

    def permissions(self) -> None:
        """Those of the StackSets' own role, which may do everything."""
