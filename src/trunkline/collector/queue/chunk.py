"""What queues give to a sender, and what they share: records, chunks, and the window of chunks under way.

Several chunks can be under way at once and are settled in any order. Their lanes are under way with them until every
older chunk is settled, too. So nothing of a lane is sent before what is older of it has an answer; and what a killed
process leaves to be sent again are, of any lane, only the newest samples it has sent.

A fragment without data is no sample: what comes behind it waits until its lane is not under way. A source puts one
first when series of it may have moved to another lane.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Final, Protocol, TypeAlias

from trunkline.component.contract import Fragment, Limits

RECORD_BYTES: Final = 256 * 1024
RECORD_RAW_BYTES: Final = 1024 * 1024
RECORD_SAMPLES: Final = 2048
RECORD_FRAGMENTS: Final = 1000
"""A batch larger than these is written as several records, so that a request can end between them.

Linux takes 1,024 pieces (IOV_MAX) in one `write`, each fragment is one, and two stand before them.
"""

_NO_LANES: Final[AbstractSet[int]] = frozenset()

Lost: TypeAlias = Callable[[int, str], None]
"""Told how many samples were given up, and why: `queue_full`, `disk_full`, `too_old`, `damaged` or `stopped`."""


class Record:
    """What is kept, taken and given up as a whole: at most one fragment of any lane.

    `waits_for` are the lanes of fragments without data. `start` and `end` say where the queue has put it.
    """

    __slots__ = (
        *("data_bytes", "end", "fragments", "lanes", "newest_ms", "raw_bytes", "samples", "start"),
        "waits_for",
    )

    def __init__(self, fragments: Sequence[Fragment], lanes: set[int], waits_for: AbstractSet[int]) -> None:
        self.fragments = fragments
        self.lanes = lanes
        self.waits_for = waits_for
        self.data_bytes = self.raw_bytes = self.samples = self.newest_ms = 0
        self.start = self.end = 0

    @classmethod
    def of(cls, fragments: Sequence[Fragment]) -> Record:
        """A record of fragments that were one before."""
        lanes = {fragment.lane for fragment in fragments if fragment.data}
        record = cls(fragments, lanes, {fragment.lane for fragment in fragments if not fragment.data})
        record.data_bytes = sum([len(fragment.data) for fragment in fragments])
        record.raw_bytes = sum([fragment.raw_bytes for fragment in fragments])
        record.samples = sum([fragment.samples for fragment in fragments])
        record.newest_ms = max([fragment.newest_ms for fragment in fragments], default=0)
        return record

    @property
    def oldest_ms(self) -> int:
        return min(fragment.oldest_ms for fragment in self.fragments)


class Place(Protocol):
    """Where a chunk comes from."""

    @property
    def inherited(self) -> bool: ...


class Chunk:
    """What one request will carry: whole records, in order, at most one fragment of any lane.

    `inherited` says that an earlier process wrote it, and perhaps delivered it already.
    """

    __slots__ = ("end", "fragments", "lanes", "lost_as", "place", "records", "samples", "settled", "start")

    def __init__(self, records: list[Record], place: Place, start: int) -> None:
        self.records = records
        fragments = chain.from_iterable([one.fragments for one in records])
        self.fragments: Sequence[Fragment] = [fragment for fragment in fragments if fragment.data]
        self.samples = sum([one.samples for one in records])
        self.lanes = records[0].lanes.union(*[one.lanes for one in records[1:]])
        self.place = place
        self.start = start
        self.end = records[-1].end
        self.settled = False
        self.lost_as = ""
        """Why the queue has given it up; what becomes of it is for the sender to count, unless it puts it back."""

    @property
    def inherited(self) -> bool:
        return self.place.inherited


class Queue(Protocol):
    """Keeps fragments in the order they came until they are settled."""

    def append(self, fragments: Sequence[Fragment], *, inherited: bool = False) -> int:
        """Keep `fragments`, giving up the oldest if there is no room; returns the samples kept.

        With `inherited`, they are another process's, so that their lanes have nothing to do with ours.
        """
        ...

    def drop_older(self, limit_ms: int) -> None:
        """Give up what is wholly older than `limit_ms`, as far as that is cheap; the rest is the sender's to drop."""
        ...

    def take(self, limits: Limits) -> Chunk | None:
        """The oldest samples not taken yet that fit one request.

        None when none wait, or when the next ones have to wait until some that are under way are settled.
        """
        ...

    def put_back(self, chunk: Chunk) -> None:
        """The chunk taken last is not sent now: the next `take` begins with it again."""
        ...

    def settle(self, chunk: Chunk) -> None:
        """`chunk` is delivered or refused, in any order; nothing happens if it has been given up meanwhile."""
        ...

    def fragments(self) -> Iterator[Fragment]:
        """What is not taken yet, in order."""
        ...

    @property
    def samples(self) -> int:
        """How many are accepted and not settled."""
        ...

    @property
    def waiting(self) -> int:
        """How many of them are not taken yet."""
        ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def is_on_disk(self) -> bool:
        """Whether what is appended now outlives the process."""
        ...

    @property
    def oldest_ms(self) -> int | None:
        """The time of the oldest sample that is not settled."""
        ...

    def close(self) -> None: ...


class Window:
    """The chunks under way, oldest first, and their lanes."""

    def __init__(self) -> None:
        self.chunks: deque[Chunk] = deque()
        self._lanes: set[int] = set()

    def gather(self, records: Iterable[Record], limits: Limits) -> list[Record] | None:
        """Records from the front that fit one request; None if the first of them has to wait for its lanes."""
        taken: list[Record] = []
        lanes: set[int] = set()
        size = raw = samples = 0
        for record in records:
            if not self._lanes.isdisjoint(record.lanes) or not self._lanes.isdisjoint(record.waits_for):
                return taken or None
            size += record.data_bytes
            raw += record.raw_bytes
            samples += record.samples
            if taken and (
                size > limits.max_request_bytes
                or raw > limits.max_raw_bytes
                or samples > limits.max_samples
                or not lanes.isdisjoint(record.lanes)
                or not lanes.isdisjoint(record.waits_for)
            ):
                break
            lanes |= record.lanes
            taken.append(record)
        return taken

    def add(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self._lanes |= chunk.lanes

    def remove_last(self, chunk: Chunk) -> None:
        """`chunk` is not under way after all."""
        if self.chunks.pop() is not chunk:
            raise ValueError("only the chunk taken last can be put back")
        self._lanes -= chunk.lanes

    def pass_settled(self) -> Iterator[Chunk]:
        """The chunks that are settled without a gap before them leave the window."""
        while self.chunks and self.chunks[0].settled:
            chunk = self.chunks.popleft()
            self._lanes -= chunk.lanes
            yield chunk


def as_records(fragments: Iterable[Fragment]) -> Iterator[Record]:
    """Group `fragments` into records of a bounded size, never two of one lane in a record."""
    group: list[Fragment] = []
    lanes: set[int] = set()
    waits_for: AbstractSet[int] = _NO_LANES
    size = raw = samples = newest_ms = 0
    for fragment in fragments:
        lane, data, raw_bytes, count, _, stamp = fragment
        if lanes and (
            lane in lanes
            or size + len(data) > RECORD_BYTES
            or raw + raw_bytes > RECORD_RAW_BYTES
            or samples + count > RECORD_SAMPLES
            or len(group) >= RECORD_FRAGMENTS
        ):
            yield _filled(group, lanes, waits_for, size, raw, samples, newest_ms)
            group, lanes, waits_for = [], set(), _NO_LANES
            size = raw = samples = newest_ms = 0
        group.append(fragment)
        if data:
            lanes.add(lane)
        else:
            waits_for |= {lane}
        size += len(data)
        raw += raw_bytes
        samples += count
        newest_ms = max(newest_ms, stamp)
    if group:
        yield _filled(group, lanes, waits_for, size, raw, samples, newest_ms)


def _filled(
    group: list[Fragment],
    lanes: set[int],
    waits_for: AbstractSet[int],
    size: int,
    raw: int,
    samples: int,
    newest_ms: int,
) -> Record:
    record = Record(group, lanes, waits_for)
    record.data_bytes, record.raw_bytes = size, raw
    record.samples, record.newest_ms = samples, newest_ms
    return record
