"""Signing in to a registry of Amazon ECR, and pushing to it.

Sources: Amazon ECR User Guide, "Private registry authentication"; OCI Distribution Specification 1.1, "Checking if
content exists in the registry".
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from trunkline.errors import FleetError
from trunkline.fleet.images.build import Built
from trunkline.fleet.images.tools import Tool

_TIMEOUT_S: Final = 30.0
_MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry and a password for it, which ECR gives for 12 hours. `url` as in `https://<account>.dkr.ecr…`."""

    url: str
    user: str
    password: str = field(repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def is_plain(self) -> bool:
        """Whether it speaks plain HTTP, as none of AWS's does."""
        return urlsplit(self.url).scheme == "http"


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image in a registry. `was_there` says that nothing had to be pushed."""

    repository_uri: str
    tag: str
    digest: str
    was_there: bool

    @property
    def uri(self) -> str:
        """By digest, as task definitions should name it."""
        return f"{self.repository_uri}@{self.digest}"


def ecr_registry(ecr: Any) -> Registry:
    """The registry of the account and region of an ECR client, with a password of the client's own identity.

    Needs `ecr:GetAuthorizationToken`. Raises `FleetError` for an answer that cannot be used; errors of the SDK pass.
    """
    data = ecr.get_authorization_token()["authorizationData"]
    try:
        user, colon, password = base64.b64decode(data[0]["authorizationToken"]).decode().partition(":")
        registry = Registry(data[0]["proxyEndpoint"], user, password)
    except (IndexError, KeyError, ValueError, binascii.Error) as error:
        raise FleetError(f"ECR gave an authorization token that cannot be read: {error!r}") from None
    if not colon or not registry.host:
        raise FleetError("ECR gave an authorization token without a password or an address")
    return registry


def push_built(built: Built, registry: Registry, repository: str) -> Pushed:
    """Push an image, unless its tag is there already, and return what it is called there.

    The repository has to exist. Needs ecr:BatchCheckLayerAvailability, InitiateLayerUpload, UploadLayerPart,
    CompleteLayerUpload, PutImage, BatchGetImage and GetDownloadUrlForLayer on it. Raises `FleetError` with the command
    that failed, its last lines and the remedy.
    """
    repository_uri = f"{registry.host}/{repository}"
    digest = find_digest(registry, repository, built.tag)
    if digest:
        return Pushed(repository_uri, built.tag, digest, was_there=True)
    remote = f"{repository_uri}:{built.tag}"
    with _signed_in(built.tool, registry) as tool:
        options = tool.kind.insecure if registry.is_plain else ()
        tool.run("tag", built.name, remote, remedy=f"Build it first: trunkline images build {built.kind}")
        tool.run("push", *options, remote, remedy=_push_remedy(repository, registry))
    digest = find_digest(registry, repository, built.tag)
    if not digest:
        raise FleetError(
            f"{tool.kind.name} pushed {remote}, but the registry does not know that tag; push it again"
        )
    return Pushed(repository_uri, built.tag, digest, was_there=False)


def find_digest(registry: Registry, repository: str, tag: str) -> str:
    """The digest of what a tag names, `sha256:` and 64 hex digits; empty when there is no such tag or repository."""
    url = f"{registry.url.rstrip('/')}/v2/{repository}/manifests/{tag}"
    secret = base64.b64encode(f"{registry.user}:{registry.password}".encode()).decode()
    headers = {"Authorization": f"Basic {secret}", "Accept": ", ".join(_MANIFEST_TYPES)}
    request = Request(url, headers=headers, method="HEAD")  # noqa: S310 (a registry's, by http or https)
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
            return str(response.headers.get("Docker-Content-Digest", ""))
    except HTTPError as error:
        error.close()
        if error.code == 404:
            return ""
        raise FleetError(
            f"{url} answered {error.code} {error.reason}; check that the identity you use may read and push to the "
            f"repository {repository}"
        ) from None
    except (URLError, OSError) as error:
        raise FleetError(
            f"{url} did not answer: {getattr(error, 'reason', error)}; check the way there"
        ) from None


@contextmanager
def _signed_in(tool: Tool, registry: Registry) -> Iterator[Tool]:
    """The same tool, signed in; podman and buildah forget it afterwards, docker and finch keep it as their users know."""
    with tempfile.TemporaryDirectory(prefix="trunkline-registry-") as folder:
        own = {**tool.environment, "REGISTRY_AUTH_FILE": str(Path(folder, "auth.json"))}
        tool = replace(tool, environment=own)
        options = tool.kind.insecure if registry.is_plain else ()
        tool.run(
            "login",
            *options,
            "--username",
            registry.user,
            "--password-stdin",
            registry.host,
            text=registry.password,
            remedy="ECR gave the password a moment ago: check the clock, and the way to the registry",
        )
        yield tool


def _push_remedy(repository: str, registry: Registry) -> str:
    return (
        f"The repository {repository} has to exist in {registry.host} (trunkline fleet deploy makes it, or: aws ecr "
        f"create-repository --repository-name {repository}), and your identity needs ecr:PutImage and the ecr:*Layer* "
        "actions of a push on it. If it is the tag that is refused, it is another image's, and tags there are "
        "immutable: choose another with --tag"
    )
