"""`python -m bench`: measure Trunkline's collector and its peers. Exit code 0 whatever the figures are; 2 for wrong usage."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench import chart, floor, queue_cost, report
from bench.collectors import TRUNKLINE, Collector, kernel, trunkline
from bench.measure import Run, RunFailedError, run
from bench.peers import BUILT, Missing, built, debian
from bench.scenarios import FLOORS, SCENARIOS, Scenario, chosen

DOCUMENT: Final = Path("docs/performance.md")
CHART: Final = Path("docs/images/performance.svg")
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    scenarios = chosen(options.scenario, quick=options.quick)
    collectors, missing = _collectors(options)
    rounds = options.rounds or (1 if options.quick else 3)
    results = report.Results(_about(options, rounds), collectors, missing, scenarios, {}, [])
    gc.disable()  # a pause here would be a pause of every target; what there is of cycles is small
    try:
        asyncio.run(_measure(results, rounds))
    except KeyboardInterrupt:
        results.failures.append("interrupted: what follows is not complete")
    sys.stdout.write(report.text(results) + "\n")
    if options.json:
        options.json.write_text(json.dumps(report.document(results), indent=1) + "\n")
    if options.docs:
        write_documents(results)
    return 0


def _parser() -> argparse.ArgumentParser:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few scenarios, short, one round: under 3 minutes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--docs", action="store_true", help=f"write tables and chart into {DOCUMENT}")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each collector runs (3; quick: 1)")
    parser.add_argument("--scenario", action="append", default=[], choices=names, help="only these loads")
    parser.add_argument(
        "--collector", action="append", default=[], metavar="NAME", help="only these collectors"
    )
    parser.add_argument(
        "--build-peers",
        action="store_true",
        help=f"build {', '.join(BUILT)} from their Go modules into the user's cache (minutes)",
    )
    return parser


def _collectors(options: argparse.Namespace) -> tuple[list[Collector], list[Missing]]:
    """Whom to measure, Trunkline first, and who is missing."""
    found: list[Collector | Missing] = [trunkline(), *debian()]
    if options.build_peers or not options.quick or set(options.collector) & set(BUILT):
        found += built(build=options.build_peers)
    else:
        found += [Missing(name, "left out of a quick run") for name in BUILT]
    wanted = set(options.collector) or {one.name for one in found}
    unknown = wanted - {one.name for one in found}
    if unknown:
        names = ", ".join(one.name for one in found)
        raise SystemExit(f"bench: no collector {', '.join(sorted(unknown))}; there are {names}")
    return (
        [one for one in found if isinstance(one, Collector) and one.name in wanted],
        [one for one in found if isinstance(one, Missing) and one.name in wanted],
    )


async def _measure(results: report.Results, rounds: int) -> None:
    """Every collector in turn, round after round, so that a machine that is busy for a while is so for all."""
    for scenario in results.scenarios:
        runs = results.runs.setdefault(scenario.name, [])
        if scenario.name in FLOORS:
            results.floors.append(await floor.measure(scenario))
            await _queue_cost(results, scenario, rounds)
        for number in range(1, rounds + 1):
            tries = [_try(results, scenario, collector, number) for collector in results.collectors]
            if scenario.together:
                runs += [found for found in await asyncio.gather(*tries) if found]
                continue
            for one in tries:
                found = await one
                runs += [found] if found else []


async def _queue_cost(results: report.Results, scenario: Scenario, rounds: int) -> None:
    if results.about["quick"] or TRUNKLINE not in {one.name for one in results.collectors}:
        return
    try:
        results.queues.append(await queue_cost.measure(scenario, rounds))
    except RunFailedError as error:
        results.failures.append(f"{scenario.name}, the queue's cost: {error}")


async def _try(results: report.Results, scenario: Scenario, collector: Collector, number: int) -> Run | None:
    try:
        found = await run(scenario, collector, number)
    except RunFailedError as error:
        results.failures.append(f"{scenario.name}, round {number}: {error}")
        sys.stderr.write(f"bench: {results.failures[-1]}\n")
        return None
    sys.stderr.write(
        f"bench: {scenario.name} {number} {collector.title}: {found.cpu_ns_per_sample:,.0f} ns per sample, "
        f"{found.samples_delivered:,} of {found.samples_served:,} samples\n"
    )
    return found


def _about(options: argparse.Namespace, rounds: int) -> dict[str, Any]:
    shown = [*(["--quick"] if options.quick else []), *(["--build-peers"] if options.build_peers else [])]
    shown += [f"--scenario {name}" for name in options.scenario]
    shown += [f"--collector {name}" for name in options.collector]
    shown += [f"--rounds {options.rounds}"] if options.rounds else []
    arguments = f" ARGS={shlex.quote(' '.join(shown))}" if shown else ""
    wanted = os.environ.get("TRUNKLINE_KERNEL")
    setting = f"TRUNKLINE_KERNEL={shlex.quote(wanted)} " if wanted else ""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"{setting}make bench{arguments}",
        "rounds": rounds,
        "quick": options.quick,
        "kernel": kernel(),
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
            "python": platform.python_version(),
        },
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def write_documents(results: report.Results) -> None:
    """Put tables between the document's markers and draw the chart beside it."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{report.markdown(results)}\n{END}{after}")
    CHART.write_text(chart.svg(results))


if __name__ == "__main__":
    sys.exit(main())
