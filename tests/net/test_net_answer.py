import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.errors import BodyTooLargeError, ProtocolError
from trunkline.net.answer import MAX_HEAD_BYTES, AnswerReader, find_head_end, parse_headers
from trunkline.net.message import Response, parse_http_date

OK = b"HTTP/1.1 200 OK\r\n"


def read(
    data: bytes,
    *,
    method: str = "GET",
    limit: int | None = None,
    pieces: list[int] | None = None,
    end: bool = False,
) -> tuple[Response | None, AnswerReader]:
    """Feed `data` in pieces of the sizes given, again and again, into a buffer that starts small."""
    reader = AnswerReader(method, limit, bytearray(16))
    sizes, position, turn = pieces or [len(data)], 0, 0
    response = None
    while position < len(data) and response is None:
        room = reader.room()
        count = min(len(room), max(1, sizes[turn % len(sizes)]), len(data) - position)
        room[:count] = data[position : position + count]
        position += count
        turn += 1
        response = reader.received(count)
    if response is None and end:
        response = reader.ended()
    return response, reader


def body(data: bytes, **settings: object) -> bytes:
    response, _ = read(data, **settings)  # type: ignore[arg-type]
    assert response is not None
    return response.body


def test_reads_status_reason_headers_and_body() -> None:
    response, reader = read(
        b"HTTP/1.1 404 Not Found\r\nX-A: 1\r\nContent-Length: 5\r\nx-a:  2 \r\nEmpty:\r\n\r\nhello"
    )
    assert response == Response(
        404, "Not Found", {"x-a": "1, 2", "content-length": "5", "empty": ""}, b"hello"
    )
    assert response.status_line == "404 Not Found"
    assert reader.reusable


def test_bare_line_feeds_and_a_missing_reason_are_taken() -> None:
    response, _ = read(b"HTTP/1.0 200\nContent-Length: 2\n\n\n\n")
    assert response == Response(200, "", {"content-length": "2"}, b"\n\n")


def test_framing() -> None:
    def check(
        data: bytes, expected: bytes, *, reusable: bool, method: str = "GET", end: bool = False
    ) -> None:
        response, reader = read(data, method=method, end=end)
        assert response is not None
        assert response.body == expected
        assert reader.reusable is reusable

    check(OK + b"Content-Length: 0\r\n\r\n", b"", reusable=True)
    check(OK + b"Content-Length: 3, 3\r\n\r\nabc", b"abc", reusable=True)
    check(OK + b"Content-Length: 3\r\n\r\nabcEXTRA", b"abc", reusable=False)
    check(OK + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", b"abc", reusable=False)
    check(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", reusable=False)
    check(b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na", b"a", reusable=True)
    check(OK + b"\r\nuntil the end", b"until the end", reusable=False, end=True)
    check(OK + b"Content-Length: 99\r\n\r\n", b"", reusable=True, method="HEAD")
    check(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"", reusable=True, method="HEAD")
    check(b"HTTP/1.1 204 No Content\r\n\r\n", b"", reusable=True)
    check(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"", reusable=True)
    check(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nok",
        b"ok",
        reusable=True,
    )
    chunked = OK + b"Transfer-Encoding: Chunked\r\n\r\n"
    check(chunked + b"4;a=b\r\nwiki\r\n5 \r\npedia\r\n0\r\nT: x\r\n\r\n", b"wikipedia", reusable=True)
    check(chunked + b"A\n0123456789\n0\n\n", b"0123456789", reusable=True)
    check(chunked + b"0\r\n\r\nHTTP/1.1", b"", reusable=False)
    check(
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"a",
        reusable=False,
    )


def test_what_is_not_http_is_refused_with_words() -> None:
    def check(data: bytes, expected: str, *, end: bool = True) -> None:
        with pytest.raises(ProtocolError, match=expected):
            read(data, end=end)

    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    check(b"", "closed without an answer")
    check(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not an HTTP answer, it starts with 'SSH-2.0")
    check(b"HTTP/2 200\r\n\r\n", "not an HTTP answer")
    check(OK + b"no colon\r\n\r\n", "malformed header line 'no colon")
    check(OK + b"Folded: a\r\n b\r\n\r\n", "malformed header line")
    check(OK + b"Space : a\r\n\r\n", "malformed header line")
    check(OK + b"Null: a\0\r\n\r\n", "malformed header line")
    check(OK + b"Content-Length: -1\r\n\r\n", "malformed Content-Length '-1'")
    check(OK + b"Content-Length: 1_0\r\n\r\n", "malformed Content-Length")
    check(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "malformed Content-Length '1, 2'")
    check(OK + b"Content-Length: 10\r\n\r\nhalf", "closed after 4 of 10 bytes")
    check(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "transfer encoding 'gzip, chunked' was not asked")
    check(OK[:9], "closed in the middle of the head")
    check(chunked + b"5\r\nab", "closed in the middle of the chunked body")
    check(chunked + b"0x5\r\nhello\r\n", "malformed chunk size b'0x5'")
    check(chunked + b"-5\r\nhello\r\n", "malformed chunk size")
    check(chunked + b"2\r\nabc\r\n0\r\n\r\n", "a chunk is longer than its size says")
    check(chunked + b"1" * 2000, "a line between chunks is larger than 1024 bytes")
    check(chunked + b"0\r\n" + b"T: x\r\n" * 20000, "the trailer of the answer is larger")
    check(OK + b"X: " + b"x" * MAX_HEAD_BYTES, "head of the answer is larger than 65536 bytes")
    check(OK + b"X: y\r\n" * 20000 + b"\r\n", "head of the answer is larger than 65536 bytes")
    check(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "unexpected 101 answer")
    check(b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "unexpected 100 answer")
    check(
        OK + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx", "content encoding 'br' was not asked for"
    )


def gzipped(content: bytes, limit: int | None = None) -> bytes:
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(content)
    return body(head + content, limit=limit)


def test_gzip() -> None:
    page = b"up 1\n" * 1000
    assert gzipped(gzip.compress(page)) == page
    assert gzipped(gzip.compress(page) + gzip.compress(b"more")) == page + b"more"
    assert gzipped(gzip.compress(page), limit=len(page)) == page
    assert body(OK + b"Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n") == b""

    def check(content: bytes, expected: str) -> None:
        with pytest.raises(ProtocolError, match=expected):
            gzipped(content)

    check(gzip.compress(page)[:-9], "the gzip body ends in its middle")
    check(b"plain text", "the body is not gzip as its Content-Encoding says")
    check(gzip.compress(page) + b"rubbish", "the body is not gzip")
    check(gzip.compress(b"") * 65, "more than 64 members")


def test_a_body_over_the_limit_is_refused_as_soon_as_that_is_known() -> None:
    def check(data: bytes, *, taken: int) -> None:
        with pytest.raises(BodyTooLargeError, match="larger than the limit of 10 bytes"):
            read(data, limit=10, pieces=[taken, 1])

    head = OK + b"Content-Length: 11\r\n\r\n"
    check(head, taken=len(head))
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    check(head + b"b\r\n", taken=len(head) + 3)
    check(head + b"6\r\nsixsix\r\n5\r\n", taken=len(head) + 20)
    check(OK + b"\r\n" + b"x" * 11, taken=30)
    small = gzip.compress(b"x" * 11)
    with pytest.raises(BodyTooLargeError):
        gzipped(small, limit=len(small) - 20)


def test_a_gzip_bomb_is_defused_before_it_takes_memory() -> None:
    import tracemalloc

    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(64)) + squeeze.flush()
    limit = 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError):
            gzipped(bomb, limit=limit)
        assert tracemalloc.get_traced_memory()[1] < 6 * limit
    finally:
        tracemalloc.stop()


def test_an_announced_length_takes_no_memory_in_advance() -> None:
    _, reader = read(OK + b"Content-Length: 100000000000000\r\n\r\nabc")
    assert len(reader.buffer) < 200


chunkings = st.lists(st.binary(min_size=1, max_size=300), max_size=8)
pieces = st.lists(st.integers(1, 120), min_size=1, max_size=6)


@settings(deadline=None)
@given(chunkings, pieces, st.booleans())
def test_chunks_arrive_whole_however_they_are_cut(
    chunks: list[bytes], sizes: list[int], trailer: bool
) -> None:
    data = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    data += b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    data += b"0\r\n" + (b"Expires: never\r\n" if trailer else b"") + b"\r\n"
    response, reader = read(data, pieces=sizes)
    assert response is not None
    assert response.body == b"".join(chunks)
    assert reader.reusable


@settings(deadline=None)
@given(st.binary(max_size=500), pieces)
def test_a_counted_body_arrives_whole_however_it_is_cut(content: bytes, sizes: list[int]) -> None:
    data = OK + b"Content-Length: %d\r\n\r\n" % len(content) + content
    assert body(data, pieces=sizes) == content


@settings(deadline=None)
@given(st.binary(max_size=400), pieces, st.sampled_from(["GET", "HEAD"]))
def test_rubbish_gives_an_answer_or_a_known_error(content: bytes, sizes: list[int], method: str) -> None:
    starts = [b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n", OK + b"Content-Encoding: gzip\r\n\r\n"]
    for start in starts:
        try:
            response, _ = read(start + content, method=method, pieces=sizes, limit=200, end=True)
        except (ProtocolError, BodyTooLargeError):
            continue
        assert response is not None


def test_find_head_end() -> None:
    def check(data: bytes, expected: int) -> None:
        assert find_head_end(bytearray(data), 0, len(data)) == expected

    check(b"a\r\n\r\nb", 5)
    check(b"a\n\nb", 3)
    check(b"a\r\n\nb", 4)
    check(b"a\r\n\r\n\n\n", 5)
    check(b"a\r\n\r", -1)


def test_parse_headers_joins_repeated_ones() -> None:
    assert parse_headers(["A: 1\r", "a:2", "B:\tx "]) == {"a": "1, 2", "b": "x"}


def test_http_dates() -> None:
    assert parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777
    for wrong in ("", "yesterday", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 36 Nov 1994 08:49:37 GMT"):
        assert parse_http_date(wrong) is None
