"""The container credentials endpoint: sessions of a task's role, as the ECS agent hands them out."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

log = logging.getLogger(__name__)

IssueSession = Callable[[str, str], Awaitable[Mapping[str, Any]]]
"""Role ARN, session name → `AccessKeyId`, `SecretAccessKey`, `Token` or `SessionToken`, `Expiration` (datetime or
ISO 8601 text). Raises when the role may not be assumed by `ecs-tasks.amazonaws.com`."""

RENEW_BEFORE: Final = timedelta(minutes=20)
"""SDKs begin to ask for new credentials 15 minutes before the end; then they must be there. Sessions shorter than
four times that are renewed after three quarters of their life."""


def unable_to_assume(role_arn: str) -> str:
    """ECS's words when a role of a task cannot be assumed."""
    return (
        f"ECS was unable to assume the role '{role_arn}' that was provided for this task. Please verify that the role "
        "being passed has the proper trust relationship and permissions and that your IAM user has permissions to "
        "pass this role."
    )


class ContainerCredentials:
    """Credentials of one task; `path` is where its containers ask for them."""

    def __init__(self, issue: IssueSession, role_arn: str, session_name: str) -> None:
        self.role_arn = role_arn
        self.path = f"/v2/credentials/{uuid.uuid4()}"
        self._issue = issue
        self._session_name = session_name
        self._current: dict[str, str] | None = None
        self._renew_at = self._ends_at = datetime.min.replace(tzinfo=UTC)
        self._renewing = asyncio.Lock()

    async def current(self) -> dict[str, str]:
        """The session: `RoleArn`, `AccessKeyId`, `SecretAccessKey`, `Token`, `Expiration`.

        Raises what `issue` raises when there is none that has not expired.
        """
        async with self._renewing:
            now = datetime.now(UTC)
            if self._current is None or now >= self._renew_at:
                try:
                    self._keep(await self._issue(self.role_arn, self._session_name), now)
                except Exception as error:
                    if self._current is None or now >= self._ends_at:
                        raise
                    log.warning("a session of %s was not renewed: %s", self.role_arn, error)
            assert self._current is not None
            return self._current

    def _keep(self, session: Mapping[str, Any], now: datetime) -> None:
        ends = session["Expiration"]
        if isinstance(ends, str):
            ends = datetime.fromisoformat(ends)
        self._ends_at = ends
        self._renew_at = ends - min(RENEW_BEFORE, (ends - now) / 4)
        self._current = {
            "RoleArn": self.role_arn,
            "AccessKeyId": session["AccessKeyId"],
            "SecretAccessKey": session["SecretAccessKey"],
            "Token": session.get("Token") or session["SessionToken"],
            "Expiration": ends.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    async def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON body for a GET below `/v2/credentials`, in the ECS agent's words."""
        if path.rstrip("/") == "/v2/credentials":
            return _error(400, "NoIdInRequest", "No Credential ID in the request")
        if path != self.path:
            return not_found()
        try:
            return 200, await self.current()
        except Exception as error:  # noqa: BLE001 (any refusal means there are none)
            log.warning("no session of %s: %s", self.role_arn, error)
            return _error(503, "CredentialsUninitialized", "Credentials uninitialized for ID")


def not_found() -> tuple[int, dict[str, Any]]:
    return _error(400, "InvalidIdInRequest", "Credentials not found")


def _error(status: int, code: str, text: str) -> tuple[int, dict[str, Any]]:
    return status, {"code": code, "message": f"CredentialsV2Request: {text}", "HTTPErrorCode": status}
