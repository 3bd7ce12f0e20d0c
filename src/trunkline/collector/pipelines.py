"""From a checked configuration to parts that can be started: nothing but nested consumers, built right to left.

    receiver ─► fan-out over its pipelines ─► processor ─► … ─► fan-out over exporters ─► exporter or outbox

A receiver, exporter or extension id is one instance, shared by every pipeline that names it; processors belong to
their pipeline. Building touches neither network nor disk, so that a configuration can be tried while another runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from trunkline.collector.config import CollectorConfig, Declared, Pipeline
from trunkline.collector.sender import Sender
from trunkline.component.contract import (
    ComponentId,
    Consumer,
    Context,
    Delivery,
    Encoder,
    Extension,
    Inlet,
    Receiver,
)
from trunkline.errors import ConfigError, Problem
from trunkline.model import Batch, Table

log = logging.getLogger(__name__)

Lose: TypeAlias = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class FanOut:
    """Hands every batch to several consumers. One that fails is logged and does not keep the others from it.

    `lose` is told its name, and how many samples it has not got.
    """

    consumers: Sequence[tuple[str, Consumer]]
    lose: Lose = field(compare=False)

    def open(self, table: Table) -> Inlet:
        return _FanOutInlet([(name, consumer.open(table)) for name, consumer in self.consumers], self.lose)


class _FanOutInlet:
    """Remembers for a consumer that failed which series it has not seen, for the next batch."""

    def __init__(self, inlets: Sequence[tuple[str, Inlet]], lose: Lose) -> None:
        self._inlets = inlets
        self._lose = lose
        self._missed: dict[str, set[int]] = {}

    def consume(self, batch: Batch) -> None:
        for name, inlet in self._inlets:
            try:
                inlet.consume(self._with_missed(name, batch) if self._missed else batch)
            except Exception:
                log.exception("%s failed on a batch of %s; going on", name, batch.table.name)
                self._lose(name, len(batch.slots()) + len(batch.extras))
                self._missed.setdefault(name, set()).update(batch.changed)
            else:
                if self._missed:
                    self._missed.pop(name, None)

    def _with_missed(self, name: str, batch: Batch) -> Batch:
        missed = self._missed.get(name)
        return replace(batch, changed=sorted(missed.union(batch.changed))) if missed else batch

    def close(self) -> None:
        for _, inlet in self._inlets:
            inlet.close()


@dataclass(frozen=True, slots=True)
class Outbox:
    """The host's side of a network exporter: every source's batches, encoded, into the sender's queue."""

    delivery: Delivery
    sender: Sender

    def open(self, table: Table) -> Inlet:
        return _OutboxInlet(self.delivery.encoder(table), self.sender)


@dataclass(frozen=True, slots=True)
class _OutboxInlet:
    encoder: Encoder
    sender: Sender

    def consume(self, batch: Batch) -> None:
        fragments = self.encoder.encode(batch)
        if fragments:
            self.sender.keep(fragments)

    def close(self) -> None:
        """The encoder goes with this inlet; what it has encoded is in the queue."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """A configuration's parts, built and not yet started. `entered` are consumers to enter before receivers run."""

    config: CollectorConfig
    extensions: dict[str, Extension] = field(default_factory=dict)
    senders: dict[str, Sender] = field(default_factory=dict)
    receivers: dict[str, Receiver] = field(default_factory=dict)
    entered: list[AbstractAsyncContextManager[object]] = field(default_factory=list)


def build(
    config: CollectorConfig,
    lend: Callable[[ComponentId], Context],
    sender_for: Callable[[ComponentId, Delivery], Sender],
    guard: Callable[[str, Consumer], Consumer],
    lose: Lose,
) -> Assembly:
    """Build every part of `config`. Raises ConfigError with everything that is wrong with any of them.

    `guard` is put before a pipeline, given with its name, that has no memory_limiter of its own. `lose` is told of
    samples that a part, given by its name, has failed on.
    """
    builder = _Builder(config, lend, sender_for, guard, lose)
    builder.build()
    if builder.problems:
        raise ConfigError(sorted(builder.problems))
    return builder.assembly


class _Builder:
    """Goes on after a part that cannot be built, so that every problem is found at once."""

    def __init__(
        self,
        config: CollectorConfig,
        lend: Callable[[ComponentId], Context],
        sender_for: Callable[[ComponentId, Delivery], Sender],
        guard: Callable[[str, Consumer], Consumer],
        lose: Lose,
    ) -> None:
        self.assembly = Assembly(config)
        self.problems: list[Problem] = []
        self._config = config
        self._lend = lend
        self._sender_for = sender_for
        self._guard = guard
        self._lose = lose
        self._exporters: dict[ComponentId, Consumer] = {}

    def build(self) -> None:
        pipelines = self._config.service.pipelines
        for id_ in self._config.service.extensions:
            with self._placed(self._config.extensions[id_]) as declared:
                self.assembly.extensions[str(id_)] = declared.config.build(self._context(id_))
        for id_ in _used(pipeline.exporters for pipeline in pipelines.values()):
            # stands in for one that cannot be built, to find the other problems
            self._exporters[id_] = FanOut([], self._lose)
            with self._placed(self._config.exporters[id_]) as declared:
                self._exporters[id_] = self._consumer(id_, declared.config.build(self._context(id_)))
        heads = {name: self._pipeline(str(name), pipeline) for name, pipeline in pipelines.items()}
        for id_ in _used(pipeline.receivers for pipeline in pipelines.values()):
            downstream = FanOut(
                [
                    (str(name), heads[name])
                    for name, pipeline in pipelines.items()
                    if id_ in pipeline.receivers
                ],
                self._lose,
            )
            with self._placed(self._config.receivers[id_]) as declared:
                self.assembly.receivers[str(id_)] = declared.config.build(self._context(id_), downstream)

    def _consumer(self, id_: ComponentId, made: Consumer | Delivery) -> Consumer:
        if not isinstance(made, Delivery):
            self._have_entered(made)
            return made
        sender = self.assembly.senders[str(id_)] = self._sender_for(id_, made)
        return Outbox(made, sender)

    def _pipeline(self, name: str, pipeline: Pipeline) -> Consumer:
        exporters = [(str(id_), self._exporters[id_]) for id_ in pipeline.exporters]
        head: Consumer = FanOut(exporters, self._lose)
        for id_ in reversed(pipeline.processors):
            with self._placed(self._config.processors[id_]) as declared:
                built = declared.config.build(self._context(id_), head)
                if built is not head:
                    self._have_entered(built)
                head = built
        limited = any(id_.type == "memory_limiter" for id_ in pipeline.processors)
        return head if limited else self._guard(name, head)

    def _have_entered(self, consumer: Consumer) -> None:
        if isinstance(consumer, AbstractAsyncContextManager):
            self.assembly.entered.append(consumer)

    def _context(self, id_: ComponentId) -> Context:
        return replace(self._lend(id_), extensions=self.assembly.extensions)

    @contextmanager
    def _placed(self, declared: Declared) -> Iterator[Declared]:
        """Note what is wrong with a part together with the line that declares it."""
        try:
            yield declared
        except ConfigError as error:
            self.problems += [
                problem if problem.place else replace(problem, place=declared.place)
                for problem in error.problems
            ]


def _used(lists: Iterable[Sequence[ComponentId]]) -> list[ComponentId]:
    """Every id of the lists once, in order of appearance."""
    return list(dict.fromkeys(id_ for ids in lists for id_ in ids))
