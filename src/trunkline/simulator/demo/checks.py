"""What must hold of a demo. Each check is a function of the evidence alone, so that it can be shown to fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.simulator.demo.evidence import (
    APPLICATION_COUNTERS,
    CPU,
    MEMORY,
    PLATFORM_METRICS,
    TASK,
    Evidence,
    RunningTask,
    Used,
)
from trunkline.simulator.demo.refusals import PROBE, Refusal

FIRST_METRICS_WITHIN_S: Final = 20.0
MEMORY_LIMIT_BYTES: Final = 1_000_000_000
MIB: Final = 1 << 20
WINDOW_S: Final = 5.0
"""The simulated ECS reads a task's figures this often; a metric is of a reading that much older at most."""

MEMORY_TOLERANCE: Final = 0.10
MEMORY_SLACK_MIB: Final = 2.0
"""The metric cuts off fractions of a MiB, once for each container."""
CPU_TOLERANCE: Final = 0.25
CPU_SLACK_UNITS: Final = 10.0
"""Of 1,024 in a vCPU: the kernel counts a process' time in ticks of 10 ms, and readings are not simultaneous."""

IDENTITY: Final = {
    "cloud_account_id": "account",
    "cloud_region": "region",
    "aws_ecs_cluster_name": "cluster",
    "aws_ecs_service_name": "service",
}
"""Label → field of a task that it has to repeat."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that holds or does not, and why."""

    name: str
    ok: bool
    detail: str


def check_first_metrics(evidence: Evidence) -> Check:
    """The first metrics of every account can be queried soon after the start."""
    name, took_s = f"first metrics within {FIRST_METRICS_WITHIN_S:g} s", evidence.first_metrics_s
    if took_s is None:
        return Check(name, False, "there have not been metrics of every account")
    return Check(name, took_s <= FIRST_METRICS_WITHIN_S, f"those of the last account after {took_s:.1f} s")


def check_up(evidence: Evidence) -> Check:
    """Every task that ECS knows is scraped, in every account, and `up`."""
    name = "every task is up"
    value = {each.labels.get(TASK, ""): each.value for each in evidence.up}
    problems = [
        f"{_shown(task)} is {_state(value.get(task.id))}"
        for task in evidence.tasks
        if value.get(task.id) != 1
    ]
    return _judged(name, evidence.tasks, problems, f"up is 1 for {_count_by_account(evidence.tasks)}")


def _state(value: float | None) -> str:
    return "not scraped" if value is None else f"{value:g}"


def check_counters(evidence: Evidence) -> Check:
    """Each counter of the application has grown in each task since the first metrics."""
    name = "the application's counters grow"
    grown = {
        (each.labels.get(TASK, ""), each.labels.get("__name__", "")): each.value - each.samples[0][1]
        for each in evidence.counters
    }
    problems = [
        f"{counter} of {_shown(task)} {_growth(grown.get((task.id, counter)))}"
        for task in evidence.tasks
        for counter in APPLICATION_COUNTERS
        if not grown.get((task.id, counter), 0) > 0
    ]
    least = ", ".join(
        f"{counter} by {min((grown.get((task.id, counter), 0) for task in evidence.tasks), default=0):g}"
        for counter in APPLICATION_COUNTERS
    )
    return _judged(name, evidence.tasks, problems, f"in each task at least {least}")


def _growth(growth: float | None) -> str:
    return "is not there" if growth is None else f"grew by {growth:g}"


def check_platform_metrics(evidence: Evidence) -> Check:
    """All eight metrics of the reference configuration are there for each task, once."""
    name = f"all {len(PLATFORM_METRICS)} platform metrics of each task"
    problems = []
    for metric in PLATFORM_METRICS:
        seen = Counter(each.labels.get(TASK, "") for each in evidence.platform.get(metric, ()))
        problems += [
            f"{metric} of {_shown(task)} is there {seen[task.id]} times"
            for task in evidence.tasks
            if seen[task.id] != 1
        ]
    return _judged(name, evidence.tasks, problems, f"each once in {len(evidence.tasks)} tasks")


def check_memory(evidence: Evidence) -> Check:
    """The memory a task reports is what its processes had around that time, proportional set size."""
    tolerance = (
        f"within {MEMORY_TOLERANCE:.0%} and {MEMORY_SLACK_MIB:g} MiB of what they had in those seconds"
    )
    name = "memory agrees with the operating system"
    return _compare(name, evidence, metric=MEMORY, unit="MiB", bounds=_memory_bounds, tolerance=tolerance)


def check_cpu(evidence: Evidence) -> Check:
    """The CPU a task reports is what its processes used around that time, in units of 1/1,024 vCPU."""
    tolerance = f"within {CPU_TOLERANCE:.0%} and {CPU_SLACK_UNITS:g} units of what they used in those seconds"
    name = "CPU agrees with the operating system"
    return _compare(name, evidence, metric=CPU, unit="units", bounds=_cpu_bounds, tolerance=tolerance)


Bounds = Callable[[Sequence[Used], float], tuple[float, float] | None]
"""Readings, time of a sample → the least and most it may say; None when there are no readings around that time."""


def _compare(
    name: str, evidence: Evidence, *, metric: str, unit: str, bounds: Bounds, tolerance: str
) -> Check:
    newest = {each.labels.get(TASK, ""): each.samples[-1] for each in evidence.platform.get(metric, ())}
    problems, agreeing = [], []
    for task in evidence.tasks:
        if task.id not in newest:
            problems.append(f"{_shown(task)} has no {metric}")
            continue
        at_s, value = newest[task.id]
        found = bounds(evidence.used.get(task.id, ()), at_s)
        if found is None:
            problems.append(f"there is no reading of {_shown(task)} around the time of its sample")
        elif not found[0] <= value <= found[1]:
            problems.append(f"{_shown(task)} says {value:.1f} {unit}, not {found[0]:.1f} to {found[1]:.1f}")
        agreeing.append(f"{value:.0f}")
    return _judged(name, evidence.tasks, problems, f"{', '.join(agreeing)} {unit}, each {tolerance}")


def _memory_bounds(used: Sequence[Used], at_s: float) -> tuple[float, float] | None:
    around = [each.memory_bytes / MIB for each in _around(used, at_s)]
    if not around:
        return None
    return (
        min(around) * (1 - MEMORY_TOLERANCE) - MEMORY_SLACK_MIB,
        max(around) * (1 + MEMORY_TOLERANCE) + MEMORY_SLACK_MIB,
    )


def _cpu_bounds(used: Sequence[Used], at_s: float) -> tuple[float, float] | None:
    """Of all stretches about as long as the one the sample is of, and lying where that may lie."""
    around = _around(used, at_s, WINDOW_S)
    units = [
        (later.cpu_s - earlier.cpu_s) / (later.at_s - earlier.at_s) * 1024
        for earlier in around
        for later in around
        if 0.8 * WINDOW_S <= later.at_s - earlier.at_s <= 1.3 * WINDOW_S
    ]
    if not units:
        return None
    return min(units) * (1 - CPU_TOLERANCE) - CPU_SLACK_UNITS, max(units) * (
        1 + CPU_TOLERANCE
    ) + CPU_SLACK_UNITS


def _around(used: Sequence[Used], at_s: float, earlier_s: float = 0.0) -> list[Used]:
    slack_s = 1.5
    return [each for each in used if at_s - WINDOW_S - earlier_s - slack_s <= each.at_s <= at_s + slack_s]


def check_no_shared_series(evidence: Evidence) -> Check:
    """Every series says which one task it is of, truly; and the workspace has had no two samples for one place."""
    name = "no two tasks share a series"
    tasks = {task.id: task for task in evidence.tasks}
    problems = [f"{_series(labels)} {why}" for labels in evidence.series for why in _misplaced(labels, tasks)]
    shapes = Counter(labels.get(TASK, "") for labels in evidence.series)
    problems += [f"{_shown(task)} has no series" for task in evidence.tasks if not shapes[task.id]]
    if evidence.duplicates:
        problems.append(
            f"the workspace refused {evidence.duplicates} samples of a series and time it had already"
        )
    return _judged(
        name,
        evidence.tasks,
        problems,
        f"{len(evidence.series)} series, each of one task by its labels, and no sample for a place that was taken",
    )


def _misplaced(labels: Mapping[str, str], tasks: Mapping[str, RunningTask]) -> Iterator[str]:
    task = tasks.get(labels.get(TASK, ""))
    if TASK not in labels:
        yield "does not say of which task it is"
    elif task is not None:
        for label, field in IDENTITY.items():
            if labels.get(label) != getattr(task, field):
                yield f"has {label} {labels.get(label)!r}, and that task is of {getattr(task, field)!r}"


def _series(labels: Mapping[str, str]) -> str:
    return f"{labels.get('__name__', '')} of task {labels.get(TASK, '?')[:8]}"


def check_refusal(refusal: Refusal) -> Check:
    """It is refused with AWS's status and exactly AWS's words."""
    name, expected, answered = f"refused: {refusal.name}", refusal.expected, refusal.answered
    if answered == expected:
        return Check(name, True, f"{answered.status} {answered.text}")
    said = f"answered {answered.status} «{answered.text}», not {expected.status} «{expected.text}»"
    return Check(name, False, said)


def check_nothing_slipped_in(evidence: Evidence) -> Check:
    """None of the refused writes is in the workspace."""
    name = "none of the refused writes was stored"
    found = [labels for labels in evidence.series if labels.get("__name__") == PROBE]
    return Check(name, not found and bool(evidence.refusals), f"{len(found)} series named {PROBE}")


def check_peak_memory(evidence: Evidence) -> Check:
    """The whole demo, the workspace's server included, stays small."""
    peak = evidence.peak_bytes
    name = f"the whole demo in under {MEMORY_LIMIT_BYTES / 1e9:g} GB"
    return Check(
        name, 0 < peak < MEMORY_LIMIT_BYTES, f"at most {peak / 1e6:.0f} MB, proportional set sizes added up"
    )


CHECKS: Final = (
    check_first_metrics,
    check_up,
    check_counters,
    check_platform_metrics,
    check_memory,
    check_cpu,
    check_no_shared_series,
    check_nothing_slipped_in,
    check_peak_memory,
)


def check_all(evidence: Evidence) -> list[Check]:
    """Every check, the refusals last."""
    return [*(check(evidence) for check in CHECKS), *map(check_refusal, evidence.refusals)]


def _judged(name: str, tasks: Sequence[RunningTask], problems: Sequence[str], good: str) -> Check:
    """No problems among no tasks proves nothing."""
    if not tasks:
        return Check(name, False, "there are no tasks")
    if not problems:
        return Check(name, True, good)
    rest = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
    return Check(name, False, "; ".join(problems[:3]) + rest)


def _shown(task: RunningTask) -> str:
    return f"task {task.id[:8]} of {task.account}"


def _count_by_account(tasks: Sequence[RunningTask]) -> str:
    counts = Counter(task.account for task in tasks)
    return " and ".join(f"{count} tasks of {account}" for account, count in sorted(counts.items()))
