"""What the map shows, looked up at most every two seconds however many look at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from trunkline.errors import TrunklineError
from trunkline.page import doctor
from trunkline.page.asking import Questions, Simulator
from trunkline.page.doctor import Collector
from trunkline.page.fleet_map import Fleet, look
from trunkline.page.troubles import State, Troubles

_KEPT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The fleet, what is broken, and the collectors that run, at one moment."""

    fleet: Fleet = field(default_factory=Fleet)
    state: State = field(default_factory=State)
    collectors: Mapping[str, Collector] = field(default_factory=dict)
    at_s: float = 0.0


class Watch:
    """Shared by all who look."""

    def __init__(self, simulator: Simulator, questions: Questions, troubles: Troubles) -> None:
        self._simulator = simulator
        self._questions = questions
        self._troubles = troubles
        self._turn = asyncio.Lock()
        self._seen = Seen()

    @property
    def newest(self) -> Seen:
        """How it was when somebody last looked."""
        return self._seen

    async def see(self, *, anew: bool = False) -> Seen:
        """How it is, at most two seconds ago; `anew` for right now. What cannot be asked is named in the fleet."""
        async with self._turn:
            if anew or time.time() - self._seen.at_s > _KEPT_S:
                self._seen = await self._look()
        return self._seen

    async def _look(self) -> Seen:
        try:
            status: dict[str, Any] = await self._simulator.status()
            fleet, state, collectors = await asyncio.gather(
                self._fleet(status["tasks"]),
                self._troubles.state(),
                asyncio.to_thread(doctor.collectors, status["pid"]),
            )
        except TrunklineError as error:
            before = self._seen
            return Seen(before.fleet.unknown(str(error)), before.state, before.collectors, time.time())
        return Seen(fleet, state, collectors, time.time())

    async def _fleet(self, ecs: Sequence[Mapping[str, Any]]) -> Fleet:
        """What is broken can be told, and mended, while the workspace cannot be asked."""
        try:
            return await look(self._questions, ecs)
        except TrunklineError as error:
            return self._seen.fleet.unknown(str(error))
