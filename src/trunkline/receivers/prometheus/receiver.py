"""When targets are scraped, and what happens as they come and go (components.md 5.6 to 5.9)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trunkline.aws.task_metadata import ADDRESSES
from trunkline.component.schedule import Clock, SystemClock, ticks
from trunkline.net.settings import HttpSettings, http_client
from trunkline.receivers.prometheus.columns import TargetColumns
from trunkline.receivers.prometheus.config import PrometheusConfig, ScrapeConfig
from trunkline.receivers.prometheus.discovery.dns import DnsDiscovery
from trunkline.receivers.prometheus.discovery.file import FileDiscovery
from trunkline.receivers.prometheus.discovery.groups import Discovery
from trunkline.receivers.prometheus.discovery.http import HttpDiscovery
from trunkline.receivers.prometheus.estate import Remains, leave, take
from trunkline.receivers.prometheus.job import Job, jobs_of
from trunkline.receivers.prometheus.loop import TargetLoop
from trunkline.receivers.prometheus.owners import Owner, Owners
from trunkline.receivers.prometheus.pool import JobTargets
from trunkline.receivers.prometheus.target import HOSTS_FILE, Target

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context
    from trunkline.net.fetcher import Fetcher

log = logging.getLogger(__name__)

_DISCOVER_AGAIN_S: Final = 30.0
_STATIC: Final = -1


class PrometheusReceiver:
    """Scrapes the targets of every job until cancelled. Jobs with equal HTTP settings share a client."""

    def __init__(
        self,
        config: PrometheusConfig,
        context: Context,
        downstream: Consumer,
        clock: Clock | None = None,
        *,
        hosts_file: Path = HOSTS_FILE,
    ) -> None:
        self._context = context
        self._downstream = downstream
        self._clock = clock or SystemClock()
        self._clients: dict[HttpSettings, Fetcher] = {}
        self._pools: list[JobTargets] = []
        self._static: list[tuple[JobTargets, ScrapeConfig]] = []
        self._discoveries: list[tuple[JobTargets, int, Discovery]] = []
        self._remains: dict[str, Remains] = {}
        self._owners = Owners.among(context, downstream)
        self._rhythm = _Beats(self._clock, config.initial_scrape_offset, self._owners.released)
        own = frozenset(filter(None, str(context.identity.attributes.get(ADDRESSES, "")).split(",")))
        for scrape, job in zip(
            config.config.scrape_configs, jobs_of(config, context.environment), strict=True
        ):
            owner = Owner(str(context.id), job)
            pool = JobTargets(owner, self._starter(job), self._rhythm, self._owners, own, hosts_file)
            self._pools.append(pool)
            self._static.append((pool, scrape))
            for number, discovery in enumerate(_discoveries(scrape, context)):
                self._discoveries.append((pool, number, discovery))

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._rhythm.start(group)
                self._owners.join(str(self._context.id), self._released)
                self._remains = take(self._context)
                for key, remains in self._remains.items():
                    group.create_task(self._end_remains(key, remains))
                for pool, scrape in self._static:
                    pool.update(_STATIC, [one.group() for one in scrape.static_configs])
                for pool, number, discovery in self._discoveries:
                    group.create_task(self._discover(pool, number, discovery))
                await asyncio.Event().wait()
        finally:
            loops = [loop for pool in self._pools for loop in pool.loops + pool.ending]
            for loop in loops:
                loop.close()
            if not self._rhythm.stopped:
                leave(self._context, loops, self._remains)
            self._rhythm.stop()
            self._owners.leave(str(self._context.id))
            for _, _, discovery in self._discoveries:
                await discovery.aclose()
            for client in self._clients.values():
                await client.aclose()

    async def drain(self) -> None:
        """Scrape every target a last time, and end what is ending."""
        self._rhythm.stop()
        self._end_gone()
        loops = [loop for pool in self._pools for loop in pool.loops]
        ends = await asyncio.gather(*(loop.last_scrape() for loop in loops), return_exceptions=True)
        for loop, end in zip(loops, ends, strict=True):
            if isinstance(end, Exception):
                log.error(
                    "the last scrape of %s failed in a way nobody foresaw", loop.target.url, exc_info=end
                )

    def end(self) -> None:
        """End every series now: nobody of the same id continues them."""
        self._rhythm.stop()
        self._end_gone()
        for pool in self._pools:
            for loop in pool.loops:
                loop.end(self._clock.time())

    def _end_gone(self) -> None:
        """End what would end in a while: series of targets that are gone, and those left that nobody continues."""
        now_s = self._clock.time()
        for pool in self._pools:
            for loop in pool.ending:
                loop.end(now_s)
        for remains in self._remains.values():
            remains.end(now_s, self._downstream)
        self._remains.clear()

    def _starter(self, job: Job) -> Callable[[Target], TargetLoop]:
        if job.http not in self._clients:
            self._clients[job.http] = http_client(job.http, self._context.clients, self._context.environment)
        client = self._clients[job.http]

        def start(target: Target) -> TargetLoop:
            columns, scraped_s = self._inherited(target)
            loop = TargetLoop(target, self._context, client, self._downstream, self._clock, columns)
            loop.scraped_s = scraped_s
            return loop

        return start

    def _inherited(self, target: Target) -> tuple[TargetColumns | None, float]:
        """The series that a receiver before this one has left of a target, and when it was scraped last."""
        remains = self._remains.pop(target.key, None)
        if remains is None:
            return None, 0.0
        if not remains.fit(target):  # they end before they begin again, perhaps as others
            remains.end(self._clock.time(), self._downstream)
            return None, 0.0
        remains.columns.renew(target)
        return remains.columns, remains.scraped_s

    async def _end_remains(self, key: str, remains: Remains) -> None:
        """End series that nobody has continued by the time Prometheus would."""
        interval_s = remains.target.interval_s
        missed_s = remains.scraped_s + interval_s
        await self._clock.sleep(max(0.0, missed_s + 1.1 * interval_s - self._clock.time()))
        if self._remains.pop(key, None) is not None and not self._rhythm.stopped:
            remains.end(missed_s, self._downstream)

    async def _discover(self, pool: JobTargets, number: int, discovery: Discovery) -> None:
        while True:
            try:
                async for groups in discovery.updates(self._clock):
                    if self._rhythm.stopped:
                        return
                    pool.update(number, groups)
            except Exception:
                log.exception("a discovery failed in a way nobody foresaw; beginning it anew")
            await self._clock.sleep(_DISCOVER_AGAIN_S)

    def _released(self) -> None:
        """A target's labels are free again: another one may have waited for them."""
        for pool in self._pools:
            if pool.refused and not self._rhythm.stopped:
                pool.sync()


class _Beats:
    """Scrapes loops together that share an interval and a phase; a task runs for each such beat."""

    def __init__(self, clock: Clock, offset_s: float, released: Callable[[], None]) -> None:
        self._clock = clock
        self._offset_s = offset_s
        self._released = released
        self._first_s = 0.0
        self._beats: dict[tuple[float, float], dict[TargetLoop, None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self.stopped = False

    def start(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._first_s = self._clock.time() + self._offset_s

    def stop(self) -> None:
        """Scrape nothing more."""
        self.stopped = True
        for loops in self._beats.values():
            loops.clear()

    def add(self, loop: TargetLoop) -> None:
        assert self._group is not None
        beat = loop.target.interval_s, loop.phase_s
        if beat not in self._beats:
            self._beats[beat] = {}
            self._group.create_task(self._keep_time(beat))
        self._beats[beat][loop] = None

    def remove(self, loop: TargetLoop) -> None:
        self._beats.get((loop.target.interval_s, loop.phase_s), {}).pop(loop, None)

    def finish(self, loop: TargetLoop, then: Callable[[], None]) -> Callable[[], None]:
        """End the series at the first scrape that is missed.

        That is said only after a second one and a bit, as in Prometheus: the target may come back.
        """
        assert self._group is not None
        task = self._group.create_task(self._finish(loop, then))
        return lambda: None if task.done() else _cancel(task)

    async def _keep_time(self, beat: tuple[float, float]) -> None:
        loops = self._beats[beat]
        if (wait_s := self._first_s - self._clock.time()) > 0:
            await self._clock.sleep(wait_s)
        async for timestamp_s in ticks(*beat, self._clock):
            for loop in tuple(loops):
                loop.begin(timestamp_s)
            if not loops:
                del self._beats[beat]
                return

    async def _finish(self, loop: TargetLoop, then: Callable[[], None]) -> None:
        interval_s, now_s = loop.target.interval_s, self._clock.time()
        missed_s = now_s + interval_s - (now_s - loop.phase_s) % interval_s
        if loop.scraped_s:
            await self._clock.sleep(missed_s - now_s + 1.1 * interval_s)
            loop.end(missed_s)
        loop.close()
        then()
        self._released()


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _discoveries(scrape: ScrapeConfig, context: Context) -> list[Discovery]:
    """What finds the targets of a job, beside those that it lists itself."""
    found: list[Discovery] = [FileDiscovery(one) for one in scrape.file_sd_configs]
    found += [DnsDiscovery(one) for one in scrape.dns_sd_configs]
    for section in scrape.http_sd_configs:
        client = http_client(section.http_settings(), context.clients, context.environment)
        found.append(HttpDiscovery(section, client))
    return found
