"""What a demo shows: progress line by line, then a live table on a terminal, or now and then a line for each service."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from trunkline.simulator.demo.evidence import Row

if TYPE_CHECKING:
    from rich.table import Table

_LINES_EVERY_S: Final = 10.0
_COMFORTABLE: Final = 90
"""Columns of a terminal; with fewer, those of the table stand closer."""
_HEADS: Final = (
    "account",
    "region",
    "service",
    "tasks up",
    "series",
    "samples/s",
    "newest",
    "queue",
    "refused",
)


class Screen(Protocol):
    def say(self, text: str) -> None:
        """One line that stays."""

    def note(self, lines: Sequence[str]) -> None:
        """Lines to copy from, without the time."""

    def show(self, rows: Sequence[Row], status: str) -> None:
        """The present state, with a line about the whole."""

    def close(self) -> None: ...


def open_screen(started_at: float) -> Screen:
    """A live table on a terminal, lines otherwise. `started_at` is what times are told from, epoch seconds."""
    return LiveScreen(started_at) if sys.stdout.isatty() else LineScreen(started_at)


class LineScreen:
    """For logs and pipes."""

    def __init__(self, started_at: float) -> None:
        self._started_at = started_at
        self._shown_at = 0.0

    def say(self, text: str) -> None:
        print(_timed(self._started_at, text), flush=True)  # noqa: T201 (it is what it is for)

    def note(self, lines: Sequence[str]) -> None:
        print(*lines, sep="\n", flush=True)  # noqa: T201

    def show(self, rows: Sequence[Row], status: str) -> None:
        if time.time() - self._shown_at < _LINES_EVERY_S:
            return
        self._shown_at = time.time()
        for row in rows:
            self.say(_line(row))
        self.say(status)

    def close(self) -> None:
        """Nothing is held."""


class LiveScreen:
    """For people."""

    def __init__(self, started_at: float) -> None:
        from rich.console import Console  # noqa: PLC0415 (only on a terminal)
        from rich.live import Live  # noqa: PLC0415

        self._started_at = started_at
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._is_live = False

    def say(self, text: str) -> None:
        self._console.print(_timed(self._started_at, text), markup=False, soft_wrap=True)

    def note(self, lines: Sequence[str]) -> None:
        self._console.print(*lines, sep="\n", markup=False, soft_wrap=True)

    def show(self, rows: Sequence[Row], status: str) -> None:
        if not self._is_live:
            self._live.start()
            self._is_live = True
        self._live.update(_table(rows, _timed(self._started_at, status), self._console.width), refresh=True)

    def close(self) -> None:
        if self._is_live:
            self._live.stop()
            self._is_live = False


def _timed(started_at: float, text: str) -> str:
    return f"{time.time() - started_at:6.1f} s  {text}" if text else ""


def _line(row: Row) -> str:
    return (
        f"{row.account} {row.region} {row.service}: {row.up} of {row.tasks} tasks up, {row.series} series, "
        f"{row.per_second:.1f} samples/s, newest {_age(row.age_s)} old, queue {row.queue}, refused {row.refused}"
    )


def _age(age_s: float | None) -> str:
    return "-" if age_s is None else f"{max(age_s, 0):.0f} s"


def _table(rows: Sequence[Row], status: str, width: int) -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1 if width >= _COMFORTABLE else 0, 0, 0),
        caption=status,
        caption_justify="left",
    )
    for place, head in enumerate(_HEADS):
        table.add_column(head, justify="left" if place < 3 else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.account,
            row.region,
            row.service,
            Text(f"{row.up} of {row.tasks}", "green" if row.up == row.tasks else "yellow"),
            str(row.series),
            f"{row.per_second:.1f}",
            _age(row.age_s),
            str(row.queue),
            Text(str(row.refused), "red" if row.refused else ""),
        )
    return table
