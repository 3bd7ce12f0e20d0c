"""How fast a backlog is replayed: fast enough to catch up, slow enough that a workspace does not notice a fleet doing so."""

from __future__ import annotations

import math
from typing import Final

MOST: Final = 30.0
"""A backlog is sent at this many times the rate at which samples come in: half an hour is caught up in two minutes,
of which the longest pause between two tries takes the first.
"""
LEAST: Final = 1.2
"""Under throttling never slower than this many times, or a backlog would only grow."""
RECOVERY_PER_S: Final = 0.05
"""How much of the multiple comes back in a second: not with each request taken, or those who throttle a workspace
would recover in no time, and those who only send what is new would wait.
"""
LEAST_RATE_PER_S: Final = 25.0
"""A smaller rate counts as this, as long as hardly anything has come in."""
CATCH_UP_S: Final = 120.0
"""A backlog of another collector says nothing of what comes in here: what waits, over this long, counts as the rate of
sending if that is more.
"""
_MEMORY_S: Final = 60.0


class Pace:
    """Measures the live rate and says how long to wait between requests of a backlog. Times in seconds."""

    def __init__(self, now_s: float) -> None:
        self._began_s = self._seen_s = now_s
        self._grown_s = now_s
        self._weighed = 0.0
        self.multiple = MOST

    def came_in(self, samples: int, now_s: float) -> None:
        """Samples were kept."""
        self._decay(now_s)
        self._weighed += samples / _MEMORY_S

    def throttled(self, now_s: float) -> None:
        """The receiver said that it is too much."""
        self._grow(now_s)
        self.multiple = max(LEAST, self.multiple / 2)

    def live_rate(self, now_s: float) -> float:
        """Samples a second that came in lately."""
        self._decay(now_s)
        age_s = now_s - self._began_s
        return self._weighed / -math.expm1(-age_s / _MEMORY_S) if age_s > 0 else 0.0

    def pause_s(self, samples: int, took_s: float, now_s: float, chance: float, waiting: int = 0) -> float:
        """How long to wait after a request of `samples` that took `took_s`, when so many more are `waiting`.

        `chance` from 0 to 1 spreads a fleet out.
        """
        self._grow(now_s)
        rate = max(self.live_rate(now_s), LEAST_RATE_PER_S, waiting / CATCH_UP_S / MOST) * self.multiple
        return max(0.0, samples / rate * (0.75 + 0.5 * chance) - took_s)

    def _grow(self, now_s: float) -> None:
        self.multiple = min(MOST, self.multiple + RECOVERY_PER_S * (now_s - self._grown_s))
        self._grown_s = now_s

    def _decay(self, now_s: float) -> None:
        self._weighed *= math.exp(min(0.0, (self._seen_s - now_s) / _MEMORY_S))
        self._seen_s = now_s
