"""A headless Chromium, driven by its DevTools protocol: for pictures of the dashboards, and for tests of the page.

The protocol is a WebSocket with JSON, for which `websockets` does, that NiceGUI's server brings along; a driver of
browsers would bring its own browser or its own server. Source: Chrome DevTools Protocol, domains Page, Runtime,
Network, Log, Emulation, Input.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

from trunkline.errors import UsageError
from trunkline.simulator.child import tied_to_parent

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_START_S: Final = 30.0
_ANSWER_S: Final = 30.0
_POLL_S: Final = 0.05
_SETTLE_S: Final = 0.6
"""What moves when a page is drawn has come to rest by then."""
_PHONE: Final = 600
_MESSAGE_BYTES: Final = 64 * 2**20
_OPTIONS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_browser() -> str:
    """The program; raises UsageError when there is none."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not found:
        raise UsageError("pictures need Chromium or Chrome on the PATH: apt-get install chromium")
    return found


@dataclass
class Tab:
    """One page in the browser. Methods raise RuntimeError for what the browser refuses or the page throws."""

    link: ClientConnection
    errors: list[str] = field(default_factory=list)
    """What the console called an error, and exceptions nobody caught."""
    requested: list[str] = field(default_factory=list)
    """URLs."""
    received_bytes: int = 0
    number: int = 0

    def open(self, url: str) -> None:
        """Go there, and return when its document has been loaded."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def look_like(self, width: int, height: int, theme: str = "light") -> None:
        """The size of the window in pixels, and the theme of the system, `light` or `dark`."""
        self._resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": theme}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {_told(found['exceptionDetails'])}")
        return found["result"].get("value")

    def wait_for(self, script: str, timeout_s: float = 15.0) -> float:
        """Wait until an expression is true, and say how many seconds that took; raises TimeoutError."""
        began = time.monotonic()
        while not self.evaluate(script):
            if time.monotonic() - began > timeout_s:
                raise TimeoutError(f"not true after {timeout_s:g} s: {script}")
            time.sleep(_POLL_S)
        return time.monotonic() - began

    def click(self, element: str) -> None:
        """Click with the mouse in the middle of what a JavaScript expression gives."""
        script = "(e => { e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
        x, y = self.evaluate(f"{script} return [r.x + r.width / 2, r.y + r.height / 2] }})({element})")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: int) -> None:
        """Press and release a key: its name, such as `Tab`, and its Windows key code."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    def picture(self, path: Path, drawn: str = "true") -> None:
        """Write all of the page as PNG, in a window as high as the page is: what is out of sight is not drawn.

        `drawn` is the JavaScript expression that says whether all of it is, now that it is in sight.
        """
        width = self.evaluate("innerWidth")
        height = int(self.call("Page.getLayoutMetrics")["cssContentSize"]["height"])
        self._resize(width, height)
        self.wait_for(drawn)
        time.sleep(_SETTLE_S)
        found = self.call("Page.captureScreenshot", format="png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _resize(self, width: int, height: int) -> None:
        mobile = width < _PHONE
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """The answer of the protocol to one call."""
        self.number += 1
        self.link.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.link.recv(_ANSWER_S))
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                answer: dict[str, Any] = message["result"]
                return answer
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(_told(about["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if about["type"] in {"error", "assert"}:
                self.errors.append(
                    " ".join(str(each.get("value", each.get("description"))) for each in about["args"])
                )
            case "Log.entryAdded" if about["entry"]["level"] == "error":
                self.errors.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requested.append(about["request"]["url"])
            case "Network.webSocketCreated":
                self.requested.append(about["url"])
            case "Network.webSocketFrameReceived":
                self.received_bytes += len(about["response"]["payloadData"])
            case "Network.loadingFinished":
                self.received_bytes += int(about["encodedDataLength"])


def _told(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details.get("text"))


@dataclass(frozen=True, slots=True)
class Browser:
    """A running browser."""

    port: int

    @contextlib.contextmanager
    def tab(self, width: int = 1280, height: int = 900, theme: str = "light") -> Iterator[Tab]:
        """A new, empty page."""
        from websockets.sync.client import connect  # noqa: PLC0415 (comes with NiceGUI)

        made = self._ask("new?about:blank", "PUT")
        try:
            with connect(
                made["webSocketDebuggerUrl"], max_size=_MESSAGE_BYTES, proxy=None, ping_interval=None
            ) as link:
                tab = Tab(link)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    tab.call(f"{domain}.enable")
                tab.look_like(width, height, theme)
                yield tab
        finally:
            self._ask(f"close/{made['id']}", "GET")

    def _ask(self, what: str, method: str) -> Any:
        request = Request(f"http://127.0.0.1:{self.port}/json/{what}", method=method)
        with urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310 (the browser just started)
            body = answer.read()
        return json.loads(body) if body.startswith(b"{") else None


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own, which ends with this. Raises UsageError, TimeoutError."""
    program = find_browser()
    with tempfile.TemporaryDirectory(prefix="trunkline-browser-", ignore_cleanup_errors=True) as folder:
        command = tied_to_parent([program, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"])
        with subprocess.Popen(  # noqa: S603 (a fixed command)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield Browser(_port(Path(folder, "DevToolsActivePort"), process))
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) > 1:
            return int(lines[0])
        time.sleep(_POLL_S)
    raise TimeoutError("the browser did not start")
