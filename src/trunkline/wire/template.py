"""Ready-compressed requests: a snappy stream per lane in which only values and timestamps are filled in.

A lane is a fixed list of series. Its samples as remote write has them are, for every series, one `timeseries` field:
length, labels, and one sample. Between two scrapes only values and timestamps change, so the rest is compressed
once, when the lane's series change, into a snappy element stream with holes: each value is part of a literal, and
the shared timestamp is one literal after the first value, which every other series copies. No element refers to a
hole or outside its own stream, so streams are joined under one length header by putting them one after the other.

The search for repetitions knows the data instead of hashing all of it. A label met before is copied whole, from the
place where the copy before it ended if it is there too, so that neighbouring copies merge; only labels never met
are searched, four bytes at a time, for parts they have in common with others.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.wire import snappy, varint
from trunkline.wire.remote_write import split_labels

_USUAL_WIDTH: Final = 6
"""Bytes of a timestamp in milliseconds from February 1971 to May 2109."""
_WORD: Final = 4
_PUT_DOUBLE: Final = struct.Struct("<d").pack_into


class Template:
    """The series of one lane, compressed once; fill it as often as there are samples.

    `labels` are the encoded labels of each series (`remote_write.encode_labels`); `slots` given later name their
    columns in the same order. Raises WireError if one is not a list of labels. The labels are not kept: what has to
    be compiled anew (timestamps of another width, per-sample timestamps) takes them from the stream.
    """

    __slots__ = ("_each", "_filled", "_shared")

    def __init__(self, labels: Iterable[bytes]) -> None:
        self._shared = _compile(labels, width=_USUAL_WIDTH, each=False)
        self._each: _Stream | None = None
        self._filled = self._shared

    def __len__(self) -> int:
        """How many series."""
        return len(self._shared.holes)

    @property
    def raw_bytes(self) -> int:
        """How many bytes the last fragment has uncompressed; before the first, one with a shared timestamp."""
        return self._filled.raw_bytes

    @property
    def compressed_bytes(self) -> int:
        """How many bytes the last fragment has; before the first, one with a shared timestamp."""
        return len(self._filled.data)

    def fill(self, values: array[float], slots: Sequence[int], timestamp_ms: int) -> bytes:
        """A fragment with one sample of every series, all at `timestamp_ms`.

        `values[slots[i]]` is the value of the template's series `i`. Raises ValueError if there are not as many.
        """
        stamp = varint.encode_signed(timestamp_ms)
        stream = self._shared
        if stream.width != len(stamp):
            stream = self._shared = _compile(stream.labels(), width=len(stamp), each=False)
        self._filled = stream
        out = bytearray(stream.data)
        if stream.holes:
            out[stream.stamp : stream.stamp + stream.width] = stamp
        for hole, slot in zip(stream.holes, slots, strict=True):
            _PUT_DOUBLE(out, hole, values[slot])
        return bytes(out)

    def fill_each(self, values: array[float], slots: Sequence[int], timestamps_ms: Sequence[int]) -> bytes:
        """The same with a timestamp for each sample: `timestamps_ms[slots[i]]`, milliseconds."""
        stamps = [varint.encode_signed(timestamps_ms[slot]) for slot in slots]
        width = max(map(len, stamps), default=_USUAL_WIDTH)
        stream = self._each
        if stream is None or stream.width < width:
            width = max(width, _USUAL_WIDTH)
            stream = self._each = _compile((stream or self._shared).labels(), width=width, each=True)
        self._filled = stream
        width = stream.width
        out = bytearray(stream.data)
        for hole, slot, stamp in zip(stream.holes, slots, stamps, strict=True):
            _PUT_DOUBLE(out, hole, values[slot])
            out[hole + 9 : hole + 9 + width] = stamp if len(stamp) == width else varint.pad(timestamps_ms[slot], width)
        return bytes(out)


def join(fragments: Iterable[tuple[bytes, int]]) -> bytes:
    """One snappy block of fragments and their uncompressed sizes: a write request, ready to be sent."""
    parts = list(fragments)
    return varint.encode(sum(raw_bytes for _, raw_bytes in parts)) + b"".join(data for data, _ in parts)


@dataclass(slots=True)
class _Stream:
    """A compiled lane: elements without length header, and where in them the holes are."""

    data: bytes
    raw_bytes: int
    holes: array[int]
    stamp: int
    """Where the shared timestamp is, if there is one."""
    width: int
    """How many bytes a timestamp takes."""

    def labels(self) -> list[bytes]:
        """The encoded labels of every series, in order."""
        raw = snappy.decompress(varint.encode(self.raw_bytes) + self.data, self.raw_bytes)
        labels, position = [], 0
        while position < len(raw):
            length, start = varint.decode(raw, position + 1)
            position = start + length
            labels.append(raw[start : position - self.width - 12])
        return labels


def _compile(labels: Iterable[bytes], *, width: int, each: bool) -> _Stream:
    lane = _Lane(width, each=each)
    for one in labels:
        lane.add_series(one)
    return lane.finish()


class _Lane:
    """Compresses the series of a lane, one after the other.

    `_raw` is what has been said so far, with zeros in the holes. Its end is either a literal not yet written
    (`_literal`), or a copy of `_copied` bytes from `_source` on, or neither.
    """

    def __init__(self, width: int, *, each: bool) -> None:
        self._width = width
        self._lead = 0 if each else 1 + width  # the timestamp before every series but the first
        self._hole = bytes(8) + b"\x10" + bytes(width) if each else bytes(8)
        self._sample_bytes = 10 + width
        self._tail = bytes((0x12, self._sample_bytes, 0x09))
        self._raw = bytearray()
        self._out = bytearray()
        self._literal = bytearray()
        self._pending: list[int] = []  # holes of the literal not yet written, where they are in `_raw`
        self._holes = array("I")
        self._stamp = -1
        self._source = self._copied = 0
        self._aligned = False  # whether the copy ends where a label or a tail begins at its source
        self._labels: dict[bytes, int] = {}
        self._words: dict[bytes, tuple[bytes, int]] = {}
        self._heads: dict[bytes, int] = {}
        self._stamps = 0
        self._last_stamp = 0

    def add_series(self, encoded: bytes) -> None:
        labels = split_labels(encoded)
        head = b"\x0a" + varint.encode(len(encoded) + 2 + self._sample_bytes)
        self._add_head(head, labels[0] if labels else b"")
        for label in labels:
            self._add_label(label)
        if not self._continue(self._tail):
            self._say(self._tail)
        if self._copied:
            self._flush()
        self._pending.append(len(self._raw))
        self._say(self._hole)

    def finish(self) -> _Stream:
        if self._lead and self._raw:
            self._add_stamp(b"")
        self._flush()
        return _Stream(bytes(self._out), len(self._raw), self._holes, self._stamp, self._width)

    def _add_head(self, head: bytes, first: bytes) -> None:
        """What stands before the labels: the timestamp of the series before, and the length."""
        start = len(self._raw)
        source = self._heads.get(head + first, self._heads.get(head, -1))
        if source < 0 or start - source > snappy.MAX_OFFSET or self._lead + len(head) < _WORD:
            if start and self._lead:
                self._add_stamp(head[:1])
                head = head[1:]
