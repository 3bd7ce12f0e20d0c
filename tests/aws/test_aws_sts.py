from datetime import UTC, datetime
from pathlib import Path

import botocore.auth
import botocore.credentials
import pytest
from botocore.awsrequest import AWSRequest
from tests.aws.pretend import Answer, closing, granted, pretend_aws, refused
from tests.net.loopback import Authority, answering, raw_server

from trunkline.aws.clock import ServerClock
from trunkline.aws.keys import Credentials
from trunkline.aws.sts import Sts, default_session_name, endpoint, parse_expiration
from trunkline.errors import CredentialsError
from trunkline.net.client import Client, ClientFactory
from trunkline.net.resolve import Resolve

CALLER = Credentials("ASIATASK", "task secret", "task token", source="container credentials endpoint")
ROLE = "arn:aws:iam::111111111111:role/Central"
TASK = "arn:aws:sts::222222222222:assumed-role/Task/abc"
DENIED = f"User: {TASK} is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
NOW = 1_800_000_000.0
IN_TIME = "Fri, 15 Jan 2027 08:00:01 GMT"


async def assume(answer: Answer, external_id: str | None = None, region: str = "eu-west-1") -> Credentials:
    async with pretend_aws() as aws, closing(Client()) as client:
        aws.answers["AssumeRole"] = answer
        sts = Sts(
            client, region=region, environment=aws.environment, clock=ServerClock(lambda: NOW, lambda: 0.0)
        )
        return await sts.assume_role(CALLER, ROLE, session_name="s", external_id=external_id)


async def test_assume_role_asks_signs_and_reads() -> None:
    async with pretend_aws() as aws, closing(Client()) as client:
        aws.answers["AssumeRole"] = granted(expiration="2027-01-15T09:00:00.5Z")
        sts = Sts(
            client,
            region="eu-west-1",
            environment=aws.environment,
            clock=ServerClock(lambda: NOW, lambda: 0.0),
        )
        credentials = await sts.assume_role(
            CALLER, ROLE, session_name="me@x", external_id="ex/1", duration_s=900
        )
    assert credentials == Credentials(
        "ASIAROLE", "role&secret", "role token", 1800003600.5, f"assumed role {ROLE}"
    )
    (asked,) = aws.asked
    assert asked.form == {
        "Action": "AssumeRole",
        "RoleArn": ROLE,
        "RoleSessionName": "me@x",
        "DurationSeconds": "900",
        "ExternalId": "ex/1",
        "Version": "2011-06-15",
    }
    theirs = AWSRequest("POST", f"{aws.url}/", {"content-type": asked.headers["content-type"]}, asked.body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: datetime.fromtimestamp(NOW, UTC))
        keys = botocore.credentials.Credentials("ASIATASK", "task secret", "task token")
        botocore.auth.SigV4Auth(keys, "sts", "eu-west-1").add_auth(theirs)
    assert asked.headers["authorization"] == theirs.headers["Authorization"]
    assert asked.headers["x-amz-security-token"] == "task token"


async def test_the_regional_endpoint_is_asked_under_its_real_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    body = granted().body.encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    context = authority.server_context("*.eu-west-1.amazonaws.com")
    async with raw_server(answering(answer), tls=context) as server:
        factory = ClientFactory(Resolve.parse(f"*:443=127.0.0.1:{server.port}"), authority.pem)
        async with closing(factory.client()) as client:
            sts = Sts(client, region="eu-west-1", environment={})
            assert (await sts.assume_role(CALLER, ROLE, session_name="s")).access_key_id == "ASIAROLE"
    assert b"Host: sts.eu-west-1.amazonaws.com\r\n" in server.requests[0]


def test_endpoints() -> None:
    def check(region: str, environment: dict[str, str], expected: str) -> None:
        assert endpoint(region, environment) == expected

    both = {"AWS_ENDPOINT_URL_STS": "http://sts:1/", "AWS_ENDPOINT_URL": "http://all:2"}
    check("eu-west-1", {}, "https://sts.eu-west-1.amazonaws.com/")
    check("us-gov-west-1", {}, "https://sts.us-gov-west-1.amazonaws.com/")
    check("cn-north-1", {}, "https://sts.cn-north-1.amazonaws.com.cn/")
    check("us-isob-east-1", {}, "https://sts.us-isob-east-1.sc2s.sgov.gov/")
    check("eu-west-1", both, "http://sts:1/")
    check("eu-west-1", {"AWS_ENDPOINT_URL": "http://all:2"}, "http://all:2/")
    ignored = both | {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
    check("eu-west-1", ignored, "https://sts.eu-west-1.amazonaws.com/")


async def test_each_refusal_says_what_to_check() -> None:
    async def check(answer: Answer, *expected: str, external_id: str | None = None) -> None:
        answer.headers.setdefault("Date", IN_TIME)
        with pytest.raises(CredentialsError) as caught:
            await assume(answer, external_id)
        assert caught.value.hop == "assume role"
        for text in (f"cannot assume {ROLE}: AWS says «", *expected):
            assert text in str(caught.value)
        assert "task secret" not in str(caught.value)

    ours = f"he identity policy of {TASK} lacks sts:AssumeRole on {ROLE}"
    theirs = f"he trust policy of {ROLE} does not name {TASK} (or there is no such role)"
    await check(
        refused("AccessDenied", DENIED),
        f"«{DENIED}» (AccessDenied)",
        "t" + ours,
        "t" + theirs,
        f"{ROLE} asks for an external id and none was sent (set external_id)",
    )
    await check(
        refused("AccessDenied", DENIED),
        "asks for another external id than the one sent",
        external_id="mine",
    )
    await check(
        refused("AccessDenied", "Access denied"),
        "the caller (key ASIATASK, from container credentials endpoint) lacks sts:AssumeRole",
    )
    await check(
        refused("ExpiredToken", "The security token included in the request is expired"),
        "The session of the access key ASIATASK (from container credentials endpoint) has expired",
    )
    await check(
        refused("InvalidClientTokenId", "The security token included in the request is invalid."),
        "AWS does not know the access key ASIATASK (from container credentials endpoint) in eu-west-1",
    )
    await check(
        refused("SignatureDoesNotMatch", "The request signature we calculated does not match"),
        "The secret of the access key ASIATASK",
    )
    await check(
        refused("SignatureDoesNotMatch", "Signature expired: 20270115T080000Z is now earlier than"),
        "The clock of this machine is off: AWS takes 5 minutes",
    )
    await check(
        refused("SignatureDoesNotMatch", "no", Date="Fri, 15 Jan 2027 07:00:00 GMT"),
        "The clock of this machine is off by +3600s",
    )
    await check(
        refused("RegionDisabledException", "STS is not activated in this region"),
        "STS is not activated in eu-west-1 for the account asked: activate it",
    )
    await check(
        refused("Throttling", "Rate exceeded", 400), "«Rate exceeded» (Throttling). This is tried again"
    )
    await check(refused("ValidationError", "bad arn", 400), "Check role_arn, external_id and session_name")


async def test_where_aws_names_the_side_only_that_side_is_named() -> None:
    async def check(message: str, expected: str, absent: str) -> None:
        with pytest.raises(CredentialsError) as caught:
            await assume(refused("AccessDenied", f"{DENIED} {message}"))
        assert expected in str(caught.value)
        assert absent not in str(caught.value)

    await check("because no identity-based policy allows the action", "identity policy of", "trust policy")
    await check("because no resource-based policy allows the action", "trust policy of", "identity policy")
    await check("with an explicit deny in a resource-based policy", "look for a Deny", "trust policy of")


async def test_answers_that_are_not_of_sts() -> None:
    async def check(answer: Answer, expected: str) -> None:
        with pytest.raises(CredentialsError, match=expected):
            await assume(answer)

    bomb = '<!DOCTYPE x [<!ENTITY a "ha">]><R><AccessKeyId>&a;</AccessKeyId></R>'
    await check(Answer(bomb), "without usable credentials: a document type declaration")
    await check(Answer("not xml"), "without usable credentials: syntax error")
    await check(
        Answer("<R><AccessKeyId>A</AccessKeyId></R>"), "without usable credentials: 'SecretAccessKey'"
    )
    await check(granted(expiration="soon"), "without usable credentials: Invalid isoformat")
    await check(Answer("<html>", 503), "AWS says 503 Service Unavailable. What answered may not be STS")


async def test_no_answer_says_what_way_is_missing() -> None:
    environment = {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"}
    async with closing(Client()) as client:
        nonsense = Sts(client, region="eu-west-1", environment={"AWS_ENDPOINT_URL": "sts"})
        with pytest.raises(CredentialsError, match="must start with http"):
            await nonsense.assume_role(CALLER, ROLE, session_name="s")
        sts = Sts(client, region="eu-west-1", environment=environment)
        with pytest.raises(
            CredentialsError, match=r"connection refused.*com\.amazonaws\.eu-west-1\.sts"
        ) as caught:
            await sts.assume_role(CALLER, ROLE, session_name="s")
    assert caught.value.hop == "assume role"


async def test_web_identity_is_asked_unsigned() -> None:
    async with pretend_aws() as aws, closing(Client()) as client:
        action = "AssumeRoleWithWebIdentity"
        aws.answers[action] = granted(action=action)
        sts = Sts(client, region="eu-west-1", environment=aws.environment)
        credentials = await sts.assume_role_with_web_identity(ROLE, "a.b.c", session_name="s")
        assert credentials.source == f"web identity as {ROLE}"
        assert "authorization" not in aws.asked[0].headers
        assert aws.asked[0].form["WebIdentityToken"] == "a.b.c"

        async def check(code: str, expected: str) -> None:
            aws.answers[action] = refused(code, "no")
            with pytest.raises(CredentialsError, match=expected) as caught:
                await sts.assume_role_with_web_identity(ROLE, "a.b.c", session_name="s")
            assert caught.value.hop == "web identity"
            assert "a.b.c" not in str(caught.value)

        await check("AccessDenied", "compare its Principal")
        await check("ExpiredTokenException", "The token in the file has expired")
        await check("InvalidIdentityToken", "create the provider there")
        await check("IDPCommunicationError", "This is tried again")


def test_session_names_are_what_sts_takes() -> None:
    name = default_session_name()
    assert name.startswith("trunkline-")
    assert len(name) <= 64


def test_expirations() -> None:
    assert parse_expiration("2027-01-15T08:00:00Z") == NOW
    assert parse_expiration("2027-01-15T08:00:00") == NOW
    assert parse_expiration("2027-01-15T09:00:00+01:00") == NOW
