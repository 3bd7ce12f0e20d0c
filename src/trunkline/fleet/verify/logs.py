"""What the collectors of tasks have printed, read from CloudWatch Logs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Final

from trunkline.fleet.lists import pages
from trunkline.fleet.templates import COLLECTOR_CONTAINER

_SPAN_S: Final = 900
_LINES_READ: Final = 200
_LAST_LINES: Final = 3
_TASKS: Final = 3
_LEVELS: Final = ("WARNING", "ERROR")


def streams_of(options: Mapping[str, str], task_ids: Sequence[str]) -> list[str]:
    """Of the collectors, as the driver awslogs names them."""
    prefix = options.get("awslogs-stream-prefix", "")
    return [f"{prefix}/{COLLECTOR_CONTAINER}/{task_id}" for task_id in task_ids[:_TASKS]]


def complaints(logs: Any, group: str, streams: Sequence[str]) -> list[str]:
    """Lines that tell of trouble, oldest first."""
    found: list[tuple[int, str]] = []
    start_ms = int((time.time() - _SPAN_S) * 1000)
    for stream, level in product(streams, _LEVELS):
        events = pages(
            logs,
            "filter_log_events",
            "events",
            logGroupName=group,
            logStreamNames=[stream],
            startTime=start_ms,
            filterPattern=level,
            PaginationConfig={"MaxItems": _LINES_READ},
        )
        try:
            found += [(event["timestamp"], event["message"]) for event in events]
        except logs.exceptions.ResourceNotFoundException:
            continue  # a task that has printed nothing
    return [message for _, message in sorted(found)]


def last_words(logs: Any, group: str, streams: Sequence[str]) -> list[str]:
    """What was printed last in each stream."""
    found: list[str] = []
    for stream in streams:
        try:
            answer = logs.get_log_events(
                logGroupName=group, logStreamName=stream, limit=_LAST_LINES, startFromHead=False
            )
        except logs.exceptions.ResourceNotFoundException:
            continue
        found += [event["message"] for event in answer["events"]]
    return found
