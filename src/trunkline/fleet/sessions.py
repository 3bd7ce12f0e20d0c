"""Doors to AWS: one session for each account and region, sharing what is costly to load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config

from trunkline.errors import FleetError


class Session(Protocol):
    """As much of a `boto3.Session` as the fleet uses. One session serves one thread at a time."""

    def client(self, service_name: str, /) -> Any: ...


Sessions = Callable[[str, str], Session]
"""From an account id and a region to a session there."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """Long-lived or temporary credentials of an administrator of one account."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


class _EndpointSession:
    """A session whose clients all speak to one endpoint, or to AWS's own when there is none."""

    def __init__(self, session: boto3.Session, endpoint_url: str | None) -> None:
        self._session = session
        self._endpoint_url = endpoint_url

    def client(self, service_name: str, /) -> Any:
        # Adaptive, because CloudFormation throttles whoever asks often about many stacks.
        config = Config(retries={"mode": "adaptive", "max_attempts": 8}, connect_timeout=5, read_timeout=60)
        # One call for any service: the overloads of the stubs each want a literal name.
        create: Callable[..., Any] = self._session.client
        return create(service_name, endpoint_url=self._endpoint_url, config=config)


def key_sessions(keys: Mapping[str, AccessKey], endpoint_url: str | None = None) -> Sessions:
    """Sessions made of one access key per account id.

    Without `endpoint_url` the SDK's own rules apply, `AWS_ENDPOINT_URL` among them. All sessions share one
    data loader: eight clients in a new session cost 21 MB without it and 2 MB with it. Asking for a session
    of an account that has no key raises `FleetError`.
    """
    loader = botocore.loaders.create_loader()

    def session(account_id: str, region: str) -> Session:
        key = keys.get(account_id)
        if key is None:
            raise FleetError(f"there are no credentials for account {account_id}; name a key for it")
        core = botocore.session.get_session()
        core.register_component("data_loader", loader)
        made = boto3.Session(
            aws_access_key_id=key.access_key_id,
            aws_secret_access_key=key.secret_access_key,
            aws_session_token=key.session_token,
            region_name=region,
            botocore_session=core,
        )
        return _EndpointSession(made, endpoint_url)

    return session
