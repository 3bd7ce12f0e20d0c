"""Fleet: who sends, how fresh it is, how much it is, and what does not arrive."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard as models

from trunkline.dashboards.page import Section, page
from trunkline.dashboards.panels import (
    GREEN,
    ORANGE,
    RED,
    Column,
    PanelBuilder,
    Query,
    Steps,
    figure,
    graph,
    listing,
    states,
)
from trunkline.dashboards.scope import (
    ACCOUNT,
    CLUSTER,
    FAMILY,
    PER_SERVICE,
    PER_TASK,
    REGION,
    SERVICE,
    SERVICE_LEGEND,
    TASK,
    VARIABLES,
    chosen,
    rate,
)

UID: Final = "trunkline-fleet"
STALE: Final[Steps] = ((60, ORANGE), (120, RED))
"""Seconds: four scrapes of 15 s missing, then eight."""
WAITING: Final[Steps] = ((60, ORANGE), (600, RED))
"""Seconds of the oldest sample in a queue; AMP refuses what is older than an hour."""
ANY: Final[Steps] = ((1, RED),)

KEYS: Final = {ACCOUNT: "Account", REGION: "Region", CLUSTER: "Cluster", SERVICE: "Service"}
TASK_KEYS: Final = {**KEYS, FAMILY: "Family", TASK: "Task"}
UP: Final = chosen("up")
REFUSED: Final = (
    f"(max_over_time({chosen('trunkline_refused_samples_total')}[1h]) "
    f"unless {chosen('trunkline_refused_samples_total')} offset 1h "
    f"or increase({chosen('trunkline_refused_samples_total')}[1h]))"
)
"""In the last hour, series by series. A reason's first refusal makes its series, and no growth contains a first value."""

REFUSED_PER_SECOND: Final = (
    f"sum by ({ACCOUNT}, reason) ({rate('trunkline_refused_samples_total')}) "
    f"or on ({ACCOUNT}) sum by ({ACCOUNT}) ({UP}) * 0"
)
"""A reason has no series before its first refusal; until then an account shows nothing refused."""

QUEUE_AGE: Final = chosen("trunkline_queue_oldest_age_seconds")


def _age(labels: str) -> str:
    return f"time() - max by ({labels}) (timestamp({UP}))"


def _to(uid: str, *headings: str) -> str:
    """A link to another dashboard that narrows the variables named like these columns and keeps the others."""
    narrowed = {heading.lower() for heading in headings}
    own = [f"var-{heading.lower()}=${{__data.fields.{heading}}}" for heading in headings]
    kept = [f"${{{name}:queryparam}}" for name in ("datasource", *VARIABLES) if name not in narrowed]
    return f"/d/{uid}?{'&'.join([*own, *kept])}&${{__url_time_range}}"


def fleet() -> models.Dashboard:
    """The dashboard."""
    return page(
        UID,
        "Trunkline: Fleet",
        "Which accounts, regions, services and tasks deliver, how fresh and how much, what is refused, what waits.",
        [
            Section("Now", _now()),
            Section("Who sends", [_services(), _tasks()]),
            Section("Over time", _over_time()),
        ],
    )


def _now() -> list[PanelBuilder]:
    return [
        _count("Accounts", ACCOUNT, "Accounts with a sample in the last five minutes."),
        _count("Regions", REGION, "Regions with a sample in the last five minutes."),
        _count("Services", f"{ACCOUNT}, {REGION}, {CLUSTER}, {SERVICE}", "ECS services that deliver."),
        _count("Tasks", TASK, "Tasks that deliver."),
        figure(
            "Targets down",
            "What a collector could not scrape the last time it tried (`up` is 0).",
            f"count({UP} == 0) or vector(0)",
            steps=ANY,
        ),
        figure(
            "Oldest news",
            "Age of the newest sample of the task that has been silent longest. A task that ended as it should is "
            "not counted, one that vanished is for five minutes.",
            f"max({_age(TASK)})",
            unit="s",
            steps=STALE,
        ),
        figure(
            "Samples per second",
            "Samples the workspace has accepted, as the collectors count them.",
            f"sum({rate('trunkline_delivered_samples_total')})",
            unit="cps",
            span=8,
        ),
        figure(
            "Refused in the last hour",
            "Samples given up for good: by the workspace, or because they grew too old or found no room.",
            f"sum({REFUSED}) or vector(0)",
            steps=ANY,
            span=8,
        ),
        figure(
            "Oldest waiting",
            "Age of the oldest sample in any collector's queue. One whose queue does not move at all cannot tell: "
            "see the oldest news.",
            f"max({QUEUE_AGE})",
            unit="s",
            steps=WAITING,
            span=8,
        ),
    ]


def _count(title: str, labels: str, description: str) -> PanelBuilder:
    return figure(title, description, f"count(count by ({labels}) ({UP}))")


def _services() -> PanelBuilder:
    columns = [
        Column("Tasks", f"count by ({PER_SERVICE}) (count by ({PER_SERVICE}, {TASK}) ({UP}))"),
        Column("Down", f"sum by ({PER_SERVICE}) ({UP} == bool 0)", steps=ANY),
        Column("Newest", _age(PER_SERVICE), "s", STALE),
        Column("Samples/s", f"sum by ({PER_SERVICE}) ({rate('trunkline_delivered_samples_total')})", "cps"),
        Column(
            "Refused 1h",
            f"sum by ({PER_SERVICE}) ({REFUSED}) or sum by ({PER_SERVICE}) ({UP}) * 0",
            steps=ANY,
        ),
        Column("Waiting", f"max by ({PER_SERVICE}) ({QUEUE_AGE})", "s", WAITING),
    ]
    links = {
        "Service": ("The service", _to("trunkline-service", *KEYS.values())),
        "Tasks": ("Its tasks", _to("trunkline-ecs-tasks", *KEYS.values())),
        "Waiting": ("Its collectors", _to("trunkline-collectors", *KEYS.values())),
    }
    return listing(
        "Services",
        "Every service that delivers: tasks, targets that are down, age of the newest sample, accepted samples per "
        "second, samples refused in the last hour, age of the oldest sample waiting. Follow a cell to the details.",
        KEYS,
        columns,
        links=links,
    )


def _tasks() -> PanelBuilder:
    columns = [
        Column("Targets", f"count by ({PER_TASK}) ({UP})"),
        Column("Down", f"sum by ({PER_TASK}) ({UP} == bool 0)", steps=ANY),
        Column("Newest", _age(PER_TASK), "s", STALE),
        Column("Waiting", f"max by ({PER_TASK}) ({QUEUE_AGE})", "s", WAITING),
    ]
    link = ("The task", _to("trunkline-ecs-tasks", *KEYS.values(), "Task"))
    return listing("Tasks", "Every task that delivers.", TASK_KEYS, columns, links={"Task": link})


def _over_time() -> list[PanelBuilder]:
    return [
        states(
            "Up",
            "Whether the targets of a service could be scraped; red when any could not, a gap when nothing came.",
            Query(f"min by ({PER_SERVICE}) ({UP})", SERVICE_LEGEND),
            {1: ("up", GREEN), 0: ("down", RED)},
        ),
        graph(
            "Tasks",
            "Tasks that deliver.",
            Query(
                f"count by ({ACCOUNT}, {REGION}) (count by ({ACCOUNT}, {REGION}, {TASK}) ({UP}))",
                "{{cloud_account_id}} {{cloud_region}}",
            ),
            stacked=True,
        ),
        graph(
            "Age of the newest sample",
            "Of the task of a service that is furthest behind. A scrape interval is normal; a ramp is a task that "
            "stopped or cannot deliver.",
            Query(f"max by ({PER_SERVICE}) ({_age(PER_TASK)})", SERVICE_LEGEND),
            unit="s",
            steps=STALE,
        ),
        graph(
            "Samples per second",
            "Accepted by the workspace.",
            Query(
                f"sum by ({ACCOUNT}, {REGION}) ({rate('trunkline_delivered_samples_total')})",
                "{{cloud_account_id}} {{cloud_region}}",
            ),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Refused per second",
            "Samples given up, by reason.",
            Query(REFUSED_PER_SECOND, "{{cloud_account_id}} {{reason}}"),
            unit="cps",
        ),
        graph(
            "Oldest sample waiting",
            "In the queues of a service's collectors. AMP refuses what is older than an hour.",
            Query(f"max by ({PER_SERVICE}) ({QUEUE_AGE})", SERVICE_LEGEND),
            unit="s",
            steps=WAITING,
        ),
        graph(
            "Samples waiting",
            "In the queues of a service's collectors.",
            Query(f"sum by ({PER_SERVICE}) ({chosen('trunkline_queue_samples')})", SERVICE_LEGEND),
        ),
    ]
