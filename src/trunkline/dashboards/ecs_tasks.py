"""ECS tasks: CPU, memory, network and storage, what is used of what is reserved.

Only the eight metrics that the reference configuration keeps are drawn, so that it fills every panel.
"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard as models

from trunkline.dashboards.fleet import TASK_KEYS
from trunkline.dashboards.page import Section, page
from trunkline.dashboards.panels import (
    ORANGE,
    RED,
    Column,
    PanelBuilder,
    Query,
    Steps,
    bars,
    figure,
    graph,
    listing,
)
from trunkline.dashboards.scope import PER_SERVICE, PER_TASK, RATE, SERVICE_LEGEND, TASK_LEGEND, chosen

UID: Final = "trunkline-ecs-tasks"
UNITS_PER_VCPU: Final = 1024
FULL: Final[Steps] = ((0.8, ORANGE), (0.9, RED))


def _of(metric: str) -> str:
    """A metric once for each task, whatever other attributes its series carry."""
    return f"max by ({PER_TASK}) ({chosen(metric)})"


CPU_USED: Final = _of("ecs_task_cpu_utilized_None")
CPU_RESERVED: Final = f"({_of('ecs_task_cpu_reserved_None')} > 0)"
MEMORY_USED: Final = _of("ecs_task_memory_utilized_MiB")
MEMORY_RESERVED: Final = f"({_of('ecs_task_memory_reserved_MiB')} > 0)"
"""A task on EC2 may have no limit; then there is nothing to be a share of."""
RECEIVED: Final = _of("ecs_task_network_rate_rx_Bytes_per_Second")
SENT: Final = _of("ecs_task_network_rate_tx_Bytes_per_Second")


def _growth(metric: str) -> str:
    return f"max by ({PER_TASK}) (rate({chosen(metric)}[{RATE}]))"


READ: Final = _growth("ecs_task_storage_read_bytes_Bytes")
WRITTEN: Final = _growth("ecs_task_storage_write_bytes_Bytes")


def ecs_tasks() -> models.Dashboard:
    """The dashboard."""
    return page(
        UID,
        "Trunkline: ECS tasks",
        "CPU, memory, network and storage of tasks as the task metadata endpoint reports them, used against reserved.",
        [
            Section("Now", _now()),
            Section("CPU", _cpu()),
            Section("Memory", _memory()),
            Section("Network and storage", _traffic()),
            Section("Tasks", [_table()]),
        ],
    )


def _now() -> list[PanelBuilder]:
    return [
        figure("Tasks", "Tasks that report their use.", f"count({MEMORY_USED})"),
        figure(
            "CPU used",
            "Cores in use by all chosen tasks.",
            f"sum({CPU_USED}) / {UNITS_PER_VCPU}",
        ),
        figure(
            "CPU share",
            "Use of all chosen tasks over what they reserve. Low for long: they could be smaller.",
            f"sum({CPU_USED}) / sum({CPU_RESERVED})",
            unit="percentunit",
            steps=FULL,
        ),
        figure("Memory used", "Memory in use by all chosen tasks.", f"sum({MEMORY_USED})", unit="mbytes"),
        figure(
            "Memory share",
            "Use of all chosen tasks over what they reserve.",
            f"sum({MEMORY_USED}) / sum({MEMORY_RESERVED})",
            unit="percentunit",
            steps=FULL,
        ),
        figure(
            "Fullest memory",
            "Of the task that is nearest to its limit, at which the kernel ends it.",
            f"max({MEMORY_USED} / {MEMORY_RESERVED})",
            unit="percentunit",
            steps=FULL,
        ),
    ]


def _cpu() -> list[PanelBuilder]:
    return [
        graph(
            "CPU by service",
            "Cores used and reserved.",
            Query(f"sum by ({PER_SERVICE}) ({CPU_USED}) / {UNITS_PER_VCPU}", f"{SERVICE_LEGEND} used"),
            Query(
                f"sum by ({PER_SERVICE}) ({CPU_RESERVED}) / {UNITS_PER_VCPU}", f"{SERVICE_LEGEND} reserved"
            ),
        ),
        graph(
            "CPU by task, of reserved",
            "At 100 % a task on Fargate is throttled.",
            Query(f"{CPU_USED} / {CPU_RESERVED}", TASK_LEGEND),
            unit="percentunit",
            steps=FULL,
        ),
    ]


def _memory() -> list[PanelBuilder]:
    share = f"{MEMORY_USED} / {MEMORY_RESERVED}"
    return [
        graph(
            "Memory by service",
            "Used and reserved.",
            Query(f"sum by ({PER_SERVICE}) ({MEMORY_USED})", f"{SERVICE_LEGEND} used"),
            Query(f"sum by ({PER_SERVICE}) ({MEMORY_RESERVED})", f"{SERVICE_LEGEND} reserved"),
            unit="mbytes",
        ),
        graph(
            "Memory by task, of reserved",
            "A task that reaches its limit is ended by the kernel. Pages that can be dropped do not count as used.",
            Query(share, TASK_LEGEND),
            unit="percentunit",
            steps=FULL,
        ),
        graph("Memory by task", "In use.", Query(MEMORY_USED, TASK_LEGEND), unit="mbytes"),
        bars(
            "Nearest to their memory limit",
            "The ten tasks that use most of what they reserve.",
            Query(f"sort_desc(topk(10, {share}))", TASK_LEGEND),
            unit="percentunit",
            steps=FULL,
            most=1,
        ),
    ]


def _traffic() -> list[PanelBuilder]:
    network = (
        "With awsvpc each container reports the task's one interface, so a task's figure can be a multiple."
    )
    disk = "What reached the block devices; the page cache absorbs the rest."
    return [
        graph("Received", network, Query(RECEIVED, TASK_LEGEND), unit="binBps"),
        graph("Sent", network, Query(SENT, TASK_LEGEND), unit="binBps"),
        graph("Read from storage", disk, Query(READ, TASK_LEGEND), unit="binBps"),
        graph("Written to storage", disk, Query(WRITTEN, TASK_LEGEND), unit="binBps"),
    ]


def _table() -> PanelBuilder:
    columns = [
        Column("CPU", f"{CPU_USED} / {CPU_RESERVED}", "percentunit", FULL),
        Column("Memory", f"{MEMORY_USED} / {MEMORY_RESERVED}", "percentunit", FULL),
        Column("Memory used", MEMORY_USED, "mbytes"),
        Column("Received", RECEIVED, "binBps"),
        Column("Sent", SENT, "binBps"),
        Column("Read", READ, "binBps"),
        Column("Written", WRITTEN, "binBps"),
    ]
    return listing("Tasks", "What each task uses now, of what it reserves.", TASK_KEYS, columns, links={})
