"""Prometheus remote write 1.0: the protobuf message `prometheus.WriteRequest`, written and read by hand.

    WriteRequest {1: TimeSeries ...; 3: MetricMetadata ...}
    TimeSeries   {1: Label ...; 2: Sample ...; 3: Exemplar ...; 4: Histogram ...}
    Label        {1: name; 2: value}
    Sample       {1: double value; 2: int64 timestamp in ms}
    Exemplar     {1: Label ...; 2: double value; 3: int64 timestamp in ms}
    MetricMetadata {1: type; 2: metric_family_name; 4: help; 5: unit}

Values keep their 64 bits, those of a NaN too. Fields nobody knows are skipped, as protobuf has it; everything that
is not well-formed is a WireError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from trunkline.errors import WireError
from trunkline.model import Kind, Labels
from trunkline.wire import varint

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KINDS: Final = (
    Kind.UNKNOWN,
    Kind.COUNTER,
    Kind.GAUGE,
    Kind.HISTOGRAM,
    Kind.GAUGE_HISTOGRAM,
    Kind.SUMMARY,
    Kind.INFO,
    Kind.STATE_SET,
)
_DOUBLE: Final = struct.Struct("<d")
_Value: TypeAlias = int | bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """A float64 and milliseconds since the epoch."""

    value: float
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Exemplar:
    """An example of what was counted; its labels are not those of the series."""

    labels: Labels
    value: float
    timestamp_ms: int


@dataclass(slots=True)
class TimeSeries:
    """One series as sent: labels in their order, nothing checked but the form; histograms still encoded."""

    labels: Labels
    samples: list[Sample] = field(default_factory=list)
    exemplars: list[Exemplar] = field(default_factory=list)
    histograms: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FamilyMetadata:
    """What remote write says of a metric family."""

    family: str
    kind: Kind = Kind.UNKNOWN
    help: str = ""
    unit: str = ""


@dataclass(slots=True)
class WriteRequest:
    """One request as sent."""

    series: list[TimeSeries] = field(default_factory=list)
    metadata: list[FamilyMetadata] = field(default_factory=list)


def encode_labels(labels: Iterable[tuple[str, str]]) -> bytes:
    """The Label fields of one TimeSeries, one after the other; sort the labels first."""
    return b"".join(_bytes_field(1, _text_field(1, name) + _text_field(2, value)) for name, value in labels)


def decode_labels(labels: bytes) -> Labels:
    """What `encode_labels` made, as texts again. Raises WireError."""
    known: dict[bytes, tuple[str, str]] = {}
    return tuple(_decode_label(_as_bytes(value), known) for _, value in _fields(labels, {1: _BYTES}))


def encode_series(
    labels: bytes, samples: Iterable[tuple[float, int]], exemplars: Iterable[Exemplar] = ()
) -> bytes:
    """One `timeseries` field of a request: encoded labels, (value, timestamp in ms) pairs, exemplars."""
    parts = [labels]
    parts += [_bytes_field(2, _sample(1, value, timestamp_ms)) for value, timestamp_ms in samples]
    parts += [
        _bytes_field(3, encode_labels(one.labels) + _sample(2, one.value, one.timestamp_ms))
        for one in exemplars
    ]
    return _bytes_field(1, b"".join(parts))


def encode_metadata(metadata: FamilyMetadata) -> bytes:
    """One `metadata` field of a request."""
    kind = _KINDS.index(metadata.kind)
    parts = [b"\x08" + varint.encode(kind)] if kind else []
    texts = ((2, metadata.family), (4, metadata.help), (5, metadata.unit))
    parts += [_text_field(number, text) for number, text in texts if text]
    return _bytes_field(3, b"".join(parts))


def encode_write_request(series: Iterable[bytes] = (), metadata: Iterable[bytes] = ()) -> bytes:
    """A request of what `encode_series` and `encode_metadata` made, uncompressed."""
    return b"".join(series) + b"".join(metadata)


def split_labels(labels: bytes) -> list[bytes]:
    """The single Label fields of what `encode_labels` made. Raises WireError."""
    fields: list[bytes] = []
    position, size = 0, len(labels)
    while position < size:
        if labels[position] != 0x0A:
            raise WireError(f"byte {position} of the encoded labels does not begin a label")
        length = labels[position + 1] if position + 1 < size else 0x80
        end = position + 2 + length
        if length >= 0x80:
            length, start = varint.decode(labels, position + 1)
            end = start + length
        fields.append(labels[position:end])
        position = end
    if position != size:
        raise WireError("the encoded labels end within a label")
    return fields


def decode_write_request(raw: bytes) -> WriteRequest:
    """Read an uncompressed request. Raises WireError."""
    request = WriteRequest()
    known: dict[bytes, tuple[str, str]] = {}
    for number, value in _fields(raw, {1: _BYTES, 3: _BYTES}):
        if number == 1:
            request.series.append(_decode_series(_as_bytes(value), known))
        else:
            request.metadata.append(_decode_metadata(_as_bytes(value)))
    return request


def _decode_series(raw: bytes, known: dict[bytes, tuple[str, str]]) -> TimeSeries:
    labels, position = _leading_labels(raw, known)
    series = TimeSeries(())
    for number, value in _fields(raw, {1: _BYTES, 2: _BYTES, 3: _BYTES, 4: _BYTES}, position):
        raw_field = _as_bytes(value)
        if number == 1:
            labels.append(_decode_label(raw_field, known))
        elif number == 2:
            series.samples.append(Sample(*_decode_sample(raw_field, 1)))
        elif number == 3:
            series.exemplars.append(_decode_exemplar(raw_field, known))
        else:
            series.histograms.append(raw_field)
    series.labels = tuple(labels)
    return series


def _leading_labels(raw: bytes, known: dict[bytes, tuple[str, str]]) -> tuple[list[tuple[str, str]], int]:
    """The labels a series begins with, as far as each is shorter than 128 bytes, and where they end; for speed."""
    labels = []
    position, size = 0, len(raw)
    while position + 1 < size and raw[position] == 0x0A and raw[position + 1] < 0x80:
        end = position + 2 + raw[position + 1]
        if end > size:
            break
        one = raw[position + 2 : end]
        labels.append(known.get(one) or _decode_label(one, known))
        position = end
    return labels, position


def _decode_label(raw: bytes, known: dict[bytes, tuple[str, str]]) -> tuple[str, str]:
    """Most labels of a request are on most of its series: each is read once."""
    label = known.get(raw)
    if label is None:
        texts = {1: "", 2: ""}
        for number, value in _fields(raw, {1: _BYTES, 2: _BYTES}):
            texts[number] = _as_text(value)
        label = known[raw] = (texts[1], texts[2])
    return label


def _decode_sample(raw: bytes, first: int) -> tuple[float, int]:
    """A value (field `first`) and a timestamp (the field after it); what is not there is 0."""
    if first == 1 and len(raw) == 16 and raw[0] == 0x09 and raw[9] == 0x10:
        timestamp, end = varint.decode(raw, 10)
        if end == 16:
            return _DOUBLE.unpack_from(raw, 1)[0], varint.signed(timestamp)
    value, timestamp = b"\0" * 8, 0
    for number, found in _fields(raw, {first: _FIXED64, first + 1: _VARINT}):
        if number == first:
            value = _as_bytes(found)
        else:
            assert isinstance(found, int)
            timestamp = found
    return _DOUBLE.unpack(value)[0], varint.signed(timestamp)


def _decode_exemplar(raw: bytes, known: dict[bytes, tuple[str, str]]) -> Exemplar:
    fields = _fields(raw, {1: _BYTES, 2: _FIXED64, 3: _VARINT})
    labels = tuple(_decode_label(_as_bytes(value), known) for number, value in fields if number == 1)
    value, timestamp_ms = _decode_sample(raw, 2)
    return Exemplar(labels, value, timestamp_ms)


def _decode_metadata(raw: bytes) -> FamilyMetadata:
    kind = 0
    texts = {2: "", 4: "", 5: ""}
    for number, value in _fields(raw, {1: _VARINT, 2: _BYTES, 4: _BYTES, 5: _BYTES}):
        if isinstance(value, int):
            kind = value
        else:
            texts[number] = _as_text(value)
    return FamilyMetadata(texts[2], _KINDS[kind] if kind < len(_KINDS) else Kind.UNKNOWN, texts[4], texts[5])


def _fields(raw: bytes, known: dict[int, int], position: int = 0) -> Iterator[tuple[int, _Value]]:
    """The fields of a message, from `position` on, that are in `known`, which says their wire types."""
    end = len(raw)
    while position < end:
        tag = raw[position]
        if tag < 0x80:
            position += 1
        else:
            tag, position = varint.decode(raw, position)
        number, wire_type = tag >> 3, tag & 7
        if number == 0 or number >> 29:
            raise WireError(f"{number} is not a field number (before byte {position})")
        value, position = _read(raw, position, wire_type)
        expected = known.get(number)
        if expected is None:
            continue
        if expected != wire_type:
            raise WireError(f"field {number} has wire type {wire_type} instead of {expected}")
        yield number, value


def _read(raw: bytes, position: int, wire_type: int) -> tuple[_Value, int]:
    if wire_type == _VARINT:
        return varint.decode(raw, position)
    if wire_type == _BYTES:
        length = raw[position] if position < len(raw) else 0x80
        if length < 0x80:
            start = position + 1
        else:
            length, start = varint.decode(raw, position)
    elif wire_type in (_FIXED64, _FIXED32):
        length, start = (8 if wire_type == _FIXED64 else 4), position
    else:
        raise WireError(f"wire type {wire_type} at byte {position} is not known")
    if start + length > len(raw):
        raise WireError(f"the message ends within the field at byte {start}")
    return raw[start : start + length], start + length


def _as_bytes(value: _Value) -> bytes:
    assert isinstance(value, bytes)
    return value


def _as_text(value: _Value) -> str:
    try:
        return _as_bytes(value).decode()
    except UnicodeDecodeError:
        raise WireError("a text is not valid UTF-8") from None


def _bytes_field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | _BYTES,)) + varint.encode(len(data)) + data


def _text_field(number: int, text: str) -> bytes:
    return _bytes_field(number, text.encode())


def _sample(first: int, value: float, timestamp_ms: int) -> bytes:
    stamp = bytes(((first + 1) << 3,)) + varint.encode_signed(timestamp_ms)
    return bytes((first << 3 | _FIXED64,)) + _DOUBLE.pack(value) + stamp
