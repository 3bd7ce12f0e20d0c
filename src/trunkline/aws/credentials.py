"""Credentials that are fetched and renewed in the background, so that whoever signs never waits.

CredentialsFactory ── default ──────► RefreshingCredentials ◄── providers.Chain
                   └─ assume_role ──► RefreshingCredentials ◄── sts.Sts ◄── default
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final, Self

from trunkline.aws.clock import ServerClock
from trunkline.aws.keys import Credentials
from trunkline.aws.profile import ProfileProvider
from trunkline.aws.providers import (
    FALLBACK_REGION,
    Chain,
    ContainerProvider,
    EnvironmentProvider,
    InstanceProvider,
    Provider,
    WebIdentityProvider,
    web_identity,
)
from trunkline.aws.sts import Sts, default_session_name
from trunkline.errors import CredentialsError, TrunklineError
from trunkline.net.client import Client, ClientFactory

__all__ = ["Credentials", "CredentialsFactory", "RefreshingCredentials"]

logger = logging.getLogger(__name__)

RETRY_FIRST_S: Final = 1.0
RETRY_MOST_S: Final = 30.0
RENEW_AT_MOST_EVERY_S: Final = 10.0
_LEAST_WAIT_S = 5.0

Sleep = Callable[[float], Awaitable[None]]


def _moment(epoch_s: float) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


class RefreshingCredentials:
    """The current credentials of one source, kept fresh by `run`.

    They are fetched anew between two thirds and five sixths of their remaining life, at a random moment so that
    many tasks do not ask at once; a failed fetch is repeated after 1 to 30 s while the old ones serve until they
    expire. `name` tells people what this is. `clock` is AWS's time, `jitter` gives numbers in [0, 1).
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Credentials]],
        *,
        name: str,
        hop: str = "credentials",
        clock: ServerClock | None = None,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.clock = clock or ServerClock()
        self._fetch = fetch
        self._sleep = sleep
        self._jitter = jitter
        self._credentials: Credentials | None = None
        self._error = CredentialsError(f"{name}: nothing has been fetched yet", hop=hop)
        self._failures = 0
        self._fetched_at = float("-inf")
        self._ready = asyncio.Event()
        self._attempted = asyncio.Event()
        self._pause: asyncio.Future[None] | None = None

    def current(self) -> Credentials:
        """The credentials to sign with now; never waits.

        Raises CredentialsError with the last explanation when there are none, or none that is still valid.
        """
        credentials = self._credentials
        if credentials is None:
            raise self._error.repeated()
        if credentials.expires_at is not None and credentials.expires_at <= self.clock.now():
            self.renew()  # the machine slept, or its clock is not what it was when the renewal was planned
            why = f"they could not be renewed: {self._error}" if self._failures else "they are being renewed"
            raise CredentialsError(
                f"{self.name}: the credentials expired at {_moment(credentials.expires_at)} and {why}",
                hop=self._error.hop,
            )
        return credentials

    async def ready(self) -> None:
        """Wait until there are credentials, however long it takes; `current` says why it takes so long."""
        await self._ready.wait()

    async def attempted(self) -> None:
        """Wait until the first fetch has succeeded or failed; `current` then says which."""
        await self._attempted.wait()

    def renew(self) -> None:
        """Ask for fresh credentials before their time, as after an answer 403; at most every 10 s."""
        early = abs(self.clock.now() - self._fetched_at) >= RENEW_AT_MOST_EVERY_S
        if early and self._pause is not None:
            self._pause.cancel()

    async def run(self) -> None:
        """Fetch and renew until cancelled."""
        while True:
            await self._fetch_once()
            self._pause = asyncio.ensure_future(self._sleep(self._delay_s()))
            try:
                await asyncio.wait([self._pause])
            finally:
                self._pause.cancel()
                self._pause = None

    async def _fetch_once(self) -> None:
        try:
            credentials = await self._fetch()
            self._refuse_expired(credentials)
        except TrunklineError as error:
            self._note_failure(error)
        except Exception as error:
            logger.exception("%s: fetching credentials failed; this is a defect of Trunkline", self.name)
            self._note_failure(error)
        else:
            self._credentials = credentials
            self._failures = 0
            self._ready.set()
        self._fetched_at = self.clock.now()
        self._attempted.set()

    def _refuse_expired(self, credentials: Credentials) -> None:
        if credentials.expires_at is not None and credentials.expires_at <= self.clock.now():
            raise CredentialsError(
                f"{credentials.source or self.name} gave credentials that expired at "
                f"{_moment(credentials.expires_at)}; check the clock of this machine, then that source",
                hop=self._error.hop,
            )

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        failure = (
            error
            if isinstance(error, CredentialsError)
            else CredentialsError(f"{self.name}: {error!r}", hop=self._error.hop)
        )
        if self._failures == 1 or str(failure) != str(self._error):
            valid = self._credentials is not None
            level = logging.WARNING if valid else logging.ERROR
            logger.log(level, "%s: %s; trying again", self.name, str(failure).rstrip("."))
        self._error = failure

    def _delay_s(self) -> float:
        """How long to wait before the next fetch."""
        if self._failures:
            longest: float = min(RETRY_MOST_S, RETRY_FIRST_S * 2 ** min(self._failures - 1, 10))
            return longest * (0.5 + self._jitter() / 2)
        assert self._credentials is not None
        if self._credentials.expires_at is None:
            return float(2**31)
        left = self._credentials.expires_at - self.clock.now()
        return max(_LEAST_WAIT_S, left * (2 / 3 + self._jitter() / 6))


class CredentialsFactory:
    """Gives credentials, shared for equal arguments; `async with` runs their renewal.

    `environment` is what the standard chain reads its variables from. Credentials may be asked for before the
    factory is entered: they are fetched once it is. `clock` is what all of them, and all who sign with them, share.
    """

    def __init__(
        self,
        clients: ClientFactory,
        environment: Mapping[str, str],
        *,
        clock: ServerClock | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.clock = clock or ServerClock()
        self._clients = clients
        self._environment = environment
        self._sleep = sleep
        self._shared: dict[Hashable, RefreshingCredentials] = {}
        self._client: Client | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._running = False

    def default(self, region: str = "") -> RefreshingCredentials:
        """Credentials of the standard chain; `region` is where roles of profiles and web identities are assumed."""
        region = region or self.region
        return self._share(("default", region), "AWS credentials", "credentials", self._chain(region).fetch)

    def assume_role(
        self,
        role_arn: str,
        *,
        region: str,
        sts_region: str | None = None,
        external_id: str | None = None,
        session_name: str | None = None,
    ) -> RefreshingCredentials:
        """Credentials of `role_arn`, assumed with those of the standard chain at STS in `sts_region` or `region`."""
        home = sts_region or region or self.region
        name = session_name or default_session_name()
        base = self.default(home)
        sts = Sts(self._link(), region=home, environment=self._environment, clock=self.clock)
        fetch = partial(_assume, sts, base, role_arn, session_name=name, external_id=external_id)
        key = ("role", role_arn, home, external_id, name)
        return self._share(key, f"role {role_arn}", "assume role", fetch)

    def web_identity(
        self, role_arn: str, token_file: str, *, region: str, session_name: str | None = None
    ) -> RefreshingCredentials:
        """Credentials of `role_arn` for the OpenID Connect token in `token_file`."""
        home = region or self.region
        name = session_name or default_session_name()
        fetch = partial(
            web_identity, self._link(), self._environment, home, role_arn, token_file, name, self.clock
        )
        return self._share(
            ("web", role_arn, token_file, home, name), f"role {role_arn}", "web identity", fetch
        )

    async def __aenter__(self) -> Self:
        self._running = True
        for credentials in self._shared.values():
            self._start(credentials)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    @property
    def region(self) -> str:
        """The region of the environment, for whoever names none."""
        environment = self._environment
        return environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or FALLBACK_REGION

    def _link(self) -> Client:
        if self._client is None:
            self._client = self._clients.client()
        return self._client

    def _chain(self, region: str) -> Chain:
        environment, client = self._environment, self._link()
        keys = EnvironmentProvider(environment)
        container = ContainerProvider(environment, client)
        instance = InstanceProvider(environment, client)
        sources: dict[str, Provider] = {
            "Environment": keys,
            "EcsContainer": container,
            "Ec2InstanceMetadata": instance,
        }
        profile = ProfileProvider(environment, client, region, sources, clock=self.clock)
        token = WebIdentityProvider(environment, client, region, self.clock)
        return Chain((keys, profile, token, container, instance))

    def _share(
        self, key: Hashable, name: str, hop: str, fetch: Callable[[], Awaitable[Credentials]]
    ) -> RefreshingCredentials:
        if key not in self._shared:
            self._shared[key] = RefreshingCredentials(
                fetch, name=name, hop=hop, clock=self.clock, sleep=self._sleep
            )
            if self._running:
                self._start(self._shared[key])
        return self._shared[key]

    def _start(self, credentials: RefreshingCredentials) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(credentials.run(), name=credentials.name))


async def _assume(
    sts: Sts, base: RefreshingCredentials, role_arn: str, *, session_name: str, external_id: str | None
) -> Credentials:
    """One AssumeRole with the current credentials of `base`; when they are refused, new ones are asked for."""
    await base.attempted()
    current = base.current()
    try:
        return await sts.assume_role(current, role_arn, session_name=session_name, external_id=external_id)
    except CredentialsError:
        base.renew()
        raise
