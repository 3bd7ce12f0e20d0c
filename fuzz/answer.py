"""An HTTP answer in pieces of any size: the same answer, or the same error, as in one piece.

The first line of an input is method, limit of the body in bytes (`-` for none), size of the buffer, and the sizes of the pieces,
which repeat; the rest is what the other side sends before it closes:

    GET 1000 16 1 7 3
    HTTP/1.1 200 OK...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final

from fuzz.kernels import Kernel
from trunkline.errors import BodyTooLargeError, ProtocolError
from trunkline.net.answer import AnswerReader

_MAX_BUFFER_BYTES: Final = 65536


@dataclass(frozen=True)
class _Exchange:
    method: str
    limit: int | None
    sent: bytes

    def outcome(self, buffer_bytes: int, pieces: Sequence[int]) -> tuple[Any, bool, int]:
        """The answer or the error; whether the connection can be used again; how many bytes were looked at."""
        reader = AnswerReader(self.method, self.limit, bytearray(buffer_bytes))
        try:
            answer = self._answer(reader, pieces)
        except (ProtocolError, BodyTooLargeError) as error:
            return repr(error), False, 0
        return answer, reader.reusable, reader.received_bytes

    def _answer(self, reader: AnswerReader, pieces: Sequence[int]) -> Any:
        for piece in self._cut(pieces):
            rest = piece
            while rest:
                room = reader.room()
                count = min(len(room), len(rest))
                room[:count] = rest[:count]
                rest = rest[count:]
                if (answer := reader.received(count)) is not None:
                    return answer
        return reader.ended()

    def _cut(self, pieces: Sequence[int]) -> Iterator[bytes]:
        start = 0
        for size in cycle(pieces):
            if start >= len(self.sent):
                return
            yield self.sent[start : start + size]
            start += size


def check(data: bytes, kernel: Kernel) -> None:
    del kernel  # it has no part in this
    words, _, sent = data.partition(b"\n")
    method, limit, buffer_bytes, *pieces = [*words.split(), b"", b"", b""]
    body_limit = None if limit == b"-" else _size(limit, 1 << 40)
    exchange = _Exchange(method.decode("latin-1"), body_limit, sent)
    whole, reusable, _ = exchange.outcome(len(sent) + 1, [len(sent) + 1])
    for sizes in ([1], [_size(size, 4096) for size in pieces if size] or [2]):
        answer, _, looked_at = exchange.outcome(_size(buffer_bytes, _MAX_BUFFER_BYTES), sizes)
        assert answer == whole
        if sizes == [1] and not isinstance(whole, str):
            exact = exchange.outcome(looked_at + 1, [looked_at + 1])
            assert reusable == (looked_at == len(sent) and exact[1])


def _size(text: bytes, most: int) -> int:
    """At least one."""
    return min(max(1, int(text)), most) if text.isdigit() and len(text) < 15 else 1
