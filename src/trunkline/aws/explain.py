"""What a refusal of AWS means and what to do about it: the words the running collector logs and the doctor prints.

Sources: IAM user guide, "Troubleshoot access denied error messages" and "Cross-account policy evaluation logic"; AMP
user guide, "Troubleshooting" and "IAM permissions and policies"; STS API reference, "Common errors".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from trunkline.net.message import Response

WRITE_POLICY: Final = "AmazonPrometheusRemoteWriteAccess"
QUERY_POLICY: Final = "AmazonPrometheusQueryAccess"
KEPT: Final = "The samples are kept meanwhile"
_LONGEST_QUOTE: Final = 1000
_SESSION_ARN: Final = re.compile(r"arn:([\w-]+):sts::(\d{12}):assumed-role/([^/]+)/\S+")
_CLOCK: Final = re.compile(
    r"Signature expired|Signature not yet current|RequestExpired|RequestTimeTooSkewed", re.IGNORECASE
)
_REVEALING: Final = re.compile(r"\s*(?:The Canonical String for this request|Authorization=)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something was refused.

    `said` are the words of who refused, `why` what they mean and what to do, in a line, and `change` the same to the
    letter: policy statements, settings, commands.
    """

    said: str
    why: str
    change: tuple[str, ...] = ()


def quoted(text: str) -> str:
    """The words of a refusal, on one line and without what nobody may see.

    After a signature that does not match AWS says what it would have signed, session token included; after a malformed
    one, the whole Authorization header.
    """
    words = " ".join(_REVEALING.split(text, maxsplit=1)[0].split())
    return words if len(words) <= _LONGEST_QUOTE else f"{words[:_LONGEST_QUOTE]}…"


def is_clock(message: str) -> bool:
    """Whether AWS says that a request was signed at the wrong time."""
    return bool(_CLOCK.search(message))


def account_of(arn: str) -> str:
    """The account in an ARN; empty where there is none."""
    parts = arn.split(":")
    return parts[4] if len(parts) > 5 else ""


def role_of(caller: str) -> str:
    """The ARN to name in a policy for whoever `caller` is: of a session its role's, whose path it does not tell."""
    match = _SESSION_ARN.fullmatch(caller)
    return f"arn:{match[1]}:iam::{match[2]}:role/{match[3]}" if match else caller


def allow(action: str, resource: str) -> str:
    """The statement of an identity policy, as JSON."""
    return json.dumps({"Effect": "Allow", "Action": action, "Resource": resource})


def trust(principal: str, *, external_id: bool = False) -> str:
    """The statement of a role's trust policy that lets `principal` assume it, as JSON."""
    kind = "Service" if principal.endswith(".amazonaws.com") else "AWS"
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Principal": {kind: principal},
        "Action": "sts:AssumeRole",
    }
    if external_id:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": "<external_id of this configuration>"}}
    return json.dumps(statement)


def no_credentials() -> tuple[str, ...]:
    """What to change where no credentials are found."""
    return (
        'in ECS, in the task definition: "taskRoleArn": "arn:aws:iam::<account of the task>:role/<role>"',
        f"in the trust policy of that role: {trust('ecs-tasks.amazonaws.com')}",
        "elsewhere: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)",
    )


def sentence(text: str) -> str:
    """`text` with a capital, and a full stop."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


UNTRUSTED: Final = (
    "Who answers there is not trusted: check the authorities, the clock of this machine, and whether a proxy or "
    "--resolve leads elsewhere"
)
TO_TRUST: Final = (
    "trust the authority that signed the certificate: --ca-bundle or AWS_CA_BUNDLE, for an exporter tls::ca_file",
    "or find out who answers in its place: a proxy that opens TLS, a wrong --resolve",
    "if the certificate is said to be expired or not yet valid: the time of this machine (chrony or NTP)",
)

NOT_FOUND: Final = (
    "There is no such workspace there: compare the workspace id, the region in the host name and the account of the "
    f"role that signs. {KEPT}"
)


def forbidden(message: str) -> str:
    """What an answer 401 or 403 of a workspace means to a writer."""
    if "not authorized" in message:
        return (
            "The role that signs may not write to this workspace: give it aps:RemoteWrite on the workspace's ARN, or "
            f"assume the role that has it. {KEPT}"
        )
    if is_clock(message):
        return f"The clock of this machine is wrong: from now on AWS's own time is signed with. {KEPT}"
    if "expired" in message.lower():
        return "The session has expired or the clock is wrong; new credentials are being fetched"
    return (
        "The signature was not accepted: check the region and service it is made for, the credentials and this "
        f"machine's clock. {KEPT}"
    )


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace as its URL names it, and who asks it. `signed_for` is empty for requests without a signature."""

    id: str
    region: str
    signed_for: str = ""
    principal: str = ""

    @property
    def account(self) -> str:
        """The account in which AWS looks for the workspace: that of who signs."""
        return account_of(self.principal)

    @property
    def arn(self) -> str:
        partition = self.principal.split(":")[1] if self.account else "aws"
        return f"arn:{partition}:aps:{self.region}:{self.account or '<account>'}:workspace/{self.id}"

    @property
    def writer(self) -> str:
        """Whose policy has to allow writing."""
        return role_of(self.principal) or "the role that signs"

    def explain(self, status: int, message: str) -> Explanation:
        """Why a request to write was refused with 401, 403 or 404."""
        if status == 404:
            return Explanation(message, NOT_FOUND, self._to_be_found())
        return Explanation(message, forbidden(message), self._to_be_allowed(message))

    def _to_be_found(self) -> tuple[str, ...]:
        account = self.account or "of who signs"
        return (
            (
                f"AWS looked for {self.id or 'the workspace'} in account {account}, region {self.region}; whether it is "
                f"there: aws amp list-workspaces --region {self.region} as a user of that account"
            ),
            "the workspace id or the region in the exporter's endpoint",
            f"or the role: one of the account that owns the workspace (now of {account}), as role_arn",
        )

    def _to_be_allowed(self, message: str) -> tuple[str, ...]:
        if "explicit deny" in message:
            return (f"the statement with Effect Deny that covers aps:RemoteWrite on {self.arn}",)
        if "not authorized" in message:
            return (
                f"in the identity policy of {self.writer}: {allow('aps:RemoteWrite', self.arn)}",
                f"or attach to it the managed policy arn:aws:iam::aws:policy/{WRITE_POLICY}",
            )
        if "scoped" in message:
            return (
                (
                    f"sign for {self.region}, the region in the endpoint, not for {self.signed_for}: aws_auth::region, or "
                    "region of sigv4auth (both may be left out)"
                ),
                "and for the service aps",
            )
        if "Missing Authentication Token" in message:
            return (
                "extensions: {sigv4auth: {}}",
                "service: {extensions: [sigv4auth]}",
                "and in the exporter: auth: {authenticator: sigv4auth}",
            )
        return _CREDENTIALS_AT_FAULT


_CREDENTIALS_AT_FAULT: Final = (
    "the credentials: a key that exists, its own secret, and the session token if it is temporary",
)


def message_of(response: Response) -> str:
    """What the body of a workspace's answer says, fit to be quoted; the status in words where it says nothing."""
    text = response.body[:8192].decode(errors="replace").strip()
    try:
        document = json.loads(text)
    except ValueError:
        return quoted(text) or response.reason
    if isinstance(document, dict):
        text = str(document.get("message") or document.get("Message") or text)
    return quoted(text)
