"""One run of both scrapers side by side over every scenario."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from tests.differential.comparison import scrape_times, timeouts
from tests.differential.processes import (
    NODE_EXPORTER,
    SCENARIO,
    Arrived,
    Inbox,
    collector,
    free_address,
    judge_version,
    prometheus,
    running,
)
from tests.differential.scenarios import CIRCLE, ORDINARY, SCRAPES, Scenario
from tests.differential.targets import Asked, Page, Targets

from trunkline.model import Labels, is_stale

SCRAPERS: Final = ("judge", "trunkline")
PATIENCE_S: Final = 60.0
UP: Final = (1.0, 1.0, 1.0)
DOWN: Final = (0.0, 0.0, 0.0)
FALLBACK: Final = {"fallback_scrape_protocol": "PrometheusText0.0.4"}
"""What Prometheus 2 always did, the receiver does unless told otherwise, and Prometheus 3 has to be told."""
EXTERNAL: Final = {"replica": "one"}
MOVING: Final = ("restarts", "disappears", "file_sd", "target_limit")
"""Scenarios of targets that come and go: their scrapes cannot be counted, but how every series lives can."""


@dataclass(frozen=True)
class Observed:
    """What arrived from each scraper by scenario, and what each asked of the targets."""

    arrived: Mapping[str, Mapping[str, Arrived]]
    asked: Mapping[tuple[str, str], set[Asked]]
    opened_ms: int
    closed_ms: int
    log: Sequence[str]


def job(name: str, scenario: Scenario, address: str) -> dict[str, Any]:
    """The scrape configuration of a scenario."""
    return {
        "job_name": name,
        "metrics_path": f"/{name}",
        "static_configs": [
            {"targets": [scenario.address or address], "labels": {SCENARIO: name, **scenario.labels}}
        ],
        **scenario.job,
    }


def scraping(jobs: Sequence[Mapping[str, Any]], fallback: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a scraper."""
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "external_labels": EXTERNAL}
    return {"global": every, "scrape_configs": [{**fallback, **one} for one in jobs]}


class Movement:
    """The targets that come and go: each at an address of its own, behind static or file discovery."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "targets.json"
        self._limited = folder / "limited.json"
        self._targets = Targets({"restarts": [Page(ORDINARY)], "disappears": [Page(ORDINARY)]})
        self._address = free_address()
        self._exits = AsyncExitStack()

    async def start(self) -> None:
        await self._exits.enter_async_context(self._targets.listening(int(self._address.rpartition(":")[2])))

    async def stop(self) -> None:
        await self._exits.aclose()

    def jobs(self, address: str) -> list[dict[str, Any]]:
        write(self._file, [([address], {"phase": "a"}), ([f"{address}"], {"phase": "b"})])
        write(self._limited, [([address], {"phase": "a"})])
        jobs = [job(name, Scenario([]), self._address) for name in ("restarts", "disappears")]
        for name, file, settings in (
            ("file_sd", self._file, {}),
            ("target_limit", self._limited, {"target_limit": 1}),
        ):
            section = {"files": [str(file)], "refresh_interval": "1s"}
            made = job(name, Scenario([], settings), "")
            label = {"target_label": SCENARIO, "replacement": name}
            jobs.append(
                {**made, "static_configs": [], "file_sd_configs": [section], "relabel_configs": [label]}
            )
        return jobs

    async def run(self, address: str, inbox: Inbox) -> None:
        """Let them come and go; returns when both scrapers have noticed everything."""
        self._targets.open(1)
        for name, phase in (
            ("restarts", ""),
            ("disappears", ""),
            ("file_sd", "a"),
            ("file_sd", "b"),
            ("target_limit", "a"),
        ):
            await until(inbox, name, ups_are(UP, phase=phase))
        await self.stop()
        write(self._file, [([address], {"phase": "b", "changed": "yes"}), ([address], {"phase": "c"})])
        write(self._limited, [([address], {"phase": "a"}), ([address], {"phase": "b"})])
        await until(inbox, "restarts", ups_are(DOWN))
        await until(inbox, "disappears", ups_are(DOWN))
        self._targets.pages = {"restarts": self._targets.pages["restarts"]}
        await self.start()
        await until(inbox, "restarts", ups_are(UP))
        for phase in ("a", "b"):
            await until(inbox, "target_limit", ups_are(DOWN, phase=phase))
            # The markers of a target that is gone come two intervals and a bit later.
            await until(inbox, "file_sd", _have_ended(phase=phase))
        for phase, changed in (("b", "yes"), ("c", "")):
            await until(inbox, "file_sd", ups_are(UP, phase=phase, changed=changed))


def write(file: Path, groups: Sequence[tuple[list[str], dict[str, str]]]) -> None:
    """Write a list of targets in one go, as file discovery asks for."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps([{"targets": targets, "labels": labels} for targets, labels in groups]))
    fresh.rename(file)


async def until(
    inbox: Inbox,
    scenario: str,
    reached: Callable[[Arrived], bool],
    scrapers: Sequence[str] = SCRAPERS,
) -> None:
    """Wait until what has arrived from each of `scrapers` is enough."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(reached(inbox.arrived[who][scenario]) for who in scrapers):
            await inbox.news()


def _having(samples: Arrived, labels: Mapping[str, str]) -> Arrived:
    """Samples with these labels; an empty one means that there is none."""
    return [
        sample for sample in samples if all(dict(sample[0]).get(name, "") == labels[name] for name in labels)
    ]


def ups_are(values: Sequence[float], *, phase: str = "", changed: str = "") -> Callable[[Arrived], bool]:
    """Whether the last values of `up` are these; all of a scrape has arrived when the next one's `up` has."""
    labels = {"__name__": "up", "phase": phase, "changed": changed}

    def reached(samples: Arrived) -> bool:
        ups = sorted((stamp, value) for _, value, stamp in _having(samples, labels))
        return [value for _, value in ups[-len(values) :]] == list(values)

    return reached


def _have_ended(*, phase: str) -> Callable[[Arrived], bool]:
    """Whether all series of a target end with a stale marker."""

    def reached(samples: Arrived) -> bool:
        last: dict[Labels, tuple[int, float]] = {}
        for labels, value, stamp in _having(samples, {"phase": phase, "changed": ""}):
            last[labels] = max(last.get(labels, (0, 0.0)), (stamp, value))
        return bool(last) and all(is_stale(value) for _, value in last.values())

    return reached


async def snapshots(address: str, count: int) -> list[Page]:
    """What a running program exposes, a few times."""
    pages: list[Page] = []
    async with aiohttp.ClientSession() as session:
        deadline = time.monotonic() + PATIENCE_S
        while len(pages) < count:
            try:
                async with session.get(f"http://{address}/metrics") as answer:
                    pages.append(Page(await answer.read(), content_type=answer.headers["Content-Type"]))
            except aiohttp.ClientError:
                assert time.monotonic() < deadline, f"nobody answers at {address}"
            await asyncio.sleep(0.1)
    return pages


async def programs() -> dict[str, Scenario]:
    """Scenarios of exporters that are installed."""
    if NODE_EXPORTER is None:
        return {}
    address = free_address()
    command = [NODE_EXPORTER, f"--web.listen-address={address}", "--no-collector.arp"]
    async with running(command, {"PATH": "/usr/bin:/bin"}):
        return {"node_exporter": Scenario(await snapshots(address, 3))}


async def observe(scenarios: Mapping[str, Scenario], folder: Path) -> Observed:
    """Run both scrapers until each has seen every page, and every target that goes has gone."""
    pages = {name: list(one.pages) for name, one in scenarios.items()}
    circle = Page(status=302, headers={"Location": CIRCLE})
    targets = Targets(
        {**pages, CIRCLE.strip("/"): [circle], "file_sd": [Page(ORDINARY)], "target_limit": [Page(ORDINARY)]}
    )
    inbox, movement = Inbox(), Movement(folder)
    async with AsyncExitStack() as exits:
        address = await exits.enter_async_context(targets.listening())
        await exits.enter_async_context(inbox.listening())
        exits.push_async_callback(movement.stop)
        await movement.start()
        jobs = [job(name, one, address) for name, one in scenarios.items()] + movement.jobs(address)
        fallback = {} if judge_version() < (3, 0) else FALLBACK
        judge = await exits.enter_async_context(prometheus(folder / "judge", scraping(jobs, fallback), inbox))
        ours = await exits.enter_async_context(
            collector(folder / "trunkline", scraping(jobs, FALLBACK), inbox, report_extra_scrape_metrics=True)
        )
        async with asyncio.timeout(PATIENCE_S):
            # Every target has been scraped in vain: then nobody overlooks what comes now.
            while not all({*scenarios, *MOVING} <= inbox.arrived[who].keys() for who in SCRAPERS):
                await inbox.news()
        targets.pages["prometheus"] = await snapshots(judge, 2)
        targets.open(int(time.time() * 1000))
        moving = asyncio.create_task(movement.run(address, inbox))
        for name, one in scenarios.items():
            if not one.address:
                await targets.wait([name], max(SCRAPES, len(one.pages)) + 1, SCRAPERS)
        await moving
        for name, one in scenarios.items():
            await until(inbox, name, ups_are(DOWN) if one.address else scraped(SCRAPES))
    return Observed(inbox.arrived, targets.asked, targets.opened_ms, int(time.time() * 1000), ours.log)


def scraped(times: int) -> Callable[[Arrived], bool]:
    """Whether so many scrapes have arrived, and the beginning of the next."""
    return lambda samples: len(scrape_times(samples)) > times


def disturbed(
    observed: Observed, scenarios: Mapping[str, Scenario], scrapers: Sequence[str] = SCRAPERS
) -> list[str]:
    """Scenarios in which a scrape took too long although the target answered: the machine was elsewhere meanwhile."""
    found = []
    for name, one in scenarios.items():
        timeout_s = float(one.job.get("scrape_timeout", "1000ms").removesuffix("ms")) / 1000
        expected = sum(page.times_out for page in one.pages[:SCRAPES])
        sides = (observed.arrived[who].get(name, []) for who in scrapers)
        if any(timeouts(samples, timeout_s, SCRAPES) != expected for samples in sides):
            found.append(name)
    return found
