"""Who may do what, read from IAM and judged here: both sides of the chain are visible to a fleet.

AWS uses one sentence for a missing permission, a missing trust and a role that is not there. With the policies of
both accounts at hand the one that is missing, or that denies, can be named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import ClientError

from trunkline.aws.iam import (
    AccessRequest,
    Policies,
    Policy,
    PolicyError,
    PolicyType,
    Principal,
    evaluate,
    managed_policy,
    parse_policy,
)
from trunkline.fleet.lists import pages

_SESSION: Final = "0" * 32
"""In place of a task's id in the name of its session."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something may not be done. `remedy` is empty where the fleet's own stacks have what is missing."""

    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Role:
    """A role as IAM has it. `policies` are its identity policies by name; `boundary` is (ARN, policy) or None.

    A policy that cannot be read stands for nothing, and is named in `unreadable`.
    """

    arn: str
    trust: Policy = field(default_factory=Policy)
    policies: Mapping[str, Policy] = field(default_factory=dict)
    boundary: tuple[str, Policy] | None = None
    unreadable: Sequence[str] = ()

    @property
    def account_id(self) -> str:
        return self.arn.split(":")[4]

    @property
    def name(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def principal(self) -> Principal:
        """A session of it, which is what asks for things."""
        partition = self.arn.split(":")[1]
        session = f"arn:{partition}:sts::{self.account_id}:assumed-role/{self.name}/{_SESSION}"
        return Principal(self.account_id, session, self.arn)


def read_role(iam: Any, name: str) -> Role | None:
    """The role of this name, wherever its path, with its policies; None if there is none. Raises `ClientError`."""
    try:
        found = iam.get_role(RoleName=name)["Role"]
    except iam.exceptions.NoSuchEntityException:
        return None
    unreadable: list[str] = []
    policies = {
        title: _readable(document, title, unreadable) for title, document in _identity_documents(iam, name)
    }
    boundary_arn = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
    boundary = (boundary_arn, _managed(iam, boundary_arn, unreadable)) if boundary_arn else None
    trust = _readable(found["AssumeRolePolicyDocument"], "trust policy", unreadable)
    return Role(found["Arn"], trust, policies, boundary, tuple(unreadable))


def _identity_documents(iam: Any, name: str) -> Iterator[tuple[str, Any]]:
    for title in pages(iam, "list_role_policies", "PolicyNames", RoleName=name):
        yield f"inline policy {title}", iam.get_role_policy(RoleName=name, PolicyName=title)["PolicyDocument"]
    for item in pages(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name):
        yield f"managed policy {item['PolicyArn']}", _managed_document(iam, item["PolicyArn"])


def _managed_document(iam: Any, arn: str) -> Any:
    known = managed_policy(arn)
    if known is not None:
        return known
    try:
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    except ClientError:
        return ""


def _managed(iam: Any, arn: str, unreadable: list[str]) -> Policy:
    return _readable(_managed_document(iam, arn), f"managed policy {arn}", unreadable)


def _readable(document: Any, title: str, unreadable: list[str]) -> Policy:
    if isinstance(document, Policy):
        return document
    try:
        return parse_policy(document if isinstance(document, Mapping) else json.loads(document))
    except (PolicyError, ValueError):
        unreadable.append(title)
        return Policy()


def may_not(
    role: Role, action: str, resource: str, context: Mapping[str, str] | None = None
) -> Refusal | None:
    """Why the role's own side does not let it do `action` to `resource`; None when it does.

    The other side, a trust or a policy of the resource, is taken to agree.
    """
    owner = resource.split(":")[4] or role.account_id
    # An account's own agreement hands the decision to the role's policies.
    agrees = _statement(Principal={"AWS": role.account_id})
    request = AccessRequest(role.principal, action, resource, owner, context or {})
    decision = evaluate(request, _policies(role, resource=agrees))
    if decision.allowed:
        return None
    if decision.explicit:
        title = _denier(role, request)
        where = f"{title} of {role.arn}" if title else str(decision.decided_by)
        sid = f" (statement {decision.sid})" if decision.sid else ""
        return Refusal(f"{where} denies {action}{sid}", _without(role, title, action))
    if decision.decided_by is PolicyType.BOUNDARY and role.boundary:
        why = f"its permissions boundary {role.boundary[0]} does not allow {action} on {resource}"
        return Refusal(why, f"let the policy {role.boundary[0]} allow it")
    return Refusal(f"no policy of role {role.arn} allows {action} on {resource}{_has(role)}")


def does_not_trust(central: Role, asker: Role, context: Mapping[str, str]) -> Refusal | None:
    """Why the trust of `central` does not take `asker`; None when it does. The asker's own side may be anything."""
    request = AccessRequest(asker.principal, "sts:AssumeRole", central.arn, central.account_id, context)
    everything = Policies(
        identity=(_statement(Resource="*"),), resource=central.trust, resource_required=True
    )
    decision = evaluate(request, everything)
    if decision.allowed:
        return None
    if decision.explicit:
        return Refusal(f"the trust policy of {central.arn} denies {asker.arn}")
    return Refusal(f"the trust policy of {central.arn} does not allow sts:AssumeRole to {asker.arn}")


def _denier(role: Role, request: AccessRequest) -> str:
    """The policy of the role with the statement that denies."""
    own = {
        **role.policies,
        **({f"permissions boundary {role.boundary[0]}": role.boundary[1]} if role.boundary else {}),
    }
    for title, policy in own.items():
        if evaluate(request, Policies(identity=(policy,))).explicit:
            return title
    return ""


def _without(role: Role, title: str, action: str) -> str:
    """How to be rid of a policy that denies, by its title: nothing of a fleet denies anything."""
    kind, _, name = title.rpartition(" ")
    if kind == "inline policy":
        return f"aws iam delete-role-policy --role-name {role.name} --policy-name {name}"
    if kind == "managed policy":
        return f"aws iam detach-role-policy --role-name {role.name} --policy-arn {name}"
    return f"let the policy {name} not deny {action}" if name else ""


def _policies(role: Role, *, resource: Policy) -> Policies:
    return Policies(
        identity=tuple(role.policies.values()),
        resource=resource,
        boundary=role.boundary[1] if role.boundary else None,
    )


def _statement(**parts: Any) -> Policy:
    return parse_policy({"Statement": [{"Effect": "Allow", "Action": "*", **parts}]})


def _has(role: Role) -> str:
    unknown = f"; not readable: {', '.join(role.unreadable)}" if role.unreadable else ""
    return f" (it has {', '.join(role.policies) or 'none'}{unknown})"
