"""The scrape loops: one per target, each owning its target's series (components.md 5.6 to 5.9)."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from trunkline.component.schedule import Clock, SystemClock, collect_at, phase_of, ticks
from trunkline.errors import ExpositionError, FetchError
from trunkline.model import Batch, Resource
from trunkline.net.message import Request
from trunkline.receivers.prometheus.columns import TargetColumns
from trunkline.receivers.prometheus.target import Target, targets_of

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context
    from trunkline.net.client import Client
    from trunkline.net.message import Response
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
        self._loops = [
            TargetLoop(target, context, self._client, downstream, clock or SystemClock())
            for target in targets_of(file)
        ]

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for loop in self._loops:
                    group.create_task(loop.run(), name=f"scrape {loop.target.url}")
        finally:
            for loop in self._loops:
                loop.close()
            await self._client.aclose()

    async def drain(self) -> None:
        """Scrape every target a last time."""
        await asyncio.gather(*(loop.last_scrape() for loop in self._loops))


class TargetLoop:
    """One target: its rhythm, its series, what its last scrape held."""

    def __init__(
        self, target: Target, context: Context, client: Client, downstream: Consumer, clock: Clock
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
        # Tasks that start together and share a configuration must not all be scraped, and all send, at one moment.
        task = context.identity.identity.get("aws_ecs_task_id") or socket.gethostname()
        self.phase_s = phase_of(f"{task} {target.key}", target.interval_s)
        self._failing = False
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        due = ticks(self.target.interval_s, self.phase_s, self._clock)
        await collect_at(due, self._scrape, self.target.url)

    async def last_scrape(self) -> None:
        """A scrape beside the rhythm; one that fails says nothing, as the target may have stopped first."""
        async with self._busy:
            timestamp_s, started = self._clock.time(), self._clock.monotonic()
            with suppress(FetchError, ExpositionError):
                response = await self._fetch(min(self.target.timeout_s, LAST_SCRAPE_TIMEOUT_S))
                self._take(response, timestamp_s, started)

    def close(self) -> None:
        self._inlet.close()

    async def _scrape(self, timestamp_s: float) -> None:
        async with self._busy:
            started = self._clock.monotonic()
            try:
                response = await self._fetch(self.target.timeout_s)
                self._take(response, timestamp_s, started)
            except (FetchError, ExpositionError) as error:
                self._give_up(str(error), timestamp_s, started)

    async def _fetch(self, timeout_s: float) -> Response:
        response = await self._client.exchange(
            self._request, timeout_s=timeout_s, max_body_bytes=self.target.max_body_bytes
        )
        if response.status != 200:
            raise FetchError(f"server returned HTTP status {response.status} {response.reason}")
        return response

    def _take(self, response: Response, timestamp_s: float, started: float) -> None:
        openmetrics = response.headers.get("content-type", "").startswith("application/openmetrics-text")
        batch, samples = self._columns.scraped(response.body, openmetrics, timestamp_s)
        if self._failing:
            log.info("target %s answers again", self.target.url)
            self._failing = False
        self._metrics.scraped.add(samples, self._receiver)
        self._hand_on(batch, started, "success")

    def _give_up(self, reason: str, timestamp_s: float, started: float) -> None:
        if not self._failing:
            log.warning("target %s cannot be scraped: %s; trying on", self.target.url, reason)
            self._failing = True
        self._hand_on(self._columns.failed(timestamp_s), started, "failure")

    def _hand_on(self, batch: Batch, started: float, outcome: str) -> None:
        duration_s = self._clock.monotonic() - started
        self._columns.set_duration(batch, duration_s)
        self._inlet.consume(batch)
        self._columns.handed_on()
        self._metrics.scrapes.add(1, self._receiver, outcome)
        self._metrics.scrape_duration.observe(self._clock.monotonic() - started, self._receiver)


def _headers(target: Target) -> dict[str, str]:
    # Compressing costs both sides more than it saves when the bytes never leave the host.
    compressed = target.compression and not target.local
    return {
        "Accept": ACCEPT,
        "Accept-Encoding": "gzip" if compressed else "identity",
        "X-Prometheus-Scrape-Timeout-Seconds": f"{target.timeout_s:g}",
    }
