"""Access keys: administrators' for ever, sessions' for a while."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeAlias

from trunkline.aws.iam import Policy, Principal
from trunkline.simulator.frontdoor.signature import Key

Clock: TypeAlias = Callable[[], float]
"""Seconds since the epoch."""

_REMEMBERED: Final = 10_000
"""Sessions kept, so that a key that is over is told from one that never was; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom an access key speaks for.

    `arn` is the user's or session's, `principal_arn` the user's or the *role's*, path included. `role_id`,
    `issued_at` (seconds since the epoch) and `session_policies` belong to sessions only.
    """

    account: str
    arn: str
    principal_arn: str
    user_id: str
    role_id: str = ""
    issued_at: float | None = None
    session_policies: tuple[Policy, ...] | None = None

    @property
    def is_session(self) -> bool:
        """Whether a role is spoken for."""
        return bool(self.role_id)

    @property
    def principal(self) -> Principal:
        """As the evaluator wants it."""
        return Principal(self.account, self.arn, self.principal_arn)


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An administrator's key pair."""

    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """A session's credentials; `expires_at` is seconds since the epoch."""

    access_key_id: str
    secret_access_key: str
    token: str
    expires_at: float
    identity: Identity

    @property
    def expiration(self) -> str:
        """`expires_at` as AWS writes it."""
        return datetime.fromtimestamp(self.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _key_id(prefix: str) -> str:
    return prefix + base64.b32encode(secrets.token_bytes(10)).decode()


class Sessions:
    """The store of all access keys.

    `longest_s`, when set, cuts every session made from then on to that many seconds: AWS has no session under
    900 s, and a test of renewal cannot wait for that. `ended` is called when a session is ended before its
    time, as what others remember of it is wrong then.
    """

    def __init__(self, clock: Clock = time.time, ended: Callable[[], None] = lambda: None) -> None:
        self.clock = clock
        self._ended = ended
        self.longest_s: float | None = None
        self._keys: dict[str, Key[Identity]] = {}

    def add_administrator(self, account: str, key: AccessKey | None = None) -> AccessKey:
        """Give `account` an administrator, with `key` or a new one: user `Administrator`, allowed everything."""
        key = key or AccessKey(_key_id("AKIA"), secrets.token_urlsafe(30))
        arn = f"arn:aws:iam::{account}:user/Administrator"
        identity = Identity(account, arn, arn, user_id=f"AIDAADMINISTRATOR{account[-4:]}")
        self._keys[key.access_key_id] = Key(key.secret_access_key, identity)
        return key

    def open(
        self,
        role_arn: str,
        role_id: str,
        name: str,
        lifetime_s: float,
        policies: tuple[Policy, ...] | None = None,
    ) -> Credentials:
        """Make a session of a role, called `name`, that lives for `lifetime_s`."""
        account, role_name = role_arn.split(":")[4], role_arn.rpartition("/")[2]
        now = self.clock()
        identity = Identity(
            account=account,
            arn=f"arn:aws:sts::{account}:assumed-role/{role_name}/{name}",
            principal_arn=role_arn,
            user_id=f"{role_id}:{name}",
            role_id=role_id,
            issued_at=now,
            session_policies=policies,
        )
        lifetime_s = lifetime_s if self.longest_s is None else min(lifetime_s, self.longest_s)
        token = base64.b64encode(secrets.token_bytes(240)).decode()
        made = Credentials(_key_id("ASIA"), secrets.token_urlsafe(30), token, now + lifetime_s, identity)
        self._remember(made)
        return made

    def _remember(self, made: Credentials) -> None:
        self._keys[made.access_key_id] = Key(
            made.secret_access_key, made.identity, made.token, made.expires_at
        )
        if len(self._keys) > _REMEMBERED:
            oldest = next(name for name, key in self._keys.items() if key.expires_at is not None)
            del self._keys[oldest]

    def find(self, access_key_id: str) -> Key[Identity] | None:
        """The key with this id, living or over; None if there is none."""
        return self._keys.get(access_key_id)

    def expire(self, access_key_id: str) -> None:
        """End a session now; administrators' keys and unknown ones are left alone."""
        key = self._keys.get(access_key_id)
        if key is not None and key.expires_at is not None:
            self._keys[access_key_id] = replace(key, expires_at=min(key.expires_at, self.clock()))
            self._ended()

    def expire_all(self) -> None:
        """End every session now."""
        for access_key_id in list(self._keys):
            self.expire(access_key_id)
