"""Pictures of the dashboards: the page of a running demo, seen by a headless browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from trunkline.dashboards.rendering import dashboards
from trunkline.errors import SimulatorError
from trunkline.page.browser import Tab, browser
from trunkline.page.process import ADDRESS, READY

FILLED: Final = (
    "document.querySelectorAll('.panel').length > 0 && "
    "document.querySelectorAll('.panel .loading, .panel .nothing, .panel .failed').length === 0"
)
"""In JavaScript: every panel of the dashboard shows data."""

DRAWN: Final = (
    "[...document.querySelectorAll('.chart')].every(e => { const svg = e.querySelector('svg'); "
    "return svg && e.offsetWidth == svg.getAttribute('width') && e.offsetHeight == svg.getAttribute('height') })"
)
"""In JavaScript: every chart has been drawn, at its size; one that has not been in sight yet has not."""

THEMES: Final = ("light", "dark")
_WIDTH: Final = 1280
_HEIGHT: Final = 900
_ANSWER_S: Final = 10.0
_PATIENCE_S: Final = 45.0
"""What comes every 20 s has to have come twice before there is a rate of it."""


def pictures(state_dir: Path, folder: Path) -> Iterator[Path]:
    """Write each dashboard as `<uid>.png` and `<uid>-dark.png`, as they are in the demo whose folder is `state_dir`.

    Raises SimulatorError when no demo with a page runs there, or a panel stays empty; UsageError without a browser.
    """
    try:
        url = (state_dir / ADDRESS).read_text(encoding="utf-8")
        _look_whether_it_answers(url)
    except (OSError, ValueError):
        raise SimulatorError(
            f"no demo with a page runs in {state_dir}; start one with: trunkline demo, or say where with --state-dir"
        ) from None
    with browser() as chromium:
        for uid in (each["uid"] for each in dashboards()):
            for theme in THEMES:
                path = folder / f"{uid}{'' if theme == 'light' else '-dark'}.png"
                with chromium.tab(_WIDTH, _HEIGHT, theme) as tab:
                    _draw(tab, f"{url}d/{uid}", path)
                yield path


def _look_whether_it_answers(url: str) -> None:
    """A demo that was killed leaves its address behind. Raises OSError, or ValueError when somebody else answers."""
    with urlopen(f"{url}{READY.removeprefix('/')}", timeout=_ANSWER_S) as answer:  # noqa: S310 (on the loopback)
        if not json.loads(answer.read())["ready"]:
            raise ValueError


def _draw(tab: Tab, url: str, path: Path) -> None:
    tab.open(url)
    try:
        tab.wait_for(FILLED, _PATIENCE_S)
    except TimeoutError:
        raise SimulatorError(f"a panel of {url} stays empty; see which in a browser") from None
    tab.picture(path, DRAWN)
