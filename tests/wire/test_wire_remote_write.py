"""Remote write messages, against bytes made by hand from the protobuf specification."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import WireError
from trunkline.model import STALE, Kind
from trunkline.wire.remote_write import (
    Exemplar,
    FamilyMetadata,
    Sample,
    decode_write_request,
    encode_labels,
    encode_metadata,
    encode_series,
    encode_write_request,
    split_labels,
)

UP = (("__name__", "up"), ("job", "ä"))
UP_BYTES = "0a0e0a085f5f6e616d655f5f120275700a090a036a6f621202c3a4"


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_golden_request() -> None:
    labels = encode_labels(UP)
    assert labels.hex() == UP_BYTES
    series = encode_series(labels, [(1.0, 1_760_000_000_123), (2.0, -1)])
    assert series.hex() == (
        "0a43" + UP_BYTES + "121009000000000000f03f10fb80b3c19c33121409000000000000004010ffffffffffffffffff01"
    )
    metadata = encode_metadata(FamilyMetadata("up", Kind.GAUGE, "Is it.", "s"))
    assert metadata.hex() == "1a11080212027570220649732069742e2a0173"
    request = decode_write_request(encode_write_request([series], [metadata]))
    assert [one.labels for one in request.series] == [UP]
    assert request.series[0].samples == [Sample(1.0, 1_760_000_000_123), Sample(2.0, -1)]
    assert request.metadata == [FamilyMetadata("up", Kind.GAUGE, "Is it.", "s")]


def test_exemplars() -> None:
    exemplar = Exemplar((("trace_id", "x"),), 0.5, 7)
    series = encode_series(encode_labels(UP), [(1.0, 1)], [exemplar])
    assert series.hex().endswith("1a1a0a0d0a0874726163655f696412017811000000000000e03f1807")
    assert decode_write_request(series).series[0].exemplars == [exemplar]


def test_metadata_kinds_are_numbered_as_the_message_has_them() -> None:
    kinds = ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"]
    for number, name in enumerate(kinds):
        encoded = encode_metadata(FamilyMetadata("x", Kind(name)))
        assert encoded.hex() == (f"1a0508{number:02x}" if number else "1a03") + "120178"
        assert decode_write_request(encoded).metadata[0].kind is Kind(name)
    assert decode_write_request(bytes.fromhex("1a050863120178")).metadata[0].kind is Kind.UNKNOWN


def test_what_is_left_out_is_zero() -> None:
    request = decode_write_request(bytes.fromhex("0a0212000a040a020a000a00"))
    assert request.series[0].samples == [Sample(0.0, 0)]
    assert request.series[1].labels == (("", ""),)
    assert request.series[2].labels == ()


def test_unknown_fields_are_skipped_and_histograms_kept_as_they_are() -> None:
    unknown = "c03e01c13e0102030405060708c23e0161c53e01020304"  # field 1000 of every wire type
    request = decode_write_request(bytes.fromhex("0a32" + unknown + "2202abcd" + unknown))
    assert request.series[0].histograms == [b"\xab\xcd"]
    assert request.metadata == []


def test_fields_in_another_order() -> None:
    raw = bytes.fromhex("0a131209100509000000000000f03f"[:12] + "0a0a")
    with pytest.raises(WireError):
        decode_write_request(raw)
    raw = bytes.fromhex("0a13120b100509000000000000f03f0a0412027570")
    request = decode_write_request(raw)
    assert (request.series[0].samples, request.series[0].labels) == ([Sample(1.0, 5)], (("", "up"),))


def test_messages_that_are_none() -> None:
    def check(raw: str, message: str) -> None:
        with pytest.raises(WireError, match=message):
            decode_write_request(bytes.fromhex(raw))

    check("0a", "ends within a number")
    check("0a05", "ends within the field")
    check("0a020a05", "ends within the field")
    check("08", "ends within a number")
    check("0801", "field 1 has wire type 0 instead of 2")
    check("0a021001", "field 2 has wire type 0 instead of 2")
    check("0200", "0 is not a field number")
    check("0b00", "wire type 3 at byte 1 is not known")
    check("0a050a030a01ff", "not valid UTF-8")
    check("0a0b12090900000000000000", "ends within the field")
    check("0a0d120b10ffffffffffffffffff02", "does not fit 64 bits")


def test_split_labels() -> None:
    labels = encode_labels([*UP, ("long", "x" * 300), ("", "")])
    fields = split_labels(labels)
    assert b"".join(fields) == labels
    assert len(fields) == 4
    assert split_labels(b"") == []
    for wrong in (b"\x12\x00", b"\x0a", b"\x0a\x05abc", b"\x0a\x80"):
        with pytest.raises(WireError):
            split_labels(wrong)


TEXT = st.text(max_size=20)
LABELS = st.lists(st.tuples(TEXT, TEXT), max_size=5).map(tuple)
FLOATS = st.integers(0, 2**64 - 1).map(lambda number: struct.unpack("<d", struct.pack("<Q", number))[0])
STAMPS = st.integers(-(2**63), 2**63 - 1)


@given(
    st.lists(st.tuples(LABELS, st.lists(st.tuples(FLOATS | st.just(STALE), STAMPS), max_size=3)), max_size=4)
)
def test_round_trip_keeps_every_bit(
    series: list[tuple[tuple[tuple[str, str], ...], list[tuple[float, int]]]],
) -> None:
    raw = encode_write_request(encode_series(encode_labels(labels), samples) for labels, samples in series)
    found = decode_write_request(raw).series
    assert [one.labels for one in found] == [labels for labels, _ in series]
    assert [[(bits(one.value), one.timestamp_ms) for one in each.samples] for each in found] == [
        [(bits(value), stamp) for value, stamp in samples] for _, samples in series
    ]


@given(st.builds(FamilyMetadata, TEXT, st.sampled_from(Kind), TEXT, TEXT))
def test_metadata_round_trip(metadata: FamilyMetadata) -> None:
    assert decode_write_request(encode_metadata(metadata)).metadata == [metadata]


@given(st.binary(max_size=60), st.integers(0, 40), st.integers(0, 255))
def test_any_bytes_decode_or_raise_only_wire_errors(raw: bytes, place: int, byte: int) -> None:
    valid = bytearray(encode_series(encode_labels(UP), [(1.0, 1_760_000_000_123)]))
    valid[place] = byte
    for message in (raw, bytes(valid)):
        try:
            decode_write_request(message)
        except WireError:
            continue
