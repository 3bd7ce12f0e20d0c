"""The front door before the emulator, used as boto3 uses AWS."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.simulator.frontdoor_live import IRELAND, MONITORING, VIRGINIA, Live, allow, document, running

from trunkline.simulator.frontdoor.calls import Answer, Call
from trunkline.simulator.frontdoor.errors import AccessDeniedError
from trunkline.simulator.frontdoor.faults import Fault
from trunkline.simulator.frontdoor.server import Listener
from trunkline.simulator.frontdoor.sessions import AccessKey

STS_NAME = "sts.us-east-1.amazonaws.com"
INVALID = "The security token included in the request is invalid."
EXPIRED = "The security token included in the request is expired"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the name of STS, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, STS_NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(STS_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def tls_socket() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture(scope="module")
def live(
    tmp_path_factory: pytest.TempPathFactory, certificate: Path, tls_socket: socket.socket
) -> Iterator[Live]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with running(tmp_path_factory.mktemp("state"), [Listener(tls_socket, context)]) as running_door:
        yield running_door


@pytest.fixture(autouse=True)
def _as_it_was(live: Live) -> Iterator[None]:
    yield
    live.offset_s = 0.0
    live.door.faults.clear()
    live.door.sessions.longest_s = None


def refused(work: Callable[[], Any], code: str, message: str, status: int | None = None) -> None:
    """`work` fails with AWS's `code` and exactly this `message` (or, ending in `…`, one that begins so)."""
    with pytest.raises(ClientError) as caught:
        work()
    found = caught.value.response
    text = found["Error"].get("Message", "")
    assert (found["Error"]["Code"], text if not message.endswith("…") else text[: len(message) - 1]) == (
        code,
        message.removesuffix("…"),
    )
    if status is not None:
        assert found["ResponseMetadata"]["HTTPStatusCode"] == status


def denied(work: Callable[[], Any], who: str, action: str, resource: str, reason: str = "") -> None:
    """`work` is refused by IAM, in AWS's words."""
    with pytest.raises(ClientError) as caught:
        work()
    error = caught.value.response["Error"]
    assert error["Code"] in {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
    sentence = f"User: {who} is not authorized to perform: {action} on resource: {resource}"
    assert error["Message"] == f"{sentence} {reason}".rstrip()


def no_identity(action: str) -> str:
    return f"because no identity-based policy allows the {action} action"


# Who is asking


def test_an_administrator_and_a_session_are_who_they_are(live: Live) -> None:
    me = live.client("sts").get_caller_identity()
    assert (me["Account"], me["Arn"]) == (IRELAND, f"arn:aws:iam::{IRELAND}:user/Administrator")
    arn = live.role(IRELAND, "WhoAmI", path="/a/b/")
    session = live.client("sts", credentials=live.assume(arn)).get_caller_identity()
    assert session["Arn"] == f"arn:aws:sts::{IRELAND}:assumed-role/WhoAmI/test"
    assert session["UserId"].endswith(":test")


def test_keys_that_are_wrong(live: Live) -> None:
    unknown = AccessKey("AKIAUNKNOWN", "x")
    known = live.keys[IRELAND].access_key_id
    wrong = AccessKey(known, "wrong")

    def check(
        key: Any, service: str, ask: Callable[[Any], Any], code: str, message: str, status: int
    ) -> None:
        client = live.client(service, credentials=key)
        refused(lambda: ask(client), code, message, status)

    mismatch = "The request signature we calculated does not match the signature you provided.…"
    check(unknown, "sts", lambda c: c.get_caller_identity(), "InvalidClientTokenId", INVALID, 403)
    check(unknown, "ecs", lambda c: c.list_clusters(), "UnrecognizedClientException", INVALID, 400)
    check(unknown, "amp", lambda c: c.list_workspaces(), "UnrecognizedClientException", INVALID, 403)
    not_valid = "AWS was not able to validate the provided access credentials"
    check(unknown, "ec2", lambda c: c.describe_vpcs(), "AuthFailure", not_valid, 401)
    no_key = "The AWS Access Key Id you provided does not exist in our records."
    check(unknown, "s3", lambda c: c.list_buckets(), "InvalidAccessKeyId", no_key, 403)
    check(wrong, "iam", lambda c: c.list_roles(), "SignatureDoesNotMatch", mismatch, 403)
    check(wrong, "logs", lambda c: c.describe_log_groups(), "InvalidSignatureException", mismatch, 400)
    check(wrong, "amp", lambda c: c.list_workspaces(), "InvalidSignatureException", mismatch, 403)
    check(wrong, "s3", lambda c: c.list_buckets(), "SignatureDoesNotMatch", mismatch, 403)
    without_token = live.assume(live.role(IRELAND, "Tokenless", allow()))
    key = AccessKey(without_token["AccessKeyId"], without_token["SecretAccessKey"])
    check(key, "sts", lambda c: c.get_caller_identity(), "InvalidClientTokenId", INVALID, 403)


def test_a_session_that_is_over(live: Live) -> None:
    live.door.sessions.longest_s = 0.0
    session = live.assume(live.role(IRELAND, "Short", allow()))

    def check(service: str, ask: Callable[[Any], Any], code: str, message: str, status: int) -> None:
        refused(lambda: ask(live.client(service, credentials=session)), code, message, status)

    check("sts", lambda c: c.get_caller_identity(), "ExpiredToken", EXPIRED, 403)
    check("cloudformation", lambda c: c.list_stacks(), "ExpiredToken", EXPIRED, 403)
    check("ecs", lambda c: c.list_clusters(), "ExpiredTokenException", EXPIRED, 400)
    check("amp", lambda c: c.list_workspaces(), "ExpiredTokenException", EXPIRED, 403)
    check("s3", lambda c: c.list_buckets(), "ExpiredToken", "The provided token has expired.", 400)
    check("ec2", lambda c: c.describe_vpcs(), "RequestExpired", "Request has expired.", 400)


def test_sessions_can_be_ended_at_once(live: Live) -> None:
    session = live.assume(live.role(IRELAND, "Ended", allow()))
    sts = live.client("sts", credentials=session)
    sts.get_caller_identity()
    live.door.sessions.expire(session["AccessKeyId"])
    refused(sts.get_caller_identity, "ExpiredToken", EXPIRED)
    live.door.sessions.expire_all()
    live.client("sts").get_caller_identity()  # administrators live for ever


def test_a_clock_that_is_wrong(live: Live) -> None:
    live.offset_s = 16 * 60
    refused(live.client("sts").get_caller_identity, "SignatureDoesNotMatch", "Signature expired: …", 403)
    refused(live.client("ecs").list_clusters, "InvalidSignatureException", "Signature expired: …", 400)
    too_skewed = "The difference between the request time and the current time is too large."
    refused(live.client("s3").list_buckets, "RequestTimeTooSkewed", too_skewed, 403)
    live.offset_s = -16 * 60
    refused(
        live.client("amp").list_workspaces, "InvalidSignatureException", "Signature not yet current: …", 403
    )
    live.offset_s = 14 * 60
    live.client("sts").get_caller_identity()


def test_requests_without_a_signature(live: Live) -> None:
    def check(headers: Mapping[str, str], body: str, status: int, *words: str) -> None:
        connection = http.client.HTTPConnection(live.door.url.removeprefix("http://"))
        connection.request("POST", "/", body, dict(headers))
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        assert response.status == status
        assert all(word in text for word in words), text

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    check(
        form,
        "Action=GetCallerIdentity",
        403,
        "<Code>MissingAuthenticationToken</Code>",
        "Request is missing Authentication Token",
    )
    target = {"X-Amz-Target": "AmazonSSM.GetParameter", "Content-Type": "application/x-amz-json-1.1"}
    check(
        target, "{}", 400, '"__type": "MissingAuthenticationTokenException"', "Missing Authentication Token"
    )
    aps = {"Host": "aps-workspaces.eu-west-1.amazonaws.com"}
    check(aps, "", 403, '{"message": "Missing Authentication Token"}')
    ec2 = {**form, "Host": "ec2.eu-west-1.amazonaws.com", "Authorization": "Basic eDp5"}
    check(ec2, "Action=DescribeVpcs", 400, "<Code>IncompleteSignature</Code>")


# What they may do


def test_whoever_is_allowed_nothing_is_told_so_by_every_service(live: Live) -> None:
    session = live.assume(live.role(IRELAND, "Nobody"))
    who = f"arn:aws:sts::{IRELAND}:assumed-role/Nobody/test"

    def check(service: str, ask: Callable[[Any], Any], action: str, resource: str) -> None:
        client = live.client(service, credentials=session)
        denied(lambda: ask(client), who, action, resource, no_identity(action))

    here = f"eu-west-1:{IRELAND}"
    check(
        "iam",
        lambda c: c.get_role(RoleName="WhoAmI"),
        "iam:GetRole",
        f"arn:aws:iam::{IRELAND}:role/a/b/WhoAmI",
    )
    check(
        "iam", lambda c: c.delete_role(RoleName="None"), "iam:DeleteRole", f"arn:aws:iam::{IRELAND}:role/None"
    )
    check(
        "cloudformation",
        lambda c: c.describe_stacks(StackName="s"),
        "cloudformation:DescribeStacks",
        f"arn:aws:cloudformation:{here}:stack/s/*",
    )
    check("cloudformation", lambda c: c.list_stacks(), "cloudformation:ListStacks", "*")
    check("ecs", lambda c: c.list_clusters(), "ecs:ListClusters", "*")
    check(
        "ecs",
        lambda c: c.describe_services(cluster="c", services=["s"]),
        "ecs:DescribeServices",
        f"arn:aws:ecs:{here}:service/c/s",
    )
    check(
        "ecs",
        lambda c: c.run_task(cluster="c", taskDefinition="f:1"),
        "ecs:RunTask",
        f"arn:aws:ecs:{here}:task-definition/f:1",
    )
    check("ecs", lambda c: c.stop_task(cluster="c", task="t"), "ecs:StopTask", f"arn:aws:ecs:{here}:task/c/t")
    check(
        "ecr",
        lambda c: c.describe_images(repositoryName="r/a"),
        "ecr:DescribeImages",
        f"arn:aws:ecr:{here}:repository/r/a",
    )
    check(
        "logs",
        lambda c: c.put_log_events(
            logGroupName="g", logStreamName="s", logEvents=[{"timestamp": 1, "message": "m"}]
        ),
        "logs:PutLogEvents",
        f"arn:aws:logs:{here}:log-group:g:log-stream:s",
    )
    check(
        "ssm", lambda c: c.get_parameter(Name="/a/b"), "ssm:GetParameter", f"arn:aws:ssm:{here}:parameter/a/b"
    )
    check("ec2", lambda c: c.describe_vpcs(), "ec2:DescribeVpcs", "*")
    check("s3", lambda c: c.get_object(Bucket="b", Key="k/l"), "s3:GetObject", "arn:aws:s3:::b/k/l")
    check(
        "amp",
        lambda c: c.describe_workspace(workspaceId="ws-9"),
        "aps:DescribeWorkspace",
        f"arn:aws:aps:{here}:workspace/ws-9",
    )
    check("cloudwatch", lambda c: c.list_dashboards(), "cloudwatch:ListDashboards", "*")
    check("resourcegroupstaggingapi", lambda c: c.get_resources(), "tag:GetResources", "*")


def test_permission_is_for_the_resource_it_names(live: Live) -> None:
    group = f"arn:aws:logs:eu-west-1:{IRELAND}:log-group:/mine:*"
    session = live.assume(live.role(IRELAND, "Narrow", allow("logs:*", group)))
    logs = live.client("logs", credentials=session)
    logs.create_log_group(logGroupName="/mine")
    logs.create_log_stream(logGroupName="/mine", logStreamName="s")
    other = f"arn:aws:logs:eu-west-1:{IRELAND}:log-group:/other:log-stream:"
    denied(
        lambda: logs.create_log_group(logGroupName="/other"),
        f"arn:aws:sts::{IRELAND}:assumed-role/Narrow/test",
        "logs:CreateLogGroup",
        other,
        no_identity("logs:CreateLogGroup"),
    )


def test_a_change_of_policy_acts_at_once(live: Live) -> None:
    session = live.assume(live.role(IRELAND, "Changing"))
    ecs, iam = live.client("ecs", credentials=session), live.client("iam")
    who = f"arn:aws:sts::{IRELAND}:assumed-role/Changing/test"
    denied(ecs.list_clusters, who, "ecs:ListClusters", "*", no_identity("ecs:ListClusters"))
    before = live.door.roles.version
    iam.put_role_policy(RoleName="Changing", PolicyName="p", PolicyDocument=document(allow("ecs:*")))
    assert live.door.roles.version > before
    ecs.list_clusters()
    deny = {"Effect": "Deny", "Action": "ecs:*", "Resource": "*"}
    iam.put_role_policy(RoleName="Changing", PolicyName="d", PolicyDocument=document(deny))
    denied(
        ecs.list_clusters, who, "ecs:ListClusters", "*", "with an explicit deny in an identity-based policy"
    )
    before = live.door.roles.version
    iam.list_roles()
    assert live.door.roles.version == before


def test_managed_policies_and_boundaries(live: Live) -> None:
    iam = live.client("iam")
    own = iam.create_policy(PolicyName="Own", PolicyDocument=document(allow("ecs:*")))["Policy"]["Arn"]
    live.role(IRELAND, "Managed")
    session = live.assume(f"arn:aws:iam::{IRELAND}:role/Managed")
    ecs, logs = live.client("ecs", credentials=session), live.client("logs", credentials=session)
    who = f"arn:aws:sts::{IRELAND}:assumed-role/Managed/test"
    iam.attach_role_policy(RoleName="Managed", PolicyArn=own)
    ecs.list_clusters()
    iam.attach_role_policy(RoleName="Managed", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    logs.describe_log_groups()
    iam.put_role_permissions_boundary(RoleName="Managed", PermissionsBoundary=own)
    ecs.list_clusters()
    group = f"arn:aws:logs:eu-west-1:{IRELAND}:log-group::log-stream:"
    reason = "because no permissions boundary allows the logs:DescribeLogGroups action"
    denied(logs.describe_log_groups, who, "logs:DescribeLogGroups", group, reason)


def test_an_unknown_managed_policy_grants_nothing(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    session = live.assume(live.role(IRELAND, "Stranger"))
    live.client("iam").attach_role_policy(
        RoleName="Stranger", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess"
    )
    ecs = live.client("ecs", credentials=session)
    who = f"arn:aws:sts::{IRELAND}:assumed-role/Stranger/test"
    denied(ecs.list_clusters, who, "ecs:ListClusters", "*", no_identity("ecs:ListClusters"))
    assert "ReadOnlyAccess is not known to the simulator: it grants nothing" in caplog.text


def test_handing_a_role_to_ecs_needs_pass_role(live: Live) -> None:
    task = live.role(IRELAND, "PassedTask", path="/p/")
    register = allow("ecs:RegisterTaskDefinition")
    live.role(IRELAND, "Registrar", register)
    ecs = live.client("ecs", credentials=live.assume(f"arn:aws:iam::{IRELAND}:role/Registrar"))
    who = f"arn:aws:sts::{IRELAND}:assumed-role/Registrar/test"

    def make(role: str = task) -> Any:
        containers = [{"name": "c", "image": "i", "memory": 64}]
        return ecs.register_task_definition(family="f", containerDefinitions=containers, taskRoleArn=role)

    def passing(service: str) -> None:
        condition = {"StringEquals": {"iam:PassedToService": service}}
        statement = allow("iam:PassRole", task, Condition=condition)
        live.client("iam").put_role_policy(
            RoleName="Registrar", PolicyName="inline", PolicyDocument=document(register, statement)
        )

    denied(make, who, "iam:PassRole", task, no_identity("iam:PassRole"))
    passing("ec2.amazonaws.com")
    denied(lambda: make("PassedTask"), who, "iam:PassRole", task, no_identity("iam:PassRole"))
    passing("ecs-tasks.amazonaws.com")
    make()
    make("PassedTask")


# Assuming roles


def test_the_way_of_a_task_into_the_monitoring_account(live: Live) -> None:
    """Each link broken in turn gives AWS's one sentence; whole, it works."""
    iam, central_iam = live.client("iam"), live.client("iam", MONITORING)
    trusted = {
        "Effect": "Allow",
        "Principal": {"Service": "ecs-tasks.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {
            "StringEquals": {"aws:SourceAccount": IRELAND},
            "ArnLike": {"aws:SourceArn": f"arn:aws:ecs:*:{IRELAND}:*"},
        },
    }

    def central_trust(pattern: str, account: str = IRELAND, **more: Any) -> dict[str, Any]:
        condition = {"ArnLike": {"aws:PrincipalArn": pattern}, **more}
        principal = {"AWS": f"arn:aws:iam::{account}:root"}
        return {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", "Condition": condition}

    def trust_now(statement: Mapping[str, Any]) -> None:
        central_iam.update_assume_role_policy(RoleName="Central", PolicyDocument=document(statement))

    good = central_trust(f"arn:aws:iam::{IRELAND}:role/trunkline/*")
    central = live.role(MONITORING, "Central", allow("aps:RemoteWrite"), trust=good)
    task = live.role(IRELAND, "Task", trust=trusted, path="/trunkline/")
    credentials = live.run(live.door.issue_task_session(task, "task-id", "eu-west-1"))
    assert 21_590 < credentials.expires_at - time.time() <= 21_600
    sts = live.client("sts", credentials=credentials)
    who = f"arn:aws:sts::{IRELAND}:assumed-role/Task/task-id"
    assert sts.get_caller_identity()["Arn"] == who

    def assume(**more: Any) -> Any:
        return sts.assume_role(RoleArn=central, RoleSessionName="task-id", **more)

    def broken() -> None:
        denied(assume, who, "sts:AssumeRole", central)

    broken()  # the task's role may not
    own = {"RoleName": "Task", "PolicyName": "central"}
    iam.put_role_policy(**own, PolicyDocument=document(allow("sts:AssumeRole", central + "s")))
    broken()  # it may assume another
    iam.put_role_policy(**own, PolicyDocument=document(allow("sts:AssumeRole", central)))
    made = assume()
    assert made["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{MONITORING}:assumed-role/Central/task-id"
    assert live.client("sts", credentials=made["Credentials"]).get_caller_identity()["Account"] == MONITORING
    trust_now(central_trust(f"arn:aws:iam::{IRELAND}:role/Task"))
    broken()  # the pattern misses the path
    trust_now(central_trust("arn:aws:sts::*:assumed-role/Task/*"))
    broken()  # the session's ARN is not what the key holds
    trust_now(central_trust(f"arn:aws:iam::{IRELAND}:role/trunkline/*", VIRGINIA))
    broken()  # another account is trusted
    trust_now(central_trust("*", StringEquals={"sts:ExternalId": "fleet"}))
    broken()  # the external id is missing
    assume(ExternalId="fleet")
    organisation = {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}
    trust_now({**organisation, "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-another"}}})
    broken()  # another organisation is trusted
    trust_now({**organisation, "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-trunkline"}}})
    assume()
    deny = {"Effect": "Deny", "Action": "sts:*", "Resource": "*"}
    iam.put_role_policy(RoleName="Task", PolicyName="deny", PolicyDocument=document(deny))
    denied(assume, who, "sts:AssumeRole", central, "with an explicit deny in an identity-based policy")
    iam.delete_role_policy(RoleName="Task", PolicyName="deny")
    central_iam.delete_role_policy(RoleName="Central", PolicyName="inline")
    central_iam.delete_role(RoleName="Central")
    broken()  # there is no such role


def test_ecs_only_gets_sessions_of_roles_that_trust_it_for_their_own_account(live: Live) -> None:
    def trusts(account: str, service: str = "ecs-tasks.amazonaws.com") -> dict[str, Any]:
        condition = {"StringEquals": {"aws:SourceAccount": account}}
        return {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sts:AssumeRole",
            "Condition": condition,
        }

    def check(role: str, expected: bool) -> None:
        if expected:
            assert (
                live.run(live.door.issue_task_session(role, "t", "eu-west-1")).identity.principal_arn == role
            )
            return
        with pytest.raises(AccessDeniedError, match="is unable to assume the role"):
            live.run(live.door.issue_task_session(role, "t", "eu-west-1"))

    check(live.role(IRELAND, "TaskOwn", trust=trusts(IRELAND)), True)
    check(live.role(IRELAND, "TaskOther", trust=trusts(VIRGINIA)), False)
    check(live.role(IRELAND, "TaskEc2", trust=trusts(IRELAND, "ec2.amazonaws.com")), False)
    check(f"arn:aws:iam::{IRELAND}:role/wrong/TaskOwn", False)


def test_how_long_a_session_may_be(live: Live) -> None:
    role = live.role(IRELAND, "Long", allow("sts:AssumeRole"), MaxSessionDuration=7200)
    again = live.role(IRELAND, "Again", MaxSessionDuration=7200)
    chained = live.assume(role)

    def check(message: str, seconds: int, **more: Any) -> None:
        refused(
            lambda: live.assume(more.pop("arn", role), DurationSeconds=seconds, **more),
            "ValidationError",
            message,
            400,
        )

    live.assume(role, DurationSeconds=900)
    assert (
        7190
        < (live.assume(role, DurationSeconds=7200)["Expiration"] - datetime.now(UTC)).total_seconds()
        <= 7200
    )
    live.assume(again, credentials=chained, DurationSeconds=3600)
    check("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", 7201)
    check(
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        3601,
        arn=again,
        credentials=chained,
    )
    check(
        "1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
        899,
    )
    check(
        "1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200",
        43201,
    )


def test_what_a_session_may_be_called(live: Live) -> None:
    role = live.role(IRELAND, "Named")
    sts = live.client("sts")
    sts.assume_role(RoleArn=role, RoleSessionName="a+b=c,d.e@f-g_h")
    refused(
        lambda: sts.assume_role(RoleArn=role, RoleSessionName="two words"),
        "ValidationError",
        r"1 validation error detected: Value 'two words' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
    )
    refused(
        lambda: sts.assume_role(RoleArn=role, RoleSessionName="x" * 65),
        "ValidationError",
        "1 validation error…",
    )
    refused(
        lambda: sts.assume_role(RoleArn="arn:aws:iam::1:role/Named", RoleSessionName="xx"),
        "ValidationError",
        "arn:aws:iam::1:role/Named is invalid",
    )
    refused(sts.get_session_token, "InvalidAction", "Could not find an operation of sts in this request.")


def test_a_session_policy_narrows(live: Live) -> None:
    role = live.role(IRELAND, "Wide", allow())
    who = f"arn:aws:sts::{IRELAND}:assumed-role/Wide/test"

    def check(**narrowed: Any) -> None:
        session = live.assume(role, **narrowed)
        denied(
            live.client("ecs", credentials=session).list_clusters,
            who,
            "ecs:ListClusters",
            "*",
            "because no session policy allows the ecs:ListClusters action",
        )

    check(Policy=document(allow("logs:*")))
    check(PolicyArns=[{"arn": "arn:aws:iam::aws:policy/AmazonPrometheusQueryAccess"}])
    live.client("ecs", credentials=live.assume(role, Policy=document(allow("ecs:*")))).list_clusters()
    refused(lambda: live.assume(role, Policy="{}"), "MalformedPolicyDocument", "Syntax errors in policy: …")


def test_sessions_from_before_a_moment_are_revoked_at_once(live: Live) -> None:
    role = live.role(IRELAND, "Revoked", allow())
    live.offset_s = -60
    early = live.client("ecs", credentials=live.assume(role))
    early.list_clusters()
    live.offset_s = 0
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    revoke = {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"DateLessThan": {"aws:TokenIssueTime": now}},
    }
    live.client("iam").put_role_policy(
        RoleName="Revoked", PolicyName="revoke", PolicyDocument=document(revoke)
    )
    who = f"arn:aws:sts::{IRELAND}:assumed-role/Revoked/test"
    denied(
        early.list_clusters, who, "ecs:ListClusters", "*", "with an explicit deny in an identity-based policy"
    )
    live.offset_s = 60
    live.client("ecs", credentials=live.assume(role)).list_clusters()


def test_a_session_ends_with_its_role(live: Live) -> None:
    role = live.role(IRELAND, "Mortal", allow())
    ecs = live.client("ecs", credentials=live.assume(role))
    ecs.list_clusters()
    iam = live.client("iam")
    iam.delete_role_policy(RoleName="Mortal", PolicyName="inline")
    iam.delete_role(RoleName="Mortal")
    refused(ecs.list_clusters, "UnrecognizedClientException", INVALID)
    live.role(IRELAND, "Mortal", allow())
    refused(ecs.list_clusters, "UnrecognizedClientException", INVALID)
    live.client("ecs", credentials=live.assume(role)).list_clusters()


# What is done with a call


def test_accounts_and_regions_are_apart(live: Live) -> None:
    live.client("logs", IRELAND).create_log_group(logGroupName="/apart")

    def groups(account: str, region: str) -> list[str]:
        found = live.client("logs", account, region=region).describe_log_groups(logGroupNamePrefix="/apart")
        return [group["arn"] for group in found["logGroups"]]

    assert groups(IRELAND, "eu-west-1") == [f"arn:aws:logs:eu-west-1:{IRELAND}:log-group:/apart:*"]
    assert groups(IRELAND, "us-east-1") == []
    assert groups(VIRGINIA, "eu-west-1") == []


def test_bodies_and_paths_pass_unchanged(live: Live) -> None:
    s3 = live.client("s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    body = gzip.compress(b"x" * 100_000) + bytes(range(256))
    key = "a b/ü+%2F//c~"
    s3.put_object(Bucket="bucket", Key=key, Body=body, ContentEncoding="gzip")
    assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == body
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="bucket")["Contents"]] == [key]


def test_calls_are_counted(live: Live) -> None:
    key = (VIRGINIA, "ecs", "ListClusters")
    before = live.door.calls[key]
    ecs = live.client("ecs", VIRGINIA)
    ecs.list_clusters()
    ecs.list_clusters()
    refused(
        live.client("ecs", VIRGINIA, credentials=AccessKey("AKIANOBODY", "x")).list_clusters,
        "UnrecognizedClientException",
        INVALID,
    )
    assert live.door.calls[key] == before + 2


def test_faults(live: Live) -> None:
    ecs, sts, amp = live.client("ecs"), live.client("sts"), live.client("amp")
    fault = live.door.faults.add(
        Fault("ecs", "ListClusters", code="ServerException", message="broken", status=500, every=2)
    )
    ecs.list_clusters()
    refused(ecs.list_clusters, "ServerException", "broken", 500)
    ecs.list_clusters()
    sts.get_caller_identity()
    live.door.faults.remove(fault)
    live.door.faults.add(Fault(account=IRELAND, is_throttling=True, count=3))
    refused(sts.get_caller_identity, "Throttling", "Rate exceeded", 400)
    refused(ecs.list_clusters, "ThrottlingException", "Rate exceeded", 400)
    refused(amp.list_workspaces, "ThrottlingException", "Rate exceeded", 429)
    sts.get_caller_identity()
    live.door.faults.add(Fault("sts", delay_s=0.2))
    began = time.monotonic()
    sts.get_caller_identity()
    assert time.monotonic() - began >= 0.2
    live.client("sts", VIRGINIA)


def test_handlers_answer_and_observers_are_told(live: Live) -> None:
    seen: list[str] = []

    async def handle(call: Call) -> Answer | None:
        if call.operation == "ListTasks":
            arns = [f"arn:aws:ecs:{call.region}:{call.account}:task/c/{call.parameters['cluster']}"]
            return Answer(
                200, json.dumps({"taskArns": arns}).encode(), {"Content-Type": "application/x-amz-json-1.1"}
            )
        if call.operation == "ListClusters":
            found = json.loads((await live.door.forward(call)).body)
            found["clusterArns"].append("added")
            return Answer(200, json.dumps(found).encode(), {"Content-Type": "application/x-amz-json-1.1"})
        return None

    async def observe(call: Call, answer: Answer) -> None:
        seen.append(f"{call.operation} {answer.status}")

    live.door.handlers["ecs"] = handle
    live.door.observers.append(observe)
    try:
        ecs = live.client("ecs")
        assert ecs.list_tasks(cluster="x")["taskArns"] == [f"arn:aws:ecs:eu-west-1:{IRELAND}:task/c/x"]
        assert ecs.list_clusters()["clusterArns"][-1] == "added"
        ecs.create_cluster(clusterName="observed")
    finally:
        del live.door.handlers["ecs"]
        live.door.observers.clear()
    assert seen == ["CreateCluster 200"]
    told = live.run(live.door.ask(IRELAND, "eu-west-1", "ecs", "DescribeClusters", clusters=["observed"]))
    assert told["clusters"][0]["status"] == "ACTIVE"


def test_it_answers_under_the_real_names(live: Live, certificate: Path, tls_socket: socket.socket) -> None:
    def ask(host: str = STS_NAME, region: str = "us-east-1", service: str = "sts") -> tuple[int, str]:
        key = live.keys[VIRGINIA]
        request = AWSRequest(
            "POST",
            f"https://{host}/",
            data="Action=GetCallerIdentity&Version=2011-06-15",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        SigV4Auth(BotoCredentials(key.access_key_id, key.secret_access_key), service, region).add_auth(
            request
        )
        context = ssl.create_default_context(cafile=str(certificate))
        address = tls_socket.getsockname()
        with (
            socket.create_connection(address) as plain,
            context.wrap_socket(plain, server_hostname=STS_NAME) as tls,
        ):
            connection = http.client.HTTPConnection(host)
            connection.sock = tls
            connection.request("POST", "/", request.body, dict(request.headers.items()))
            response = connection.getresponse()
            return response.status, response.read().decode()

    assert ask()[0] == 200
    status, text = ask(region="eu-west-1")
    assert (status, "Credential should be scoped to a valid region." in text) == (403, True)
    status, text = ask(service="iam")
    assert (
        status,
        "Credential should be scoped to correct service: &apos;sts&apos;." in text
        or "correct service: 'sts'." in text,
    ) == (403, True)
    assert ask("sts.eu-west-1.amazonaws.com", "eu-west-1")[0] == 200


# The gateway's socket


def post(live: Live, path: str, asked: Any = None) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        plain.connect(str(live.door.authorize_socket))
        connection = http.client.HTTPConnection("localhost")
        connection.sock = plain
        body = None if asked is None else json.dumps(asked)
        connection.request("GET" if asked is None else "POST", path, body)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found


def write(credentials: Any, workspace: str, **more: Any) -> dict[str, Any]:
    """What the gateway asks about a signed remote write."""
    host, path = "aps-workspaces.eu-west-1.amazonaws.com", "/workspaces/ws-1/api/v1/remote_write"
    request = AWSRequest("POST", f"https://{host}{path}", data=b"body")
    SigV4Auth(
        BotoCredentials(
            credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"]
        ),
        "aps",
        "eu-west-1",
    ).add_auth(request)
    return {
        "method": "POST",
        "host": host,
        "path": path,
        "query": "",
        "headers": list(request.headers.items()),
        "body_sha256": sha256(b"body").hexdigest(),
        "action": "aps:RemoteWrite",
        "resource": workspace,
        **more,
    }


def test_the_gateway_asks_who_may_write(live: Live) -> None:
    workspace = f"arn:aws:aps:eu-west-1:{MONITORING}:workspace/ws-1"
    writer = live.assume(live.role(MONITORING, "Writer", allow("aps:RemoteWrite", workspace), path="/w/"))
    reader = live.assume(live.role(MONITORING, "Reader", allow("aps:QueryMetrics")))
    found = post(live, "/authorize", write(writer, workspace))
    assert found["allowed"]
    assert (found["account"], found["principal_arn"]) == (
        MONITORING,
        f"arn:aws:iam::{MONITORING}:role/w/Writer",
    )
    assert found["version"] == live.door.roles.version

    def check(asked: Mapping[str, Any], error_type: str, message: str) -> None:
        answer = post(live, "/authorize", asked)
        assert (answer["allowed"], answer["status"], answer["error_type"]) == (False, 403, error_type)
        assert json.loads(answer["body"]) == {"message": message}

    who = f"User: arn:aws:sts::{MONITORING}:assumed-role/Reader/test is not authorized to perform: aps:RemoteWrite"
    check(
        write(reader, workspace),
        "AccessDeniedException",
        f"{who} on resource: {workspace} {no_identity('aps:RemoteWrite')}",
    )
    unsigned = write(writer, workspace) | {"headers": []}
    check(unsigned, "MissingAuthenticationTokenException", "Missing Authentication Token")
    live.door.sessions.expire(reader["AccessKeyId"])
    check(write(reader, workspace), "ExpiredTokenException", EXPIRED)


def test_a_workspace_in_another_account_needs_its_own_policy(live: Live) -> None:
    workspace = f"arn:aws:aps:eu-west-1:{MONITORING}:workspace/ws-1"
    session = live.assume(live.role(IRELAND, "Afar", allow("aps:*")))
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": IRELAND},
        "Action": "aps:RemoteWrite",
        "Resource": "*",
    }
    refused_answer = post(live, "/authorize", write(session, workspace))
    assert "no resource-based policy allows the aps:RemoteWrite action" in refused_answer["body"]
    policy = document(statement)
    assert post(live, "/authorize", write(session, workspace, resource_policy=policy))["allowed"]


def test_the_gateway_can_verify_signatures_itself(live: Live) -> None:
    session = live.assume(live.role(MONITORING, "Known", allow("aps:*")))
    asked = {"access_key_id": session["AccessKeyId"], "token": session["SessionToken"]}
    found = post(live, "/session", asked)
    assert found["known"]
    assert (found["secret_access_key"], found["account"]) == (session["SecretAccessKey"], MONITORING)
    assert found["expires_at"] == pytest.approx(session["Expiration"].timestamp(), abs=1)
    assert post(live, "/session", asked | {"token": "other"})["error_type"] == "UnrecognizedClientException"
    assert not post(live, "/session", {"access_key_id": "AKIANOBODY", "token": None})["known"]
    assert post(live, "/session", {})["error"].startswith("not a request of this kind")
    assert post(live, "/nothing", {}) == {"error": "no such path"}
    version = post(live, "/version")["version"]
    live.role(MONITORING, "Newer")
    assert post(live, "/version")["version"] > version
    version = live.door.roles.version
    live.door.sessions.expire(session["AccessKeyId"])
    assert post(live, "/session", asked)["error_type"] == "ExpiredTokenException"
    assert post(live, "/version")["version"] > version
