"""Durations and sizes, as Go and Prometheus read them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.quantities import (
    format_go_duration,
    format_prometheus_duration,
    format_size,
    parse_go_duration,
    parse_prometheus_duration,
    parse_size,
)


def refusal(parse: Callable[[str], float], text: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    return str(caught.value)


def test_go_durations() -> None:
    def check(text: str, seconds: float) -> None:
        assert parse_go_duration(text) == seconds

    check("0", 0)
    check("-0", 0)
    check("1h30m", 5400)
    check("1.5s", 1.5)
    check(".5s", 0.5)
    check("1.s", 1)
    check("250ms", 0.25)
    check("3us", 3e-6)
    check("3µs", 3e-6)
    check("3μs", 3e-6)
    check("1ns", 1e-9)
    check("-1m", -60)
    check("+5s", 5)
    check("0.100000000000000000000s", 0.1)
    check("9223372036854775807ns", 9223372036.854775807)


def test_go_durations_that_are_refused() -> None:
    def check(text: str, expected: str) -> None:
        assert refusal(parse_go_duration, text) == expected

    check("", 'time: invalid duration ""')
    check("-", 'time: invalid duration "-"')
    check("s", 'time: invalid duration "s"')
    check(".s", 'time: invalid duration ".s"')
    check("3", 'time: missing unit in duration "3"')
    check("1d", 'time: unknown unit "d" in duration "1d"')
    check("1 s", 'time: unknown unit " s" in duration "1 s"')
    check("٣s", 'time: invalid duration "٣s"')
    check("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"')
    check("1" * 5000 + "s", f'time: invalid duration "{"1" * 5000}s"')


def test_prometheus_durations() -> None:
    def check(text: str, seconds: float) -> None:
        assert parse_prometheus_duration(text) == seconds

    check("0", 0)
    check("15s", 15)
    check("1d12h", 129_600)
    check("1y", 365 * 86_400)
    check("2w", 14 * 86_400)
    check("1m500ms", 60.5)
    for text in ("1.5s", "1s1m", "15", "1us", "-1s", " 1s", "1s\n"):
        assert refusal(parse_prometheus_duration, text) == f'not a valid duration string: "{text}"'
    assert refusal(parse_prometheus_duration, "") == "empty duration string"
    assert refusal(parse_prometheus_duration, "300y") == "duration out of range"
    assert refusal(parse_prometheus_duration, "9" * 5000 + "s") == "duration out of range"


def test_sizes_are_powers_of_1024_in_both_spellings() -> None:
    def check(text: str, size: int) -> None:
        assert parse_size(text) == size

    check("0", 0)
    check("10B", 10)
    check("1KB", 1024)
    check("1KiB", 1024)
    check("10MB", 10 * 2**20)
    check("64MiB", 64 * 2**20)
    check("1.5GB", 3 * 2**29)
    check("1MiB512KiB", 2**20 + 2**19)
    check("2TiB", 2 * 2**40)
    check("1PB", 2**50)
    check("1EiB", 2**60)
    check("-1KB", -1024)
    for text in ("10", "1kB", "1kb", "1MiB1KB", "1XB"):
        assert refusal(parse_size, text).startswith("units: unknown unit")
    for text in ("", "MB", "-", ".B"):
        assert refusal(parse_size, text) == f"units: invalid {text}"
    assert refusal(parse_size, "9EiB") == "units: overflow parsing unit"


def test_formats() -> None:
    assert [format_go_duration(s) for s in (0, 15, 5400, 1.5, 0.05, 3e-6, 1e-9, -90, 3661.25)] == [
        "0s", "15s", "1h30m", "1.5s", "50ms", "3µs", "1ns", "-1m30s", "1h1m1.25s",
    ]  # fmt: skip
    assert [format_prometheus_duration(s) for s in (0, 90, 129_600, 604_800, 31_536_000, 691_200, 0.5)] == [
        "0s", "1m30s", "1d12h", "1w", "1y", "8d", "500ms",
    ]  # fmt: skip
    assert [format_size(n) for n in (0, 1, 1024, 1500, 64 * 2**20, 2**60, 2**70)] == [
        "0B", "1B", "1KiB", "1500B", "64MiB", "1EiB", "1024EiB",
    ]  # fmt: skip


@given(st.integers(min_value=-(2**51), max_value=2**51))
def test_go_durations_round_trip(nanoseconds: int) -> None:
    seconds = nanoseconds / 1e9
    assert parse_go_duration(format_go_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=2**43))
def test_prometheus_durations_round_trip(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_prometheus_duration(format_prometheus_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=2**53))
def test_sizes_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text() | st.from_regex(r"[-+]?([0-9.]+[a-zA-Zµ]{0,3}){0,4}", fullmatch=True))
def test_only_value_errors(text: str) -> None:
    for parse in (parse_go_duration, parse_prometheus_duration, parse_size):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017 (both outcomes are fine)
