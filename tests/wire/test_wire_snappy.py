"""Snappy blocks and varints, against hand-made bytes and an independent implementation."""

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import WireError
from trunkline.wire import snappy, varint

LIMIT = 1 << 20


def test_varints() -> None:
    def check(number: int, encoded: str) -> None:
        raw = bytes.fromhex(encoded)
        assert varint.encode(number) == raw
        assert varint.decode(raw + b"\xff", 0) == (number, len(raw))

    check(0, "00")
    check(1, "01")
    check(127, "7f")
    check(128, "8001")
    check(300, "ac02")
    check(2**32 - 1, "ffffffff0f")
    check(1_760_000_000_123, "fb80b3c19c33")
    check(2**64 - 1, "ffffffffffffffffff01")


def test_signed_varints_take_ten_bytes_below_zero() -> None:
    assert varint.encode_signed(-1).hex() == "ffffffffffffffffff01"
    assert varint.encode_signed(5).hex() == "05"
    assert [varint.signed(2**64 - 1), varint.signed(2**63 - 1), varint.signed(2**63)] == [
        -1,
        2**63 - 1,
        -(2**63),
    ]


def test_padded_varints() -> None:
    assert varint.pad(1, 6).hex() == "818080808000"
    assert varint.pad(0, 2).hex() == "8000"
    assert varint.pad(300, 2).hex() == "ac02"
    assert varint.decode(varint.pad(300, 10), 0) == (300, 10)


def test_varints_that_are_none() -> None:
    def check(encoded: str, message: str) -> None:
        with pytest.raises(WireError, match=message):
            varint.decode(bytes.fromhex(encoded), 0)

    check("", "ends within a number")
    check("80", "ends within a number")
    check("ffffffffffffffffff02", "does not fit 64 bits")
    check("ffffffffffffffffffff01", "does not fit 64 bits")


def test_golden_blocks() -> None:
    def check(block: str, text: bytes) -> None:
        raw = bytes.fromhex(block)
        assert snappy.decompress(raw, LIMIT) == text
        assert bytes(cramjam.snappy.decompress_raw(raw)) == text

    check("00", b"")
    check("0308616263", b"abc")
    check("03f002616263", b"abc")  # a literal whose length takes a byte of its own
    check("03f40200616263", b"abc")
    check("03f8020000616263", b"abc")
    check("080c616263640104", b"abcdabcd")  # copy with a 1-byte offset
    check("080c616263640e0400", b"abcdabcd")  # with 2 bytes
    check("080c616263640f04000000", b"abcdabcd")  # with 4 bytes
    check("0a0061220100", b"a" * 10)  # a copy that reaches into itself
    check("07046162120200", b"abababa")


def test_long_literals_and_copies_are_split_as_the_format_has_it() -> None:
    out = bytearray()
    snappy.put_literal(out, bytes(61))
    assert out[:2].hex() == "f03c"
    assert snappy.literal_tag(60).hex() == "ec"
    assert snappy.literal_tag(257).hex() == "f40001"
    assert snappy.literal_tag(65537).hex() == "f8000001"

    def copies(length: int, offset: int = 100) -> str:
        written = bytearray()
        snappy.put_copy(written, offset, length)
        return written.hex()

    assert copies(4) == "0164"
    assert copies(11, 2047) == "fdff"
    assert copies(11, 2048) == "2a0008"
    assert copies(12) == "2e6400"
    assert copies(64) == "fe6400"
    assert copies(65) == "ee64000564"
    assert copies(68) == "fe64000164"


def test_blocks_that_are_none() -> None:
    def check(block: str, message: str) -> None:
        with pytest.raises(WireError, match=message):
            snappy.decompress(bytes.fromhex(block), 100)

    check("", "ends within a number")
    check("65", "claims 101 bytes, more than the 100 allowed")
    check("0408616263", "ends after 3 of 4 bytes")
    check("0208616263", "more than the 2 bytes it claims")
    check("03086162", "ends within a literal")
    check("03f0", "ends within the length of a literal")
    check("080c6162636401", "ends within a copy")
    check("080c616263640100", "reaches 0 bytes back")
    check("080c616263640105", "reaches 5 bytes back, but only 4 are there")


REPETITIVE = st.lists(st.sampled_from([b"abcd", b"label", b"\x00" * 9, b"instance", b"x"]), max_size=200).map(
    b"".join
)


@given(st.binary(max_size=400) | REPETITIVE)
def test_round_trips(data: bytes) -> None:
    ours = snappy.compress(data)
    assert snappy.decompress(ours, LIMIT) == data
    assert bytes(cramjam.snappy.decompress_raw(ours)) == data
    assert snappy.decompress(bytes(cramjam.snappy.compress_raw(data)), LIMIT) == data


def test_compress_finds_what_there_is_to_find() -> None:
    data = b'node_cpu_seconds_total{cpu="0",mode="idle"}\n' * 1000
    assert len(snappy.compress(data)) < len(data) / 18
    assert snappy.decompress(snappy.compress(bytes(200_000)), LIMIT) == bytes(200_000)


@given(st.binary(max_size=60))
def test_any_bytes_decompress_or_raise_only_wire_errors(block: bytes) -> None:
    try:
        text = snappy.decompress(block, LIMIT)
    except WireError:
        return
    assert bytes(cramjam.snappy.decompress_raw(block)) == text


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 200))
def test_common_length(left: bytes, right: bytes, shared: int) -> None:
    prefix = bytes(index % 251 for index in range(shared))
    one, other = prefix + b"\x00" + left, prefix + b"\x01" + right
    assert snappy.common_length(one, 0, other, 0, min(len(one), len(other))) == shared
