"""The collector and a real Prometheus scrape the same targets with the same configuration; what arrives is compared.

TRUNKLINE_JUDGE names another Prometheus than the one installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.differential.comparison import (
    Seen,
    by_scrape,
    labels_of,
    lives,
    shown_differences,
    stored,
    with_labels,
)
from tests.differential.differences import CHANGES, PURPOSES, Purpose
from tests.differential.observation import MOVED, SCRAPERS, Observed, disturbed, hindered, observe, programs
from tests.differential.processes import NODE_EXPORTER, PROMETHEUS, Arrived, first_served, judge_version
from tests.differential.scenario import SCRAPES, Scenario
from tests.differential.scenarios import scenarios
from tests.differential.surroundings import NO_RESOLVER

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed")

VERSION = judge_version() if PROMETHEUS else (0, 0)
KNOWN: Mapping[str, Scenario] = {name: one for name, one in scenarios().items() if one.since <= VERSION}
SCENARIOS = {name: one for name, one in KNOWN.items() if not (one.by_name and NO_RESOLVER)}
COUNTED = [
    pytest.param(name, marks=() if name in SCENARIOS else pytest.mark.skip(reason=NO_RESOLVER))
    for name, one in KNOWN.items()
    if one.reached
]
INSTALLED = ["prometheus", *(["node_exporter"] if NODE_EXPORTER else [])]
UNCOUNTED = [*MOVED, *(name for name, one in SCENARIOS.items() if not one.reached)]
LED_TO = ("elsewhere",)
"""Scenarios that others lead to."""
MOST_S = 3
"""The interval of the last attempt."""
MOST_SHOWN = 20


Runs = Mapping[str, Observed]
"""The run that counts for each scenario."""


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One run for all tests.

    A scenario in which the machine was too busy to scrape in time says nothing: it is repeated, with others like it
    and with more time, until nothing came in between.
    """

    async def run() -> Runs:
        found: dict[str, Observed] = {}
        moving = True
        waiting = {**SCENARIOS, **await programs(), "prometheus": Scenario([])}
        late, hampered = set(waiting), {*MOVED}
        for interval_s in range(1, MOST_S + 1):
            try:
                seen = await observe(
                    waiting, tmp_path_factory.mktemp("run"), moving=moving, interval_s=interval_s
                )
            except AssertionError:  # something did not come in time
                if interval_s == MOST_S:
                    raise
                continue
            found |= dict.fromkeys((*waiting, *(MOVED if moving else ())), seen)
            late = disturbed(seen, waiting, interval_s=interval_s)
            hampered = hindered(seen, interval_s)
            if not late and not hampered:
                return found
            waiting = {name: one for name, one in waiting.items() if name in {*late, *LED_TO}}
            moving = bool(hampered)
        pytest.fail(f"the machine was too busy for scrapes of {MOST_S} seconds: {sorted(late | hampered)}")

    with first_served():
        return asyncio.run(run())


def judged(observed: Runs, name: str) -> Arrived:
    """What the judge wrote, in the words of Prometheus 3."""
    samples = observed[name].arrived["judge"][name]
    for change in CHANGES if VERSION < (3, 0) else ():
        if change.translate and (not change.scenarios or name in change.scenarios):
            samples = with_labels(samples, {one: change.translate(one) for one in labels_of(samples)})
    return samples


def sides(observed: Runs, name: str) -> tuple[set[Seen], set[Seen]]:
    """What Prometheus stores of what each of the two wrote."""
    both = judged(observed, name), observed[name].arrived["trunkline"][name]
    expected, found = (
        by_scrape(stored(one), SCRAPES, observed[name].opened_ms, observed[name].closed_ms) for one in both
    )
    return expected, found


@pytest.mark.parametrize("name", [*COUNTED, *INSTALLED])
def test_the_same_samples_arrive(observed: Runs, name: str) -> None:
    expected, found = sides(observed, name)
    assert expected
    for purpose in (one for one in PURPOSES if name in one.scenarios):
        expected, found = ({one for one in side if not purpose.explains(one)} for side in (expected, found))
    differences = shown_differences(expected, found)
    assert not differences, "\n".join(["", *differences[:MOST_SHOWN]])


@pytest.mark.parametrize("purpose", PURPOSES, ids=lambda one: one.what)
def test_every_difference_on_purpose_is_still_there(observed: Runs, purpose: Purpose) -> None:
    shown = [name for name in purpose.scenarios if name in SCENARIOS]
    seen = (one for name in shown for one in set.symmetric_difference(*sides(observed, name)))
    asked = (one for name in shown for who in SCRAPERS for one in observed[name].asked[name, who])
    explained = any(map(purpose.explains, seen)) or any(purpose.alike(one) != one for one in asked)
    assert explained or not shown


@pytest.mark.parametrize("name", UNCOUNTED)
def test_series_of_targets_that_come_and_go_live_alike(observed: Runs, name: str) -> None:
    expected, found = lives(judged(observed, name)), lives(observed[name].arrived["trunkline"][name])
    assert expected.keys() == found.keys()
    differing = [
        f"{labels}: {expected[labels]} {found[labels]}"
        for labels in expected
        if expected[labels] != found[labels]
    ]
    assert not differing, "\n".join(["", *differing])


@pytest.mark.parametrize("name", [*COUNTED, *INSTALLED, *UNCOUNTED])
def test_targets_are_asked_alike(observed: Runs, name: str) -> None:
    asked, expected = (observed[name].asked[name, who] for who in ("trunkline", "judge"))
    if VERSION < (3, 0):  # which knows fewer formats
        asked, expected = ({replace(one, accept="") for one in side} for side in (asked, expected))
    for purpose in (one for one in PURPOSES if name in one.scenarios):
        asked, expected = (set(map(purpose.alike, side)) for side in (asked, expected))
    assert asked == expected
