"""Which samples a workspace takes, and AMP's words for those it does not.

The rules and their order are those of Cortex, on which AMP is built: first what can be said of a series by
itself (labels, age), then the ingestion rate, then what depends on what is stored (limits, order). Words are
those AMP's users report and its troubleshooting page shows. A request of which some samples are refused is
answered with 400 and the first reason, and the others are stored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from cramjam import DecompressionError, snappy

from trunkline.errors import WireError
from trunkline.simulator.gateway.series import ACTIVE_S, Capacity, SeriesMemory, TokenBucket
from trunkline.simulator.gateway.settings import Limits, Workspace
from trunkline.simulator.gateway.write_request import (
    EncodedSeries,
    LabelPairs,
    Metadata,
    Sample,
    decode,
    decode_labels,
    encode_labels,
    key_of,
)

SOURCE_LABEL = "cloud_account_id"
"""Samples are counted by the account this label names; without it, by the account of the caller."""

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_EXPIRE_EVERY_S = 60.0
_MAX_SOURCES = 1000
_OTHER_SOURCES = "other"
_SCHEMAS = range(-4, 9)


class Refusal(NamedTuple):
    """Why something is not taken: `reason` as in AMP's DiscardedSamples, `text` as in the answer."""

    status: int
    reason: str
    text: str


@dataclass(slots=True)
class Verdict:
    """What becomes of a request. `forward` is what to store, compressed; None when that is nothing."""

    forward: bytes | None = None
    refusal: Refusal | None = None
    accepted: Counter[str] = field(default_factory=Counter)
    """Samples taken, by source account."""
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Samples not taken, by source account and reason."""

    def refuse(self, refusal: Refusal, source: str, samples: int = 1) -> None:
        """Count `samples` as refused; the first refusal is the one that is reported."""
        self.refused[source, refusal.reason] += samples
        self.refusal = self.refusal or refusal


@dataclass(slots=True)
class _Candidate:
    """A series that is good in itself, with its samples that are young enough."""

    encoded: EncodedSeries
    key: int
    source: str
    labels: LabelPairs | None
    samples: list[Sample]

    def pairs(self) -> LabelPairs:
        return decode_labels(self.encoded.labels) if self.labels is None else self.labels


class Admission:
    """Judges the writes to one workspace and keeps what that needs: the last sample of every series."""

    def __init__(self, workspace: Workspace, now_s: float) -> None:
        self.memory = SeriesMemory()
        self.metadata: dict[str, list[Metadata]] = {}
        self._sources: dict[str, int] = {}
        self._source_names: list[str] = []
        self._expired_s = now_s
        self.configure(workspace)

    def configure(self, workspace: Workspace) -> None:
        """Take over changed settings; series are kept, rates and capacity start anew."""
        self._tenant = f"{workspace.account}_{workspace.id}"
        self._limits = limits = workspace.limits
        self._label_sets = workspace.label_sets
        self.memory.ungroup()
        self._rate = TokenBucket(limits.samples_per_s, limits.samples_burst)
        self._capacity = Capacity(limits.min_capacity_series, limits.max_active_series)

    def judge(
        self,
        body: bytes,
        caller: str,
        now_s: float,
        refuse_labels: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Decide about a request as sent, and note what is taken of it.

        `caller` is the account samples without `SOURCE_LABEL` are counted for; series that carry all of
        `refuse_labels` are refused whatever they hold.

        Raises:
            WireError: not a compressed WriteRequest; nothing is taken then.
        """
        encoded, metadata = decode(self._decompress(body))
        if now_s - self._expired_s >= _EXPIRE_EVERY_S:
            self._expired_s = now_s
            self.memory.expire(int((now_s - ACTIVE_S) * 1000))
        verdict = Verdict()
        candidates = list(self._candidates(encoded, caller, now_s, refuse_labels or {}, verdict))
        samples = sum(len(candidate.samples) for candidate in candidates)
        if self._limits.whole_requests and verdict.refusal:
            return _nothing(verdict, verdict.refusal, candidates)
        if not self._rate.take(samples, now_s):
            return _nothing(verdict, self._over_rate(samples, len(metadata)), candidates)
        self._keep_metadata(metadata)
        return self._store(body, candidates, now_s, verdict)

    def active_series(self) -> Counter[str]:
        """How many series are active, by source account."""
        counts = self.memory.sources()
        return Counter({source: counts[number] for source, number in self._sources.items() if counts[number]})

    def _decompress(self, body: bytes) -> bytes:
        try:
            size = snappy.decompress_raw_len(body)
            if size > self._limits.max_raw_bytes:
                raise WireError(f"snappy: decoded block of {size} bytes is too large")
            return bytes(snappy.decompress_raw(body))
        except DecompressionError as error:
            raise WireError(str(error)) from error

    def _candidates(
        self,
        encoded: list[EncodedSeries],
        caller: str,
        now_s: float,
        refuse_labels: Mapping[str, str],
        verdict: Verdict,
    ) -> Iterator[_Candidate]:
        oldest_ms = int((now_s - self._limits.max_sample_age_s) * 1000)
        newest_ms = int((now_s + self._limits.max_sample_ahead_s) * 1000)
        for series in encoded:
            candidate = None if refuse_labels else self._known(series)
            if candidate is None:
                pairs = decode_labels(series.labels)
                source = dict(pairs).get(SOURCE_LABEL, caller)
                if refusal := _aimed_at(pairs, refuse_labels) or refused_labels(pairs, self._limits):
                    verdict.refuse(refusal, source, len(series.samples))
                    continue
                candidate = self._new(series, pairs, source)
            _drop_untimely(candidate, oldest_ms, newest_ms, verdict)
            if candidate.samples:
                yield candidate

    def _known(self, series: EncodedSeries) -> _Candidate | None:
        """A series whose labels have been found good before, by their bytes."""
        key = key_of(series.labels)
        slot = self.memory.find(key)
        if slot is None:
            return None
        source = self._source_names[self.memory.source(slot)]
        return _Candidate(series, key, source, None, series.samples)

    def _new(self, series: EncodedSeries, pairs: LabelPairs, source: str) -> _Candidate:
        if source not in self._sources:
            if len(self._sources) >= _MAX_SOURCES:
                source = _OTHER_SOURCES
            self._sources.setdefault(source, len(self._sources))
            self._source_names = list(self._sources)
        return _Candidate(series, key_of(encode_labels(pairs)), source, pairs, series.samples)

    def _over_rate(self, samples: int, metadata: int) -> Refusal:
        return Refusal(
            429,
            "rate_limited",
            f"ingestion rate limit ({self._limits.samples_per_s:g}) exceeded while adding {samples} samples"
            f" and {metadata} metadata",
        )

    def _store(self, body: bytes, candidates: list[_Candidate], now_s: float, verdict: Verdict) -> Verdict:
        capacity = self._capacity.series(len(self.memory), now_s)
        parts = []
        if self._limits.whole_requests:
            self.memory.begin()
        for candidate in candidates:
            kept = self._store_series(candidate, capacity, verdict)
            verdict.accepted[candidate.source] += len(kept)
            parts.append(_encoded(candidate.encoded, kept))
        if self._limits.whole_requests and verdict.refusal:
            self.memory.rollback()
            return _nothing(verdict, verdict.refusal, [])
        self.memory.commit()
        if any(verdict.accepted.values()):
            verdict.forward = body if verdict.refusal is None else bytes(snappy.compress_raw(b"".join(parts)))
        return verdict

    def _store_series(self, candidate: _Candidate, capacity: int, verdict: Verdict) -> list[Sample]:
        slot = self.memory.find(candidate.key)
        if slot is None:
            sets = self._matching_sets(candidate.pairs())
            if refusal := self._refused_series(sets, capacity):
                verdict.refuse(refusal, candidate.source, len(candidate.samples))
                return []
            slot = self.memory.add(candidate.key, self._sources[candidate.source], sets)
        elif not self.memory.has_group(slot):
            self.memory.group(slot, self._matching_sets(candidate.pairs()))
        kept = []
        for sample in candidate.samples:
            if refusal := self._take(slot, sample, candidate):
                verdict.refuse(refusal, candidate.source)
            else:
                kept.append(sample)
        return kept

    def _take(self, slot: int, sample: Sample, candidate: _Candidate) -> Refusal | None:
        """Note a sample as Prometheus' head block would, or say why not."""
        last_ms, last_bits = self.memory.last(slot)
        if sample.timestamp_ms > last_ms:
            self.memory.put(slot, sample.timestamp_ms, sample.bits)
            return None
        if sample.timestamp_ms == last_ms:
            return None if sample.bits == last_bits else self._refused_order("duplicate", sample, candidate)
        window_ms = int(self._limits.out_of_order_window_s * 1000)
        if window_ms == 0 or sample.schema is not None:
            return self._refused_order("unordered", sample, candidate)
        if sample.timestamp_ms < self.memory.newest_ms - window_ms:
            return self._refused_order("late", sample, candidate)
        return None

    def _refused_order(self, kind: str, sample: Sample, candidate: _Candidate) -> Refusal:
        reason, text = _ORDER[kind]
        when = format_timestamp(sample.timestamp_ms)
        return Refusal(
            400,
            reason,
            f"user={self._tenant}: err: {text}. timestamp={when}, series={format_series(candidate.pairs())}",
        )

    def _matching_sets(self, pairs: LabelPairs) -> tuple[int, ...]:
        have = set(pairs)
        named = tuple(
            index
            for index, item in enumerate(self._label_sets)
            if item.labels and have.issuperset(item.labels)
        )
        return named or tuple(index for index, item in enumerate(self._label_sets) if not item.labels)

    def _refused_series(self, label_sets: tuple[int, ...], capacity: int) -> Refusal | None:
        if len(self.memory) >= capacity:
            return self._over_series(capacity)
        for index in label_sets:
            limited = self._label_sets[index]
            if self.memory.in_label_set[index] >= limited.max_series:
                return Refusal(
                    400,
                    "per_labelset_series_limit",
                    f"user={self._tenant}: per-labelset series limit of {limited.max_series} exceeded"
                    f" (labelSet: {format_series(list(limited.labels))}, local limit: 0"
                    f" global limit: {limited.max_series} actual)",
                )
        return None

    def _over_series(self, capacity: int) -> Refusal:
        limit = self._limits.max_active_series
        return Refusal(
            400,
            "per_user_series_limit",
            f"user={self._tenant}: per-user series limit of {limit} exceeded, Capacity from"
            f" {self._limits.min_capacity_series:,} to {limit:,} is automatically adjusted based on the last 30 min"
            f" of usage. If throttled above {limit:,} or in case of incoming surges, please contact administrator"
            f" to raise it. (local limit: 0 global limit: {limit} actual local limit: {capacity})",
        )

    def _keep_metadata(self, metadata: list[Metadata]) -> None:
        """Over the limits samples are kept and metadata is not (AMP's quota page)."""
        limits = self._limits
        for item in metadata:
            if not item.name or len(item.help) + len(item.unit) > limits.max_metadata_bytes:
                continue
            if item.name not in self.metadata and len(self.metadata) >= limits.max_metadata_names:
                continue
            known = self.metadata.setdefault(item.name, [])
            if item not in known and len(known) < _METADATA_PER_NAME:
                known.append(item)


_METADATA_PER_NAME = 10
_ORDER = {
    "duplicate": ("new-value-for-timestamp", "duplicate sample for timestamp"),
    "unordered": ("sample-out-of-order", "out of order sample"),
    "late": ("sample-too-old", "too old sample"),
}


def format_series(pairs: LabelPairs) -> str:
    """A series as Prometheus writes it in its messages."""
    return "{" + ", ".join(f"{name}={_quoted(value)}" for name, value in pairs) + "}"


def format_timestamp(timestamp_ms: int) -> str:
    """RFC 3339 in UTC, without trailing zeros, as Go writes it."""
    try:
        moment = datetime.fromtimestamp(timestamp_ms // 1000, UTC)
    except (OverflowError, ValueError):
        return str(timestamp_ms)
    fraction = f".{timestamp_ms % 1000:03d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def refused_labels(pairs: LabelPairs, limits: Limits) -> Refusal | None:
    """What is wrong with the labels of a series, None when nothing is."""
    return _refused_name(pairs) or _refused_size(pairs, limits) or _refused_label(pairs, limits)


def _aimed_at(pairs: LabelPairs, labels: Mapping[str, str]) -> Refusal | None:
    if not labels or not labels.items() <= dict(pairs).items():
        return None
    name = next(iter(labels))
    return Refusal(400, "label_invalid", f"sample invalid label: {_quoted(name)} metric {_metric(pairs)}")


def _refused_name(pairs: LabelPairs) -> Refusal | None:
    name = _name(pairs)
    if not name:
        return Refusal(400, "missing_metric_name", "sample missing metric name")
    if not _METRIC_NAME.fullmatch(name):
        return Refusal(400, "metric_name_invalid", f"sample invalid metric name: {_quoted(name[:200])}")
    return None


def _refused_size(pairs: LabelPairs, limits: Limits) -> Refusal | None:
    if len(pairs) > limits.max_labels:
        return Refusal(
            400,
            "max_label_names_per_series",
            f"series has too many labels (actual: {len(pairs)}, limit: {limits.max_labels})"
            f" series: '{_name_and_labels(pairs)}'",
        )
    size = sum(len(name.encode()) + len(value.encode()) for name, value in pairs)
    if size > limits.max_label_bytes:
        return Refusal(
            400,
            "labels_size_bytes_exceeded",
            f"labels size bytes exceeded for metric (actual: {size}, limit: {limits.max_label_bytes})"
            f" metric: {_metric(pairs)}",
        )
    return None


def _refused_label(pairs: LabelPairs, limits: Limits) -> Refusal | None:
    previous = ""
    for name, value in pairs:
        if found := _label_fault(name, value, previous, limits):
            reason, text, cause = found
            return Refusal(400, reason, f"{text}: {_quoted(cause[:200])} metric {_metric(pairs)}")
        previous = name
    return None


def _label_fault(name: str, value: str, previous: str, limits: Limits) -> tuple[str, str, str] | None:
    if not value or not _LABEL_NAME.fullmatch(name):
        return "label_invalid", "sample invalid label", name
    if len(name.encode()) > limits.max_label_name_bytes:
        return "label_name_too_long", "label name too long", name
    if len(value.encode()) > limits.max_label_value_bytes:
        return "label_value_too_long", "label value too long", value
    if name == previous:
        return "duplicate_label_names", "duplicate label name", name
    if name < previous:
        return "labels_not_sorted", "labels not sorted", name
    return None


def _name(pairs: LabelPairs) -> str:
    return next((value for label, value in pairs if label == "__name__"), "")


def _name_and_labels(pairs: LabelPairs) -> str:
    """A series with its name in front, labels in the order they came in."""
    return _name(pairs) + format_series([pair for pair in pairs if pair[0] != "__name__"])


def _metric(pairs: LabelPairs) -> str:
    """At most 200 characters of a series, as messages about labels quote it."""
    return _quoted(_name_and_labels(pairs)[:200])


def _drop_untimely(candidate: _Candidate, oldest_ms: int, newest_ms: int, verdict: Verdict) -> None:
    """Leave the samples that are neither too old nor too new, nor histograms of an unknown schema."""
    kept = []
    for sample in candidate.samples:
        if refusal := _refused_sample(sample, oldest_ms, newest_ms, candidate):
            verdict.refuse(refusal, candidate.source)
        else:
            kept.append(sample)
    candidate.samples = kept


def _refused_sample(
    sample: Sample,
    oldest_ms: int,
    newest_ms: int,
    candidate: _Candidate,
) -> Refusal | None:
    if sample.timestamp_ms < oldest_ms:
        reason, text = "greater_than_max_sample_age", f"timestamp too old: {sample.timestamp_ms}"
    elif sample.timestamp_ms > newest_ms:
        reason, text = "too_far_in_future", f"timestamp too new: {sample.timestamp_ms}"
    elif sample.schema is not None and sample.schema not in _SCHEMAS:
        reason, text = "native_histogram_invalid_schema", f"invalid native histogram schema: {sample.schema}"
    else:
        return None
    return Refusal(400, reason, f"{text} metric: {_quoted(_name(candidate.pairs())[:200])}")


def _encoded(encoded: EncodedSeries, kept: list[Sample]) -> bytes:
    if len(kept) == len(encoded.samples):
        return encoded.raw[encoded.span[0] : encoded.span[1]]
    return encoded.with_samples(kept) if kept else b""


def _nothing(verdict: Verdict, refusal: Refusal, candidates: list[_Candidate]) -> Verdict:
    """Take nothing of the request: what was good of it is refused for the same reason as the rest."""
    for candidate in candidates:
        verdict.refused[candidate.source, refusal.reason] += len(candidate.samples)
    for source, samples in verdict.accepted.items():
        verdict.refused[source, refusal.reason] += samples
    verdict.accepted.clear()
    verdict.refusal = refusal
    return verdict
