"""The pages: the map at `/`, a dashboard at `/d/<uid>`, as Grafana has it. Built with NiceGUI, which serves all it needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from html import escape
from importlib import resources
from typing import Any, Final

from fastapi import FastAPI, Request
from nicegui import app, background_tasks, ui

from trunkline.dashboards.rendering import dashboards
from trunkline.page import kept
from trunkline.page.asking import Questions, Simulator
from trunkline.page.dashboard_view import DashboardView
from trunkline.page.filling import Choices
from trunkline.page.map_view import MapView
from trunkline.page.process import READY
from trunkline.page.troubles import Troubles
from trunkline.page.watching import Watch

log = logging.getLogger(__name__)

NAME: Final = "Trunkline"
_THEMES: Final = {"auto": "system", "light": "light", "dark": "dark"}
_DARK: Final = {"auto": None, "light": False, "dark": True}
_COOKIE: Final = "theme"


class Site:
    """All pages of one demo; `serve` puts them into a FastAPI application."""

    def __init__(
        self, simulator: Simulator, questions: Questions, troubles: Troubles, workspace: Mapping[str, Any]
    ) -> None:
        self._dashboards = {each["uid"]: each for each in dashboards()}
        self._questions = questions
        self._watch = Watch(simulator, questions, troubles)
        self._troubles = troubles
        self._workspace = workspace
        self._style = (resources.files("trunkline.page") / "style.css").read_text("utf-8")

    def serve(self, outer: FastAPI) -> None:
        """Add the pages."""
        app.on_exception(lambda error: log.error("the page failed", exc_info=error))
        ui.page("/", title=NAME)(self._map)
        ui.page("/d/{uid}")(self._dashboard)
        outer.get(READY)(lambda: {"ready": True})
        ui.run_with(outer, title=NAME, dark=None, favicon="📈", tailwind=False, show_welcome_message=False)

    def _map(self, request: Request) -> None:
        self._frame(request, "The fleet")
        view = MapView(self._watch, self._troubles, self._workspace)
        with ui.element("main").classes("content"):
            view.build()
        # The first look begins while the browser still loads the page, and is shown when it has.
        background_tasks.create(view.refresh(), name="first look")
        ui.timer(view.EVERY_S, view.refresh, immediate=False)

    def _dashboard(self, uid: str, request: Request) -> None:
        if uid not in self._dashboards:
            self._frame(request, "Not found")
            ui.html(f"<main class=content><p>There is no dashboard {escape(uid)}.</p></main>", sanitize=False)
            return
        dashboard = self._dashboards[uid]
        choices = Choices.of(dashboard, request.query_params.multi_items())
        title = dashboard["title"].removeprefix(f"{NAME}: ")
        ui.page_title(f"{title} · {NAME}")
        show_links = self._frame(request, title, choices, uid)
        view = DashboardView(dashboard, choices, self._questions, show_links)
        with ui.element("main").classes("content"):
            view.build()
        view.begin()
        ui.timer(view.EVERY_S, view.refresh, immediate=False)

    def _frame(
        self, request: Request, title: str, choices: Choices | None = None, uid: str = ""
    ) -> Callable[[], None]:
        """What every page has; the result shows the links anew, for what has been chosen since."""
        theme = request.cookies.get(_COOKIE, "auto")
        dark = ui.dark_mode(_DARK.get(theme))
        ui.add_head_html(f"<style>{self._style}</style>{kept.SCRIPT}")

        def choose(event: Any) -> None:
            dark.set_value(_DARK[event.value])
            ui.run_javascript(f"document.cookie = '{_COOKIE}={event.value}; path=/; SameSite=Strict'")

        with ui.element("header").classes("top"):
            links = ui.html(self._links(choices, uid), sanitize=False, tag="nav").props('aria-label="Pages"')
            select = ui.select(_THEMES, value=theme if theme in _THEMES else "auto", label="Theme")
            select.on_value_change(choose).props("dense options-dense").classes("theme")
        ui.html(f"<h1>{escape(title)}</h1>", sanitize=False).classes("title")

        def show_links() -> None:
            links.set_content(self._links(choices, uid))

        return show_links

    def _links(self, choices: Choices | None, current: str) -> str:
        query = f"?{choices.query()}" if choices else ""
        entries = [("/", "Map", not current)]
        entries += [
            (f"/d/{uid}{query}", each["title"].removeprefix(f"{NAME}: "), uid == current)
            for uid, each in self._dashboards.items()
        ]
        return f"<strong>{NAME}</strong><ul>{''.join(map(_entry, entries))}</ul>"


def _entry(entry: tuple[str, str, bool]) -> str:
    url, title, is_current = entry
    current = ' aria-current="page"' if is_current else ""
    return f'<li><a href="{escape(url)}"{current}>{escape(title)}</a></li>'
