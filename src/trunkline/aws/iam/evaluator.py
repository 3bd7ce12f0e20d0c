"""The decision: explicit deny, then what has to allow, then deny.

Source: IAM user guide, "Policy evaluation logic", "Cross-account policy evaluation logic" and "Evaluating
identity-based policies with resource-based policies" (what a grant to a role, to its session and to an
account each mean beside permissions boundaries and session policies).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from trunkline.aws.iam.patterns import Context, matches
from trunkline.aws.iam.policy import Policy, Statement


class PolicyType(StrEnum):
    """What kind of policy decided, in AWS's words."""

    IDENTITY = "identity-based policy"
    RESOURCE = "resource-based policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    `arn` is the user's or the session's ARN; `principal_arn` is what `aws:PrincipalArn` holds: for a session
    the *role's* ARN, path included. `service` is set for AWS services only (`ecs-tasks.amazonaws.com`).
    """

    account: str
    arn: str
    principal_arn: str
    service: str = ""


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """One question: may `principal` do `action` (`sts:AssumeRole`) to `resource` (an ARN or `*`)?

    `resource_account` owns the resource. `context` holds condition keys, in any case, and their values;
    `aws:PrincipalArn`, `aws:PrincipalAccount` and `aws:ResourceAccount` need not be given.
    """

    principal: Principal
    action: str
    resource: str
    resource_account: str
    context: Mapping[str, str | Sequence[str]] = field(default_factory=dict)

    def full_context(self) -> Context:
        """The condition keys in lower case, with those that follow from the request itself."""
        given = {key.lower(): value for key, value in self.context.items()}
        if self.principal.service:
            return {"aws:principalisawsservice": "true", **given}
        return {
            "aws:principalarn": self.principal.principal_arn,
            "aws:principalaccount": self.principal.account,
            "aws:principalisawsservice": "false",
            "aws:resourceaccount": self.resource_account,
            **given,
        }


@dataclass(frozen=True, slots=True)
class Policies:
    """Everything that has a say.

    `session` None means that the session was made without policies (an empty one denies everything).
    `resource_required` marks a role's trust policy: it has to allow, in the same account too.
    """

    identity: Sequence[Policy] = ()
    resource: Policy | None = None
    boundary: Policy | None = None
    session: Sequence[Policy] | None = None
    resource_required: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer and what decided it; `explicit` tells a Deny from a missing Allow."""

    allowed: bool
    action: str
    decided_by: PolicyType
    explicit: bool = False
    sid: str = ""

    @property
    def reason(self) -> str:
        """How AWS ends the sentence of a refusal; empty if allowed."""
        if self.allowed:
            return ""
        article = "an" if self.decided_by is PolicyType.IDENTITY else "a"
        if self.explicit:
            return f"with an explicit deny in {article} {self.decided_by}"
        return f"because no {self.decided_by} allows the {self.action} action"


class _Grant(IntEnum):
    """How closely a resource policy names the one who asks."""

    NONE = 0
    ACCOUNT = 1  # the account: hands the decision to that account's own policies
    PRINCIPAL = 2  # the role, or everybody: no identity policy needed in the same account
    EXACT = 3  # the session or user itself: boundary and session policies do not take it away


def evaluate(request: AccessRequest, policies: Policies) -> Decision:
    """Decide `request` under `policies`."""
    context = request.full_context()
    denied = _explicit_deny(request, policies, context)
    if denied:
        return denied
    grant = _resource_grant(request, policies, context)
    return _missing(request, policies, context, grant) or Decision(
        allowed=True,
        action=request.action,
        decided_by=PolicyType.RESOURCE if grant > _Grant.ACCOUNT else PolicyType.IDENTITY,
    )


def _by_type(policies: Policies) -> Iterator[tuple[PolicyType, Policy]]:
    yield from ((PolicyType.IDENTITY, policy) for policy in policies.identity)
    if policies.resource:
        yield PolicyType.RESOURCE, policies.resource
    if policies.boundary:
        yield PolicyType.BOUNDARY, policies.boundary
    yield from ((PolicyType.SESSION, policy) for policy in policies.session or ())


def _explicit_deny(request: AccessRequest, policies: Policies, context: Context) -> Decision | None:
    for kind, policy in _by_type(policies):
        for statement in policy.statements:
            if not statement.allows and _applies(statement, request, context):
                return Decision(
                    allowed=False, action=request.action, decided_by=kind, explicit=True, sid=statement.sid
                )
    return None


def _resource_grant(request: AccessRequest, policies: Policies, context: Context) -> _Grant:
    statements = policies.resource.statements if policies.resource else ()
    return max(
        (
            _closeness(statement, request.principal)
            for statement in statements
            if statement.allows and _applies(statement, request, context)
        ),
        default=_Grant.NONE,
    )


def _missing(request: AccessRequest, policies: Policies, context: Context, grant: _Grant) -> Decision | None:
    """The first policy type whose Allow is needed and is not there."""
    for kind, present in _needed(request, policies, context, grant):
        if not present:
            return Decision(allowed=False, action=request.action, decided_by=kind)
    return None


def _needed(
    request: AccessRequest, policies: Policies, context: Context, grant: _Grant
) -> Iterator[tuple[PolicyType, bool]]:
    def allowed_by(policies: Sequence[Policy]) -> bool:
        return any(_allows(policy, request, context) for policy in policies)

    crosses = request.principal.account != request.resource_account
    if not request.principal.service and (crosses or grant < _Grant.EXACT):
        if crosses or grant < _Grant.PRINCIPAL:
            yield PolicyType.IDENTITY, allowed_by(policies.identity)
        if policies.boundary:
            yield PolicyType.BOUNDARY, allowed_by([policies.boundary])
        if policies.session is not None:
            yield PolicyType.SESSION, allowed_by(policies.session)
    if crosses or policies.resource_required or request.principal.service:
        yield PolicyType.RESOURCE, grant > _Grant.NONE


def _allows(policy: Policy, request: AccessRequest, context: Context) -> bool:
    return any(statement.allows and _applies(statement, request, context) for statement in policy.statements)


def _applies(statement: Statement, request: AccessRequest, context: Context) -> bool:
    """Whether the statement speaks of this request at all."""
    return (
        _names_action(statement, request.action)
        and _names_resource(statement, request.resource, context)
        and _closeness(statement, request.principal) > _Grant.NONE
        and all(condition.holds(context) for condition in statement.conditions)
    )


def _names_action(statement: Statement, action: str) -> bool:
    named = any(matches(pattern, action, {}, ignore_case=True) for pattern in statement.actions)
    return named != statement.negated_actions


def _names_resource(statement: Statement, resource: str, context: Context) -> bool:
    if not statement.resources:
        return True  # a trust policy: its resource is the role it belongs to
    named = any(matches(pattern, resource, context) for pattern in statement.resources)
    return named != statement.negated_resources


def _closeness(statement: Statement, principal: Principal) -> _Grant:
    if statement.principals is None:
        return _Grant.PRINCIPAL  # an identity policy: it is the principal's own
    named = max((_names(kind, name, principal) for kind, name in statement.principals), default=_Grant.NONE)
    if statement.negated_principals:
        return _Grant.NONE if named else _Grant.PRINCIPAL
    return named


def _names(kind: str, name: str, principal: Principal) -> _Grant:
    if principal.service:
        return _Grant.EXACT if kind == "Service" and name == principal.service else _Grant.NONE
    if kind != "AWS":
        return _Grant.NONE
    if name == principal.arn:
        return _Grant.EXACT
    if name in {"*", principal.principal_arn}:
        return _Grant.PRINCIPAL
    is_account = name == principal.account or name.endswith(f":iam::{principal.account}:root")
    return _Grant.ACCOUNT if is_account else _Grant.NONE
