"""Signs requests with AWS Signature Version 4, with refreshed credentials of the standard chain or of a role."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trunkline.component.settings import setting

if TYPE_CHECKING:
    from trunkline.component.contract import Context, Extension


@dataclass(frozen=True, kw_only=True)
class AssumeRoleConfig:
    """The role assumed before signing."""

    arn: str = setting(default="", doc="ARN of the role.")
    sts_region: str = setting(default="", doc="Region of the STS endpoint asked; else the signing region.")
    session_name: str = setting(default="", doc="Name of the session in the role's account.")
    external_id: str = setting(default="", doc="External id that the role's trust policy asks for.")


@dataclass(frozen=True, kw_only=True)
class SigV4AuthConfig:
    """Signs the requests of exporters that name it as their authenticator."""

    region: str = setting(default="", doc="Signing region; else inferred from the host name.")
    service: str = setting(default="", doc="Signing service name; else inferred from the host name.")
    assume_role: AssumeRoleConfig = setting(
        default_factory=AssumeRoleConfig, doc="Role assumed before signing."
    )

    def check(self) -> Iterator[tuple[str, str]]:
        if self.assume_role.arn and not self.assume_role.arn.startswith("arn:"):
            yield (
                "assume_role::arn",
                f"{self.assume_role.arn!r} is not a role's ARN (arn:aws:iam::<account>:role/…)",
            )

    def build(self, context: Context) -> Extension:
        from trunkline.component.signing import Signer  # noqa: PLC0415 (once, when used)

        role = self.assume_role
        return Signer.of(
            context,
            self.region,
            self.service,
            role_arn=role.arn,
            sts_region=role.sts_region,
            external_id=role.external_id,
            session_name=role.session_name,
        )
