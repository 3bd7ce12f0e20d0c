"""The collector does what a Prometheus 3 did, which golden files hold: no Prometheus is needed to tell."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.differential.comparison import Seen, shown_differences
from tests.differential.differences import CHANGES, PURPOSES, Purpose
from tests.differential.golden import FOLDER, NAMES, Bench, Told, read
from tests.differential.scenarios import scenarios

OLDEST = (2, 42)


@pytest.fixture(scope="module")
def told() -> Mapping[str, Told]:
    """One run of the collector for all tests."""
    return Bench().told()


@pytest.mark.parametrize("name", NAMES)
def test_the_collector_sends_what_prometheus_3_sent(told: Mapping[str, Told], name: str) -> None:
    expected = _unexplained(name, read(name).samples)
    assert expected
    differences = shown_differences(expected, _unexplained(name, told[name].samples))
    assert not differences, "\n".join(["", *differences])


def _unexplained(name: str, samples: set[Seen]) -> set[Seen]:
    purposes = [one for one in PURPOSES if name in one.scenarios]
    return {one for one in samples if not any(purpose.explains(one) for purpose in purposes)}


@pytest.mark.parametrize("name", NAMES)
def test_the_collector_asks_as_prometheus_3_asked(told: Mapping[str, Told], name: str) -> None:
    asked, expected = told[name].asked, read(name).asked
    for purpose in (one for one in PURPOSES if name in one.scenarios):
        asked, expected = (set(map(purpose.alike, side)) for side in (asked, expected))
    assert asked == expected


@pytest.mark.parametrize(
    "purpose", [one for one in PURPOSES if {*one.scenarios} <= {*NAMES}], ids=lambda one: one.what
)
def test_every_difference_on_purpose_is_still_there(told: Mapping[str, Told], purpose: Purpose) -> None:
    both = ((told[name].samples, read(name).samples) for name in purpose.scenarios)
    assert any(purpose.explains(one) for found, expected in both for one in found ^ expected)


def test_whatever_an_older_judge_does_otherwise_is_recorded() -> None:
    assert all(change.recorded for change in CHANGES)
    assert {name for name, one in scenarios().items() if one.since > OLDEST} <= {*NAMES}
    assert sorted(file.stem for file in FOLDER.glob("*.json")) == list(NAMES)
