"""From batches to fragments: labels are encoded once per series, templates are filled once per scrape."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, compress
from operator import attrgetter
from typing import Final, TypeAlias

from trunkline.component.contract import Fragment
from trunkline.model import Batch, Extra, Series, Table, is_stale
from trunkline.wire.kernel import Template

LANE_SLOTS: Final = 1024
"""How many slots share a lane, and in calm times a template: the more, the better they compress."""
PART_SLOTS: Final = 64
"""The fewest that share a template while series of the lane come and go: the fewer, the less is compiled anew."""
CALM_SCRAPES: Final = 5
"""After how many scrapes without a change a lane has one template again."""

LabelsOf: TypeAlias = Callable[[int], bytes | None]
"""The labels of the series at a slot, encoded, or None if nothing of it is sent."""


class RefusedSeriesError(ValueError):
    """A series that the receiver would refuse, for a `reason` of the field's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SourceEncoder:
    """The fragments of one source. All it keeps of a series is its place in the template of a lane.

    `encode_labels` is asked when a series is first sent, and again when it comes back after a while. What it does not
    send (None), or refuses (RefusedSeriesError), is asked again only when the series is decided anew; `lose` is told
    how many samples are refused, and why. `last` has the last lane that was sent of a source, by its key, unless that
    is its first, and outlives this encoder: when series come, or come back in another slot, nothing is sent before
    that lane is settled.
    """

    def __init__(
        self,
        table: Table,
        encode_labels: Callable[[Series], bytes | None],
        last: dict[str, int],
        lose: Callable[[int, str], None],
    ) -> None:
        self._table = table
        self._last = last
        self._encode_labels = encode_labels
        self._lanes: list[_Lane] = []
        self._lose = lose
        self._left_out: set[int] = set()
        self._refused: dict[int, str] = {}  # those of them that the receiver would refuse, and why
        self._present: bytes | None = None
        self._restless = False
        self._whole: list[tuple[int, Template, array[int]]] = []

    def encode(self, batch: Batch) -> Sequence[Fragment]:
        if self._restless or batch.changed or batch.present != self._present:
            self._prepare(batch)
        if self._restless or batch.timestamps_ms is not None:
            fragments = [lane.fill(batch) for lane in self._lanes if lane.samples]
        else:
            stamp, values = batch.timestamp_ms, batch.values
            fragments = [
                Fragment(
                    lane, template.fill(values, slots, stamp), template.raw_bytes, len(slots), stamp, stamp
                )
                for lane, template, slots in self._whole
            ]
        if batch.extras:
            fragments += self._encode_extras(batch.extras)
        if self._refused:
            self._count_refused(batch)
        return self._behind_the_last(fragments, batch) if fragments else fragments

    def _behind_the_last(self, fragments: list[Fragment], batch: Batch) -> Sequence[Fragment]:
        """All that a source sent before its last lane is settled when that lane is."""
        key, usual, newest = self._table.key, self._lanes[0].id, fragments[-1].lane
        last = self._last.get(key, usual)
        if newest != usual:
            self._last[key] = newest
        else:
            self._last.pop(key, None)
        if not batch.changed or last == fragments[0].lane:
            return fragments
        stamp = batch.timestamp_ms
        return [Fragment(last, b"", 0, 0, stamp, stamp), *fragments]

    def _prepare(self, batch: Batch) -> None:
        """Bring the templates up to date with what the batch holds."""
        series = self._table.series
        self._present = None if batch.present is None else bytes(batch.present)
        present = self._present or bytes(one is not None for one in series)
        while len(self._lanes) * LANE_SLOTS < len(series):
            self._lanes.append(_Lane(self._table.key, len(self._lanes)))
        self._left_out.difference_update(batch.changed)
        for slot in batch.changed:
            self._refused.pop(slot, None)
            self._lanes[slot // LANE_SLOTS].change(slot)
        for lane in self._lanes:
            lane.compile(present, self._labels_of)
        self._restless = any(lane.is_restless for lane in self._lanes)
        self._whole = [lane.whole() for lane in self._lanes if lane.samples and not self._restless]

    def _labels_of(self, slot: int) -> bytes | None:
        series = None if slot in self._left_out else self._table.series[slot]
        if series is None:
            return None
        labels = None
        try:
            labels = self._encode_labels(series)
        except RefusedSeriesError as error:
            self._refused[slot] = error.reason
        if labels is None:
            self._left_out.add(slot)
        return labels

    def _count_refused(self, batch: Batch) -> None:
        """Every sample of a refused series, but its stale markers: the receiver has never seen what they end."""
        present, values = batch.present, batch.values
        reasons = Counter(
            reason
            for slot, reason in self._refused.items()
            if (present is None or present[slot]) and not is_stale(values[slot])
        )
        reasons.update(self._refused[extra.slot] for extra in batch.extras if extra.slot in self._refused)
        for reason, samples in reasons.items():
            self._lose(samples, reason)

    def _encode_extras(self, extras: Sequence[Extra]) -> Iterator[Fragment]:
        """Further samples of a series, oldest first, each in a fragment that cannot meet another of its lane."""
        rounds: defaultdict[tuple[int, int], list[tuple[bytes, Extra]]] = defaultdict(list)
        earlier: Counter[int] = Counter()
        for extra in sorted(extras, key=lambda extra: extra.timestamp_ms):
            labels = self._labels_of(extra.slot)
            if labels is not None:
                rounds[extra.slot // LANE_SLOTS, earlier[extra.slot]].append((labels, extra))
                earlier[extra.slot] += 1
        for (lane, _), members in sorted(rounds.items(), key=lambda item: item[0]):
            yield self._lanes[lane].encode_extras(members)


class _Lane:
    """A fixed slice of slots and their compressed templates: one, or several while series of it change.

    A part that changes is halved, and the half that changes again, until it is small; what does not change stays
    together, because that compresses better. Halves that have not changed for some scrapes are one part again.
    """

    def __init__(self, key: str, index: int) -> None:
        digest = hashlib.blake2b(f"{key}\0{index}".encode(), digest_size=8).digest()
        self.id = int.from_bytes(digest, "big")
        self.samples = 0
        self._parts = [_Part(index * LANE_SLOTS, LANE_SLOTS)]
        self._sent: list[_Part] = []

    @property
    def is_restless(self) -> bool:
        """Whether the lane waits for a time without changes."""
        return len(self._parts) > 1

    def change(self, slot: int) -> None:
        """The series at `slot` was decided anew."""
        self._parts[bisect_right(self._parts, slot, key=_start) - 1].changed.add(slot)

    def compile(self, present: bytes, labels_of: LabelsOf) -> None:
        """Compile the parts whose series changed; join those in which nothing has changed for a time."""
        outdated = [part for part in self._parts if part.is_outdated(present)]
        if outdated:
            pieces = [part.remade(present, labels_of) if part in outdated else [part] for part in self._parts]
            self._parts = list(chain.from_iterable(pieces))
        if self.is_restless and any(part.calm_scrapes == CALM_SCRAPES for part in self._parts):
            self._join(present, labels_of)
        self._sent = [part for part in self._parts if part.is_sent]
        self.samples = sum(len(part.slots) for part in self._sent)

    def _join(self, present: bytes, labels_of: LabelsOf) -> None:
        joined: list[tuple[_Part, list[_Part]]] = []
        for part in self._parts:
            joined.append((part, [part]))
            while len(joined) > 1 and (whole := joined[-2][0].joined_with(joined[-1][0])) is not None:
                right, left = joined.pop(), joined.pop()
                joined.append((whole, left[1] + right[1]))
        for whole, halves in joined:
            if len(halves) > 1:
                known = dict(chain.from_iterable(part.labels() for part in halves))
                whole.compile(present, known, labels_of)
        self._parts = [whole for whole, _ in joined]

    def whole(self) -> tuple[int, Template, array[int]]:
        """Id, template and slots of a lane that is one part."""
        return self.id, self._parts[0].template, self._parts[0].slots

    def fill(self, batch: Batch) -> Fragment:
        """The samples of a lane that has some."""
        data = [part.fill(batch) for part in self._sent]
        raw_bytes = sum([part.template.raw_bytes for part in self._sent])
        oldest_ms = newest_ms = batch.timestamp_ms
        if batch.timestamps_ms is not None:
            spans = [part.template.span_ms for part in self._sent]
            oldest_ms, newest_ms = min(span[0] for span in spans), max(span[1] for span in spans)
        joined = data[0] if len(data) == 1 else b"".join(data)
        return Fragment(self.id, joined, raw_bytes, self.samples, oldest_ms, newest_ms)

    def encode_extras(self, members: Sequence[tuple[bytes, Extra]]) -> Fragment:
        template = Template([labels for labels, _ in members])
        values = array("d", (extra.value for _, extra in members))
        stamps = array("q", (extra.timestamp_ms for _, extra in members))
        data = template.fill_each(values, range(len(members)), stamps)
        return Fragment(self.id, data, template.raw_bytes, len(members), min(stamps), max(stamps))


class _Part:
    """Neighbouring slots, and the compressed template of those that carried a sample last time.

    Where all of them are without a sample (the target does not answer), the template stays for when they are back.
    """

    def __init__(self, start: int, width: int) -> None:
        self.start = start
        self.calm_scrapes = 0
        self.template = _NOTHING
        self.slots: array[int] = array("I")
        self.changed: set[int] = set()
        self.is_sent = False
        self._width = width
        self._window = slice(start, start + width)
        self._present = b""

    def is_outdated(self, present: bytes) -> bool:
        here = present[self._window]
        silent = 1 not in here
        self.is_sent = not silent and len(self.slots) > 0
        outdated = bool(self.changed) or (here != self._present and not silent)
        self.calm_scrapes = 0 if outdated else self.calm_scrapes + 1
        return outdated

    def joined_with(self, other: _Part) -> _Part | None:
        """Both as one, not yet compiled, if they are halves of one and have been calm; `other` begins where this ends."""
        are_halves = self._width == other._width and self.start % (2 * self._width) == 0
        calm_scrapes = min(self.calm_scrapes, other.calm_scrapes)
        if not are_halves or calm_scrapes < CALM_SCRAPES:
            return None
        whole = _Part(self.start, 2 * self._width)
        whole.calm_scrapes = calm_scrapes
        return whole

    def labels(self) -> Iterator[tuple[int, bytes]]:
        """What the template still says of the series in it, by slot."""
        known = zip(self.slots, self.template.labels(), strict=True)
        return (entry for entry in known if entry[0] not in self.changed)

    def remade(self, present: bytes, labels_of: LabelsOf) -> list[_Part]:
        """The part, or smaller ones in its place, compiled for what is present now."""
        known = dict(self.labels())
        pieces = self._pieces(present, self.start, self._width) if self.slots else [self]
        for piece in pieces:
            piece.compile(present, known, labels_of)
        return pieces

    def _pieces(self, present: bytes, start: int, width: int) -> list[_Part]:
        """Parts for these slots of this one: halves where something changes, down to a small width."""
        before = self._present[start - self.start : start - self.start + width]
        end = start + width
        is_the_same = before == present[start:end] and not any(start <= slot < end for slot in self.changed)
        if is_the_same or width <= PART_SLOTS:
            return [self if width == self._width else _Part(start, width)]
        half = width // 2
        return self._pieces(present, start, half) + self._pieces(present, start + half, half)

    def compile(self, present: bytes, known: dict[int, bytes], labels_of: LabelsOf) -> None:
        """Make the template; `known` has the labels of slots that have not changed."""
        self._present = present[self._window]
        here = compress(range(self.start, self._window.stop), self._present)
        sent = {slot: labels for slot in here if (labels := known.get(slot) or labels_of(slot)) is not None}
        self.slots = array("I", sent)
        self.template = Template(sent.values())
        self.changed.clear()
        self.is_sent = len(sent) > 0

    def fill(self, batch: Batch) -> bytes:
        if batch.timestamps_ms is None:
            return self.template.fill(batch.values, self.slots, batch.timestamp_ms)
        return self.template.fill_each(batch.values, self.slots, batch.timestamps_ms)


_NOTHING: Final = Template(())
_start: Final = attrgetter("start")
