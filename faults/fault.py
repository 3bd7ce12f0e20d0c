"""What a fault is, and how one is carried out."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from faults.process import TooSlowError
from faults.stage import INTERVAL_S, Stage, Verdict


@dataclass(frozen=True)
class Plan:
    """How long a fault lasts, how often it is repeated where that makes sense, and what chance decides by."""

    for_s: float
    times: int
    chance: random.Random


Carry = Callable[[Stage, Plan], Awaitable[str | None]]
"""Carries out one fault on a stage where nothing runs yet; returns what more there is to say of what was done."""


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    done: str
    carry: Carry
    sizes: tuple[int, ...] = (40, 40, 120)
    interval_s: float = INTERVAL_S
    needs: Callable[[], str] = lambda: ""
    """Why it cannot be done here; empty if it can."""
    known: str = ""
    """What is known not to hold; it is told, and does not fail."""


FAULTS: Final[dict[str, Fault]] = {}
"""All faults by name, in the order of the table."""


def fault(
    name: str,
    done: str,
    *,
    sizes: tuple[int, ...] = (40, 40, 120),
    interval_s: float = INTERVAL_S,
    needs: Callable[[], str] = lambda: "",
    known: str = "",
) -> Callable[[Carry], Carry]:
    """Enter a function into the table; `done` says what it does."""

    def enter(carry: Carry) -> Carry:
        FAULTS[name] = Fault(name, done, carry, sizes, interval_s, needs, known)
        return carry

    return enter


async def carry_out(one: Fault, plan: Plan) -> Verdict:
    """Do it and reconcile. What goes wrong in a way that was not foreseen is a problem of the verdict."""
    if why := one.needs():
        return Verdict(one.name, one.done, skipped=why)
    async with Stage(one.sizes, one.interval_s) as stage:
        said = None
        try:
            said = await one.carry(stage, plan)
        except (TooSlowError, TimeoutError) as error:
            stage.problems.append(str(error) or repr(error))
        verdict = stage.verdict(one.name, f"{one.done}{'; ' if said else ''}{said or ''}")
    verdict.known = one.known if verdict.problems else ""
    return verdict


def root_on_linux() -> str:
    """Why file systems cannot be mounted here."""
    return "" if sys.platform == "linux" and os.geteuid() == 0 else "needs root, to mount a small file system"
