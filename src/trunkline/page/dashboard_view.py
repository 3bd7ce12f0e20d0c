"""One dashboard in one browser: its variables, its panels, and keeping them up to date."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from nicegui import ui

from trunkline.aws.workspace import Found
from trunkline.dashboards.queries import Variable, variables
from trunkline.errors import TrunklineError
from trunkline.page import charts, kept, markup
from trunkline.page.asking import Questions
from trunkline.page.charts import Line
from trunkline.page.filling import EVERYTHING, RANGES, Choices, Span, all_or_some, differing, in_order, legend
from trunkline.page.reading import Panel, panels

_RANGE_NAMES: Final = {name: f"last {name.removeprefix('now-')}" for name in RANGES}
_OFFER_EVERY_S: Final = 30.0
_ALL: Final = {EVERYTHING: "All"}
_NEAR: Final = 'once margin="150px"'
_OVER_TIME: Final = frozenset({"timeseries", "state-timeline"})
_TOGETHER_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a panel's queries found, by letter, until when its time goes, and why it is nothing if they failed."""

    panel: Panel
    until_s: float
    found: Mapping[str, Sequence[Found]]
    trouble: str = ""


class DashboardView:
    """`build` makes the shell, `refresh` fills it; `on_choice` is called when something else has been chosen."""

    EVERY_S: Final = 5.0

    def __init__(
        self,
        dashboard: Mapping[str, Any],
        choices: Choices,
        questions: Questions,
        on_choice: Callable[[], None],
    ) -> None:
        self._dashboard = dashboard
        self._choices = choices
        self._questions = questions
        self._on_choice = on_choice
        self._selects: dict[str, ui.select] = {}
        self._titles: dict[int, ui.html] = {}
        self._places: dict[int, ui.element] = {}
        self._charts: dict[int, ui.echart] = {}
        self._texts: dict[int, ui.html] = {}
        self._panels = panels(dashboard)
        self._drawn_until: dict[int, float] = {}
        self._offer_at = 0.0
        self._running: asyncio.Task[None] | None = None
        self._is_settling = False

    def build(self) -> None:
        """The shell: everything but data."""
        ui.html(f"<p class=about>{escape(self._dashboard['description'])}</p>", sanitize=False)
        with ui.element("form").classes("variables").props('aria-label="Variables"'):
            for variable in in_order(self._dashboard):
                self._build_select(variable)
            ui.select(
                _RANGE_NAMES, label="Time", value=self._choices.span.name, on_change=self._range_chosen
            ).props("dense options-dense")
        with ui.element("div").classes("grid"):
            for panel in self._panels:
                self._build_panel(panel)

    def _build_select(self, variable: Mapping[str, Any]) -> None:
        name = variable["name"]
        chosen = self._choices.chosen[name]
        is_multi = bool(variable.get("multi"))
        offered: dict[str, str] = {value: value for value in chosen}
        if variable["type"] == "custom":
            offered = {value: value for value in variable["query"].split(",")}
        if variable.get("includeAll"):
            offered = {**_ALL, **{value: value for value in chosen if value != EVERYTHING}}
        select = ui.select(
            offered,
            label=variable.get("label") or name,
            multiple=is_multi,
            value=chosen if is_multi else (chosen[0] if chosen else None),
            on_change=lambda event: self._chosen(name, event.value),
        )
        select.props(f'dense options-dense title="{escape(variable.get("description", ""))}"').mark(
            f"var-{name}"
        )
        self._selects[name] = select.classes(f"var-{name}")

    def _build_panel(self, panel: Panel) -> None:
        if panel.kind == "row":
            ui.html(f"<h2>{escape(panel.title)}</h2>", sanitize=False).classes("row-title")
            return
        place = f"--width: {panel.width}; --height: {panel.height}"
        with (
            ui.element("section")
            .classes(f"panel {panel.kind}")
            .style(place)
            .props(f'data-panel="{panel.number}"')
        ):
            self._titles[panel.number] = ui.html(self._title(panel), sanitize=False).classes("heading")
            if panel.kind == "timeseries":
                self._places[panel.number] = ui.element("q-intersection").props(_NEAR).classes("chart")
            loading = escape(panel.text) if panel.kind == "text" else "…"
            self._texts[panel.number] = kept.html(f"<p class=loading>{loading}</p>").classes("body")

    def _title(self, panel: Panel) -> str:
        title = escape(self._choices.filled(panel.title))
        if not panel.description:
            return f"<h3>{title}</h3>"
        about, name = escape(panel.description), f"about-{panel.number}"
        button = f'<button type="button" popovertarget="{name}" aria-label="What {title} shows">?</button>'
        return f'<h3>{title}</h3>{button}<div popover id="{name}">{about}</div>'

    def _chosen(self, name: str, value: Any) -> None:
        if self._is_settling:
            return
        before = self._choices.chosen[name]
        now = list(value) if isinstance(value, list) else [value]
        if self._selects[name].multiple:
            now = all_or_some(before, now)
            self._set(name, now)
        self._choices.chosen[name] = now
        self._changed()

    def _range_chosen(self, event: Any) -> None:
        self._choices.span = Span(event.value)
        self._changed()

    def _changed(self) -> None:
        self._offer_at = 0.0
        self._drawn_until.clear()
        self._on_choice()
        ui.navigate.history.replace(f"/d/{self._dashboard['uid']}?{self._choices.query()}")
        for panel in self._panels:
            if panel.number in self._titles:
                self._titles[panel.number].set_content(self._title(panel))
        if self._running:
            self._running.cancel()
            self._running = None
        ui.timer(0, self.refresh, once=True)

    def _set(self, name: str, value: list[str]) -> None:
        """Show what is chosen without taking it for somebody's choice."""
        self._is_settling = True
        try:
            select = self._selects[name]
            select.set_value(value if select.multiple else (value[0] if value else None))
        finally:
            self._is_settling = False

    def begin(self) -> asyncio.Task[None]:
        """Ask while the browser still loads the page; what is found waits for it."""
        self._running = asyncio.ensure_future(self._refresh())
        return self._running

    async def refresh(self) -> None:
        """Ask for everything anew; nothing happens while that is still under way."""
        if self._running and not self._running.done():
            return
        await asyncio.wait([self.begin()])

    async def _refresh(self) -> None:
        """Variables without All come first, as panels need them; what the others offer can wait for the panels."""
        single = [each for each in variables(self._dashboard) if each.everything is None]
        several = [each for each in variables(self._dashboard) if each.everything is not None]
        is_offer_due = time.monotonic() > self._offer_at
        if is_offer_due:
            await self._offer(single)
        await self._draw([each for each in self._panels if each.targets and self._is_due(each)])
        if is_offer_due:
            await self._offer(several)
            if all(self._choices.chosen[each.name] for each in single):
                self._offer_at = time.monotonic() + _OFFER_EVERY_S

    def _is_due(self, panel: Panel) -> bool:
        """What is drawn over time changes when a step has passed, the rest at any time."""
        return self._drawn_until.get(panel.number) != self._window()[1]

    async def _draw(self, due: Sequence[Panel]) -> None:
        """Show what is found, what comes soon after one another at once: each change costs a browser the same."""
        pending = {asyncio.ensure_future(self._find(each)) for each in due}
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=_TOGETHER_S)
                for each in done:
                    self._show_answer(each.result())
        finally:
            for each in pending:
                each.cancel()

    async def _offer(self, offering: Sequence[Variable]) -> None:
        """Fill variables, in order, as a later one may depend on those before it."""
        found: list[tuple[Variable, list[str]]] = []
        for variable in offering:
            try:
                selector = self._choices.filled(variable.selector)
                offered = await self._questions.offered(variable, selector, self._choices.span)
            except TrunklineError:
                break  # the panels say what is wrong
            self._choices.settle(variable, offered)
            found.append((variable, offered))
        for variable, offered in found:
            chosen = self._choices.chosen[variable.name]
            options = {value: value for value in sorted({*offered, *chosen} - {EVERYTHING})}
            self._show_offer(variable.name, (_ALL if variable.everything else {}) | options, chosen)

    def _show_offer(self, name: str, options: dict[str, str], chosen: list[str]) -> None:
        select = self._selects[name]
        if select.options == options:
            return
        self._is_settling = True
        try:
            select.set_options(options, value=chosen if select.multiple else (chosen[0] if chosen else None))
        finally:
            self._is_settling = False
        for panel in self._panels:
            if "$" in panel.title:
                self._titles[panel.number].set_content(self._title(panel))

    async def _find(self, panel: Panel) -> _Answer:
        until_s = self._window()[1]
        asking = [self._ask(each.expr, instant=each.instant) for each in panel.targets]
        try:
            found = await asyncio.gather(*asking)
        except TrunklineError as error:
            return _Answer(panel, until_s, {}, str(error))
        letters = [each.letter for each in panel.targets]
        return _Answer(panel, until_s, dict(zip(letters, found, strict=True)))

    async def _ask(self, expr: str, *, instant: bool) -> Sequence[Found]:
        promql = self._choices.filled(expr)
        if instant:
            return await self._questions.now(promql)
        return await self._questions.over(promql, self._choices.span)

    def _show_answer(self, answer: _Answer) -> None:
        number = answer.panel.number
        self._drawn_until.pop(number, None)
        if answer.trouble:
            self._texts[number].set_content(markup.trouble(answer.trouble))
            return
        self._show(answer.panel, answer.found)
        if answer.panel.kind in _OVER_TIME and any(answer.found.values()):
            self._drawn_until[number] = answer.until_s

    def _show(self, panel: Panel, found: Mapping[str, Sequence[Found]]) -> None:
        first = next(iter(found.values()))
        text = self._texts[panel.number]
        match panel.kind:
            case "stat":
                text.set_content(markup.stat(panel, first))
            case "bargauge":
                text.set_content(
                    markup.bars(panel, [(line.name, line.last) for line in self._lines(panel, found)])
                )
            case "table":
                text.set_content(markup.table(panel, found, self._choices.link))
            case "state-timeline":
                text.set_content(markup.bands(panel, self._lines(panel, found), *self._window()))
            case "timeseries":
                self._show_chart(panel, self._lines(panel, found))

    def _lines(self, panel: Panel, found: Mapping[str, Sequence[Found]]) -> list[Line]:
        apart = differing([each.labels for series in found.values() for each in series])
        return [
            Line(legend(self._choices.filled(target.legend), each.labels, target.letter, apart), each.samples)
            for target in panel.targets
            for each in found[target.letter]
        ]

    def _window(self) -> tuple[float, float, float]:
        """Beginning, end and step of what was asked for."""
        span = self._choices.span
        end_s = time.time() // span.step_s * span.step_s
        return end_s - span.length_s, end_s, span.step_s

    def _show_chart(self, panel: Panel, lines: list[Line]) -> None:
        """A chart is drawn while it is near what is seen, with the newest data when it comes there.

        It is made when there is something to draw, so that the page need not wait for the charting library.
        """
        shown = charts.largest(lines)
        options = charts.options(panel, shown, *self._window())
        chart = self._charts.get(panel.number)
        if chart is None:
            with self._places[panel.number]:
                self._charts[panel.number] = ui.echart(options, renderer="svg").classes("drawing")
        else:
            chart.options.clear()
            chart.options.update(options)
            chart.update()
        self._texts[panel.number].set_content(markup.key(panel, shown, len(lines)))
