"""What of a fleet has arrived in its workspace, by signed queries with the query role."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from trunkline.aws.credentials import CredentialsFactory
from trunkline.aws.workspace import Found, Workspace
from trunkline.net.client import ClientFactory
from trunkline.net.resolve import Resolve

Place = tuple[str, str, str]
"""Account, region and service."""

T = TypeVar("T")

LABELS: Final = ("cloud_account_id", "cloud_region", "aws_ecs_service_name")
_BY: Final = f"by ({', '.join(LABELS)})"
_EARLIER: Final = "1h"
_STEP: Final = "15s"
_QUERIES_AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True)
class Route:
    """How the workspace is reached from here: by which rules (as `--resolve` has them), trusting whom.

    By default as the environment says (`TRUNKLINE_RESOLVE`, `AWS_CA_BUNDLE`).
    """

    resolve: str = field(default_factory=lambda: os.environ.get("TRUNKLINE_RESOLVE", ""))
    ca_bundle: str | None = field(default_factory=lambda: os.environ.get("AWS_CA_BUNDLE"))


@dataclass(slots=True)
class Arrived:
    """What there is of one service."""

    targets: int = 0
    """Those that are scraped, by their `up`."""
    down: list[str] = field(default_factory=list)
    """Targets that could not be scraped, as `job instance`."""
    newest_s: float | None = None
    """Epoch seconds of its newest sample within the last hour; None when there is none."""


def senders(url: str, region: str, keys: Mapping[str, str], route: Route) -> set[str]:
    """The ids of the accounts that sent something within the last day; blocking. Raises as `arrived` does."""
    return asyncio.run(_with_workspace(_senders, url, region, keys, route))


async def _senders(workspace: Workspace) -> set[str]:
    label = LABELS[0]
    found = await workspace.query(f'group by ({label}) (present_over_time(up{{{label}!=""}}[1d]))')
    return {each.labels[label] for each in found}


def arrived(
    url: str, region: str, keys: Mapping[str, str], places: Sequence[Place], route: Route
) -> dict[Place, Arrived]:
    """What has arrived of each of `places`; blocking.

    `keys` are the temporary credentials as `sts:AssumeRole` answers them. Raises `QueryError`, `CredentialsError`.
    """
    return asyncio.run(
        _with_workspace(lambda workspace: _arrived(workspace, places), url, region, keys, route)
    )


async def _with_workspace(
    ask: Callable[[Workspace], Awaitable[T]], url: str, region: str, keys: Mapping[str, str], route: Route
) -> T:
    environment = {
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }
    clients = ClientFactory(Resolve.parse(route.resolve), route.ca_bundle)
    async with (
        contextlib.aclosing(clients.client()) as link,
        CredentialsFactory(clients, environment) as factory,
    ):
        workspace = Workspace(link, url, region, factory.default(region))
        return await ask(workspace)


async def _arrived(workspace: Workspace, places: Sequence[Place]) -> dict[Place, Arrived]:
    """`up` tells most, and cheaply; only services without any are asked for one by one."""
    found = {place: Arrived() for place in places}
    for each in await workspace.query(f'up{{{LABELS[0]}!=""}}'):
        own = found.get(_place(each))
        if own is not None:
            own.targets += 1
            if each.value == 0 and each.labels.get("job") != "trunkline":
                own.down.append(f"{each.labels.get('job', '')} {each.labels.get('instance', '')}")
    for each in await workspace.query(f'max {_BY} (timestamp(up{{{LABELS[0]}!=""}}))'):
        if (own := found.get(_place(each))) is not None:
            own.newest_s = each.value
    limit = asyncio.Semaphore(_QUERIES_AT_ONCE)

    async def look(place: Place, own: Arrived) -> None:
        async with limit:
            own.newest_s = await _newest(workspace, place)

    silent = [(place, own) for place, own in found.items() if own.newest_s is None]
    await asyncio.gather(*(look(place, own) for place, own in silent))
    return found


async def _newest(workspace: Workspace, place: Place) -> float | None:
    """Of whatever metric; those that have ended within the last hour too."""
    own = ",".join(f'{name}="{value}"' for name, value in zip(LABELS, place, strict=True))
    # By name, because timestamp() takes the name off, and then a task's series are no longer told apart.
    names = await workspace.query(f"group by (__name__) (last_over_time({{{own}}}[{_EARLIER}]))")
    if not names:
        return None
    name = min(each.labels["__name__"] for each in names)
    answer = await workspace.query(f"max(max_over_time(timestamp({name}{{{own}}})[{_EARLIER}:{_STEP}]))")
    return answer[0].value if answer else None


def _place(found: Found) -> Any:
    return tuple(found.labels.get(label, "") for label in LABELS)
