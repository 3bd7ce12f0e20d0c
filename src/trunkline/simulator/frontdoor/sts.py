"""The Security Token Service.

Source: the STS API reference (AssumeRole, GetCallerIdentity) and "Using IAM roles: Role chaining".
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from trunkline.aws.iam import Policy, PolicyError, managed_policy, parse_policy
from trunkline.simulator.frontdoor.authority import Authority
from trunkline.simulator.frontdoor.calls import Answer, Call, Protocol
from trunkline.simulator.frontdoor.errors import AwsError, unknown_operation
from trunkline.simulator.frontdoor.roles import Role
from trunkline.simulator.frontdoor.sessions import Credentials, Identity, Sessions

SHORTEST_S: Final = 900
LONGEST_S: Final = 43_200
CHAINED_S: Final = 3_600
_NAME: Final = r"[\w+=,.@-]*"
_ROLE_ARN: Final = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+")


class Sts:
    """Answers calls to STS."""

    def __init__(self, authority: Authority, sessions: Sessions) -> None:
        self._authority = authority
        self._sessions = sessions

    async def handle(self, call: Call) -> Answer:
        """Answer `call`; raises AwsError, AccessDeniedError or a SignatureError."""
        match call.operation:
            case "GetCallerIdentity":  # needs no permission, and no policy can take it away
                return _answer("GetCallerIdentity", _caller(call.identity))
            case "AssumeRole":
                return _answer("AssumeRole", _assumed(await self._assume_role(call)))
        raise unknown_operation(Protocol.QUERY, "sts")

    async def _assume_role(self, call: Call) -> Credentials:
        parameters = call.parameters
        arn, name = str(parameters.get("RoleArn", "")), str(parameters.get("RoleSessionName", ""))
        lifetime_s = _checked(arn, name, parameters.get("DurationSeconds"))
        policies = tuple(_session_policies(parameters))
        context = {"sts:RoleSessionName": name, "aws:RequestedRegion": call.region}
        if external_id := parameters.get("ExternalId"):
            context["sts:ExternalId"] = str(external_id)
        role = await self._authority.require_assume(call.identity, arn, context)
        _check_limits(lifetime_s, role, call.identity)
        return self._sessions.open(role.arn, role.id, name, lifetime_s, policies or None)


def _checked(arn: str, name: str, duration: Any) -> int:
    """The lifetime asked for, in seconds; raises AwsError for parameters that are not well formed."""
    problems = [*_text_problems("roleSessionName", name, 2, 64, _NAME), *_duration_problems(duration)]
    if len(arn) < 20:
        problems += _text_problems("roleArn", arn, 20, 2048)
    if problems:
        plural = "s" if len(problems) > 1 else ""
        listed = "; ".join(problems)
        raise AwsError("ValidationError", f"{len(problems)} validation error{plural} detected: {listed}")
    if not _ROLE_ARN.fullmatch(arn):
        raise AwsError("ValidationError", f"{arn} is invalid")
    return int(duration or 3600)


def _text_problems(name: str, value: str, shortest: int, longest: int, pattern: str = ".*") -> Iterator[str]:
    failed = f"Value '{value}' at '{name}' failed to satisfy constraint: Member must"
    if len(value) < shortest:
        yield f"{failed} have length greater than or equal to {shortest}"
    if len(value) > longest:
        yield f"{failed} have length less than or equal to {longest}"
    if not re.fullmatch(pattern, value):
        yield f"{failed} satisfy regular expression pattern: {pattern}"


def _duration_problems(duration: Any) -> Iterator[str]:
    failed = f"Value '{duration}' at 'durationSeconds' failed to satisfy constraint: Member must"
    if duration is None:
        return
    if not str(duration).isdigit() or int(duration) < SHORTEST_S:
        yield f"{failed} have value greater than or equal to {SHORTEST_S}"
    elif int(duration) > LONGEST_S:
        yield f"{failed} have value less than or equal to {LONGEST_S}"


def _check_limits(lifetime_s: int, role: Role, identity: Identity) -> None:
    if identity.is_session and lifetime_s > CHAINED_S:
        raise AwsError(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        )
    if lifetime_s > role.max_session_s:
        raise AwsError(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        )


def _session_policies(parameters: Mapping[str, Any]) -> Iterator[Policy]:
    if document := parameters.get("Policy"):
        try:
            yield parse_policy(str(document))
        except PolicyError as error:
            raise AwsError("MalformedPolicyDocument", str(error)) from None
    for name, arn in parameters.items():
        if re.fullmatch(r"PolicyArns\.member\.\d+\.arn", name):
            yield managed_policy(str(arn)) or Policy()


def _caller(identity: Identity) -> str:
    return _elements(Arn=identity.arn, UserId=identity.user_id, Account=identity.account)


def _assumed(made: Credentials) -> str:
    user = _elements(AssumedRoleId=made.identity.user_id, Arn=made.identity.arn)
    keys = _elements(
        AccessKeyId=made.access_key_id,
        SecretAccessKey=made.secret_access_key,
        SessionToken=made.token,
        Expiration=made.expiration,
    )
    return f"<AssumedRoleUser>{user}</AssumedRoleUser><Credentials>{keys}</Credentials>"


def _elements(**texts: str) -> str:
    return "".join(f"<{name}>{escape(text)}</{name}>" for name, text in texts.items())


def _answer(operation: str, result: str) -> Answer:
    request_id = str(uuid.uuid4())
    body = (
        f'<{operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<{operation}Result>{result}</{operation}Result>"
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    )
    return Answer(200, body.encode(), {"Content-Type": "text/xml", "x-amzn-RequestId": request_id})
