"""The results as a picture: bars of CPU time per sample and of peak memory, drawn as plain SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from bench.report import Results, tells

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP = 900, 250, 110, 18, 34
_COLOURS: Final = ("#1f6feb", "#8b949e", "#b0885c", "#6e7f8d", "#c29d78", "#9a8fb0")
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#57606a}.title{font-weight:600;font-size:15px}"
    ".panel{font-weight:600}@media(prefers-color-scheme:dark){text{fill:#adbac7}}"
)


def svg(results: Results) -> str:
    """One chart: CPU time per sample of every busy load, peak memory at the first of them, memory when idle."""
    drawing = _Drawing()
    busy = [scenario for scenario in results.scenarios if not scenario.together]
    drawing.text(16, "title", "CPU time per sample, ns (shorter is better)")
    for scenario in busy:
        drawing.panel(scenario.title, _bars(results, scenario.name, "cpu_ns_per_sample", 1.0))
    drawing.text(16, "title", "Resident memory, MB (shorter is better)")
    for scenario in busy[:1]:
        drawing.panel(f"peak, {scenario.title}", _bars(results, scenario.name, "peak_rss_bytes", 1e-6))
    for scenario in results.scenarios:
        if scenario.together:
            drawing.panel(
                f"steady, {scenario.title}", _bars(results, scenario.name, "steady_rss_bytes", 1e-6)
            )
    return drawing.finish()


def _bars(results: Results, scenario: str, figure: str, scale: float) -> Iterator[tuple[str, str, float]]:
    """Of each collector measured: title, colour and figure. A collector has one colour in all panels."""
    medians = results.medians(scenario)
    for index, collector in enumerate(results.collectors):
        if collector.name in medians and (figure != "cpu_ns_per_sample" or tells(medians[collector.name])):
            yield (
                collector.title,
                _COLOURS[index % len(_COLOURS)],
                medians[collector.name][figure] * scale,
            )


class _Drawing:
    """Grows downwards."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._y = 0

    def text(self, x: int, kind: str, content: str) -> None:
        self._y += 30
        self._parts.append(f'<text x="{x}" y="{self._y}" class="{kind}">{escape(content)}</text>')

    def panel(self, title: str, bars: Iterator[tuple[str, str, float]]) -> None:
        """Bars that share a scale of their own."""
        found = list(bars)
        if not found:
            return
        self.text(16, "panel", title)
        self._y += 8
        longest = max(value for _, _, value in found) or 1.0
        for label, colour, value in found:
            width = max(value / longest * (_WIDTH - _LEFT - _RIGHT), 1)
            middle = self._y + _BAR - 5
            self._parts += (
                f'<text x="{_LEFT - 8}" y="{middle}" text-anchor="end">{escape(label)}</text>',
                f'<rect x="{_LEFT}" y="{self._y}" width="{width:.1f}" height="{_BAR}" rx="3" fill="{colour}"/>',
                f'<text x="{_LEFT + width + 6:.1f}" y="{middle}">{value:,.0f}</text>',
            )
            self._y += _BAR + 6

    def finish(self) -> str:
        height = self._y + _GAP // 2
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
            f'height="{height}" role="img" aria-label="CPU time per sample and peak memory of each collector">'
        )
        return "\n".join((head, f"<style>{_STYLE}</style>", *self._parts, "</svg>", ""))
