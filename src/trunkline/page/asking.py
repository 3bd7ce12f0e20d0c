"""Whom the page asks: the workspace by signed queries, as Grafana does, and the simulator by its control socket."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from trunkline.aws.credentials import CredentialsFactory
from trunkline.aws.workspace import Found, Workspace
from trunkline.dashboards.queries import Variable, taken
from trunkline.errors import QueryError, SimulatorError
from trunkline.net.client import ClientFactory
from trunkline.net.resolve import Resolve
from trunkline.page.filling import Span
from trunkline.simulator.control import ControlClient

_AT_ONCE: Final = 4
"""Queries under way; there are two cores, and the workspace's server has other things to do."""

_TIMEOUT_S: Final = 10.0
"""For one answer: who looks at a page wants to be told, not to wait for as long as AMP may take."""

_Answer = TypeVar("_Answer")


class Simulator:
    """The simulator whose folder is `state_dir`, without blocking. Methods raise SimulatorError."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._control = ControlClient(state_dir)

    async def ask(self, name: str, **arguments: object) -> Any:
        """As `ControlClient.ask`."""
        return await asyncio.to_thread(lambda: self._control.ask(name, **arguments))

    async def status(self) -> dict[str, Any]:
        """What `trunkline simulator status` shows."""
        found: dict[str, Any] = await self.ask("status")
        return found

    async def workspace(self) -> dict[str, Any]:
        """Its first workspace, with all that is needed to query it."""
        found = await self.ask("workspaces")
        if not found:
            raise SimulatorError("the simulator has no workspace yet; wait until its fleet stands")
        first: dict[str, Any] = found[0]
        return first


class Questions:
    """Queries of one workspace, a few at a time. Methods raise QueryError and CredentialsError.

    While the workspace gives no answer, who had to wait for a turn is told so without asking once more: otherwise
    each of a dashboard's queries would wait in vain, one after another.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._silent_s = -math.inf
        self._silence = ""

    async def now(self, promql: str) -> list[Found]:
        """The value of `promql` at this moment."""
        return await self._in_turn(self._workspace.query(promql))

    async def over(self, promql: str, span: Span) -> list[Found]:
        """The values of `promql` over a span, at multiples of its step, so that they stand still between queries."""
        end_s = time.time() // span.step_s * span.step_s
        asking = self._workspace.query_range(promql, end_s - span.length_s, end_s, span.step_s)
        return await self._in_turn(asking)

    async def offered(self, variable: Variable, selector: str, span: Span) -> list[str]:
        """The values a variable offers, sorted, asked for as Grafana does; `selector` is its own, filled in."""
        now_s = time.time()
        asking = self._workspace.label_values(variable.label, selector, now_s - span.length_s, now_s)
        return sorted({taken(variable.regex, each) for each in await self._in_turn(asking)} - {""})

    async def _in_turn(self, asking: Coroutine[Any, Any, _Answer]) -> _Answer:
        began_s = time.monotonic()
        with contextlib.closing(asking):  # it may never be waited for
            async with self._turn:
                if self._silent_s > began_s:
                    raise QueryError(self._silence)
                try:
                    return await asking
                except QueryError as error:
                    if not error.status:
                        self._silent_s, self._silence = time.monotonic(), str(error)
                    raise


@contextlib.asynccontextmanager
async def open_questions(place: Mapping[str, Any]) -> AsyncIterator[Questions]:
    """Ask the workspace `place` (of `Simulator.workspace`) by its real name, over TLS, signed by its query role."""
    clients = ClientFactory(Resolve.parse(place["resolve"]), place["ca_bundle"])
    environment = {
        "AWS_ENDPOINT_URL": place["aws_endpoint"],
        "AWS_ACCESS_KEY_ID": place["key"]["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": place["key"]["secret_access_key"],
    }
    async with (
        contextlib.aclosing(clients.client()) as link,
        CredentialsFactory(clients, environment) as factory,
    ):
        region = place["region"]
        role = place["query_role"]
        keys = factory.assume_role(role, region=region) if role else factory.default(region)
        yield Questions(Workspace(link, place["url"], region, keys, timeout_s=_TIMEOUT_S))
