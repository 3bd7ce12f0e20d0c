"""AWS's time, as its answers tell it, for signatures that a wrong clock of this machine would spoil.

Every answer of AWS has a `Date`, good ones too. The difference to this machine's clock is kept against a clock that
nobody sets, so that a clock that is put right is noticed at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from trunkline.net.message import Response, parse_http_date

logger = logging.getLogger(__name__)

CORRECT_FROM_S: Final = 5.0
"""From what difference on AWS's time is used; below it this machine's own, which is finer than a `Date`."""

REPORT_FROM_S: Final = 60.0

_LONGEST_EXCHANGE_S: Final = 10.0
"""An exchange that took longer says too little about when its `Date` was written."""

_AGREE_WITHIN_S: Final = 3.0
_REFUSED: Final = frozenset({400, 401, 403})


def _steady_s() -> float:
    """Seconds that pass while the machine is suspended, too, and are never set."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class ServerClock:
    """AWS's time; this machine's until AWS has said something else.

    Shared by everything in a process that signs. `local` gives this machine's time in epoch seconds, `steady` seconds
    since any moment, of a clock that nobody sets.
    """

    def __init__(
        self, local: Callable[[], float] = time.time, steady: Callable[[], float] = _steady_s
    ) -> None:
        self.local = local
        self._steady = steady
        self._ahead_s: float | None = None  # AWS's time less the steady clock's
        self._doubted_s: float | None = None
        self._reported_s = 0.0

    @property
    def offset_s(self) -> float:
        """AWS's time less this machine's, to within a second; 0 while AWS has not been heard."""
        return 0.0 if self._ahead_s is None else self._ahead_s + self._steady() - self.local()

    @property
    def heard_anything(self) -> bool:
        """Whether the offset is known."""
        return self._ahead_s is not None

    def now(self) -> float:
        """Epoch seconds to sign with."""
        offset_s = self.offset_s
        return self.local() + (offset_s if abs(offset_s) >= CORRECT_FROM_S else 0.0)

    async def timed(self, exchange: Awaitable[Response]) -> Response:
        """The answer of `exchange`, an exchange with AWS that is about to begin, once its `Date` has been noted."""
        began_s = self._steady()
        response = await exchange
        self.heard(response.status, response.headers, began_s)
        return response

    def heard(self, status: int, headers: Mapping[str, str], began_s: float) -> None:
        """Note the `Date` of an answer; `began_s` is when it was asked for, by the steady clock.

        A date that contradicts what is known, or this machine's clock, counts when AWS refuses us or when a second one
        agrees with it: one mad server changes nothing.
        """
        date_s = parse_http_date(headers.get("date", ""))
        ended_s = self._steady()
        if date_s is None or ended_s - began_s > _LONGEST_EXCHANGE_S:
            return
        # Whole seconds, cut off, written at some moment between question and answer: the middle is nearest to both.
        ahead_s = date_s + 0.5 - (began_s + ended_s) / 2
        slack_s = _AGREE_WITHIN_S + (ended_s - began_s) / 2
        expected_s = self.local() - ended_s if self._ahead_s is None else self._ahead_s
        agrees = abs(ahead_s - expected_s) <= slack_s
        confirmed = self._doubted_s is not None and abs(ahead_s - self._doubted_s) <= slack_s
        if agrees or confirmed or status in _REFUSED:
            self._ahead_s, self._doubted_s = ahead_s, None
            self._report()
        else:
            self._doubted_s = ahead_s

    def _report(self) -> None:
        """Say that the clock is wrong, once for each change."""
        offset_s = self.offset_s
        wrong = abs(offset_s) >= REPORT_FROM_S
        if wrong and abs(offset_s - self._reported_s) >= REPORT_FROM_S:
            self._reported_s = offset_s
            logger.warning("%s", explain_offset(offset_s))
        elif not wrong and self._reported_s:
            self._reported_s = 0.0
            logger.info("the clock of this machine is right again")


def explain_offset(offset_s: float) -> str:
    """What a wrong clock does, and what to do about it; `offset_s` is AWS's time less this machine's."""
    return (
        f"the clock of this machine is {amount(offset_s)} {'behind' if offset_s > 0 else 'ahead of'} AWS's. Requests "
        "are signed with AWS's time, but samples carry this machine's: a workspace refuses those that are more than an "
        "hour old or lie in the future. Set the clock right (chrony, NTP)"
    )


def amount(seconds: float) -> str:
    """A length of time for people, such as `10m0s`."""
    whole = round(abs(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if whole >= 60 else "") + f"{whole % 60}s"
