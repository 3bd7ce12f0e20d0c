"""The benchmark end to end, once and short, with the real collector."""

from __future__ import annotations

from bench.collectors import trunkline
from bench.measure import run
from bench.scenarios import Scenario


async def test_a_run_proves_that_everything_arrived() -> None:
    scenario = Scenario(
        name="t", title="t", targets=2, series=200, interval_s=0.5, churn=True, warm_up_s=0.1, window_s=1.0
    )
    found = await run(scenario, trunkline(), 1)
    assert found.scrapes_served == found.scrapes_delivered > 0
    assert found.samples_delivered == 200 * found.scrapes_delivered
    assert found.unlabelled_series == 0
    assert found.exit_code == 0
    assert found.cpu_s > 0
    assert 10 < found.wire_bytes_per_sample < 400
