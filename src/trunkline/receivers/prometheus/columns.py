"""The series of one target, and the columns each scrape makes of them (components.md 5.7 to 5.9)."""

from __future__ import annotations

import logging
import sys
from array import array
from collections.abc import Callable, Iterator
from operator import not_
from typing import Final, NamedTuple
from weakref import WeakMethod

from trunkline.errors import ExpositionError
from trunkline.model import STALE, Batch, Extra, Family, Kind, Labels, Resource, Series, Table, make_labels
from trunkline.receivers.prometheus.rules import SeriesRules, renamed
from trunkline.receivers.prometheus.target import OwnLabels, Target
from trunkline.wire.exposition import DROPPED, Exposed, Parsed
from trunkline.wire.kernel import ExpositionParser, LabelSets, merge_labels
from trunkline.wire.remote_write import decode_labels

log = logging.getLogger(__name__)

_FLIPPED: Final = bytes((1, 0, *bytes(254)))
SYNTHETIC: Final = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
"""What every scrape says of itself, in the first slots of the table."""
EXTRA_SYNTHETIC: Final = ("scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes")
"""What follows them with `extra_scrape_metrics`."""
MOST_AHEAD_MS: Final = 10 * 60 * 1000
"""A sample with a timestamp further in the future is dropped."""
_DURATION: Final = SYNTHETIC.index("scrape_duration_seconds")
_ALL_SYNTHETIC: Final = b"\1" * len(SYNTHETIC)


class _Counts(NamedTuple):
    """What a scrape reports: samples exposed, samples left after relabelling, new series."""

    exposed: int = 0
    kept: int = 0
    added: int = 0


_NOTHING: Final = _Counts()


class ScrapedSeries(Series):
    """A series of a target, whose labels are made when somebody asks.

    `own` are its labels as remote write has them, but for those of `shared`, which the target gives to all of its
    series: one without a value says that this series has none of that name.
    """

    __slots__ = ("own", "shared")

    def __init__(self, own: bytes, shared: bytes, family: Family, resource: Resource) -> None:
        self.own = own
        self.shared = shared
        self.family = family
        self.resource = resource

    @property
    def labels(self) -> Labels:
        return decode_labels(self.encoded)

    @property
    def encoded(self) -> bytes:
        return merge_labels(self.shared, self.own)


class TargetSeries:
    """The series of one target by slot: what is kept of each is its own labels as bytes, and its family."""

    def __init__(self, shared: bytes, resource: Resource) -> None:
        self.labels = LabelSets()
        self._shared = shared
        self._resource = resource
        self._kept: list[Family | Series | None] = []  # a series that was not scraped is kept as it is

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Series | None]:
        return (self[slot] for slot in range(len(self)))

    def __getitem__(self, slot: int) -> Series | None:
        kept = self._kept[slot]
        if not isinstance(kept, Family):
            return kept
        own = self.labels.get(slot)
        assert own is not None
        return ScrapedSeries(own, self._shared, kept, self._resource)

    def __setitem__(self, slot: int, series: Series | None) -> None:
        if isinstance(self._kept[slot], Family):
            self.labels.drop(slot)
        self._kept[slot] = self._keep(slot, series)

    def append(self, series: Series | None) -> None:
        self._kept.append(self._keep(len(self._kept), series))

    def count(self, series: Series | None) -> int:
        return sum(one == series for one in self)

    def family(self, slot: int) -> Family | None:
        """The family of a scraped series."""
        kept = self._kept[slot]
        return kept if isinstance(kept, Family) else None

    def move(self, resource: Resource) -> None:
        """All series are of this resource from now on."""
        self._resource = resource
        self._kept = [
            Series(one.labels, one.family, resource) if isinstance(one, Series) else one for one in self._kept
        ]

    def families(self) -> set[Family]:
        """Those of all scraped series."""
        return {kept for kept in self._kept if isinstance(kept, Family)}

    def _keep(self, slot: int, series: Series | None) -> Family | Series | None:
        if not isinstance(series, ScrapedSeries):
            return series
        self.labels.put(slot, series.own)
        return series.family


class TargetColumns:
    """The series of one target, and the batch each scrape makes of them.

    A series lives from the scrape that first shows it to the one that no longer does: that one still carries its
    stale marker, and `handed_on` then takes its slot back. After a failed scrape everything is stale, yet keeps its
    slot, so that a target which comes back is not decided anew.
    """

    def __init__(self, target: Target, resource: Resource) -> None:
        self._own_labels = OwnLabels(target)
        self._series = TargetSeries(self._own_labels.shared, resource)
        self.table = Table(target.url, target.key, self._series)
        self._resource = resource
        self._set_job(target)
        synthetic = SYNTHETIC + (EXTRA_SYNTHETIC if target.job.extra_metrics else ())
        self._owned = bytearray(len(synthetic))  # 1 at the slots of scraped series
        for name in synthetic:
            self.table.assign(self._synthetic_series(name, target))
        self._synthetic = len(synthetic)
        self._rules = SeriesRules(target)
        decide = self._decide_by_rules if SeriesRules.needed(target.job) else self._decide
        self._parser = ExpositionParser(_weakly(decide), honor_timestamps=target.honor_timestamps)
        self._refused = (
            0  # new series that nobody needs to know, as the scrape exceeds its limit without them
        )
        self._limited = False
        self._ahead = False
        self._counts = _NOTHING
        self._alive = bytearray()
        self._repeats = False
        self._usual: bytes | bytearray | None = None  # where samples are in a scrape that changes nothing
        self._usual_kept = 0
        self._leaving: list[int] = []
        self._fresh: list[int] = []
        self._families: dict[str, Family] = {}

    def renew(self, target: Target) -> None:
        """Go on for a new consumer, which has to look at every series, and a job that decides series as before."""
        self.aim(target)
        self._usual = None  # the next scrape has to be held against the limits
        self._announce()

    def _announce(self) -> None:
        """Let downstream look at every series again."""
        for slot, series in enumerate(self._series):
            if series is not None:
                self.table.replace(slot, series)

    def aim(self, target: Target) -> None:
        """Go on with a target that is somewhere else or has another time-out."""
        self.table.name = target.url
        self._set_job(target)
        if target.attributes != self._resource.attributes:
            self._resource = Resource(target.attributes, self._resource.identity)
            self._series.move(self._resource)
            self._announce()

    def _set_job(self, target: Target) -> None:
        self._job = target.job
        self._timeout_s = target.timeout_s
        self._sample_limit = target.job.sample_limit or sys.maxsize

    def scraped(
        self, body: bytes | bytearray | memoryview, openmetrics: bool, timestamp_s: float
    ) -> tuple[Batch, int]:
        """The batch of a body that was read, and how many samples it exposed.

        Raises ExpositionError for a body that is wrong, or exceeds a limit; `failed` has to be called then.
        """
        if not len(body):  # as after a failure, the series are known again when they come back
            return self._without_samples(timestamp_s, 1, 0), 0
        self._fresh.clear()
        parsed = self._parser.parse(body, openmetrics=openmetrics)
        if bool(parsed.duplicates) is not self._repeats:
            self._say_repeats(parsed.duplicates)
        timestamp_ms = round(timestamp_s * 1000)
        values, present, stamps = parsed.values, parsed.present, parsed.timestamps_ms
        if present == self._usual and stamps is None and not parsed.extras:
            kept = self._usual_kept
        else:
            stamps = self._take_unusual(parsed, timestamp_ms)
            kept = self._usual_kept
        fresh = len(self._fresh)
        self._fresh.clear()
        _report(values, present, 1, parsed.samples, kept + parsed.duplicates, fresh)
        if self._job.extra_metrics:
            self._report_more(values, present, len(body))
        changes = self.table.take_changes()
        return Batch(
            self.table, timestamp_ms, values, changes, present, stamps, parsed.extras
        ), parsed.samples

    def _say_repeats(self, duplicates: int) -> None:
        self._repeats = duplicates > 0
        if self._repeats:
            log.warning(
                "target %s shows %d samples of series that it has shown in the same body already; the first of each "
                "counts",
                self.table.name,
                duplicates,
            )

    def _take_unusual(self, parsed: Parsed, timestamp_ms: int) -> array[int] | None:
        """A body whose series are not those of the last one; returns the column of timestamps, if there is one.

        The next one like it is usual, if then nothing has to be done: every series is there, and has been before.
        """
        self._usual_kept = parsed.present.count(1) + len(parsed.extras)
        self._check_limit(parsed, self._usual_kept + self._refused)
        values, present = _widened(parsed, len(self.table))
        if parsed.timestamps_ms is not None or parsed.extras:
            self._tidy_timestamps(parsed, timestamp_ms)
        shown = bytes(present)
        self._mark_departed(values, present, parsed, timestamp_ms)
        usual = bytes(self._alive) == shown and not self._leaving and parsed.timestamps_ms is None
        self._usual = shown if usual else None
        return _timestamps(parsed, timestamp_ms, len(values))

    def _check_limit(self, parsed: Parsed, counted: int) -> None:
        """Samples count after relabelling, later ones of a series seen already do not. Raises ExpositionError."""
        if counted <= self._sample_limit:
            self._limited = False
            return
        fresh = len(self._fresh) + self._refused
        added = 0 if self._limited else min(fresh, max(0, self._sample_limit - (counted - fresh)))
        self._counts = _Counts(parsed.samples, counted + parsed.duplicates, added)
        self._limited = True
        raise ExpositionError(
            f"sample limit exceeded: {counted} samples, sample_limit is {self._sample_limit}"
        )

    def _tidy_timestamps(self, parsed: Parsed, timestamp_ms: int) -> None:
        """Drop what lies too far in the future, and what repeats a sample of the same series and time."""
        stamps, latest_ms = parsed.timestamps_ms or array("q"), timestamp_ms + MOST_AHEAD_MS
        early = [slot for slot, stamp in enumerate(stamps) if stamp > latest_ms]
        for slot in early:
            parsed.present[slot] = stamps[slot] = 0
        if early:
            self._fresh = [slot for slot in self._fresh if parsed.present[slot]]
        further: dict[tuple[int, int], Extra] = {}
        for extra in parsed.extras:
            if extra.slot >= len(stamps) or stamps[extra.slot] != extra.timestamp_ms:
                further.setdefault((extra.slot, extra.timestamp_ms), extra)
        parsed.extras = [one for one in further.values() if one.timestamp_ms <= latest_ms]
        ahead = bool(early) or len(parsed.extras) < len(further)
        if ahead and not self._ahead:
            log.warning(
                "target %s exposes samples with timestamps more than 10 minutes in the future: they are dropped; set "
                "its clock, or honor_timestamps: false",
                self.table.name,
            )
        self._ahead = ahead

    def failed(self, timestamp_s: float, body_bytes: int = 0) -> Batch:
        """The batch of a scrape that failed: everything the last one showed is stale, `up` is 0.

        `body_bytes` is what is reported as the size of the body: 0 if there was none, -1 if it was too large.
        """
        if self._refused:
            self._parser.forget([DROPPED])
            self._refused = 0
        return self._without_samples(timestamp_s, 0, body_bytes)

    def _without_samples(self, timestamp_s: float, up: int, body_bytes: int) -> Batch:
        counts, self._counts = self._counts, _NOTHING
        # What only a body that failed half-way has shown never was a series.
        self._leaving, self._fresh = self._fresh, []
        values = array("d", bytes(8 * len(self.table)))
        present = bytearray(len(self.table))
        for slot, alive in enumerate(self._alive):
            if alive:
                values[slot] = STALE
                present[slot] = 1
        self._alive = bytearray(len(self.table))
        self._usual = None
        _report(values, present, up, *counts)
        if self._job.extra_metrics:
            self._report_more(values, present, body_bytes)
        return Batch(self.table, round(timestamp_s * 1000), values, self.table.take_changes(), present)

    def ended(self, timestamp_s: float, *, reports: bool) -> Batch:
        """The last batch of all: every series is stale, with `reports` those the scrapes say of themselves, too."""
        present = bytearray(self._alive)
        present.extend(bytes(len(self.table) - len(present)))
        present[: self._synthetic] = (b"\1" if reports else b"\0") * self._synthetic
        self._alive = bytearray(len(self.table))
        self._usual = None
        values = array("d", [STALE]) * len(self.table)
        return Batch(self.table, round(timestamp_s * 1000), values, self.table.take_changes(), present)

    def set_duration(self, batch: Batch, duration_s: float) -> None:
        batch.values[_DURATION] = duration_s

    def handed_on(self) -> None:
        """Take back the slots of series whose stale marker has been handed on."""
        if not self._leaving:
            return
        self._parser.forget(self._leaving)
        for slot in self._leaving:
            self._owned[slot] = 0
            self.table.free(slot)
        self._leaving = []
        if len(self._families) > 2 * len(self._series.labels) + 100:
            self._families = {family.name: family for family in self._series.families()}

    def _decide(self, exposed: Exposed) -> int:
        return self._place(self._own_labels.of(exposed.name, exposed.labels), exposed)

    def _decide_by_rules(self, exposed: Exposed) -> int:
        labels = self._rules.labels(exposed)
        if labels is None:
            return DROPPED
        return self._place(self._own_labels.of_final(labels), renamed(exposed, labels["__name__"]))

    def _place(self, own: bytes, exposed: Exposed) -> int:
        family = self._family(exposed)
        slot = self._series.labels.find(own)
        if slot < 0:
            if len(self._fresh) >= self._sample_limit:
                self._refused += 1
                return DROPPED
            slot = self.table.assign(ScrapedSeries(own, self._own_labels.shared, family, self._resource))
            if slot == len(self._owned):
                self._owned.append(1)
            self._owned[slot] = 1
            self._usual = None
            self._fresh.append(slot)
        elif self._series.family(slot) != family:
            self.table.replace(slot, ScrapedSeries(own, self._own_labels.shared, family, self._resource))
        return slot

    def _family(self, exposed: Exposed) -> Family:
        """The family, the same object for all of its series."""
        _, _, name, kind, unit, help_, _ = exposed
        known = self._families.get(name)
        if known is None or known.help != help_ or known.kind is not kind or known.unit != unit:
            known = self._families[name] = Family(name, kind, unit, help_)
        return known

    def _synthetic_series(self, name: str, target: Target) -> Series:
        labels = make_labels({**target.labels, **target.external_labels, "__name__": name})
        return Series(labels, Family(name, Kind.GAUGE), self._resource)

    def _report_more(self, values: array[float], present: bytearray, body_bytes: int) -> None:
        start = len(SYNTHETIC)
        values[start : self._synthetic] = array("d", [self._timeout_s, self._job.sample_limit, body_bytes])
        present[start : self._synthetic] = b"\1" * len(EXTRA_SYNTHETIC)

    def _mark_departed(
        self, values: array[float], present: bytearray, parsed: Parsed, timestamp_ms: int
    ) -> None:
        """Stale markers for what the last scrape showed and this one does not; their slots leave afterwards.

        A series with timestamps of its own ends without a marker unless they are tracked; one that has begun to have
        some gets its marker now, beside its sample.
        """
        before = self._alive + bytes(len(present) - len(self._alive))
        self._alive = bytearray(present)
        if parsed.timestamps_ms is not None and not self._job.track_timestamps:
            self._alive = _both(self._alive, _zeros(parsed.timestamps_ms))
            for slot in _only_in(_both(before, present), self._alive):
                if parsed.timestamps_ms[slot] < timestamp_ms:
                    parsed.extras.append(Extra(slot, STALE, timestamp_ms))
        if len(self._series.labels) == present.count(1):
            return
        for slot in _only_in(self._owned, present):
            self._leaving.append(slot)
            if before[slot]:
                values[slot] = STALE
                present[slot] = 1


def _weakly(decide: Callable[[Exposed], int]) -> Callable[[Exposed], int]:
    """The method without a reference back to its owner, whose memory then goes with it, not with the next collection."""
    method = WeakMethod(decide)

    def asked(exposed: Exposed) -> int:
        bound = method()
        assert bound is not None
        return bound(exposed)

    return asked


def _report(values: array[float], present: bytearray, up: int, scraped: int, kept: int, added: int) -> None:
    """What a scrape says of itself, but for how long it took."""
    values[0], values[_DURATION], values[2], values[3], values[4] = up, 0.0, scraped, kept, added
    present[: len(SYNTHETIC)] = _ALL_SYNTHETIC


def _widened(parsed: Parsed, length: int) -> tuple[array[float], bytearray]:
    """The columns of a body, which nobody else uses, made as long as the table."""
    missing = length - len(parsed.values)
    parsed.values.frombytes(bytes(8 * missing))
    parsed.present.extend(bytes(missing))
    return parsed.values, parsed.present


def _both(left: bytearray, right: bytes | bytearray) -> bytearray:
    """Where both columns are 1, as long as the first; at the speed of long integers."""
    both = int.from_bytes(left, "little") & int.from_bytes(right, "little")
    return bytearray(both.to_bytes(len(left), "little"))


def _zeros(column: array[int]) -> bytes:
    """1 where the column is 0."""
    return bytes(map(not_, column))


def _only_in(owned: bytearray, present: bytearray) -> Iterator[int]:
    """Where `owned` is 1 and `present` is not, ascending; almost always few."""
    return _ones(_both(owned, present.translate(_FLIPPED)))


def _ones(column: bytes | bytearray) -> Iterator[int]:
    """Where the column is 1, ascending; costs something only for those."""
    slot = column.find(1)
    while slot >= 0:
        yield slot
        slot = column.find(1, slot + 1)


def _timestamps(parsed: Parsed, timestamp_ms: int, length: int) -> array[int] | None:
    """The column of timestamps, which nobody else uses, with the scrape's where a sample has none of its own."""
    column = parsed.timestamps_ms
    if column is not None:
        for slot in _ones(_zeros(column)):
            column[slot] = timestamp_ms
        column.extend([timestamp_ms] * (length - len(column)))
    return column
