"""The load shows what it says, and a receiving end can tell whether all of it came."""

from __future__ import annotations

import asyncio
import gzip
import math
import os
import struct
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace

import cramjam
import pytest
from bench.load import VARIANTS, Load, bodies
from bench.process import cpu_s, rss_bytes
from bench.receiver import Receiver, Written
from bench.scenarios import IDENTITY, SCENARIOS, Scenario, chosen
from bench.verification import Verdict, decode, judge, matched

from trunkline.wire.exposition import Exposed, ExpositionParser
from trunkline.wire.remote_write import encode_labels
from trunkline.wire.template import Template, join

SMALL = Scenario(name="test", title="a test", targets=2, series=200)
STALE_BITS = 0x7FF0000000000002


async def fetch(address: str, path: str = "/metrics") -> bytes:
    """The body of one answer."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
    body = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return body


def text_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def parsed(text: bytes) -> list[tuple[Exposed, float]]:
    found: list[Exposed] = []

    def decide(exposed: Exposed) -> int:
        found.append(exposed)
        return len(found) - 1

    columns = ExpositionParser(decide).parse(text, openmetrics=False)
    return list(zip(found, columns.values, strict=True))


@pytest.mark.parametrize(
    "scenario", [one for one in SCENARIOS if one.series <= 2000], ids=lambda one: one.name
)
def test_every_body_holds_what_it_says(scenario: Scenario) -> None:
    made = bodies(scenario)
    assert len(made) == VARIANTS
    for number, body in enumerate(made):
        text = text_of(body.at(7))
        series = parsed(gzip.decompress(text) if scenario.compressed else text)
        assert len(series) == body.series == scenario.series
        assert math.fsum(value for _, value in series) == body.value_sum
        assert {value for exposed, value in series if exposed.name == "bench_variant"} == {number + 1}


def test_one_series_in_a_hundred_is_replaced_at_each_scrape() -> None:
    (body, *_) = bodies(replace(SMALL, churn=True, series=2000))
    first, second = ({exposed for exposed, _ in parsed(text_of(body.at(n)))} for n in (1, 2))
    assert len(first - second) == len(second - first) == 20


def test_values_of_17_digits_are_no_others() -> None:
    lines = text_of(bodies(replace(SMALL, digits17=True))[0].answer).splitlines()
    counters = [line.split()[1] for line in lines if line.startswith(b"bench_http")]
    assert all(15 <= len(text.replace(b".", b"").strip(b"0")) <= 17 for text in counters)


async def test_targets_take_turns_with_their_variants() -> None:
    async with Load(SMALL) as load:
        served = [await fetch(load.targets[1].address) for _ in range(2)]
    assert [text_of(load.bodies[1].answer), text_of(load.bodies[2].answer)] == served
    assert [variant for _, variant in load.targets[1].served] == [1, 2]
    assert load.targets[0].served == []


async def post(url: str, body: bytes) -> bytes:
    host, _, port = url.split("/")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /write HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body[:5])
    await writer.drain()
    writer.write(body[5:])
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return answer


async def test_the_receiver_keeps_requests_as_they_came() -> None:
    body = bytes(cramjam.snappy.compress_raw(b"bench_variant"))
    async with Receiver() as receiver:
        assert (await post(receiver.url, bytes(cramjam.snappy.compress_raw(b"other")))).startswith(
            b"HTTP/1.1 204"
        )
        assert receiver.first_sample_s is None
        await post(receiver.url, body)
    assert receiver.written[1].body == body
    assert receiver.first_sample_s == receiver.written[1].arrived_s


def field(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes((tag,)) + (bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))) + content


def varint(number: int) -> bytes:
    out = b""
    while number >= 128:
        out += bytes((number & 127 | 128,))
        number >>= 7
    return out + bytes((number,))


def one_series(labels: dict[str, str], samples: Iterable[tuple[float, int]]) -> bytes:
    pairs = (
        field(0x0A, field(0x0A, n.encode()) + field(0x12, v.encode())) for n, v in sorted(labels.items())
    )
    points = (
        field(0x12, (b"" if value == 0 else b"\x09" + struct.pack("<d", value)) + b"\x10" + varint(stamp))
        for value, stamp in samples
    )
    return field(0x0A, b"".join(pairs) + b"".join(points))


class Wire:
    """What a faultless collector would send of scrapes, one second apart, for a test to spoil."""

    def __init__(self) -> None:
        self.load = Load(SMALL)
        self.messages: list[bytes] = []

    async def scrape(self, times: int) -> None:
        async with self.load as load:
            for at in range(times):
                for target in load.targets:
                    text = await fetch(target.address)
                    self.messages += [self.series(e, v, target.address, at) for e, v in parsed(text)]

    def series(self, exposed: Exposed, value: float, address: str, at: int, **others: str) -> bytes:
        labels = {**dict(exposed.labels), **IDENTITY, "__name__": exposed.name, "instance": address, **others}
        return one_series(labels, [(value, 1_700_000_000_000 + at * 1000)])

    def verdict(self) -> Verdict:
        raw = b"".join(self.messages)
        written = [Written(0.0, b"", bytes(cramjam.snappy.compress_raw(raw)))]
        targets = self.load.targets
        return judge(decode(written, [one.address for one in targets]), targets, 0.0, math.inf)


@pytest.fixture
async def wire() -> Wire:
    made = Wire()
    await made.scrape(4)
    return made


async def test_everything_that_came_is_seen_to_have_come(wire: Wire) -> None:
    wire.messages.append(one_series({"__name__": "up", "instance": "elsewhere"}, [(0.0, 5)]))
    wire.messages.append(field(0x1A, b"metadata"))
    assert wire.verdict() == Verdict(8, 8, 1600, 1600, 0)


async def test_a_lost_sample_costs_its_scrape(wire: Wire) -> None:
    del wire.messages[250]
    assert wire.verdict() == Verdict(8, 7, 1600, 1400, 0)


async def test_a_doubled_sample_costs_its_scrape(wire: Wire) -> None:
    wire.messages.append(wire.messages[10])
    assert wire.verdict().scrapes_delivered == 7


async def test_a_wrong_value_costs_its_scrape(wire: Wire) -> None:
    spoiled = bytearray(wire.messages[3])
    spoiled[-9] ^= 1
    wire.messages[3] = bytes(spoiled)
    assert wire.verdict().scrapes_delivered == 7


async def test_a_missing_label_is_counted(wire: Wire) -> None:
    exposed, value = parsed(text_of(wire.load.bodies[0].answer))[5]
    wire.messages.append(wire.series(exposed, value, wire.load.targets[0].address, 9, cloud_region="mars"))
    assert wire.verdict().unlabelled_series == 1


async def test_stale_markers_do_not_count(wire: Wire) -> None:
    stale = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
    exposed, _ = parsed(text_of(wire.load.bodies[0].answer))[5]
    wire.messages.append(wire.series(exposed, stale, wire.load.targets[0].address, 3))
    assert wire.verdict().scrapes_delivered == 8


async def test_several_samples_of_a_series_in_one_message_are_read_too(wire: Wire) -> None:
    address = wire.load.targets[0].address
    labels = {**IDENTITY, "__name__": "bench_x", "instance": address}
    body = one_series(labels, [(1.0, 5), (0.0, 6)]) + one_series(labels, [(2.0, 7)])
    found = decode([Written(0.0, b"", bytes(cramjam.snappy.compress_raw(body)))], [address])
    assert found.samples == [3]
    assert [struct.unpack("<d", group.values) for group in found.groups[address].values()] == [
        (1,),
        (0,),
        (2,),
    ]


async def test_our_own_requests_are_read() -> None:
    labels = tuple(sorted({**IDENTITY, "__name__": "bench_x", "instance": "here"}.items()))
    template = Template([encode_labels(labels)])
    fragment = template.fill(array("d", [4.5]), [0], 1_700_000_000_000)
    found = decode([Written(0.0, b"", join([(fragment, template.raw_bytes)]))], ["here"])
    (group,) = found.groups["here"].values()
    assert bytes(group.values) == struct.pack("<d", 4.5)
    assert found.unlabelled == 0


def test_what_arrived_is_put_in_line_with_what_was_served() -> None:
    def check(served: Sequence[int], arrived: Sequence[int], expected: str) -> None:
        assert "".join(".x"[here] for here in matched(served, arrived)) == expected

    check([0, 1, 2, 3], [0, 1, 2, 3], "xxxx")
    check([0, 1, 2, 3], [0, 2, 3], "x.xx")
    check([0, 1, 2, 3], [1, 2], ".xx.")
    check([0, 1, 2, 3], [], "....")


def test_a_quick_run_is_short() -> None:
    assert sum(one.window_s for one in chosen([], quick=True)) < 30
    assert [one.name for one in chosen(["tls"], quick=False)] == ["tls"]


def test_a_process_costs_what_it_uses() -> None:
    before = cpu_s(os.getpid())
    deadline = time.process_time() + 0.05
    while time.process_time() < deadline:
        pass
    assert 0.05 <= cpu_s(os.getpid()) - before < 1.0
    now, peak = rss_bytes(os.getpid())
    assert 5e6 < now <= peak
