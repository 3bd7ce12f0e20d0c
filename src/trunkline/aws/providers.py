"""Where the standard chain looks for credentials: environment, profile, web identity, container, instance.

Sources: AWS SDKs and Tools Reference Guide, "Standardized credential providers"; ECS Developer Guide, "Task IAM
role"; EC2 User Guide, "Retrieve instance metadata" (version 2 only).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from trunkline.aws import explain
from trunkline.aws.clock import ServerClock
from trunkline.aws.keys import Credentials
from trunkline.aws.sts import Sts, default_session_name, parse_expiration
from trunkline.errors import CredentialsError, FetchError
from trunkline.net.client import Client
from trunkline.net.message import Request, Response
from trunkline.net.target import parse_target

FALLBACK_REGION: Final = "us-east-1"
_CONTAINER_TIMEOUT_S = 5.0
_INSTANCE_TIMEOUT_S = 1.0
_MAX_ANSWER_BYTES = 256 * 1024
_CONTAINER_HOST = "http://169.254.170.2"
_CONTAINER_ADDRESSES = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
_INSTANCE_ENDPOINTS = {"ipv4": "http://169.254.169.254", "ipv6": "http://[fd00:ec2::254]"}
_ROLE_PATH = "/latest/meta-data/iam/security-credentials/"


class Provider(Protocol):
    """One place that may have credentials."""

    hop: ClassVar[str]

    def absent(self) -> str | None:
        """Why this place does not apply here, None if it does."""

    async def fetch(self) -> Credentials:
        """Fresh credentials. Raises CredentialsError with what to check."""


class Chain:
    """The first provider that applies; one that applies and fails is not passed over, unless it is the last."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._providers = providers

    async def fetch(self) -> Credentials:
        """Fresh credentials. Raises CredentialsError; with hop `credentials` when nothing was found at all."""
        tried = []
        for provider in self._providers:
            reason = provider.absent()
            if reason is None:
                try:
                    return await provider.fetch()
                except CredentialsError as error:
                    if provider is not self._providers[-1]:
                        raise
                    reason = str(error)
            tried.append(f"{provider.hop}: {reason}")
        raise CredentialsError(
            f"no AWS credentials found. Tried in this order: {'; '.join(tried)}. In ECS give the task definition a "
            "task role (taskRoleArn); elsewhere set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            hop="credentials",
            change=explain.no_credentials(),
        )


def from_document(document: Any, token_key: str, *, hop: str, source: str) -> Credentials:
    """Credentials from the JSON that AWS's endpoints and `credential_process` give; raises CredentialsError."""
    try:
        expiration = document.get("Expiration")
        return Credentials(
            access_key_id=_text(document["AccessKeyId"]),
            secret_access_key=_text(document["SecretAccessKey"]),
            session_token=_text(document[token_key]) if document.get(token_key) else None,
            expires_at=parse_expiration(_text(expiration)) if expiration else None,
            source=source,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CredentialsError(f"{source} gave no usable credentials: {error!r}", hop=hop) from None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("a field is empty or not a string")
    return value


def _json(response: Response, hop: str, source: str) -> Any:
    try:
        return json.loads(response.body)
    except ValueError as error:
        raise CredentialsError(
            f"{source} answered with something that is not JSON: {error}", hop=hop
        ) from None


def read_token(path: str, hop: str, variable: str) -> str:
    """The content of the token file that `variable` names; raises CredentialsError."""
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise CredentialsError(
            f"cannot read the token file {path} named by {variable}: {why}", hop=hop
        ) from None
    if not token:
        raise CredentialsError(f"the token file {path} named by {variable} is empty", hop=hop)
    return token


class EnvironmentProvider:
    """`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`."""

    hop: ClassVar[str] = "environment"

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def absent(self) -> str | None:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        return None if any(map(self._environment.get, names)) else "AWS_ACCESS_KEY_ID is not set"

    async def fetch(self) -> Credentials:
        """The keys; raises CredentialsError when one of the two is missing."""
        key, secret = (self._environment.get(f"AWS_{n}") for n in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        if not key or not secret:
            there, lacking = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
            there, lacking = (there, lacking) if key else (lacking, there)
            raise CredentialsError(f"{there} is set but {lacking} is not; set both or neither", hop=self.hop)
        return Credentials(
            key, secret, self._environment.get("AWS_SESSION_TOKEN") or None, source="environment"
        )


class WebIdentityProvider:
    """`AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`, as EKS sets them."""

    hop: ClassVar[str] = "web identity"

    def __init__(
        self, environment: Mapping[str, str], client: Client, region: str, clock: ServerClock | None = None
    ) -> None:
        self._environment = environment
        self._client = client
        self._region = region
        self._clock = clock

    def absent(self) -> str | None:
        return (
            None
            if self._environment.get("AWS_WEB_IDENTITY_TOKEN_FILE")
            else "AWS_WEB_IDENTITY_TOKEN_FILE is not set"
        )

    async def fetch(self) -> Credentials:
        """Credentials of the role; the token is read anew each time, as it is replaced while we run."""
        role_arn = self._environment.get("AWS_ROLE_ARN")
        if not role_arn:
            raise CredentialsError("AWS_WEB_IDENTITY_TOKEN_FILE is set but AWS_ROLE_ARN is not", hop=self.hop)
        path = self._environment["AWS_WEB_IDENTITY_TOKEN_FILE"]
        name = self._environment.get("AWS_ROLE_SESSION_NAME") or default_session_name()
        return await web_identity(
            self._client, self._environment, self._region, role_arn, path, name, self._clock
        )


async def web_identity(
    client: Client,
    environment: Mapping[str, str],
    region: str,
    role_arn: str,
    token_file: str,
    session_name: str,
    clock: ServerClock | None = None,
) -> Credentials:
    """Credentials of `role_arn` for the token in `token_file`; raises CredentialsError, hop `web identity`."""
    token = read_token(token_file, "web identity", "web_identity_token_file")
    sts = Sts(client, region=region or FALLBACK_REGION, environment=environment, clock=clock)
    return await sts.assume_role_with_web_identity(role_arn, token, session_name=session_name)


class ContainerProvider:
    """The endpoint that ECS (`AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`) or EKS (`…_FULL_URI`) gives a container."""

    hop: ClassVar[str] = "container"

    def __init__(self, environment: Mapping[str, str], client: Client) -> None:
        self._environment = environment
        self._client = client

    def absent(self) -> str | None:
        names = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
        if any(map(self._environment.get, names)):
            return None
        return "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set (in ECS: the task has no task role)"

    async def fetch(self) -> Credentials:
        """The task's credentials."""
        url = self._url()
        source = (
            f"the container credentials endpoint {parse_target(url)}"  # its path is as good as a password
        )
        request = Request("GET", url, {"accept": "application/json", **self._authorization()})
        try:
            response = await self._client.exchange(
                request, timeout_s=_CONTAINER_TIMEOUT_S, max_body_bytes=_MAX_ANSWER_BYTES
            )
        except FetchError as error:
            raise CredentialsError(f"{source} gave no answer: {error}", hop=self.hop) from error
        if response.status != 200:
            said = response.body[:300].decode("utf-8", "replace").strip()
            raise CredentialsError(
                f"{source} answered {response.status_line}: {said}. Check that the task definition's taskRoleArn "
                "exists and that its trust policy names ecs-tasks.amazonaws.com",
                hop=self.hop,
            )
        return from_document(_json(response, self.hop, source), "Token", hop=self.hop, source=source)

    def _url(self) -> str:
        relative = self._environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        if relative:
            return _CONTAINER_HOST + (relative if relative.startswith("/") else f"/{relative}")
        url = self._environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        if not _may_be_asked(url):
            raise CredentialsError(
                f"AWS_CONTAINER_CREDENTIALS_FULL_URI {url!r} is not to be trusted: it must be https, a loopback "
                f"address, or one of {', '.join(sorted(_CONTAINER_ADDRESSES))}",
                hop=self.hop,
            )
        return url

    def _authorization(self) -> dict[str, str]:
        name = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
        path = self._environment.get(f"{name}_FILE")
        token = read_token(path, self.hop, f"{name}_FILE") if path else self._environment.get(name, "")
        return {"authorization": token} if token else {}


def _may_be_asked(url: str) -> bool:
    """The SDKs' rule: credentials over plain http come only from this machine or ECS's and EKS's own addresses."""
    try:
        target = parse_target(url)
        if target.scheme == "https" or target.host == "localhost":
            return True
        address = ip_address(target.host)
    except (FetchError, ValueError):
        return False
    return address.is_loopback or str(address) in _CONTAINER_ADDRESSES


class InstanceProvider:
    """The instance metadata service, version 2."""

    hop: ClassVar[str] = "instance"

    def __init__(self, environment: Mapping[str, str], client: Client) -> None:
        self._environment = environment
        self._client = client
        mode = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv4").lower()
        own = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/")
        self._base = own or _INSTANCE_ENDPOINTS.get(mode, _INSTANCE_ENDPOINTS["ipv4"])

    def absent(self) -> str | None:
        disabled = self._environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
        return "AWS_EC2_METADATA_DISABLED is true" if disabled else None

    async def fetch(self) -> Credentials:
        """The credentials of the instance's role."""
        ttl = {"x-aws-ec2-metadata-token-ttl-seconds": "21600"}
        token = await self._ask("PUT", "/latest/api/token", ttl)
        proof = {"x-aws-ec2-metadata-token": token.body.decode("latin-1").strip()}
        roles = (await self._ask("GET", _ROLE_PATH, proof)).body.decode("utf-8", "replace").split()
        if not roles:
            raise CredentialsError("the instance has no role; attach an instance profile", hop=self.hop)
        response = await self._ask("GET", _ROLE_PATH + roles[0], proof)
        source = f"instance role {roles[0]}"
        document = _json(response, self.hop, source)
        if isinstance(document, dict) and document.get("Code", "Success") != "Success":
            raise CredentialsError(
                f"the metadata service has no credentials for {source}: {document['Code']}. Check that the role "
                "exists and trusts ec2.amazonaws.com",
                hop=self.hop,
            )
        return from_document(document, "Token", hop=self.hop, source=source)

    async def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> Response:
        request = Request(method, self._base + path, headers)
        try:
            response = await self._client.exchange(
                request, timeout_s=_INSTANCE_TIMEOUT_S, max_body_bytes=_MAX_ANSWER_BYTES
            )
        except FetchError as error:
            raise CredentialsError(
                f"the instance metadata service gave no answer: {error} (on EC2 in a container: raise the hop limit "
                "of the instance's metadata options to 2)",
                hop=self.hop,
            ) from error
        if response.status == 404 and path == _ROLE_PATH:
            raise CredentialsError("the instance has no role; attach an instance profile", hop=self.hop)
        if response.status != 200:
            raise CredentialsError(
                f"the instance metadata service answered {response.status_line} to {method} {path}",
                hop=self.hop,
            )
        return response
