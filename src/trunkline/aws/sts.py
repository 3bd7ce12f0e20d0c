"""AWS Security Token Service: temporary credentials for a role, and why they were not given.

Speaks the Query API (form in, XML out) of version 2011-06-15 to the regional endpoint.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from trunkline.aws import explain, explain_sts, sigv4
from trunkline.aws.clock import ServerClock
from trunkline.aws.keys import Credentials
from trunkline.errors import CredentialsError, FetchError
from trunkline.net.client import Client
from trunkline.net.message import Request, Response, parse_http_date

DEFAULT_DURATION_S: Final = 3600
_TIMEOUT_S = 15.0
_MAX_ANSWER_BYTES = 256 * 1024
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eusc-": "amazonaws.eu",
}
_ROLE = "assume role"
_WEB = "web identity"
_SELF = "credentials"


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


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """Whom AWS takes us for."""

    arn: str
    account: str


class Sts:
    """STS as seen from one region; `clock` is what requests are signed with, and is told what STS says of the time."""

    def __init__(
        self,
        client: Client,
        *,
        region: str,
        environment: Mapping[str, str],
        clock: ServerClock | None = None,
    ) -> None:
        self._client = client
        self._region = region
        self.url = endpoint(region, environment)
        self._clock = clock or ServerClock()

    async def caller_identity(self, credentials: Credentials) -> CallerIdentity:
        """Whose `credentials` these are. Needs no permission; raises CredentialsError, hop `credentials`."""
        asked_at = self._clock.now()
        response = await self._ask({"Action": "GetCallerIdentity"}, _SELF, credentials)
        if response.status != 200:
            refusal = _refusal(response, asked_at)
            explainer = explain_sts.StsExplainer(refusal, credentials, self._region)
            what = f"STS in {self._region} does not take the credentials"
            raise _refused(what, explainer.caller_identity(), _SELF)
        try:
            found = _leaves(response.body)
            return CallerIdentity(found["Arn"], found["Account"])
        except (KeyError, ValueError) as error:
            what = f"what answered at {self.url} is not STS: {error}. Check AWS_ENDPOINT_URL"
            raise CredentialsError(what, hop=_SELF) from None

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
        asked_at = self._clock.now()
        response = await self._ask(form, _ROLE, credentials)
        if response.status != 200:
            refusal = _refusal(response, asked_at)
            explainer = explain_sts.StsExplainer(refusal, credentials, self._region)
            explanation = explainer.assume_role(role_arn, external_id=bool(external_id))
            raise _refused(f"cannot assume {role_arn}", explanation, _ROLE)
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
        asked_at = self._clock.now()
        response = await self._ask(form, _WEB)
        if response.status != 200:
            refusal = _refusal(response, asked_at)
            explanation = explain.Explanation(refusal.said, explain_sts.web_identity(refusal, role_arn))
            raise _refused(f"cannot assume {role_arn} with a web identity", explanation, _WEB)
        return _credentials(response, _WEB, f"web identity as {role_arn}")

    async def _ask(
        self, form: Mapping[str, str], hop: str, credentials: Credentials | None = None
    ) -> Response:
        content = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        body = urlencode({**form, "Version": "2011-06-15"}).encode()
        request = Request("POST", self.url, content, body)
        try:
            if credentials is not None:
                at = datetime.fromtimestamp(self._clock.now(), UTC)
                request = sigv4.sign(request, credentials, region=self._region, service="sts", at=at)
            return await self._clock.timed(
                self._client.exchange(request, timeout_s=_TIMEOUT_S, max_body_bytes=_MAX_ANSWER_BYTES)
            )
        except FetchError as error:
            found = explain_sts.unreachable_sts(self._region, error)
            text = f"STS gave no answer: {found.said}. {found.why}"
            raise CredentialsError(text, hop=hop, said=found.said, change=found.change) from error


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


def _refusal(response: Response, asked_at: float) -> explain_sts.Refusal:
    """What STS said to a request signed at `asked_at`, in epoch seconds."""
    try:
        found = _leaves(response.body)
    except ValueError:
        found = {}
    code, message = found.get("Code", ""), explain.quoted(found.get("Message", ""))
    date = parse_http_date(response.headers.get("date", ""))
    said = f"«{message}» ({code})" if code else response.status_line
    return explain_sts.Refusal(said, code, message, 0.0 if date is None else asked_at - date)


def _refused(what: str, explanation: explain.Explanation, hop: str) -> CredentialsError:
    text = f"{what}: AWS says {explanation.said}. {explain.sentence(explanation.why)}"
    return CredentialsError(text, hop=hop, said=explanation.said, change=explanation.change)
