"""One demo with its page, and one browser, for all tests of the page."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from trunkline.page.browser import PROGRAMS, Browser, Tab, browser
from trunkline.page.process import missing

PATIENCE_S = 60.0
DEAD = ".panel .loading, .panel .nothing, .panel .failed"


@dataclass(frozen=True)
class Site:
    """The page of a running demo."""

    url: str
    process: subprocess.Popen[str]
    state_dir: Path
    browser: Browser

    @contextmanager
    def tab(
        self, path: str = "/", width: int = 1280, height: int = 900, theme: str = "light"
    ) -> Iterator[Tab]:
        """A page at `path`, which must ask nobody else for anything, and never complain."""
        with self.browser.tab(width, height, theme) as tab:
            tab.open(self.url.rstrip("/") + path)
            yield tab
            own = (self.url, self.url.replace("http", "ws"), "data:", "about:")
            assert [url for url in tab.requested if not url.startswith(own)] == []
            assert tab.errors == []


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    needed = [program for program in ("prometheus",) if shutil.which(program) is None]
    needed += [] if any(map(shutil.which, PROGRAMS)) else ["chromium"]
    if needed or missing():
        pytest.skip(f"needs {', '.join([*needed, *missing()])}")
    with tempfile.TemporaryDirectory(prefix="tp-") as folder, running(Path(folder, "demo")) as (process, url):
        with browser() as chromium:
            found = Site(url, process, Path(folder, "demo"), chromium)
            wait_for_rates(found)
            if os.environ.get("TRUNKLINE_PICTURES"):
                time.sleep(SHOWN_S)
            yield found
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert not psutil.wait_procs(below, timeout=10)[1]


SHOWN_S = 300
"""What the charts of a picture shall be full of."""


def wait_for_rates(site: Site) -> None:
    """What comes every 15 or 20 s has to have come twice before there is a rate of it."""
    for uid in ("trunkline-collectors", "trunkline-service"):
        with site.tab(f"/d/{uid}") as tab:
            tab.wait_for(
                f"document.querySelectorAll('.panel').length && !document.querySelector({DEAD!r})", PATIENCE_S
            )


def prometheus(site: Site) -> psutil.Process:
    """The server behind the demo's workspace."""
    below = psutil.Process(site.process.pid).children(recursive=True)
    return next(each for each in below if each.name() == "prometheus")


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """It holds its connections, and says nothing."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@contextmanager
def running(state_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo, from when its page can be looked at."""
    command = [sys.executable, "-m", "trunkline", "demo", "--state-dir", str(state_dir)]
    with subprocess.Popen(
        [*command, "--page-address", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        lines: list[str] = []
        told = threading.Event()
        reader = threading.Thread(target=read, args=(process, lines, told), daemon=True)
        reader.start()
        try:
            assert told.wait(PATIENCE_S), "".join(lines)
            [line] = [line for line in lines if "the page: " in line]
            yield process, line.partition("the page: ")[2].strip()
        finally:
            process.kill()
            reader.join(5)


def read(process: subprocess.Popen[str], lines: list[str], told: threading.Event) -> None:
    assert process.stdout
    for line in process.stdout:
        lines.append(line)
        if "the page: " in line:
            told.set()
