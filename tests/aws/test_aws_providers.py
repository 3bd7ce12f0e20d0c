import json
import sys
from pathlib import Path

import pytest
from tests.aws.pretend import Answer, Asked, PretendAws, closing, granted, pretend_aws, refused

from trunkline.aws.keys import Credentials
from trunkline.aws.profile import ProfileProvider
from trunkline.aws.providers import (
    Chain,
    ContainerProvider,
    EnvironmentProvider,
    InstanceProvider,
    Provider,
    WebIdentityProvider,
)
from trunkline.errors import CredentialsError
from trunkline.net.client import Client

ROLE = "arn:aws:iam::111111111111:role/R"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env secret"}
RELATIVE = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
FULL = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
DOCUMENT = {
    "RoleArn": ROLE,
    "AccessKeyId": "ASIATASK",
    "SecretAccessKey": "task secret",
    "Token": "task token",
    "Expiration": "2099-01-01T00:00:00Z",
}
END = 4070908800.0


async def fails(provider: Provider, hop: str, expected: str) -> None:
    assert provider.absent() is None
    with pytest.raises(CredentialsError, match=expected) as caught:
        await provider.fetch()
    assert caught.value.hop == hop
    assert "task secret" not in str(caught.value)


async def test_environment() -> None:
    assert await EnvironmentProvider(KEYS).fetch() == Credentials(
        "AKIAENV", "env secret", source="environment"
    )
    temporary = await EnvironmentProvider({**KEYS, "AWS_SESSION_TOKEN": "t"}).fetch()
    assert temporary.session_token == "t"
    assert EnvironmentProvider({"AWS_ACCESS_KEY_ID": ""}).absent() == "AWS_ACCESS_KEY_ID is not set"
    for name in KEYS:
        other = next(iter(KEYS.keys() - {name}))
        expected = f"{name} is set but {other} is not; set both or neither"
        await fails(EnvironmentProvider({name: "x"}), "environment", expected)


async def test_the_task_role_of_ecs() -> None:
    async with pretend_aws() as aws, closing(Client(aws.resolve())) as client:
        aws.answers["GET /v2/credentials/abc"] = Answer(json.dumps(DOCUMENT))
        credentials = await ContainerProvider({RELATIVE: "/v2/credentials/abc"}, client).fetch()
        assert credentials == Credentials(
            "ASIATASK",
            "task secret",
            "task token",
            END,
            "the container credentials endpoint http://169.254.170.2:80",
        )
        assert aws.asked[0].headers["host"] == "169.254.170.2"
        assert "authorization" not in aws.asked[0].headers


async def test_the_container_endpoint_of_eks_wants_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with pretend_aws() as aws, closing(Client()) as client:
        aws.answers["GET /creds"] = Answer(json.dumps(DOCUMENT))
        url = f"{aws.url}/creds"
        variable = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
        await ContainerProvider({FULL: url, variable: "from variable"}, client).fetch()
        provider = ContainerProvider({FULL: url, variable: "v", f"{variable}_FILE": str(token)}, client)
        for content in ("first\n", "second"):
            token.write_text(content)
            await provider.fetch()
        sent = [asked.headers["authorization"] for asked in aws.asked]
        assert sent == ["from variable", "first", "second"]
        token.write_text("")
        await fails(provider, "container", "token file .* is empty")
        token.unlink()
        await fails(
            provider, "container", f"cannot read the token file .* named by {variable}_FILE: No such file"
        )


async def test_which_addresses_may_be_asked_for_credentials() -> None:
    async def check(url: str, *, allowed: bool) -> None:
        with pytest.raises(CredentialsError) as caught:
            await ContainerProvider({FULL: url}, client).fetch()
        assert ("is not to be trusted" not in str(caught.value)) is allowed

    async with closing(Client()) as client:
        await check("http://127.0.0.1:1/", allowed=True)
        await check("http://localhost:1/", allowed=True)
        await check("https://127.0.0.2:1/", allowed=True)
        await check("http://[::1]:1/", allowed=True)
        await check("http://10.0.0.1/", allowed=False)
        await check("http://169.254.169.254/", allowed=False)
        await check("http://evil.example/", allowed=False)
        await check("http://[fd00:ec2::24]/", allowed=False)
        await check("ftp://127.0.0.1/", allowed=False)
        await check("http://127.0.0.1:port/", allowed=False)
        await check("nonsense", allowed=False)


async def test_a_container_endpoint_that_has_nothing() -> None:
    async def check(answer: Answer, expected: str) -> None:
        aws.answers["GET /c"] = answer
        await fails(ContainerProvider({FULL: f"{aws.url}/c"}, client), "container", expected)

    async with pretend_aws() as aws, closing(Client()) as client:
        await check(
            Answer("no id", 404), r"answered 404 Not Found: no id\. Check that the task definition's taskRole"
        )
        await check(Answer("<html>"), "answered with something that is not JSON")
        await check(Answer("[]"), "gave no usable credentials")
        await check(Answer(json.dumps(DOCUMENT | {"AccessKeyId": ""})), "a field is empty or not a string")
        await check(Answer(json.dumps(DOCUMENT | {"Expiration": "soon"})), "gave no usable credentials")
        without = {key: value for key, value in DOCUMENT.items() if key != "SecretAccessKey"}
        await check(Answer(json.dumps(without)), r"KeyError\('SecretAccessKey'\)")
    async with closing(Client()) as client:
        provider = ContainerProvider({FULL: "http://127.0.0.1:1/"}, client)
        await fails(
            provider, "container", "gave no answer: http://127.0.0.1:1: cannot connect: connection refused"
        )


def instance(aws: PretendAws) -> None:
    """The metadata service, version 2: nothing without the token."""

    def guarded(body: str) -> object:
        def answer(asked: Asked) -> Answer:
            good = asked.headers.get("x-aws-ec2-metadata-token") == "imds-token"
            return Answer(body) if good else Answer("", 401)

        return answer

    def token(asked: Asked) -> Answer:
        return Answer(
            "imds-token" if asked.headers["x-aws-ec2-metadata-token-ttl-seconds"] == "21600" else "no"
        )

    base = "/latest/meta-data/iam/security-credentials/"
    aws.answers["PUT /latest/api/token"] = token
    aws.answers[f"GET {base}"] = guarded("node-role\n")  # type: ignore[assignment]
    aws.answers[f"GET {base}node-role"] = guarded(json.dumps(DOCUMENT | {"Code": "Success"}))  # type: ignore[assignment]


async def test_the_role_of_an_instance() -> None:
    async with pretend_aws() as aws, closing(Client(aws.resolve())) as client:
        instance(aws)
        for environment in ({}, {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}):
            credentials = await InstanceProvider(environment, client).fetch()
            assert (credentials.access_key_id, credentials.expires_at) == ("ASIATASK", END)
            assert credentials.source == "instance role node-role"
        assert [asked.headers["host"] for asked in aws.asked[2:4]] == ["169.254.169.254", "[fd00:ec2::254]"]


async def test_an_instance_that_has_nothing() -> None:
    base = "/latest/meta-data/iam/security-credentials/"
    async with pretend_aws() as aws, closing(Client()) as client:
        provider = InstanceProvider({"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{aws.url}/"}, client)
        await fails(provider, "instance", "answered 404 Not Found to PUT /latest/api/token")
        instance(aws)
        aws.answers[f"GET {base}node-role"] = Answer(json.dumps({"Code": "AssumeRoleUnauthorizedAccess"}))
        await fails(provider, "instance", "AssumeRoleUnauthorizedAccess. Check that the role exists")
        aws.answers[f"GET {base}"] = Answer("", 404)
        await fails(provider, "instance", "the instance has no role; attach an instance profile")
        aws.answers[f"GET {base}"] = Answer("")
        await fails(provider, "instance", "the instance has no role")
        nowhere = InstanceProvider({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}, client)
        await fails(nowhere, "instance", "gave no answer: .*connection refused.* raise the hop limit")
        disabled = InstanceProvider({"AWS_EC2_METADATA_DISABLED": "True"}, client)
        assert disabled.absent() == "AWS_EC2_METADATA_DISABLED is true"


async def test_web_identity(tmp_path: Path) -> None:
    action = "AssumeRoleWithWebIdentity"
    token = tmp_path / "token"
    token.write_text("a.b.c\n")
    async with pretend_aws() as aws, closing(Client()) as client:
        aws.answers[action] = granted(action=action)
        environment = aws.environment | {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ROLE_ARN": ROLE,
            "AWS_ROLE_SESSION_NAME": "pod",
        }
        credentials = await WebIdentityProvider(environment, client, "eu-west-1").fetch()
        assert credentials.access_key_id == "ASIAROLE"
        form = aws.asked[0].form
        assert (form["RoleArn"], form["WebIdentityToken"], form["RoleSessionName"]) == (ROLE, "a.b.c", "pod")
        del environment["AWS_ROLE_ARN"]
        provider = WebIdentityProvider(environment, client, "eu-west-1")
        await fails(provider, "web identity", "TOKEN_FILE is set but AWS_ROLE_ARN is not")
        environment |= {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "none")}
        await fails(provider, "web identity", "cannot read the token file .*none")


def profile(
    tmp_path: Path, aws: PretendAws, client: Client, config: str, credentials: str = "", **environment: str
) -> ProfileProvider:
    (tmp_path / ".aws").mkdir(exist_ok=True)
    (tmp_path / ".aws/config").write_text(config)
    (tmp_path / ".aws/credentials").write_text(credentials)
    full = {"HOME": str(tmp_path), **aws.environment, **environment}
    sources: dict[str, Provider] = {
        "Environment": EnvironmentProvider(full),
        "EcsContainer": ContainerProvider(full, client),
    }
    return ProfileProvider(full, client, "eu-west-1", sources, process_timeout_s=0.3)


async def test_profiles_with_keys(tmp_path: Path) -> None:
    config = (
        "[default]\nregion = x\naws_access_key_id = AKIACONFIG\naws_secret_access_key = a=b\ns3 =\n  x = y\n"
    )
    config += "[profile 'other one']\naws_access_key_id=A\naws_secret_access_key=B\naws_session_token=C\n"
    async with pretend_aws() as aws, closing(Client()) as client:
        plain = await profile(tmp_path, aws, client, config).fetch()
        assert plain == Credentials("AKIACONFIG", "a=b", source="profile default")
        shared = "[default]\naws_access_key_id = AKIASHARED\naws_secret_access_key = s\n"
        assert (await profile(tmp_path, aws, client, config, shared).fetch()).access_key_id == "AKIASHARED"
        named = await profile(tmp_path, aws, client, config, AWS_PROFILE="other one").fetch()
        assert named == Credentials("A", "B", "C", source="profile other one")
        moved = tmp_path / "moved"
        moved.write_text("[default]\naws_access_key_id = M\naws_secret_access_key = s\n")
        variables = {"AWS_SHARED_CREDENTIALS_FILE": "~/moved", "AWS_CONFIG_FILE": str(tmp_path / "none")}
        assert (await profile(tmp_path, aws, client, config, **variables).fetch()).access_key_id == "M"


async def test_when_a_profile_applies(tmp_path: Path) -> None:
    async with pretend_aws() as aws, closing(Client()) as client:
        assert profile(tmp_path, aws, client, "[default]\nregion=x\n").absent() == (
            "profile default holds no credentials"
        )
        assert "no profile default" in (profile(tmp_path, aws, client, "").absent() or "")
        assert ProfileProvider({}, client, "", {}).absent() is not None
        missing = profile(tmp_path, aws, client, "[profile a]\n[profile b]\n", AWS_PROFILE="c")
        await fails(missing, "profile", "there is no profile 'c' in the shared files; they have: a, b")
        await fails(
            profile(tmp_path, aws, client, "rubbish"),
            "profile",
            r"cannot read .*\.aws/config: File contains no",
        )
        half = "[default]\naws_access_key_id = A\n"
        await fails(
            profile(tmp_path, aws, client, half), "profile", "lacks aws_secret_access_key; it needs both"
        )


async def test_sso_profiles_are_refused_with_a_way_out(tmp_path: Path) -> None:
    config = "[profile dev]\nsso_session = corp\nsso_account_id = 1\nsso_role_name = r\n"
    async with pretend_aws() as aws, closing(Client()) as client:
        provider = profile(tmp_path, aws, client, config, AWS_PROFILE="dev")
        expected = "profile dev signs in through IAM Identity Center .*export-credentials --profile dev"
        await fails(provider, "profile", expected)


async def test_roles_of_profiles(tmp_path: Path) -> None:
    keys = "aws_access_key_id = AKIABASE\naws_secret_access_key = s\n"
    role = f"role_arn = {ROLE}\n"
    async with pretend_aws() as aws, closing(Client()) as client:
        aws.answers["AssumeRole"] = granted()
        config = f"[default]\n{role}source_profile = base\nexternal_id = x\nrole_session_name = me\n"
        config += f"region = eu-north-1\nduration_seconds = 900\n[profile base]\n{keys}"
        credentials = await profile(tmp_path, aws, client, config).fetch()
        assert credentials.source == f"assumed role {ROLE}"
        form = aws.asked[-1].form
        assert (form["ExternalId"], form["RoleSessionName"], form["DurationSeconds"]) == ("x", "me", "900")
        assert "Credential=AKIABASE/" in aws.asked[-1].headers["authorization"]
        assert "/eu-north-1/sts/" in aws.asked[-1].headers["authorization"]

        await profile(tmp_path, aws, client, f"[default]\n{role}source_profile = default\n{keys}").fetch()
        assert "Credential=AKIABASE/" in aws.asked[-1].headers["authorization"]

        chained = f"[default]\n{role}source_profile = middle\n[profile middle]\n{role}source_profile = base\n"
        await profile(tmp_path, aws, client, f"{chained}[profile base]\n{keys}").fetch()
        assert "Credential=ASIAROLE/" in aws.asked[-1].headers["authorization"]

        source = f"[default]\n{role}credential_source = Environment\n"
        await profile(tmp_path, aws, client, source, **KEYS).fetch()
        assert "Credential=AKIAENV/" in aws.asked[-1].headers["authorization"]

        async def check(config: str, expected: str) -> None:
            await fails(profile(tmp_path, aws, client, f"[default]\n{role}{config}"), "profile", expected)

        await check(
            "credential_source = Environment\n", "names .* Environment, but AWS_ACCESS_KEY_ID is not set"
        )
        await check(
            "credential_source = Luck\n", "credential_source 'Luck' is not one of Environment, EcsContainer"
        )
        await check("", "has a role_arn but no source_profile")
        await check("source_profile = gone\n", "there is no profile 'gone'")
        await check("source_profile = base\nmfa_serial = arn\n", "asks for a code of an MFA device")
        await check(
            f"source_profile = base\nduration_seconds = 1h\n[profile base]\n{keys}", "'1h' is not a number"
        )
        loop = f"source_profile = b\n[profile b]\n{role}source_profile = default\n"
        await check(loop, "the profiles default → b → default name one another")
        aws.answers["AssumeRole"] = refused("AccessDenied", "no")
        denied = profile(tmp_path, aws, client, f"[default]\n{role}source_profile = default\n{keys}")
        await fails(denied, "assume role", "sts:AssumeRole")


async def test_a_profile_may_hold_a_web_identity(tmp_path: Path) -> None:
    action = "AssumeRoleWithWebIdentity"
    token = tmp_path / "token"
    token.write_text("a.b.c")
    async with pretend_aws() as aws, closing(Client()) as client:
        aws.answers[action] = granted(action=action)
        config = f"[default]\nrole_arn = {ROLE}\nweb_identity_token_file = {token}\n"
        assert (await profile(tmp_path, aws, client, config).fetch()).source == f"web identity as {ROLE}"


async def test_credential_process(tmp_path: Path) -> None:
    script = tmp_path / "give keys.py"
    run = f"[default]\ncredential_process = {sys.executable} '{script}' one\n"
    async with pretend_aws() as aws, closing(Client()) as client:

        async def check(code: str, expected: str, config: str = run) -> None:
            script.write_text(code)
            await fails(profile(tmp_path, aws, client, config), "profile", expected)

        document = {"Version": 1, "AccessKeyId": "P", "SecretAccessKey": "S", "SessionToken": "T"}
        script.write_text(
            f"import sys\nassert sys.argv[1:] == ['one']\nprint({json.dumps(json.dumps(document))})"
        )
        slow = profile(tmp_path, aws, client, run)
        slow._process_timeout_s = 30
        credentials = await slow.fetch()
        assert credentials == Credentials("P", "S", "T", source="the credential_process of profile default")
        missing = "[default]\ncredential_process = /nowhere/at/all\n"
        await check("", "cannot be run: No such file or directory", missing)
        await check("", "cannot be run: No closing quotation", "[default]\ncredential_process = a 'b\n")
        await check("import time; time.sleep(60)", "did not end within 0.3s")


async def test_what_a_credential_process_prints_wrongly(tmp_path: Path) -> None:
    async with pretend_aws() as aws, closing(Client()) as client:

        async def check(command: str, expected: str) -> None:
            config = f"[default]\ncredential_process = {command}\n"
            await fails(profile(tmp_path, aws, client, config), "profile", expected)

        await check("sh -c 'echo sorry >&2; exit 3'", "ended with status 3: sorry")
        await check("echo hello", "printed something that is not JSON")
        await check("echo '[1]'", 'must print a JSON object with "Version": 1')
        await check("""echo '{"Version": 2}'""", 'must print a JSON object with "Version": 1')
        await check("""echo '{"Version": 1}'""", r"gave no usable credentials: KeyError\('AccessKeyId'\)")


async def test_the_chain_takes_the_first_that_applies_and_passes_over_nothing_broken() -> None:
    async with pretend_aws() as aws, closing(Client(aws.resolve())) as client:
        aws.answers["GET /c"] = Answer(json.dumps(DOCUMENT))

        async def fetch(**environment: str) -> Credentials:
            providers: list[Provider] = [
                EnvironmentProvider(environment),
                ContainerProvider(environment, client),
                InstanceProvider({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}, client),
            ]
            return await Chain(providers).fetch()

        assert (await fetch(**KEYS, **{RELATIVE: "/c"})).source == "environment"
        assert (await fetch(**{RELATIVE: "c"})).access_key_id == "ASIATASK"
        with pytest.raises(CredentialsError) as caught:
            await fetch(**{RELATIVE: "/gone"})
        assert caught.value.hop == "container"
        with pytest.raises(CredentialsError) as caught:
            await fetch()
    assert caught.value.hop == "credentials"
    assert str(caught.value) == (
        "no AWS credentials found. Tried in this order: environment: AWS_ACCESS_KEY_ID is not set; container: "
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set (in ECS: the task has no task role); instance: the "
        "instance metadata service gave no answer: http://127.0.0.1:1: cannot connect: connection refused, nothing "
        "listens there (on EC2 in a container: raise the hop limit of the instance's metadata options to 2). In ECS "
        "give the task definition a task role (taskRoleArn); elsewhere set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY"
    )
