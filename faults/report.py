"""From verdicts to what people read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from faults.stage import MIB, Verdict
from trunkline.quantities import parse_go_duration

DOCUMENT: Final = Path("docs/reliability.md")
_COLUMNS: Final = (
    *("fault", "what was done", "scraped", "stored", "refused", "not accepted", "unaccounted", "order"),
    *("longest gap, s", "peak RSS, MiB", "queue's peak, KiB"),
)
_LEFT: Final = ("fault", "what was done", "refused", "order")


def line(verdict: Verdict) -> str:
    """One verdict on one line."""
    if verdict.skipped:
        return f"faults: {verdict.name}: left out, {verdict.skipped}"
    state = "known" if verdict.known else "ok" if verdict.good else "NOT OK"
    numbers = f"{verdict.scraped:,} scraped, {verdict.stored:,} stored, {_refused(verdict)} refused"
    found = "".join(f"\n        {problem}" for problem in verdict.problems)
    return f"faults: {verdict.name}: {state}: {numbers}, {verdict.unaccounted:,} unaccounted{found}"


def text(verdicts: Sequence[Verdict]) -> str:
    """The end of a run for a terminal."""
    bad = [verdict.name for verdict in verdicts if not verdict.good]
    done = sum(not verdict.skipped for verdict in verdicts)
    samples = sum(verdict.scraped for verdict in verdicts)
    if bad:
        return f"faults: {len(bad)} of {done} did not hold: {', '.join(bad)}"
    known = sum(bool(verdict.known) for verdict in verdicts)
    told = f", {known} are known not to" if known else ""
    return f"faults: {done - known} of {done} hold{told}; {samples:,} samples reconciled"


def put(part: str, text: str) -> None:
    """Put a text between the markers of a part of the document."""
    begin, end = f"<!-- {part}:begin -->", f"<!-- {part}:end -->"
    before, _, rest = DOCUMENT.read_text().partition(begin)
    after = rest.partition(end)[2]
    DOCUMENT.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def measured(command: str) -> str:
    """When, how and on what something was measured."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"Measured {date} with `{command}` on {len(os.sched_getaffinity(0))} cores."


def seconds(text: str) -> float:
    """A duration on the command line, in seconds."""
    try:
        return max(1.0, parse_go_duration(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; say for example 20s or 2m") from None


def two_columns(name: str, rows: Iterable[tuple[str, str]], command: str) -> str:
    """A table of what came of one long run."""
    lines = [measured(command), "", f"| {name} | |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {what} | {value} |" for what, value in rows)])


def markdown(verdicts: Sequence[Verdict], command: str) -> str:
    rows = [_row(verdict) for verdict in verdicts if not verdict.skipped]
    rule = ["---" if name in _LEFT else "---:" for name in _COLUMNS]
    lines = [measured(command), ""]
    lines += [f"| {' | '.join(cells)} |" for cells in (_COLUMNS, rule, *rows)]
    lines += ["", *_notes(verdicts)]
    return "\n".join(lines).rstrip()


def _row(verdict: Verdict) -> list[str]:
    return [
        verdict.name,
        verdict.done,
        f"{verdict.scraped:,}",
        f"{verdict.stored:,}",
        _refused(verdict),
        f"{verdict.never_accepted + verdict.undecided:,}",
        f"{verdict.unaccounted:,}",
        "holds" if verdict.in_order else "BROKEN",
        f"{verdict.longest_gap_s:.1f}",
        f"{verdict.peak_rss / MIB:.0f}",
        f"{verdict.peak_queue / 1024:,.0f}",
    ]


def _refused(verdict: Verdict) -> str:
    return ", ".join(f"{samples:,} {reason}" for reason, samples in sorted(verdict.refused.items())) or "0"


def _notes(verdicts: Sequence[Verdict]) -> list[str]:
    skipped = [f"- left out: {one.name} ({one.skipped})" for one in verdicts if one.skipped]
    known = [f"- known of {one.name}: {one.known}" for one in verdicts if one.known]
    bad = [f"- **{one.name}**: {problem}" for one in verdicts if not one.good for problem in one.problems]
    return [*skipped, *known, *bad]
