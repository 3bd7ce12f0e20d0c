"""What a refusal means, to the letter."""

import json

from trunkline.aws import explain
from trunkline.aws.explain_sts import Refusal, StsExplainer
from trunkline.aws.keys import Credentials
from trunkline.net.message import Response

ROLE = "arn:aws:iam::111111111111:role/fleet/central"
TASK = "arn:aws:sts::222222222222:assumed-role/task/abc"
DENIED = f"User: {TASK} is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
CALLER = Credentials("ASIATASK", "task secret", "task token", source="environment")


def test_what_aws_would_have_signed_is_not_quoted() -> None:
    mismatch = (
        "The request signature we calculated does not match.\n\nThe Canonical String for this request should have "
        "been\n'POST\n/\n\nx-amz-security-token:task token\n'"
    )
    assert explain.quoted(mismatch) == "The request signature we calculated does not match."
    incomplete = (
        "Authorization header requires 'Signature' parameter. Authorization=AWS4-HMAC-SHA256 Credential=A"
    )
    assert explain.quoted(incomplete) == "Authorization header requires 'Signature' parameter."
    assert explain.quoted(" a\n b ") == "a b"
    assert len(explain.quoted("x" * 5000)) < 1100


def test_the_words_of_an_answer() -> None:
    def check(body: str, expected: str) -> None:
        assert explain.message_of(Response(403, "Forbidden", {}, body.encode())) == expected

    check('{"message": "no"}', "no")
    check('{"Message": "no\\n\\nThe Canonical String for this request is x"}', "no")
    check('["no"]', '["no"]')
    check("plain\n", "plain")
    check("", "Forbidden")


def test_statements_are_ready_to_be_pasted() -> None:
    def changes(message: str, *, external_id: bool = False) -> tuple[str, ...]:
        refusal = Refusal(f"«{message}» (AccessDenied)", "AccessDenied", message)
        return StsExplainer(refusal, CALLER, "eu-west-1").assume_role(ROLE, external_id=external_id).change

    def statements(lines: tuple[str, ...]) -> list[object]:
        return [json.loads(line[line.index("{") :]) for line in lines if "{" in line]

    ours = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE}
    task = "arn:aws:iam::222222222222:role/task"
    theirs = {"Effect": "Allow", "Principal": {"AWS": task}, "Action": "sts:AssumeRole"}
    assert statements(changes(DENIED)) == [ours, theirs]
    assert f"aws iam simulate-principal-policy --policy-source-arn {task} " in changes(DENIED)[-2]
    assert changes(DENIED)[-1].endswith("of account 111111111111: aws iam get-role --role-name central")
    tail = "because no {} policy allows the sts:AssumeRole action"
    assert statements(changes(f"{DENIED} {tail.format('identity-based')}")) == [ours]
    assert statements(changes(f"{DENIED} {tail.format('resource-based')}")) == [theirs]
    sent = changes(DENIED, external_id=True)
    assert statements(sent)[1] == {
        **theirs,
        "Condition": {"StringEquals": {"sts:ExternalId": "<external_id of this configuration>"}},
    }
    [denied] = changes(f"{DENIED} with an explicit deny in a service control policy")
    assert denied.startswith(f"the statement with Effect Deny in a service control policy of {task}")


def test_a_clock_that_is_wrong_is_not_taken_for_an_old_session() -> None:
    message = "Signature expired: 20261122T100000Z is now earlier than 20261122T101500Z (20261122T103000Z - 15 min.)"
    assert explain.forbidden(message).startswith("The clock of this machine is wrong")
    old = "The security token included in the request is expired"
    assert explain.forbidden(old).startswith("The session has expired")


def test_partitions_are_kept() -> None:
    principal = "arn:aws-us-gov:iam::111111111111:role/central"
    workspace = explain.Workspace("ws-1", "us-gov-west-1", principal=principal)
    assert workspace.arn == "arn:aws-us-gov:aps:us-gov-west-1:111111111111:workspace/ws-1"
    assert explain.role_of("arn:aws-cn:sts::1:assumed-role/x/y") == "arn:aws-cn:sts::1:assumed-role/x/y"
    assert explain.role_of("arn:aws-cn:sts::111111111111:assumed-role/x/y") == (
        "arn:aws-cn:iam::111111111111:role/x"
    )
