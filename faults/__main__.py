"""`python -m faults --for 30s`: inject every fault and reconcile.

Exit code 0 if nothing was lost without being told, 1 if something was, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
from collections.abc import Sequence
from typing import Final

from faults import report
from faults.fault import FAULTS, Plan
from faults.running import run

QUICK: Final = (
    *("down", "429", "500", "413", "400, all or nothing", "400, good part stored", "500, then 400"),
    *("dropped after", "everything at random", "random order", "two exporters", "targets fail, too"),
    *(
        "kill -9",
        "SIGTERM while down",
        "SIGSTOP",
        "somebody fills the disk",
        "power goes off",
        "damaged queue",
    ),
    *("damaged cursor", "two on one folder", "exporter renamed"),
)
"""What takes a few seconds and needs no simulator."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    chosen = [FAULTS[name] for name in options.only or (QUICK if options.quick else FAULTS)]
    for_s = options.seconds or (4.0 if options.quick else 20.0)
    times = options.times or (5 if options.quick else 100)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    verdicts = run(chosen, Plan(for_s, times, random.Random(seed)), options.at_once)
    if not options.only:
        command = f"make faults ARGS={shlex.quote(_shown(options, for_s, times, seed))}"
        report.put("faults", report.markdown(verdicts, command))
    print(report.text(verdicts))
    return 0 if all(verdict.good for verdict in verdicts) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some faults, for a few seconds each")
    parser.add_argument(
        "--only", action="append", choices=FAULTS, metavar="NAME", help="this one; may be given again"
    )
    parser.add_argument(
        "--for", dest="seconds", type=report.seconds, metavar="20s", help="how long each fault lasts"
    )
    parser.add_argument("--times", type=int, metavar="N", help="how often a fault of a moment is repeated")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="how many side by side (4)")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat what chance decided")
    return parser


def _shown(options: argparse.Namespace, for_s: float, times: int, seed: int) -> str:
    quick = "--quick " if options.quick else ""
    return f"{quick}--for {for_s:g}s --times {times} --at-once {options.at_once} --seed {seed}"


if __name__ == "__main__":
    sys.exit(main())
