"""Lanes of series: both templates give the same bytes, and they say what remote write says.

The first line of an input are the fills, in order: a number is a shared timestamp in milliseconds, `each` a timestamp
for every sample, `each-7` the same moved by -7. Every further line is a series, or many:

    40 1760000000123 __name__=foo,instance=10.0.0.@,path=/x*300

is 40 series with that timestamp and three labels, `@` the number of the series, `*300` the label's bytes so many times. A field
without `=` is a label of these bytes, whatever they say; one that begins with `!` is put in without being framed.
`~` is a line end.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

from fuzz.kernels import TWIN, Kernel
from trunkline.errors import WireError
from trunkline.wire import snappy, varint
from trunkline.wire.remote_write import encode_labels, encode_series
from trunkline.wire.template import Template, join

_MAX_FILLS: Final = 6
_MAX_BYTES: Final = 100_000
_MAX_FIELD_BYTES: Final = 1_000
_TIMES = re.compile(rb"(.*)\*([0-9]{1,4})", re.DOTALL)


def check(data: bytes, kernel: Kernel) -> None:
    fills, *lines = data.split(b"\n")
    lane = list(_bounded(lines))
    labels = [one for one, _, _ in lane]
    values, stamps = array("d", [value for _, value, _ in lane]), [stamp for _, _, stamp in lane]
    fast, twin = _made(kernel.template, labels), _made(TWIN.template, labels)
    if isinstance(fast, str) or isinstance(twin, str):
        assert fast == twin
        return
    assert len(fast) == len(twin) == len(lane)
    assert fast.labels() == labels
    width = 6
    for fill in fills.split()[:_MAX_FILLS]:
        if fill.startswith(b"each"):
            moved = [_in_64_bits(stamp + _integer(fill[4:])) for stamp in stamps]
            width = max([width, *(len(varint.encode_signed(stamp)) for stamp in moved)])
            expected = b"".join(map(_padded, labels, values, moved, [width] * len(lane)))
            _agree(fast, twin, expected, lambda one, moved=moved: _fill_each(one, values, moved))
        else:
            stamp = _in_64_bits(_integer(fill))
            expected = b"".join(
                encode_series(one, [(value, stamp)]) for one, value in zip(labels, values, strict=True)
            )
            _agree(
                fast,
                twin,
                expected,
                lambda one, stamp=stamp: one.fill(values, array("I", range(len(values))), stamp),
            )


def _agree(fast: Template, twin: Template, expected: bytes, fill: Any) -> None:
    filled: bytes = fill(fast)
    assert filled == fill(twin)
    assert (fast.raw_bytes, fast.compressed_bytes) == (twin.raw_bytes, twin.compressed_bytes)
    assert fast.span_ms == twin.span_ms
    assert snappy.decompress(join([(filled, fast.raw_bytes)]), fast.raw_bytes) == expected


def _fill_each(one: Template, values: array[float], stamps: Sequence[int]) -> bytes:
    """With the columns the other way round, so that a slot is not a place."""
    slots = list(reversed(range(len(values))))
    return one.fill_each(array("d", reversed(values)), slots, array("q", reversed(stamps)))


def _padded(labels: bytes, value: float, stamp: int, width: int) -> bytes:
    """A series whose timestamp takes `width` bytes."""
    sample = b"\x09" + struct.pack("<d", value) + b"\x10" + varint.pad(stamp, width)
    series = labels + b"\x12" + varint.encode(len(sample)) + sample
    return b"\x0a" + varint.encode(len(series)) + series


def _made(template: type[Template], labels: list[bytes]) -> Template | str:
    try:
        return template(labels)
    except WireError as error:
        return str(error)


def _bounded(lines: Sequence[bytes]) -> Iterator[tuple[bytes, float, int]]:
    """The series of every line, as far as they are not too many bytes."""
    size = 0
    for line in lines:
        for labels, value, stamp in _series(line):
            size += len(labels) + 32
            if size > _MAX_BYTES:
                return
            yield labels, value, stamp


def _series(line: bytes) -> Iterator[tuple[bytes, float, int]]:
    """Labels, a value of any bits, a timestamp."""
    count, _, rest = line.partition(b" ")
    stamp, _, fields = rest.partition(b" ")
    value = struct.unpack("<d", line[-8:].ljust(8, b"\0"))[0]
    for index in range(max(1, _integer(count))):
        labels = b"".join(_label(field.replace(b"@", b"%d" % index)) for field in fields.split(b",") if field)
        yield labels, value, _in_64_bits(_integer(stamp) + index)


def _label(field: bytes) -> bytes:
    if match := _TIMES.fullmatch(field):
        field = match[1] * min(int(match[2]), _MAX_FIELD_BYTES // (len(match[1]) or 1))
    field = field.replace(b"~", b"\n")
    if field.startswith(b"!"):
        return field[1:]
    name, equals, value = field.partition(b"=")
    if equals:
        return encode_labels([(name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))])
    return b"\x0a" + varint.encode(len(field)) + field


def _integer(text: bytes) -> int:
    """Anything but a number of up to 20 digits is 0."""
    return int(text) if re.fullmatch(rb"[+-]?[0-9]{1,20}", text) else 0


def _in_64_bits(number: int) -> int:
    return min(max(number, -(2**63)), 2**63 - 1)


_FILLS: Final = (b"0", b"-1", b"1760000000123", b"each", b"each-9", b"each+9000000000000000000")
_FIELDS: Final = (
    *rb"a=b __name__=foo_total instance=10.0.0.@ a=@ job= whatever @ abcd*30 a=@@@@*20 !x !@".split(),
    b"abc~\x03def",
    b"a=0123456789abcdefghijklmnopqrstuvwxyz",
    b"b=xyzabcdefghijklmnopqrstuv",
)


def mutate(data: bytes, random: Random) -> bytes:
    """One more fill, or a change to a series: most of what matters takes labels that were there before."""
    fills, *lines = data.split(b"\n")
    place = random.randrange(len(lines) + 1)
    words = random.choice(lines).split(b" ", 2) if lines else []
    if random.random() < 0.1 or len(words) < 3:
        fills, line = fills + b" " + random.choice(_FILLS), b"3 1 a=b,n=@"
    else:
        line = b" ".join(_changed(words, random))
    lines.insert(place, line)
    if len(lines) > 1 and random.random() < 0.6:
        del lines[random.randrange(len(lines))]
    return b"\n".join((fills, *lines))


def _changed(words: Sequence[bytes], random: Random) -> tuple[bytes, ...]:
    count, stamp, fields = words
    labels = fields.split(b",")
    place = random.randrange(len(labels) + 1)
    match random.randrange(5):
        case 0:
            count = random.choice((b"1", b"2", b"9", b"40"))
        case 1:
            stamp = random.choice((b"0", b"-1", b"127", b"1760000000123"))
        case 2 if len(labels) > 1:
            labels.insert(place, labels.pop())
        case _:
            labels.insert(place, random.choice((*_FIELDS, random.choice(labels))))
    return count, stamp, b",".join(labels)
