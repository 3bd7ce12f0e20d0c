"""The policy language: who may do what, and which policy decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from trunkline.aws.iam import (
    AWS_MANAGED_POLICIES,
    AccessRequest,
    Decision,
    Policies,
    Policy,
    PolicyError,
    Principal,
    evaluate,
    managed_policy,
    parse_policy,
)

MONITORING, WORKLOAD = "111111111111", "222222222222"
CENTRAL = f"arn:aws:iam::{MONITORING}:role/Central"
TASK = Principal(
    account=WORKLOAD,
    arn=f"arn:aws:sts::{WORKLOAD}:assumed-role/Task/abc",
    principal_arn=f"arn:aws:iam::{WORKLOAD}:role/trunkline/Task",
)
ALICE = Principal(WORKLOAD, f"arn:aws:iam::{WORKLOAD}:user/alice", f"arn:aws:iam::{WORKLOAD}:user/alice")
ECS = Principal("", "", "", service="ecs-tasks.amazonaws.com")


def policy(*statements: Mapping[str, Any]) -> Policy:
    return parse_policy({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


def trust(principal: Any, *, effect: str = "Allow", condition: Any = None, **more: Any) -> dict[str, Any]:
    statement = {"Effect": effect, "Principal": principal, "Action": "sts:AssumeRole", **more}
    return {**statement, "Condition": condition} if condition else statement


def decide(
    *identity: Mapping[str, Any],
    action: str = "aps:RemoteWrite",
    resource: str = f"arn:aws:aps:eu-west-1:{WORKLOAD}:workspace/ws-1",
    owner: str = WORKLOAD,
    principal: Principal = TASK,
    context: Mapping[str, str | Sequence[str]] | None = None,
    resource_policy: Sequence[Mapping[str, Any]] | None = None,
    boundary: Sequence[Mapping[str, Any]] | None = None,
    session: Sequence[Mapping[str, Any]] | None = None,
    required: bool = False,
) -> Decision:
    policies = Policies(
        identity=[policy(*identity)],
        resource=policy(*resource_policy) if resource_policy is not None else None,
        boundary=policy(*boundary) if boundary is not None else None,
        session=[policy(*session)] if session is not None else None,
        resource_required=required,
    )
    return evaluate(AccessRequest(principal, action, resource, owner, context or {}), policies)


def assume(
    *identity: Mapping[str, Any],
    trusts: Sequence[Mapping[str, Any]],
    role: str = CENTRAL,
    principal: Principal = TASK,
    **more: Any,
) -> Decision:
    owner = role.split(":")[4]
    return decide(
        *identity,
        action="sts:AssumeRole",
        resource=role,
        owner=owner,
        principal=principal,
        resource_policy=trusts,
        required=True,
        **more,
    )


def check(decision: Decision, expected: str) -> None:
    """`expected` is `allow`, or the end of AWS's sentence."""
    assert ("allow" if decision.allowed else decision.reason) == expected


NO_IDENTITY = "because no identity-based policy allows the aps:RemoteWrite action"
NO_IDENTITY_STS = "because no identity-based policy allows the sts:AssumeRole action"
NO_TRUST = "because no resource-based policy allows the sts:AssumeRole action"
DENIED = "with an explicit deny in an identity-based policy"


def test_nothing_is_allowed_that_no_statement_allows() -> None:
    check(decide(), NO_IDENTITY)
    check(decide(allow("aps:QueryMetrics")), NO_IDENTITY)
    check(decide(allow("aps:RemoteWrite", "arn:aws:aps:eu-west-1:*:workspace/ws-2")), NO_IDENTITY)
    check(decide(allow("aps:RemoteWrite")), "allow")


def test_a_deny_wins_wherever_it_is() -> None:
    check(decide(allow(), deny("aps:RemoteWrite")), DENIED)
    check(decide(deny("aps:RemoteWrite"), allow()), DENIED)
    check(decide(allow(), boundary=[allow(), deny()]), "with an explicit deny in a permissions boundary")
    check(decide(allow(), session=[allow(), deny()]), "with an explicit deny in a session policy")
    check(
        decide(allow(), resource_policy=[deny(Principal="*")]),
        "with an explicit deny in a resource-based policy",
    )
    check(decide(allow(), deny("aps:QueryMetrics"), deny(resource="arn:other")), "allow")


def test_actions_ignore_case_and_have_wildcards() -> None:
    check(decide(allow("APS:remotewrite")), "allow")
    check(decide(allow("aps:*")), "allow")
    check(decide(allow("aps:Remote????e")), "allow")
    check(decide(allow("*:*")), "allow")
    check(decide(allow("aps:Remote?")), NO_IDENTITY)
    check(decide(allow("ap.:RemoteWrite")), NO_IDENTITY)
    check(decide(allow(["iam:*", "aps:Remote*"])), "allow")


def test_resources_keep_case_and_have_wildcards() -> None:
    check(decide(allow(resource="arn:aws:aps:*:*:workspace/ws-?")), "allow")
    check(decide(allow(resource="arn:aws:aps:*:*:workspace/WS-1")), NO_IDENTITY)
    check(decide(allow(resource=["arn:x", "*"])), "allow")


def test_what_is_not_named_can_be_meant() -> None:
    everything_but = {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}
    check(decide(everything_but), "allow")
    check(decide({**everything_but, "NotAction": "aps:*"}), NO_IDENTITY)
    elsewhere = {"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:aps:eu-west-1:*:*"}
    check(decide(allow(), elsewhere), "allow")
    check(decide(allow(), {**elsewhere, "NotResource": "arn:aws:aps:us-east-1:*:*"}), DENIED)


def test_variables_are_filled_in_literally() -> None:
    own = allow(resource="arn:aws:aps:*:${aws:PrincipalAccount}:workspace/${aws:PrincipalTag/ws}")
    check(decide(own, context={"aws:PrincipalTag/ws": "ws-1"}), "allow")
    check(decide(own, context={"aws:PrincipalTag/ws": "*"}), NO_IDENTITY)
    check(decide(own), NO_IDENTITY)
    check(decide(allow(resource="arn:aws:aps:*:*:workspace/${aws:nothing, 'ws-1'}")), "allow")
    check(decide(allow(resource="arn:aws:aps:*:*:workspace/ws-${*}")), NO_IDENTITY)


def test_a_boundary_and_a_session_policy_only_narrow() -> None:
    check(decide(allow(), boundary=[allow("aps:*")]), "allow")
    check(
        decide(allow(), boundary=[allow("iam:*")]),
        "because no permissions boundary allows the aps:RemoteWrite action",
    )
    check(decide(boundary=[allow()]), NO_IDENTITY)
    check(
        decide(allow(), session=[allow("iam:*")]),
        "because no session policy allows the aps:RemoteWrite action",
    )
    check(decide(allow(), session=[allow("aps:*")], boundary=[allow("aps:Remote*")]), "allow")


def test_another_account_needs_both_sides() -> None:
    both = [trust({"AWS": f"arn:aws:iam::{WORKLOAD}:root"})]
    check(assume(allow("sts:AssumeRole", CENTRAL), trusts=both), "allow")
    check(assume(trusts=both), NO_IDENTITY_STS)
    check(assume(allow("sts:AssumeRole", f"{CENTRAL}2"), trusts=both), NO_IDENTITY_STS)
    check(assume(allow(), trusts=[]), NO_TRUST)
    check(assume(allow(), trusts=[trust({"AWS": "333333333333"})]), NO_TRUST)
    check(assume(trusts=[trust({"AWS": TASK.principal_arn})]), NO_IDENTITY_STS)
    check(assume(trusts=[trust({"AWS": TASK.arn})]), NO_IDENTITY_STS)


def test_every_way_to_name_a_principal() -> None:
    def named(principal: Any, expected: str, caller: Principal = TASK) -> None:
        check(assume(allow(), trusts=[trust(principal)], principal=caller), expected)

    named("*", "allow")
    named({"AWS": "*"}, "allow")
    named({"AWS": WORKLOAD}, "allow")
    named({"AWS": f"arn:aws:iam::{WORKLOAD}:root"}, "allow")
    named({"AWS": ["333333333333", TASK.principal_arn]}, "allow")
    named({"AWS": TASK.arn}, "allow")
    named({"AWS": ALICE.arn}, "allow", ALICE)
    named({"AWS": f"arn:aws:iam::{WORKLOAD}:role/Task"}, NO_TRUST)
    named({"AWS": f"arn:aws:iam::{WORKLOAD}:role/trunkline/*"}, NO_TRUST)
    named({"AWS": TASK.arn + "d"}, NO_TRUST)
    named({"Service": "ecs-tasks.amazonaws.com"}, NO_TRUST)
    named({"Federated": "*"}, NO_TRUST)


def test_not_principal() -> None:
    but_task = trust(None, effect="Deny") | {"NotPrincipal": {"AWS": [TASK.principal_arn]}}
    del but_task["Principal"]
    everybody = trust("*")
    check(assume(allow(), trusts=[everybody, but_task]), "allow")
    check(
        assume(allow(), trusts=[everybody, but_task], principal=ALICE),
        "with an explicit deny in a resource-based policy",
    )


def test_a_role_of_the_same_account_is_assumed_by_trust_that_names_the_caller() -> None:
    local = f"arn:aws:iam::{WORKLOAD}:role/Local"

    def within(principal: Any, expected: str, *identity: Mapping[str, Any], **more: Any) -> None:
        check(assume(*identity, trusts=[trust(principal)], role=local, **more), expected)

    within({"AWS": TASK.principal_arn}, "allow")
    within({"AWS": TASK.arn}, "allow")
    within({"AWS": WORKLOAD}, NO_IDENTITY_STS)
    within({"AWS": WORKLOAD}, "allow", allow("sts:AssumeRole", local))
    within({"AWS": MONITORING}, NO_TRUST, allow())
    no_session = "because no session policy allows the sts:AssumeRole action"
    within({"AWS": TASK.principal_arn}, no_session, session=[allow("iam:*")])
    within({"AWS": TASK.arn}, "allow", session=[allow("iam:*")])
    no_boundary = "because no permissions boundary allows the sts:AssumeRole action"
    within({"AWS": TASK.principal_arn}, no_boundary, boundary=[allow("iam:*")])


def test_a_resource_policy_suffices_within_the_account() -> None:
    check(decide(resource_policy=[allow(Principal={"AWS": TASK.principal_arn})]), "allow")
    check(decide(resource_policy=[allow(Principal={"AWS": WORKLOAD})]), NO_IDENTITY)
    check(decide(allow(), resource_policy=[allow(Principal={"AWS": MONITORING})]), "allow")


def test_services_are_trusted_by_name_with_the_account_they_act_for() -> None:
    role = f"arn:aws:iam::{WORKLOAD}:role/Task"
    condition = {
        "StringEquals": {"aws:SourceAccount": WORKLOAD},
        "ArnLike": {"aws:SourceArn": f"arn:aws:ecs:*:{WORKLOAD}:*"},
    }
    trusts = [trust({"Service": "ecs-tasks.amazonaws.com"}, condition=condition)]
    here = {"aws:SourceAccount": WORKLOAD, "aws:SourceArn": f"arn:aws:ecs:eu-west-1:{WORKLOAD}:*"}
    there = {"aws:SourceAccount": MONITORING, "aws:SourceArn": f"arn:aws:ecs:eu-west-1:{MONITORING}:*"}
    check(assume(trusts=trusts, role=role, principal=ECS, context=here), "allow")
    check(assume(trusts=trusts, role=role, principal=ECS, context=there), NO_TRUST)
    check(assume(trusts=[trust({"Service": "ec2.amazonaws.com"})], role=role, principal=ECS), NO_TRUST)
    check(assume(trusts=[trust("*")], role=role, principal=ECS), NO_TRUST)


def test_the_role_and_not_the_session_is_the_principal_arn() -> None:
    def narrowed(operator: str, pattern: str, expected: str) -> None:
        condition = {operator: {"aws:PrincipalArn": pattern}}
        check(assume(allow(), trusts=[trust({"AWS": WORKLOAD}, condition=condition)]), expected)

    narrowed("ArnLike", f"arn:aws:iam::{WORKLOAD}:role/trunkline/*", "allow")
    narrowed("ArnEquals", "arn:aws:iam::*:role/trunkline/Task", "allow")
    narrowed("ArnLike", f"arn:aws:iam::{WORKLOAD}:role/Task", NO_TRUST)
    narrowed("ArnLike", "arn:aws:iam::*", NO_TRUST)
    narrowed("ArnLike", "arn:aws:sts::*:assumed-role/Task/*", NO_TRUST)
    narrowed("ArnNotLike", "arn:aws:iam::*:role/other/*", "allow")


def test_external_id_and_organisation() -> None:
    trusts = [
        trust(
            "*",
            condition={
                "StringEquals": {"sts:ExternalId": "s3cret", "aws:PrincipalOrgID": "o-1"},
            },
        )
    ]

    def asked(expected: str, **context: str) -> None:
        keys = {"org": "aws:PrincipalOrgID", "external": "sts:ExternalId"}
        check(assume(allow(), trusts=trusts, context={keys[k]: v for k, v in context.items()}), expected)

    asked("allow", org="o-1", external="s3cret")
    asked(NO_TRUST, org="o-1")
    asked(NO_TRUST, org="o-1", external="S3cret")
    asked(NO_TRUST, org="o-2", external="s3cret")


def test_sessions_from_before_a_moment_can_be_revoked() -> None:
    revoke = deny(Condition={"DateLessThan": {"aws:TokenIssueTime": "2026-01-01T12:00:00Z"}})
    check(decide(allow(), revoke, context={"aws:TokenIssueTime": "2026-01-01T11:59:59Z"}), DENIED)
    check(decide(allow(), revoke, context={"aws:TokenIssueTime": "2026-01-01T12:00:00Z"}), "allow")
    check(decide(allow(), revoke), "allow")


def test_condition_operators() -> None:
    def holds(condition: Any, expected: bool = True, **context: str | list[str]) -> None:
        decision = decide(
            allow(Condition=condition), context={k.replace("_", ":"): v for k, v in context.items()}
        )
        assert decision.allowed is expected, condition

    holds({"StringEquals": {"A:K": ["x", "y"]}}, a_k="y")
    holds({"StringEquals": {"a:k": "x*"}}, False, a_k="xy")
    holds({"StringEquals": {"a:k": "x*}"}}, False, a_k="xy}")
    holds({"StringEquals": {"a:k": "x*"}}, a_k="x*")
    holds({"StringEqualsIgnoreCase": {"a:k": "X"}}, a_k="x")
    holds({"StringNotEquals": {"a:k": ["x", "y"]}}, False, a_k="y")
    holds({"StringNotEquals": {"a:k": ["x", "y"]}}, a_k="z")
    holds({"StringNotEquals": {"a:k": "x"}})
    holds({"StringNotEqualsIgnoreCase": {"a:k": "X"}}, False, a_k="x")
    holds({"StringLike": {"a:k": "a?c*"}}, a_k="abcdef")
    holds({"StringNotLike": {"a:k": "a*"}}, False, a_k="abc")
    holds({"StringEquals": {"a:k": "x"}}, False)
    holds({"StringEqualsIfExists": {"a:k": "x"}})
    holds({"StringEqualsIfExists": {"a:k": "x"}}, False, a_k="y")
    holds({"StringEquals": {"a:k": "x", "b:k": "y"}}, False, a_k="x")
    holds({"StringEquals": {"a:k": "x"}, "Bool": {"b:k": True}}, a_k="x", b_k="true")
    holds({"Bool": {"a:k": "false"}}, False, a_k="true")
    holds({"Null": {"a:k": "true"}})
    holds({"Null": {"a:k": "true"}}, False, a_k="x")
    holds({"Null": {"a:k": False}}, a_k="x")
    holds({"NumericLessThanEquals": {"a:k": 10}}, a_k="10.0")
    holds({"NumericGreaterThan": {"a:k": "10"}}, False, a_k="10")
    holds({"NumericNotEquals": {"a:k": "1"}}, a_k="2")
    holds({"NumericEquals": {"a:k": "1"}}, False, a_k="one")
    holds({"DateGreaterThan": {"a:k": "2026-01-01"}}, a_k="2026-01-01T00:00:01Z")
    holds({"DateLessThan": {"a:k": "1767225600"}}, False, a_k="2026-01-01T00:00:00Z")
    holds({"IpAddress": {"a:k": ["10.0.0.0/8", "::1/128"]}}, a_k="10.2.3.4")
    holds({"IpAddress": {"a:k": "10.0.0.0/8"}}, False, a_k="not an address")
    holds({"NotIpAddress": {"a:k": "10.0.0.0/8"}}, False, a_k="10.2.3.4")
    holds({"ArnNotEquals": {"a:k": "arn:aws:s3:::b"}}, a_k="arn:aws:s3:::c")
    holds({"StringEquals": {"a:k": "${aws:PrincipalAccount}"}}, a_k=WORKLOAD)


def test_conditions_on_several_values() -> None:
    def holds(operator: str, expected: bool, *given: str) -> None:
        decision = decide(
            allow(Condition={operator: {"aws:TagKeys": ["a", "b"]}}),
            context={"aws:TagKeys": list(given)} if given else {},
        )
        assert decision.allowed is expected, (operator, given)

    holds("ForAnyValue:StringEquals", True, "z", "a")
    holds("ForAnyValue:StringEquals", False, "z")
    holds("ForAnyValue:StringEquals", False)
    holds("ForAllValues:StringEquals", True, "b", "a")
    holds("ForAllValues:StringEquals", False, "b", "z")
    holds("ForAllValues:StringEquals", True)
    holds("ForAnyValue:StringNotEquals", True, "a", "z")
    holds("ForAllValues:StringNotEquals", False, "a", "z")
    holds("ForAllValues:StringNotEquals", True, "y", "z")


def test_what_is_no_policy_is_refused() -> None:
    def refused(document: Any, sentence: str) -> None:
        with pytest.raises(PolicyError, match=sentence):
            parse_policy(document)

    refused("{", "Syntax errors in policy")
    refused("[]", "no Statement")
    refused({"Statement": [{"Action": "*"}]}, "needs an Effect")
    refused({"Statement": {"Effect": "Allow", "Resource": "*"}}, "must contain actions")
    refused({"Statement": {**allow(), "Actoin": "*"}}, "unknown key Actoin")
    refused({"Statement": allow(Principal="everybody")}, "Invalid principal")
    refused({"Statement": allow(Condition={"StringSimilar": {"a": "b"}})}, "Invalid Condition type")
    refused({"Statement": allow(Condition={"ForSomeValues:StringLike": {"a": "b"}})}, "Invalid Condition")
    assert len(parse_policy({"Statement": allow()}).statements) == 1


def test_managed_policies_that_are_built_in() -> None:
    def may(name: str, action: str, expected: bool) -> None:
        known = managed_policy(f"arn:aws:iam::aws:policy/{name}")
        assert known is not None
        request = AccessRequest(TASK, action, "arn:aws:x:::y", WORKLOAD)
        assert evaluate(request, Policies(identity=[known])).allowed is expected

    may("AdministratorAccess", "iam:CreateRole", True)
    may("AmazonPrometheusRemoteWriteAccess", "aps:RemoteWrite", True)
    may("AmazonPrometheusRemoteWriteAccess", "aps:QueryMetrics", False)
    may("AmazonPrometheusQueryAccess", "aps:QueryMetrics", True)
    may("AmazonPrometheusQueryAccess", "aps:RemoteWrite", False)
    may("service-role/AmazonECSTaskExecutionRolePolicy", "logs:PutLogEvents", True)
    may("service-role/AmazonECSTaskExecutionRolePolicy", "logs:CreateLogGroup", False)
    assert managed_policy("arn:aws:iam::aws:policy/PowerUserAccess") is None
    assert len(AWS_MANAGED_POLICIES) == 4
