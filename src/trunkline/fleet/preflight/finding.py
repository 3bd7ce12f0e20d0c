"""One thing that was looked at before a deployment, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning", "note", "not checked", "ok"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at in an account; `region` is empty for what all regions share.

    An `error` will make the deployment fail, a `warning` may; a `note` is good to know.
    """

    severity: Severity
    account_id: str
    region: str
    what: str
    why: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        where = " ".join(part for part in (self.account_id, self.region) if part)
        text = f"{where}: {self.what}" + (f": {self.why}" if self.why else "")
        return text + (f". To do: {self.remedy}" if self.remedy else "")

    def document(self) -> dict[str, str]:
        """As it is written for machines."""
        return asdict(self)
