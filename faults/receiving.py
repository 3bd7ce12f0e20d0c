"""The receiving side goes wrong."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from itertools import pairwise

from faults.endpoint import Endpoint, Mode, Store
from faults.fault import Plan, fault
from faults.ledger import disorder
from faults.process import PATIENCE_S, UNDER_LOAD_S, Collector, until
from faults.samples import read_labels
from faults.stage import HASTY, MOST_RSS_UNDER_LOAD, Stage, waiting_in
from trunkline.collector.aside import REVISIT_S


async def _while(stage: Stage, plan: Plan, mode: Callable[[], Mode], patience_s: float = PATIENCE_S) -> None:
    """Scrape a little, let the endpoint be like this for the plan's time, and everything must arrive."""
    collector = await stage.start()
    await stage.scraped(3)
    stage.endpoint.mode = mode
    await asyncio.sleep(plan.for_s)
    await stage.finish(collector, patience_s)


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
    stage.most_rss = MOST_RSS_UNDER_LOAD
    await _while(stage, plan, lambda: Mode(status=500, stores=False, words="dead"), UNDER_LOAD_S)


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
    "random order",
    "answers come in another order than requests, of which several are under way; every tenth is a 500",
    sizes=(60,) * 8,
)
async def random_order(stage: Stage, plan: Plan) -> str:
    stage.exporter["max_batch_size_bytes"] = 4_000  # so that the scrapes of a moment are several requests

    def mode() -> Mode:
        fails = plan.chance.random() < 0.1
        status = 500 if fails else 200
        return Mode(status=status, stores=not fails, delay_s=plan.chance.choice((0.0, 0.1, 0.5)))

    await _while(stage, plan, mode, UNDER_LOAD_S)
    endpoint = stage.endpoint
    stage.expect(endpoint.most_under_way >= 3, f"only {endpoint.most_under_way} requests were under way")
    stage.expect(endpoint.overtaken, "no answer came before an earlier one")
    return f"{endpoint.most_under_way} under way at most, {endpoint.overtaken:,} answers overtaken"


async def _others_are_stored_as_they_come(stage: Stage, plan: Plan, collector: Collector) -> None:
    """Some series are set aside, and those that are well do not wait for them."""
    await until(lambda: collector.value("trunkline_held_samples") > 0, "a series to be set aside")
    await until(lambda: stage.store.age_s() < 3.0, "the other series to be stored as they come")
    await asyncio.sleep(plan.for_s)
    age_s = stage.store.age_s()
    stage.expect(age_s < 5.0, f"the newest sample that is stored is {age_s:.0f} s old")


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
    await _others_are_stored_as_they_come(stage, plan, collector)
    await stage.end(collector)
    left = sum(1 for labels, _, _ in waiting_in(stage.data_dir) if is_new(read_labels(labels)))
    stage.expect(left, "no sample of the new series is kept")
    await stage.finish(await stage.start())
    stage.expect(not collector.refused(), f"something was refused: {dict(collector.refused())}")


@fault(
    "capacity that rises",
    "the same for three series, until the capacity rises while the collector runs",
)
async def capacity_rises(stage: Stage, plan: Plan) -> None:
    is_new = _some_of(stage)
    words = "per-user series limit of 10000000 exceeded, Capacity from 2,000,000 to 4,000,000 is adjusted"
    stage.endpoint.be(Mode(refuses=is_new, whole=False, words=words))
    collector = await stage.start()
    await _others_are_stored_as_they_come(stage, plan, collector)
    stage.endpoint.be(Mode())
    await until(
        lambda: not collector.value("trunkline_held_samples"),
        "what was set aside to be delivered",
        2 * REVISIT_S + 20,
    )
    stage.expect("that had been set aside" in collector.log, "the log does not tell")
    await stage.finish(collector)
    stage.expect(not collector.refused(), f"something was refused: {dict(collector.refused())}")


def _some_of(stage: Stage) -> Callable[[Mapping[str, str]], bool]:
    """Two series of one target and one of another."""
    first, *_, last = (target.address for target in stage.targets.all)
    chosen = {(last, "7"), (last, "8"), (first, "3")}
    return lambda labels: (labels.get("instance", ""), labels.get("index", "")) in chosen


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
    gone = stage.missing()
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
)
async def poisoned(stage: Stage, plan: Plan) -> None:
    address = stage.targets.all[-1].address

    def is_bad(labels: Mapping[str, str]) -> bool:
        return labels.get("instance") == address and labels.get("index") == "7"

    stage.endpoint.be(Mode(poison=is_bad))
    collector = await stage.start()
    await _others_are_stored_as_they_come(stage, plan, collector)
    stage.expect(f'index="7",instance="{address}"' in collector.log, "the series at fault is not named")
    await stage.end(collector)
    await stage.finish(await stage.start())


@fault(
    "500 for several series",
    "the same for three series of two targets, which is over while the collector runs",
)
async def poisoned_several(stage: Stage, plan: Plan) -> None:
    stage.endpoint.be(Mode(poison=_some_of(stage)))
    collector = await stage.start()
    await _others_are_stored_as_they_come(stage, plan, collector)
    described = len(re.findall(r"is set aside", collector.log))
    stage.expect(described == 3, f"{described} series were set aside")
    await stage.finish(collector)
    stage.expect(not collector.refused(), f"something was refused: {dict(collector.refused())}")


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


@fault(
    "targets fail, too",
    "targets answer 503 at random while the receiver closes connections, answers 500 and is gone in turn",
)
async def both(stage: Stage, plan: Plan) -> str:
    collector = await stage.start()
    await stage.scraped(3)
    for target in stage.targets.all:
        target.fails = lambda: plan.chance.random() < 0.3

    def mode() -> Mode:
        kinds = (
            Mode(),
            Mode(status=500, stores=plan.chance.random() < 0.5),
            Mode(stores=False, hang_up="instead"),
        )
        return plan.chance.choice(kinds)

    stage.endpoint.mode = mode
    end_s = time.monotonic() + plan.for_s
    while time.monotonic() < end_s:
        await stage.endpoint.close()
        await asyncio.sleep(plan.chance.uniform(0.1, 1))
        await stage.endpoint.open()
        await asyncio.sleep(plan.chance.uniform(0.1, 1))
    for target in stage.targets.all:
        target.fails = lambda: False
    await stage.finish(collector)
    failed = sum(len(target.asked) - len(target.served) for target in stage.targets.all)
    stage.expect(failed, "no scrape failed")
    return f"{failed} scrapes failed"


@fault("two exporters", "everything goes to two endpoints, of which one is gone; the other must not notice")
async def two_exporters(stage: Stage, plan: Plan) -> str:
    store = Store()
    second = Endpoint(store)
    stage.others["prometheusremotewrite/second"] = {"endpoint": second.write_url, **HASTY}
    collector = await stage.start()
    await stage.scraped(5)
    await until(stage.store.count, "the first samples to be stored")
    oldest_s = 0.0
    end_s = time.monotonic() + plan.for_s
    while time.monotonic() < end_s:
        await asyncio.sleep(0.2)
        oldest_s = max(oldest_s, stage.store.age_s())
    stage.expect(oldest_s < 4.0, f"the newest sample of the other was {oldest_s:.1f} s old")
    stage.expect(not store.series, "the dead endpoint has stored something")
    await second.open()
    try:
        await stage.finish(collector)
    finally:
        await second.close()
    gone = stage.missing(store=store)
    stage.expect(not len(gone), f"{len(gone)} samples never came to the second endpoint")
    for problem in disorder(stage.targets.all, store):
        stage.expect(False, problem)
    return f"its newest sample was at most {oldest_s:.1f} s old"


@fault("403 and 404", "403, then 404 to everything; nothing may be dropped meanwhile")
async def misdirected(stage: Stage, plan: Plan) -> None:
    collector = await stage.start()
    await stage.scraped(3)
    for status, words in ((403, "not authorized to perform: aps:RemoteWrite"), (404, "Workspace not found")):
        stage.endpoint.be(Mode(status=status, stores=False, words=words))
        await asyncio.sleep(plan.for_s / 2)
    await stage.finish(collector)
    stage.expect("answered 404" in collector.log, "the log does not say that the workspace was not found")
