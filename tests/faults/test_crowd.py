"""A tally of a crowd finds what no honest collector sends, and what is missing."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import cramjam
from faults.crowd import SERIES_MOST, Crowd, Tally
from faults.endpoint import Answer, Mode
from faults.samples import STALE

T0 = 1_800_000_000_000


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + varint(len(content)) + content


def series(labels: dict[str, str], value: bytes, stamp: int) -> bytes:
    encoded = [
        field(0x0A, field(0x0A, k.encode()) + field(0x12, v.encode())) for k, v in sorted(labels.items())
    ]
    return field(0x0A, b"".join(encoded) + field(0x12, b"\x09" + value + b"\x10" + varint(stamp)))


def load(number: int, scrape: int, stamp: int) -> bytes:
    value = struct.pack("<d", scrape * SERIES_MOST + number)
    labels = {
        "__name__": "faults_load",
        "instance": "127.0.0.1:1",
        "job": "faults",
        "series": f"{number:06d}",
    }
    return series(labels, value, stamp)


def up(value: float, stamp: int) -> bytes:
    return series(
        {"__name__": "up", "instance": "127.0.0.1:1", "job": "faults"}, struct.pack("<d", value), stamp
    )


def take(tally: Tally, parts: Sequence[bytes], mode: Mode | None = None) -> Answer:
    return tally.take(bytes(cramjam.snappy.compress_raw(b"".join(parts))), mode or Mode())


def crowd_of(scrapes: int) -> Crowd:
    crowd = Crowd(1, 3)
    crowd.all[0].address = "127.0.0.1:1"
    crowd.all[0].served = [(T0 + 1000 * number) / 1000 for number in range(1, scrapes + 1)]
    return crowd


def filled(scrapes: int, without: Sequence[tuple[int, int]] = ()) -> Tally:
    """All of `scrapes` but some (number of the scrape, of the series)."""
    tally = Tally(crowd_of(scrapes))
    for scrape in range(1, scrapes + 1):
        stamp = T0 + 1000 * scrape
        take(tally, [load(n, scrape, stamp) for n in range(3) if (scrape, n) not in without] + [up(1, stamp)])
    return tally


def test_everything_is_there() -> None:
    tally = filled(4)
    balance = tally.reconcile(())
    assert (balance.scraped, balance.stored, balance.missing, balance.wrong) == (12, 12, 0, 0)
    assert (tally.samples, tally.reports, tally.repeated) == (12, 4, 0)
    assert not list(balance.disagreements())
    assert not tally.violations


def test_what_is_missing_is_counted_and_a_kill_is_forgiven() -> None:
    assert filled(4, [(2, 1)]).reconcile(()).missing == 1
    assert filled(4, [(4, 1), (4, 2)]).reconcile(()).missing == 2
    balance = filled(4, [(2, 1), (3, 0)]).reconcile({("127.0.0.1:1", 2)})
    assert (balance.cut_off, balance.missing) == (1, 1)


def test_a_failed_scrape_explains_a_whole_one_only() -> None:
    whole = filled(4, [(3, 0), (3, 1), (3, 2)])
    take(whole, [up(0, T0 + 3001)])
    assert (whole.reconcile(()).failed, whole.reconcile(()).missing) == (0, 3)  # it was asked for before that
    whole = filled(4, [(3, 0), (3, 1), (3, 2)])
    whole.failed_ms["127.0.0.1:1"].append(T0 + 3000)
    assert (whole.reconcile(()).failed, whole.reconcile(()).missing) == (3, 0)
    part = filled(4, [(3, 0), (3, 1)])
    part.failed_ms["127.0.0.1:1"].append(T0 + 3000)
    assert part.reconcile(()).missing == 2


def test_a_request_that_comes_again_counts_once() -> None:
    tally = filled(2)
    assert take(tally, [load(0, 2, T0 + 2000), up(1, T0 + 2000)]).status == 200
    assert (tally.samples, tally.reports, tally.repeated) == (6, 2, 2)
    assert not tally.violations


def test_order_values_and_timestamps_are_checked() -> None:
    tally = filled(3)
    assert take(tally, [load(0, 2, T0 + 2000)]).status == 400
    assert take(tally, [load(0, 4, T0 + 2500)]).status == 400
    assert (
        take(tally, [series({"job": "x", "series": "000001"}, struct.pack("<d", 4e6), T0 + 4000)]).status
        == 400
    )
    assert len(tally.violations) == 3
    take(tally, [load(0, 4, T0 + 4000), load(0, 5, T0 + 5000)])
    assert "two samples" in tally.violations[-1]


def test_series_of_a_target_have_its_timestamps() -> None:
    tally = filled(1)
    take(tally, [load(0, 2, T0 + 2000), load(1, 2, T0 + 2000), load(2, 2, T0 + 2001)])
    [found] = tally.reconcile(()).disagreements()
    assert "timestamps" in found


def test_stale_markers_are_no_samples() -> None:
    tally = filled(1)
    take(tally, [series({"job": "faults", "series": "000001"}, STALE, T0 + 1500)])
    assert (tally.samples, tally.stale) == (3, 1)


def test_what_is_too_large_or_poisoned_is_not_stored() -> None:
    tally = filled(1)
    assert take(tally, [load(0, 2, T0 + 2000), load(1, 2, T0 + 2000)], Mode(max_samples=1)).status == 413
    tally.poisoned.add(b"000001")
    assert take(tally, [load(0, 2, T0 + 2000), load(1, 2, T0 + 2000)]).status == 500
    assert tally.samples == 3


def test_a_scrape_of_which_nothing_is_stored_can_be_told() -> None:
    tally = filled(3, [(3, 0), (3, 1), (3, 2)])
    [target] = tally._crowd.all
    assert [tally.lacks(target, scrape) for scrape in (1, 2, 3)] == [False, False, True]
    assert tally.reconcile({(target.address, 3)}).missing == 0
    assert not filled(3, [(3, 1)]).lacks(target, 3)
