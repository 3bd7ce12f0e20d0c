"""What is known of a demo while it runs: from the workspace by signed queries, from ECS, from the operating system."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

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
APPLICATION_COUNTERS: Final = ("shop_http_requests_total", "shop_order_items_total", "shop_orders_total")
OURS: Final = 'cloud_account_id!=""'
TASK: Final = "aws_ecs_task_id"
_PLACE: Final = "cloud_account_id, cloud_region, aws_ecs_service_name"
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


async def accounts_seen(workspace: Workspace) -> set[str]:
    """The accounts of which there is any metric by now."""
    found = await workspace.query(f"count by (cloud_account_id) ({selector('')})")
    return {each.labels["cloud_account_id"] for each in found}


async def places(workspace: Workspace, elapsed_s: float) -> dict[tuple[str, str, str], dict[str, float]]:
    """(account, region, service) → `up`, `series`, `per_second`, `age_s`, of those there are metrics of."""
    window_s = max(5, min(_RATE_WINDOW_S, int(elapsed_s)))
    questions = {
        "up": f"sum by ({_PLACE}) ({selector('up')})",
        "series": f"count by ({_PLACE}) ({selector('')})",
        "per_second": f"sum by ({_PLACE}) (count_over_time({selector('')}[{window_s}s])) / {window_s}",
        "age_s": f"time() - max by ({_PLACE}) (timestamp({selector('')}))",
    }
    answers: dict[tuple[str, str, str], dict[str, float]] = {}
    for name, question in questions.items():
        for each in await workspace.query(question):
            labels = each.labels
            place = tuple(labels.get(label, "") for label in _PLACE.split(", "))
            assert len(place) == 3
            answers.setdefault(place, {})[name] = each.value
    return answers


async def totals(workspace: Workspace, elapsed_s: float) -> dict[str, dict[str, int]]:
    """Account → `tasks` up, `series`, `samples` stored in the last `elapsed_s` seconds."""
    questions = {
        "tasks": f"sum by (cloud_account_id) ({selector('up')})",
        "series": f"count by (cloud_account_id) ({selector('')})",
        "samples": f"sum by (cloud_account_id) (count_over_time({selector('')}[{int(elapsed_s) + 1}s]))",
    }
    answers: dict[str, dict[str, int]] = {}
    for name, question in questions.items():
        for each in await workspace.query(question):
            answers.setdefault(each.labels["cloud_account_id"], {})[name] = int(each.value)
    return answers


async def stored(workspace: Workspace, since_s: float, now_s: float) -> dict[str, object]:
    """The part of the evidence that the workspace gives, by the names of `Evidence`."""
    names = "|".join(APPLICATION_COUNTERS)
    matcher = f'__name__=~"{names}"'
    platform = {name: await _newest(workspace, name) for name in PLATFORM_METRICS}
    return {
        "up": await workspace.query(selector("up")),
        "counters": await workspace.query_range(
            f"sum by (__name__, {TASK}) ({selector('', matcher)})", since_s, now_s, _STEP_S
        ),
        "platform": platform,
        "series": [each.labels for each in await workspace.query(selector("", '__name__=~".+"'))],
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
