"""What a refusal of STS means and what to do about it.

Sources: IAM user guide, "Troubleshoot access denied error messages" and "Cross-account policy evaluation logic"; STS
API reference, "Common errors".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from trunkline.aws.explain import (
    TO_TRUST,
    UNTRUSTED,
    Explanation,
    account_of,
    allow,
    is_clock,
    role_of,
    trust,
)
from trunkline.aws.keys import Credentials

_MAX_SKEW_S: Final = 300.0
_ROLE_ARN: Final = re.compile(r"arn:[\w-]+:iam::\d{12}:role/(?:\S+/)?(?P<name>[^/\s]+)")
_CALLER: Final = re.compile(r"User: (arn:\S+)")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What STS answered instead of what it was asked for.

    `skew_s` is the time the request was signed with less that of the answer.
    """

    said: str
    code: str
    message: str
    skew_s: float = 0.0

    @property
    def is_clock(self) -> bool:
        """Whether this machine's clock is the likely cause; STS takes 5 minutes."""
        return is_clock(f"{self.message} {self.code}") or abs(self.skew_s) > _MAX_SKEW_S


def unreachable_sts(region: str, error: object) -> Explanation:
    """There was no answer of STS at all."""
    if "certificate" in str(error):
        return Explanation(str(error), UNTRUSTED, TO_TRUST)
    why = (
        f"Check the region ({region}) and that there is a way to STS from here: a NAT gateway, a public address, or "
        f"the VPC endpoint com.amazonaws.{region}.sts"
    )
    change = (
        (
            f"a way from this network to STS in {region}: the VPC endpoint com.amazonaws.{region}.sts with private DNS "
            "and a security group that lets port 443 in, or a NAT gateway"
        ),
        f"if {region} is not the region meant: aws_auth::region, or region or assume_role::sts_region of sigv4auth",
    )
    return Explanation(str(error), why, change)


class StsExplainer:
    """Explains refusals of STS in `region` to whoever asked with `credentials`."""

    def __init__(self, refusal: Refusal, credentials: Credentials, region: str) -> None:
        self._refusal = refusal
        self._key = (
            f"the access key {credentials.access_key_id} (from {credentials.source or 'an unnamed source'})"
        )
        match = _CALLER.match(refusal.message)
        self.caller = match[1] if match else ""
        self._named_caller = (
            self.caller or f"the caller (key {credentials.access_key_id}, from {credentials.source})"
        )
        self._region = region

    def caller_identity(self) -> Explanation:
        """Why GetCallerIdentity failed, which needs no permission."""
        return self._of_credentials() or Explanation(self._refusal.said, self._other())

    def assume_role(self, role_arn: str, *, external_id: bool) -> Explanation:
        """Why AssumeRole failed; `external_id` says whether one was sent."""
        if self._refusal.code == "AccessDenied":
            return self._denied(role_arn, external_id=external_id)
        if self._refusal.code == "ValidationError":
            why = "check role_arn, external_id and session_name"
            return Explanation(self._refusal.said, why, (f"role_arn: {role_arn}",))
        return self._of_credentials() or Explanation(self._refusal.said, self._other())

    def _of_credentials(self) -> Explanation | None:
        """What is wrong with the credentials, the clock or the region, whatever was asked for."""
        said, code = self._refusal.said, self._refusal.code
        if code in {"ExpiredToken", "ExpiredTokenException"}:
            why = f"the session of {self._key} has expired; a new one is fetched from there"
            return Explanation(said, why, (f"renew {self._key}",))
        if code == "InvalidClientTokenId":
            return Explanation(said, self._unknown(), (f"replace {self._key} by one that exists",))
        if code in {"SignatureDoesNotMatch", "RequestExpired"}:
            return self._mismatch()
        if code == "RegionDisabledException":
            return self._disabled()
        return None

    def _unknown(self) -> str:
        return (
            f"AWS does not know {self._key} in {self._region}: it was deleted or switched off, its session token is "
            "missing or mistyped, or it belongs to another partition or to a region that is not enabled"
        )

    def _disabled(self) -> Explanation:
        why = (
            f"STS is not activated in {self._region} for the account asked: activate it there (IAM, Account "
            "settings), or set sts_region to a region where it is"
        )
        change = (
            f"in that account: IAM, Account settings, Security Token Service: activate {self._region}",
            "or in the configuration: assume_role::sts_region of sigv4auth, a region where STS is activated",
        )
        return Explanation(self._refusal.said, why, change)

    def _mismatch(self) -> Explanation:
        refusal = self._refusal
        if refusal.is_clock:
            skew = f" by {refusal.skew_s:+.0f}s" if abs(refusal.skew_s) > 1 else ""
            why = f"the clock of this machine is off{skew}: AWS takes 5 minutes; set it right (chrony, NTP)"
            return Explanation(refusal.said, why, ("the clock of this machine",))
        if "scoped" in refusal.message:
            why = (
                f"the request was signed for {self._region}, which is not the region of the endpoint asked: check the "
                "region, and AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL"
            )
            return Explanation(refusal.said, why, ("AWS_ENDPOINT_URL_STS (leave it unset), or the region",))
        why = f"the secret of {self._key} is not the one that AWS has for it: check it for typing errors"
        return Explanation(refusal.said, why, (f"the secret of {self._key}",))

    def _denied(self, role_arn: str, *, external_id: bool) -> Explanation:
        """Across accounts AWS says one sentence for all causes; both policies have to allow."""
        message, caller = self._refusal.message, self._named_caller
        ours = f"the identity policy of {caller} lacks sts:AssumeRole on {role_arn}"
        theirs = f"the trust policy of {role_arn} does not name {caller} (or there is no such role)"
        external = (
            f"the trust policy of {role_arn} asks for another external id than the one sent"
            if external_id
            else f"the trust policy of {role_arn} asks for an external id and none was sent (set external_id)"
        )
        said = self._refusal.said
        if "explicit deny" in message:
            why = f"a policy denies it explicitly; look for a Deny that covers sts:AssumeRole on {role_arn}"
            return Explanation(said, why, self._where_denied(role_arn))
        if "no identity-based policy" in message:
            return Explanation(said, ours, self._own_policy(role_arn))
        their_change = self._their_trust(role_arn, external_id=external_id)
        if "no resource-based policy" in message:
            return Explanation(said, f"either {theirs}, or {external}", their_change)
        change = (*self._own_policy(role_arn), *their_change, *self._to_tell_which(role_arn))
        return Explanation(said, f"either {ours}; or {theirs}; or {external}", change)

    def _own_policy(self, role_arn: str) -> tuple[str, ...]:
        return (f"in the identity policy of {self._asker}: {allow('sts:AssumeRole', role_arn)}",)

    def _path_untold(self) -> tuple[str, ...]:
        if self._asker == self.caller or not self.caller:
            return ()
        return (
            f"{self._asker} is written without a path, which AWS does not tell: add it if the role has one",
        )

    def _their_trust(self, role_arn: str, *, external_id: bool) -> tuple[str, ...]:
        sent = (
            "an external id was sent: its value must be the one of the condition sts:ExternalId there"
            if external_id
            else "none was sent: if the trust has a condition sts:ExternalId, set assume_role::external_id of sigv4auth"
        )
        return (
            f"in the trust policy of {role_arn}: {trust(self._asker, external_id=external_id)}",
            f"there, as to the external id: {sent}",
            *self._path_untold(),
            f"if there is no such role: the name or account ({account_of(role_arn)}) in the configuration's role ARN",
        )

    def _where_denied(self, role_arn: str) -> tuple[str, ...]:
        kind = next(
            (kind for kind in _POLICY_KINDS if kind in self._refusal.message), "identity or trust policy"
        )
        whose = role_arn if kind == "resource-based policy" else self._asker
        return (f"the statement with Effect Deny in a {kind} of {whose}, or of its organization",)

    def _to_tell_which(self, role_arn: str) -> tuple[str, ...]:
        match = _ROLE_ARN.fullmatch(role_arn)
        name = match["name"] if match else role_arn
        return (
            (
                "AWS does not say which of these it is. To see, as an administrator of account "
                f"{account_of(self._asker) or 'of the caller'}: aws iam simulate-principal-policy --policy-source-arn "
                f"{self._asker} --action-names sts:AssumeRole --resource-arns {role_arn}"
            ),
            f"and of account {account_of(role_arn)}: aws iam get-role --role-name {name}",
        )

    @property
    def _asker(self) -> str:
        return role_of(self.caller) if self.caller else "the caller"

    def _other(self) -> str:
        if self._refusal.code:
            return "this is tried again"
        return "what answered may not be STS; check AWS_ENDPOINT_URL"


_POLICY_KINDS: Final = (
    "identity-based policy",
    "resource-based policy",
    "permissions boundary",
    "session policy",
    "service control policy",
    "resource control policy",
)


def web_identity(refusal: Refusal, role_arn: str) -> str:
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
    }
    other = "this is tried again" if refusal.code else "what answered may not be STS; check AWS_ENDPOINT_URL"
    return why.get(refusal.code, other)
