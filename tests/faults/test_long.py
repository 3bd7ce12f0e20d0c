"""Short runs of what takes long: a soak and an outage; and a fleet that comes back, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from faults import outage as outages
from faults import soak, storm


@pytest.fixture
def _in_silence() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


async def test_a_soak_and_an_outage_account_for_everything() -> None:
    soaked, outage = await asyncio.gather(
        soak.carry_out(10, 5000, seed=5), outages.carry_out(6, 5000, live_s=2)
    )
    assert not soaked.problems, soaked
    assert soaked.scraped > 40_000
    assert soaked.faults.total() >= 1
    assert not outage.problems, outage
    assert outage.backlog > 25_000
    assert outage.caught_up_s < 30


@pytest.mark.usefixtures("_in_silence")
def test_a_fleet_that_comes_back_is_no_storm() -> None:
    fleet = storm.Fleet(
        collectors=100, bystanders=5, requests_per_s=300, samples_per_s=166_666, burst=166_666
    )
    result = storm.play(fleet, seed=1, for_s=200)
    assert len(result.caught_up_s) == 100
    assert max(result.caught_up_s) < 150
    assert result.share_throttled < 0.2
    assert result.oldest_of_bystanders_s < fleet.interval_s
    assert result.most_requests < 2 * fleet.requests_per_s


@pytest.mark.usefixtures("_in_silence")
def test_only_the_seed_decides() -> None:
    fleet = storm.Fleet(collectors=5, bystanders=1)
    first, second = (storm.play(fleet, seed=1, for_s=60) for _ in range(2))
    assert first.requests == second.requests
