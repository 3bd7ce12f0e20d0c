"""`python -m faults.outage --for 30m --rate 20000`: how long a backlog takes when the receiver is back.

Exit code 0 if everything arrived in order and in time, 1 if not, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from faults import report
from faults.process import PATIENCE_S, until
from faults.site import Look, Site

MOST_S: Final = 120.0
"""How long half an hour of backlog may take."""
LIVE_S: Final = 20.0
"""How long all is well before."""
TARGETS: Final = 20
MIB: Final = 1024 * 1024


@dataclass
class Outage:
    """What came of it. Sizes are bytes, counts are samples, times seconds."""

    for_s: float
    rate: int
    backlog: int = 0
    back_s: float = 0.0
    """From the moment the receiver listens until the first request is taken."""
    caught_up_s: float = 0.0
    """From that moment until what is stored is as new as before."""
    fastest: float = 0.0
    """Samples a second stored, over the best ten seconds."""
    rss_before: int = 0
    rss_during: int = 0
    rss_peak: int = 0
    queue_peak: int = 0
    cpu_s: float = 0.0
    """CPU time of the collector while it caught up."""
    problems: list[str] = field(default_factory=list)


async def carry_out(for_s: float, rate: int, live_s: float = LIVE_S) -> Outage:
    """The receiver is gone for so long at `rate` samples a second, then back and keeping up."""
    result = Outage(for_s, rate)
    async with Site(TARGETS, rate // TARGETS) as site:
        await site.start()
        await until(lambda: site.tally.samples, "the first samples to be stored")
        await asyncio.sleep(live_s)
        result.rss_before = site.looks[-1].rss
        await site.endpoint.close()
        gone_s = time.monotonic()
        await asyncio.sleep(for_s)
        await _come_back(site, result, gone_s)
        await asyncio.sleep(live_s / 2)
        await site.collector.looked()
        code = await site.stop()
        if code:
            result.problems.append(f"the collector ended with {code}")
        result.rss_peak = site.collector.looks.rss
        result.problems += _reconciled(site)
    return result


async def _come_back(site: Site, result: Outage, gone_s: float) -> None:
    before = site.tally.samples
    result.backlog = int(site.collector.value("trunkline_queue_samples"))
    await site.endpoint.open()
    open_s = time.monotonic()
    result.rss_during = max(look.rss for look in site.looks if look.at_s > gone_s)
    await until(lambda: site.tally.samples > before, "the first request to be taken", 60)
    result.back_s = time.monotonic() - open_s
    await until(site.caught_up, "the backlog to be delivered", max(PATIENCE_S, result.for_s))
    result.caught_up_s = time.monotonic() - open_s
    looks = [look for look in site.looks if look.at_s >= open_s]
    result.cpu_s = looks[-1].cpu_s - looks[0].cpu_s
    result.fastest = max(_rates(looks), default=0.0)
    result.queue_peak = max(look.queue_bytes for look in site.looks)
    if result.caught_up_s > MOST_S:
        result.problems.append(f"catching up took {result.caught_up_s:.0f} s")


def _rates(looks: Sequence[Look]) -> Iterator[float]:
    """Samples a second over each ten seconds, or over all if there are fewer."""
    step = min(20, len(looks) - 1)
    if step < 1:
        return
    for earlier, later in zip(looks, looks[step:], strict=False):
        yield (later.stored - earlier.stored) / (later.at_s - earlier.at_s)


def _reconciled(site: Site) -> Iterator[str]:
    balance = site.tally.reconcile(site.cut_off)
    yield from site.tally.violations[:5]
    yield from balance.disagreements()
    refused = site.collector.refused()
    if balance.missing or balance.wrong or refused:
        yield f"{balance.missing} samples are missing, {dict(refused)} refused, {balance.wrong} counts are wrong"


def rows(one: Outage) -> Iterator[tuple[str, str]]:
    """What is told of it."""
    yield "samples that waited", f"{one.backlog:,}"
    yield (
        "on the disk at most",
        f"{one.queue_peak / MIB:,.0f} MiB, {one.queue_peak / max(1, one.backlog):.1f} bytes each",
    )
    yield "until the receiver was asked again", f"{one.back_s:.1f} s"
    yield "until everything was delivered", f"{one.caught_up_s:.0f} s"
    yield (
        "fastest ten seconds",
        f"{one.fastest:,.0f} samples/s, {one.fastest / one.rate:.1f} times the live rate",
    )
    yield "CPU time of the collector meanwhile", f"{one.cpu_s:.1f} s"
    yield (
        "memory before, during, at most",
        f"{one.rss_before / MIB:.0f}, {one.rss_during / MIB:.0f}, {one.rss_peak / MIB:.0f} MiB",
    )
    yield "missing, out of order", "; ".join(one.problems) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m faults.outage", description=__doc__)
    parser.add_argument(
        "--for", dest="for_s", type=report.seconds, default=1800.0, metavar="30m", help="how long"
    )
    parser.add_argument("--rate", type=int, default=20_000, metavar="N", help="samples a second (20000)")
    parser.add_argument("--write", action="store_true", help=f"put what came of it into {report.DOCUMENT}")
    options = parser.parse_args(arguments)
    found = asyncio.run(carry_out(options.for_s, options.rate))
    for name, value in rows(found):
        print(f"outage: {name}: {value}")
    if options.write:
        given = f"python -m faults.outage --for {options.for_s:g}s --rate {options.rate}"
        report.put("outage", report.two_columns("outage", rows(found), given))
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
