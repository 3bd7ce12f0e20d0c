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
    Scenario(name="big", title="50 targets × 2,000 series, 1 s"),
    Scenario(name="small", title="250 targets × 200 series, 1 s", targets=250, series=200),
    Scenario(name="churn", title="50 × 2,000, 1 % of the series replaced at each scrape", churn=True),
    Scenario(name="digits", title="50 × 2,000, values of 17 digits", digits17=True),
    Scenario(name="gzip", title="50 × 2,000, gzipped", compressed=True),
    Scenario(name="tls", title="50 × 2,000, over TLS", tls=True),
    Scenario(name="fast", title="50 × 2,000, five scrapes a second", interval_s=0.2),
    Scenario(
        name="huge",
        title="one target of 100,000 series, 5 s",
        targets=1,
        series=100_000,
        interval_s=5.0,
        warm_up_s=6.0,
        window_s=20.0,
    ),
    Scenario(
        name="idle",
        title="one target of 200 series, 15 s",
        targets=1,
        series=200,
        interval_s=15.0,
        warm_up_s=2.0,
        window_s=60.0,
        together=True,
    ),
)

_QUICK: Final = {"big": 6.0, "small": 6.0, "idle": 30.0}
"""The scenarios of a quick run and how long each is measured, in seconds."""


def chosen(names: Sequence[str], *, quick: bool) -> list[Scenario]:
    """The scenarios of these names (all, or the quick ones, when there are none). Raises KeyError."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if not names:
        names = list(_QUICK if quick else known)
    return [_shortened(known[name]) if quick else known[name] for name in names]


def _shortened(scenario: Scenario) -> Scenario:
    window_s = max(_QUICK.get(scenario.name, 6.0), 2 * scenario.interval_s)
    return replace(scenario, warm_up_s=min(scenario.warm_up_s, 2.0), window_s=window_s)
