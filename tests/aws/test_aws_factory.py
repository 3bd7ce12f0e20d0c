import asyncio
import json

import pytest
from tests.aws.pretend import Answer, PretendAws, VirtualTime, granted, pretend_aws, refused

from trunkline.aws.clock import ServerClock
from trunkline.aws.credentials import CredentialsFactory, RefreshingCredentials
from trunkline.errors import CredentialsError
from trunkline.net.client import ClientFactory

ROLE = "arn:aws:iam::111111111111:role/Central"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"}


def factory_for(
    aws: PretendAws, environment: dict[str, str], now: VirtualTime | None = None
) -> CredentialsFactory:
    time = now or VirtualTime(1_800_000_000)
    clients = ClientFactory(aws.resolve())
    clock = ServerClock(time.clock, time.clock)
    return CredentialsFactory(clients, aws.environment | environment, clock=clock, sleep=time.sleep)


async def outcome(credentials: RefreshingCredentials) -> str:
    """The key in use after the first attempt, or the hop that failed."""
    await asyncio.wait_for(credentials.attempted(), 5)
    try:
        return credentials.current().access_key_id
    except CredentialsError as error:
        return error.hop


async def test_equal_arguments_share_credentials() -> None:
    async with pretend_aws() as aws:
        factory = factory_for(aws, KEYS)
        assert factory.default("eu-west-1") is factory.default("eu-west-1")
        assert factory.default("") is factory.default("eu-west-1")
        one = factory.assume_role(ROLE, region="eu-west-1")
        assert factory.assume_role(ROLE, region="eu-west-1", external_id=None) is one
        assert factory.assume_role(ROLE, region="x", sts_region="eu-west-1") is one
        assert factory.assume_role(ROLE, region="eu-west-1", external_id="e") is not one
        async with factory:
            assert await outcome(one) == "assume role"
            assert await outcome(factory.default()) == "AKIAENV"


async def test_a_role_is_assumed_with_the_tasks_credentials() -> None:
    document = {
        "AccessKeyId": "ASIATASK",
        "SecretAccessKey": "s",
        "Token": "t",
        "Expiration": "2099-01-01T00:00:00Z",
    }
    async with pretend_aws() as aws:
        aws.answers["GET /task-role"] = Answer(json.dumps(document))
        aws.answers["AssumeRole"] = granted("ASIACENTRAL")
        factory = factory_for(aws, {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/task-role"})
        early = factory.assume_role(ROLE, region="eu-west-1", external_id="e", session_name="me")
        async with factory:
            late = factory.assume_role(ROLE, region="us-east-1")
            assert await outcome(early) == "ASIACENTRAL"
            assert await outcome(late) == "ASIACENTRAL"
            assert await outcome(factory.default("eu-west-1")) == "ASIATASK"
        roles = [asked for asked in aws.asked if asked.method == "POST"]
        assert all("Credential=ASIATASK/" in asked.headers["authorization"] for asked in roles)
        assert sorted(asked.form.get("ExternalId", "") for asked in roles) == ["", "e"]
        assert early.current().access_key_id == "ASIACENTRAL"


async def test_each_broken_link_is_named() -> None:
    async with pretend_aws() as aws:
        aws.answers["AssumeRole"] = refused("AccessDenied", "no")

        async def check(expected: str, **environment: str) -> None:
            async with factory_for(aws, environment) as factory:
                assert await outcome(factory.assume_role(ROLE, region="eu-west-1")) == expected

        await check("assume role", **KEYS)
        await check("environment", AWS_ACCESS_KEY_ID="AKIAENV")
        await check("container", AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/none")
        await check("credentials")


async def test_a_repaired_trust_is_noticed_and_old_keys_are_renewed_when_refused() -> None:
    time = VirtualTime(1_800_000_000)
    async with pretend_aws() as aws:
        aws.answers["AssumeRole"] = refused("ExpiredToken", "old")
        async with factory_for(aws, KEYS, time) as factory:
            role = factory.assume_role(ROLE, region="eu-west-1")
            assert await outcome(role) == "assume role"
            aws.answers["AssumeRole"] = granted("ASIANEW")
            ready = asyncio.create_task(role.ready())
            while not ready.done():
                await time.pass_s(1)
                await asyncio.sleep(0.001)
            assert role.current().access_key_id == "ASIANEW"


async def test_a_web_identity_can_be_asked_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    action = "AssumeRoleWithWebIdentity"
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("a.b.c")
    async with pretend_aws() as aws:
        aws.answers[action] = granted("ASIAWEB", action=action)
        async with factory_for(aws, {}) as factory:
            assert await outcome(factory.web_identity(ROLE, str(token), region="eu-west-1")) == "ASIAWEB"
            assert await outcome(factory.web_identity(ROLE, "/nowhere", region="eu-west-1")) == "web identity"


async def test_leaving_ends_the_tasks() -> None:
    before = asyncio.all_tasks()
    async with pretend_aws() as aws:
        factory = factory_for(aws, KEYS)
        async with factory:
            await outcome(factory.default("eu-west-1"))
        factory.default("us-east-1")
        names = {task.get_name() for task in asyncio.all_tasks() - before}
        assert "AWS credentials" not in names
