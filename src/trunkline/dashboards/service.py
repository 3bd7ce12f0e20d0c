"""Service: what an application says of itself, as far as the usual names of its metrics allow."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

from trunkline.dashboards.page import Section, one, page
from trunkline.dashboards.panels import GREEN, ORANGE, RED, PanelBuilder, Query, figure, graph, states
from trunkline.dashboards.scope import (
    COLLECTOR_JOB,
    PER_SERVICE,
    SERVICE,
    SERVICE_LEGEND,
    TASK,
    TASK_LEGEND,
    chosen,
    rate,
)

UID: Final = "trunkline-service"
NOT_OURS: Final = f'job!="{COLLECTOR_JOB}"'
"""The collector in the task has metrics with the same names, of its own process."""

PER_TARGET: Final = f"{PER_SERVICE}, {TASK}, job, instance"
TARGET_LEGEND: Final = f"{TASK_LEGEND} {{{{job}}}} {{{{instance}}}}"
ITS_OWN_LEGEND: Final = "__auto"
"""Grafana's own: the labels in which the series differ, as nobody knows what a metric calls its own."""
REQUEST_NAMES: Final = ".+_requests_total|.+_requests_seconds_count|.+_requests_count"
DURATION_NAMES: Final = ".+_(duration|latency|requests|time)_seconds_bucket"
STATUS_LABELS: Final = "status,code,status_code,http_status_code,http_response_status_code"

REQUESTS: Final = rate("", '__name__="$requests"', NOT_OURS)
ANSWERED: Final = rate("", '__name__="$requests"', NOT_OURS, '$status!=""')
"""Where the label holds no status, nothing can be said of failures: that is no share of 0."""
FAILED: Final = rate("", '__name__="$requests"', NOT_OURS, '$status=~"5.."')
UP: Final = chosen("up", NOT_OURS)


def service() -> models.Dashboard:
    """The dashboard."""
    return page(
        UID,
        "Trunkline: Service",
        "Requests, errors and durations as an application reports them, its processes, and any other of its metrics. "
        "The metrics are found by the usual endings of their names; choose others above.",
        [
            Section("Requests", _requests()),
            Section("Processes", _processes()),
            Section("Any metric", _any_metric()),
            Section("Scraping", _scraping()),
        ],
        _variables(),
    )


def _variables() -> list[builders.QueryVariable | builders.CustomVariable]:
    def names(pattern: str) -> str:
        found = chosen("", f'__name__=~"{pattern}"', 'job!=""', NOT_OURS, up_to="service")
        return f"label_values({found}, __name__)"

    status = builders.CustomVariable("status").label("Status label").values(STATUS_LABELS)
    status.description("The label of the request counter that holds the HTTP status.")
    first = STATUS_LABELS.partition(",")[0]
    status.current(models.VariableOption(selected=True, text=first, value=first))
    return [
        one("requests", "Requests", names(REQUEST_NAMES), "The counter of requests."),
        status,
        one(
            "duration",
            "Duration",
            names(DURATION_NAMES),
            "The histogram of durations.",
            regex="/(.+)_bucket/",
        ),
        one("metric", "Metric", names(".+"), "Shown under “Any metric”."),
    ]


def _duration(part: str) -> str:
    """Growth of the `bucket`, `sum` or `count` series of the chosen histogram."""
    return rate("", f'__name__="${{duration}}_{part}"', NOT_OURS)


def _requests() -> list[PanelBuilder]:
    buckets = f"sum by (le, {PER_SERVICE}) ({_duration('bucket')})"
    quantiles = (
        Query(f"histogram_quantile({share}, {buckets})", f"{SERVICE_LEGEND} p{share * 100:g}")
        for share in (0.5, 0.95, 0.99)
    )
    seconds = f"sum by ({PER_SERVICE}) ({_duration('sum')})"
    count = f"sum by ({PER_SERVICE}) ({_duration('count')})"
    return [
        graph(
            "Requests per second",
            "Growth of the counter chosen as Requests, by service.",
            Query(f"sum by ({PER_SERVICE}) ({REQUESTS})", SERVICE_LEGEND),
            unit="reqps",
        ),
        graph(
            "Requests per second by status",
            "The same, by the label chosen as Status label.",
            Query(f"sum by ($status) ({REQUESTS})", "{{$status}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Failed requests",
            "Share of the requests answered with a status of 500 or more.",
            Query(
                f"(sum by ({PER_SERVICE}) ({FAILED}) or sum by ({PER_SERVICE}) ({ANSWERED}) * 0) "
                f"/ sum by ({PER_SERVICE}) ({ANSWERED})",
                SERVICE_LEGEND,
            ),
            unit="percentunit",
            steps=((0.01, ORANGE), (0.05, RED)),
        ),
        graph(
            "Duration",
            "Half of what was measured took less than p50, one in a hundred longer than p99; estimated from the "
            "buckets of the histogram chosen as Duration.",
            *quantiles,
            unit="s",
        ),
        graph(
            "Mean duration",
            "Sum over count of the histogram chosen as Duration.",
            Query(f"{seconds} / {count}", SERVICE_LEGEND),
            unit="s",
        ),
        graph(
            "Requests per second by task",
            "Whether the load is shared evenly.",
            Query(f"sum by ({SERVICE}, {TASK}) ({REQUESTS})", TASK_LEGEND),
            unit="reqps",
        ),
    ]


def _processes() -> list[PanelBuilder]:
    """As the client libraries of Prometheus report them on Linux."""
    return [
        graph(
            "CPU",
            "Cores in use by each process.",
            Query(f"sum by ({PER_TARGET}) ({rate('process_cpu_seconds_total', NOT_OURS)})", TARGET_LEGEND),
        ),
        graph(
            "Memory",
            "Resident memory of each process.",
            Query(
                f"sum by ({PER_TARGET}) ({chosen('process_resident_memory_bytes', NOT_OURS)})", TARGET_LEGEND
            ),
            unit="bytes",
        ),
        graph(
            "Open files",
            "File descriptors in use, of those the process may open.",
            Query(
                f"sum by ({PER_TARGET}) ({chosen('process_open_fds', NOT_OURS)}) "
                f"/ sum by ({PER_TARGET}) ({chosen('process_max_fds', NOT_OURS)})",
                TARGET_LEGEND,
            ),
            unit="percentunit",
            steps=((0.7, ORANGE), (0.9, RED)),
        ),
        graph(
            "Running for",
            "Time since each process started; a fall is a restart.",
            Query(
                f"time() - max by ({PER_TARGET}) ({chosen('process_start_time_seconds', NOT_OURS)})",
                TARGET_LEGEND,
            ),
            unit="s",
        ),
    ]


def _any_metric() -> list[PanelBuilder]:
    named = ('__name__="$metric"', NOT_OURS)
    return [
        graph(
            "$metric",
            "The metric chosen above as it is, the 20 largest series.",
            Query(f"topk(20, {chosen('', *named)})", ITS_OWN_LEGEND),
            least=None,
        ),
        graph(
            "$metric, growth per second",
            "The metric chosen above, if it is a counter.",
            Query(f"topk(20, {rate('', *named)})", ITS_OWN_LEGEND),
            least=None,
        ),
    ]


def _scraping() -> list[PanelBuilder]:
    return [
        states(
            "Up",
            "Whether each target could be scraped.",
            Query(f"max by ({PER_TARGET}) ({UP})", TARGET_LEGEND),
            {1: ("up", GREEN), 0: ("down", RED)},
        ),
        figure(
            "Targets down",
            "Targets of the service whose last scrape failed.",
            f"count({UP} == 0) or vector(0)",
            steps=((1, RED),),
        ),
        graph(
            "Scrape duration",
            "How long a target takes to answer; near the scrape's time-out it will be lost.",
            Query(f"max by ({PER_TARGET}) ({chosen('scrape_duration_seconds', NOT_OURS)})", TARGET_LEGEND),
            unit="s",
            span=10,
        ),
        graph(
            "Samples of a scrape",
            "Series a target shows, after relabelling. What grows without end costs memory here and money in AMP.",
            Query(
                f"max by ({PER_TARGET}) ({chosen('scrape_samples_post_metric_relabeling', NOT_OURS)})",
                TARGET_LEGEND,
            ),
            span=10,
        ),
    ]
