"""Who proves to a receiver who we are: AWS Signature Version 4, or the extension an exporter names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from trunkline.aws import sigv4
from trunkline.component.contract import Authenticator, Context
from trunkline.errors import ConfigError, Problem

if TYPE_CHECKING:
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


class Signer:
    """An authenticator: signs with the credentials at hand and never waits for new ones."""

    def __init__(self, credentials: RefreshingCredentials, region: str, service: str) -> None:
        self._credentials = credentials
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
        if not role_arn:
            return cls(context.credentials.default(region), region, service)
        home_region = sts_region or region or context.environment.get("AWS_REGION", "us-east-1")
        credentials = context.credentials.assume_role(
            role_arn,
            region=home_region,
            external_id=external_id or None,
            session_name=session_name or None,
        )
        return cls(credentials, region, service)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def authorize(self, request: Request) -> Request:
        """The signed request. Raises CredentialsError, which names the hop that failed."""
        host = urlsplit(request.url).hostname or ""
        service = self._service or _service_of(host)
        region = self._region or _region_of(host)
        credentials = self._credentials.current()
        return sigv4.sign(request, credentials, region=region, service=service, at=datetime.now(UTC))

    def refused(self) -> None:
        self._credentials.renew()


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
