"""What tests of components need, ours and other people's: a context, a consumer that remembers, a clock.

seen = Recorder()
receiver = MyConfig(...).build(context_for("myreceiver"), seen)
await receiver.drain()
assert seen.batches[0].value("up") == 1
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from trunkline.aws.credentials import CredentialsFactory
from trunkline.component.contract import ComponentId, Context, Extension
from trunkline.component.metrics import SelfMetrics
from trunkline.model import Batch, Extra, Labels, Resource, Series, Table
from trunkline.net.client import ClientFactory


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample as it passed. `timestamp_ms` is in milliseconds since the epoch."""

    series: Series
    value: float
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class SeenBatch:
    """A batch, copied, since batches are valid only while they are consumed."""

    samples: tuple[Sample, ...]
    extras: tuple[Extra, ...] = ()

    def value(self, name: str, **labels: str) -> float:
        """The value of the one series with this name and these labels; raises LookupError if it is not one."""
        found = [
            sample for sample in self.samples if _matches(sample.series.labels, {"__name__": name, **labels})
        ]
        if len(found) != 1:
            raise LookupError(f"{len(found)} series match {name} {labels}")
        return found[0].value

    def names(self) -> list[str]:
        """The metric names in slot order."""
        return [sample.series.name for sample in self.samples]


class Recorder:
    """A consumer that remembers everything it is given, and its own inlet."""

    def __init__(self) -> None:
        self.batches: list[SeenBatch] = []
        self.opened: list[Table] = []
        self.closed = 0
        self._arrived = asyncio.Event()

    def open(self, table: Table) -> Recorder:
        self.opened.append(table)
        return self

    def consume(self, batch: Batch) -> None:
        samples = []
        for slot in batch.slots():
            series = batch.table.series[slot]
            assert series is not None
            samples.append(Sample(series, batch.values[slot], batch.timestamp_of(slot)))
        self.batches.append(SeenBatch(tuple(samples), tuple(batch.extras)))
        self._arrived.set()

    def close(self) -> None:
        self.closed += 1

    async def wait_for(self, batches: int, timeout_s: float = 10.0) -> None:
        """Wait until that many batches have arrived. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while len(self.batches) < batches:
                self._arrived.clear()
                await self._arrived.wait()


@dataclass(slots=True)
class VirtualClock:
    """Time that passes only when somebody sleeps, at once. Seconds since the epoch."""

    now_s: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


def context_for(
    name: str,
    *,
    identity: Resource | None = None,
    environment: Mapping[str, str] | None = None,
    extensions: Mapping[str, Extension] | None = None,
) -> Context:
    """What the host would lend a component called `name`."""
    kind, _, own = name.partition("/")
    clients = ClientFactory()
    environment = environment or {}
    return Context(
        id=ComponentId(kind, own),
        metrics=SelfMetrics(),
        clients=clients,
        credentials=CredentialsFactory(clients, environment),
        identity=identity or Resource(),
        extensions=extensions or {},
        environment=environment,
    )


def _matches(labels: Labels, wanted: Mapping[str, str]) -> bool:
    have = dict(labels)
    return all(have.get(name) == value for name, value in wanted.items())
