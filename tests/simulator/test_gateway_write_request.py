"""The decoder against a third encoder, and against damage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulator.gateway_stand_in import block, metadata, named, series, varint

from trunkline.errors import WireError
from trunkline.model import Kind
from trunkline.simulator.gateway.write_request import (
    Metadata,
    decode,
    decode_labels,
    encode_labels,
    encode_varint,
    key_of,
)
from trunkline.wire import remote_write

PAIRS = st.lists(st.tuples(st.text(max_size=5), st.text(max_size=20)), max_size=6)
SAMPLES = st.lists(st.tuples(st.floats(), st.integers(-(1 << 63), (1 << 63) - 1)), max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(PAIRS, SAMPLES), max_size=4))
def test_round_trip(content: list[tuple[list[tuple[str, str]], list[tuple[float, int]]]]) -> None:
    raw = b"".join(series(labels, samples) for labels, samples in content)
    found, _ = decode(raw)
    assert [decode_labels(item.labels) for item in found] == [labels for labels, _ in content]
    for item, (_, samples) in zip(found, content, strict=True):
        expected = [(stamp, struct.unpack("<Q", struct.pack("<d", value))[0]) for value, stamp in samples]
        assert [(sample.timestamp_ms, sample.bits) for sample in item.samples] == expected
        assert item.with_samples(item.samples) == item.raw[item.span[0] : item.span[1]]


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_damage_is_told_or_harmless(noise: bytes, at: int, byte: int) -> None:
    good = series(named("a", x="1"), [(1.0, 5)]) + metadata("a", 1, "Text.")
    damaged = bytearray(good)
    damaged[at % len(good)] = byte
    for raw in (noise, bytes(damaged), good + noise):
        try:
            for item in decode(raw)[0]:
                decode_labels(item.labels)
        except WireError:
            pass


@settings(deadline=None, max_examples=60)
@given(PAIRS, SAMPLES)
def test_reads_what_the_writer_writes(
    labels: list[tuple[str, str]], samples: list[tuple[float, int]]
) -> None:
    described = remote_write.FamilyMetadata("a", Kind.COUNTER, "Counts.", "seconds")
    raw = remote_write.encode_write_request(
        [remote_write.encode_series(remote_write.encode_labels(labels), samples)],
        [remote_write.encode_metadata(described)],
    )
    found, known = decode(raw)
    assert decode_labels(found[0].labels) == labels
    if all(name and value for name, value in labels):
        assert encode_labels(labels) == remote_write.encode_labels(labels)
    assert [sample.timestamp_ms for sample in found[0].samples] == [stamp for _, stamp in samples]
    assert known == [Metadata("a", "counter", "Counts.", "seconds")]


def test_defaults_are_left_out() -> None:
    found, _ = decode(block(1, block(1, block(1, b"__name__") + block(2, b"a")) + block(2, b"")))
    assert [(sample.timestamp_ms, sample.bits) for sample in found[0].samples] == [(0, 0)]


def test_labels_after_samples_belong_to_the_series() -> None:
    body = (
        block(1, block(1, b"a") + block(2, b"1")) + block(2, b"") + block(1, block(1, b"b") + block(2, b"2"))
    )
    found, _ = decode(block(1, body))
    assert decode_labels(found[0].labels) == [("a", "1"), ("b", "2")]


def test_unknown_fields_are_skipped() -> None:
    extra = b"\x78\x05" + b"\x71" + bytes(8) + b"\x75" + bytes(4) + block(17, b"later")
    found, known = decode(extra + series(named("a"), [(1.0, 1)]) + metadata("a", 7, "States."))
    assert len(found) == 1
    assert known == [Metadata("a", "stateset", "States.", "")]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, (1 << 64) - 1))
def test_varints(number: int) -> None:
    assert encode_varint(number) == varint(number)


def test_keys_tell_series_apart() -> None:
    keys = {key_of(encode_labels([("a", str(number))])) for number in range(1000)}
    assert len(keys) == 1000
    assert all(key < 1 << 64 for key in keys)


@pytest.mark.parametrize("raw", [b"\x0a", b"\x0a\x02\x0a", b"\xff" * 11, b"\x00\x00", b"\x0c", b"\x0a\x7f"])
def test_what_cannot_be_parsed(raw: bytes) -> None:
    with pytest.raises(WireError, match="proto: "):
        decode(raw)
