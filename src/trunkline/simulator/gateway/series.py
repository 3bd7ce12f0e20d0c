"""The last sample of every series of a workspace, kept small; and token buckets."""

from __future__ import annotations

from array import array
from collections import Counter, deque

ACTIVE_S = 2 * 3600.0
"""A series counts as active for this long after its last sample (AMP's quota page)."""

_NEVER_MS = -(1 << 62)
_NO_GROUP = -1
_CAPACITY_STEP_S = 60.0
_CAPACITY_MEMORY_S = 30 * 60.0
_FAST_GROWTH_SERIES = 5_000_000
_SLOW_GROWTH_SERIES = 10_000_000


class SeriesMemory:
    """Last timestamp and value of each series by its key, some 150 bytes a series.

    `newest_ms` is the newest timestamp of all of them, from which the out-of-order window reaches back. A series
    counts against a group of limited label sets (their indices); `in_label_set` holds the counts.
    """

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._last_ms = array("q")
        self._last_bits = array("Q")
        self._source = array("H")
        self._group = array("h")
        self._groups: list[tuple[int, ...]] = []
        self._journal: list[tuple[int, int, int, int]] | None = None
        self._added: list[int] = []
        self.in_label_set: Counter[int] = Counter()
        self.newest_ms = _NEVER_MS

    def __len__(self) -> int:
        return len(self._slots)

    def find(self, key: int) -> int | None:
        """The slot of a series, None when it is not active."""
        return self._slots.get(key)

    def add(self, key: int, source: int, label_sets: tuple[int, ...]) -> int:
        """A slot for a new series."""
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self._last_ms)
            for column in (self._last_ms, self._last_bits, self._source, self._group):
                column.append(0)
        self._slots[key] = slot
        self._last_ms[slot], self._source[slot], self._group[slot] = _NEVER_MS, source, _NO_GROUP
        self.group(slot, label_sets)
        if self._journal is not None:
            self._added.append(key)
        return slot

    def remove(self, key: int) -> None:
        """Forget a series."""
        slot = self._slots.pop(key)
        self._free.append(slot)
        if (group := self._group[slot]) != _NO_GROUP:
            self.in_label_set.subtract(self._groups[group])

    def has_group(self, slot: int) -> bool:
        """Whether the series has been counted since the label sets last changed."""
        return self._group[slot] != _NO_GROUP

    def group(self, slot: int, label_sets: tuple[int, ...]) -> None:
        """Count a series that has no group against `label_sets`."""
        if label_sets not in self._groups:
            self._groups.append(label_sets)
        self._group[slot] = self._groups.index(label_sets)
        self.in_label_set.update(label_sets)

    def ungroup(self) -> None:
        """Start counting anew: the label sets have changed."""
        self._group = array("h", [_NO_GROUP]) * len(self._group)
        self._groups.clear()
        self.in_label_set.clear()

    def source(self, slot: int) -> int:
        """The number given as the series' source when it was added."""
        return self._source[slot]

    def sources(self) -> Counter[int]:
        """How many series are active, by source."""
        return Counter(self._source[slot] for slot in self._slots.values())

    def last(self, slot: int) -> tuple[int, int]:
        """Timestamp in ms and the value's bits of the newest sample."""
        return self._last_ms[slot], self._last_bits[slot]

    def put(self, slot: int, timestamp_ms: int, bits: int) -> None:
        """Note the newest sample of a series."""
        if self._journal is not None:
            self._journal.append((slot, self._last_ms[slot], self._last_bits[slot], self.newest_ms))
        self._last_ms[slot], self._last_bits[slot] = timestamp_ms, bits
        self.newest_ms = max(self.newest_ms, timestamp_ms)

    def begin(self) -> None:
        """From here on changes can be taken back, until `commit` or `rollback`."""
        self._journal = []

    def commit(self) -> None:
        """Keep the changes since `begin`."""
        self._journal = None
        self._added.clear()

    def rollback(self) -> None:
        """Take back the changes since `begin`."""
        for slot, last_ms, last_bits, newest_ms in reversed(self._journal or ()):
            self._last_ms[slot], self._last_bits[slot], self.newest_ms = last_ms, last_bits, newest_ms
        for key in self._added:
            self.remove(key)
        self.commit()

    def expire(self, before_ms: int) -> None:
        """Forget the series whose newest sample is older than `before_ms`."""
        for key in [key for key, slot in self._slots.items() if self._last_ms[slot] < before_ms]:
            self.remove(key)


class TokenBucket:
    """`rate` tokens a second, `burst` of them saved up at most; a burst's worth is there at the start."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, 0.0

    def take(self, tokens: float, now_s: float) -> bool:
        """Whether `tokens` were there; they are gone then."""
        self._tokens = min(self._burst, self._tokens + self._rate * max(0.0, now_s - self._at))
        self._at = now_s
        if tokens > self._tokens:
            return False
        self._tokens -= tokens
        return True


class Capacity:
    """How many active series a workspace takes at the moment.

    AMP grows with use: double what there was 30 minutes ago, above 5 million 10 million more than then, and
    never less than a floor ("Amazon Managed Service for Prometheus service quotas").
    """

    def __init__(self, floor: int, limit: int) -> None:
        self._floor, self._limit = floor, limit
        self._past: deque[tuple[float, int]] = deque()

    def series(self, active: int, now_s: float) -> int:
        """The number of series allowed now, `active` being there."""
        if not self._past or now_s - self._past[-1][0] >= _CAPACITY_STEP_S:
            self._past.append((now_s, active))
        while len(self._past) > 1 and now_s - self._past[1][0] >= _CAPACITY_MEMORY_S:
            self._past.popleft()
        then_s, base = self._past[0]
        if now_s - then_s < _CAPACITY_MEMORY_S:
            base = 0
        grown = base * 2 if base < _FAST_GROWTH_SERIES else base + _SLOW_GROWTH_SERIES
        return min(self._limit, max(self._floor, grown))
