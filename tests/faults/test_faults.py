"""A short run of the fault suite: every sample scraped is stored, or refused with a reason."""

from __future__ import annotations

import random
import signal
import time

import pytest
from faults.__main__ import QUICK
from faults.disk import Disk, compiler_on_linux
from faults.endpoint import Mode, Store
from faults.fault import FAULTS, Fault, Plan, carry_out
from faults.running import run
from faults.stage import Stage, Verdict

AT_ONCE = 8
"""They mostly wait."""


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    found = run([FAULTS[name] for name in QUICK], Plan(3.0, 4, random.Random()), AT_ONCE)
    return {verdict.name: verdict for verdict in found}


@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_lost_without_being_told(verdicts: dict[str, Verdict], name: str) -> None:
    verdict = verdicts[name]
    if verdict.skipped:
        pytest.skip(verdict.skipped)
    assert verdict.good, verdict
    assert verdict.scraped > 500


async def test_a_loss_that_nobody_tells_of_is_found() -> None:
    async def lose(stage: Stage, plan: Plan) -> None:
        del plan
        lost = iter([Mode(stores=False)])
        stage.endpoint.mode = lambda: next(lost, Mode())
        collector = await stage.start()
        await stage.scraped(8)
        await stage.finish(collector)

    verdict = await carry_out(Fault("lossy", "", lose), Plan(0, 0, random.Random()))
    assert verdict.unaccounted > 0
    assert not verdict.good


async def test_a_last_scrape_that_is_answered_too_late_is_not_accepted() -> None:
    """As on a machine that has other work: the targets have served it, and nobody waits for it any longer."""

    async def stall(stage: Stage, plan: Plan) -> None:
        del plan
        collector = await stage.start()
        await stage.scraped(8)
        await collector.looked()
        collector.signal(signal.SIGTERM)
        time.sleep(1)  # noqa: ASYNC251 (nobody answers meanwhile)
        assert await collector.ended() == 0

    verdict = await carry_out(Fault("stalled", "", stall), Plan(0, 0, random.Random()))
    assert verdict.good, verdict
    assert verdict.never_accepted >= sum((45, 45, 125))


@pytest.mark.skipif(bool(compiler_on_linux()), reason=compiler_on_linux())
async def test_what_was_never_flushed_is_missed_when_the_power_goes_off() -> None:
    async def lose_power(stage: Stage, plan: Plan) -> None:
        del plan
        disk = Disk(stage.folder)
        stage.environment = disk.environment
        await stage.endpoint.close()
        collector = await stage.start()
        await stage.scraped(4)
        await collector.kill()
        assert disk.lose_power(stage.data_dir)
        await stage.note_kill()
        await stage.endpoint.open()
        await stage.finish(await stage.start())

    verdict = await carry_out(Fault("power", "", lose_power), Plan(0, 0, random.Random()))
    assert any("which was not the last" in problem for problem in verdict.problems)


def test_a_store_notices_what_no_honest_collector_sends() -> None:
    labels = b"\x0a\x0d\x0a\x08__name__\x12\x01a"
    store = Store()
    assert store.put((labels, b"\0" * 8, 1000)) == ""
    assert store.put((labels, b"\0" * 8, 2000)) == ""
    assert store.put((labels, b"\0" * 8, 2000)) == ""
    assert (store.violations, store.repeated) == ([], 1)
    assert store.put((labels, b"\1" * 8, 2000)) == "duplicate sample for timestamp"
    assert store.put((labels, b"\1" * 8, 1500)) == "out of order sample"
    assert len(store.violations) == 2
    assert store.series[labels].labels == {"__name__": "a"}
