"""`python -m faults.soak --for 1h --rate 50000`: faults at random under load, for long; run with `make soak`.

Exit code 0 if every sample is accounted for and memory stays flat, 1 if not, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean, linear_regression
from typing import Final

from faults import report
from faults.crowd import REPORTS, Balance
from faults.endpoint import Mode
from faults.fault import root_on_linux
from faults.process import TooSlowError, until
from faults.site import Look, Site
from faults.smalldisk import filled, small_disk
from faults.stage import HASTY

MIB: Final = 1024 * 1024
TARGETS: Final = 20
DISK: Final = "256m"
"""More than any fault here leaves waiting."""
MOST_RSS: Final = 128 * MIB
MOST_SLOPE: Final = 6 * MIB
"""How much a collector may grow in an hour, where it has lived for ten minutes."""
SETTLED_S: Final = 60.0
"""From when a life's memory counts: by then everything has been decided and every buffer used."""
LONG_LIFE_S: Final = 600.0
PATIENCE_S: Final = 300.0
_POISONED: Final = 3


@dataclass
class Soak:
    """What came of it. Counts are samples, sizes bytes, times seconds."""

    for_s: float
    rate: int
    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    balance: Balance = field(default_factory=Balance)
    scraped: int = 0
    stored: int = 0
    unaccounted: int = 0
    """Reports on scrapes that were cut off cannot be told from others: they may be here."""
    repeated: int = 0
    refused: int = 0
    peak_rss: int = 0
    slopes: list[float] = field(default_factory=list)
    """Growth of each long life, bytes an hour."""
    peak_queue: int = 0
    slowest_s: float = 0.0
    """The longest it took after a fault until everything was delivered."""
    problems: list[str] = field(default_factory=list)


class Soaking:
    """Faults one after the other on one site; each ends with everything delivered."""

    def __init__(self, site: Site, result: Soak, chance: random.Random) -> None:
        self._site = site
        self._result = result
        self._chance = chance
        self.forgiven: set[tuple[str, int]] = set()
        self._born_s = time.monotonic()
        self._least_life_s = min(LONG_LIFE_S + SETTLED_S, result.for_s / 2)
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill -9": self._kill,
            "down": self._down,
            "slow": self._slow,
            "429": self._throttled,
            "500": self._errors,
            "413": self._too_large,
            "dropped": self._dropped,
            "one series answered 500": self._poisoned,
            "SIGHUP": self._reload,
            "SIGSTOP": self._suspend,
        }
        if not root_on_linux():
            self._kinds["full disk"] = self._full_disk

    async def run(self, for_s: float) -> None:
        """Go on for so long. Raises TooSlowError when a fault leaves something behind."""
        end_s = time.monotonic() + for_s
        while time.monotonic() < end_s:
            await self._one()
            await asyncio.sleep(self._chance.uniform(0, min(15.0, for_s / 20)))

    async def _one(self) -> None:
        names = [name for name in self._kinds if name != "kill -9" or self._is_old()]
        name = self._chance.choice(names)
        self._result.faults[name] += 1
        await self._kinds[name]()
        self._site.endpoint.be(Mode())
        self._site.tally.poisoned.clear()
        await self._site.endpoint.open()
        began_s = time.monotonic()
        await until(self._site.caught_up, f"everything to be delivered after {name}", PATIENCE_S)
        self._result.slowest_s = max(self._result.slowest_s, time.monotonic() - began_s)

    def _is_old(self) -> bool:
        """Whether the collector has lived long enough to see how its memory grows."""
        return time.monotonic() - self._born_s >= self._least_life_s

    async def _for_a_while(self, least_s: float = 2.0, most_s: float = 20.0) -> None:
        most_s = min(most_s, max(least_s, self._result.for_s / 8))
        await asyncio.sleep(self._chance.uniform(least_s, most_s))

    async def _be(self, mode: Callable[[], Mode]) -> None:
        self._site.endpoint.mode = mode
        await self._for_a_while()

    async def _kill(self) -> None:
        if self._chance.random() < 0.5:
            await self._site.endpoint.close()
            await self._for_a_while(1.0, 10.0)
        await self._site.collector.kill()
        await asyncio.sleep(0.2)  # what reached a target's socket is served
        self.forgiven |= {(one.address, len(one.served)) for one in self._site.crowd.all}
        await self._site.start()
        self._born_s = time.monotonic()

    async def _down(self) -> None:
        await self._site.endpoint.close()
        await self._for_a_while()

    async def _slow(self) -> None:
        await self._be(lambda: Mode(delay_s=self._chance.uniform(0, 2)))

    async def _throttled(self) -> None:
        wish = {"Retry-After": "1"} if self._chance.random() < 0.5 else {}
        share = self._chance.choice((0.3, 1.0))
        await self._be(lambda: Mode(status=429, stores=False, headers=wish) if self._is(share) else Mode())

    async def _errors(self) -> None:
        await self._be(lambda: Mode(status=503, stores=self._is(0.5)) if self._is(0.5) else Mode())

    async def _too_large(self) -> None:
        most = self._chance.choice((700, 3000))
        await self._be(lambda: Mode(max_samples=most))

    async def _dropped(self) -> None:
        await self._be(lambda: Mode(stores=self._is(0.5), hang_up="instead") if self._is(0.3) else Mode())

    async def _poisoned(self) -> None:
        numbers = range(self._site.crowd.series * TARGETS)
        self._site.tally.poisoned |= {b"%06d" % one for one in self._chance.sample(numbers, _POISONED)}
        await self._for_a_while(5.0, 30.0)

    async def _reload(self) -> None:
        running = self._site.collector.log.count("running: ")
        before = [len(one.served) for one in self._site.crowd.all]
        self._site.collector.signal(signal.SIGHUP)
        await until(
            lambda: self._site.collector.log.count("running: ") > running, "the configuration to be read"
        )
        for one, served in zip(self._site.crowd.all, before, strict=True):
            self.forgiven |= {(one.address, scrape) for scrape in range(served, len(one.served) + 1)}

    async def _suspend(self) -> None:
        self._site.collector.signal(signal.SIGSTOP)
        await self._for_a_while(1.0, 8.0)
        self._site.collector.signal(signal.SIGCONT)

    async def _full_disk(self) -> None:
        with filled(self._site.data_dir):
            await self._site.endpoint.close()
            await self._for_a_while(1.0, 15.0)  # memory takes some of it

    def _is(self, share: float) -> bool:
        return self._chance.random() < share


async def carry_out(for_s: float, rate: int, seed: int) -> Soak:
    """Soak and reconcile."""
    result = Soak(for_s, rate, seed)
    async with Site(TARGETS, rate // TARGETS, exporter=HASTY) as site:
        with nullcontext() if root_on_linux() else small_disk(site.data_dir, DISK):
            soaking = Soaking(site, result, random.Random(seed))
            try:
                await site.start()
                await until(lambda: site.tally.samples, "the first samples to be stored")
                await soaking.run(for_s)
                await _end(site, result)
            except TooSlowError as error:
                result.problems.append(f"{error}\n{site.collector.log[-2000:]}")
            finally:
                await site.end()
        _judge(site, result, soaking.forgiven | site.cut_off)
    return result


async def _end(site: Site, result: Soak) -> None:
    await site.collector.settled(PATIENCE_S)
    code = await site.stop()
    if code or "everything delivered" not in site.collector.log:
        result.problems.append(f"the last collector ended with {code}: {site.collector.log[-500:]}")


def _judge(site: Site, result: Soak, forgiven: set[tuple[str, int]]) -> None:
    balance = result.balance = site.tally.reconcile(forgiven)
    result.lives = len(site.collectors)
    result.scraped, result.stored = site.crowd.scraped, site.tally.samples + site.tally.reports
    result.repeated = site.tally.repeated
    result.refused = sum(one.refused_in_log() for one in site.collectors)
    scrapes = sum(len(one.served) for one in site.crowd.all)
    scrapes += sum(len(stamps) for stamps in site.tally.failed_ms.values())
    scrapes -= balance.failed // site.crowd.series  # are among those that have failed
    result.unaccounted = balance.missing + scrapes * REPORTS - site.tally.reports - result.refused
    result.peak_rss = max(one.looks.rss for one in site.collectors)
    result.peak_queue = max(look.queue_bytes for look in site.looks)
    result.slopes = list(_slopes(site.looks))
    result.problems += _problems(site, result)


def _problems(site: Site, result: Soak) -> Iterator[str]:
    balance = result.balance
    yield from site.tally.violations[:5]
    yield from balance.disagreements()
    cut_off = result.lives + result.faults["SIGHUP"]
    if not 0 <= result.unaccounted <= REPORTS * TARGETS * cut_off:
        yield f"{result.unaccounted} samples are not accounted for, {balance.missing} of them of targets"
    if balance.wrong:
        yield f"{balance.wrong} series have not as many samples as their gaps say"
    if balance.stored != site.tally.samples:
        yield f"{site.tally.samples} samples were stored, {balance.stored} counted by series"
    if result.peak_rss > MOST_RSS:
        yield f"{result.peak_rss / MIB:.0f} MiB of memory in use"
    yield from (
        f"a life grew by {slope / MIB:.1f} MiB an hour" for slope in result.slopes if slope > MOST_SLOPE
    )


def _slopes(looks: Sequence[Look]) -> Iterator[float]:
    """How memory grew in each life that was long enough to say, in bytes an hour.

    By the smallest of each minute: what a fault takes for a while is no growth.
    """
    for _, life in groupby(looks, lambda look: look.collector):
        mine = list(life)
        settled = [look for look in mine if look.at_s >= mine[0].at_s + SETTLED_S]
        if mine[-1].at_s - mine[0].at_s < LONG_LIFE_S:
            continue
        minutes = [list(one) for _, one in groupby(settled, lambda look: look.at_s // 60)]
        times = [fmean(look.at_s for look in one) for one in minutes]
        yield linear_regression(times, [min(look.rss for look in one) for one in minutes]).slope * 3600


def rows(one: Soak) -> Iterator[tuple[str, str]]:
    """What is told of it."""
    faults = ", ".join(f"{times} of {name}" for name, times in one.faults.most_common())
    yield "faults", f"{one.faults.total()}: {faults}"
    yield "scraped", f"{one.scraped:,}"
    yield "stored", f"{one.stored:,}"
    yield (
        "cut off by kills, reloads and the end, scraped in vain",
        f"{one.balance.cut_off:,}, {one.balance.failed:,}",
    )
    yield "refused with a reason", f"{one.refused:,}"
    yield "sent again and there already", f"{one.repeated:,}"
    yield "lives", str(one.lives)
    yield "peak RSS", f"{one.peak_rss / MIB:.0f} MiB"
    slopes = ", ".join(f"{slope / MIB:+.1f}" for slope in one.slopes)
    yield (
        f"growth of lives over {LONG_LIFE_S / 60:g} minutes",
        f"{slopes} MiB an hour" if slopes else "none was so long",
    )
    yield "queue's peak", f"{one.peak_queue / MIB:.0f} MiB"
    yield "longest until all was delivered after a fault", f"{one.slowest_s:.1f} s"
    yield "unaccounted, out of order", "; ".join(one.problems) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m faults.soak", description=__doc__)
    parser.add_argument(
        "--for", dest="for_s", type=report.seconds, default=3600.0, metavar="1h", help="how long"
    )
    parser.add_argument("--rate", type=int, default=50_000, metavar="N", help="samples a second (50000)")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat what chance decided")
    parser.add_argument("--write", action="store_true", help=f"put what came of it into {report.DOCUMENT}")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    found = asyncio.run(carry_out(options.for_s, options.rate, seed))
    for name, value in rows(found):
        print(f"soak: {name}: {value}")
    if options.write:
        given = shlex.quote(f"--for {options.for_s:g}s --rate {options.rate} --seed {seed}")
        report.put("soak", report.two_columns("soak", rows(found), f"make soak ARGS={given}"))
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
