"""The demo's checks against evidence that holds, and against evidence doctored in one place at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from trunkline.aws.workspace import Found
from trunkline.fleet.images import TITLES
from trunkline.simulator.agent import PROGRAMS
from trunkline.simulator.demo import checks
from trunkline.simulator.demo.checks import Check
from trunkline.simulator.demo.evidence import (
    APPLICATION_COUNTERS,
    CPU,
    MEMORY,
    PLATFORM_METRICS,
    Evidence,
    RunningTask,
    Used,
)
from trunkline.simulator.demo.refusals import PROBE, Answered, Refusal

NOW_S = 1000.0
MIB = 1 << 20
TASKS = (
    RunningTask("222222222222", "eu-west-1", "demo", "shop", "a" * 32),
    RunningTask("333333333333", "us-east-1", "demo", "shop", "b" * 32),
)
FIRST, SECOND = TASKS


def labels(task: RunningTask, name: str) -> dict[str, str]:
    return {
        "__name__": name,
        "cloud_account_id": task.account,
        "cloud_region": task.region,
        "aws_ecs_cluster_name": task.cluster,
        "aws_ecs_service_name": task.service,
        "aws_ecs_task_id": task.id,
    }


def found(task: RunningTask, name: str, *values: float) -> Found:
    first_s = NOW_S - 5 * (len(values) - 1)
    return Found(
        labels(task, name), tuple((first_s + 5 * place, value) for place, value in enumerate(values))
    )


def used(memory_mib: float, cpu_units: float) -> list[Used]:
    """Readings of a task that is always the same, once a second."""
    return [
        Used(at_s, memory_mib * MIB, (at_s - 900) * cpu_units / 1024) for at_s in range(950, int(NOW_S) + 1)
    ]


REFUSED = Refusal(
    "an unsigned write",
    Answered(403, "Missing Authentication Token"),
    Answered(403, "Missing Authentication Token"),
)
VALUES = {MEMORY: 40.0, CPU: 20.0}
TRUE = Evidence(
    tasks=TASKS,
    up=[found(task, "up", 1) for task in TASKS],
    counters=[found(task, name, 3, 3, 7) for task in TASKS for name in APPLICATION_COUNTERS],
    platform={name: [found(task, name, VALUES.get(name, 1)) for task in TASKS] for name in PLATFORM_METRICS},
    series=[labels(task, name) for task in TASKS for name in ("up", *PLATFORM_METRICS)],
    used={task.id: used(40, 20) for task in TASKS},
    refusals=[REFUSED],
    first_metrics_s=7.5,
    peak_bytes=500_000_000,
)


def doctored(name: str, *series: Found) -> Mapping[str, Sequence[Found]]:
    return {**TRUE.platform, name: series}


def test_true_evidence_passes_every_check() -> None:
    assert [check for check in checks.check_all(TRUE) if not check.ok] == []
    assert len({check.name for check in checks.check_all(TRUE)}) == len(checks.CHECKS) + 1


@pytest.mark.parametrize("check", checks.CHECKS)
def test_no_evidence_passes_no_check(check: Callable[[Evidence], Check]) -> None:
    assert not check(Evidence(tasks=())).ok


def check_fails(check: Callable[[Evidence], Check], evidence: Evidence, *words: str) -> None:
    made = check(evidence)
    assert not made.ok
    for word in words:
        assert word in made.detail


def test_first_metrics_that_are_late_or_never_come() -> None:
    check_fails(checks.check_first_metrics, replace(TRUE, first_metrics_s=20.1), "after 20.1 s")
    check_fails(checks.check_first_metrics, replace(TRUE, first_metrics_s=None), "have not been")


def test_a_task_that_is_down_or_not_scraped() -> None:
    down = [found(FIRST, "up", 1), found(SECOND, "up", 0)]
    check_fails(checks.check_up, replace(TRUE, up=down), "task bbbbbbbb of 333333333333 is 0")
    check_fails(checks.check_up, replace(TRUE, up=down[:1]), "task bbbbbbbb of 333333333333 is not scraped")


def test_a_counter_that_stands_still_or_is_absent() -> None:
    rest = list(TRUE.counters)[1:]
    name = APPLICATION_COUNTERS[0]
    still = [found(FIRST, name, 3, 3, 3), *rest]
    check_fails(checks.check_counters, replace(TRUE, counters=still), f"{name} of task aaaaaaaa", "grew by 0")
    check_fails(checks.check_counters, replace(TRUE, counters=rest), "is not there")
    back = [found(FIRST, name, 7, 3), *rest]
    check_fails(checks.check_counters, replace(TRUE, counters=back), "grew by -4")


@pytest.mark.parametrize("name", PLATFORM_METRICS)
def test_a_platform_metric_that_is_absent_or_there_twice(name: str) -> None:
    once, other = found(FIRST, name, 1), found(SECOND, name, 1)
    absent = replace(TRUE, platform=doctored(name, once))
    check_fails(
        checks.check_platform_metrics, absent, f"{name} of task bbbbbbbb of 333333333333 is there 0 times"
    )
    twice = replace(TRUE, platform=doctored(name, once, other, other))
    check_fails(checks.check_platform_metrics, twice, "is there 2 times")


@pytest.mark.parametrize("said", [33.9, 46.1])
def test_memory_that_is_not_what_the_processes_have(said: float) -> None:
    evidence = replace(TRUE, platform=doctored(MEMORY, found(FIRST, MEMORY, said), found(SECOND, MEMORY, 40)))
    check_fails(
        checks.check_memory, evidence, f"task aaaaaaaa of 222222222222 says {said} MiB, not 34.0 to 46.0"
    )


def test_memory_of_a_time_nobody_has_looked() -> None:
    check_fails(checks.check_memory, replace(TRUE, used={}), "there is no reading of task aaaaaaaa")
    early = {task.id: used(40, 20)[:10] for task in TASKS}
    check_fails(checks.check_memory, replace(TRUE, used=early), "around the time of its sample")


@pytest.mark.parametrize("said", [4.9, 35.1])
def test_cpu_that_is_not_what_the_processes_use(said: float) -> None:
    evidence = replace(TRUE, platform=doctored(CPU, found(FIRST, CPU, 20), found(SECOND, CPU, said)))
    check_fails(
        checks.check_cpu, evidence, f"task bbbbbbbb of 333333333333 says {said} units, not 5.0 to 35.0"
    )


def test_cpu_of_another_time_does_not_count() -> None:
    busy_then_idle = [*used(40, 500)[:20], *(replace(each, cpu_s=50.0) for each in used(40, 0)[20:])]
    evidence = replace(
        TRUE,
        used={task.id: busy_then_idle for task in TASKS},
        platform=doctored(CPU, *(found(task, CPU, 500) for task in TASKS)),
    )
    check_fails(checks.check_cpu, evidence, "says 500.0 units")


def test_series_that_are_not_one_tasks_own() -> None:
    def check(series: dict[str, str], words: str) -> None:
        check_fails(checks.check_no_shared_series, replace(TRUE, series=[*TRUE.series, series]), words)

    nobodys = labels(FIRST, "up")
    del nobodys["aws_ecs_task_id"]
    check(nobodys, "up of task ? does not say of which task it is")
    check({**labels(FIRST, "up"), "cloud_account_id": SECOND.account}, "cloud_account_id '333333333333'")
    check({**labels(FIRST, "up"), "aws_ecs_service_name": "other"}, "aws_ecs_service_name 'other'")


def test_samples_that_came_twice_for_one_place() -> None:
    check_fails(checks.check_no_shared_series, replace(TRUE, duplicates=2), "refused 2 samples")
    only_first = [labels(FIRST, "up")]
    check_fails(
        checks.check_no_shared_series, replace(TRUE, series=only_first), "task bbbbbbbb", "has no series"
    )


def test_a_write_that_should_have_been_refused() -> None:
    def check(answered: Answered) -> None:
        refusal = replace(REFUSED, answered=answered)
        made = checks.check_all(replace(TRUE, refusals=[refusal]))[-1]
        assert (made.name, made.ok) == ("refused: an unsigned write", False)
        assert made.detail.startswith(f"answered {answered.status} «{answered.text}», not 403")

    check(Answered(200, ""))
    check(Answered(403, "Missing Authentication Token "))
    check(Answered(401, "Missing Authentication Token"))


def test_a_refused_write_that_was_stored_all_the_same() -> None:
    slipped_in = [*TRUE.series, {"__name__": PROBE}]
    check_fails(checks.check_nothing_slipped_in, replace(TRUE, series=slipped_in), "1 series")


def test_too_much_memory() -> None:
    check_fails(checks.check_peak_memory, replace(TRUE, peak_bytes=1_000_000_000), "1000 MB")


def test_the_simulator_has_a_program_for_every_image_of_a_fleet() -> None:
    assert set(TITLES.values()) == set(PROGRAMS)
