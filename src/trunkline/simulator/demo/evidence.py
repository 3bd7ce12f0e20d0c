"""What is known of a demo while it runs: from the workspace by signed queries, from ECS, from the operating system."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

from trunkline.aws.workspace import Found, Workspace
from trunkline.simulator.demo.refusals import Refusal

PLATFORM_METRICS: Final = (
    "ecs_task_memory_utilized_MiB",
    "ecs_task_memory_reserved_MiB",
    "ecs_task_cpu_utilized_None",
    "ecs_task_cpu_reserved_None",
    "ecs_task_network_rate_rx_Bytes_per_Second",
    "ecs_task_network_rate_tx_Bytes_per_Second",
    "ecs_task_storage_read_bytes_Bytes",
    "ecs_task_storage_write_bytes_Bytes",
)
"""What becomes of the reference configuration's eight ECS metrics by remote write."""

MEMORY: Final = PLATFORM_METRICS[0]
CPU: Final = PLATFORM_METRICS[2]
APPLICATION_COUNTERS: Final = ("shop_order_items_total", "shop_orders_total")
OURS: Final = 'cloud_account_id!=""'
NOT_OURS: Final = 'job!="trunkline"'
"""Without what the collectors tell of themselves."""

TASK: Final = "aws_ecs_task_id"
_PLACE: Final = ("cloud_account_id", "cloud_region", "aws_ecs_service_name")
_RATE_WINDOW_S: Final = 60
_STEP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task as ECS has it."""

    account: str
    region: str
    cluster: str
    service: str
    id: str


@dataclass(frozen=True, slots=True)
class Used:
    """What the operating system said of a task's processes at one moment; `cpu_s` grows."""

    at_s: float
    memory_bytes: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the checks judge."""

    tasks: Sequence[RunningTask]
    up: Sequence[Found] = ()
    counters: Sequence[Found] = ()
    """Over the time since the first metrics, summed by task and metric name."""
    platform: Mapping[str, Sequence[Found]] = field(default_factory=dict)
    """Metric → series, each with its newest sample at the time it was taken."""
    series: Sequence[Mapping[str, str]] = ()
    used: Mapping[str, Sequence[Used]] = field(default_factory=dict)
    """Task id → readings, oldest first."""
    duplicates: int = 0
    """Samples the workspace refused because it had another of that series and time already."""
    refusals: Sequence[Refusal] = ()
    first_metrics_s: float | None = None
    """From the start until every account's first metrics could be queried."""
    peak_bytes: int = 0


class Stored(TypedDict):
    """The part of the evidence that the workspace gives."""

    up: Sequence[Found]
    counters: Sequence[Found]
    platform: Mapping[str, Sequence[Found]]
    series: Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the live table; the age is None before the first sample."""

    account: str
    region: str
    service: str
    tasks: int
    up: int
    series: int
    per_second: float
    age_s: float | None
    queue: int
    refused: int


def selector(name: str, more: str = "") -> str:
    """A PromQL selector for a metric."""
    return f"{name}{{{OURS}{',' + more if more else ''}}}"


UP: Final = selector("up", NOT_OURS)
"""Of the applications; a collector is up whenever it can say so."""


def running_tasks(
    clients: Callable[[str, str, str], Any], places: Sequence[tuple[str, str]]
) -> list[RunningTask]:
    """The tasks that ECS wants running in these accounts and regions, by its API; blocking.

    `clients` gives a boto3 client for an account, a region and a service.
    """
    found = []
    for account, region in places:
        ecs = clients(account, region, "ecs")
        for cluster in ecs.list_clusters()["clusterArns"]:
            arns = ecs.list_tasks(cluster=cluster)["taskArns"]
            for task in ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else ():
                service = task["group"].removeprefix("service:")
                found.append(
                    RunningTask(account, region, cluster.rpartition("/")[2], service, _last(task["taskArn"]))
                )
    return found


def _last(arn: str) -> str:
    return arn.rpartition("/")[2]


async def accounts_seen(workspace: Workspace) -> set[str]:
    """The accounts of which there is any metric by now, of their collectors' own apart."""
    found = await workspace.query(f"count by (cloud_account_id) ({selector('', NOT_OURS)})")
    return {each.labels["cloud_account_id"] for each in found}


async def places(workspace: Workspace, elapsed_s: float) -> dict[tuple[str, str, str], dict[str, float]]:
    """(account, region, service) → `up`, `series`, `per_second`, `age_s`, of those there are metrics of."""
    answers: dict[tuple[str, str, str], dict[str, float]] = {}
    for each in await workspace.query(f"sum by ({', '.join(_PLACE)}) ({UP})"):
        answers.setdefault(_place(each), {})["up"] = each.value
    for each in await workspace.query(f"count by ({', '.join(_PLACE)}) ({selector('')})"):
        answers.setdefault(_place(each), {})["series"] = each.value
    window_s, now_s = max(5, min(_RATE_WINDOW_S, int(elapsed_s))), time.time()
    for each in await _samples(workspace, _RATE_WINDOW_S):
        found = answers.setdefault(_place(each), {})
        recent = sum(at_s > now_s - window_s for at_s, _ in each.samples)
        found["per_second"] = found.get("per_second", 0.0) + recent / window_s
        found["age_s"] = min(found.get("age_s", math.inf), now_s - each.samples[-1][0])
    return answers


def _place(found: Found) -> tuple[str, str, str]:
    account, region, service = (found.labels.get(label, "") for label in _PLACE)
    return account, region, service


async def _samples(workspace: Workspace, seconds: int) -> list[Found]:
    """The samples themselves, as the functions that count them drop the metric's name, which tells them apart."""
    return await workspace.query(f"{selector('')}[{seconds}s]")


async def totals(workspace: Workspace, elapsed_s: float) -> dict[str, dict[str, int]]:
    """Account → `tasks` up, `series`, `samples` stored in the last `elapsed_s` seconds."""
    answers: dict[str, dict[str, int]] = {}
    for each in await workspace.query(f"sum by (cloud_account_id) ({UP})"):
        answers.setdefault(_place(each)[0], {})["tasks"] = int(each.value)
    for each in await workspace.query(f"count by (cloud_account_id) ({selector('')})"):
        answers.setdefault(_place(each)[0], {})["series"] = int(each.value)
    for each in await _samples(workspace, int(elapsed_s) + 1):
        found = answers.setdefault(_place(each)[0], {})
        found["samples"] = found.get("samples", 0) + len(each.samples)
    return answers


async def stored(workspace: Workspace, since_s: float, now_s: float) -> Stored:
    """The part of the evidence that the workspace gives, by the names of `Evidence`."""
    names = "|".join(APPLICATION_COUNTERS)
    matcher = f'__name__=~"{names}"'
    platform = {name: await _newest(workspace, name) for name in PLATFORM_METRICS}
    return {
        "up": await workspace.query(UP),
        "counters": await workspace.query_range(
            f"sum by (__name__, {TASK}) ({selector('', matcher)})", since_s, now_s, _STEP_S
        ),
        "platform": platform,
        "series": [each.labels for each in await workspace.query('{__name__=~".+"}')],
    }


async def _newest(workspace: Workspace, name: str) -> list[Found]:
    """The newest sample of every series of a metric, with its own time instead of the query's."""
    values = await workspace.query(selector(name))
    times = {
        _identity(each.labels): each.value for each in await workspace.query(f"timestamp({selector(name)})")
    }
    return [
        Found(each.labels, ((times[_identity(each.labels)], each.value),))
        for each in values
        if _identity(each.labels) in times
    ]


def _identity(labels: Mapping[str, str]) -> str:
    return json.dumps({name: value for name, value in labels.items() if name != "__name__"}, sort_keys=True)
