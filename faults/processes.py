"""The collector's process, its disk and its files go wrong."""

from __future__ import annotations

import asyncio
import shutil
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

from faults.disk import Disk, compiler_on_linux
from faults.endpoint import Mode
from faults.fault import Plan, fault, root_on_linux
from faults.process import UNDER_LOAD_S, until
from faults.smalldisk import filled, small_disk
from faults.stage import EXPORTER, MOST_RSS_UNDER_LOAD, Stage, waiting_in

_HEAD: Final = struct.Struct("<4sII")
"""How a record of the queue begins: magic, checksum, bytes of the payload."""


@fault(
    "kill -9", "killed at random moments, with the same data directory; the endpoint is slow, gone or well"
)
async def killed(stage: Stage, plan: Plan) -> str:
    for _ in range(plan.times):
        await _be_somehow(stage, plan.chance)
        collector = await stage.start(ready=False)
        await asyncio.sleep(plan.chance.uniform(0.1, 1.6))
        await collector.kill()
        await stage.note_kill()
    await stage.finish(await stage.start())
    return f"{plan.times} times"


@fault(
    "kill -9 under load",
    "the same with scrapes of 6,000 samples, and an endpoint that takes 500 at a time",
    sizes=(6000,),
)
async def killed_under_load(stage: Stage, plan: Plan) -> str:
    times = max(2, plan.times // 5)
    for _ in range(times):
        stage.endpoint.be(Mode(max_samples=500, delay_s=plan.chance.choice((0.0, 0.02))))
        collector = await stage.start(ready=False)
        await asyncio.sleep(plan.chance.uniform(0.4, 1.8))
        await collector.kill()
        await stage.note_kill()
    await stage.finish(await stage.start(), UNDER_LOAD_S)
    return f"{times} times"


async def _be_somehow(stage: Stage, chance: Random) -> None:
    await stage.endpoint.open()
    kind = chance.randrange(4)
    if kind == 0:
        await stage.endpoint.close()
    elif kind == 1:
        stage.endpoint.mode = lambda: Mode(delay_s=chance.uniform(0, 0.3))
    elif kind == 2:
        stage.endpoint.be(Mode(status=503, stores=False))
    else:
        stage.endpoint.be(Mode())


@fault("SIGTERM while down", "stopped and started again several times while nothing listens")
async def restarted(stage: Stage, plan: Plan) -> str:
    times = min(plan.times, 3 + int(plan.for_s / 10))
    await stage.endpoint.close()
    for _ in range(times):
        collector = await stage.start("--shutdown-timeout", "0.5")
        await stage.scraped(3)
        await stage.end(collector)
        stage.expect("the rest stays in the queue" in collector.log, "nothing was left to the next collector")
    await stage.finish(await stage.start())
    return f"{times} times"


@fault("SIGHUP", "the configuration is read anew again and again; the port closes and opens meanwhile")
async def reloaded(stage: Stage, plan: Plan) -> str:
    times = max(4, plan.times // 5)
    collector = await stage.start()
    for number in range(times):
        await asyncio.sleep(plan.chance.uniform(0.2, 0.8))
        await (stage.endpoint.open() if number % 4 else stage.endpoint.close())
        before = [len(target.served) for target in stage.targets.all]
        collector.signal(signal.SIGHUP)
        await until(
            lambda number=number: collector.log.count("running: ") == number + 2,
            "the configuration to be read",
        )
        for target, served in zip(stage.targets.all, before, strict=True):
            stage.interrupted |= {(target.address, one) for one in range(served, len(target.served) + 1)}
    await stage.finish(collector)
    return f"{times} times"


@fault("SIGSTOP", "suspended for several seconds with a request under way, its connections closed meanwhile")
async def suspended(stage: Stage, plan: Plan) -> str:
    stage.endpoint.mode = lambda: Mode(delay_s=0.2)
    collector = await stage.start()
    times = 1 + int(plan.for_s / 10)
    for number in range(times):
        await stage.scraped(4)
        began_s = time.time()
        collector.signal(signal.SIGSTOP)
        await asyncio.sleep(min(3.0, plan.for_s))
        if number % 2 == 0:
            await stage.endpoint.close()
            await stage.endpoint.open()
        collector.signal(signal.SIGCONT)
        stage.silences.append((began_s, time.time() + 2 * stage.interval_s))
    await stage.finish(collector)
    return f"{times} times"


@fault(
    "full disk",
    "nothing listens until a file system of 512 KiB and the memory that takes over are full, at 20,000 samples/s; then "
    "there is room again",
    sizes=(3000, 1000),
    needs=root_on_linux,
)
async def full_disk(stage: Stage, plan: Plan) -> None:
    del plan
    stage.most_rss = MOST_RSS_UNDER_LOAD
    with small_disk(stage.data_dir, "512k"):
        await stage.endpoint.close()
        collector = await stage.start()
        await until(lambda: collector.refused().total() > 0, "disk and memory to be full", UNDER_LOAD_S)
        await stage.scraped(2)
        reasons = set(collector.refused())
        stage.expect(reasons == {"disk_full"}, f"the reasons are {reasons}")
        await stage.finish(collector, UNDER_LOAD_S)
        await _ended(stage)


@fault(
    "somebody fills the disk",
    "another process takes the last byte of the queue's file system and gives it back later",
    needs=root_on_linux,
)
async def disk_filled(stage: Stage, plan: Plan) -> None:
    with small_disk(stage.data_dir, "6m"):
        await stage.endpoint.close()
        collector = await stage.start()
        await stage.scraped(4)
        with filled(stage.data_dir):
            await asyncio.sleep(plan.for_s)
        await stage.scraped(3)
        await stage.finish(collector)
        await _ended(stage)


@fault(
    "disk errors",
    "while nothing listens, each write to the queue fails (EIO) for a while",
    needs=compiler_on_linux,
)
async def disk_errors(stage: Stage, plan: Plan) -> None:
    disk = Disk(stage.folder)
    stage.environment = disk.environment
    await stage.endpoint.close()
    collector = await stage.start()
    await stage.scraped(4)
    disk.be("fail-writes")
    await asyncio.sleep(plan.for_s)
    stage.expect("cannot be written" in collector.log, "nothing was said of the disk")
    disk.be()
    await collector.said("the disk takes the queue .* again")
    await stage.finish(collector)
    stage.expect(not collector.refused(), f"something was refused: {dict(collector.refused())}")


@fault(
    "disk that cannot be read",
    "what an earlier process left cannot be read (EIO) for three seconds, while it is taken up",
    needs=compiler_on_linux,
)
async def not_read(stage: Stage, plan: Plan) -> None:
    disk = Disk(stage.folder)
    stage.environment = disk.environment
    await stage.endpoint.close()
    await stage.start()
    await stage.scraped(8)
    await stage.end_collectors()
    await stage.note_kill()
    disk.be("fail-reads")
    await stage.endpoint.open()
    starting = asyncio.ensure_future(stage.start())
    await asyncio.sleep(min(plan.for_s, 3.0))
    disk.be()
    await stage.finish(await starting)


@fault(
    "slow disk",
    "each write to the queue takes 2 ms and each flush 40, with `fsync: true`; the endpoint is gone for a while",
    needs=compiler_on_linux,
)
async def slow_disk(stage: Stage, plan: Plan) -> None:
    disk = Disk(stage.folder)
    disk.be("slow")
    stage.environment = disk.environment
    stage.exporter["queue"] = {"fsync": True}
    collector = await stage.start()
    await stage.scraped(3)
    await stage.endpoint.close()
    await asyncio.sleep(plan.for_s)
    await stage.finish(collector)


@fault(
    "power goes off",
    "with `fsync: true`: killed at random moments, and of the queue only what was flushed is left",
    needs=compiler_on_linux,
)
async def power_off(stage: Stage, plan: Plan) -> str:
    stage.exporter["queue"] = {"fsync": True}
    disk = Disk(stage.folder)
    stage.environment = disk.environment
    times, lost = max(3, plan.times // 5), 0
    for _ in range(times):
        await _be_somehow(stage, plan.chance)
        collector = await stage.start(ready=False)
        await asyncio.sleep(plan.chance.uniform(0.4, 1.8))
        await collector.kill()
        lost += disk.lose_power(stage.data_dir)
        await stage.note_kill()
    await stage.finish(await stage.start())
    return f"{times} times, {lost} bytes had not been flushed"


async def _ended(stage: Stage) -> None:
    """Nobody may look into a file system that is about to go."""
    await asyncio.gather(*(collector.ended() for collector in stage.collectors))


@fault(
    "folder not writable", "a file is where the data directory should be; the endpoint is gone for a while"
)
async def unwritable(stage: Stage, plan: Plan) -> None:
    stage.data_dir.write_text("in the way")
    await stage.endpoint.close()
    collector = await stage.start()
    await asyncio.sleep(plan.for_s / 2)
    await stage.finish(collector)
    stage.expect("samples wait in memory and a restart loses them" in collector.log, "there was no warning")


@fault("two on one folder", "a second collector is started on the folder of the first, and refused")
async def two(stage: Stage, plan: Plan) -> None:
    del plan
    first = await stage.start()
    second = await stage.start(ready=False)
    code = await second.ended()
    stage.expect(code == 1, f"the second ended with {code}")
    stage.expect("is used by another collector" in second.log, "it did not say why")
    await stage.finish(first)


@fault("handed over", "a second collector is started while the first is being stopped, and takes over")
async def handed_over(stage: Stage, plan: Plan) -> str:
    times = min(plan.times, 4)
    await stage.endpoint.close()
    collector = await stage.start("--shutdown-timeout", "1")
    for _ in range(times):
        await stage.scraped(3)
        successor = await stage.start("--shutdown-timeout", "1", ready=False)
        await stage.end(collector)
        await successor.ready()
        collector = successor
    await stage.finish(collector)
    return f"{times} times"


@fault(
    "damaged queue", "bytes of the queue's file overwritten, cut off and put in between runs, at many offsets"
)
async def damaged(stage: Stage, plan: Plan) -> str:
    await stage.endpoint.close()
    collector = await stage.start()
    await stage.scraped(12)
    await collector.kill()
    await stage.note_kill()
    pristine = stage.folder / "pristine"
    stage.data_dir.rename(pristine)
    await stage.endpoint.open()
    stage.write_config(targets=False)
    touched = lost = 0
    for number in range(plan.times):
        damages, samples = await _damage_and_deliver(
            stage, pristine, DAMAGES[number % len(DAMAGES)], plan.chance
        )
        touched, lost = touched + damages, lost + samples
    shutil.copytree(pristine, stage.data_dir)  # and once whole, so that all is stored that was kept
    stage.store.series.clear()
    last = await stage.start()
    await stage.finish(last)
    last.ready_s = 0.0  # it had nothing to scrape
    return (
        f"{touched} damages in {plan.times} runs, {lost} samples in the records hit set aside and all others delivered; "
        "the row is of one more run without damage"
    )


Damage = Callable[[bytearray, int, Random], tuple[int, int]]
"""Damages data at an offset; returns which of the original bytes are no longer there, from and to."""


def _flip(data: bytearray, at: int, chance: Random) -> tuple[int, int]:
    data[at] ^= 1 << chance.randrange(8)
    return at, at + 1


def _zero(data: bytearray, at: int, chance: Random) -> tuple[int, int]:
    stop = min(at + chance.randrange(1, 4096), len(data))
    data[at:stop] = bytes(stop - at)
    return at, stop


def _scribble(data: bytearray, at: int, chance: Random) -> tuple[int, int]:
    stop = min(at + chance.randrange(1, 64), len(data))
    data[at:stop] = chance.randbytes(stop - at)
    return at, stop


DAMAGES: Final[tuple[Damage, ...]] = (_flip, _zero, _scribble)


async def _damage_and_deliver(
    stage: Stage, pristine: Path, damage: Damage, chance: Random
) -> tuple[int, int]:
    """One run on a damaged copy; exactly the samples of records that the damage touches may be missing.

    Returns how many damages there were, and the samples they cost.
    """
    shutil.copytree(pristine, stage.data_dir)
    [path] = [path for path in stage.data_dir.glob("queue/*/*.seg") if path.stat().st_size]
    whole = path.read_bytes()
    data = bytearray(whole)
    touched = [damage(data, chance.randrange(len(data)), chance) for _ in range(chance.randrange(1, 5))]
    if chance.random() < 0.25:
        cut = chance.randrange(len(data))
        touched.append((cut, len(data)))
        del data[cut:]
    path.write_bytes(data)
    hit = [(begin, end) for begin, end in _records(whole) if data[begin:end] != whole[begin:end]]
    stage.store.series.clear()
    collector = await stage.start()
    await collector.looked()
    await collector.settled()
    await stage.end(collector)
    collector.ready_s = 0.0  # it had nothing to scrape
    path.write_bytes(_without(whole, hit))
    for cursor in path.parent.glob("cursor*"):
        cursor.unlink()
    expected = {(labels, stamp): value for labels, value, stamp in waiting_in(stage.data_dir)}
    stored = {
        (labels, stamp): value
        for labels, one in stage.store.series.items()
        for stamp, value in one.samples.items()
    }
    stage.expect(
        stored == expected,
        f"of {len(expected)} samples that can be read {len(stored)} were stored, {touched}",
    )
    aside = sum(item.stat().st_size for item in path.parent.glob("damaged/*"))
    lost = len(data) - sum(end - begin for begin, end in _records(whole) if (begin, end) not in hit)
    stage.expect(aside == lost, f"{lost} bytes cannot be read, {aside} were set aside, {touched}")
    stage.expect(
        not hit or not lost or "cannot be read" in collector.log, "the log does not tell of the damage"
    )
    path.write_bytes(whole)
    samples = len(waiting_in(stage.data_dir)) - len(expected)
    shutil.rmtree(stage.data_dir)
    return len(touched), samples


def _records(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each record of an undamaged file begins and ends."""
    position = 0
    while position < len(data):
        _, _, size = _HEAD.unpack_from(data, position)
        yield position, position + _HEAD.size + size
        position += _HEAD.size + size


def _without(data: bytes, hit: list[tuple[int, int]]) -> bytes:
    return b"".join(data[begin:end] for begin, end in _records(data) if (begin, end) not in hit)


@fault("damaged cursor", "one of the two files that say how far delivery has got is overwritten between runs")
async def damaged_cursor(stage: Stage, plan: Plan) -> None:
    await _overwrite_cursors(stage, plan, 1)


@fault(
    "damaged cursors",
    "both files that say how far delivery has got are overwritten between runs",
    known="what had been delivered is sent again, and counted as refused though it is stored",
)
async def damaged_cursors(stage: Stage, plan: Plan) -> None:
    await _overwrite_cursors(stage, plan, 2)


async def _overwrite_cursors(stage: Stage, plan: Plan, count: int) -> None:
    collector = await stage.start()
    await stage.scraped(6)
    await collector.settled()
    await stage.endpoint.close()
    await stage.scraped(6)
    await collector.kill()
    await stage.note_kill()
    cursors = list(stage.data_dir.glob("queue/*/cursor*"))
    for cursor in plan.chance.sample(cursors, count):
        cursor.write_bytes(plan.chance.randbytes(cursor.stat().st_size))
    stage.expect(len(stage.missing()), "nothing was left in the queue")
    await stage.endpoint.open()
    await stage.finish(await stage.start())


@fault("exporter renamed", "an exporter that could not deliver gets another name; its backlog is taken over")
async def renamed(stage: Stage, plan: Plan) -> None:
    await stage.endpoint.close()
    for name in (f"{EXPORTER}/one", f"{EXPORTER}/two", EXPORTER):
        stage.exporter_name = name
        stage.write_config()
        collector = await stage.start("--shutdown-timeout", "0.5")
        await asyncio.sleep(min(plan.for_s, 3.0) / 2)
        await stage.scraped(4)
        if name != EXPORTER:
            await stage.end(collector)
    stage.expect("are delivered first" in collector.log, "the log does not tell of the backlog")
    await stage.finish(collector)
