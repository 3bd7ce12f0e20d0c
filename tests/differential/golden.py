"""What a Prometheus 3 did in scenarios that an older judge does not know, or does otherwise, kept in golden files.

`python -m tests.differential.golden --judge PATH` records them anew, which changes nothing if that still does the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.differential.comparison import CLOCKED, Seen, bits_of, by_scrape, lives, stored, value_of
from tests.differential.differences import CHANGES, name_of
from tests.differential.observation import (
    DOWN,
    FALLBACK,
    Observed,
    anything,
    disturbed,
    job,
    scraped,
    scraping,
    until,
    ups_are,
)
from tests.differential.processes import Inbox, collector, first_served, judge_version, prometheus
from tests.differential.scenario import SCRAPES, Scenario
from tests.differential.scenarios import scenarios
from tests.differential.surroundings import Surroundings, pages_of, surrounded
from tests.differential.targets import Asked, Targets

from trunkline.model import STALE_BITS

FOLDER: Final = Path(__file__).parent / "golden"
ATTEMPTS: Final = 5
ADDRESS: Final = "TARGET"
"""Stands for the address of the targets, which is another one in each run."""
NAMES: Final = tuple(sorted({name for change in CHANGES for name in change.recorded}))
"""The scenarios that are recorded."""


@dataclass(frozen=True)
class Told:
    """What one scraper sent and asked in one scenario."""

    samples: set[Seen]
    asked: set[Asked]


class Bench:
    """One scraper alone in front of the targets: a Prometheus at `judge`, or the collector if there is none."""

    def __init__(self, judge: str | None = None) -> None:
        self.judge = judge
        self.who = "judge" if judge else "trunkline"
        self.every: Mapping[str, Scenario] = {name: scenarios()[name] for name in NAMES}

    def told(self) -> dict[str, Told]:
        """What it sent and asked; scenarios in which the machine was too busy to scrape in time are repeated."""
        told: dict[str, Told] = {}
        waiting = self.every
        for _ in range(ATTEMPTS):
            with first_served(), tempfile.TemporaryDirectory() as folder:
                observed, around = asyncio.run(self._observe(waiting, Path(folder)))
            told |= {name: self._told(observed, name, around) for name in waiting}
            late = disturbed(observed, waiting, [self.who])
            if not late:
                return told
            waiting = {name: one for name, one in waiting.items() if name in late}
        raise RuntimeError(f"the machine was too busy for scrapes of a second, {ATTEMPTS} times; try again")

    async def _observe(self, every: Mapping[str, Scenario], folder: Path) -> tuple[Observed, Surroundings]:
        targets = Targets(pages_of(every))
        inbox = Inbox()
        async with AsyncExitStack() as exits:
            around = await exits.enter_async_context(surrounded(targets, every, folder / "around"))
            await exits.enter_async_context(inbox.listening())
            await self._start(every, exits, folder / "scraper", around, inbox)
            for name in every:
                await until(inbox, name, anything, [self.who])
            targets.open(int(time.time() * 1000))
            for name, one in every.items():
                await until(inbox, name, scraped(SCRAPES) if one.reached else ups_are(DOWN), [self.who])
        closed_ms = int(time.time() * 1000)
        return Observed(inbox.arrived, targets.asked, targets.opened_ms, closed_ms, []), around

    async def _start(
        self,
        every: Mapping[str, Scenario],
        exits: AsyncExitStack,
        folder: Path,
        around: Surroundings,
        inbox: Inbox,
    ) -> None:
        jobs = [job(name, one, around.places_of(name)) for name, one in every.items()]
        config, env = scraping(jobs, FALLBACK), around.environment
        if self.judge:
            await exits.enter_async_context(prometheus(folder, config, inbox, self.judge, env))
        else:
            await exits.enter_async_context(
                collector(folder, config, inbox, env, report_extra_scrape_metrics=True)
            )

    def _told(self, observed: Observed, name: str, around: Surroundings) -> Told:
        samples = observed.arrived[self.who][name]
        if not self.every[name].reached:
            seen = {
                Seen(labels, bits, ("life", number))
                for labels, life in lives(samples).items()
                for number, bits in enumerate(life)
            }
        else:
            seen = by_scrape(stored(samples), SCRAPES, observed.opened_ms, observed.closed_ms)
        return Told({_somewhere(one, around) for one in seen}, observed.asked[name, self.who])


def _somewhere(one: Seen, around: Surroundings) -> Seen:
    address = around.places["address"]
    labels = tuple((name, ADDRESS if value == address else value) for name, value in one.labels)
    return one._replace(labels=labels)


def read(name: str) -> Told:
    """What the golden file of a scenario holds."""
    found = json.loads((FOLDER / f"{name}.json").read_text())
    samples = {
        Seen(tuple(sorted({**found["common"], **labels}.items())), _bits(text), when)
        for labels, values in found["series"]
        for span, text in values.items()
        for when in _whens(span)
    }
    return Told(samples, {Asked(**one) for one in found["asked"]})


def _whens(span: str) -> Iterator[tuple[str, int]]:
    """`scrape 3..5` are three of them."""
    kind, _, numbers = span.rpartition(" ")
    first, _, last = numbers.partition("..")
    return ((kind, number) for number in range(int(first), int(last or first) + 1))


def render(name: str, told: Told, version: tuple[int, int]) -> str:
    """The golden file of a scenario: a line for each series, its values by scrape, equal ones in a row as `0..7`.

    Values are the shortest decimals that have their bits; `stale` is the marker, `any` a duration, and another NaN is
    shown as its bits.
    """
    series: defaultdict[tuple[tuple[str, str], ...], list[Seen]] = defaultdict(list)
    for one in told.samples:
        series[one.labels].append(one)
    common = dict(set.intersection(*(set(labels) for labels in series)))
    head = {
        "source": {"prometheus": ".".join(map(str, version)), "scenario": name, "shows": list(_shows(name))},
        "asked": sorted((asdict(one) for one in told.asked), key=lambda one: sorted(one.items())),
        "common": dict(sorted(common.items())),
    }
    lines = [f'"{key}": {_json(value)}' for key, value in head.items()]
    rows = ",\n".join(f"  {_json(_row(labels, series[labels], common))}" for labels in sorted(series))
    return "{\n" + ",\n".join([*lines, f'"series": [\n{rows}\n]']) + "\n}\n"


def _shows(name: str) -> Iterator[str]:
    return (change.what for change in CHANGES if name in change.recorded)


def _row(labels: tuple[tuple[str, str], ...], seen: list[Seen], common: Mapping[str, str]) -> list[Any]:
    own = {name: value for name, value in labels if name not in common}
    spans: list[tuple[str, int, int, str]] = []
    for one in sorted(seen, key=lambda one: one.when):
        kind, number = one.when
        begun = spans[-1] if spans else None
        if begun and (begun[0], begun[2] + 1, begun[3]) == (kind, number, _text(one)):
            spans[-1] = (kind, begun[1], number, begun[3])
        else:
            spans.append((kind, number, number, _text(one)))
    return [own, {f"{kind} {first}{f'..{last}' * (last > first)}": text for kind, first, last, text in spans}]


def _text(one: Seen) -> str:
    value = value_of(one.bits)
    if one.bits == STALE_BITS:
        return "stale"
    if name_of(one) in CLOCKED:
        return "any"
    return repr(value) if bits_of(value) == one.bits and value == value else f"{one.bits:#x}"  # noqa: PLR0124 - NaN


def _bits(text: str) -> int:
    if text.startswith("0x"):
        return int(text, 16)
    return {"stale": STALE_BITS, "any": 0}[text] if text in ("stale", "any") else bits_of(float(text))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def record(judge: str) -> None:
    """Write all golden files anew, as the Prometheus at `judge` does.

    Raises ValueError if that is older than 3.4, which knows all that is recorded.
    """
    version = judge_version(judge)
    if version < (3, 4):
        raise ValueError(f"{judge} is Prometheus {version[0]}.{version[1]}; golden files need 3.4 or newer")
    told = Bench(judge).told()
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.glob("*.json"):
        file.unlink()
    for name, one in told.items():
        (FOLDER / f"{name}.json").write_text(render(name, one, version))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--judge", required=True, help="path of a Prometheus 3")
    record(arguments.parse_args().judge)
