"""Something of the fleet that is left, and all of it together as the proof's outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

Read = Callable[[], bool]
"""Whether it is still there."""


@dataclass(frozen=True, slots=True, order=True)
class Leftover:
    """Something of the fleet that exists; `found_by` says which list it was in."""

    account_id: str
    region: str
    kind: str
    name: str
    arn: str
    found_by: str

    def __str__(self) -> str:
        where = " ".join(part for part in (self.account_id, self.region) if part)
        return f"{where}: {self.kind} {self.name} (found by {self.found_by}; {self.arn})"


Hit = tuple[Leftover, Read]


@dataclass(frozen=True, slots=True)
class Proof:
    """What is left, what was kept on purpose, and where nobody could look, as sentences.

    `is_complete` says that all accounts and regions that the fleet's file names could be looked into. Others may be
    closed by policy, and then have nothing of the fleet either; accounts of an organisation's units need not let
    anybody in.
    """

    left: tuple[Leftover, ...]
    kept: tuple[Leftover, ...] = ()
    not_looked: tuple[str, ...] = ()
    is_complete: bool = True

    @property
    def is_clean(self) -> bool:
        """Nothing is left; where nobody could look, nothing is proved."""
        return not self.left and self.is_complete

    def document(self) -> dict[str, Any]:
        """As it is written for machines."""
        return {
            "clean": self.is_clean,
            "complete": self.is_complete,
            "left": [asdict(each) for each in self.left],
            "kept": [asdict(each) for each in self.kept],
            "not_looked": list(self.not_looked),
        }

    def text(self) -> list[str]:
        """For people, the outcome last."""
        lines = [f"left: {each}" for each in self.left]
        lines += [f"kept on purpose: {each}" for each in self.kept]
        lines += [f"not looked: {each}" for each in self.not_looked]
        if self.left:
            return [*lines, f"{len(self.left)} things of the fleet are left"]
        end = "nothing of the fleet is left in any account or region"
        return [*lines, f"{end} that could be looked into" if self.not_looked else end]
