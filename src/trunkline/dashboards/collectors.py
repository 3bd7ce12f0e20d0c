"""Collectors: their own health, from what they scrape of themselves."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard as models

from trunkline.dashboards.fleet import ANY, QUEUE_AGE, REFUSED, REFUSED_PER_SECOND, WAITING
from trunkline.dashboards.page import Section, page
from trunkline.dashboards.panels import ORANGE, RED, PanelBuilder, Query, figure, graph
from trunkline.dashboards.scope import (
    ACCOUNT,
    COLLECTOR_JOB,
    PER_TASK,
    SERVICE,
    TASK,
    TASK_LEGEND,
    chosen,
    rate,
)

UID: Final = "trunkline-collectors"
OURS: Final = f'job="{COLLECTOR_JOB}"'
FAILED: Final = rate("trunkline_scrapes_total", 'outcome="failure"')
CLOCK: Final = ((60, ORANGE), (240, RED))
"""Seconds; AWS refuses signatures that are five minutes off."""


def collectors() -> models.Dashboard:
    """The dashboard."""
    return page(
        UID,
        "Trunkline: Collectors",
        "The agents in the tasks: what they scrape, keep, deliver and refuse, their queues, and what they cost. They "
        "report it through the same queue as everything else: one that delivers nothing is silent here too.",
        [
            Section("Now", _now()),
            Section("Scraping", _scraping()),
            Section("Delivering", _delivering()),
            Section("Queues", _queues()),
            Section("Processes", _processes()),
        ],
    )


def _now() -> list[PanelBuilder]:
    return [
        figure("Collectors", "Collectors that report of themselves.", f"count({chosen('up', OURS)} == 1)"),
        figure(
            "Failed scrapes",
            "Collections per second that gave nothing.",
            f"sum({FAILED}) or vector(0)",
            unit="cps",
            steps=((0.001, RED),),
        ),
        figure(
            "Refused in 1 h",
            "Samples given up for good in the last hour.",
            f"sum({REFUSED}) or vector(0)",
            steps=ANY,
        ),
        figure("Oldest waiting", "In any queue.", f"max({QUEUE_AGE})", unit="s", steps=WAITING),
        figure(
            "Largest collector",
            "Resident memory.",
            f"max({chosen('process_resident_memory_bytes', OURS)})",
            unit="bytes",
        ),
        figure(
            "Busiest collector",
            "Share of one core.",
            f"max({rate('process_cpu_seconds_total', OURS)})",
            unit="percentunit",
        ),
    ]


def _scraping() -> list[PanelBuilder]:
    scrapes = rate("trunkline_scrapes_total")
    return [
        graph(
            "Collections per second",
            "Scrapes and readings of the metadata endpoint, by how they ended.",
            Query(f"sum by (receiver, outcome) ({scrapes})", "{{receiver}} {{outcome}}"),
            unit="cps",
        ),
        graph(
            "Samples scraped per second",
            "Read from sources, before filters.",
            Query(f"sum by ({SERVICE}, {TASK}) ({rate('trunkline_scraped_samples_total')})", TASK_LEGEND),
            unit="cps",
        ),
        graph(
            "Duration of a collection",
            "From asking a source to having handed on its samples; nineteen of twenty are faster than p95.",
            *_durations("trunkline_scrape_duration_seconds", "receiver"),
            unit="s",
        ),
        graph(
            "Samples kept per second",
            "Written to the queue: what is scraped less what is filtered.",
            Query(f"sum by ({SERVICE}, {TASK}) ({rate('trunkline_kept_samples_total')})", TASK_LEGEND),
            unit="cps",
        ),
    ]


def _delivering() -> list[PanelBuilder]:
    return [
        graph(
            "Samples kept and delivered per second",
            "While the lines lie on each other, everything arrives; a queue that is caught up delivers more than it keeps.",
            Query(f"sum({rate('trunkline_kept_samples_total')})", "kept"),
            Query(f"sum({rate('trunkline_delivered_samples_total')})", "delivered"),
            unit="cps",
        ),
        graph(
            "Refused per second",
            "Samples given up, by reason.",
            Query(REFUSED_PER_SECOND, f"{{{{{ACCOUNT}}}}} {{{{reason}}}}"),
            unit="cps",
        ),
        graph(
            "Requests per second",
            "To the workspace, by how they ended.",
            Query(
                f"sum by (exporter, outcome) ({rate('trunkline_requests_total')})", "{{exporter}} {{outcome}}"
            ),
            unit="reqps",
        ),
        graph(
            "Duration of a request",
            "From sending it to its answer.",
            *_durations("trunkline_delivery_duration_seconds", "exporter"),
            unit="s",
        ),
        graph(
            "Bytes sent per second",
            "Bodies of the requests the workspace accepted, compressed.",
            Query(f"sum by ({SERVICE}, {TASK}) ({rate('trunkline_sent_bytes_total')})", TASK_LEGEND),
            unit="binBps",
        ),
        graph(
            "Clock",
            "How far the clocks of AWS and of the task are apart. Signatures are corrected by it, time stamps are not.",
            Query(f"max by ({PER_TASK}) (abs({chosen('trunkline_clock_offset_seconds')}))", TASK_LEGEND),
            unit="s",
            steps=CLOCK,
        ),
    ]


def _durations(metric: str, label: str) -> list[Query]:
    buckets = f"sum by (le, {label}) ({rate(f'{metric}_bucket')})"
    mean = f"sum by ({label}) ({rate(f'{metric}_sum')}) / sum by ({label}) ({rate(f'{metric}_count')})"
    return [
        Query(mean, f"{{{{{label}}}}} mean"),
        Query(f"histogram_quantile(0.95, {buckets})", f"{{{{{label}}}}} p95"),
    ]


def _queues() -> list[PanelBuilder]:
    return [
        graph(
            "Oldest sample waiting",
            "AMP refuses what is older than an hour.",
            Query(f"max by ({PER_TASK}, exporter) ({QUEUE_AGE})", f"{TASK_LEGEND} {{{{exporter}}}}"),
            unit="s",
            steps=WAITING,
        ),
        graph(
            "Samples waiting",
            "Kept on disk and not yet delivered.",
            Query(
                f"max by ({PER_TASK}, exporter) ({chosen('trunkline_queue_samples')})",
                f"{TASK_LEGEND} {{{{exporter}}}}",
            ),
        ),
        graph(
            "Size of the queue",
            "On disk.",
            Query(
                f"max by ({PER_TASK}, exporter) ({chosen('trunkline_queue_bytes')})",
                f"{TASK_LEGEND} {{{{exporter}}}}",
            ),
            unit="bytes",
            span=24,
        ),
    ]


def _processes() -> list[PanelBuilder]:
    return [
        graph(
            "Memory",
            "Resident.",
            Query(f"max by ({PER_TASK}) ({chosen('process_resident_memory_bytes', OURS)})", TASK_LEGEND),
            unit="bytes",
            span=8,
        ),
        graph(
            "CPU",
            "Share of one core.",
            Query(f"sum by ({PER_TASK}) ({rate('process_cpu_seconds_total', OURS)})", TASK_LEGEND),
            unit="percentunit",
            span=8,
        ),
        graph(
            "Running for",
            "A fall is a restart.",
            Query(
                f"time() - max by ({PER_TASK}) ({chosen('process_start_time_seconds', OURS)})", TASK_LEGEND
            ),
            unit="s",
            span=8,
        ),
    ]
