"""Templates: what they send is what an ordinary encoder and compressor would."""

import struct
from array import array

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.errors import WireError
from trunkline.model import STALE, Labels, make_labels
from trunkline.wire.remote_write import (
    decode_write_request,
    encode_labels,
    encode_series,
    encode_write_request,
)
from trunkline.wire.template import Template, join

NOW = 1_760_000_000_123
IDENTITY = {
    "aws_ecs_cluster_name": "payments-production",
    "aws_ecs_service_name": "checkout",
    "aws_ecs_task_family": "checkout-web",
    "aws_ecs_task_id": "5f2c1b0a9d8e4c7bb6a5f4e3d2c1b0a9",
    "cloud_account_id": "222222222222",
    "cloud_region": "eu-west-1",
    "container_name": "app",
    "instance": "127.0.0.1:8000",
    "job": "checkout",
}
BUCKETS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf")


def node_series() -> list[Labels]:
    """200 series such as a node exporter and a web service have, with seven identity labels, job and instance."""
    modes = ("idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user")
    found = [
        ("node_cpu_seconds_total", {"cpu": str(cpu), "mode": mode}) for cpu in range(8) for mode in modes
    ]
    network = ("receive_bytes", "receive_packets", "receive_errs", "transmit_bytes", "transmit_packets")
    found += [
        (f"node_network_{what}_total", {"device": device}) for device in ("eth0", "lo") for what in network
    ]
    memory = (
        "MemTotal",
        "MemFree",
        "MemAvailable",
        "Buffers",
        "Cached",
        "Active",
        "Inactive",
        "Dirty",
        "Slab",
    )
    found += [(f"node_memory_{what}_bytes", {}) for what in memory]
    for device, mountpoint in (("/dev/nvme0n1p1", "/"), ("/dev/nvme1n1", "/data")):
        for what in ("avail_bytes", "size_bytes", "free_bytes", "files", "files_free", "readonly"):
            labels = {"device": device, "mountpoint": mountpoint, "fstype": "ext4"}
            found.append((f"node_filesystem_{what}", labels))
    for handler in ("/", "/api/v1/orders", "/health"):
        found += [("http_request_duration_seconds_bucket", {"handler": handler, "le": le}) for le in BUCKETS]
        found.append(("http_request_duration_seconds_sum", {"handler": handler}))
        found.append(("http_request_duration_seconds_count", {"handler": handler}))
    for code in ("200", "301", "400", "404", "500"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            for handler in ("/", "/api/v1/orders", "/health"):
                found.append(("http_requests_total", {"code": code, "method": method, "handler": handler}))
    assert len(found) >= 197
    return [make_labels({"__name__": name, **labels, **IDENTITY}) for name, labels in found[:200]]


def raw_request(series: list[Labels], values: list[float], stamps: list[int]) -> bytes:
    return encode_write_request(
        encode_series(encode_labels(labels), [(value, stamp)])
        for labels, value, stamp in zip(series, values, stamps, strict=True)
    )


def uncompressed(template: Template, fragment: bytes) -> bytes:
    block = join([(fragment, template.raw_bytes)])
    assert len(fragment) == template.compressed_bytes
    return bytes(cramjam.snappy.decompress_raw(block))


def test_golden_stream(template_type: type[Template]) -> None:
    labels = encode_labels((("a", "b"),))
    assert labels.hex() == "0a060a0161120162"
    template = template_type([labels, labels, labels])
    fragment = template.fill(array("d", [1.0, 2.0, 3.0]), [0, 1, 2], NOW)
    assert fragment.hex() == (
        # a literal of 30 bytes: the first series, its value, the timestamp, the length of the second
        "740a1a0a060a0161120162121009000000000000f03f10fb80b3c19c330a1a"
        "1d1c"  # 11 bytes from 28 back: labels and what stands before a value
        "1c0000000000000040"
        "4e1c00"  # 20 bytes from 28 back: timestamp, length, labels
        "1c0000000000000840"
        "0d1c"  # 7 bytes from 28 back: timestamp
    )
    assert uncompressed(template, fragment) == raw_request([(("a", "b"),)] * 3, [1.0, 2.0, 3.0], [NOW] * 3)


def test_an_empty_lane(template_type: type[Template]) -> None:
    template = template_type([])
    assert (len(template), template.raw_bytes, template.fill(array("d"), [], NOW)) == (0, 0, b"")
    assert template.fill_each(array("d"), [], array("q")) == b""
    assert join([]) == b"\x00"


def test_values_are_taken_by_slot(template_type: type[Template]) -> None:
    series: list[Labels] = [(("__name__", name),) for name in "abc"]
    template = template_type(map(encode_labels, series))
    values = array("d", [0.0, 10.0, 20.0, 30.0, 40.0])
    raw = uncompressed(template, template.fill(values, [4, 0, 2], NOW))
    assert raw == raw_request(series, [40.0, 0.0, 20.0], [NOW] * 3)
    with pytest.raises(ValueError, match=r"zip|the template has"):
        template.fill(values, [0, 1], NOW)
    with pytest.raises(ValueError, match=r"zip|the template has"):
        template.fill_each(values, [0, 1, 2, 3], array("q", [NOW] * 5))


def test_what_are_no_labels_is_refused(template_type: type[Template]) -> None:
    with pytest.raises(WireError):
        template_type([b"\x12\x00"])


def test_timestamps_of_every_width(template_type: type[Template]) -> None:
    series = node_series()[:50]
    template = template_type(map(encode_labels, series))
    values = [float(number) for number in range(50)]
    column = array("d", values)
    sizes = set()
    for stamp in (NOW, 0, 1, 300, 2**35 - 1, 2**35, 2**42, 2**63 - 1, -1, NOW + 1):
        raw = uncompressed(template, template.fill(column, range(50), stamp))
        assert raw == raw_request(series, values, [stamp] * 50)
        sizes.add(len(raw))
    assert len(sizes) == 7


def test_timestamps_for_each_sample(template_type: type[Template]) -> None:
    series = node_series()[:50]
    template = template_type(map(encode_labels, series))
    values = [float(number) for number in range(50)]
    column = array("d", values)
    stamps = [NOW + number for number in range(50)]
    raw = uncompressed(template, template.fill_each(column, range(50), array("q", stamps)))
    assert raw == raw_request(series, values, stamps)
    shared = uncompressed(template, template.fill(column, range(50), NOW))
    assert shared == raw_request(series, values, [NOW] * 50)
    for odd in (0, 5, -1, 2**62):
        stamps[7] = odd
        raw = uncompressed(template, template.fill_each(column, range(50), array("q", stamps)))
        assert [one.samples[0].timestamp_ms for one in decode_write_request(raw).series] == stamps


def test_no_copy_reaches_over_a_hole(template_type: type[Template]) -> None:
    """The second label of the second series is what follows `abcd` in the first, if its value were 0."""
    series: list[Labels] = [
        (("k", "abcd\n\x12\n\x01k\x12\rpp"),),
        (("a", "xabcd"), ("k", "pp\x12\x10\t" + "\0" * 8)),
    ]
    template = template_type(map(encode_labels, series))
    raw = uncompressed(template, template.fill(array("d", [1.1, 2.2]), range(2), NOW))
    assert raw == raw_request(series, [1.1, 2.2], [NOW] * 2)


def test_fragments_are_joined(template_type: type[Template]) -> None:
    series = node_series()
    lanes = [series[:70], series[70:71], series[71:]]
    templates = [template_type(map(encode_labels, lane)) for lane in lanes]
    column = array("d", range(200))
    fragments = [
        (template.fill(column, range(len(lane)), NOW), template.raw_bytes)
        for template, lane in zip(templates, lanes, strict=True)
    ]
    expected = b"".join(
        raw_request(lane, [float(number) for number in range(len(lane))], [NOW] * len(lane)) for lane in lanes
    )
    assert bytes(cramjam.snappy.decompress_raw(join(fragments))) == expected


def test_a_series_longer_than_a_copy_reaches(template_type: type[Template]) -> None:
    series: list[Labels] = [
        (
            ("__name__", name),
            ("x", "".join(chr(97 + number * 7 % 26) for number in range(size))),
            ("y", "z" * 66_000),
        )
        for name, size in (("a", 66_000), ("b", 10), ("c", 10), ("d", 1))
    ]
    template = template_type(map(encode_labels, series))
    values, stamps = [1.0, 2.0, 3.0, 4.0], [NOW + 77] * 4
    raw = uncompressed(template, template.fill(array("d", values), range(4), NOW + 77))
    assert raw == raw_request(series, values, stamps)
    raw = uncompressed(template, template.fill_each(array("d", values), range(4), array("q", stamps)))
    assert raw == raw_request(series, values, stamps)


def test_size_is_close_to_snappy_of_the_same_bytes(template_type: type[Template]) -> None:
    series = node_series()
    template = template_type(map(encode_labels, series))
    count = len(series)
    random = [(number * 0.61803398875 % 1) * 10 ** (number % 9) for number in range(count)]

    def ratio(values: list[float]) -> float:
        fragment = template.fill(array("d", values), range(count), NOW)
        reference = cramjam.snappy.compress_raw(raw_request(series, values, [NOW] * count))
        return len(join([(fragment, template.raw_bytes)])) / len(bytes(reference))

    assert ratio(random) <= 1.0
    # Snappy also saves the low zero bytes of integers, which a hole cannot.
    assert ratio([float(round(value)) for value in random]) <= 1.1


WORDS = st.sampled_from(
    ["a", "b", "job", "instance", "le", "x" * 70, "long_value_0001", "long_value_0002", "\n\x12\x10\t\0"]
)
TEXT = WORDS | st.text(max_size=6)
LABELS = st.dictionaries(TEXT, TEXT, max_size=6).map(lambda pairs: tuple(sorted(pairs.items())))
FLOATS = st.integers(0, 2**64 - 1).map(lambda number: struct.unpack("<d", struct.pack("<Q", number))[0])
VALUES = FLOATS | st.floats() | st.just(STALE)
STAMPS = st.integers(NOW - 10**6, NOW + 10**6) | st.integers(-(2**63), 2**63 - 1)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, VALUES), max_size=20), STAMPS)
def test_one_timestamp_arrives_as_sent(
    template_type: type[Template], lane: list[tuple[Labels, float]], stamp: int
) -> None:
    series, values = [labels for labels, _ in lane], [value for _, value in lane]
    template = template_type(map(encode_labels, series))
    raw = uncompressed(template, template.fill(array("d", values), range(len(lane)), stamp))
    assert raw == raw_request(series, values, [stamp] * len(lane))
    found = decode_write_request(raw).series
    assert [(one.labels, bits(one.samples[0].value), one.samples[0].timestamp_ms) for one in found] == [
        (labels, bits(value), stamp) for labels, value in lane
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, VALUES, STAMPS), max_size=20))
def test_a_timestamp_for_each_arrives_as_sent(
    template_type: type[Template], lane: list[tuple[Labels, float, int]]
) -> None:
    template = template_type(encode_labels(labels) for labels, _, _ in lane)
    values, stamps = array("d", [value for _, value, _ in lane]), array("q", [stamp for _, _, stamp in lane])
    found = decode_write_request(
        uncompressed(template, template.fill_each(values, range(len(lane)), stamps))
    ).series
    assert [(one.labels, bits(one.samples[0].value), one.samples[0].timestamp_ms) for one in found] == [
        (labels, bits(value), stamp) for labels, value, stamp in lane
    ]
