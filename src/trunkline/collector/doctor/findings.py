"""What the doctor finds out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from trunkline.errors import CredentialsError


class Outcome(StrEnum):
    """How a hop is. A note is worth knowing and keeps nothing from being delivered."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One hop: what was found there, in whose words it is known, and what to change where it is wrong."""

    hop: str
    outcome: Outcome
    text: str
    said: str = ""
    change: tuple[str, ...] = ()

    @classmethod
    def of(cls, hop: str, error: CredentialsError) -> Finding:
        """The same as the running collector logs it."""
        return cls(hop, Outcome.WRONG, str(error), error.said, error.change)

    def veiled(self, secrets: Iterable[str]) -> Finding:
        """The same without any of `secrets`, whoever repeated them to us."""

        def veil(text: str) -> str:
            for secret in secrets:
                text = text.replace(secret, "***")
            return text

        return Finding(
            self.hop, self.outcome, veil(self.text), veil(self.said), tuple(map(veil, self.change))
        )

    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "hop": self.hop,
            "outcome": self.outcome.value,
            "text": self.text,
            "said": self.said,
            "change": list(self.change),
        }


@dataclass(slots=True)
class Chain:
    """The hops of one exporter as far as they were walked; `destination` is its URL without a query."""

    exporter: str
    destination: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def broken(self) -> Finding | None:
        """The hop at which the way ends; None when samples arrive."""
        return next((one for one in self.findings if one.outcome is Outcome.WRONG), None)

    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "exporter": self.exporter,
            "destination": self.destination,
            "ok": self.broken is None,
            "hops": [one.as_data() for one in self.findings],
        }
