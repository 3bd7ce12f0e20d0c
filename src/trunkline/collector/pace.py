"""How fast a backlog is replayed: fast enough to catch up, slow enough that a workspace does not notice a fleet doing so."""

from __future__ import annotations

import math
from typing import Final

MOST: Final = 20.0
"""A backlog is sent at this many times the rate at which samples come in: half an hour is caught up in two minutes."""
LEAST: Final = 1.5
"""Under throttling never slower than this many times, or a backlog would only grow."""
RECOVERY: Final = 0.25
"""How much of the multiple comes back with every request that is taken."""
FLOOR_PER_S: Final = 10_000.0
"""Below this many samples a second nobody needs protection."""
_MEMORY_S: Final = 60.0


class Pace:
    """Measures the live rate and says how long to wait between requests of a backlog. Times in seconds."""

    def __init__(self, now_s: float) -> None:
        self._began_s = self._seen_s = now_s
        self._weighed = 0.0
        self.multiple = MOST

    def came_in(self, samples: int, now_s: float) -> None:
        """Samples were kept."""
        self._decay(now_s)
        self._weighed += samples / _MEMORY_S

    def throttled(self) -> None:
        """The receiver said that it is too much."""
        self.multiple = max(LEAST, self.multiple / 2)

    def taken(self) -> None:
        """The receiver took a request."""
        self.multiple = min(MOST, self.multiple + RECOVERY)

    def live_rate(self, now_s: float) -> float:
        """Samples a second that came in lately."""
        self._decay(now_s)
        age_s = now_s - self._began_s
        return self._weighed / -math.expm1(-age_s / _MEMORY_S) if age_s > 0 else 0.0

    def pause_s(self, samples: int, took_s: float, now_s: float, chance: float) -> float:
        """How long to wait after a request of `samples` that took `took_s`; `chance` from 0 to 1 spreads a fleet out."""
        rate = max(self.live_rate(now_s) * self.multiple, FLOOR_PER_S)
        return max(0.0, samples / rate * (0.75 + 0.5 * chance) - took_s)

    def _decay(self, now_s: float) -> None:
        self._weighed *= math.exp(min(0.0, (self._seen_s - now_s) / _MEMORY_S))
        self._seen_s = now_s
