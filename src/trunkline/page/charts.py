"""Time series as ECharts draws them. What shows on hovering is also in the legend below, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trunkline.page.reading import Panel
from trunkline.page.units import Scale, scale

COLOURS: Final = (
    "#3b82c4", "#d9822b", "#3a9e6a", "#c2528b", "#8a6fd1", "#1f9aa8", "#b5892b", "#d1574f", "#6b8e23", "#7a869a",
)  # fmt: skip
"""Of the lines, in turn: readable on white and on black."""

SIGNALS: Final = {"green": "#3a9e6a", "orange": "#d9822b", "red": "#d1574f"}
"""Grafana's names of colours, for what is good, what may become bad, and what is."""

MOST_LINES: Final = 20
"""Of a panel: the largest; the panel says how many there are."""

_LABELS: Final = 6
"""Of the time axis, at most: there is room for that on a phone."""

_GRID: Final = "rgba(128, 128, 128, 0.22)"
_AXIS: Final = "#808080"


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a panel: (epoch seconds, value), oldest first."""

    name: str
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        return self.points[-1][1] if self.points else math.nan

    @property
    def mean(self) -> float:
        values = [value for _, value in self.points if math.isfinite(value)]
        return sum(values) / len(values) if values else math.nan


def largest(lines: Sequence[Line]) -> list[Line]:
    """At most `MOST_LINES`, those with the largest newest values, in the order they came."""
    if len(lines) <= MOST_LINES:
        return list(lines)
    ranked = sorted(lines, key=lambda line: -line.last if math.isfinite(line.last) else math.inf)
    kept = set(map(id, ranked[:MOST_LINES]))
    return [line for line in lines if id(line) in kept]


def colour(number: int) -> str:
    """Of the line with this number."""
    return COLOURS[number % len(COLOURS)]


def options(
    panel: Panel, lines: Sequence[Line], start_s: float, end_s: float, step_s: float
) -> dict[str, Any]:
    """The chart of a panel from `start_s` to `end_s`; `lines` may be none."""
    size = _size(panel, lines)
    return {
        "animation": False,
        "grid": {"left": 8, "right": 22, "top": 12, "bottom": 4, "containLabel": True},
        "textStyle": {"fontFamily": "inherit", "color": _AXIS},
        "tooltip": _tooltip(size),
        "xAxis": {
            "type": "time",
            "min": round(start_s * 1000),
            "max": round(end_s * 1000),
            "minInterval": round((end_s - start_s) * 1000 / _LABELS),
            "axisLine": {"lineStyle": {"color": _GRID}},
            "axisLabel": {"color": _AXIS, "hideOverlap": True, "formatter": "{HH}:{mm}"},
            "splitLine": {"show": False},
        },
        "yAxis": _value_axis(panel, size),
        "series": [
            _series(panel, number, line, size, step_s) for number, line in enumerate(lines)
        ] or [_nothing(panel, size)],
    }  # fmt: skip


def _size(panel: Panel, lines: Sequence[Line]) -> Scale:
    values = [abs(value) for line in lines for _, value in line.points if math.isfinite(value)]
    return scale(panel.unit, max(values, default=0.0))


def _tooltip(size: Scale) -> dict[str, Any]:
    return {
        "trigger": "axis",
        "order": "valueDesc",
        "confine": True,
        "axisPointer": {"type": "line", "animation": False},
        ":valueFormatter": f"value => value == null ? '-' : Number(value.toPrecision(3)) + '{size.suffix}'",
        "className": "tooltip",
    }


def _value_axis(panel: Panel, size: Scale) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "type": "value",
        "splitNumber": 4,
        "scale": panel.least is None,
        "axisLabel": {"formatter": "{value}" + size.suffix, "color": _AXIS},
        "splitLine": {"lineStyle": {"color": _GRID}},
    }
    if panel.least is not None:
        axis["min"] = panel.least / size.factor
    if panel.most is not None:
        axis["max"] = panel.most / size.factor
    return axis


def _series(panel: Panel, number: int, line: Line, size: Scale, step_s: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "line",
        "name": line.name,
        "showSymbol": False,
        "symbolSize": 4,
        "silent": True,
        "lineStyle": {"width": 1.5},
        "itemStyle": {"color": colour(number)},
        "areaStyle": {"opacity": panel.fill},
        "data": _points(line, size, step_s),
        "stack": "all" if panel.stacked else None,
        "markLine": _thresholds(panel, size) if number == 0 else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _nothing(panel: Panel, size: Scale) -> Mapping[str, Any]:
    return {"type": "line", "data": [], "markLine": _thresholds(panel, size)}


def _points(line: Line, size: Scale, step_s: float) -> list[list[float | None]]:
    """Milliseconds and value; None where a value is missing, so that the line has a gap."""
    found: list[list[float | None]] = []
    before_s = math.inf
    for at_s, value in line.points:
        if at_s - before_s > 1.5 * step_s:
            found.append([round((before_s + step_s) * 1000), None])
        found.append([round(at_s * 1000), _short(value / size.factor)])
        before_s = at_s
    return found


def _short(value: float) -> float | None:
    """Five significant digits: a picture shows no more, and less has to be sent."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _thresholds(panel: Panel, size: Scale) -> dict[str, Any] | None:
    if not panel.steps.lines:
        return None
    return {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "data": [
            {"yAxis": value / size.factor, "lineStyle": {"type": "dashed", "color": SIGNALS[colour]}}
            for value, colour in panel.steps.lines
        ],
    }
