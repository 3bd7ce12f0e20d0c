"""What the queue takes of the collector's time: the same load with the queue on disk, flushed to the device, and in memory.

In memory is what the collector falls back to where it may not write: everything else of the way is the same.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.collectors import Launch, Plan, trunkline
from bench.measure import Run, run
from bench.scenarios import Scenario
from trunkline.collector.queue import DiskQueue, Queue
from trunkline.component.contract import Fragment, Limits

TARGETS: Final = 50
SERIES: Final = 2000
SAMPLE_BYTES: Final = 30


@dataclass(frozen=True)
class QueueCost:
    """CPU time of one sample, in nanoseconds: of all the collector does, by where samples wait; and of the queue alone."""

    scenario: str
    in_memory: float
    on_disk: float
    flushed: float
    alone_on_disk: float
    alone_flushed: float


async def measure(scenario: Scenario, rounds: int) -> QueueCost:
    """Run the collector in turn with each kind of queue. Raises RunFailedError."""
    found: dict[str, list[float]] = {name: [] for name in _KINDS}
    for number in range(1, rounds + 1):
        for name, launch in _KINDS.items():
            one: Run = await run(scenario, replace(trunkline(), launch=launch), number)
            found[name].append(one.cpu_ns_per_sample)
    whole = {name: statistics.median(costs) for name, costs in found.items()}
    return QueueCost(
        scenario.name, **whole, alone_on_disk=_alone(fsync=False), alone_flushed=_alone(fsync=True)
    )


def _alone(*, fsync: bool) -> float:
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder:
        queue = DiskQueue(Path(folder), lambda _samples, _reason: None, fsync=fsync)
        try:
            return by_itself(queue)
        finally:
            queue.close()


def by_itself(queue: Queue, rounds: int = 50) -> float:
    """CPU time in ns that a queue takes for a sample that is kept, taken at once and delivered: no other work beside it.

    A second of 50 targets of 2,000 series at a time, as the collector writes it: in one go.
    """
    data = os.urandom(SERIES * SAMPLE_BYTES)
    began_s = time.process_time()
    for stamp in range(rounds):
        queue.append([Fragment(lane, data, 3 * len(data), SERIES, stamp, stamp) for lane in range(TARGETS)])
        while (chunk := queue.take(Limits())) is not None:
            queue.settle(chunk)
    return (time.process_time() - began_s) / (rounds * TARGETS * SERIES) * 1e9


def told(cost: QueueCost) -> str:
    """A line for people."""
    return (
        f"the queue at {cost.scenario} targets (see bench/queue_cost.py): {cost.on_disk - cost.in_memory:+.0f} ns per "
        f"sample on disk, {cost.flushed - cost.in_memory:+.0f} with fsync; {cost.in_memory:.0f} with all in memory; by "
        f"itself {cost.alone_on_disk:.0f} and {cost.alone_flushed:.0f}"
    )


def _in_memory(plan: Plan) -> Launch:
    (plan.folder / "data").write_text("in the way of the folder")
    return trunkline().launch(plan)


def _flushed(plan: Plan) -> Launch:
    launch = trunkline().launch(plan)
    written = plan.folder / "trunkline.yaml"
    document = json.loads(written.read_text())
    document["exporters"]["prometheusremotewrite"]["queue"] = {"fsync": True}
    written.write_text(json.dumps(document))
    return launch


_KINDS: Final[dict[str, Callable[[Plan], Launch]]] = {
    "in_memory": _in_memory,
    "on_disk": lambda plan: trunkline().launch(plan),
    "flushed": _flushed,
}
