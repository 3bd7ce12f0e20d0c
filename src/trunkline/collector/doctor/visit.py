"""What the hops of one exporter share: how it is set up, and what has been learnt on the way so far."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from trunkline.aws.explain import Workspace
from trunkline.component.contract import Authenticator, Context
from trunkline.component.signing import Signer
from trunkline.errors import CredentialsError

if TYPE_CHECKING:
    from trunkline.aws.clock import ServerClock
    from trunkline.aws.credentials import RefreshingCredentials
    from trunkline.exporters.prometheusremotewrite.config import RemoteWriteConfig
    from trunkline.net.fetcher import Fetcher

_WORKSPACE: Final = re.compile(r"/workspaces/([^/]+)/")


@dataclass(slots=True)
class Visit:
    """One exporter under examination. `principal` is the ARN of who signs, as soon as it is known."""

    config: RemoteWriteConfig
    context: Context
    client: Fetcher
    authenticator: Authenticator | None
    principal: str = ""
    written_ms: int = 0
    """When the test sample is of; 0 while it has not been taken."""

    @property
    def signer(self) -> Signer:
        """Who signs, for hops that only those who sign have."""
        assert isinstance(self.authenticator, Signer)
        return self.authenticator

    @property
    def clock(self) -> ServerClock:
        return self.context.credentials.clock

    @property
    def endpoint(self) -> str:
        return self.config.endpoint

    @property
    def region(self) -> str:
        """Where STS is asked: as for the role, else the region that is signed for."""
        role = self.signer.role
        named = role.sts_region if role else self.signer.region_for(self.endpoint)
        return named or self.context.credentials.region

    @property
    def own_credentials(self) -> RefreshingCredentials:
        """Those of the standard chain, with which a role is assumed if there is one."""
        signer = self.signer
        return self.context.credentials.default(signer.role.sts_region) if signer.role else signer.credentials

    @property
    def workspace(self) -> Workspace:
        """The workspace as far as the endpoint names one."""
        from trunkline.exporters.prometheusremotewrite.config import AMP_HOST  # noqa: PLC0415

        parts = urlsplit(self.endpoint)
        host, path = AMP_HOST.fullmatch(parts.hostname or ""), _WORKSPACE.match(parts.path)
        signs = isinstance(self.authenticator, Signer)
        return Workspace(
            id=path[1] if path else "",
            region=host["region"] if host else "",
            signed_for=self.signer.region_for(self.endpoint) if signs else "",
            principal=self.principal,
        )

    def secrets(self) -> Iterator[str]:
        """What must not be printed, whoever says it."""
        environment = self.context.environment
        names = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
        yield from filter(None, map(environment.get, names))
        yield from filter(None, self.config.headers.values())
        if isinstance(self.authenticator, Signer):
            if self.signer.role and self.signer.role.external_id:
                yield self.signer.role.external_id
            yield from _keys(self.signer.credentials)
            yield from _keys(self.own_credentials)


def _keys(credentials: RefreshingCredentials) -> Iterator[str]:
    try:
        found = credentials.current()
    except CredentialsError:
        return
    yield found.secret_access_key
    if found.session_token:
        yield found.session_token


def shown(url: str) -> str:
    """`url` without its query, where some receivers want a token."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
