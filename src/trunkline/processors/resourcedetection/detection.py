"""Runs the detectors before anything is collected, and adds what they found to every resource.

Entered by the host before receivers start: what detectors need from the network is had before the first scrape.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from trunkline.component.contract import PerSeries
from trunkline.component.points import Attributes, ResourceChange
from trunkline.errors import FetchError, TrunklineError
from trunkline.model import Batch, Series, Table
from trunkline.processors.resourcedetection.detectors import DETECT, Found, Surroundings

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context, Inlet
    from trunkline.processors.resourcedetection.config import ResourceDetectionConfig

log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.5


class ResourceDetection:
    """A processor that knows its surroundings while entered."""

    def __init__(self, config: ResourceDetectionConfig, context: Context, downstream: Consumer) -> None:
        self._config = config
        self._context = context
        self._downstream = PerSeries(self._decide, downstream)
        self._refreshing: asyncio.Task[None] | None = None
        self._detected: Found = {}
        self._change = ResourceChange(self._merged)
        self.generation = 0

    async def __aenter__(self) -> Self:
        """Detect. Raises TrunklineError when a detector that applies here gives no answer in time."""
        self._take(await self._detect())
        log.info("%s: found %s", self._context.id, self._detected or "nothing")
        if self._config.refresh_interval > 0:
            self._refreshing = asyncio.create_task(self._refresh(), name=f"detect {self._context.id}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    def open(self, table: Table) -> Inlet:
        return _DetectionInlet(self, self._downstream.open(table))

    def _decide(self, series: Series) -> Series:
        return self._change(series)

    def _merged(self, attributes: Attributes) -> Attributes:
        if self._config.override:
            return {**attributes, **self._detected}
        return {**self._detected, **attributes}

    def _take(self, detected: Found) -> None:
        """Have every series decided anew if something is different from before."""
        if detected != self._detected:
            self._detected = detected
            self._change = ResourceChange(self._merged)
            self.generation += 1

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(self._config.refresh_interval)
            try:
                self._take(await self._detect())
            except TrunklineError as error:
                log.warning("%s: %s; what was found before stays", self._context.id, error)

    async def _detect(self) -> Found:
        client = self._context.clients.client()
        surroundings = Surroundings(self._config, self._context.environment, client)
        names = [name.strip() for name in self._config.detectors]
        try:
            async with asyncio.TaskGroup() as group:
                asked = [(name, group.create_task(self._ask(name, surroundings))) for name in names]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            await client.aclose()
        found: Found = {}
        for name, task in asked:
            wanted = {key: value for key, value in task.result().items() if self._config.wants(name, key)}
            found = {**wanted, **found}
        return found

    async def _ask(self, name: str, surroundings: Surroundings) -> Found:
        """What a detector finds; what fails is tried again until the time is up."""
        error: FetchError | None = None
        pause_s = _FIRST_PAUSE_S
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.timeout):
                while True:
                    try:
                        return await DETECT[name](surroundings)
                    except FetchError as failure:
                        error = failure
                    await asyncio.sleep(pause_s)
                    pause_s *= 2
        why = f": {error}" if error else ""
        raise TrunklineError(
            f"{self._context.id}: the detector {name} gave no answer within {self._config.timeout:g}s{why}. Take it out "
            "of detectors if it does not apply here, or raise timeout"
        )


class _DetectionInlet:
    """Has every series decided anew when something else has been detected."""

    def __init__(self, detection: ResourceDetection, inner: Inlet) -> None:
        self._detection = detection
        self._inner = inner
        self._generation = detection.generation

    def consume(self, batch: Batch) -> None:
        changes: dict[str, Any] = {}
        if self._generation != self._detection.generation:
            self._generation = self._detection.generation
            changes["changed"] = range(len(batch.table))
        self._inner.consume(replace(batch, **changes) if changes else batch)

    def close(self) -> None:
        self._inner.close()
