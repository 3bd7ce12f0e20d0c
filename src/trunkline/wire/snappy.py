"""Snappy's block format (google/snappy, `format_description.txt`): the uncompressed length, then elements.

An element is a literal, or a copy of 1 to 64 bytes from 1 to 2**32-1 bytes back; a copy may reach into itself.
"""

from __future__ import annotations

from typing import Final

from trunkline.errors import WireError
from trunkline.wire import varint

MAX_OFFSET: Final = 0xFFFF
"""How far back the copies written here reach; readers must accept more."""

_LITERAL, _COPY_1, _COPY_2 = range(3)


def decompress(data: bytes | memoryview, max_bytes: int) -> bytes:
    """The uncompressed bytes, at most `max_bytes`. Raises WireError for anything that is not one whole block."""
    length, position = varint.decode(data, 0)
    if length > max_bytes:
        raise WireError(f"the snappy block claims {length} bytes, more than the {max_bytes} allowed")
    out = bytearray()
    end = len(data)
    while position < end:
        if data[position] & 3 == _LITERAL:
            position = _read_literal(data, position, out)
        else:
            position = _read_copy(data, position, out)
        if len(out) > length:
            raise WireError(f"the snappy block holds more than the {length} bytes it claims")
    if len(out) != length:
        raise WireError(f"the snappy block ends after {len(out)} of {length} bytes")
    return bytes(out)


def compress(data: bytes) -> bytes:
    """One block, by the greedy search for four equal bytes; for what is too rare to deserve a template."""
    out = bytearray(varint.encode(len(data)))
    seen: dict[bytes, int] = {}
    position = pending = 0
    while position + 4 <= len(data):
        word = data[position : position + 4]
        source = seen.get(word)
        seen[word] = position
        if source is None or position - source > MAX_OFFSET:
            position += 1
            continue
        length = common_length(data, source, data, position, len(data) - position)
        put_literal(out, data[pending:position])
        put_copy(out, position - source, length)
        position = pending = position + length
    put_literal(out, data[pending:])
    return bytes(out)


def put_literal(out: bytearray, data: bytes | bytearray) -> None:
    """Write a literal element; nothing for no bytes."""
    if data:
        out += literal_tag(len(data))
        out += data


def literal_tag(length: int) -> bytes:
    """What stands before a literal of `length` bytes."""
    if length <= 60:
        return bytes(((length - 1) << 2,))
    size = ((length - 1).bit_length() + 7) // 8
    return bytes(((59 + size) << 2,)) + (length - 1).to_bytes(size, "little")


def put_copy(out: bytearray, offset: int, length: int) -> None:
    """Write the copy of `length` bytes from `offset` back, in as many elements as it takes."""
    while length >= 68:
        _put_copy_2(out, offset, 64)
        length -= 64
    if length > 64:
        _put_copy_2(out, offset, 60)
        length -= 60
    if 4 <= length <= 11 and offset < 2048:
        out.append(_COPY_1 | (length - 4) << 2 | offset >> 8 << 5)
        out.append(offset & 0xFF)
    else:
        _put_copy_2(out, offset, length)


def common_length(
    left: bytes | bytearray, left_at: int, right: bytes | bytearray, right_at: int, limit: int
) -> int:
    """How many bytes, up to `limit`, are equal in both from there on."""
    for done in range(0, limit, 64):
        step = min(64, limit - done)
        one = left[left_at + done : left_at + done + step]
        other = right[right_at + done : right_at + done + step]
        if one != other:
            difference = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
            return done + ((difference & -difference).bit_length() - 1) // 8
    return limit


def _put_copy_2(out: bytearray, offset: int, length: int) -> None:
    out.append(_COPY_2 | (length - 1) << 2)
    out.append(offset & 0xFF)
    out.append(offset >> 8)


def _read_literal(data: bytes | memoryview, position: int, out: bytearray) -> int:
    length = data[position] >> 2
    position += 1
    if length >= 60:
        size = length - 59
        if position + size > len(data):
            raise WireError("the snappy block ends within the length of a literal")
        length = int.from_bytes(data[position : position + size], "little")
        position += size
    end = position + length + 1
    if end > len(data):
        raise WireError("the snappy block ends within a literal")
    out += data[position:end]
    return end


def _read_copy(data: bytes | memoryview, position: int, out: bytearray) -> int:
    tag = data[position]
    size = (0, 1, 2, 4)[tag & 3]
    end = position + 1 + size
    if end > len(data):
        raise WireError("the snappy block ends within a copy")
    length = (tag >> 2) + 1
    offset = int.from_bytes(data[position + 1 : end], "little")
    if size == 1:
        length = (tag >> 2 & 7) + 4
        offset |= tag >> 5 << 8
    start = len(out) - offset
    if offset == 0 or start < 0:
        raise WireError(
            f"a snappy copy at byte {position} reaches {offset} bytes back, but only {len(out)} are there"
        )
    piece = out[start : start + length]
    while len(piece) < length:
        piece += piece[: length - len(piece)]
    out += piece
    return end
