"""AWS Security Token Service: temporary credentials for a role, and why they were not given.

Speaks the Query API (form in, XML out) of version 2011-06-15 to the regional endpoint.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from trunkline.aws import sigv4
from trunkline.aws.keys import Credentials
from trunkline.errors import CredentialsError, FetchError
from trunkline.net.client import Client
from trunkline.net.message import Request, Response, parse_http_date

DEFAULT_DURATION_S: Final = 3600
_TIMEOUT_S = 15.0
_MAX_ANSWER_BYTES = 256 * 1024
_MAX_SKEW_S = 300.0
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eusc-": "amazonaws.eu",
}
_CALLER = re.compile(r"User: (arn:\S+)")
_ROLE = "assume role"
_WEB = "web identity"


def endpoint(region: str, environment: Mapping[str, str]) -> str:
    """The URL of STS for `region`; `AWS_ENDPOINT_URL_STS` and `AWS_ENDPOINT_URL` come first, as in AWS's SDKs."""
    if environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        own = environment.get("AWS_ENDPOINT_URL_STS") or environment.get("AWS_ENDPOINT_URL")
        if own:
            return f"{own.rstrip('/')}/"
    domain = next((domain for start, domain in _DOMAINS.items() if region.startswith(start)), "amazonaws.com")
    return f"https://sts.{region}.{domain}/"


def default_session_name() -> str:
    """`trunkline-` and the host's name, in the characters STS takes."""
    return re.sub(r"[^\w+=,.@-]", "-", f"trunkline-{os.uname().nodename}", flags=re.ASCII)[:64]


def parse_expiration(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time such as `2026-11-22T10:54:00Z`; raises ValueError."""
    time_of_day = datetime.fromisoformat(text)
    return (time_of_day if time_of_day.tzinfo else time_of_day.replace(tzinfo=UTC)).timestamp()


def _leaves(document: bytes) -> dict[str, str]:
    """The texts of an XML document's innermost elements, by name without namespace, the first of each.

    Raises ValueError when it is no XML or brings a document type of its own.
    """
    from xml.parsers import expat  # noqa: PLC0415 (only where STS is asked)

    found: dict[str, str] = {}
    texts: list[str] = []

    def refuse(*_: object) -> None:
        raise ValueError("a document type declaration")

    def end(name: str) -> None:
        found.setdefault(name.rpartition(":")[2], "".join(texts).strip())
        texts.clear()

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda _name, _attributes: texts.clear()
    parser.EndElementHandler = end
    parser.CharacterDataHandler = texts.append
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from None
    return found


class Sts:
    """STS as seen from one region; `now` is the clock that requests are signed with, in epoch seconds."""

    def __init__(
        self,
        client: Client,
        *,
        region: str,
        environment: Mapping[str, str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._region = region
        self._url = endpoint(region, environment)
        self._now = now

    async def assume_role(
        self,
        credentials: Credentials,
        role_arn: str,
        *,
        session_name: str,
        external_id: str | None = None,
        duration_s: int = DEFAULT_DURATION_S,
    ) -> Credentials:
        """Credentials of `role_arn`, asked for with `credentials`.

        Temporary credentials can be had for an hour at most this way. Raises CredentialsError, hop `assume role`,
        with what AWS said and what to check.
        """
        form = {
            "Action": "AssumeRole",
            "RoleArn": role_arn,
            "RoleSessionName": session_name,
            "DurationSeconds": str(duration_s),
        }
        if external_id:
            form["ExternalId"] = external_id
        response = await self._ask(form, _ROLE, credentials)
        if response.status != 200:
            refusal = _Refusal(response, self._now())
            text = refusal.of_assume_role(role_arn, credentials, external_id, self._region)
            raise CredentialsError(text, hop=_ROLE)
        return _credentials(response, _ROLE, f"assumed role {role_arn}")

    async def assume_role_with_web_identity(
        self, role_arn: str, token: str, *, session_name: str, duration_s: int = DEFAULT_DURATION_S
    ) -> Credentials:
        """Credentials of `role_arn` for an OpenID Connect token. Raises CredentialsError, hop `web identity`."""
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "RoleArn": role_arn,
            "RoleSessionName": session_name,
            "DurationSeconds": str(duration_s),
            "WebIdentityToken": token,
        }
        response = await self._ask(form, _WEB)
        if response.status != 200:
            raise CredentialsError(_Refusal(response, self._now()).of_web_identity(role_arn), hop=_WEB)
        return _credentials(response, _WEB, f"web identity as {role_arn}")

    async def _ask(
        self, form: Mapping[str, str], hop: str, credentials: Credentials | None = None
    ) -> Response:
        content = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        body = urlencode({**form, "Version": "2011-06-15"}).encode()
        request = Request("POST", self._url, content, body)
        try:
            if credentials is not None:
                at = datetime.fromtimestamp(self._now(), UTC)
                request = sigv4.sign(request, credentials, region=self._region, service="sts", at=at)
            return await self._client.exchange(
                request, timeout_s=_TIMEOUT_S, max_body_bytes=_MAX_ANSWER_BYTES
            )
        except FetchError as error:
            raise CredentialsError(
                f"STS gave no answer: {error}. Check the region ({self._region}) and that there is a way to STS "
                f"from here: a NAT gateway, a public address, or the VPC endpoint com.amazonaws.{self._region}.sts",
                hop=hop,
            ) from error


def _credentials(response: Response, hop: str, source: str) -> Credentials:
    try:
        found = _leaves(response.body)
        return Credentials(
            access_key_id=found["AccessKeyId"],
            secret_access_key=found["SecretAccessKey"],
            session_token=found["SessionToken"],
            expires_at=parse_expiration(found["Expiration"]),
            source=source,
        )
    except (KeyError, ValueError) as error:
        raise CredentialsError(f"STS answered 200 without usable credentials: {error}", hop=hop) from None


class _Refusal:
    """What STS said instead of giving credentials."""

    def __init__(self, response: Response, now: float) -> None:
        try:
            found = _leaves(response.body)
        except ValueError:
            found = {}
        self.code = found.get("Code", "")
        self.message = found.get("Message", "")
        date = parse_http_date(response.headers.get("date", ""))
        self._skew_s = 0.0 if date is None else now - date
        said = f"«{self.message}» ({self.code})" if self.code else response.status_line
        self.said = f"AWS says {said}"

    @property
    def is_clock(self) -> bool:
        """Whether this machine's clock is the likely cause."""
        told = self.message.startswith(("Signature expired", "Signature not yet current"))
        return told or self.code == "RequestExpired" or abs(self._skew_s) > _MAX_SKEW_S

    def of_assume_role(
        self, role_arn: str, credentials: Credentials, external_id: str | None, region: str
    ) -> str:
        """Why AssumeRole failed and what to check."""
        key = f"the access key {credentials.access_key_id} (from {credentials.source or 'an unnamed source'})"
        expired = f"the session of {key} has expired; a new one is fetched from there"
        why = {
            "AccessDenied": self._denied(role_arn, credentials, external_id),
            "ExpiredToken": expired,
            "ExpiredTokenException": expired,
            "InvalidClientTokenId": (
                f"AWS does not know {key} in {region}: it was deleted or switched off, its session token is missing "
                "or mistyped, or it belongs to another partition or to a region that is not enabled"
            ),
            "SignatureDoesNotMatch": self._mismatch(key),
            "RequestExpired": self._mismatch(key),
            "RegionDisabledException": (
                f"STS is not activated in {region} for the account asked: activate it there (IAM, Account settings), "
                "or set sts_region to a region where it is"
            ),
            "ValidationError": "check role_arn, external_id and session_name",
        }.get(self.code, self._other())
        return f"cannot assume {role_arn}: {self.said}. {why[0].upper()}{why[1:]}."

    def of_web_identity(self, role_arn: str) -> str:
        """Why AssumeRoleWithWebIdentity failed and what to check."""
        why = {
            "AccessDenied": (
                f"the trust policy of {role_arn} does not let this token in, or the role does not exist: compare its "
                "Principal (the OIDC provider) and its conditions on aud and sub with the token"
            ),
            "ExpiredTokenException": "the token in the file has expired; whatever writes it has to renew it",
            "InvalidIdentityToken": (
                "the token does not belong to an OIDC provider of the role's account; create the provider there"
            ),
        }.get(self.code, self._other())
        return f"cannot assume {role_arn} with a web identity: {self.said}. {why[0].upper()}{why[1:]}."

    def _denied(self, role_arn: str, credentials: Credentials, external_id: str | None) -> str:
        match = _CALLER.match(self.message)
        caller = (
            match[1] if match else f"the caller (key {credentials.access_key_id}, from {credentials.source})"
        )
        ours = f"the identity policy of {caller} lacks sts:AssumeRole on {role_arn}"
        theirs = f"the trust policy of {role_arn} does not name {caller} (or there is no such role)"
        external = (
            f"the trust policy of {role_arn} asks for another external id than the one sent"
            if external_id
            else f"the trust policy of {role_arn} asks for an external id and none was sent (set external_id)"
        )
        if "explicit deny" in self.message:
            return f"a policy denies it explicitly; look for a Deny that covers sts:AssumeRole on {role_arn}"
        if "no identity-based policy" in self.message:
            return ours
        if "no resource-based policy" in self.message:
            return f"either {theirs}, or {external}"
        return f"either {ours}; or {theirs}; or {external}"

    def _mismatch(self, key: str) -> str:
        if self.is_clock:
            skew = f" by {self._skew_s:+.0f}s" if abs(self._skew_s) > 1 else ""
            return f"the clock of this machine is off{skew}: AWS takes 5 minutes; set it right (chrony, NTP)"
        return f"the secret of {key} is not the one that AWS has for it: check it for typing errors"

    def _other(self) -> str:
        return "this is tried again" if self.code else "what answered may not be STS; check AWS_ENDPOINT_URL"
