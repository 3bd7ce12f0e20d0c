from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trunkline.component.metrics import Registry, SelfMetrics


def shown(registry: Registry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(registry.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_is_shown_is_what_was_counted() -> None:
    registry = Registry()
    counter = registry.counter("c_total", "A counter.", "who")
    counter.add(2, "a")
    counter.add(0.5, "a")
    counter.add(1, 'b"\\\n')
    registry.gauge("g", "A gauge.").set(-1.25)
    registry.gauge("asked", "A gauge asked for its value.").track(lambda: float("nan"))
    found = shown(registry)
    assert found["c_total", (("who", "a"),)] == 2.5
    assert found["c_total", (("who", 'b"\\\n'),)] == 1
    assert found["g", ()] == -1.25
    assert found["asked", ()] != found["asked", ()]


def test_durations_are_cumulative_and_a_bound_belongs_to_its_bucket() -> None:
    registry = Registry()
    durations = registry.durations("d_seconds", "Durations.", "who")
    for seconds in (0.001, 0.02, 0.02, 99):
        durations.observe(seconds, "a")
    found = shown(registry)

    def bucket(bound: str) -> float:
        return found["d_seconds_bucket", (("le", bound), ("who", "a"))]

    assert [bucket(bound) for bound in ("0.001", "0.01", "0.05", "10", "+Inf")] == [1, 1, 3, 3, 4]
    assert found["d_seconds_count", (("who", "a"),)] == 4
    assert found["d_seconds_sum", (("who", "a"),)] == pytest.approx(99.041)


def test_asking_twice_for_a_metric_gives_the_same_one() -> None:
    registry = Registry()
    assert registry.counter("a", "A.") is registry.counter("a", "A.")
    with pytest.raises(ValueError, match="metric a is declared twice, differently"):
        registry.gauge("a", "A.")
    with pytest.raises(ValueError, match="metric a is declared twice, differently"):
        registry.counter("a", "A.", "label")


def test_every_own_metric_has_help_that_ends_with_a_full_stop() -> None:
    lines = SelfMetrics().render().decode().splitlines()
    helps = [line for line in lines if line.startswith("# HELP")]
    assert len(helps) > 10
    assert all(line.endswith(".") for line in helps)
    assert shown(SelfMetrics())["process_resident_memory_bytes", ()] > 1e6
