"""Recording and alerting rules, as the files that AMP and Prometheus take.

One group: AMP keeps the order of rules within a group only, and one alert looks back at what a rule recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from trunkline.dashboards.scope import ACCOUNT, PER_SERVICE, PER_TASK, TASK

INTERVAL: Final = "30s"
ACCOUNT_TASKS: Final = "account:tasks_reporting:count"
WHERE: Final = (
    "{{ $labels.aws_ecs_service_name }} task {{ $labels.aws_ecs_task_id }} in account {{ $labels.cloud_account_id }}, "
    "{{ $labels.cloud_region }}"
)


@dataclass(frozen=True, slots=True)
class Recording:
    """A series kept under a name of its own: level, metric and operations, as is the custom."""

    record: str
    expr: str

    def document(self) -> dict[str, Any]:
        return {"record": self.record, "expr": self.expr}


@dataclass(frozen=True, slots=True)
class Alert:
    """What somebody should know, once it has lasted; `wait` is a duration, `todo` what to look at first."""

    alert: str
    expr: str
    wait: str
    severity: str
    summary: str
    todo: str

    def document(self) -> dict[str, Any]:
        return {
            "alert": self.alert,
            "expr": self.expr,
            "for": self.wait,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.todo},
        }


RECORDINGS: Final = (
    Recording(
        "service:tasks_reporting:count",
        f"count by ({PER_SERVICE}) (count by ({PER_SERVICE}, {TASK}) (up))",
    ),
    Recording(ACCOUNT_TASKS, f'count by ({ACCOUNT}) (count by ({ACCOUNT}, {TASK}) (up{{{ACCOUNT}!=""}}))'),
    Recording(
        "service:delivered_samples:rate5m",
        f"sum by ({PER_SERVICE}) (rate(trunkline_delivered_samples_total[5m]))",
    ),
    Recording(
        "task:memory_utilization:ratio",
        f"max by ({PER_TASK}) (ecs_task_memory_utilized_MiB)\n"
        f"/ (max by ({PER_TASK}) (ecs_task_memory_reserved_MiB) > 0)",
    ),
    Recording(
        "task:cpu_utilization:ratio",
        f"max by ({PER_TASK}) (ecs_task_cpu_utilized_None)\n"
        f"/ (max by ({PER_TASK}) (ecs_task_cpu_reserved_None) > 0)",
    ),
)

# A task that ends as it should writes stale markers, so `up` is gone at once and never seen old. One that vanishes
# leaves `up` to grow old for five minutes: whoever was seen so in the last quarter of an hour and is not back.
NOT_REPORTING: Final = (
    f'max by ({PER_TASK}) (max_over_time((time() - timestamp(up{{{TASK}!=""}}))[15m:30s])) > 120\n'
    f"unless on ({TASK}) (time() - timestamp(up) < 60)"
)

# A reason's first refusal makes its series, and no rate sees a series' first value.
REFUSED: Final = (
    f"sum by ({PER_TASK}, exporter, reason) (increase(trunkline_refused_samples_total[10m])) > 0\n"
    f"or sum by ({PER_TASK}, exporter, reason) (\n"
    "  trunkline_refused_samples_total > 0 unless trunkline_refused_samples_total offset 10m\n"
    ")"
)

# What a collector says of its queue waits in that queue: the newest there is can be as old as the queue is long.
QUEUE_AGE: Final = f"max by ({PER_TASK}, exporter) (last_over_time(trunkline_queue_oldest_age_seconds[30m]))"
QUEUE_GROWING: Final = (
    f"max by ({PER_TASK}, exporter) (last_over_time(trunkline_queue_samples[30m]))\n"
    f"and min by ({PER_TASK}, exporter) (min_over_time(trunkline_queue_samples[15m])) > 0\n"
    f"and max by ({PER_TASK}, exporter) (deriv(trunkline_queue_samples[15m])) > 0\n"
    f"and {QUEUE_AGE} > 60"
)

ALERTS: Final = (
    Alert(
        "TrunklineTaskNotReporting",
        NOT_REPORTING,
        "1m",
        "warning",
        f"Nothing came from {WHERE} for more than two minutes.",
        "It did not say goodbye: the task was killed, or its collector cannot deliver. Look at the task in ECS and at "
        "its collector's log; `trunkline collector doctor` there walks every hop to the workspace.",
    ),
    Alert(
        "TrunklineAccountSilent",
        f"max_over_time({ACCOUNT_TASKS}[1d]) unless on ({ACCOUNT}) {ACCOUNT_TASKS}",
        "10m",
        "critical",
        "Account {{ $labels.cloud_account_id }} delivered within the last day, and does no longer.",
        "All of its tasks at once: look for a change of the central role's trust policy or of the tasks' role, of the "
        "network's way to AMP, or for services that were scaled to nothing.",
    ),
    Alert(
        "TrunklineTargetDown",
        "up == 0",
        "3m",
        "warning",
        f"{{{{ $labels.job }}}} at {{{{ $labels.instance }}}} of {WHERE} cannot be scraped.",
        "The collector works and its target does not answer: look at the application's container and its port.",
    ),
    Alert(
        "TrunklineSamplesRefused",
        REFUSED,
        "0m",
        "warning",
        f"{WHERE} gave up {{{{ $value | humanize }}}} samples: {{{{ $labels.reason }}}}.",
        "They are lost. The collector's log names a series of each refused request and the workspace's own words.",
    ),
    Alert(
        "TrunklineQueueGrowing",
        QUEUE_GROWING,
        "5m",
        "warning",
        f"The queue of {WHERE} grows: {{{{ $value | humanize }}}} samples wait.",
        "The workspace takes less than is scraped: look for throttling (429) among the requests' outcomes, and at "
        "the workspace's quotas.",
    ),
    Alert(
        "TrunklineQueueOld",
        f"{QUEUE_AGE} > 1200",
        "1m",
        "critical",
        f"The oldest sample waiting in {WHERE} is {{{{ $value | humanizeDuration }}}} old.",
        "AMP refuses samples older than an hour: until then nothing is lost. The collector's log says why it waits.",
    ),
    Alert(
        "TrunklineTaskMemoryNearLimit",
        "task:memory_utilization:ratio > 0.9",
        "5m",
        "warning",
        f"{WHERE} uses {{{{ $value | humanizePercentage }}}} of its memory.",
        "At its limit the kernel ends it. Give the task more memory, or find what grows.",
    ),
)


def rules() -> str:
    """The rule file (YAML), the same bytes every time."""
    documents = [rule.document() for rule in (*RECORDINGS, *ALERTS)]
    group = {"name": "trunkline", "interval": INTERVAL, "rules": documents}
    return yaml.dump({"groups": [group]}, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Shows texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def expressions() -> Sequence[str]:
    """The expression of every rule, for those who check them."""
    return [rule.expr for rule in (*RECORDINGS, *ALERTS)]
