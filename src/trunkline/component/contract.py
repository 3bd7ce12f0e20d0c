"""The contract between components and the host that runs them, on one page.

A component is a frozen dataclass of its settings with a `build` method. The names users write are listed in
`trunkline.components`. The host decodes and checks the settings of a whole file, then builds every pipeline from
right to left: exporters, processors around them, receivers last. What is built is nothing but nested consumers.

- A receiver MUST `run` until cancelled, and MUST NOT let anything the outside world does end it. On `drain` it
  makes its last collection; the host cancels `run` afterwards. When the configuration is read anew, a receiver whose
  series no longer go where they went is told to `end` them; another one may leave them to its successor.
- A consumer is opened once per source (`open`), gives an `Inlet` for it, and frees with `close` what it kept for
  that source. Inlets are synchronous: when `consume` returns, the batch has been taken, kept or refused, and the
  columns may be overwritten. A consumer that has to ask the network or to listen is an async context manager, too:
  the host enters it before receivers run, though sources may have been opened by then.
- A processor that decides per series uses `PerSeries`, and costs nothing per sample. One that has to see the series
  of a metric together, or makes one of several, uses `component.reduce.PerMetric`.
- An exporter that sends over a network gives the host a `Delivery`: how a batch becomes bytes, and one function
  that sends bytes or raises one of the `DeliveryError`s. Queue, retries, back-off and counting are the host's.
- Starting MUST fail fast with a `ConfigError`; running MUST NOT fail. What is lost is counted where it is lost.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable

from trunkline.component.memory import MemoryCeiling, MemoryLimits
from trunkline.model import STALE, Batch, Resource, Series, Table

if TYPE_CHECKING:
    from trunkline.aws.credentials import CredentialsFactory
    from trunkline.component.metrics import SelfMetrics
    from trunkline.net.client import ClientFactory
    from trunkline.net.message import Request


@dataclass(frozen=True, slots=True)
class ComponentId:
    """`type` or `type/name`, as written in a configuration."""

    type: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.type}/{self.name}" if self.name else self.type


@dataclass(frozen=True, slots=True)
class Context:
    """What the host lends a component: its id, counters, the network, credentials."""

    id: ComponentId
    metrics: SelfMetrics
    clients: ClientFactory
    credentials: CredentialsFactory
    identity: Resource = field(default_factory=Resource)
    """Attributes and identity labels of the task this collector runs in; empty outside ECS."""
    extensions: Mapping[str, Extension] = field(default_factory=dict)
    """The extensions that run, by id, for components that refer to one (`auth.authenticator`)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    memory: MemoryCeiling = field(default_factory=lambda: MemoryCeiling(MemoryLimits.default()))
    """How near the process is to the memory it may have."""
    estate: dict[str, object] = field(default_factory=dict)
    """What components leave behind when the configuration is read anew, by id, for those that take their place.

    And what receivers of the same pipelines have to know of each other.
    """


class Inlet(Protocol):
    """Takes the batches of one source."""

    def consume(self, batch: Batch) -> None: ...

    def close(self) -> None: ...


class Consumer(Protocol):
    """What stands downstream of a receiver or processor."""

    def open(self, table: Table) -> Inlet: ...


class Receiver(Protocol):
    """Collects; handed its downstream when built."""

    async def run(self) -> None: ...

    async def drain(self) -> None: ...

    def end(self) -> None:
        """Mark every series as stale, collect no more and leave nothing behind. Never waits."""
        ...


class Extension(Protocol):
    """Something beside the pipelines: entered before them and left after them."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class Authenticator(Protocol):
    """An extension that exporters name under `auth.authenticator`."""

    def authorize(self, request: Request) -> Request:
        """The request with what proves who sends it; raises CredentialsError, never waits."""
        ...

    def refused(self) -> None:
        """The receiver answered 401 or 403: get new credentials soon."""
        ...


class ReceiverConfig(Protocol):
    def build(self, context: Context, downstream: Consumer) -> Receiver: ...


class ProcessorConfig(Protocol):
    def build(self, context: Context, downstream: Consumer) -> Consumer: ...


class ExporterConfig(Protocol):
    def build(self, context: Context) -> Consumer | Delivery: ...


class ExtensionConfig(Protocol):
    def build(self, context: Context) -> Extension: ...


@runtime_checkable
class Checked(Protocol):
    """A config that checks more than types: yields (key path below the component, message)."""

    def check(self) -> Iterator[tuple[str, str]]: ...


class Fragment(NamedTuple):
    """The samples of a fixed slice of one source's series in one batch, encoded.

    `lane` names the slice: one request never holds two fragments of a lane, so it holds at most one sample per
    series. `data` is joined with others by the exporter's `join`; `raw_bytes` is its size uncompressed. Without data
    and samples it says that what follows shall wait until nothing of the lane is under way.
    """

    lane: int
    data: bytes
    raw_bytes: int
    samples: int
    oldest_ms: int
    newest_ms: int


class Encoder(Protocol):
    """Makes fragments of one source's batches, keeping templates for it."""

    def encode(self, batch: Batch) -> Sequence[Fragment]: ...


LEAST_PAUSE_S: Final = 0.01
"""No settings make a sender try without any pause."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How full a request may be and how many at once; AMP's values by default."""

    max_request_bytes: int = 900_000
    max_raw_bytes: int = 3_000_000
    max_samples: int = 10_000
    max_age_s: float = 3600.0
    max_requests: int = 5


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How what waits is kept.

    In `directory`, or else the collector's own; at most `max_bytes`; with `fsync` on the device before it counts as
    accepted.
    """

    max_bytes: int = 4 * 1024**3
    directory: str = ""
    fsync: bool = False


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growing pauses with a share of chance, none longer than `max_s`. Durations in seconds."""

    initial_s: float = 0.5
    multiplier: float = 2.0
    max_s: float = 30.0
    randomization: float = 0.5

    def pause_s(self, failures: int, chance: float) -> float:
        """The pause after the `failures`-th failure in a row; `chance` is from 0 to 1."""
        longest_s = self.max_s / (1 + self.randomization)
        pause_s = min(self.initial_s * max(self.multiplier, 1.0) ** min(failures - 1, 32), longest_s)
        return max(pause_s * (1 + self.randomization * (2 * chance - 1)), LEAST_PAUSE_S)


@runtime_checkable
class Delivery(Protocol):
    """What a network exporter gives to the host.

    `destination` names where the bytes go; a queue on disk belongs to it. `send` succeeds or raises one of the
    `DeliveryError`s. `session` is open while anything may be sent.
    """

    @property
    def destination(self) -> str: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def backoff(self) -> Backoff: ...

    @property
    def queue(self) -> QueueSettings: ...

    def encoder(self, table: Table) -> Encoder: ...

    def join(self, fragments: Sequence[Fragment]) -> bytes: ...

    def halves(self, fragment: Fragment) -> Sequence[Fragment]:
        """`fragment` taken apart in two of the same lane; nothing when it holds a single series."""
        ...

    def singles(self, fragment: Fragment) -> Sequence[tuple[bytes, Fragment]]:
        """Every series of `fragment` by itself, with bytes that name it."""
        ...

    def apart(
        self, fragment: Fragment, keys: Collection[bytes]
    ) -> tuple[Sequence[Fragment], Sequence[Fragment]]:
        """The series of `fragment` with one of these names, each by itself, and all others together."""
        ...

    def describe(self, fragment: Fragment) -> str:
        """Which series `fragment` holds, for people."""
        ...

    async def send(self, body: bytes) -> None: ...

    def session(self) -> AbstractAsyncContextManager[None]: ...


class _PerSeriesInlet:
    """Keeps the decided table of one source beside the original and passes the columns on untouched."""

    def __init__(self, decide: Callable[[Series], Series | None], table: Table, downstream: Consumer) -> None:
        self._decide = decide
        self._table = Table(table.name, table.key)
        self._marks = array("q")  # the hash of what was decided: tells a series decided anew from another one
        self._downstream = downstream.open(self._table)

    def consume(self, batch: Batch) -> None:
        if batch.changed:
            self._decide_anew(batch)
        self._downstream.consume(replace(batch, table=self._table))

    def _decide_anew(self, batch: Batch) -> None:
        decided, source, marks = self._table.series, batch.table.series, self._marks
        for _ in range(len(source) - len(decided)):
            decided.append(None)
        marks.frombytes(bytes(8 * (len(source) - len(marks))))
        changes: list[tuple[int, Series | None]] = []
        leaving: list[int] = []
        for slot in batch.changed:
            series, before = source[slot], decided[slot]
            after = None if series is None else self._decide(series)
            mark = 0 if series is None else hash(series.encoded or series.labels)
            changes.append((slot, after))
            if before and mark == marks[slot] and (after is None or after.labels != before.labels):
                leaving.append(slot)
            marks[slot] = mark
        if leaving:
            self._end(leaving, batch.timestamp_ms)
        for slot, after in changes:
            decided[slot] = after

    def _end(self, slots: Sequence[int], timestamp_ms: int) -> None:
        """Mark series as stale that live on at their source, but are decided otherwise from now on."""
        values, present = array("d", bytes(8 * len(self._table))), bytearray(len(self._table))
        for slot in slots:
            values[slot] = STALE
            present[slot] = 1
        self._downstream.consume(Batch(self._table, timestamp_ms, values, (), present))

    def close(self) -> None:
        self._downstream.close()


@dataclass(frozen=True, slots=True)
class PerSeries:
    """A processor that keeps, changes (another Series) or drops (None) each series, once in its life."""

    decide: Callable[[Series], Series | None]
    downstream: Consumer

    def open(self, table: Table) -> Inlet:
        return _PerSeriesInlet(self.decide, table, self.downstream)
