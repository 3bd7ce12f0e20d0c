"""What has been told to go wrong, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.simulator.gateway.settings import Fault


@dataclass(slots=True)
class _Active:
    fault: Fault
    left: int | None
    ends_s: float | None


class Faults:
    """The faults in force. `take` uses one up, `skew_s` does not."""

    def __init__(self) -> None:
        self._active: dict[int, _Active] = {}
        self._number = 0

    def add(self, fault: Fault, now_s: float) -> int:
        """Put a fault in force; the number removes it."""
        self._number += 1
        ends_s = None if fault.duration_s is None else now_s + fault.duration_s
        self._active[self._number] = _Active(fault, fault.count, ends_s)
        return self._number

    def remove(self, number: int) -> None:
        """Take a fault out of force; nothing happens when it has ended."""
        self._active.pop(number, None)

    def clear(self) -> None:
        """Take all faults out of force."""
        self._active.clear()

    def listed(self, now_s: float) -> dict[int, Fault]:
        """The faults in force by number."""
        self._end(now_s)
        return {number: active.fault for number, active in self._active.items()}

    def take(self, kind: str, now_s: float, *, workspace: str, source: str, action: str) -> Fault | None:
        """The oldest fault of `kind` aimed at such a request; it counts as used."""
        self._end(now_s)
        for number, active in self._active.items():
            if active.fault.kind == kind and _aimed(active.fault, workspace, source, action):
                if active.left is not None:
                    active.left -= 1
                    if active.left <= 0:
                        self.remove(number)
                return active.fault
        return None

    def skew_s(self, now_s: float, workspace: str) -> float:
        """How far ahead the gateway's clock is, for signatures and the `Date` of answers."""
        self._end(now_s)
        return sum(
            active.fault.skew_s
            for active in self._active.values()
            if active.fault.kind == "skew" and active.fault.workspace in {"", workspace}
        )

    def _end(self, now_s: float) -> None:
        for number, active in list(self._active.items()):
            if active.ends_s is not None and now_s >= active.ends_s:
                self.remove(number)


def _aimed(fault: Fault, workspace: str, source: str, action: str) -> bool:
    return (
        fault.workspace in {"", workspace} and fault.source in {"", source} and fault.action in {"", action}
    )
