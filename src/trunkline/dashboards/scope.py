"""The words of every query: identity labels, the variables that choose among them, the collector's job."""

from __future__ import annotations

from typing import Final

ACCOUNT: Final = "cloud_account_id"
REGION: Final = "cloud_region"
CLUSTER: Final = "aws_ecs_cluster_name"
SERVICE: Final = "aws_ecs_service_name"
FAMILY: Final = "aws_ecs_task_family"
TASK: Final = "aws_ecs_task_id"

VARIABLES: Final = {
    "account": ACCOUNT,
    "region": REGION,
    "cluster": CLUSTER,
    "service": SERVICE,
    "task": TASK,
}
"""Variable → the label it chooses by; each is offered what there is within the choices before it."""

COLLECTOR_JOB: Final = "trunkline"
"""The job under which a collector scrapes its own metrics, as in the fleet's configuration."""

PER_SERVICE: Final = f"{ACCOUNT}, {REGION}, {CLUSTER}, {SERVICE}"
PER_TASK: Final = f"{PER_SERVICE}, {FAMILY}, {TASK}"

SERVICE_LEGEND: Final = f"{{{{{ACCOUNT}}}}} {{{{{REGION}}}}} {{{{{SERVICE}}}}}"
TASK_LEGEND: Final = f"{{{{{SERVICE}}}}} {{{{{TASK}}}}}"

RATE: Final = "$__rate_interval"
"""Grafana's own variable: a window that never holds fewer than four scrapes."""


def chosen(metric: str, *more: str, up_to: str = "task") -> str:
    """A selector of the series of `metric` within what the variables choose, `more` matchers included.

    `up_to` is the last variable that counts; an empty `metric` leaves the name to `more`.
    """
    names = list(VARIABLES)
    matchers = [f'{VARIABLES[name]}=~"${name}"' for name in names[: names.index(up_to) + 1]]
    return f"{metric}{{{', '.join([*more, *matchers])}}}"


def rate(metric: str, *more: str) -> str:
    """A counter's growth per second, series by series."""
    return f"rate({chosen(metric, *more)}[{RATE}])"
