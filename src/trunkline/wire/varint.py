"""Variable-length integers, as protobuf and snappy have them: seven bits a byte, the low ones first."""

from __future__ import annotations

from trunkline.errors import WireError


def encode(number: int) -> bytes:
    """The shortest form of an unsigned number."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_signed(number: int) -> bytes:
    """A protobuf int64: a negative number takes ten bytes."""
    return encode(number & 0xFFFF_FFFF_FFFF_FFFF)


def pad(number: int, width: int) -> bytes:
    """An int64 in exactly `width` bytes, which readers accept though it is not the shortest form."""
    short = encode_signed(number)
    if len(short) == width:
        return short
    return short[:-1] + bytes((short[-1] | 0x80,)) + b"\x80" * (width - len(short) - 1) + b"\0"


def decode(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """The unsigned 64-bit number at `position`, and where it ends. Raises WireError."""
    if position < len(data) and data[position] < 0x80:
        return data[position], position + 1
    number = shift = 0
    for index in range(position, min(position + 10, len(data))):
        byte = data[index]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number >> 64:
                break
            return number, index + 1
        shift += 7
    else:
        if len(data) - position < 10:
            raise WireError(f"the message ends within a number that begins at byte {position}")
    raise WireError(f"the number at byte {position} does not fit 64 bits")


def signed(number: int) -> int:
    """The int64 with the same 64 bits."""
    return number - (1 << 64) if number >> 63 else number
