"""The map: accounts with their regions and tasks, the role each goes through, the workspace, and how all of them are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
TAKEN_S: Final = 30.0
"""Two scrapes: when the newest sample of all is older, nothing is taken."""
REMEMBERED: Final = "15m"
"""So long a task that has ended stays on the map."""
CROWD: Final = 40
"""More tasks than these are shown smaller, the healthy ones with a mark in place of the word."""

HEALTHY, DOWN, STALE, WAITING, UNKNOWN = "healthy", "down", "stale", "no metrics yet", "unknown"
MARKS: Final = {HEALTHY: "●", DOWN: "▲", STALE: "◌", WAITING: "…", UNKNOWN: "?"}

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
    """All of it at the moment `at_s`, epoch seconds."""

    tasks: Sequence[Task] = ()
    per_second: float = 0.0
    waiting_s: float = 0.0
    problem: str = ""
    """Why the workspace could not be asked."""
    at_s: float = 0.0

    def count(self, state: str) -> int:
        return sum(each.state == state for each in self.tasks)

    @property
    def newest_s(self) -> float:
        """When the newest sample of all was taken, epoch seconds; 0 if there is none."""
        return max((self.at_s - each.age_s for each in self.tasks if each.age_s is not None), default=0.0)

    def unknown(self, problem: str) -> Fleet:
        """What is left of it while nobody says how it is."""
        return replace(self, tasks=[replace(each, state=UNKNOWN) for each in self.tasks], problem=problem)


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


def drawn(fleet: Fleet, state: State, workspace: Mapping[str, Any], role_arn: str, now_s: float) -> str:
    """The map as HTML, at `now_s`: from the accounts through the central role into the workspace."""
    accounts = "".join(
        _account(account, list(tasks), state, now_s - fleet.at_s)
        for account, tasks in groupby(fleet.tasks, key=lambda task: task.account)
    )
    crowd = " crowd" if len(fleet.tasks) > CROWD else ""
    nobody = f'<p class="nothing">{"No task is known" if fleet.problem else "No task has delivered anything yet"}</p>'
    is_shut = state.throttled or state.shut
    is_taken = now_s - fleet.newest_s <= TAKEN_S and not is_shut
    writes = UNKNOWN if fleet.problem and not is_shut else ""
    writes = writes or ("broken" if is_shut or (state.revoked and not is_taken) else "")
    problem = f'<p class="failed" role="status">{escape(fleet.problem)}</p>' if fleet.problem else ""
    return (
        f'<div class="problem">{problem}</div><div class="map{crowd}"><section class="accounts" aria-label="Workload accounts">{accounts or nobody}</section>'
        f"{_arrow('AssumeRole', 'broken' if state.withdrawn else '')}{_role(state, role_arn)}"
        f"{_arrow('SigV4', writes)}"
        f"{_workspace(fleet, state, workspace, now_s, is_taken=is_taken)}</div>"
    )


def _arrow(word: str, kind: str) -> str:
    """`kind` is `broken`, `unknown` or nothing."""
    return f'<p class="arrow {kind}"><span>{word}</span></p>'


def _account(account: str, tasks: Sequence[Task], state: State, since_s: float) -> str:
    """`since_s` after what is known of the tasks."""
    places = "".join(_place(list(own), since_s) for _, own in groupby(tasks, key=lambda task: task.place))
    roles = [arn for arn in state.trusted if f":{account}:" in arn or "::*:" in arn]
    through = ", ".join(escape(arn.rpartition(":")[2]) for arn in roles)
    trusted = f"through <code>{through}</code>" if roles else "through a role that is not trusted"
    name, url = escape(account), _link("trunkline-fleet", account=account)
    return (
        f'<article class="account" data-key="{name}"><h3>Account <a href="{url}">{name}</a></h3>'
        f'<p class="through">{trusted}</p>{places}</article>'
    )


def _place(tasks: Sequence[Task], since_s: float) -> str:
    first, healthy = tasks[0], sum(task.state == HEALTHY for task in tasks)
    count = UNKNOWN if first.state == UNKNOWN else f"{healthy} of {len(tasks)} healthy"
    key = escape(f"{first.region} {first.service}")
    url = _link("trunkline-service", account=first.account, region=first.region, service=first.service)
    chips = "".join(_chip(task, since_s) for task in tasks)
    return (
        f'<div class="place" data-key="{key}"><h4>{escape(first.region)} <a href="{url}">{escape(first.service or "no service")}</a> '
        f'<span class="count">{count}</span></h4><ul class="tasks">{chips}</ul></div>'
    )


def _chip(task: Task, since_s: float) -> str:
    url = _link(
        "trunkline-ecs-tasks", account=task.account, region=task.region, service=task.service, task=task.id
    )
    age = "" if task.age_s is None else f" {text('s', max(0.0, round(task.age_s + since_s)))}"
    kind = "waiting" if task.state == WAITING else task.state
    return (
        f'<li data-key="{escape(task.id)}"><a class="task {kind}" href="{url}" data-task="{escape(task.id)}" title="task {escape(task.id)}: {task.state}">'
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
        f'<p>in {escape(account)}</p><p class="said"><span aria-hidden="true">{mark}</span> {said}</p></section>'
    )


def _workspace(
    fleet: Fleet, state: State, workspace: Mapping[str, Any], now_s: float, *, is_taken: bool
) -> str:
    kind, said = HEALTHY, "takes samples"
    if state.throttled:
        kind, said = DOWN, "throttled: writes are answered 429"
    elif fleet.problem:
        kind, said = DOWN, "cannot be asked"
    elif fleet.newest_s and not is_taken:
        kind, said = DOWN, "gets no samples"
    place = escape(f"{workspace['account']}, {workspace['region']}")
    figures = _figures(fleet, now_s, is_taken=is_taken)
    return (
        f'<section class="hub workspace {kind}" aria-label="Workspace"><h3>Workspace <a href="/d/trunkline-collectors"><code>'
        f"{escape(str(workspace['id']))}</code></a></h3><p>in {place}</p>"
        f'<p class="said"><span aria-hidden="true">{MARKS[kind]}</span> {said}</p><p class="figures">{figures}</p></section>'
    )


def _figures(fleet: Fleet, now_s: float, *, is_taken: bool) -> str:
    """What is delivered is known from what is delivered, so these figures are no older than that."""
    if fleet.problem:
        return f"last answer {text('s', round(now_s - fleet.at_s))} ago" if fleet.at_s else "no answer yet"
    if not fleet.newest_s:
        return ""
    if not is_taken:
        return f"nothing taken for {text('s', max(0, round(now_s - fleet.newest_s)))}"
    return f"{text('short', fleet.per_second)} samples/s<br>oldest waiting {text('s', round(fleet.waiting_s, 1))}"


def summary(fleet: Fleet) -> str:
    """One line about all tasks, which is also read out when it changes."""
    counts = [f"{fleet.count(state)} {state}" for state in MARKS if fleet.count(state)]
    if not fleet.tasks:
        return "the fleet is unknown" if fleet.problem else "no tasks yet"
    return f"{len(fleet.tasks)} task{'s' if len(fleet.tasks) > 1 else ''}: {', '.join(counts)}"
