"""The map: accounts with their regions and tasks, the role each goes through, the workspace, and how all of them are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from typing import Any, Final
from urllib.parse import urlencode

from trunkline.aws.workspace import Found
from trunkline.dashboards.scope import ACCOUNT, CLUSTER, PER_TASK, REGION, SERVICE, TASK
from trunkline.page.asking import Questions
from trunkline.page.troubles import State
from trunkline.page.units import text

STALE_S: Final = 60.0
"""Four scrapes of 15 s missing, as on the dashboard Fleet."""
REMEMBERED: Final = "15m"
"""So long a task that has ended stays on the map."""
CROWD: Final = 40
"""More tasks than these are shown smaller, the healthy ones with a mark in place of the word."""

HEALTHY, DOWN, STALE, WAITING = "healthy", "down", "stale", "no metrics yet"
MARKS: Final = {HEALTHY: "●", DOWN: "▲", STALE: "◌", WAITING: "…"}

_OURS: Final = f'{{{ACCOUNT}!=""}}'
_NEWEST: Final = (
    f"max by ({PER_TASK}) (timestamp(up{_OURS})) "
    f"or max by ({PER_TASK}) (max_over_time(timestamp(up{_OURS})[{REMEMBERED}:15s]))"
)
"""Of tasks that live, and of those that have ended, whose last sample is known to 15 s."""

_UP: Final = f"min by ({PER_TASK}) (up{_OURS})"
_RATE: Final = f"sum(rate(trunkline_delivered_samples_total{_OURS}[1m]))"
_WAITING: Final = f"max(trunkline_queue_oldest_age_seconds{_OURS})"


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the workspace knows it, or as ECS does before its first sample."""

    account: str
    region: str
    cluster: str
    service: str
    id: str
    state: str
    age_s: float | None
    """Of its newest sample."""

    @property
    def place(self) -> tuple[str, str, str]:
        return self.account, self.region, self.service


@dataclass(frozen=True, slots=True)
class Fleet:
    """All of it at one moment."""

    tasks: Sequence[Task] = ()
    per_second: float = 0.0
    waiting_s: float = 0.0
    problem: str = ""
    """Why the workspace could not be asked."""
    at_s: float = field(default_factory=time.time)

    def count(self, state: str) -> int:
        return sum(each.state == state for each in self.tasks)


async def look(questions: Questions, ecs: Sequence[Mapping[str, Any]]) -> Fleet:
    """The fleet now; `ecs` are the living tasks by `simulator status`. Raises QueryError, CredentialsError."""
    newest, up, rate, waiting = await asyncio.gather(*map(questions.now, (_NEWEST, _UP, _RATE, _WAITING)))
    now_s = time.time()
    return Fleet(
        sorted(_tasks(newest, up, ecs, now_s), key=lambda task: (*task.place, task.id)),
        rate[0].value if rate else 0.0,
        waiting[0].value if waiting else 0.0,
        at_s=now_s,
    )


def _tasks(
    newest: Sequence[Found], up: Sequence[Found], ecs: Sequence[Mapping[str, Any]], now_s: float
) -> Iterator[Task]:
    seen = {each.labels[TASK]: each.value for each in up if TASK in each.labels}
    known = set()
    for each in newest:
        labels = each.labels
        if TASK not in labels:
            continue
        known.add(labels[TASK])
        age_s = now_s - each.value
        account, region, cluster, service = (
            labels.get(name, "") for name in (ACCOUNT, REGION, CLUSTER, SERVICE)
        )
        yield Task(
            account, region, cluster, service, labels[TASK], _state(seen.get(labels[TASK]), age_s), age_s
        )
    for task in ecs:
        if task["id"] not in known:
            yield Task(task["account"], task["region"], "", task["service"], task["id"], WAITING, None)


def _state(up: float | None, age_s: float) -> str:
    """`up` is None when the series has ended, as it does when a collector says goodbye."""
    if up is None or age_s > STALE_S:
        return STALE
    return HEALTHY if up == 1 else DOWN


def drawn(fleet: Fleet, state: State, workspace: Mapping[str, Any], role_arn: str) -> str:
    """The map as HTML: from the accounts through the central role into the workspace."""
    accounts = "".join(
        _account(account, list(tasks), state)
        for account, tasks in groupby(fleet.tasks, key=lambda task: task.account)
    )
    crowd = " crowd" if len(fleet.tasks) > CROWD else ""
    nobody = '<p class="nothing">No task has delivered anything yet</p>'
    problem = f'<p class="failed" role="status">{escape(fleet.problem)}</p>' if fleet.problem else ""
    return (
        f'{problem}<div class="map{crowd}"><section class="accounts" aria-label="Workload accounts">{accounts or nobody}</section>'
        f"{_arrow('AssumeRole', state.withdrawn)}{_role(state, role_arn)}"
        f"{_arrow('SigV4', state.revoked or state.throttled)}{_workspace(fleet, state, workspace)}</div>"
    )


def _arrow(word: str, is_broken: bool) -> str:
    return f'<p class="arrow{" broken" if is_broken else ""}"><span>{word}</span></p>'


def _account(account: str, tasks: Sequence[Task], state: State) -> str:
    places = "".join(_place(list(own)) for _, own in groupby(tasks, key=lambda task: task.place))
    roles = [arn for arn in state.trusted if f":{account}:" in arn or "::*:" in arn]
    through = ", ".join(escape(arn.rpartition(":")[2]) for arn in roles)
    trusted = f"through <code>{through}</code>" if roles else "through a role that is not trusted"
    return f'<article class="account"><h3>Account <a href="{_link("trunkline-fleet", account=account)}">{account}</a></h3><p class="through">{trusted}</p>{places}</article>'


def _place(tasks: Sequence[Task]) -> str:
    first, healthy = tasks[0], sum(task.state == HEALTHY for task in tasks)
    url = _link("trunkline-service", account=first.account, region=first.region, service=first.service)
    chips = "".join(_chip(task) for task in tasks)
    return (
        f'<div class="place"><h4>{escape(first.region)} <a href="{url}">{escape(first.service or "no service")}</a> '
        f'<span class="count">{healthy} of {len(tasks)} healthy</span></h4><ul class="tasks">{chips}</ul></div>'
    )


def _chip(task: Task) -> str:
    url = _link(
        "trunkline-ecs-tasks", account=task.account, region=task.region, service=task.service, task=task.id
    )
    age = "" if task.age_s is None else f" {text('s', max(0.0, round(task.age_s)))}"
    kind = "waiting" if task.state == WAITING else task.state
    return (
        f'<li><a class="task {kind}" href="{url}" data-task="{escape(task.id)}" title="task {escape(task.id)}: {task.state}">'
        f'<span class="mark" aria-hidden="true">{MARKS[task.state]}</span> <code>{escape(task.id[:8])}</code> '
        f'<span class="state">{task.state}</span><span class="age">{age}</span></a></li>'
    )


def _link(uid: str, **chosen: str) -> str:
    return escape(
        f"/d/{uid}?{urlencode([(f'var-{name}', value) for name, value in chosen.items() if value])}"
    )


def _role(state: State, role_arn: str) -> str:
    trouble = [
        word
        for is_so, word in (
            (state.withdrawn, "trusts no workload account"),
            (state.revoked, "sessions revoked: an explicit Deny"),
        )
        if is_so
    ]
    said = "; ".join(trouble) or f"trusts {len(state.trusted)} role{'s' if len(state.trusted) != 1 else ''}"
    name, account = role_arn.rpartition("/")[2], role_arn.split(":")[4]
    kind = "down" if trouble else "healthy"
    mark = MARKS[DOWN if trouble else HEALTHY]
    return (
        f'<section class="hub role {kind}" aria-label="Central role"><h3><code>{escape(name)}</code></h3>'
        f'<p>in {account}</p><p class="said"><span aria-hidden="true">{mark}</span> {said}</p></section>'
    )


def _workspace(fleet: Fleet, state: State, workspace: Mapping[str, Any]) -> str:
    kind, said = (
        ("down", "throttled: writes are answered 429") if state.throttled else ("healthy", "takes samples")
    )
    figures = f"{text('cps', fleet.per_second)}, oldest waiting {text('s', round(fleet.waiting_s, 1))}"
    mark = MARKS[DOWN if state.throttled else HEALTHY]
    return (
        f'<section class="hub workspace {kind}" aria-label="Workspace"><h3>Workspace <a href="/d/trunkline-collectors"><code>'
        f"{escape(str(workspace['id']))}</code></a></h3><p>in {workspace['account']}, {workspace['region']}</p>"
        f'<p class="said"><span aria-hidden="true">{mark}</span> {said}</p><p class="figures">{figures}</p></section>'
    )


def summary(fleet: Fleet) -> str:
    """One line about all tasks, which is also read out when it changes."""
    counts = [
        f"{fleet.count(state)} {state}" for state in (HEALTHY, DOWN, STALE, WAITING) if fleet.count(state)
    ]
    return f"{len(fleet.tasks)} tasks: {', '.join(counts)}" if fleet.tasks else "no tasks yet"
