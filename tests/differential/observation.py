"""One run of both scrapers side by side over every scenario."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
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
from tests.differential.scenario import ORDINARY, SCRAPES, Scenario, filled
from tests.differential.surroundings import HOSTS, NO_RESOLVER, Surroundings, pages_of, surrounded
from tests.differential.targets import Asked, Page, Targets
from tests.receivers.dns_server import address as address_record

from trunkline.model import Labels, is_stale

SCRAPERS: Final = ("judge", "trunkline")
PATIENCE_S: Final = 60.0
UP: Final = (1.0, 1.0, 1.0)
DOWN: Final = (0.0, 0.0, 0.0)
FALLBACK: Final = {"fallback_scrape_protocol": "PrometheusText0.0.4"}
"""What Prometheus 2 always did, the receiver does unless told otherwise, and Prometheus 3 has to be told."""
EXTERNAL: Final = {"replica": "one"}
SHARED: Final = ("file_sd", "http_sd_changes", "dns_sd_changes", "target_limit", "secret_changes")
"""Scenarios of discoveries and files that change, whose targets are at the address of all others."""
PHASES: Final = {
    "restarts": [""],
    "disappears": [""],
    "file_sd": ["a", "b"],
    "http_sd_changes": ["a", "b"],
    "dns_sd_changes": ["1", "2"],
    "target_limit": ["a"],
    "secret_changes": [""],
    "certificate_changes": [""],
}
MOVING: Final = tuple(PHASES)
"""Scenarios of targets that come and go, or change: their scrapes cannot be counted, but how every series lives can."""
MOVED: Final = tuple(name for name in MOVING if not (NO_RESOLVER and name == "dns_sd_changes"))
"""Those of them that can be had on this machine."""


@dataclass(frozen=True)
class Observed:
    """What arrived from each scraper by scenario, and what each asked of the targets."""

    arrived: Mapping[str, Mapping[str, Arrived]]
    asked: Mapping[tuple[str, str], set[Asked]]
    opened_ms: int
    closed_ms: int
    log: Sequence[str]


def job(name: str, scenario: Scenario, places: Mapping[str, str]) -> dict[str, Any]:
    """The scrape configuration of a scenario."""
    made: dict[str, Any] = {"job_name": name, "metrics_path": f"/{name}", **scenario.job}
    labels = {SCENARIO: name, **scenario.labels}
    if any(key.endswith("_sd_configs") for key in made):
        own = [{"target_label": label, "replacement": value} for label, value in labels.items()]
        made["relabel_configs"] = own + list(made.get("relabel_configs", ()))
    else:
        made["static_configs"] = [{"targets": [scenario.address], "labels": labels}]
    found: dict[str, Any] = filled(made, places)
    return found


def scraping(
    jobs: Sequence[Mapping[str, Any]], fallback: Mapping[str, Any], interval_s: int = 1
) -> dict[str, Any]:
    """The configuration of a scraper."""
    interval = f"{interval_s}s"
    every = {"scrape_interval": interval, "scrape_timeout": interval, "external_labels": EXTERNAL}
    return {"global": every, "scrape_configs": [{**fallback, **one} for one in jobs]}


A, B, C = ({"phase": phase} for phase in "abc")
FIRST: Final = (A, B)
THEN: Final = ({**B, "changed": "yes"}, C)
"""What is listed first, and then: one goes, one changes, one comes."""


class Movement:
    """The targets that come and go, each behind a discovery, and what changes meanwhile on the way to them."""

    def __init__(self, folder: Path, targets: Targets, around: Surroundings, inbox: Inbox) -> None:
        self._files = {name: folder / f"{name}.json" for name in ("file_sd", "target_limit")}
        self._secret = folder / "changing_secret"
        self._served, self._around, self._inbox = targets, around, inbox
        self._targets = Targets({"restarts": [Page(ORDINARY)], "disappears": [Page(ORDINARY)]})
        self._address = free_address()
        self._exits = AsyncExitStack()

    async def start(self) -> None:
        await self._exits.enter_async_context(self._targets.listening(int(self._address.rpartition(":")[2])))

    async def stop(self) -> None:
        await self._exits.aclose()

    def jobs(self) -> list[dict[str, Any]]:
        self._list("file_sd", FIRST)
        self._list("http_sd_changes", FIRST)
        self._list("target_limit", [A])
        self._resolve(HOSTS[0], HOSTS[1])
        self._secret.write_text("first")
        return [job(name, one, self._around.places_of(name)) for name, one in self._scenarios().items()]

    def _scenarios(self) -> dict[str, Scenario]:
        from_files = {
            name: {"file_sd_configs": [{"files": [str(file)], "refresh_interval": "1s"}]}
            for name, file in self._files.items()
        }
        by_host = {
            "source_labels": ["__address__"],
            "regex": "127.0.0.(.):.*",
            "target_label": "phase",
        }
        from_names = {"names": ["moving.example"], "type": "A", "port": "<port>", "refresh_interval": "1s"}
        from_server = {"url": "http://<aside>", "refresh_interval": "1s"}
        changing = {"ca_file": "<folder>/changing.pem"}
        found = {
            "restarts": Scenario([], address=self._address),
            "disappears": Scenario([], address=self._address),
            "file_sd": Scenario([], from_files["file_sd"]),
            "target_limit": Scenario([], {**from_files["target_limit"], "target_limit": 1}),
            "http_sd_changes": Scenario([], {"http_sd_configs": [from_server]}),
            "dns_sd_changes": Scenario(
                [], {"dns_sd_configs": [from_names], "relabel_configs": [by_host]}, by_name=True
            ),
            "secret_changes": Scenario([], {"authorization": {"credentials_file": str(self._secret)}}),
            "certificate_changes": Scenario(
                [], {"scheme": "https", "tls_config": changing}, address="<changing>"
            ),
        }
        return {name: one for name, one in found.items() if name in MOVED}

    async def run(self) -> None:
        """Let them come and go; returns when both scrapers have noticed everything."""
        self._targets.open(1)
        for name in MOVED:
            for phase in PHASES[name]:
                await until(self._inbox, name, ups_are(UP, phase=phase))
        await self.stop()
        self._change()
        await until(self._inbox, "restarts", ups_are(DOWN))
        await until(self._inbox, "disappears", ups_are(DOWN))
        self._targets.pages = {"restarts": self._targets.pages["restarts"]}
        await self.start()
        await until(self._inbox, "restarts", ups_are(UP))
        await self._listed_anew()
        for phase in ("a", "b"):
            await until(self._inbox, "target_limit", ups_are(DOWN, phase=phase))
        await until(self._inbox, "secret_changes", lambda _: self._has_asked_twice("secret_changes"))
        await until(self._inbox, "certificate_changes", _has_seen(2.0))

    def _change(self) -> None:
        for name in ("file_sd", "http_sd_changes"):
            self._list(name, THEN)
        self._list("target_limit", FIRST)
        self._resolve(HOSTS[1], HOSTS[2])
        self._secret.write_text("second")
        self._around.change_certificate()
        self._served.pages["certificate_changes"] = [Page("a 2\n", manner="unframed")]

    async def _listed_anew(self) -> None:
        """Nothing is known of lists that cannot be had, and so nothing changes any more."""
        for name in ("file_sd", "http_sd_changes"):
            await until(self._inbox, name, ups_are(UP, phase="b", changed="yes"))
            await until(self._inbox, name, ups_are(UP, phase="c"))
        self._files["file_sd"].write_text("[{")
        self._served.aside["http_sd_changes"] = Page(status=500)
        for name in ("file_sd", "http_sd_changes"):
            for phase in ("a", "b"):
                # The markers of a target that is gone come two intervals and a bit later.
                await until(self._inbox, name, _have_ended(phase=phase))
            await until(self._inbox, name, ups_are(UP, phase="b", changed="yes"))
            await until(self._inbox, name, ups_are(UP, phase="c"))
        if "dns_sd_changes" in MOVED:
            await until(self._inbox, "dns_sd_changes", ups_are(UP, phase="3"))
            await until(self._inbox, "dns_sd_changes", _have_ended(phase="1"))

    def _list(self, name: str, groups: Sequence[Mapping[str, str]]) -> None:
        """List a target for each group of labels, in a file or on the server."""
        address = self._around.places["address"]
        text = json.dumps([{"targets": [address], "labels": labels} for labels in groups])
        if name in self._files:
            write(self._files[name], text)
        else:
            self._served.aside[name] = Page(text, content_type="application/json")

    def _resolve(self, *hosts: str) -> None:
        zone = {("moving.example.", "A"): [address_record(host) for host in hosts]}
        self._around.names.zone = {**self._around.names.zone, **zone}

    def _has_asked_twice(self, name: str) -> bool:
        """Whether each scraper has asked in two ways."""
        return all(len(self._served.asked[name, who]) > 1 for who in SCRAPERS)


def write(file: Path, text: str) -> None:
    """Write a file in one go, as file discovery asks for."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(file)


async def until(
    inbox: Inbox,
    scenario: str,
    reached: Callable[[Arrived], bool],
    scrapers: Sequence[str] = SCRAPERS,
) -> None:
    """Wait until what has arrived from each of `scrapers` is enough; raises AssertionError if it never is."""
    deadline = time.monotonic() + PATIENCE_S
    while waiting := [who for who in scrapers if not reached(inbox.arrived[who][scenario])]:
        assert time.monotonic() < deadline, f"{scenario}: no more came from {' and '.join(waiting)}"
        with suppress(TimeoutError):
            await asyncio.wait_for(inbox.news(), 1)


def anything(samples: Arrived) -> bool:
    return bool(samples)


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


def _has_seen(value: float) -> Callable[[Arrived], bool]:
    """Whether a sample has this value, or the target has failed since it was up."""
    return lambda samples: (
        any(one[1] == value for one in samples if dict(one[0])["__name__"] == "a")
        or ups_are((1.0, 0.0))(samples)
    )


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


async def observe(
    scenarios: Mapping[str, Scenario], folder: Path, *, moving: bool = True, interval_s: int = 1
) -> Observed:
    """Run both scrapers until each has seen every page, and every target that goes has gone, if any are `moving`."""
    shared = {name: [Page(ORDINARY)] for name in SHARED}
    targets = Targets(
        pages_of(scenarios) | shared | {"certificate_changes": [Page("a 1\n", manner="unframed")]}
    )
    inbox = Inbox()
    async with AsyncExitStack() as exits:
        around = await exits.enter_async_context(surrounded(targets, scenarios, folder / "around"))
        await exits.enter_async_context(inbox.listening())
        movement = Movement(folder, targets, around, inbox)
        exits.push_async_callback(movement.stop)
        await movement.start()
        jobs = [job(name, one, around.places_of(name)) for name, one in scenarios.items()]
        jobs += movement.jobs() if moving else []
        fallback = {} if judge_version() < (3, 0) else FALLBACK
        how: dict[str, Any] = {"env": around.environment, "around": around.around}
        judge = await exits.enter_async_context(
            prometheus(folder / "judge", scraping(jobs, fallback, interval_s), inbox, **how)
        )
        ours = await exits.enter_async_context(
            collector(
                folder / "trunkline",
                scraping(jobs, FALLBACK, interval_s),
                inbox,
                report_extra_scrape_metrics=True,
                **how,
            )
        )
        for name in (*scenarios, *(MOVED if moving else ())):
            # Every target has been scraped in vain: then nobody overlooks what comes now.
            await until(inbox, name, anything)
        if "prometheus" in scenarios:
            targets.pages["prometheus"] = await snapshots(judge, 2)
        targets.open(int(time.time() * 1000))
        moves = asyncio.create_task(movement.run() if moving else asyncio.sleep(0))
        for name, one in scenarios.items():
            if one.reached:
                await targets.wait([name], max(SCRAPES, len(one.pages)) + 1, SCRAPERS)
        await moves
        for name, one in scenarios.items():
            await until(inbox, name, scraped(SCRAPES) if one.reached else ups_are(DOWN))
    return Observed(inbox.arrived, targets.asked, targets.opened_ms, int(time.time() * 1000), ours.log)


def scraped(times: int) -> Callable[[Arrived], bool]:
    """Whether so many scrapes have arrived, and the beginning of the next."""
    return lambda samples: len(scrape_times(samples)) > times


def disturbed(
    observed: Observed,
    scenarios: Mapping[str, Scenario],
    scrapers: Sequence[str] = SCRAPERS,
    interval_s: float = 1,
) -> set[str]:
    """Scenarios in which a scrape took too long although the target answered: the machine was elsewhere meanwhile."""
    found = set()
    for name, one in scenarios.items():
        brief = one.job.get("scrape_timeout")
        timeout_s = float(brief.removesuffix("ms")) / 1000 if brief else interval_s
        expected = sum(page.times_out for page in one.pages[:SCRAPES])
        sides = (observed.arrived[who].get(name, []) for who in scrapers)
        if any(timeouts(samples, timeout_s, SCRAPES) != expected for samples in sides):
            found.add(name)
    return found


def hindered(observed: Observed, interval_s: float = 1) -> set[str]:
    """The same of targets that come and go, none of which ever keeps a scraper waiting."""
    since_ms = observed.opened_ms
    return {
        name
        for name in MOVED
        for who in SCRAPERS
        if any(
            value >= 0.95 * interval_s and stamp >= since_ms
            for labels, value, stamp in observed.arrived[who].get(name, [])
            if dict(labels)["__name__"] == "scrape_duration_seconds"
        )
    }
