"""Who may do what, from the state of IAM; and AWS's sentence for those who may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from trunkline.aws.iam import (
    AWS_MANAGED_POLICIES,
    AccessRequest,
    Decision,
    Policies,
    Policy,
    Principal,
    evaluate,
)
from trunkline.simulator.frontdoor.errors import AccessDeniedError
from trunkline.simulator.frontdoor.roles import Role, Roles
from trunkline.simulator.frontdoor.sessions import Clock, Identity
from trunkline.simulator.frontdoor.signature import UnknownTokenError

_ADMINISTRATOR: Final = (AWS_MANAGED_POLICIES["arn:aws:iam::aws:policy/AdministratorAccess"],)


@dataclass(frozen=True, slots=True)
class Question:
    """One permission asked for; `resource_policy` is the resource's own, where it has one."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)
    resource_policy: Policy | None = None


class Authority:
    """Answers questions about permissions. All accounts belong to `organization`."""

    def __init__(self, roles: Roles, clock: Clock, organization: str) -> None:
        self.roles = roles
        self._clock = clock
        self._organization = organization

    async def decide(self, identity: Identity, question: Question) -> Decision:
        """Whether `identity` may do what is asked; raises UnknownTokenError when its role is gone."""
        role = await self.role_of(identity)
        return evaluate(
            self._request(identity, question),
            Policies(
                identity=role.policies if role else _ADMINISTRATOR,
                resource=question.resource_policy,
                boundary=role.boundary if role else None,
                session=identity.session_policies,
            ),
        )

    async def require(self, identity: Identity, question: Question) -> None:
        """Raise AccessDeniedError unless `identity` may do what is asked."""
        decision = await self.decide(identity, question)
        if not decision.allowed:
            raise AccessDeniedError(f"{_refused(identity.arn, question)} {decision.reason}")

    async def require_assume(self, identity: Identity, arn: str, context: Mapping[str, str]) -> Role:
        """The role `arn` if `identity` may assume it, otherwise AccessDeniedError.

        One sentence serves for a role that does not exist, a missing permission and a missing trust.
        """
        asker, role = await self.role_of(identity), await self.roles.find(arn)
        question = Question("sts:AssumeRole", arn, context)
        policies = Policies(
            identity=asker.policies if asker else _ADMINISTRATOR,
            resource=role.trust if role else Policy(),
            boundary=asker.boundary if asker else None,
            session=identity.session_policies,
            resource_required=True,
        )
        decision = evaluate(self._request(identity, question), policies)
        if role is None or not decision.allowed:
            reason = f" {decision.reason}" if decision.explicit else ""
            raise AccessDeniedError(_refused(identity.arn, question) + reason)
        return role

    async def require_service(self, service: str, arn: str, context: Mapping[str, str]) -> Role:
        """The role `arn` if its trust lets `service` assume it, otherwise AccessDeniedError."""
        role = await self.roles.find(arn)
        principal = Principal("", service, service, service=service)
        request = AccessRequest(
            principal, "sts:AssumeRole", arn, arn.split(":")[4], {**self._now(), **context}
        )
        trust = role.trust if role else Policy()
        if role is None or not evaluate(request, Policies(resource=trust, resource_required=True)).allowed:
            raise AccessDeniedError(
                f"{service} is unable to assume the role '{arn}'. Verify that the role exists and that its "
                f"trust policy allows {service}."
            )
        return role

    async def role_of(self, identity: Identity) -> Role | None:
        """The role behind a session; None for administrators.

        A session ends with its role: one that is gone, or made anew under the same name, knows it no more.
        """
        if not identity.is_session:
            return None
        role = await self.roles.find(identity.principal_arn)
        if role is None or role.id != identity.role_id:
            raise UnknownTokenError("The security token included in the request is invalid.")
        return role

    def _request(self, identity: Identity, question: Question) -> AccessRequest:
        owner = question.resource.split(":")[4] if question.resource.count(":") >= 5 else ""
        return AccessRequest(
            principal=identity.principal,
            action=question.action,
            resource=question.resource,
            resource_account=owner or identity.account,
            context={**self._now(), **self._about(identity), **question.context},
        )

    def _now(self) -> dict[str, str]:
        now = self._clock()
        return {"aws:CurrentTime": _iso(now), "aws:EpochTime": str(int(now))}

    def _about(self, identity: Identity) -> dict[str, str]:
        keys = {
            "aws:PrincipalOrgID": self._organization,
            "aws:PrincipalType": "AssumedRole" if identity.is_session else "User",
            "aws:userid": identity.user_id,
        }
        if identity.issued_at is not None:
            return {**keys, "aws:TokenIssueTime": _iso(identity.issued_at)}
        return {**keys, "aws:username": identity.arn.rpartition("/")[2]}


def _refused(arn: str, question: Question) -> str:
    return f"User: {arn} is not authorized to perform: {question.action} on resource: {question.resource}"


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
