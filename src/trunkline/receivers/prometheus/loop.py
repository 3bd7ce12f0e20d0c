"""One target: its moment, its series, the scrape under way (components.md 5.6 to 5.9)."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trunkline.component.memory import Pressure
from trunkline.component.schedule import Clock, beat_of
from trunkline.errors import BodyTooLargeError, ExpositionError, FetchError
from trunkline.model import Batch, Resource
from trunkline.net.fetcher import repeatedly
from trunkline.net.message import Request
from trunkline.receivers.prometheus.columns import TargetColumns
from trunkline.receivers.prometheus.job import is_openmetrics
from trunkline.receivers.prometheus.target import Target

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context
    from trunkline.net.client import Answer, Waiter
    from trunkline.net.fetcher import Begin, Fetcher

log = logging.getLogger(__name__)

LAST_SCRAPE_TIMEOUT_S: Final = 3.0
JUST_AFTER_S: Final = 0.001
_TOO_LARGE: Final = "the body is larger than the limit"


class TargetLoop:
    """Scrapes one target whenever it is told to.

    No task runs for it: the client calls back, and the body is read where it was received.
    """

    def __init__(
        self,
        target: Target,
        context: Context,
        client: Fetcher,
        downstream: Consumer,
        clock: Clock,
        columns: TargetColumns | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._metrics = context.metrics
        self._memory = context.memory
        self._receiver = str(context.id)
        identity = context.identity.identity if target.local else {}
        self._mortal = bool(identity)
        self.columns = columns or TargetColumns(target, Resource(target.attributes, identity))
        self._inlet = downstream.open(self.columns.table)
        # Tasks that start together and share a configuration must not all be scraped, and all send, at one moment.
        self._process = context.identity.identity.get("aws_ecs_task_id") or socket.gethostname()
        self._failing = False
        self._closed = False
        self._ending = False
        self._refused = False
        self._under_way = False
        self._ended = asyncio.Event()
        self._next_s: float | None = None
        self.scraped_s = 0.0
        """When it was scraped last, in seconds since the epoch; 0 if it never was."""
        self._started = 0.0
        self._content_type: str | None = None
        self._openmetrics = False
        self._body_bytes = 0
        self.aim(target)

    def aim(self, target: Target) -> None:
        """Scrape `target` from now on, whose series are those of the one before; it may be somewhere else."""
        self.target = target
        self.columns.aim(target)
        self.phase_s = beat_of(target.key, target.interval_s, self._process)
        self._request = Request("GET", target.url, _headers(target))
        self._begin = self._prepared()

    def refuse(self, why: str) -> None:
        """Let every scrape fail for this reason, without one being made; an empty one ends that."""
        self._refused = bool(why)
        self._begin = self._failing_begin(FetchError(why)) if why else self._prepared()

    def begin(self, timestamp_s: float) -> None:
        """Scrape the target; if the scrape before has not ended yet, as soon as that has."""
        if self._under_way:
            self._next_s = timestamp_s
            return
        if self._closed or self._ending:
            return
        self._under_way = True
        self.scraped_s = timestamp_s
        self._started = self._clock.monotonic()
        if self._memory.check() is Pressure.HARD:
            self.failed(FetchError("there is no memory for it"))
        else:
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
        """A scrape beside the rhythm, after which there is none.

        One that fails is no news, as the target may have stopped first: its series end, and `up` says nothing. What
        only this task exposes ends in any case, since no successor continues it.
        """
        if self._closed:
            return
        self._ending = True
        loop = asyncio.get_running_loop()
        until_s = loop.time() + min(self.target.timeout_s, LAST_SCRAPE_TIMEOUT_S)
        idle = await self._idle(until_s - loop.time())
        self.scraped_s = max(self._clock.time(), self.scraped_s + JUST_AFTER_S)
        self._started = self._clock.monotonic()
        fetched = idle and not self._refused and await self._scrape_once(until_s - loop.time())
        if self._mortal:
            self.end(self._clock.time())
        elif not fetched:
            self.end(self.scraped_s, reports=False)
        self._closed = True

    def end(self, timestamp_s: float, *, reports: bool = True) -> None:
        """Scrape no more, and mark every series as stale, with `reports` also `up` and its like."""
        if self.scraped_s and not self._closed:
            after_s = max(timestamp_s, self.scraped_s + JUST_AFTER_S)
            self._inlet.consume(self.columns.ended(after_s, reports=reports))
            self.columns.handed_on()
        self._closed = True

    def close(self) -> None:
        self._closed = True
        self._inlet.close()

    def _prepared(self) -> Begin:
        try:
            return repeatedly(
                self._client,
                self._request,
                timeout_s=self.target.timeout_s,
                max_body_bytes=self._max_body_bytes(),
            )
        except FetchError as error:
            return self._failing_begin(error)

    def _max_body_bytes(self) -> int:
        return self.target.job.max_body_bytes(self._memory.limits.hard_bytes)

    def _failing_begin(self, error: FetchError) -> Begin:
        def begin(waiter: Waiter) -> None:
            waiter.failed(error)

        return begin

    async def _idle(self, timeout_s: float) -> bool:
        """Wait for the end of a scrape under way; false if it does not come."""
        if self._under_way:
            self._next_s = None
            self._ended.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._ended.wait()
            except TimeoutError:
                return False
        return True

    async def _scrape_once(self, timeout_s: float) -> bool:
        self._under_way = True
        try:
            answer = await self._client.exchange(
                self._request, timeout_s=timeout_s, max_body_bytes=self._max_body_bytes()
            )
            self._take(answer)
        except (FetchError, ExpositionError):
            return False
        finally:
            self._under_way = False
        return True

    def _end(self) -> None:
        self._under_way = False
        self._ended.set()
        if self._next_s is not None and not self._closed:
            timestamp_s, self._next_s = self._next_s, None
            self.begin(timestamp_s)

    def _take(self, answer: Answer) -> None:
        if answer.status != 200:
            raise FetchError(f"server returned HTTP status {answer.status} {answer.reason}".rstrip())
        body = answer.body
        self._body_bytes = len(body)
        if 0 < self.target.job.body_limit <= self._body_bytes:
            raise BodyTooLargeError(_TOO_LARGE)
        content_type = answer.headers.get("content-type", "")
        if content_type != self._content_type:
            self._openmetrics = self._is_openmetrics(content_type) if body else False
            self._content_type = content_type if body else None
        batch, samples = self.columns.scraped(body, self._openmetrics, self.scraped_s)
        if self._failing:
            log.info("target %s answers again", self.target.url)
            self._failing = False
        self._metrics.scraped.add(samples, self._receiver)
        self._hand_on(batch, "success")

    def _is_openmetrics(self, content_type: str) -> bool:
        try:
            return is_openmetrics(content_type, self.target.job.fallback)
        except ValueError as error:
            raise ExpositionError(str(error)) from None

    def _give_up(self, reason: Exception) -> None:
        if isinstance(reason, BodyTooLargeError) and self.target.job.body_limit:
            reason = BodyTooLargeError(f"{_TOO_LARGE}: body_size_limit is {self.target.job.body_limit} bytes")
        if not self._failing:
            log.warning("target %s cannot be scraped: %s; trying on", self.target.url, reason)
            self._failing = True
        if self.target.job.failure_log:
            note_failure(self.target.job.failure_log, self.target.url, str(reason))
        if isinstance(reason, FetchError):
            self._body_bytes = -1 if isinstance(reason, BodyTooLargeError) else 0
        self._hand_on(self.columns.failed(self.scraped_s, self._body_bytes), "failure")

    def _hand_on(self, batch: Batch, outcome: str) -> None:
        self.columns.set_duration(batch, self._clock.monotonic() - self._started)
        self._inlet.consume(batch)
        self.columns.handed_on()
        self._metrics.scrapes.add(1, self._receiver, outcome)
        self._metrics.scrape_duration.observe(self._clock.monotonic() - self._started, self._receiver)


def note_failure(path: str, url: str, reason: str) -> None:
    """Add a line to the file that a job keeps for failed scrapes."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "ERROR",
        "msg": reason,
        "target": url,
    }
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        log.debug("scrape_failure_log_file %s cannot be written: %s", path, error.strerror)


def _headers(target: Target) -> dict[str, str]:
    # Compressing costs both sides more than it saves when the bytes never leave the host.
    compressed = target.job.compression and not target.local
    return {
        "Accept": target.job.accept,
        "Accept-Encoding": "gzip" if compressed else "identity",
        "X-Prometheus-Scrape-Timeout-Seconds": f"{target.timeout_s:g}",
    }
