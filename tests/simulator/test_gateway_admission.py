"""The rules of a workspace and their words, in virtual time and without a process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from cramjam import snappy
from tests.simulator.gateway_stand_in import Labels, block, compressed, metadata, named, series, varint

from trunkline.errors import WireError
from trunkline.model import NAN, STALE
from trunkline.simulator.gateway.admission import Admission, Verdict
from trunkline.simulator.gateway.settings import LabelSetLimit, Limits, Workspace
from trunkline.simulator.gateway.write_request import decode

NOW_S = 1_700_000_000.0
NOW = int(NOW_S * 1000)
TENANT = "user=111111111111_ws-1: "


def admission(*, label_sets: tuple[LabelSetLimit, ...] = (), **limits: Any) -> Admission:
    workspace = Workspace("ws-1", "111111111111", "eu-west-1", "", Limits(**limits), label_sets)
    return Admission(workspace, NOW_S)


def judge(rules: Admission, *fields: bytes, now_s: float = NOW_S) -> Verdict:
    return rules.judge(compressed(*fields), "222222222222", now_s)


def write(rules: Admission, labels: Labels, *samples: tuple[float, int], now_s: float = NOW_S) -> Verdict:
    return judge(rules, series(labels, samples), now_s=now_s)


def check_refused(verdict: Verdict, reason: str, text: str, status: int = 400, samples: int = 1) -> None:
    assert verdict.refusal == (status, reason, text)
    assert verdict.refused.total() == samples


def check_labels(labels: Labels, reason: str, text: str, **limits: Any) -> None:
    verdict = write(admission(**limits), labels, (1.0, NOW))
    check_refused(verdict, reason, text)
    assert verdict.forward is None


def forwarded(verdict: Verdict) -> list[tuple[bytes, list[int]]]:
    assert verdict.forward is not None
    found, _ = decode(bytes(snappy.decompress_raw(verdict.forward)))
    return [(item.labels, [sample.timestamp_ms for sample in item.samples]) for item in found]


def test_good_request_is_forwarded_byte_for_byte() -> None:
    body = compressed(series(named("a", x="1"), [(1.0, NOW)]), series(named("b"), [(0.0, NOW)]))
    verdict = admission().judge(body, "222222222222", NOW_S)
    assert verdict.forward is body
    assert verdict.refusal is None
    assert verdict.accepted == {"222222222222": 2}


def test_labels_are_checked() -> None:
    check_labels([("x", "1")], "missing_metric_name", "sample missing metric name")
    check_labels(named("a-b"), "metric_name_invalid", 'sample invalid metric name: "a-b"')
    check_labels(
        [("__name__", "a"), ("1x", "1")], "label_invalid", 'sample invalid label: "1x" metric "a{1x=\\"1\\"}"'
    )
    check_labels(
        [("__name__", "a"), ("x", "")], "label_invalid", 'sample invalid label: "x" metric "a{x=\\"\\"}"'
    )
    check_labels(
        [("__name__", "a"), ("y", "1"), ("x", "2")],
        "labels_not_sorted",
        'labels not sorted: "x" metric "a{y=\\"1\\", x=\\"2\\"}"',
    )
    check_labels(
        [("__name__", "a"), ("x", "1"), ("x", "1")],
        "duplicate_label_names",
        'duplicate label name: "x" metric "a{x=\\"1\\", x=\\"1\\"}"',
    )


def test_label_limits() -> None:
    check_labels(
        named("a", x="1", y="2"),
        "max_label_names_per_series",
        'series has too many labels (actual: 3, limit: 2) series: \'a{x="1", y="2"}\'',
        max_labels=2,
    )
    check_labels(
        named("a", x="12345"),
        "labels_size_bytes_exceeded",
        'labels size bytes exceeded for metric (actual: 15, limit: 14) metric: "a{x=\\"12345\\"}"',
        max_label_bytes=14,
    )
    check_labels(
        named("a", abcdefghi="1"),
        "label_name_too_long",
        'label name too long: "abcdefghi" metric "a{abcdefghi=\\"1\\"}"',
        max_label_name_bytes=8,
    )
    check_labels(
        named("a", x="12345"),
        "label_value_too_long",
        'label value too long: "12345" metric "a{x=\\"12345\\"}"',
        max_label_value_bytes=4,
    )


def test_age() -> None:
    rules = admission()
    assert write(rules, named("a"), (1.0, NOW - 3_600_000)).refusal is None
    check_refused(
        write(rules, named("b"), (1.0, NOW - 3_600_001)),
        "greater_than_max_sample_age",
        f'timestamp too old: {NOW - 3_600_001} metric: "b"',
    )
    assert write(rules, named("c"), (1.0, NOW + 600_000)).refusal is None
    check_refused(
        write(rules, named("d"), (1.0, NOW + 600_001)),
        "too_far_in_future",
        f'timestamp too new: {NOW + 600_001} metric: "d"',
    )


def test_same_timestamp() -> None:
    rules = admission()
    write(rules, named("a", x="1"), (1.0, NOW))
    assert write(rules, named("a", x="1"), (1.0, NOW)).forward is not None
    check_refused(
        write(rules, named("a", x="1"), (2.0, NOW)),
        "new-value-for-timestamp",
        f"{TENANT}err: duplicate sample for timestamp. timestamp=2023-11-14T22:13:20Z,"
        ' series={__name__="a", x="1"}',
    )


def test_values_are_compared_bit_for_bit() -> None:
    rules = admission()
    write(rules, named("a"), (STALE, NOW))
    assert write(rules, named("a"), (STALE, NOW)).refusal is None
    assert write(rules, named("a"), (NAN, NOW)).refusal is not None
    write(rules, named("z"), (0.0, NOW))
    assert write(rules, named("z"), (-0.0, NOW)).refusal is not None


def test_order_with_a_window() -> None:
    rules = admission()
    write(rules, named("newest"), (1.0, NOW))
    write(rules, named("a"), (1.0, NOW - 50_000))
    assert write(rules, named("a"), (1.0, NOW - 60_000)).refusal is None
    check_refused(
        write(rules, named("a"), (1.0, NOW - 60_001)),
        "sample-too-old",
        f'{TENANT}err: too old sample. timestamp=2023-11-14T22:12:19.999Z, series={{__name__="a"}}',
    )
    # A series without samples may start anywhere within the permitted age.
    assert write(rules, named("b"), (1.0, NOW - 3_000_000)).refusal is None


def test_order_without_a_window() -> None:
    rules = admission(out_of_order_window_s=0.0)
    write(rules, named("a"), (1.0, NOW))
    check_refused(
        write(rules, named("a"), (1.0, NOW - 10)),
        "sample-out-of-order",
        f'{TENANT}err: out of order sample. timestamp=2023-11-14T22:13:19.99Z, series={{__name__="a"}}',
    )


def test_the_good_part_of_a_request_is_stored() -> None:
    rules = admission()
    verdict = judge(
        rules,
        series(named("a"), [(1.0, NOW - 4_000_000), (2.0, NOW), (3.0, NOW), (4.0, NOW + 1)]),
        series([("x", "no name")], [(1.0, NOW)]),
        series(named("b"), [(1.0, NOW)]),
    )
    assert [stamps for _, stamps in forwarded(verdict)] == [[NOW, NOW + 1], [NOW]]
    assert verdict.accepted == {"222222222222": 3}
    assert {reason: number for (_, reason), number in verdict.refused.items()} == {
        "greater_than_max_sample_age": 1,
        "missing_metric_name": 1,
        "new-value-for-timestamp": 1,
    }
    assert verdict.refusal is not None
    assert verdict.refusal.reason == "greater_than_max_sample_age"


def test_whole_requests_leave_no_trace() -> None:
    rules = admission(whole_requests=True)
    write(rules, named("a"), (1.0, NOW))
    verdict = judge(
        rules,
        series(named("new"), [(1.0, NOW + 5)]),
        series(named("a"), [(2.0, NOW + 5)]),
        series(named("a"), [(3.0, NOW + 5)]),
    )
    assert verdict.forward is None
    assert not verdict.accepted
    assert verdict.refused == {("222222222222", "new-value-for-timestamp"): 3}
    assert len(rules.memory) == 1
    assert rules.memory.newest_ms == NOW
    assert write(rules, named("a"), (9.0, NOW + 5)).refusal is None


def test_ingestion_rate() -> None:
    rules = admission(samples_per_s=10.0, samples_burst=3.0)
    assert write(rules, named("a"), (1.0, NOW), (1.0, NOW + 1)).refusal is None
    verdict = judge(rules, series(named("a"), [(1.0, NOW + 2), (1.0, NOW + 3)]), metadata("a", 2, "A."))
    check_refused(
        verdict,
        "rate_limited",
        "ingestion rate limit (10) exceeded while adding 2 samples and 1 metadata",
        status=429,
        samples=2,
    )
    assert verdict.forward is None
    assert not rules.metadata
    again = write(rules, named("a"), (1.0, NOW + 2), (1.0, NOW + 3), now_s=NOW_S + 0.2)
    assert again.refusal is None


def test_active_series_limit_and_expiry() -> None:
    rules = admission(max_active_series=2, min_capacity_series=2)
    judge(rules, series(named("a"), [(1.0, NOW)]), series(named("b"), [(1.0, NOW)]))
    verdict = judge(rules, series(named("c"), [(1.0, NOW)]), series(named("a"), [(2.0, NOW + 1)]))
    assert verdict.refusal is not None
    assert verdict.refusal.status == 400
    assert verdict.refusal.reason == "per_user_series_limit"
    assert verdict.refusal.text.startswith(
        f"{TENANT}per-user series limit of 2 exceeded, Capacity from 2 to 2 is"
    )
    assert [stamps for _, stamps in forwarded(verdict)] == [[NOW + 1]]
    later_s = NOW_S + 2 * 3600 + 1
    assert write(rules, named("c"), (1.0, int(later_s * 1000)), now_s=later_s).refusal is None
    assert len(rules.memory) == 1


def test_label_set_limits() -> None:
    sets = (
        LabelSetLimit((("cloud_account_id", "222222222222"),), 1),
        LabelSetLimit((), 1),
    )
    rules = admission(label_sets=sets)
    assert write(rules, named("a", cloud_account_id="222222222222"), (1.0, NOW)).refusal is None
    check_refused(
        write(rules, named("b", cloud_account_id="222222222222"), (1.0, NOW)),
        "per_labelset_series_limit",
        f'{TENANT}per-labelset series limit of 1 exceeded (labelSet: {{cloud_account_id="222222222222"}},'
        " local limit: 0 global limit: 1 actual)",
    )
    assert write(rules, named("a", cloud_account_id="333333333333"), (1.0, NOW)).refusal is None
    assert write(rules, named("b", cloud_account_id="333333333333"), (1.0, NOW)).refusal is not None


def test_label_sets_changed_later_count_what_is_there() -> None:
    rules = admission()
    write(rules, named("a", team="x"), (1.0, NOW))
    rules.configure(
        Workspace("ws-1", "1", "eu-west-1", "", label_sets=(LabelSetLimit((("team", "x"),), 1),)),
    )
    assert write(rules, named("a", team="x"), (1.0, NOW + 1)).refusal is None
    assert write(rules, named("b", team="x"), (1.0, NOW + 1)).refusal is not None


def test_sources_are_counted_apart() -> None:
    rules = admission()
    verdict = judge(
        rules,
        series(named("a", cloud_account_id="333333333333"), [(1.0, NOW), (1.0, NOW)]),
        series(named("a"), [(1.0, NOW)]),
        series(named("b", cloud_account_id="333333333333"), [(1.0, 0)]),
    )
    assert verdict.accepted == {"333333333333": 2, "222222222222": 1}
    assert verdict.refused == {("333333333333", "greater_than_max_sample_age"): 1}
    assert rules.active_series() == {"333333333333": 1, "222222222222": 1}


def test_a_series_aimed_at_is_refused() -> None:
    rules = admission()
    body = compressed(series(named("a", x="1"), [(1.0, NOW)]), series(named("a", x="2"), [(1.0, NOW)]))
    verdict = rules.judge(body, "222222222222", NOW_S, {"x": "2"})
    assert verdict.refusal == (400, "label_invalid", 'sample invalid label: "x" metric "a{x=\\"2\\"}"')
    assert verdict.accepted.total() == 1


def test_metadata_is_kept_within_its_limits() -> None:
    rules = admission(max_metadata_names=1)
    judge(rules, metadata("a", 1, "Counts."), metadata("b", 2, "Too many."), metadata("a", 1, "Counts."))
    judge(rules, metadata("a", 2, "x" * 1025))
    assert {name: [tuple(item) for item in items] for name, items in rules.metadata.items()} == {
        "a": [("a", "counter", "Counts.", "")],
    }


def test_another_encoding_of_the_same_series_is_the_same_series() -> None:
    rules = admission()
    write(rules, named("a"), (1.0, NOW))
    # Lengths of label and name written with a needless byte.
    sample = series([], [(2.0, NOW)])[2:]
    label = b"\x0a\x8e\x00" + b"\x0a\x88\x00__name__\x12\x01a"
    body = label + sample
    verdict = judge(rules, b"\x0a" + bytes([len(body)]) + body)
    assert verdict.refusal is not None
    assert verdict.refusal.reason == "new-value-for-timestamp"


@pytest.mark.parametrize(
    "body",
    [b"", b"no snappy", b"\xff\xff\xff\xff\x0f\x00", compressed(b"\x0a\x05\x0a"), compressed(b"\x0b")],
)
def test_what_is_no_request_is_told_so(body: bytes) -> None:
    with pytest.raises(WireError):
        admission().judge(body, "1", NOW_S)


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(WireError, match="decoded block of 20000000 bytes is too large"):
        admission().judge(bytes(snappy.compress_raw(bytes(20_000_000))), "1", NOW_S)


def check_histogram(schema: int, stamps: Sequence[int], refused: str | None) -> None:
    zigzag = (schema << 1) ^ (schema >> 63)
    histograms = [block(4, b"\x20" + varint(zigzag) + b"\x78" + varint(stamp)) for stamp in stamps]
    labels = block(1, block(1, b"__name__") + block(2, b"h"))
    verdict = judge(admission(), block(1, labels + b"".join(histograms)))
    assert (verdict.refusal.reason if verdict.refusal else None) == refused


def test_native_histograms() -> None:
    check_histogram(3, [NOW], None)
    check_histogram(-4, [NOW], None)
    check_histogram(-53, [NOW], "native_histogram_invalid_schema")
    check_histogram(9, [NOW], "native_histogram_invalid_schema")
    check_histogram(0, [NOW, NOW - 1], "sample-out-of-order")
