"""Who proves to a receiver who we are: AWS Signature Version 4, or the extension an exporter names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from trunkline.aws import sigv4
from trunkline.component.contract import Authenticator, Context
from trunkline.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trunkline.aws.clock import ServerClock
    from trunkline.aws.credentials import RefreshingCredentials
    from trunkline.net.message import Request

SERVICES: Final = (
    ("aps-workspaces", "aps"),
    ("search-", "es"),
    ("logs", "logs"),
    ("xray", "xray"),
    ("monitoring", "monitoring"),
)
"""Host name prefixes and the signing service each means, as upstream infers them."""


@dataclass(frozen=True, slots=True)
class AssumedRole:
    """The role requests are signed as, and how it is assumed; `sts_region` is the region of the STS asked."""

    arn: str
    sts_region: str
    external_id: str = ""
    session_name: str = ""


class Signer:
    """An authenticator: signs with the credentials at hand and never waits for new ones.

    `clock` is AWS's time; whoever sends what is signed here tells it of the answers.
    """

    def __init__(
        self,
        credentials: RefreshingCredentials,
        region: str,
        service: str,
        role: AssumedRole | None = None,
    ) -> None:
        self.clock: ServerClock = credentials.clock
        self.credentials = credentials
        self.role = role
        self._region = region
        self._service = service

    @classmethod
    def of(
        cls,
        context: Context,
        region: str,
        service: str,
        *,
        role_arn: str = "",
        sts_region: str = "",
        external_id: str = "",
        session_name: str = "",
    ) -> Signer:
        """A signer with the credentials of the standard chain, or of `role_arn` assumed with them."""
        clock = context.credentials.clock
        context.metrics.clock_offset.track(lambda: clock.offset_s)
        if not role_arn:
            return cls(context.credentials.default(region), region, service)
        home_region = sts_region or region or context.environment.get("AWS_REGION", "us-east-1")
        role = AssumedRole(role_arn, home_region, external_id, session_name)
        credentials = context.credentials.assume_role(
            role_arn,
            region=home_region,
            external_id=external_id or None,
            session_name=session_name or None,
        )
        return cls(credentials, region, service, role)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def authorize(self, request: Request) -> Request:
        """The signed request. Raises CredentialsError, which names the hop that failed."""
        host = urlsplit(request.url).hostname or ""
        service = self._service or _service_of(host)
        credentials = self.credentials.current()
        at = datetime.fromtimestamp(self.clock.now(), UTC)
        return sigv4.sign(request, credentials, region=self.region_for(request.url), service=service, at=at)

    def region_for(self, url: str) -> str:
        """The region a request to `url` is signed for."""
        return self._region or _region_of(urlsplit(url).hostname or "")

    def refused(self) -> None:
        self.credentials.renew()


def _service_of(host: str) -> str:
    return next((service for prefix, service in SERVICES if host.startswith(prefix)), "")


def _region_of(host: str) -> str:
    parts = host.split(".")
    return parts[1] if len(parts) > 2 else ""


def named_authenticator(name: str, context: Context) -> Authenticator:
    """The running extension `name`; raises ConfigError when there is none or it cannot sign."""
    path = f"exporters::{context.id}::auth::authenticator"
    extension = context.extensions.get(name)
    if extension is None:
        remedy = f"add {name} under extensions: and to the list service::extensions"
        message = f'failed to resolve authenticator "{name}": authenticator not found'
        raise ConfigError([Problem("", path, message, remedy)])
    if not isinstance(extension, Authenticator):
        raise ConfigError(
            [Problem("", path, f"extension {name} signs no requests", "name sigv4auth instead")]
        )
    return extension
