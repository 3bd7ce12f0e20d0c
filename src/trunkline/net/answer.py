"""Reads one HTTP/1.1 answer from bytes as they arrive, without any I/O of its own (RFC 9112)."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeAlias

from zlib_ng import zlib_ng

from trunkline.errors import BodyTooLargeError, ProtocolError
from trunkline.net.message import Response

MAX_HEAD_BYTES = 64 * 1024
_MAX_INTERIM = 8
_MAX_CHUNK_LINE_BYTES = 1024
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\x00\r\n]*))?")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_GZIP_WBITS = 31
_MAX_GZIP_MEMBERS = 64


Buffer: TypeAlias = bytearray | mmap.mmap

_MAPPED_BYTES = 1024 * 1024
_GROWTH = 8


def new_buffer(size: int) -> Buffer:
    """Room for `size` bytes; a large one takes memory only as it is filled, and gives all of it back."""
    return bytearray(size) if size < _MAPPED_BYTES else mmap.mmap(-1, size)


def find_head_end(buffer: Buffer, start: int, stop: int) -> int:
    """The index behind the empty line that ends a head, -1 if it is not in `buffer[start:stop]`.

    Bare line feeds are taken for line ends, as RFC 9112 (2.2) allows and home-grown exporters need.
    """
    full = buffer.find(b"\n\r\n", start, stop)
    bare = buffer.find(b"\n\n", start, stop if full < 0 else full + 1)
    if bare >= 0:
        return bare + 2
    return full + 3 if full >= 0 else -1


def parse_headers(lines: Iterable[str]) -> dict[str, str]:
    """Header lines as a mapping of lower-case names; repeated ones joined with `, `.

    Raises ProtocolError for a line without a colon, a name that is none, a folded line or a null byte.
    """
    headers: dict[str, str] = {}
    for line in lines:
        name, value = _header(line)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


@lru_cache(maxsize=512)  # a server says nearly the same with every answer
def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name, value = name.lower(), value.strip(" \t\r")
    if not colon or not _TOKEN.fullmatch(name) or "\0" in value or "\r" in value:
        raise ProtocolError(f"malformed header line {line[:80]!r}")
    return name, value


@lru_cache(maxsize=64)
def _status(line: str) -> tuple[int, str, bool]:
    """Code, reason and whether the other side speaks HTTP/1.1."""
    match = _STATUS_LINE.fullmatch(line.rstrip("\r"))
    if not match:
        raise ProtocolError(f"not an HTTP answer, it starts with {line[:80]!r}")
    return int(match[2]), (match[3] or "").strip(), match[1] == "1"


def _content_length(value: str) -> int:
    values = {part.strip() for part in value.split(",")}
    if len(values) != 1 or not _LENGTH.fullmatch(value := values.pop()):
        raise ProtocolError(f"malformed Content-Length {value[:80]!r}")
    return int(value)


def gunzip(data: bytes | memoryview, max_bytes: int | None) -> bytes:
    """`data` decompressed; several gzip members in a row are one stream.

    Never makes more than one byte beyond `max_bytes`. Raises BodyTooLargeError or ProtocolError.
    """
    parts: list[bytes] = []
    size = 0
    rest = data
    for _ in range(_MAX_GZIP_MEMBERS):
        member = zlib_ng.decompressobj(_GZIP_WBITS)
        try:
            parts.append(member.decompress(rest, 0 if max_bytes is None else max_bytes - size + 1))
        except zlib_ng.error as error:  # type: ignore[misc]  # its stub does not say that it is an exception
            raise ProtocolError(f"the body is not gzip as its Content-Encoding says: {error}") from None
        size += len(parts[-1])
        if max_bytes is not None and size > max_bytes:
            raise _too_large(max_bytes)
        if not member.eof:
            raise ProtocolError("the gzip body ends in its middle")
        rest = member.unused_data
        if not rest:
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise ProtocolError(f"the gzip body has more than {_MAX_GZIP_MEMBERS} members")


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than the limit of {max_bytes} bytes")


_Step: TypeAlias = Callable[["AnswerReader"], bool]


class AnswerReader:
    """Takes bytes through `room` and `take` until one answer is complete; then `status`, `headers` and `body` are it.

    Works in `buffer`, and in larger ones in its place when that is full; `buffer` is the one to reuse afterwards.
    `body` is what is in that buffer unless it had to be decompressed, so it holds until the buffer is used again.
    `max_body_bytes` bounds the body as sent and as decompressed. After the answer, `reusable` says whether the
    connection can carry another exchange.
    """

    __slots__ = (
        "_body_end",
        "_body_start",
        "_chunk_left",
        "_filled",
        "_head_only",
        "_interim",
        "_length",
        "_max_body_bytes",
        "_next",
        "_scanned",
        "_step",
        "_trailer_left",
        "_view",
        "body",
        "buffer",
        "headers",
        "keep_alive",
        "reason",
        "received_bytes",
        "reusable",
        "status",
    )

    def __init__(self, method: str, max_body_bytes: int | None, buffer: Buffer) -> None:
        self.begin(method, max_body_bytes, buffer)

    def begin(self, method: str, max_body_bytes: int | None, buffer: Buffer) -> None:
        """Forget the answer before and read another one into `buffer`."""
        self.buffer = buffer
        self.received_bytes = 0
        self.reusable = False
        self.keep_alive = False
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self.body: bytes | memoryview = b""
        self._view = memoryview(buffer)
        self._head_only = method == "HEAD"
        self._max_body_bytes = max_body_bytes
        self._filled = 0
        self._scanned = 0
        self._next = 0
        self._interim = 0
        self._body_start = 0
        self._body_end = 0
        self._length = 0
        self._chunk_left = 0
        self._trailer_left = MAX_HEAD_BYTES
        self._step: _Step = AnswerReader._read_head

    def room(self) -> memoryview:
        """Where to receive into; never empty."""
        if self._filled == len(self.buffer):
            self.move(new_buffer(self._better_size()))
        return self._view[self._filled :] if self._filled else self._view

    def move(self, buffer: Buffer) -> None:
        """Go on in `buffer`, which is larger than what has been received."""
        view = memoryview(buffer)
        view[: self._filled] = self._view[: self._filled]
        self.buffer, self._view = buffer, view

    def _better_size(self) -> int:
        """Room for the whole answer if its length is known, but not much more than it has shown to be true."""
        larger = 2 * len(self.buffer)
        if self._step is AnswerReader._read_fixed:
            larger = max(larger, min(self._body_start + self._length, _GROWTH * len(self.buffer)))
        return larger

    def take(self, count: int) -> bool:
        """Look at `count` bytes received into `room`; whether the answer is complete.

        Raises ProtocolError or BodyTooLargeError.
        """
        self._filled += count
        self.received_bytes += count
        return self._step(self)

    def received(self, count: int) -> Response | None:
        """The same; the answer, once it is complete."""
        return self.response() if self.take(count) else None

    def response(self) -> Response:
        """The complete answer, with a body of its own."""
        return Response(self.status, self.reason, self.headers, bytes(self.body))

    def ended(self) -> Response:
        """The other side has closed: the answer, if that is how it ends, else ProtocolError."""
        self.end()
        return self.response()

    def end(self) -> None:
        """The other side has closed. Raises ProtocolError unless that is how the answer ends."""
        if self._step is AnswerReader._read_rest:
            self._body_end = self._filled
            self._finish()
            return
        if not self.received_bytes:
            raise ProtocolError("the connection was closed without an answer")
        if self._step is AnswerReader._read_fixed:
            got = self._filled - self._body_start
            raise ProtocolError(f"the connection was closed after {got} of {self._length} bytes of the body")
        where = "head" if self._step is AnswerReader._read_head else "chunked body"
        raise ProtocolError(f"the connection was closed in the middle of the {where}")

    def _read_head(self) -> bool:
        while self._step is AnswerReader._read_head:
            end = find_head_end(self.buffer, self._scanned, self._filled)
            if (self._filled if end < 0 else end) - self._next > MAX_HEAD_BYTES:
                raise ProtocolError(f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes")
            if end < 0:
                self._scanned = max(self._next, self._filled - 2)
                return False
            self._parse_head(str(self._view[self._next : end], "latin-1"))
            self._next = self._scanned = end
            if self.status >= 200:
                self._step = self._framing()
            else:
                self._skip_interim()
        return self._step(self)

    def _parse_head(self, head: str) -> None:
        lines = head.rstrip("\r\n").split("\n")
        self.status, self.reason, persistent = _status(lines[0])
        self.headers = parse_headers(lines[1:])
        connection = self.headers.get("connection", "").lower()
        self.keep_alive = "close" not in connection and (persistent or "keep-alive" in connection)

    def _skip_interim(self) -> None:
        self._interim += 1
        if self.status == 101 or self._interim > _MAX_INTERIM:
            raise ProtocolError(f"unexpected {self.status} answer")

    def _framing(self) -> _Step:
        """How the body ends (RFC 9112, 6.3)."""
        self._body_start = self._body_end = self._next
        encoding = self.headers.get("transfer-encoding")
        length = self.headers.get("content-length")
        if self._head_only or self.status in {204, 304}:
            return AnswerReader._read_fixed
        if encoding is not None:
            if encoding.lower() != "chunked":
                raise ProtocolError(f"transfer encoding {encoding[:80]!r} was not asked for")
            self.keep_alive = self.keep_alive and length is None
            return AnswerReader._read_chunk_size
        if length is None:
            self.keep_alive = False
            return AnswerReader._read_rest
        self._length = _content_length(length)
        self._check_size(self._length)
        return AnswerReader._read_fixed

    def _check_size(self, size: int) -> None:
        if self._max_body_bytes is not None and size > self._max_body_bytes:
            raise _too_large(self._max_body_bytes)

    def _read_fixed(self) -> bool:
        self._body_end = self._body_start + self._length
        if self._filled < self._body_end:
            return False
        self._next = self._body_end
        return self._finish()

    def _read_rest(self) -> bool:
        self._check_size(self._filled - self._body_start)
        return False

    def _line(self) -> bytes | None:
        """The next line of the chunked framing, None if it is not complete yet."""
        end = self.buffer.find(b"\n", self._next, self._filled)
        if (self._filled if end < 0 else end) - self._next > _MAX_CHUNK_LINE_BYTES:
            raise ProtocolError(f"a line between chunks is larger than {_MAX_CHUNK_LINE_BYTES} bytes")
        if end < 0:
            self._close_gap()
            return None
        line = bytes(self._view[self._next : end])
        self._next = end + 1
        return line.removesuffix(b"\r")

    def _close_gap(self) -> None:
        """Move what is not understood yet up to the body, so that framing takes no room in the buffer."""
        left = self._filled - self._next
        self._view[self._body_end : self._body_end + left] = self._view[self._next : self._filled]
        self._next, self._filled = self._body_end, self._body_end + left

    def _read_chunk_size(self) -> bool:
        while (line := self._line()) is not None:
            match = _CHUNK_SIZE.fullmatch(line)
            if not match:
                raise ProtocolError(f"malformed chunk size {line[:80]!r}")
            self._chunk_left = int(match[1], 16)
            if not self._chunk_left:
                self._step = AnswerReader._read_trailer
                return self._read_trailer()
            self._check_size(self._body_end - self._body_start + self._chunk_left)
            if not self._take_chunk():
                break
        return False

    def _take_chunk(self) -> bool:
        """Append what is here of the current chunk to the body; whether the chunk and its line end are complete."""
        count = min(self._chunk_left, self._filled - self._next)
        if self._body_end != self._next:
            self._view[self._body_end : self._body_end + count] = self._view[self._next : self._next + count]
        self._body_end += count
        self._next += count
        self._chunk_left -= count
        if self._chunk_left or (line := self._line()) is None:
            self._close_gap()
            self._step = AnswerReader._read_chunk
            return False
        if line:
            raise ProtocolError("a chunk is longer than its size says")
        self._step = AnswerReader._read_chunk_size
        return True

    def _read_chunk(self) -> bool:
        return self._read_chunk_size() if self._take_chunk() else False

    def _read_trailer(self) -> bool:
        while (line := self._line()) is not None:
            if not line:
                return self._finish()
            self._trailer_left -= len(line)
            if self._trailer_left < 0:
                raise ProtocolError(f"the trailer of the answer is larger than {MAX_HEAD_BYTES} bytes")
        return False

    def _finish(self) -> bool:
        self.reusable = self.keep_alive and self._next == self._filled
        self.body = self._decoded(self._view[self._body_start : self._body_end])
        return True

    def _decoded(self, body: memoryview) -> bytes | memoryview:
        encoding = self.headers.get("content-encoding")
        if encoding is None or not body or encoding.lower() in {"identity", ""}:
            return body
        if encoding.lower() not in {"gzip", "x-gzip"}:
            raise ProtocolError(f"content encoding {encoding[:80]!r} was not asked for")
        return gunzip(body, self._max_body_bytes)
