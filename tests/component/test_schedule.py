from __future__ import annotations

import pytest

from trunkline.component.schedule import phase_of, ticks
from trunkline.testing import VirtualClock


async def first(
    clock: VirtualClock, count: int, work_s: float = 0.0, *, at_once: bool = False
) -> list[float]:
    found = []
    async for stamp in ticks(15.0, 4.0, clock, at_once=at_once):
        found.append(stamp)
        clock.now_s += work_s
        if len(found) == count:
            break
    return found


async def test_ticks_lie_at_their_phase_of_whole_intervals() -> None:
    clock = VirtualClock(1_500_000_001.0)  # a multiple of 15, plus 1
    assert await first(clock, 3) == [1_500_000_004.0, 1_500_000_019.0, 1_500_000_034.0]


async def test_a_restart_goes_on_in_the_same_rhythm() -> None:
    stamps = [(await first(VirtualClock(start), 1))[0] for start in (1_500_000_001.0, 1_500_000_020.0)]
    assert (stamps[1] - stamps[0]) % 15 == 0


async def test_slow_work_skips_ticks_instead_of_piling_them_up() -> None:
    assert await first(VirtualClock(1_500_000_001.0), 3, work_s=31.0) == [
        1_500_000_004.0,
        1_500_000_049.0,
        1_500_000_094.0,
    ]


async def test_a_collection_at_once_comes_before_the_rhythm() -> None:
    assert await first(VirtualClock(1_500_000_001.0), 2, at_once=True) == [1_500_000_001.0, 1_500_000_004.0]


async def test_a_tick_that_comes_late_says_when_it_really_came() -> None:
    class Suspended(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds + 3600.5)

    assert await first(Suspended(1_500_000_001.0), 1) == [1_500_003_604.5]


async def test_waking_a_moment_early_gives_a_tick_once() -> None:
    class Early(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds - 0.001)

    assert await first(Early(1_500_000_001.0), 2) == [1_500_000_004.0, 1_500_000_019.0]


def test_phases_are_stable_and_spread_over_the_interval() -> None:
    phases = [phase_of(f"target {number}", 15.0) for number in range(1000)]
    assert phases == [phase_of(f"target {number}", 15.0) for number in range(1000)]
    assert sum(phases) / 1000 == pytest.approx(7.5, abs=0.5)
    assert 0 <= min(phases) < 0.1
    assert 14.9 < max(phases) < 15
