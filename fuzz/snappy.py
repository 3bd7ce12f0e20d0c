"""Anything at all as a snappy block: what another implementation reads is read the same; what is compressed comes back.

The other one accepts less: it wants four bytes behind the tag of a literal longer than 60, however many there need be.
"""

from __future__ import annotations

from typing import Final

import cramjam

from fuzz.kernels import Kernel
from trunkline.errors import WireError
from trunkline.wire import snappy, varint

_MAX_BYTES: Final = 1 << 16


def check(data: bytes, kernel: Kernel) -> None:
    del kernel  # both use this codec
    assert snappy.decompress(snappy.compress(data), len(data)) == data
    try:
        length, _ = varint.decode(data, 0)
    except WireError:
        length = 0
    ours = _decompressed(data)
    if length <= _MAX_BYTES:  # the other one allocates what the block claims
        assert _judged(data) in (None, ours)


def _decompressed(data: bytes) -> bytes | None:
    try:
        return snappy.decompress(data, _MAX_BYTES)
    except WireError:
        return None


def _judged(data: bytes) -> bytes | None:
    try:
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError:
        return None
