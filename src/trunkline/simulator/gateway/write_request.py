"""A decoder of remote write 1.0, written apart from the writer's encoder so that each checks the other.

Source: `prometheus.WriteRequest` of the Remote-Write 1.0 specification. It works on spans of the request: what
is not looked at is not copied, and what is kept is passed on byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from trunkline.errors import WireError

_TIMESERIES, _METADATA = 1, 3
_LABEL, _SAMPLE, _HISTOGRAM = 1, 2, 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

LabelPairs = list[tuple[str, str]]


class Sample(NamedTuple):
    """One sample or native histogram; `bits` are the value's, or stand for the histogram's content."""

    timestamp_ms: int
    bits: int
    span: tuple[int, int]
    schema: int | None = None


class Metadata(NamedTuple):
    """What a writer says of a metric family; `type` as in `/api/v1/metadata`."""

    name: str
    type: str
    help: str
    unit: str


@dataclass(slots=True)
class EncodedSeries:
    """One TimeSeries of a request: `span` with its tag and length, `labels` its label fields as written."""

    raw: bytes
    span: tuple[int, int]
    labels: bytes = b""
    samples: list[Sample] = field(default_factory=list)

    def with_samples(self, kept: list[Sample]) -> bytes:
        """The series encoded anew with `kept` of its samples, and nothing but them."""
        body = self.labels + b"".join(self.raw[sample.span[0] : sample.span[1]] for sample in kept)
        return b"\x0a" + encode_varint(len(body)) + body


def decode(raw: bytes) -> tuple[list[EncodedSeries], list[Metadata]]:
    """The series and metadata of a request, decompressed.

    Raises:
        WireError: not a WriteRequest.
    """
    series, metadata = [], []
    try:
        for number, wire, start, at, end, _ in _fields(raw, 0, len(raw)):
            if number == _TIMESERIES and wire == _BYTES:
                series.append(_series(raw, start, at, end))
            elif number == _METADATA and wire == _BYTES:
                metadata.append(_metadata(raw, at, end))
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise WireError(f"proto: cannot parse WriteRequest: {error}") from error
    return series, metadata


def decode_labels(labels: bytes) -> LabelPairs:
    """The pairs in the order they were written.

    Raises:
        WireError: not labels, or not UTF-8.
    """
    pairs = []
    try:
        for _, _, _, at, end, _ in _fields(labels, 0, len(labels)):
            texts = {
                number: labels[first:last].decode()
                for number, _, _, first, last, _ in _fields(labels, at, end)
            }
            pairs.append((texts.get(1, ""), texts.get(2, "")))
    except (IndexError, UnicodeDecodeError) as error:
        raise WireError(f"proto: cannot parse Label: {error}") from error
    return pairs


def encode_labels(pairs: LabelPairs) -> bytes:
    """The label fields of a TimeSeries in their shortest form, by which a series is known."""
    return b"".join(_length_delimited(1, _text(1, name) + _text(2, value)) for name, value in pairs)


def key_of(labels: bytes) -> int:
    """64 bits that stand for a series; `labels` in their shortest form."""
    return int.from_bytes(blake2b(labels, digest_size=8).digest(), "little")


def encode_varint(number: int) -> bytes:
    """`number`, not negative, as protobuf's variable-length integer."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _text(number: int, text: str) -> bytes:
    return _length_delimited(number, text.encode()) if text else b""


def _length_delimited(number: int, content: bytes) -> bytes:
    return encode_varint(number << 3 | _BYTES) + encode_varint(len(content)) + content


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    byte = raw[at]
    if byte < 0x80:
        return byte, at + 1
    number, shift = byte & 0x7F, 7
    while shift < 70:
        at += 1
        byte = raw[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at + 1
        shift += 7
    raise WireError("proto: integer overflow")


def _fields(raw: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(number, wire type, start with tag, start of content, end, value of a varint) of each field."""
    while at < end:
        start = at
        tag, at = _varint(raw, at)
        number, wire, value = tag >> 3, tag & 7, 0
        if wire == _BYTES:
            length, at = _varint(raw, at)
            stop = at + length
        elif wire == _VARINT:
            value, stop = _varint(raw, at)
        elif wire in {_FIXED64, _FIXED32}:
            stop = at + (8 if wire == _FIXED64 else 4)
        else:
            raise WireError(f"proto: illegal wireType {wire}")
        if number == 0 or stop > end:
            raise WireError("proto: unexpected EOF" if number else f"proto: illegal tag 0 (wire type {wire})")
        yield number, wire, start, at, stop, value
        at = stop


def _series(raw: bytes, start: int, at: int, end: int) -> EncodedSeries:
    series = EncodedSeries(raw, (start, end))
    labels: list[bytes] = []
    run: tuple[int, int] | None = None
    for number, wire, first, content, last, _ in _fields(raw, at, end):
        if number == _LABEL and wire == _BYTES:
            run = (run[0] if run else first, last)
            continue
        if run:
            labels.append(raw[run[0] : run[1]])
            run = None
        if number == _SAMPLE and wire == _BYTES:
            series.samples.append(_sample(raw, first, content, last))
        elif number == _HISTOGRAM and wire == _BYTES:
            series.samples.append(_histogram(raw, first, content, last))
    if run:
        labels.append(raw[run[0] : run[1]])
    series.labels = b"".join(labels)
    return series


def _sample(raw: bytes, start: int, at: int, end: int) -> Sample:
    bits = timestamp = 0
    for number, wire, _, content, _, value in _fields(raw, at, end):
        if number == 1 and wire == _FIXED64:
            (bits,) = struct.unpack_from("<Q", raw, content)
        elif number == 2 and wire == _VARINT:
            timestamp = value
    return Sample(_signed(timestamp), bits, (start, end))


def _histogram(raw: bytes, start: int, at: int, end: int) -> Sample:
    schema = timestamp = 0
    for number, wire, _, _, _, value in _fields(raw, at, end):
        if number == 4 and wire == _VARINT:
            schema = value >> 1 ^ -(value & 1)
        elif number == 15 and wire == _VARINT:
            timestamp = value
    return Sample(_signed(timestamp), key_of(raw[at:end]), (start, end), schema)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


_TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")


def _metadata(raw: bytes, at: int, end: int) -> Metadata:
    kind, texts = 0, {}
    for number, wire, _, content, last, value in _fields(raw, at, end):
        if number == 1 and wire == _VARINT:
            kind = value
        elif wire == _BYTES:
            texts[number] = raw[content:last].decode()
    return Metadata(
        texts.get(2, ""),
        _TYPES[kind] if kind < len(_TYPES) else _TYPES[0],
        texts.get(4, ""),
        texts.get(5, ""),
    )
