"""Roles as the emulator holds them, cached until something in IAM changes."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from trunkline.aws.iam import Policy, PolicyError, managed_policy, parse_policy
from trunkline.simulator.frontdoor.backend import Backend
from trunkline.simulator.frontdoor.errors import AwsError

_log = logging.getLogger(__name__)

IAM_REGION: Final = "us-east-1"
_NOTHING: Final = Policy()


@dataclass(frozen=True, slots=True)
class Role:
    """A role: its trust policy, what it may do, and its limits. `boundary` None means that it has none."""

    arn: str
    id: str
    trust: Policy
    policies: tuple[Policy, ...]
    boundary: Policy | None
    max_session_s: int


class Roles:
    """Finds roles. `version` grows with every change of IAM's state, and never otherwise."""

    def __init__(self, backend: Backend) -> None:
        self.version = 1
        self._backend = backend
        self._cache: dict[tuple[str, str], tuple[int, Role | None]] = {}

    def changed(self) -> None:
        """Something in IAM has changed: whatever is remembered here or elsewhere may be wrong."""
        self.version += 1
        self._cache.clear()

    async def find(self, arn: str) -> Role | None:
        """The role with exactly this ARN, path included; None if there is none."""
        account, _, path = arn.partition("::")[2].partition(":role/")
        role = await self.named(account, path.rpartition("/")[2])
        return role if role and role.arn == arn else None

    async def named(self, account: str, name: str) -> Role | None:
        """The role of `account` called `name`, wherever its path; None if there is none."""
        key = (account, name)
        version, role = self._cache.get(key, (0, None))
        if version == self.version:
            return role
        # What changes while it is being read makes the version differ: then it is read again next time.
        version = self.version
        role = await self._read(account, name)
        self._cache[key] = (version, role)
        return role

    async def _read(self, account: str, name: str) -> Role | None:
        try:
            found = (await self._ask(account, "GetRole", RoleName=name))["Role"]
            policies = [policy async for policy in self._policies(account, name)]
            boundary = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
            bound = await self._managed(account, boundary) if boundary else None
        except AwsError as error:
            if error.status == 404 or error.code.startswith("NoSuchEntity"):
                return None
            raise
        return Role(
            arn=found["Arn"],
            id=found["RoleId"],
            trust=_readable(found["AssumeRolePolicyDocument"], f"the trust policy of {found['Arn']}"),
            policies=tuple(policies),
            boundary=bound,
            max_session_s=int(found.get("MaxSessionDuration", 3600)),
        )

    async def _policies(self, account: str, role: str) -> AsyncIterator[Policy]:
        for name in (await self._ask(account, "ListRolePolicies", RoleName=role)).get("PolicyNames", []):
            inline = await self._ask(account, "GetRolePolicy", RoleName=role, PolicyName=name)
            yield _readable(inline["PolicyDocument"], f"policy {name} of role {role} in {account}")
        attached = await self._ask(account, "ListAttachedRolePolicies", RoleName=role)
        for item in attached.get("AttachedPolicies", []):
            yield await self._managed(account, item["PolicyArn"])

    async def _managed(self, account: str, arn: str) -> Policy:
        """A managed policy; an AWS managed one that is not known here grants nothing, as a boundary too."""
        if arn.startswith("arn:aws:iam::aws:"):
            known = managed_policy(arn)
            if known is None:
                _log.warning("%s is not known to the simulator: it grants nothing", arn)
            return known or _NOTHING
        policy = (await self._ask(account, "GetPolicy", PolicyArn=arn))["Policy"]
        version = await self._ask(
            account, "GetPolicyVersion", PolicyArn=arn, VersionId=policy["DefaultVersionId"]
        )
        return _readable(version["PolicyVersion"]["Document"], arn)

    async def _ask(self, account: str, operation: str, **parameters: str) -> dict[str, Any]:
        return await self._backend.ask(account, IAM_REGION, "iam", operation, parameters)


def _readable(document: str | Mapping[str, Any], what: str) -> Policy:
    """IAM hands documents out percent-encoded; one that cannot be read grants nothing."""
    try:
        return parse_policy(json.loads(unquote(document)) if isinstance(document, str) else document)
    except (PolicyError, ValueError) as error:
        _log.warning("%s cannot be read and grants nothing: %s", what, error)
        return _NOTHING
