"""Doors to AWS: one session for each account and region, sharing what is costly to load.

An account is entered by a profile, by a role, by both, by the SDK's own chain, or as a member of the organisation.
Whichever it is, it is asked who it is before anything else: a profile of another account is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final, Protocol

import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound

from trunkline.errors import FleetError
from trunkline.fleet.model import Credentials, Fleet

SESSION_NAME: Final = "trunkline-fleet"
"""What CloudTrail shows of who assumed a role."""

ORGANIZATION_ROLE: Final = "OrganizationAccountAccessRole"
"""What AWS Organizations makes in every account it creates; it trusts the management account."""


class Session(Protocol):
    """As much of a `boto3.Session` as the fleet uses. One session serves one thread at a time."""

    def client(self, service_name: str, /) -> Any: ...


Sessions = Callable[[str, str], Session]
"""From an account id and a region to a session there. It may be called from any thread."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """Long-lived or temporary credentials of an administrator of one account."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


class _Account:
    """What the sessions of an account share: making one for each region costs as much as its clients."""

    def __init__(self, core: botocore.session.Session, endpoint_url: str | None) -> None:
        self._core = core
        self._endpoint_url = endpoint_url
        self._lock = Lock()

    def session(self, region: str) -> _RegionalSession:
        return _RegionalSession(self, region)

    def client(self, service_name: str, region: str) -> Any:
        # Adaptive, because CloudFormation throttles whoever asks often about many stacks.
        config = Config(retries={"mode": "adaptive", "max_attempts": 8}, connect_timeout=5, read_timeout=60)
        # One call for any service: the overloads of the stubs each want a literal name.
        create: Callable[..., Any] = self._core.create_client
        with self._lock:
            return create(service_name, region_name=region, endpoint_url=self._endpoint_url, config=config)


@dataclass(frozen=True, slots=True)
class _RegionalSession:
    """A session whose clients all speak to one endpoint, or to AWS's own when there is none."""

    account: _Account
    region: str

    def client(self, service_name: str, /) -> Any:
        return self.account.client(service_name, self.region)


def key_sessions(keys: Mapping[str, AccessKey], endpoint_url: str | None = None) -> Sessions:
    """Sessions made of one access key per account id.

    Without `endpoint_url` the SDK's own rules apply, `AWS_ENDPOINT_URL` among them. All sessions share one
    data loader: eight clients in a new session cost 21 MB without it and 2 MB with it. Asking for a session
    of an account that has no key raises `FleetError`.
    """
    loader = botocore.loaders.create_loader()
    accounts: dict[str, _Account] = {}
    lock = Lock()

    def session(account_id: str, region: str) -> Session:
        key = keys.get(account_id)
        if key is None:
            raise FleetError(f"there are no credentials for account {account_id}; name a key for it")
        with lock:
            if account_id not in accounts:
                core = _core(loader)
                core.set_credentials(key.access_key_id, key.secret_access_key, key.session_token)
                accounts[account_id] = _Account(core, endpoint_url)
        return accounts[account_id].session(region)

    return session


def fleet_sessions(fleet: Fleet, endpoint_url: str | None = None) -> Sessions:
    """Sessions in the accounts of a fleet, each by the credentials its description names.

    The first session of an account proves with `sts:GetCallerIdentity` that it is in that account; that costs one
    call, or two with a role. Credentials of roles are renewed while they are used. Where `fleet.organization` is set,
    an account without credentials of its own is entered by the organisation's access role, from the monitoring
    account. Raises `FleetError` naming the account, the way in, and the remedy; never anything secret.
    """
    entrances = _Entrances(fleet, endpoint_url)
    return entrances.session


def _core(loader: botocore.loaders.Loader, profile: str = "") -> botocore.session.Session:
    core = botocore.session.Session(profile=profile or None)
    core.register_component("data_loader", loader)
    return core


class _Entrances:
    """The credentials of every account, found and proved once each, at first use."""

    def __init__(self, fleet: Fleet, endpoint_url: str | None) -> None:
        self._fleet = fleet
        self._endpoint_url = endpoint_url
        self._loader = botocore.loaders.create_loader()
        self._ways = _ways(fleet)
        self._has_units = fleet.organization is not None and bool(fleet.organization.units)
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        self._proved: dict[str, Any] = {}
        self._accounts: dict[str, _Account] = {}

    def session(self, account_id: str, region: str) -> Session:
        """A session with credentials that have been proved to be the account's."""
        if account_id not in self._ways and not self._has_units:
            raise FleetError(f"account {account_id} is not of this fleet; name it in the fleet's file")
        # One lock for each account: a sign-in that hangs keeps no other account waiting.
        with self._locks[account_id]:
            if account_id not in self._proved:
                self._proved[account_id] = self._enter(account_id, region)
                self._accounts[account_id] = self._with(self._proved[account_id])
        return self._accounts[account_id].session(region)

    def _with(self, credentials: Any) -> _Account:
        core = _core(self._loader)
        # All sessions of an account hold the same credentials, which are renewed under a lock of their own.
        core._credentials = credentials  # type: ignore[attr-defined]  # noqa: SLF001 (botocore has no public way)
        return _Account(core, self._endpoint_url)

    def _way(self, account_id: str) -> Credentials:
        """As the file says of the account, or of all accounts of the organisation's units."""
        organization = self._fleet.organization
        if account_id in self._ways or organization is None or organization.credentials == Credentials():
            return self._ways.get(account_id, _MEMBER)
        profile, role = (
            text.replace("{account}", account_id)
            for text in (organization.credentials.profile, organization.credentials.role)
        )
        return replace(organization.credentials, profile=profile, role=role)

    def _enter(self, account_id: str, region: str) -> Any:
        way = self._way(account_id)
        try:
            credentials = self._credentials(account_id, way, region)
            found = self._with(credentials).client("sts", region).get_caller_identity()["Account"]
        except ProfileNotFound as error:
            raise FleetError(
                f"account {account_id}: there is no profile {way.profile!r} in the AWS configuration files; "
                "add it, or name another under credentials"
            ) from error
        except (ClientError, BotoCoreError) as error:
            raise FleetError(
                f"account {account_id} cannot be entered by {_named(way)}: {error}; {_remedy(way)}"
            ) from error
        if found != account_id:
            raise FleetError(
                f"account {account_id}: {_named(way)} is of account {found}; nothing was touched. "
                f"Name a profile or a role of account {account_id} under its credentials"
            )
        return credentials

    def _credentials(self, account_id: str, way: Credentials, region: str) -> Any:
        source = self._source(account_id, way, region)
        if not way.role:
            return source
        arguments = {"RoleSessionName": SESSION_NAME}
        if way.external_id:
            arguments["ExternalId"] = way.external_id
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=self._sts_creator(region),
            source_credentials=source,
            role_arn=role_arn(account_id, way.role, region),
            extra_args=arguments,
        )
        # Asked for now, because a refusal at the first use would be logged with a traceback.
        return RefreshableCredentials.create_from_metadata(
            metadata=fetcher.fetch_credentials(),
            refresh_using=fetcher.fetch_credentials,
            method="assume-role",
        )

    def _source(self, account_id: str, way: Credentials, region: str) -> Any:
        """Who asks for the role, or the account's credentials themselves."""
        monitoring = self._fleet.monitoring.account_id
        if self._by_organization(account_id) and way is _MEMBER:
            self.session(monitoring, region)
            return self._proved[monitoring]
        core = _core(self._loader, way.profile)
        credentials = core.get_credentials()
        if credentials is None:
            raise FleetError(
                f"account {account_id}: {_named(Credentials(profile=way.profile))} gives no credentials; sign in "
                "(aws configure, or aws sso login), or name a profile or a role under credentials"
            )
        return credentials

    def _by_organization(self, account_id: str) -> bool:
        return self._fleet.organization is not None and account_id != self._fleet.monitoring.account_id

    def _sts_creator(self, region: str) -> Callable[..., Any]:
        """Makes the client that assumes roles, in a region's own STS as the global one is not everywhere."""
        core = _core(self._loader)

        def create(service_name: str, **options: Any) -> Any:
            make: Callable[..., Any] = core.create_client
            return make(service_name, region_name=region, endpoint_url=self._endpoint_url, **options)

        return create


_MEMBER: Final = Credentials(role=ORGANIZATION_ROLE)
"""The way into an account of the organisation of which nothing else is said."""


def _ways(fleet: Fleet) -> dict[str, Credentials]:
    """How each account is entered; an account that is both monitoring and workload may say so at either place."""
    ways = {
        account.account_id: account.credentials
        if account.credentials != Credentials() or fleet.organization is None
        else _MEMBER
        for account in fleet.workloads
    }
    monitoring = fleet.monitoring
    if monitoring.credentials != Credentials() or ways.get(monitoring.account_id, _MEMBER) is _MEMBER:
        ways[monitoring.account_id] = monitoring.credentials
    return ways


def role_arn(account_id: str, role: str, region: str) -> str:
    """The ARN of a role given by its name, path included, or by its ARN."""
    if role.startswith("arn:"):
        return role
    partition = botocore.session.get_session().get_partition_for_region(region)
    return f"arn:{partition}:iam::{account_id}:role/{role.lstrip('/')}"


def _named(way: Credentials) -> str:
    if way is _MEMBER:
        return f"the organisation's role {ORGANIZATION_ROLE}, from the monitoring account"
    parts = [f"profile {way.profile}" if way.profile else "", f"role {way.role}" if way.role else ""]
    named = ", then ".join(part for part in parts if part)
    return named or "the SDK's own chain of credentials"


def _remedy(way: Credentials) -> str:
    if way.role:
        return "let the role trust whoever asks for it (its external id included), and let them assume it"
    if way.profile:
        return f"sign in to the profile (aws sso login --profile {way.profile}), or correct its keys"
    return "sign in, or name a profile or a role under the account's credentials"
