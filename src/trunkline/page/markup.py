"""Stats, bars, tables, bands and legends as HTML: text and links that any reader, keyboard or printer can take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Final

from trunkline.aws.workspace import Found
from trunkline.page.charts import Line, colour
from trunkline.page.reading import Column, Panel
from trunkline.page.units import text

NOTHING: Final = '<p class="nothing">No data</p>'
MOST_ROWS: Final = 50
"""Of a table: the first by its labels; it says how many there are."""

_WORDS: Final = {"green": "ok", "orange": "warning", "red": "bad"}

Link = Callable[[str, Mapping[str, str]], str]
"""A data link's URL and a row's texts by heading → where it leads."""


def stat(panel: Panel, found: Sequence[Found]) -> str:
    """One number, in the colour of its step."""
    if not found:
        return NOTHING
    value = found[0].value
    step = panel.steps.colour(value) if panel.coloured else ""
    return f'<p class="number {step}">{escape(text(panel.unit, value))}{_word(step)}</p>'


def _word(step: str) -> str:
    """What a colour says, for those who do not see it: only where it is not well."""
    return f' <span class="word">{_WORDS[step]}</span>' if step in {"orange", "red"} else ""


def bars(panel: Panel, rows: Sequence[tuple[str, float]]) -> str:
    """A bar for each (name, value)."""
    if not rows:
        return NOTHING
    return f'<ul class="bars">{"".join(_bar(panel, *row) for row in rows[:MOST_ROWS])}</ul>'


def _bar(panel: Panel, name: str, value: float) -> str:
    share = min(1.0, max(0.0, value / panel.most)) if panel.most and math.isfinite(value) else 0.0
    step = panel.steps.colour(value)
    return (
        f'<li><span class="name">{escape(name)}</span><span class="value">{escape(text(panel.unit, value))}'
        f'{_word(step)}</span><span class="track"><span class="bar {step}" style="width:{share:.1%}"></span></span></li>'
    )


def table(panel: Panel, found: Mapping[str, Sequence[Found]], link: Link) -> str:
    """The answers of all queries (letter → series), merged by their labels."""
    rows = sorted(_merged(found), key=lambda row: [str(row.get(each.source, "")) for each in panel.columns])
    if not rows:
        return NOTHING
    heads = "".join(f'<th scope="col"{_right(each)}>{escape(each.heading)}</th>' for each in panel.columns)
    body = "".join(_row(panel.columns, row, link) for row in rows[:MOST_ROWS])
    more = f'<p class="more">{MOST_ROWS} of {len(rows)} rows</p>' if len(rows) > MOST_ROWS else ""
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{more}"


def _merged(found: Mapping[str, Sequence[Found]]) -> Iterator[dict[str, str | float]]:
    """Grafana's `merge`: one row for each set of labels, with `Value #A` of each query that has it."""
    rows: dict[tuple[tuple[str, str], ...], dict[str, str | float]] = {}
    for letter, series in found.items():
        for each in series:
            key = tuple(sorted(each.labels.items()))
            rows.setdefault(key, dict(each.labels))[f"Value #{letter}"] = each.value
    yield from rows.values()


def _row(columns: Sequence[Column], row: Mapping[str, str | float], link: Link) -> str:
    texts = {each.heading: _text(each, row.get(each.source)) for each in columns}
    name = escape(" ".join(str(row.get(each.source)) for each in columns if not _is_number(each)))
    cells = "".join(_cell(each, row.get(each.source), texts, link) for each in columns)
    return f'<tr data-key="{name}">{cells}</tr>'


def _text(column: Column, value: str | float | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else text(column.unit, value)


def _cell(column: Column, value: str | float | None, texts: Mapping[str, str], link: Link) -> str:
    shown = escape(texts[column.heading])
    if column.links and shown:
        title, url = column.links[0]
        shown = f'<a href="{escape(link(url, texts))}" title="{escape(title)}">{shown}</a>'
    step = column.steps.colour(value) if isinstance(value, float) else ""
    return f'<td class="{step}"{_right(column)}>{shown}{_word(step)}</td>'


def _right(column: Column) -> str:
    return ' data-number=""' if _is_number(column) else ""


def _is_number(column: Column) -> bool:
    return column.source.startswith("Value #")


def bands(panel: Panel, lines: Sequence[Line], start_s: float, end_s: float, step_s: float) -> str:
    """A band for each series, a piece for each time a value lasts."""
    if not lines:
        return NOTHING
    length_s = max(1.0, end_s - start_s)
    shown = "".join(_band(panel, line, start_s, length_s, step_s) for line in lines)
    ends = f"<span>{_moment(start_s)}</span><span>{_moment(end_s)}</span>"
    return f'<ul class="bands">{shown}</ul><p class="ends">{ends}</p>{_mappings(panel)}'


def _band(panel: Panel, line: Line, start_s: float, length_s: float, step_s: float) -> str:
    pieces = []
    for begin_s, until_s, value in _pieces(line, step_s):
        word, step = panel.mapped.get(value, (f"{value:g}", "orange"))
        left, width = (begin_s - start_s) / length_s, (until_s - begin_s) / length_s
        title = f"{word}, {_moment(begin_s)} to {_moment(until_s)}"
        place = f"left:{max(0.0, left):.2%};width:{min(1 - max(0.0, left), width):.2%}"
        pieces.append(f'<span class="piece {step}" style="{place}" title="{escape(title)}"></span>')
    word = panel.mapped.get(line.last, (f"{line.last:g}", ""))[0]
    name = f'<span class="name">{escape(line.name)}</span><span class="value">{escape(word)}</span>'
    return f'<li>{name}<span class="track">{"".join(pieces)}</span></li>'


def _pieces(line: Line, step_s: float) -> Iterator[tuple[float, float, float]]:
    """From, to and value of each time a value lasts; what is missing is in none."""
    begin: tuple[float, float] | None = None
    before_s = -math.inf
    for at_s, value in line.points:
        if begin is not None and (value != begin[1] or at_s - before_s > 1.5 * step_s):
            yield begin[0], before_s + step_s, begin[1]
            begin = None
        begin = begin or (at_s, value)
        before_s = at_s
    if begin is not None:
        yield begin[0], before_s + step_s, begin[1]


def _mappings(panel: Panel) -> str:
    keys = "".join(
        f'<li><span class="swatch {step}"></span>{escape(word)}</li>' for word, step in panel.mapped.values()
    )
    return f'<ul class="keys">{keys}</ul>'


def _moment(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))


def key(panel: Panel, lines: Sequence[Line], total: int) -> str:
    """The legend below a chart: name, mean and newest value of each line."""
    if not lines:
        return NOTHING
    rows = "".join(_key_row(panel, number, line) for number, line in enumerate(lines))
    more = f'<p class="more">the {len(lines)} largest of {total}</p>' if total > len(lines) else ""
    heads = '<th scope="col">Name</th><th scope="col">Mean</th><th scope="col">Last</th>'
    return f'<table class="key"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{more}'


def _key_row(panel: Panel, number: int, line: Line) -> str:
    swatch = f'<span class="swatch" style="background:{colour(number)}"></span>'
    mean, last = (escape(text(panel.unit, value)) for value in (line.mean, line.last))
    name = escape(line.name)
    return f'<tr><td title="{name}">{swatch}{name}</td><td>{mean}</td><td>{last}</td></tr>'


def trouble(said: str) -> str:
    """Why a panel shows nothing."""
    return f'<p class="failed" role="status">{escape(said)}</p>'
