"""When targets are scraped, and what becomes of the answers (components.md 5.6 to 5.9)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from trunkline.component.schedule import Clock, SystemClock, beat_of, ticks
from trunkline.errors import ExpositionError, FetchError
from trunkline.model import Batch, Resource
from trunkline.net.fetcher import repeatedly
from trunkline.net.message import Request
from trunkline.receivers.prometheus.columns import TargetColumns
from trunkline.receivers.prometheus.target import Target, targets_of

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context
    from trunkline.net.client import Answer
    from trunkline.net.fetcher import Fetcher
    from trunkline.receivers.prometheus.config import PrometheusFile

log = logging.getLogger(__name__)

ACCEPT: Final = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
LAST_SCRAPE_TIMEOUT_S: Final = 3.0


class PrometheusReceiver:
    """Runs one loop per target until cancelled."""

    def __init__(
        self, file: PrometheusFile, context: Context, downstream: Consumer, clock: Clock | None = None
    ) -> None:
        self._client = context.clients.client()
        self._clock = clock or SystemClock()
        self._loops = [
            TargetLoop(target, context, self._client, downstream, self._clock) for target in targets_of(file)
        ]

    async def run(self) -> None:
        beats: defaultdict[tuple[float, float], list[TargetLoop]] = defaultdict(list)
        for loop in self._loops:
            beats[loop.target.interval_s, loop.phase_s].append(loop)
        try:
            async with asyncio.TaskGroup() as group:
                for (interval_s, phase_s), loops in beats.items():
                    group.create_task(self._keep_time(interval_s, phase_s, loops))
        finally:
            for loop in self._loops:
                loop.close()
            await self._client.aclose()

    async def drain(self) -> None:
        """Scrape every target a last time."""
        await asyncio.gather(*(loop.last_scrape() for loop in self._loops))

    async def _keep_time(self, interval_s: float, phase_s: float, loops: Sequence[TargetLoop]) -> None:
        async for timestamp_s in ticks(interval_s, phase_s, self._clock):
            for loop in loops:
                loop.begin(timestamp_s)


class TargetLoop:
    """One target: its moment, its series, the scrape under way.

    No task runs for it: the client calls back, and the body is read where it was received.
    """

    def __init__(
        self, target: Target, context: Context, client: Fetcher, downstream: Consumer, clock: Clock
    ) -> None:
        self.target = target
        self._client = client
        self._clock = clock
        self._metrics = context.metrics
        self._receiver = str(context.id)
        identity = context.identity.identity if target.local else {}
        self._columns = TargetColumns(target, Resource(target.attributes, identity))
        self._inlet = downstream.open(self._columns.table)
        self._request = Request("GET", target.url, _headers(target))
        self._begin = repeatedly(
            client, self._request, timeout_s=target.timeout_s, max_body_bytes=target.max_body_bytes
        )
        # Tasks that start together and share a configuration must not all be scraped, and all send, at one moment.
        task = context.identity.identity.get("aws_ecs_task_id") or socket.gethostname()
        self.phase_s = beat_of(target.key, target.interval_s, task)
        self._failing = False
        self._closed = False
        self._under_way = False
        self._ended = asyncio.Event()
        self._next_s: float | None = None
        self._timestamp_s = 0.0
        self._started = 0.0

    def begin(self, timestamp_s: float) -> None:
        """Scrape the target; if the scrape before has not ended yet, as soon as that has."""
        if self._under_way:
            self._next_s = timestamp_s
            return
        self._under_way = True
        self._timestamp_s = timestamp_s
        self._started = self._clock.monotonic()
        self._begin(self)

    def answered(self, answer: Answer) -> None:
        if not self._closed:
            try:
                self._take(answer)
            except (FetchError, ExpositionError) as error:
                self._give_up(error)
            except Exception:
                log.exception("scraping %s failed in a way nobody foresaw; going on", self.target.url)
        self._end()

    def failed(self, error: FetchError) -> None:
        if not self._closed:
            try:
                self._give_up(error)
            except Exception:
                log.exception("scraping %s failed in a way nobody foresaw; going on", self.target.url)
        self._end()

    async def last_scrape(self) -> None:
        """A scrape beside the rhythm; one that fails says nothing, as the target may have stopped first."""
        while self._under_way:
            self._ended.clear()
            await self._ended.wait()
        self._under_way = True
        self._timestamp_s, self._started = self._clock.time(), self._clock.monotonic()
        timeout_s = min(self.target.timeout_s, LAST_SCRAPE_TIMEOUT_S)
        with suppress(FetchError, ExpositionError):
            answer = await self._client.exchange(
                self._request, timeout_s=timeout_s, max_body_bytes=self.target.max_body_bytes
            )
            self._take(answer)
        self._end()

    def close(self) -> None:
        self._closed = True
        self._inlet.close()

    def _end(self) -> None:
        self._under_way = False
        self._ended.set()
        if self._next_s is not None and not self._closed:
            timestamp_s, self._next_s = self._next_s, None
            self.begin(timestamp_s)

    def _take(self, answer: Answer) -> None:
        if answer.status != 200:
            raise FetchError(f"server returned HTTP status {answer.status} {answer.reason}")
        openmetrics = answer.headers.get("content-type", "").startswith("application/openmetrics-text")
        batch, samples = self._columns.scraped(answer.body, openmetrics, self._timestamp_s)
        if self._failing:
            log.info("target %s answers again", self.target.url)
            self._failing = False
        self._metrics.scraped.add(samples, self._receiver)
        self._hand_on(batch, "success")

    def _give_up(self, reason: Exception) -> None:
        if not self._failing:
            log.warning("target %s cannot be scraped: %s; trying on", self.target.url, reason)
            self._failing = True
        self._hand_on(self._columns.failed(self._timestamp_s), "failure")

    def _hand_on(self, batch: Batch, outcome: str) -> None:
        self._columns.set_duration(batch, self._clock.monotonic() - self._started)
        self._inlet.consume(batch)
        self._columns.handed_on()
        self._metrics.scrapes.add(1, self._receiver, outcome)
        self._metrics.scrape_duration.observe(self._clock.monotonic() - self._started, self._receiver)


def _headers(target: Target) -> dict[str, str]:
    # Compressing costs both sides more than it saves when the bytes never leave the host.
    compressed = target.compression and not target.local
    return {
        "Accept": ACCEPT,
        "Accept-Encoding": "gzip" if compressed else "identity",
        "X-Prometheus-Scrape-Timeout-Seconds": f"{target.timeout_s:g}",
    }
