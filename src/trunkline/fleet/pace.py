"""Places of a fleet: one region of one account, its clients, and how often they may ask."""

from __future__ import annotations

import time
from threading import Lock
from typing import Any, Final

from trunkline.fleet.sessions import Session, Sessions
from trunkline.fleet.watch import Halt

CALLS_PER_S: Final = 10.0
"""How many calls one account and region gets in a second, retries included: AWS throttles each of them apart."""
_BURST_CALLS: Final = 50

# One client at a time is made: the sessions share what they load, and dozens of threads would each load the same first.
_MAKING: Final = Lock()

# What cleans up behind a call that was interrupted may still be asked for.
_ALWAYS: Final = "DeleteChangeSet"


class Pace:
    """At most so many calls in a second, evenly after a first burst."""

    def __init__(self, calls_per_s: float = CALLS_PER_S) -> None:
        self._interval_s = 1 / calls_per_s
        self._burst_s = _BURST_CALLS / calls_per_s
        self._next = 0.0
        self._lock = Lock()

    def wait(self) -> None:
        """Return when the next call may go out."""
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now - self._burst_s) + self._interval_s
            pause_s = self._next - now
        if pause_s > 0:
            time.sleep(pause_s)


class Place:
    """One region of one account. Its clients are made once each; one thread works in it at a time."""

    def __init__(
        self, account_id: str, region: str, sessions: Sessions, halt: Halt, calls_per_s: float = CALLS_PER_S
    ) -> None:
        self.account_id = account_id
        self.region = region
        self.calls = 0
        """How often AWS was asked, retries included."""
        self._sessions = sessions
        self._halt = halt
        self._pace = Pace(calls_per_s)
        self._session: Session | None = None
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """The client of a service. Raises what the session raises when there are no credentials."""
        if service not in self._clients:
            self._session = self._session or self._sessions(self.account_id, self.region)
            with _MAKING:
                made = self._clients[service] = self._session.client(service)
            made.meta.events.register("before-send", self._before_send)
        return self._clients[service]

    def _before_send(self, event_name: str, **_: Any) -> None:
        if not event_name.endswith(_ALWAYS):
            self._halt.check()
        self._pace.wait()
        self.calls += 1
