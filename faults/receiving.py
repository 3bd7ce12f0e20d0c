"""The receiving side goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

from faults.endpoint import Mode
from faults.fault import Plan, fault
from faults.ledger import missing
from faults.process import until
from faults.stage import Stage

CAPACITY_S: Final = 120.0


async def _while(stage: Stage, plan: Plan, mode: Callable[[], Mode]) -> None:
    """Scrape a little, let the endpoint be like this for the plan's time, and everything must arrive."""
    collector = await stage.start()
    await stage.scraped(3)
    stage.endpoint.mode = mode
    await asyncio.sleep(plan.for_s)
    await stage.finish(collector)


@fault("down", "nothing listens on the port")
async def down(stage: Stage, plan: Plan) -> None:
    collector = await stage.start()
    await stage.scraped(3)
    await stage.endpoint.close()
    await asyncio.sleep(plan.for_s)
    await stage.finish(collector)


@fault("down from the start", "nothing listens when the collector starts, and for a while")
async def down_from_the_start(stage: Stage, plan: Plan) -> None:
    await stage.endpoint.close()
    collector = await stage.start()
    await asyncio.sleep(plan.for_s)
    await stage.finish(collector)


@fault(
    "dead workspace",
    "500 to everything under a larger load: 20,000 samples/s",
    sizes=(10_000,),
    interval_s=0.5,
)
async def dead(stage: Stage, plan: Plan) -> None:
    stage.most_rss = 112 * 1024 * 1024
    await _while(stage, plan, lambda: Mode(status=500, stores=False, words="dead"))


@fault("slow", "every answer comes 1 s late")
async def slow(stage: Stage, plan: Plan) -> None:
    await _while(stage, plan, lambda: Mode(delay_s=1.0))


@fault("hanging", "stores, then answers later than the collector waits")
async def hanging(stage: Stage, plan: Plan) -> None:
    stage.exporter["timeout"] = "500ms"
    await _while(stage, plan, lambda: Mode(delay_s=60.0 if plan.chance.random() < 0.5 else 0.0))


@fault("flapping", "the port closes and opens again several times a second, whatever is under way")
async def flapping(stage: Stage, plan: Plan) -> str:
    collector = await stage.start()
    await stage.scraped(3)
    end_s, times = time.monotonic() + plan.for_s, 0
    while time.monotonic() < end_s:
        await stage.endpoint.close()
        await asyncio.sleep(plan.chance.uniform(0.02, 0.4))
        await stage.endpoint.open()
        await asyncio.sleep(plan.chance.uniform(0.02, 0.4))
        times += 1
    await stage.finish(collector)
    return f"{times} times"


@fault("429", "429 with `Retry-After: 1` to everything")
async def throttled(stage: Stage, plan: Plan) -> None:
    await _while(
        stage,
        plan,
        lambda: Mode(status=429, stores=False, headers={"Retry-After": "1"}, words="Rate exceeded"),
    )
    seen = stage.endpoint.seen
    hasty = [b.at_s - a.at_s for a, b in pairwise(seen) if a.status == 429 and b.at_s - a.at_s < 0.95]
    stage.expect(not hasty, f"Retry-After was 1 s, and there were requests after {hasty[:3]} s")
    stage.expect(any(one.status == 429 for one in seen), "no request was throttled")


@fault("500", "500 to every other request, half of them stored all the same")
async def errors(stage: Stage, plan: Plan) -> None:
    def mode() -> Mode:
        fails, stores = plan.chance.random() < 0.5, plan.chance.random() < 0.5
        return Mode(status=500, stores=stores, words="stumbled") if fails else Mode()

    await _while(stage, plan, mode)


@fault("413", "413 to requests of more than 16 samples")
async def too_large(stage: Stage, plan: Plan) -> None:
    await _while(stage, plan, lambda: Mode(max_samples=16))
    stage.expect(any(one.status == 413 for one in stage.endpoint.seen), "no request was too large")


async def _one_bad_series(stage: Stage, plan: Plan, *, whole: bool) -> None:
    address = stage.targets.all[-1].address

    def is_bad(labels: Mapping[str, str]) -> bool:
        return labels.get("instance") == address and labels.get("index") == "7"

    words = "label value too long: label='index'"
    stage.endpoint.be(Mode(refuses=is_bad, whole=whole, words=words))
    collector = await stage.start()
    await asyncio.sleep(plan.for_s)
    before = {reason for one in stage.collectors for reason in one.refused()}
    await stage.finish(collector)
    refused = collector.refused()
    stage.expect(
        before | set(refused) == {"labels"}, f"the reasons are {dict(refused)}, not the series' labels alone"
    )
    stage.expect(f'index="7",instance="{address}"' in collector.log, "the series at fault is not named")


@fault("400, all or nothing", "400 for one series of 200; nothing of such a request is stored (Prometheus)")
async def bad_series_whole(stage: Stage, plan: Plan) -> None:
    await _one_bad_series(stage, plan, whole=True)


@fault("400, good part stored", "400 for one series of 200; the rest of the request is stored (Cortex, AMP)")
async def bad_series_part(stage: Stage, plan: Plan) -> None:
    await _one_bad_series(stage, plan, whole=False)


@fault(
    "400 for capacity",
    "AMP's 400 for a series beyond the capacity for new ones; the rest of the request is stored",
)
async def capacity(stage: Stage, plan: Plan) -> None:
    address = stage.targets.all[-1].address

    def is_new(labels: Mapping[str, str]) -> bool:
        return labels.get("instance") == address and labels.get("index") == "7"

    words = "per-user series limit of 10000000 exceeded, Capacity from 2,000,000 to 4,000,000 is adjusted"
    stage.endpoint.be(Mode(refuses=is_new, whole=False, words=words))
    collector = await stage.start()
    await stage.scraped(3)
    # The first time it is waited for a minute whether the limit rises; from then on only the series is refused.
    await until(lambda: collector.refused().total() > 0, "the series to be refused", CAPACITY_S)
    await until(lambda: stage.store.age_s() < 3.0, "the other series to be stored as they come", CAPACITY_S)
    await asyncio.sleep(plan.for_s)
    age_s = stage.store.age_s()
    stage.expect(age_s < 5.0, f"the newest sample that is stored is {age_s:.0f} s old")
    stage.expect(set(collector.refused()) == {"series_limit"}, f"the reasons are {dict(collector.refused())}")
    await stage.finish(collector, CAPACITY_S)


@fault(
    "500, then 400",
    "500 without storing, then 400 for a series that is out of order; nothing of that request is stored",
)
async def unclear(stage: Stage, plan: Plan) -> None:
    address = stage.targets.all[-1].address

    def is_late(labels: Mapping[str, str]) -> bool:
        return labels.get("instance") == address and labels.get("index") == "7"

    def mode() -> Mode:
        if plan.chance.random() < 0.2:
            return Mode(status=500, stores=False)
        return Mode(refuses=is_late, words="out of order sample")

    await _while(stage, plan, mode)
    # Whether a series refused as out of order was taken the time before nobody can tell: it counts as delivered.
    gone = missing(stage.targets.all, stage.store)
    others = {key for key in gone.samples if key[:2] != (address, "7")}
    stage.expect(
        not others and gone.reports <= gone.failed,
        f"samples of other series were not stored: {sorted(others)[:3]}",
    )
    [collector] = stage.collectors
    stage.undecided = len(gone) - collector.refused().total()
    stage.expect(gone.samples, "nothing was refused")


@fault(
    "500 for one series",
    "500 to every request that holds one series of 200",
    known="requests that keep getting 5xx are not taken apart: everything waits in the queue behind them",
)
async def poisoned(stage: Stage, plan: Plan) -> None:
    address = stage.targets.all[-1].address

    def is_bad(labels: Mapping[str, str]) -> bool:
        return labels.get("instance") == address and labels.get("index") == "7"

    stage.endpoint.be(Mode(poison=is_bad))
    collector = await stage.start()
    await asyncio.sleep(plan.for_s)
    stored = stage.store.count()
    stage.expect(stored, "nothing is stored as long as the endpoint stumbles over one series")
    await stage.finish(collector)


@fault("dropped before", "every other connection is closed before the request is stored")
async def dropped_before(stage: Stage, plan: Plan) -> None:
    def mode() -> Mode:
        return Mode(stores=False, hang_up="instead") if plan.chance.random() < 0.5 else Mode()

    await _while(stage, plan, mode)


@fault(
    "dropped after",
    "every other connection is closed after storing, half of them in the middle of the answer",
)
async def dropped_after(stage: Stage, plan: Plan) -> None:
    def mode() -> Mode:
        if plan.chance.random() < 0.5:
            return Mode()
        return Mode(hang_up="within" if plan.chance.random() < 0.5 else "instead")

    await _while(stage, plan, mode)
    stage.expect(stage.store.repeated, "nothing was sent again, so nothing was tried")


@fault("random delays", "answers come up to 0.6 s late, at random")
async def delays(stage: Stage, plan: Plan) -> None:
    await _while(stage, plan, lambda: Mode(delay_s=plan.chance.uniform(0, 0.6)))


@fault("everything at random", "delays, 429, 500, 413 and closed connections in turn, at random")
async def everything(stage: Stage, plan: Plan) -> None:
    def mode() -> Mode:
        late_s = plan.chance.uniform(0, 0.3)
        return plan.chance.choice(
            (
                Mode(delay_s=late_s),
                Mode(status=429, stores=False, delay_s=late_s),
                Mode(status=503, stores=plan.chance.random() < 0.5, delay_s=late_s),
                Mode(max_samples=60, delay_s=late_s),
                Mode(hang_up="instead", delay_s=late_s),
                Mode(stores=False, hang_up="instead"),
            )
        )

    await _while(stage, plan, mode)


@fault("403 and 404", "403, then 404 to everything; nothing may be dropped meanwhile")
async def misdirected(stage: Stage, plan: Plan) -> None:
    collector = await stage.start()
    await stage.scraped(3)
    for status, words in ((403, "not authorized to perform: aps:RemoteWrite"), (404, "Workspace not found")):
        stage.endpoint.be(Mode(status=status, stores=False, words=words))
        await asyncio.sleep(plan.for_s / 2)
    await stage.finish(collector)
    stage.expect("answered 404" in collector.log, "the log does not say that the workspace was not found")
