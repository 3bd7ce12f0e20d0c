"""One run over a fleet: accounts side by side, progress told, errors placed, and everybody stopped when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Final, Literal, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.errors import FleetError
from trunkline.fleet.model import Fleet
from trunkline.fleet.order import FleetStack, Kind, Templates, all_stacks
from trunkline.fleet.pace import CALLS_PER_S, Place
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.watch import Halt, HaltedError

MAX_ACCOUNTS_AT_ONCE: Final = 16
MAX_REGIONS_AT_ONCE: Final = 8
"""Of one account."""

StackState = Literal[
    "created", "updated", "unchanged", "deleted", "absent", "failed", "interrupted", "not reached"
]
AccountState = Literal["changed", "unchanged", "failed", "interrupted", "not reached"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on the way; `text` is a few words, such as `creating` or `unchanged`."""

    account_id: str
    region: str
    stack: str
    text: str


OnProgress = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class StackResult:
    """What became of one stack; `message` is the error's, `in_progress` says that AWS is still busy with it."""

    kind: Kind
    account_id: str
    region: str
    stack: str
    state: StackState
    message: str = ""
    in_progress: bool = False

    @property
    def place(self) -> str:
        return f"account {self.account_id}, {self.region}, {self.stack}"


@dataclass(frozen=True, slots=True)
class AccountResult:
    """What became of one account."""

    account_id: str
    stacks: tuple[StackResult, ...]

    @property
    def state(self) -> AccountState:
        states = {stack.state for stack in self.stacks}
        bad: AccountState
        for bad in ("failed", "interrupted", "not reached"):
            if bad in states:
                return bad
        return "changed" if states & {"created", "updated", "deleted"} else "unchanged"

    @property
    def messages(self) -> tuple[str, ...]:
        return tuple(stack.message for stack in self.stacks if stack.state == "failed")


class RunError(FleetError):
    """Some accounts failed; `accounts` has what became of each of them."""

    def __init__(self, accounts: Sequence[AccountResult]) -> None:
        self.accounts = tuple(accounts)
        super().__init__("\n".join(message for account in accounts for message in account.messages))

    @property
    def some_succeeded(self) -> bool:
        """Whether there are workload accounts that are as they should be."""
        return any(
            account.state in ("changed", "unchanged")
            for account in self.accounts
            if any(stack.kind not in ("monitoring", "peering") for stack in account.stacks)
        )


class InterruptedRunError(RunError):
    """Somebody asked to stop; `in_progress` are the stacks that AWS is busy with, and will finish."""

    def __init__(self, accounts: Sequence[AccountResult]) -> None:
        super().__init__(accounts)
        stacks = [stack for account in accounts for stack in account.stacks]
        self.in_progress = tuple(stack.place for stack in stacks if stack.in_progress)
        text = "interrupted"
        if self.in_progress:
            text += f"; AWS goes on by itself with: {'; '.join(self.in_progress)}"
        text += "; repeat the command: it waits for what is under way, and goes on from there"
        self.args = ("\n".join([text, *(line for account in accounts for line in account.messages)]),)


class Run:
    """What all the work of one run shares."""

    def __init__(
        self,
        fleet: Fleet,
        sessions: Sessions,
        on_progress: OnProgress,
        halt: Halt | None = None,
        calls_per_s: float = CALLS_PER_S,
    ) -> None:
        self.fleet = fleet
        self.halt = halt or Halt()
        self.templates = Templates(fleet)
        self.calls = 0
        self.sessions = sessions
        self._on_progress = on_progress
        self._calls_per_s = calls_per_s
        self._lock = Lock()
        self._results: dict[str, list[StackResult]] = {}

    def place(self, account_id: str, region: str) -> Place:
        return Place(account_id, region, self.sessions, self.halt, self._calls_per_s)

    def teller(self, stack: FleetStack) -> Callable[[str], None]:
        """Tells of a stack; from several threads, one call at a time."""

        def tell(text: str) -> None:
            with self._lock:
                self._on_progress(Event(stack.account_id, stack.region, stack.name, text))

        return tell

    def record(
        self, stack: FleetStack, state: StackState, message: str = "", *, in_progress: bool = False
    ) -> None:
        result = _result(stack, state, message, in_progress=in_progress)
        with self._lock:
            self._results.setdefault(stack.account_id, []).append(result)

    @contextmanager
    def recorded(self, stack: FleetStack) -> Iterator[None]:
        """Whatever goes wrong inside is written down, and goes on as a `FleetError` that begins with where it was."""
        try:
            self.halt.check()
            yield
        except HaltedError as error:
            self.record(stack, "interrupted", in_progress=error.in_progress)
            raise
        except (FleetError, ClientError, BotoCoreError) as error:
            message = f"{stack.place}: {error}"
            self.record(stack, "failed", message)
            raise FleetError(message) from error

    def side_by_side(self, work: Callable[[T], R], items: Iterable[T], at_once: int) -> list[R]:
        """Do the work for all items, so many at once. An interrupt stops all of them before it goes on."""
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="fleet")
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            self.halt.ask()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def alone(self, work: Callable[[], T]) -> T:
        """Do one thing, in a thread as well: an interrupt then reaches whoever waits, never the work itself."""
        [done] = self.side_by_side(lambda _: work(), [None], 1)
        return done

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A KeyboardInterrupt inside goes on as an `InterruptedRunError`, which says how far it came."""
        try:
            yield
        except KeyboardInterrupt:
            raise InterruptedRunError(self.results()) from None

    def results(self, stacks: Iterable[FleetStack] | None = None) -> tuple[AccountResult, ...]:
        """What became of each account, in the order of the stacks; those without a result were not reached.

        Without `stacks` it is of all that the fleet has.
        """
        wanted: dict[str, list[FleetStack]] = {}
        for stack in all_stacks(self.fleet) if stacks is None else stacks:
            wanted.setdefault(stack.account_id, []).append(stack)
        return tuple(self._account(account_id, each) for account_id, each in wanted.items())

    def raise_unless_well(self, accounts: Sequence[AccountResult]) -> None:
        """Raise `RunError` or `InterruptedRunError` unless all of it was done."""
        if self.halt.is_asked:
            raise InterruptedRunError(accounts)
        if {account.state for account in accounts} - {"changed", "unchanged"}:
            raise RunError(accounts)

    def _account(self, account_id: str, stacks: list[FleetStack]) -> AccountResult:
        known = self._results.get(account_id, [])
        reached = {(result.region, result.stack) for result in known}
        others = [stack for stack in stacks if (stack.region, stack.name) not in reached]
        return AccountResult(account_id, (*known, *(_result(stack, "not reached") for stack in others)))


def _result(
    stack: FleetStack, state: StackState, message: str = "", *, in_progress: bool = False
) -> StackResult:
    return StackResult(stack.kind, stack.account_id, stack.region, stack.name, state, message, in_progress)


def quietly(work: Callable[P, object]) -> Callable[P, None]:
    """The same work, whose errors have been written down already: other accounts go on."""

    def do(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except FleetError:
            return

    return do
