from __future__ import annotations

import pytest

from trunkline.collector.pace import CATCH_UP_S, LEAST, LEAST_RATE_PER_S, MOST, RECOVERY_PER_S, Pace


def fed(rate: float, seconds: int) -> Pace:
    pace = Pace(0.0)
    for second in range(1, seconds + 1):
        pace.came_in(int(rate), float(second))
    return pace


@pytest.mark.parametrize("seconds", [5, 60, 600])
def test_the_live_rate_is_what_came_in_lately(seconds: int) -> None:
    assert fed(20_000, seconds).live_rate(float(seconds)) == pytest.approx(20_000, rel=0.15)


def test_half_an_hour_is_caught_up_in_two_minutes() -> None:
    pace, now_s, backlog = fed(20_000, 1800), 1800.0, 1800 * 20_000
    while backlog > 0:
        pause_s = pace.pause_s(10_000, 0.005, now_s, 0.5) + 0.005
        now_s += pause_s
        came_in = int(20_000 * pause_s)
        pace.came_in(came_in, now_s)
        backlog += came_in - 10_000
    assert 60 < now_s - 1800 < 75


def test_throttling_slows_down_and_time_speeds_up_again() -> None:
    pace = fed(20_000, 600)
    usual_s = pace.pause_s(10_000, 0.0, 600.0, 0.5)
    for _ in range(10):
        pace.throttled(600.0)
    assert pace.multiple == LEAST
    assert pace.pause_s(10_000, 0.0, 600.0, 0.5) == pytest.approx(usual_s * MOST / LEAST)
    pace.pause_s(10_000, 0.0, 601.0, 0.5)
    assert pace.multiple == pytest.approx(LEAST + RECOVERY_PER_S)
    pace.pause_s(10_000, 0.0, 601.0 + MOST / RECOVERY_PER_S, 0.5)
    assert pace.multiple == MOST


def test_a_fleet_spreads_out_and_the_small_need_not_wait_long() -> None:
    pace = fed(20_000, 600)
    assert pace.pause_s(10_000, 0.0, 600.0, 1.0) > 1.5 * pace.pause_s(10_000, 0.0, 600.0, 0.0)
    assert Pace(0.0).pause_s(100, 0.0, 1.0, 0.5) == pytest.approx(100 / LEAST_RATE_PER_S / MOST)
    assert pace.pause_s(10_000, 60.0, 600.0, 0.5) == 0.0


def test_what_another_collector_has_left_is_caught_up_with_too() -> None:
    """Though next to nothing comes in here."""
    pace, now_s, waiting = Pace(0.0), 600.0, 2_000_000
    while waiting > 100_000:
        now_s += pace.pause_s(10_000, 0.0, now_s, 0.5, waiting)
        waiting -= 10_000
    assert now_s - 600.0 < 4 * CATCH_UP_S
    pace.throttled(now_s)
    assert pace.pause_s(10_000, 0.0, now_s, 0.5, 2_000_000) > 1.9 * 10_000 / (2_000_000 / CATCH_UP_S)
