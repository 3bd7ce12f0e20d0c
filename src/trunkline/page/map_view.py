"""The map in one browser, with the buttons that break things and the doctor who says what is broken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from nicegui import ui

from trunkline.errors import TrunklineError
from trunkline.page import doctor, kept
from trunkline.page.doctor import Collector
from trunkline.page.fleet_map import STALE, WAITING, drawn, summary
from trunkline.page.troubles import State, Troubles, next_renewal
from trunkline.page.watching import Seen, Watch

_ABOUT: Final = (
    "Every task scrapes itself and delivers through the central role into one workspace. Healthy: the newest sample is "
    "at most a minute old and every target answers. Stale: nothing came for longer, or the task has said goodbye."
)
_SUCCESSOR_S: Final = 60.0
"""So long the task that a service starts in place of a stopped one is waited for."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A button that breaks something, and mends it when pressed again."""

    name: str
    title: str
    about: str
    is_on: Callable[[State], bool]
    break_: Callable[[Troubles], Awaitable[None]]
    mend: Callable[[Troubles], Awaitable[None]]
    broken: str
    mended: str


SWITCHES: Final = (
    Switch(
        "revoke",
        "Sessions of the central role",
        "An explicit Deny for every session issued so far, which acts at once. Collectors ask for new sessions when "
        "they are refused, and get them as long as the role trusts them: samples wait meanwhile, none is lost.",
        lambda state: state.revoked,
        Troubles.revoke,
        Troubles.unrevoke,
        "Revoke the sessions",
        "Lift the Deny",
    ),
    Switch(
        "withdraw",
        "Trust of the central role",
        "The role no longer trusts the workload accounts. Sessions that were issued outlive that; the doctor, who asks for "
        "one of its own, sees at once what collectors will.",
        lambda state: state.withdrawn,
        Troubles.withdraw,
        Troubles.restore,
        "Withdraw the trust",
        "Restore the trust",
    ),
    Switch(
        "throttle",
        "Workspace",
        "It answers every write with 429. Collectors keep their samples in their queues and try again, more slowly.",
        lambda state: state.throttled,
        Troubles.throttle,
        Troubles.unthrottle,
        "Throttle the workspace",
        "Stop throttling",
    ),
)


class MapView:
    """`build` makes the shell, `refresh` fills it."""

    EVERY_S: Final = 3.0

    def __init__(self, watch: Watch, troubles: Troubles, workspace: Mapping[str, Any]) -> None:
        self._watch = watch
        self._troubles = troubles
        self._workspace = workspace
        self._seen = Seen()
        self._buttons: dict[str, ui.button] = {}
        self._states: dict[str, ui.html] = {}
        self._stopping = ""
        self._examinations = 0

    def build(self) -> None:
        """The shell: everything but data."""
        ui.html(f"<p class=about>{_ABOUT}</p>", sanitize=False)
        self._summary = ui.html("…", sanitize=False, tag="p").classes("summary").props('role="status"')
        self._map = kept.html("<p class=loading>asking the workspace …</p>").classes("fleet")
        ui.html("<h2>Break it, and mend it</h2>", sanitize=False).classes("row-title")
        with ui.element("div").classes("switches"):
            self._build_stop()
            for switch in SWITCHES:
                self._build_switch(switch)
        ui.html("<h2>What the doctor says</h2>", sanitize=False).classes("row-title")
        self._build_doctor()

    def _build_stop(self) -> None:
        with ui.element("section").classes("switch"):
            ui.html(
                "<h3>A task</h3><p>As somebody would with ECS. Its collector delivers what it has and says goodbye; the "
                "service then starts another task, so this mends itself.</p>",
                sanitize=False,
            )
            self._task = ui.select({}, label="Task").props("dense options-dense").classes("stop-task")
            self._stop = ui.button("Stop the task", on_click=self._stop_task).props("outline no-caps")
            self._stop.classes("stop")
            self._stopped = ui.html("", sanitize=False).classes("said").props('role="status"')

    def _build_switch(self, switch: Switch) -> None:
        with ui.element("section").classes("switch"):
            ui.html(f"<h3>{switch.title}</h3><p>{switch.about}</p>", sanitize=False)

            async def press() -> None:
                await self._press(switch)

            button = ui.button(switch.broken, on_click=press).props("outline no-caps").classes(switch.name)
            self._buttons[switch.name] = button
            self._states[switch.name] = ui.html("", sanitize=False).classes("said").props('role="status"')

    def _build_doctor(self) -> None:
        with ui.element("section").classes("doctor"):
            with ui.element("div").classes("ask"):
                self._patient = ui.select({}, label="Collector of task").props("dense options-dense")
                self._ask = ui.button("Ask the doctor", on_click=self._examine).props("outline no-caps")
            self._ask.classes("ask-doctor")
            self._diagnosis = ui.html(
                "Asks the collector's own doctor, where the collector runs.", sanitize=False, tag="pre"
            )
            self._diagnosis.props('role="status" tabindex="0"').classes("diagnosis")

    async def refresh(self, *, anew: bool = False) -> None:
        """Look, and show it."""
        self._show(await self._watch.see(anew=anew))

    def _show(self, seen: Seen) -> None:
        self._seen = seen
        self._summary.set_content(escape(summary(seen.fleet)))
        role_arn = self._troubles.role_arn
        self._map.set_content(drawn(seen.fleet, seen.state, self._workspace, role_arn, time.time()))
        running = {
            task.id: f"{task.account} {task.region} {task.service} {task.id[:8]}"
            for task in seen.fleet.tasks
            if task.id in seen.collectors or task.state == WAITING
        }
        for select in (self._task, self._patient):
            if select.options != running:
                kept = select.value if select.value in running else next(iter(running), None)
                select.set_options(running, value=kept)
        self._stopped.set_content(self._said_of_the_stop())
        for switch in SWITCHES:
            is_on = switch.is_on(seen.state)
            self._buttons[switch.name].set_text(switch.mended if is_on else switch.broken)
            self._buttons[switch.name].props(f'aria-pressed="{"true" if is_on else "false"}"')
            self._states[switch.name].set_content(self._said(switch.name, is_on=is_on))

    def _said(self, name: str, *, is_on: bool) -> str:
        if name == "withdraw":
            return f"<p>{'Withdrawn. ' if is_on else ''}{self._when_it_bites(is_on=is_on)}</p>"
        if not is_on:
            return ""
        if name == "throttle":
            return "<p>Throttled: queues grow, and empty themselves afterwards.</p>"
        return f"<p>Denied. {self._said_of_the_deny()}</p>"

    def _said_of_the_deny(self) -> str:
        if self._seen.state.shut:
            return "New sessions are refused, as the role trusts nobody: nothing is delivered."
        if self._seen.fleet.newest_s > self._troubles.renewed_s > 0:
            return "Collectors have new sessions, and deliver with them."
        return "Collectors ask for new sessions when they are refused."

    def _said_of_the_stop(self) -> str:
        """Until the task has left the map."""
        found = [each.state for each in self._seen.fleet.tasks if each.id == self._stopping]
        if not found:
            return ""
        name = escape(self._stopping[:8])
        if found[0] == STALE and self._stopping not in self._seen.collectors:
            return f"<p>{name} has ended: it is stale.</p>"
        return f"<p>Stopping {name}: it turns stale when it has ended.</p>"

    def _when_it_bites(self, *, is_on: bool) -> str:
        """At the next renewal of each collector's session."""
        now_s = time.time()
        windows = [
            next_renewal(max(each.began_s, self._troubles.renewed_s), now_s)
            for each in self._seen.collectors.values()
        ]
        if not windows:
            return ""
        soonest, latest = min(each[0] for each in windows), max(each[1] for each in windows)
        verb = "It bites" if is_on else "It would bite"
        if is_on and self._seen.state.shut:
            return "It bites now, as the sessions are revoked too."
        return (
            f"{verb} at the next refresh of the sessions: between {_clock(soonest)} and {_clock(latest)}, in "
            f"{(soonest - now_s) / 60:.0f} to {(latest - now_s) / 60:.0f} minutes. To see it now, revoke the sessions too."
        )

    async def _stop_task(self) -> None:
        task = str(self._task.value or "")
        if not task:
            return
        known = set(self._seen.collectors)
        self._stopping = task
        self._stopped.set_content(self._said_of_the_stop())
        number = self._begin_examination(
            f"Task {task[:8]} is being stopped. The collector of the task that follows it is examined when it runs."
        )
        if not await self._do(lambda: self._troubles.stop_task(task), self._stop):
            self._stopping = ""
            self._end_examination(number, "")
            return
        follows = await self._successor(task, known)
        if follows is None:
            told = "and its service has started no other that could be asked"
            self._end_examination(number, f"No collector of task {task[:8]} runs any more, {told}.")
        elif number == self._examinations:
            self._patient.set_value(follows.task)
            await self._examine(f"Task {task[:8]} was stopped, and its service has started this one.\n")

    async def _successor(self, stopped: str, known: Collection[str]) -> Collector | None:
        """The first collector of the same service that was not `known` before; None when there is none in time."""
        places = {each.place for each in self._seen.fleet.tasks if each.id == stopped}
        deadline = time.monotonic() + _SUCCESSOR_S
        while time.monotonic() < deadline and not self._diagnosis.is_deleted:
            for each in self._seen.fleet.tasks:
                if each.place in places and each.id not in known and each.id in self._seen.collectors:
                    return self._seen.collectors[each.id]
            await asyncio.sleep(1)
            await self.refresh()
        return None

    async def _press(self, switch: Switch) -> None:
        act = switch.mend if switch.is_on(self._seen.state) else switch.break_
        if await self._do(lambda: act(self._troubles), self._buttons[switch.name]):
            await self._examine()

    async def _do(self, act: Callable[[], Awaitable[None]], button: ui.button) -> bool:
        """Do it while its button waits; a refusal is shown. Whether it was done."""
        button.disable()
        try:
            await act()
        except TrunklineError as error:
            ui.notify(str(error), type="negative", multi_line=True)
            return False
        finally:
            button.enable()
        await self.refresh(anew=True)
        return True

    async def _examine(self, before: str = "") -> None:
        """`before` is said above what the doctor says."""
        collector = self._seen.collectors.get(str(self._patient.value))
        if collector is None:
            self._begin_examination("No collector of that task runs.")
            return
        number = self._begin_examination(f"examining the collector of task {collector.task[:8]} …")
        try:
            said = await doctor.examine(collector)
        except TrunklineError as error:
            said = str(error)
        self._end_examination(number, f"{_clock(time.time())}  task {collector.task[:8]}\n{before}{said}")

    def _begin_examination(self, said: str) -> int:
        self._examinations += 1
        self._diagnosis.set_content(escape(said))
        return self._examinations

    def _end_examination(self, number: int, said: str) -> None:
        """Nothing is said when another has begun since."""
        if number == self._examinations:
            self._diagnosis.set_content(escape(said))


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))
