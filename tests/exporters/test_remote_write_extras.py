"""What travels beside the samples: target_info and metadata, through the queue's own machinery."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trunkline.collector.queue import DiskQueue
from trunkline.component.contract import Fragment, Limits
from trunkline.component.translation import TARGET_INFO
from trunkline.exporters.prometheusremotewrite import RemoteWriteConfig
from trunkline.exporters.prometheusremotewrite.config import CreatedMetricConfig
from trunkline.exporters.prometheusremotewrite.encoder import SourceEncoder
from trunkline.exporters.prometheusremotewrite.labels import final_labels
from trunkline.exporters.prometheusremotewrite.metadata import RESEND_S, Announcements, WithMetadata
from trunkline.exporters.prometheusremotewrite.target_info import WithTargetInfo
from trunkline.model import STALE, Batch, Family, Kind, Resource, Series, Table, is_stale, make_labels
from trunkline.wire import template
from trunkline.wire.kernel import encode_labels
from trunkline.wire.remote_write import FamilyMetadata, WriteRequest, decode_write_request
from trunkline.wire.snappy import decompress

URL = "http://127.0.0.1:9/write"
RESOURCE = Resource({"service.name": "app", "service.instance.id": "h:80", "server.port": "80"})


def settings(**changes: Any) -> RemoteWriteConfig:
    return RemoteWriteConfig(endpoint=URL, **changes)


def samples_of(config: RemoteWriteConfig) -> Callable[[Table], SourceEncoder]:
    def encoded(series: Series) -> bytes:
        return encode_labels(final_labels(series, config) or ())

    return lambda table: SourceEncoder(table, encoded, {}, lambda _samples, _reason: None)


def decoded(fragments: Sequence[Fragment]) -> WriteRequest:
    raw = decompress(template.join((one.data, one.raw_bytes) for one in fragments), 10_000_000)
    assert len(raw) == sum(fragment.raw_bytes for fragment in fragments)
    return decode_write_request(raw)


class Target:
    """A target whose batches go through an encoder."""

    def __init__(self, *names: str, resource: Resource = RESOURCE) -> None:
        self.table = Table("http://h:80/metrics")
        for name in names:
            self.add(name, resource)

    def add(self, name: str, resource: Resource = RESOURCE) -> None:
        family = Family(name, Kind.COUNTER, help=f"About {name}.")
        self.table.assign(Series(make_labels({"__name__": name}), family, resource))

    def batch(self, stamp: int, value: float = 1.0) -> Batch:
        values = array("d", [value]) * len(self.table)
        return Batch(self.table, stamp, values, self.table.take_changes())


def test_target_info_goes_with_the_samples_and_ends_with_them() -> None:
    config = settings(translate_scraped_names=True)
    target = Target("hits_total")
    encoder = WithTargetInfo(target.table, config.translation, samples_of(config))

    def infos(batch: Batch) -> list[tuple[float, int]]:
        series = decoded(encoder.encode(batch)).series
        return [
            (sample.value, sample.timestamp_ms)
            for one in series
            for sample in one.samples
            if dict(one.labels)["__name__"] == "target_info"
        ]

    assert infos(target.batch(1000)) == [(1.0, 1000)]
    assert infos(target.batch(2000)) == [(1.0, 2000)]
    [(gone, stamp)] = infos(target.batch(3000, STALE))
    assert is_stale(gone)
    assert stamp == 3000
    moved = Resource({**RESOURCE.attributes, "server.port": "81"})
    target.table.replace(0, Series(make_labels({"__name__": "hits_total"}), Family("hits_total"), moved))
    both = infos(target.batch(4000))
    assert sorted(is_stale(value) for value, _ in both) == [False, True]
    assert infos(target.batch(5000)) == [(1.0, 5000)]


def test_without_the_switch_scraped_targets_have_no_target_info() -> None:
    config = settings()
    target = Target("hits_total")
    encoder = WithTargetInfo(target.table, config.translation, samples_of(config))
    assert len(decoded(encoder.encode(target.batch(1000))).series) == 1


def test_target_info_keeps_its_labels() -> None:
    resource = Resource({**RESOURCE.attributes, "a..b": "c"}, {"task": "t"})
    config = settings(translate_scraped_names=True, namespace="n", external_labels={"env": "test"})
    labels = config.translation.target_info(resource)
    assert labels is not None
    assert dict(labels)["env"] == "test"
    assert final_labels(Series(labels, TARGET_INFO, Resource()), config) == labels


def test_metadata_are_sent_when_new_and_again_after_a_while() -> None:
    config = settings(namespace="n", send_metadata=True)
    now = [0.0]
    target = Target("a_total", "b_total")
    announcements = Announcements(config.translation, lambda: now[0])
    encoder = WithMetadata(target.table, announcements, samples_of(config)(target.table))

    def told(batch: Batch) -> list[FamilyMetadata]:
        request = decoded(encoder.encode(batch))
        assert len(request.series) == len(target.table)
        return request.metadata

    about_a = FamilyMetadata("n_a_total", Kind.COUNTER, "About a_total.")
    about_b = FamilyMetadata("n_b_total", Kind.COUNTER, "About b_total.")
    assert told(target.batch(1000)) == [about_a, about_b]
    assert told(target.batch(2000)) == []
    target.add("c_total")
    assert [one.family for one in told(target.batch(3000))] == ["n_c_total"]
    other = Target("a_total")
    again = WithMetadata(other.table, announcements, samples_of(config)(other.table))
    assert decoded(again.encode(other.batch(3000))).metadata == []
    now[0] = RESEND_S + 1
    assert len(told(target.batch(4000))) == 3
    assert told(target.batch(5000)) == []


def test_families_that_come_and_go_are_forgotten() -> None:
    now = [0.0]
    announcements = Announcements(settings().translation, lambda: now[0])
    lasting = Family("lasting", Kind.GAUGE)
    for number in range(100):
        announcements.news([lasting, Family(f"f{number}", Kind.GAUGE)])
        now[0] += RESEND_S
    assert announcements.known < 10
    assert announcements.news([lasting]) != []
    assert announcements.news([lasting]) == []


def test_many_families_are_told_in_fragments_of_their_own_lanes(tmp_path: Path) -> None:
    config = settings(send_metadata=True)
    target = Target(*(f"family_{number}_total" for number in range(700)))
    encoder = WithMetadata(target.table, Announcements(config.translation), samples_of(config)(target.table))
    fragments = list(encoder.encode(target.batch(1000)))
    assert len({fragment.lane for fragment in fragments}) == len(fragments)
    assert sum(fragment.samples for fragment in fragments) == 700
    queue = DiskQueue(tmp_path, lambda *_: None)
    try:
        assert queue.append(fragments) == 700
        found = []
        while chunk := queue.take(Limits(max_samples=100)):
            found += decoded(chunk.fragments).metadata
            queue.settle(chunk)
        assert len({one.family for one in found}) == 700
        assert queue.samples == 0
    finally:
        queue.close()


def test_created_series_are_left_out_where_upstream_makes_none() -> None:
    series = Series(make_labels({"__name__": "x_created"}), Family("x_total", Kind.COUNTER), RESOURCE)

    def name(**changes: Any) -> str | None:
        labels = final_labels(series, settings(**changes))
        return dict(labels)["__name__"] if labels is not None else None

    assert name() == "x_created"
    assert name(translate_scraped_names=True) is None
    asked = CreatedMetricConfig(enabled=True)
    assert name(translate_scraped_names=True, export_created_metric=asked) == "x_total_created"
