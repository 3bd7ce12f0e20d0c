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

    __slots__ = ("_each", "_filled", "_shared", "span_ms")

    def __init__(self, labels: Iterable[bytes]) -> None:
        self._shared = _compile(labels, width=_USUAL_WIDTH, each=False)
        self._each: _Stream | None = None
        self._filled = self._shared
        self.span_ms = (0, 0)
        """The oldest and the newest timestamp of the last fragment of `fill_each`."""

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

    def labels(self) -> list[bytes]:
        """The encoded labels of every series, in order; costs uncompressing them."""
        return self._shared.labels()

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
        for at in stream.stamps:
            out[at : at + len(stamp)] = stamp
        for hole, slot in zip(stream.holes, slots, strict=True):
            _PUT_DOUBLE(out, hole, values[slot])
        return bytes(out)

    def fill_each(self, values: array[float], slots: Sequence[int], timestamps_ms: Sequence[int]) -> bytes:
        """The same with a timestamp for each sample: `timestamps_ms[slots[i]]`, milliseconds."""
        stamps = [timestamps_ms[slot] for slot in slots]
        distinct = set(stamps)
        self.span_ms = min(distinct, default=0), max(distinct, default=0)
        width = max((len(varint.encode_signed(stamp)) for stamp in distinct), default=0)
        stream = self._each
        if stream is None or stream.width < width:
            width = max(width, _USUAL_WIDTH)
            stream = self._each = _compile((stream or self._shared).labels(), width=width, each=True)
        self._filled = stream
        encoded = {stamp: varint.pad(stamp, stream.width) for stamp in distinct}
        out = bytearray(stream.data)
        for hole, slot, stamp in zip(stream.holes, slots, stamps, strict=True):
            _PUT_DOUBLE(out, hole, values[slot])
            out[hole + 9 : hole + 9 + stream.width] = encoded[stamp]
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
    stamps: tuple[int, ...]
    """Where the shared timestamp is: once, unless a series is longer than a copy reaches."""
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
        self._source = self._copied = 0
        self._aligned = False  # whether a label or the tail begins where the copy ends at its source
        self._new_holes: list[int] = []  # those of the literal not yet written, where they are in `_raw`
        self._new_stamps: list[int] = []
        self._holes = array("I")
        self._stamps: list[int] = []
        self._last_stamp = -snappy.MAX_OFFSET
        self._labels: dict[bytes, int] = {}  # where in `_raw` a label was last
        self._heads: dict[bytes, int] = {}  # and what stands before the labels
        self._words: dict[bytes, tuple[bytes, int]] = {}  # a label with these four bytes, and where in it

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
        self._new_holes.append(len(self._raw))
        self._say(self._hole)

    def finish(self) -> _Stream:
        if self._lead and self._raw:
            self._add_stamp()
        self._flush()
        return _Stream(bytes(self._out), len(self._raw), self._holes, tuple(self._stamps), self._width)

    def _add_head(self, head: bytes, first: bytes) -> None:
        """What stands before the labels: the timestamp of the series before, and the length."""
        start = len(self._raw)
        source = self._heads.get(head + first)
        if source is None and self._lead:
            source = self._heads.get(head)
        if source is not None and self._reaches(source):
            self._copy(source, self._lead + len(head), aligned=True)
        else:
            if start and self._lead:
                self._add_stamp()
            self._say(head)
        if start or not self._lead:
            self._heads[head + first] = self._heads[head] = self._last_stamp = start

    def _add_stamp(self) -> None:
        """The shared timestamp: said where none is in reach, otherwise copied."""
        start = len(self._raw)
        if self._reaches(self._last_stamp):
            self._copy(self._last_stamp, self._lead, aligned=False)
        else:
            self._new_stamps.append(start + 1)
            self._say(b"\x10" + bytes(self._width))
        self._last_stamp = start

    def _add_label(self, label: bytes) -> None:
        start = len(self._raw)
        if not self._continue(label):
            source = self._labels.get(label)
            if source is not None and self._reaches(source):
                self._copy(source, len(label), aligned=True)
            else:
                self._add_new_label(label)
        self._labels[label] = start

    def _add_new_label(self, label: bytes) -> None:
        """A label not in reach: copy what it has in common with others, four bytes or more at a time."""
        position = said = 0
        while position + _WORD <= len(label):
            word = label[position : position + _WORD]
            other, at = self._words.get(word, (label, 0))
            self._words[word] = (label, position)
            source = self._labels.get(other, -snappy.MAX_OFFSET) + at
            if other == label or not self._reaches(source - (position - said)):
                position += 1
                continue
            length = snappy.common_length(
                other, at, label, position, min(len(other) - at, len(label) - position)
            )
            self._say(label[said:position])
            self._copy(source, length, aligned=at + length == len(other))
            position = said = position + length
        self._say(label[said:])

    def _reaches(self, source: int) -> bool:
        return len(self._raw) - source <= snappy.MAX_OFFSET

    def _continue(self, data: bytes) -> bool:
        """Make the copy longer by `data` if that is what comes next at its source."""
        if not self._copied or not self._aligned:
            return False
        end = self._source + self._copied
        if self._raw[end : end + len(data)] != data:
            return False
        self._copied += len(data)
        self._raw += data
        return True

    def _copy(self, source: int, length: int, *, aligned: bool) -> None:
        if source != self._source + self._copied or not self._copied:
            self._flush()
            self._source = source
        self._copied += length
        self._aligned = aligned
        self._raw += self._raw[source : source + length]

    def _say(self, data: bytes) -> None:
        if data:
            if self._copied:
                self._flush()
            self._literal += data
            self._raw += data

    def _flush(self) -> None:
        """Write the literal or the copy."""
        if self._literal:
            tag = snappy.literal_tag(len(self._literal))
            moved = len(self._out) + len(tag) - (len(self._raw) - len(self._literal))
            self._holes.extend(moved + hole for hole in self._new_holes)
            self._stamps += [moved + stamp for stamp in self._new_stamps]
            self._out += tag + self._literal
            self._literal.clear()
            self._new_holes.clear()
            self._new_stamps.clear()
        elif self._copied:
            snappy.put_copy(self._out, len(self._raw) - self._copied - self._source, self._copied)
            self._copied = 0
