"""A strict endpoint for remote write that goes wrong as it is told, and the store behind it."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

import cramjam

from faults.samples import read_labels, read_request

Sample = tuple[bytes, bytes, int]
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Mode:
    """How one request is answered.

    It is stored if `stores`, under the rules, and then answered `status` `delay_s` late. `refuses` names series (by
    labels) that are refused with 400 and `words`; `whole` says that nothing of such a request is stored. `hang_up`
    closes the connection instead of answering, or in the middle of the answer; `max_samples` answers 413 over it.
    """

    status: int = 200
    stores: bool = True
    delay_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    words: str = ""
    refuses: Callable[[Mapping[str, str]], bool] | None = None
    whole: bool = True
    hang_up: Literal["", "instead", "within"] = ""
    max_samples: int = 1_000_000
    poison: Callable[[Mapping[str, str]], bool] | None = None
    """Series whose requests are all answered with 500."""


class Answer(NamedTuple):
    """Status and words."""

    status: int
    words: str


class Keeping(Protocol):
    """What stands behind an endpoint."""

    def take(self, body: bytes, mode: Mode) -> Answer:
        """Store a compressed request as far as `mode` and the rules let it."""
        ...


@dataclass
class StoredSeries:
    """The samples of a series: eight bytes of a value by timestamp in ms."""

    labels: dict[str, str]
    samples: dict[int, bytes] = field(default_factory=dict)
    newest_ms: int = -1


class Store:
    """What was stored, by encoded labels, under the rules of Prometheus without an out-of-order window."""

    def __init__(self) -> None:
        self.series: dict[bytes, StoredSeries] = {}
        self.repeated = 0
        """Samples that came again exactly as they were stored."""
        self.violations: list[str] = []
        """New samples older than their series' newest, others for a timestamp there was, two of a series at once."""

    def of(self, labels: bytes) -> StoredSeries:
        known = self.series.get(labels)
        if known is None:
            known = self.series[labels] = StoredSeries(read_labels(labels))
        return known

    def put(self, sample: Sample) -> str:
        """Store a sample; otherwise why not, in the words of Prometheus."""
        labels, value, timestamp_ms = sample
        series = self.of(labels)
        there = series.samples.get(timestamp_ms)
        if there == value:
            self.repeated += 1
            return "" if timestamp_ms == series.newest_ms else "out of order sample"
        if there is not None:
            self.violations.append(f"another value for {timestamp_ms} ms of {series.labels}")
            return "duplicate sample for timestamp"
        if timestamp_ms < series.newest_ms:
            self.violations.append(f"{timestamp_ms} ms after {series.newest_ms} ms of {series.labels}")
            return "out of order sample"
        series.samples[timestamp_ms] = value
        series.newest_ms = timestamp_ms
        return ""

    def take(self, body: bytes, mode: Mode) -> Answer:
        """Store a compressed request as far as `mode` and the rules let it."""
        samples = list(read_request(bytes(cramjam.snappy.decompress_raw(body))))
        if len({labels for labels, _, _ in samples}) < len(samples):
            self.violations.append("two samples of a series in one request")
        if len(samples) > mode.max_samples:
            return Answer(413, "request too large")
        if mode.poison and any(mode.poison(self.of(labels).labels) for labels, _, _ in samples):
            return Answer(500, "stumbled over a series")
        refused = [one for one in samples if mode.refuses and mode.refuses(self.of(one[0]).labels)]
        if mode.whole and (refused or not all(map(self.accepts, samples))):
            found = next((text for one in samples if not self.accepts(one) and (text := self.put(one))), "")
            return Answer(400, mode.words if refused else found)
        return self._put_all(samples, refused, mode)

    def _put_all(self, samples: list[Sample], refused: list[Sample], mode: Mode) -> Answer:
        unwanted = set(refused)
        texts = [self.put(one) for one in samples if one not in unwanted]
        first = mode.words if refused else next(filter(None, texts), "")
        return Answer(400, first) if first else Answer(mode.status, mode.words)

    def accepts(self, sample: Sample) -> bool:
        series = self.of(sample[0])
        newest = series.newest_ms
        return sample[2] > newest or (sample[2] == newest and series.samples[newest] == sample[1])

    def age_s(self) -> float:
        """How old the newest sample is."""
        return time.time() - max((one.newest_ms for one in self.series.values()), default=0) / 1000

    def count(self) -> int:
        """How many samples there are."""
        return sum(len(one.samples) for one in self.series.values())


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: when it was complete, how it was answered (0: not at all)."""

    at_s: float
    status: int


class Endpoint:
    """Listens while `open`; `mode` is asked for every request."""

    def __init__(self, store: Keeping) -> None:
        self.store = store
        self.mode: Callable[[], Mode] = Mode
        self.seen: list[Seen] = []
        self.most_under_way = 0
        """How many requests had no answer yet, at most."""
        self.overtaken = 0
        """How many requests were answered after one that came later."""
        self._latest = 0
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Transport] = set()
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def write_url(self) -> str:
        return f"{self.url}/api/v1/write"

    async def open(self) -> None:
        """Listen, if it does not yet."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)

    async def close(self) -> None:
        """Be gone: no port, no connection, no request under way."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._answering:
            task.cancel()
        for transport in tuple(self._connections):
            transport.abort()
        await asyncio.sleep(0)

    def be(self, mode: Mode) -> None:
        """Answer every request this way from now on."""
        self.mode = lambda: mode

    def connected(self, transport: asyncio.Transport) -> None:
        self._connections.add(transport)

    def lost(self, transport: asyncio.Transport) -> None:
        self._connections.discard(transport)

    def take(self, body: bytes, transport: asyncio.Transport) -> None:
        task = asyncio.ensure_future(self._answer(body, transport))
        self._answering.add(task)
        self.most_under_way = max(self.most_under_way, len(self._answering))
        task.add_done_callback(self._answering.discard)

    async def _answer(self, body: bytes, transport: asyncio.Transport) -> None:
        mode, arrived_s = self.mode(), time.time()
        status, text = mode.status, mode.words
        if mode.stores:
            status, text = self.store.take(body, mode)
        self.seen.append(Seen(arrived_s, 0 if mode.hang_up else status))
        number = len(self.seen)
        if mode.delay_s:
            await asyncio.sleep(mode.delay_s)
        self.overtaken += number < self._latest
        self._latest = max(self._latest, number)
        answer = _answer(status, text, mode.headers)
        if mode.hang_up:
            if mode.hang_up == "within":
                transport.write(answer[: len(answer) // 2])
            transport.close()
        else:
            transport.write(answer)


def _answer(status: int, text: str, headers: Mapping[str, str]) -> bytes:
    body = text.encode()
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Length: {len(body)}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join(lines).encode() + _END + body


class _Connection(asyncio.Protocol):
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._endpoint.connected(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        assert self._transport is not None
        self._endpoint.lost(self._transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._data += data
        while (end := self._data.find(_END)) >= 0:
            length = _LENGTH.search(self._data, 0, end + 2)
            stop = end + len(_END) + (int(length[1]) if length else 0)
            if len(self._data) < stop:
                return
            body = bytes(self._data[end + len(_END) : stop])
            del self._data[:stop]
            self._endpoint.take(body, self._transport)


def free_port() -> int:
    """A port that nobody uses, and that nobody is given by chance while it is closed for a while."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(20000, 32000)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
