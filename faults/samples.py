"""Reading remote write 1.0 and the exposition of counters; of its own, so that no collector is judged by its own code."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

STALE: Final = struct.pack("<Q", 0x7FF0000000000002)
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def read_request(raw: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Each sample of an uncompressed request: its series' encoded labels, its value's eight bytes, milliseconds."""
    for tag, message in fields(raw):
        if tag != 0x0A:
            continue
        parts = list(fields(message))
        labels = b"".join(bytes((0x0A, len(part))) + part for tag, part in parts if tag == 0x0A)
        for sample in (dict(fields(part)) for tag, part in parts if tag == 0x12):
            yield labels, sample.get(0x09, bytes(8)), _varint(sample.get(0x10, b"\0"), 0)[0]


def read_labels(encoded: bytes) -> dict[str, str]:
    """The labels that `read_request` gave, as texts."""
    pairs = (dict(fields(message)) for _, message in fields(encoded))
    return {pair[0x0A].decode(): pair.get(0x12, b"").decode() for pair in pairs}


def number(value: bytes) -> float:
    """A value's eight bytes as a number."""
    return float(struct.unpack("<d", value)[0])


def read_exposition(text: str) -> dict[tuple[str, str], float]:
    """By name and last label's value (the reason, where a counter has one; empty without labels), summed."""
    found: dict[tuple[str, str], float] = {}
    for name, labels, value in _SAMPLE.findall(text):
        last = _LABEL.findall(labels)[-1][1] if labels else ""
        found[name, last] = found.get((name, last), 0.0) + float(value)
    return found


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message as tag byte and content; a varint's content is its bytes."""
    position = 0
    while position < len(message):
        tag = message[position]
        position += 1
        if tag & 7 == 2:
            size = message[position]
            position += 1
            if size >= 0x80:
                size, position = _varint(message, position - 1)
        elif tag & 7 == 1:
            size = 8
        else:
            size = _varint(message, position)[1] - position
        yield tag, message[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
