"""What is scraped, how often, and for how long it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

IDENTITY: Final = {
    "aws_ecs_cluster_name": "production-eu-west-1",
    "aws_ecs_service_name": "checkout-service",
    "aws_ecs_task_family": "checkout-service-task",
    "aws_ecs_task_id": "0f9de17a6465404e8b1b2356dc13c2f8",
    "cloud_account_id": "222222222222",
    "cloud_region": "eu-west-1",
    "container_name": "checkout",
}
"""The seven labels that every collector puts on every series, as external labels of the same scrape configuration."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A load. `series` is per target and a multiple of 100; `warm_up_s` runs from the first delivered sample."""

    name: str
    title: str
    targets: int = 50
    series: int = 2000
    interval_s: float = 1.0
    churn: bool = False
    digits17: bool = False
    compressed: bool = False
    tls: bool = False
    warm_up_s: float = 4.0
    window_s: float = 15.0
    together: bool = False
    """Whether all collectors run at once: only where they leave the machine idle."""

    @property
    def samples_per_s(self) -> float:
        return self.targets * self.series / self.interval_s


SCENARIOS: Final = (
    Scenario(name="big", title="50 targets of 2,000 series, every second"),
    Scenario(name="small", title="250 targets of 200 series, every second", targets=250, series=200),
    Scenario(
        name="churn", title="the same 50 targets, 1 % of the series replaced at each scrape", churn=True
    ),
    Scenario(name="digits", title="the same 50 targets, values of 17 digits", digits17=True),
    Scenario(name="gzip", title="the same 50 targets, gzipped", compressed=True),
    Scenario(name="tls", title="the same 50 targets, over TLS", tls=True),
    Scenario(name="fast", title="the same 50 targets, five times a second", interval_s=0.2),
    Scenario(
        name="huge",
        title="one target of 100,000 series, every 5 seconds",
        targets=1,
        series=100_000,
        interval_s=5.0,
        warm_up_s=6.0,
        window_s=20.0,
    ),
    Scenario(
        name="idle",
        title="one target of 200 series, every 15 seconds (all collectors at once)",
        targets=1,
        series=200,
        interval_s=15.0,
        warm_up_s=2.0,
        window_s=60.0,
        together=True,
    ),
)

FLOORS: Final = ("big", "small")
"""For which of them it is measured what the unavoidable costs by itself: see floor.py."""

_QUICK: Final = {"big": 6.0, "small": 6.0, "idle": 15.0}
"""The scenarios of a quick run and how long each is measured, in seconds."""


def chosen(names: Sequence[str], *, quick: bool) -> list[Scenario]:
    """The scenarios of these names (all, or the quick ones, when there are none). Raises KeyError."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if not names:
        names = list(_QUICK if quick else known)
    return [_shortened(known[name]) if quick else known[name] for name in names]


def _shortened(scenario: Scenario) -> Scenario:
    window_s = _QUICK.get(scenario.name, max(6.0, 2 * scenario.interval_s))
    return replace(scenario, warm_up_s=min(scenario.warm_up_s, 2.0), window_s=window_s)
