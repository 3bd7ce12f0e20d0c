"""Whether every sample arrived: each scrape served must have come whole, once, with its values and labels.

The decoder is the benchmark's own, so that no collector is judged by its own code. It has a short way for the usual
form (one sample at the end of a series) and walks the fields of everything else.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.load import Body, Target
from bench.receiver import Written
from bench.scenarios import IDENTITY

_STALE: Final = struct.pack("<Q", 0x7FF0000000000002)
_VARIANT: Final = b"bench_variant"
_NAME: Final = b"\x0a\x08__name__\x12"
_INSTANCE: Final = b"\x0a\x08instance\x12"
_SAMPLE_BYTES: Final = 18  # field 2, its length, a float64, a timestamp of six bytes


@dataclass(slots=True)
class Group:
    """The samples of one target with one timestamp: which series, and their values as float64s."""

    series: array[int] = field(default_factory=lambda: array("I"))
    values: bytearray = field(default_factory=bytearray)

    def is_whole(self, expected: int) -> bool:
        return len(self.series) == expected == len(set(self.series))


@dataclass(slots=True)
class _Known:
    """What is known of a series: its number, its target's groups by encoded timestamp; None leaves it out."""

    number: int
    groups: dict[bytes, Group] | None
    usual: bool


@dataclass
class Delivered:
    """What a collector delivered, by target address and encoded timestamp. `samples` are the load's per request."""

    groups: dict[str, dict[bytes, Group]]
    samples: list[int]
    variant_series: set[int]
    unlabelled: int = 0
    """Series of the load without all seven identity labels, or of no target."""
    stale: int = 0


@dataclass(frozen=True)
class Verdict:
    """Scrapes and samples that were served, and what of them arrived whole and right."""

    scrapes_served: int
    scrapes_delivered: int
    samples_served: int
    samples_delivered: int
    unlabelled_series: int


class Decoder:
    """Reads requests in the order of their arrival."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self.delivered = Delivered({address: {} for address in addresses}, [], set())
        self._known: dict[bytes, _Known] = {}
        self._identity = [_label(name, value) for name, value in IDENTITY.items()]

    def read(self, raw: bytes) -> None:
        """Sort the samples of one uncompressed request into their groups."""
        known, delivered = self._known, self.delivered
        position, end, count = 0, len(raw), 0
        while position < end:
            tag = raw[position]
            size = raw[position + 1]
            start = position + 2
            if size >= 0x80:
                size, start = _varint(raw, position + 1)
            position = start + size
            if tag != 0x0A:
                continue
            at = position - _SAMPLE_BYTES
            series = known.get(raw[start:at])
            if series is None:
                series = self._meet(raw[start:at], raw[at:position])
            if not series.usual:
                count += self._read_unusual(raw[start:position])
            elif series.groups is not None:
                value = raw[at + 3 : at + 11]
                group = series.groups.get(raw[at + 12 : position])
                if group is None or value == _STALE:
                    count += _put(series, value, raw[at + 12 : position], delivered)
                    continue
                group.series.append(series.number)
                group.values += value
                count += 1
        delivered.samples.append(count)

    def _meet(self, labels: bytes, sample: bytes) -> _Known:
        """Decide on a series seen for the first time; whether it is of the usual form is part of that."""
        usual = len(sample) == _SAMPLE_BYTES and sample[:3] == b"\x12\x10\x09" and sample[11] == 0x10
        if not usual or not _are_labels(labels):
            return _Known(0, None, usual=False)  # not remembered: the next of these bytes may be usual
        return self._series(labels)

    def _series(self, labels: bytes) -> _Known:
        series = self._known.get(labels)
        if series is None:
            name = _value(labels, _NAME)
            groups = self._groups(labels) if name.startswith(b"bench_") else None
            series = self._known[labels] = _Known(len(self._known), groups, usual=True)
            if name == _VARIANT:
                self.delivered.variant_series.add(series.number)
        return series

    def _groups(self, labels: bytes) -> dict[bytes, Group] | None:
        groups = self.delivered.groups.get(_value(labels, _INSTANCE).decode())
        if groups is None or not all(label in labels for label in self._identity):
            self.delivered.unlabelled += 1
        return groups

    def _read_unusual(self, message: bytes) -> int:
        fields = list(_fields(message))
        labels = b"".join(_framed(0x0A, content) for tag, content in fields if tag == 0x0A)
        series = self._series(labels)
        if series.groups is None:
            return 0
        samples = [dict(_fields(content)) for tag, content in fields if tag == 0x12]
        return sum(
            _put(series, sample.get(0x09, bytes(8)), sample.get(0x10, b"\0"), self.delivered)
            for sample in samples
        )


def _put(series: _Known, value: bytes, timestamp: bytes, delivered: Delivered) -> int:
    if value == _STALE:
        delivered.stale += 1
        return 0
    assert series.groups is not None
    group = series.groups.get(timestamp)
    if group is None:
        group = series.groups[timestamp] = Group()
    group.series.append(series.number)
    group.values += value
    return 1


def decode(written: Sequence[Written], addresses: Iterable[str]) -> Delivered:
    """Everything of the load that `written` holds."""
    decoder = Decoder(addresses)
    for request in written:
        decoder.read(request.raw())
    return decoder.delivered


def judge(delivered: Delivered, targets: Sequence[Target], since_s: float, until_s: float) -> Verdict:
    """Compare what was served from `since_s` to before `until_s` with what arrived.

    All scrapes since the first are put in line, since only their order tells them apart; those in the span count.
    """
    served = whole = 0
    for target in targets:
        arrived = _variants(delivered, target)
        found = matched([variant for _, variant in target.served], arrived)
        inside = [since_s <= at_s < until_s for at_s, _ in target.served]
        served += sum(inside)
        whole += sum(here and there for here, there in zip(inside, found, strict=True))
    series = _series_count(targets)
    return Verdict(served, whole, served * series, whole * series, delivered.unlabelled)


def matched(served: Sequence[int], arrived: Sequence[int]) -> list[bool]:
    """For each variant served, in order, whether it arrived."""
    position = 0
    found = []
    for variant in served:
        here = position < len(arrived) and arrived[position] == variant
        position += here
        found.append(here)
    return found


def _variants(delivered: Delivered, target: Target) -> list[int]:
    """The variants of the groups that came whole and right, by timestamp."""
    groups = delivered.groups[target.address]
    whole = ((_varint(stamp, 0)[0], group) for stamp, group in groups.items())
    ordered = (group for _, group in sorted(whole, key=lambda item: item[0]))
    variants = (_variant(group, target.bodies, delivered.variant_series) for group in ordered)
    return [variant for variant in variants if variant is not None]


def _variant(group: Group, bodies: Sequence[Body], markers: set[int]) -> int | None:
    """Which variant a group is; None when a sample is missing, doubled, or of another value."""
    if not group.is_whole(bodies[0].series):
        return None
    values = array("d", bytes(group.values))
    marker = next((i for i, number in enumerate(group.series) if number in markers), None)
    variant = -1 if marker is None else int(values[marker]) - 1
    right = 0 <= variant < len(bodies) and math.fsum(values) == bodies[variant].value_sum
    return variant if right else None


def _series_count(targets: Sequence[Target]) -> int:
    return targets[0].bodies[0].series


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message as tag byte and content; a varint's content is its bytes."""
    position = 0
    while position < len(message):
        tag = message[position]
        position += 1
        if tag & 7 == 2:
            size, position = _varint(message, position)
        elif tag & 7 == 1:
            size = 8
        else:
            size = _varint(message, position)[1] - position
        yield tag, message[position : position + size]
        position += size


def _are_labels(message: bytes) -> bool:
    """Whether there is nothing but labels (each shorter than 128 bytes, as all of the load's are)."""
    position, end = 0, len(message)
    while position < end and message[position] == 0x0A:
        position += 2 + message[position + 1]
    return position == end


def _value(labels: bytes, name: bytes) -> bytes:
    """The value (shorter than 128 bytes) of the label whose encoded name this is; empty if there is none."""
    at = labels.find(name)
    if at < 0:
        return b""
    start = at + len(name) + 1
    return labels[start : start + labels[start - 1]]


def _label(name: str, value: str) -> bytes:
    """A label as remote write has it."""
    return _framed(0x0A, _framed(0x0A, name.encode()) + _framed(0x12, value.encode()))


def _framed(tag: int, content: bytes) -> bytes:
    size = len(content)
    head = bytes((tag, size)) if size < 0x80 else bytes((tag, size & 0x7F | 0x80, size >> 7))
    return head + content
