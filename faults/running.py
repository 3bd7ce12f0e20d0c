"""Carries out faults side by side; importing this fills the table of faults."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from faults import processes, receiving, report, world
from faults.fault import FAULTS, Fault, Plan, carry_out
from faults.stage import Verdict

MODULES: Final = (receiving, processes, world)


def run(chosen: Sequence[Fault], plan: Plan, at_once: int = 1) -> list[Verdict]:
    """The verdicts on faults, some of them carried out side by side; each has a process and a chance of its own."""
    plans = [Plan(plan.for_s, plan.times, random.Random(plan.chance.random())) for _ in chosen]
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(_one, [one.name for one in chosen], plans))


def _one(name: str, plan: Plan) -> Verdict:
    verdict = asyncio.run(carry_out(FAULTS[name], plan))
    print(report.line(verdict), file=sys.stderr, flush=True)
    return verdict
