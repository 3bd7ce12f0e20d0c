"""What goes wrong on purpose at the front door."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Fault:
    """One thing that goes wrong, for the calls it is aimed at: every `every`-th of them, `count` times.

    Aimed by `service` (the signing name), `operation` and `account`; `*` means all. A call it hits waits
    `delay_s`, and is then refused with `code`, `message` and `status`, or as coming too fast if
    `is_throttling`; with neither it is only slow. `count` None means until it is removed.
    """

    service: str = "*"
    operation: str = "*"
    account: str = "*"
    code: str = ""
    message: str = ""
    status: int = 400
    is_throttling: bool = False
    delay_s: float = 0.0
    every: int = 1
    count: int | None = None
    seen: int = 0

    def is_aimed_at(self, account: str, service: str, operation: str) -> bool:
        """Whether such a call is among those that can be hit."""
        aims = ((self.account, account), (self.service, service), (self.operation, operation))
        return all(wanted in {"*", given} for wanted, given in aims)

    def hits(self) -> bool:
        """Count one more call it is aimed at, and say whether it is hit."""
        self.seen += 1
        if self.count == 0 or self.seen % self.every:
            return False
        if self.count is not None:
            self.count -= 1
        return True


class Faults:
    """The faults in force; the first that hits a call counts."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Put `fault` in force; it is returned for `remove`."""
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Take `fault` out of force, if it is in force."""
        if fault in self._faults:
            self._faults.remove(fault)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._faults.clear()

    def pick(self, account: str, service: str, operation: str) -> Fault | None:
        """The fault that hits this call."""
        return next(
            (
                fault
                for fault in self._faults
                if fault.is_aimed_at(account, service, operation) and fault.hits()
            ),
            None,
        )
