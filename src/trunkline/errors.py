"""Every exception Trunkline raises.

    TrunklineError
    ├── ConfigError               a file that cannot be accepted; carries every Problem found in it
    ├── UsageError                the command line asked for something that cannot be
    ├── FetchError                an HTTP exchange did not produce an answer
    │   ├── ConnectError          nobody there, refused, name not resolved, TLS refused
    │   ├── FetchTimeoutError     no complete answer in time
    │   ├── ProtocolError         the other side does not speak HTTP as agreed
    │   └── BodyTooLargeError     the body passed its limit
    ├── ExpositionError           a scraped body that is not valid exposition text
    ├── WireError                 bytes that are not a valid remote-write message or snappy stream
    ├── CredentialsError          no usable credentials; names the hop that failed
    ├── QueueError                the queue's folder cannot be used
    ├── QueryError                a workspace did not answer a query
    ├── SimulatorError            the simulator could not do what was asked
    ├── FleetError                a step of a deployment failed
    │   ├── RunError              some accounts or all of them failed; says which
    │   ├── InterruptedRunError   somebody stopped it; says what is still in progress
    │   └── HaltedError           a step that was not begun any more
    ├── GrafanaError              a Grafana did not take what it was given
    └── DeliveryError             why a request to an exporter's receiver did not succeed
        ├── RetryLater            the same bytes may succeed later
        ├── TooLarge              smaller requests may succeed
        ├── Hold                  somebody has to repair something; the data is kept
        ├── NotNow                some of these series cannot be taken now, others can
        └── Rejected              these bytes will never be accepted

Messages say what happened, why, and what to do about it. `cli` maps them to exit codes: 1 failed, 2 wrong
usage or configuration, 3 some accounts of a fleet failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class TrunklineError(Exception):
    """Anything Trunkline reports to its user as an error."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a configuration.

    `place` is `file:line:column` (1-based) as far as known, `path` the key path as the collector writes it
    (`receivers::prometheus::config`), `remedy` what to do about it, or empty.
    """

    place: str
    path: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.place, self.path) if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.remedy})" if self.remedy else text


class ConfigError(TrunklineError):
    """A configuration that cannot be accepted, with everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(TrunklineError):
    """The command line asked for something that cannot be."""


class FetchError(TrunklineError):
    """An HTTP exchange did not produce an answer."""


class ConnectError(FetchError):
    """Nobody there, refused, name not resolved, or TLS refused."""


class FetchTimeoutError(FetchError):
    """No complete answer in time."""


class ProtocolError(FetchError):
    """The other side does not speak HTTP as agreed."""


class BodyTooLargeError(FetchError):
    """The body passed its limit."""


class ExpositionError(TrunklineError):
    """A scraped body that is not valid exposition text; the whole scrape fails, as in Prometheus."""


class WireError(TrunklineError):
    """Bytes that are not a valid remote-write message or snappy stream."""


class CredentialsError(TrunklineError):
    """No usable credentials.

    `hop` names the link of the chain that failed: `environment`, `profile`, `web identity`, `container`,
    `instance`, `assume role`; `credentials` when nothing was found anywhere. `said` are the words of who refused, if
    anybody did, and `change` is what the message says to do, to the letter: statements of policies, settings.
    """

    def __init__(self, message: str, *, hop: str, said: str = "", change: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.hop = hop
        self.said = said
        self.change = tuple(change)

    def repeated(self) -> CredentialsError:
        """The same error, to be raised once more."""
        return CredentialsError(str(self), hop=self.hop, said=self.said, change=self.change)


class QueueError(TrunklineError):
    """The queue's folder cannot be used."""


class QueryError(TrunklineError):
    """A workspace did not answer a query; `status` is the HTTP status it answered instead, 0 for none."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class SimulatorError(TrunklineError):
    """The simulator could not do what was asked."""


class FleetError(TrunklineError):
    """A step of a deployment failed."""


class GrafanaError(TrunklineError):
    """A Grafana cannot be reached, or did not take what it was given."""


class DeliveryError(TrunklineError):
    """Why a request to an exporter's receiver did not succeed; `reason` is a short label for counting."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class RetryLater(DeliveryError):  # noqa: N818 (named for what the host does)
    """The same bytes may succeed later; `after_s` is the receiver's own wish, if it had one."""

    def __init__(self, message: str, *, reason: str, after_s: float | None = None) -> None:
        super().__init__(message, reason=reason)
        self.after_s = after_s


class TooLarge(DeliveryError):  # noqa: N818
    """The request is too large for the receiver; smaller ones may succeed."""


class Hold(DeliveryError):  # noqa: N818
    """Somebody has to repair something (a role, a trust, a workspace); the data is kept until then."""


class NotNow(DeliveryError):  # noqa: N818
    """Some of these series cannot be taken now, such as new ones at a limit, while others can."""


class Rejected(DeliveryError):  # noqa: N818
    """The receiver will never accept these bytes."""
