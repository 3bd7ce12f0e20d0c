"""Following a change of a CloudFormation stack while AWS makes it, and letting go of it when told."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final

from botocore.exceptions import ClientError

from trunkline.errors import FleetError
from trunkline.fleet.lists import pages

TOKEN_PREFIX: Final = "trunkline-"  # noqa: S105 (a name, no secret)
"""Begins the client request token of every change of ours; AWS writes it beside each event of that change."""

OnText = Callable[[str], None]

_FIRST_POLL_S: Final = 0.05
_LONGEST_POLL_S: Final = 5.0
# The reason of a resource that only failed because another one did.
_CANCELLED: Final = "cancelled"


class HaltedError(FleetError):
    """Somebody asked to stop; `in_progress` says that AWS is busy with a stack, and will finish it."""

    def __init__(self, *, in_progress: bool = False) -> None:
        super().__init__("interrupted")
        self.in_progress = in_progress


class Halt:
    """Asks everybody who works on a fleet to stop, across threads."""

    def __init__(self) -> None:
        self._asked = Event()

    def ask(self) -> None:
        self._asked.set()

    @property
    def is_asked(self) -> bool:
        return self._asked.is_set()

    def check(self) -> None:
        """Raise `HaltedError` once somebody has asked to stop."""
        if self._asked.is_set():
            raise HaltedError

    def polls(self) -> Iterator[None]:
        """Endless turns, quick at first for what answers at once, then no faster than AWS likes."""
        pause_s = _FIRST_POLL_S
        while True:
            self.check()
            yield
            self._asked.wait(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_POLL_S)


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Follower:
    """Whoever follows a change: is told of it in a few words, may ask to stop, and looks `beside` at every turn."""

    on_text: OnText
    halt: Halt = field(default_factory=Halt)
    beside: Callable[[], None] = _nothing


def new_token() -> str:
    return f"{TOKEN_PREFIX}{uuid.uuid4().hex}"


def is_in_progress(status: str) -> bool:
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def describe(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """The stack as CloudFormation describes it, by name or id, or None when there is none."""
    try:
        stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        # CloudFormation has no code of its own for this.
        if "does not exist" in str(error):
            return None
        raise
    return dict(stacks[0]) if stacks else None


class Watch:
    """Tells of what one change does to a stack's resources, each event once.

    Events are told apart by the change's token: "All events triggered by a given stack operation are assigned the
    same client request token" (CloudFormation API reference, StackEvent).
    """

    def __init__(self, cloudformation: Any, stack_id: str, token: str, follower: Follower) -> None:
        self._cloudformation = cloudformation
        self._stack_id = stack_id
        self._token = token
        self._follower = follower
        self._seen: set[str] = set()
        self._failures: list[str] = []

    def until_settled(self) -> dict[str, Any] | None:
        """Wait until the change has ended, well or badly, and return the stack as it is then; None when it is gone."""
        try:
            return self._settled()
        except HaltedError:
            raise HaltedError(in_progress=True) from None

    def _settled(self) -> dict[str, Any] | None:
        ended = False
        for _ in self._follower.halt.polls():
            ended |= self._tell_news()
            self._follower.beside()
            # The stack's own event may be of its failure, which its rollback follows.
            if ended:
                found = describe(self._cloudformation, self._stack_id)
                if found is None or not is_in_progress(found["StackStatus"]):
                    return found
        raise AssertionError("polls have no end")

    def first_failure(self) -> str:
        """The resource that failed first, and why: what came after it are consequences."""
        return self._failures[0] if self._failures else "AWS gave no reason; see the stack's events"

    def _tell_news(self) -> bool:
        """Whether one of the news is the stack's own, that it has ended."""
        ended = False
        for event in reversed(list(self._news())):
            self._seen.add(event["EventId"])
            if event["PhysicalResourceId"] == self._stack_id:
                ended |= not is_in_progress(event["ResourceStatus"])
            else:
                self._tell(event)
        return ended

    def _news(self) -> Iterator[dict[str, Any]]:
        # The newest comes first, so the rest is known, or another change's, from the first such event on.
        for event in events(self._cloudformation, self._stack_id):
            if event["EventId"] in self._seen or event.get("ClientRequestToken") != self._token:
                return
            yield event

    def _tell(self, event: dict[str, Any]) -> None:
        resource = f"{event['LogicalResourceId']} ({event['ResourceType']})"
        status, reason = event["ResourceStatus"], event.get("ResourceStatusReason", "")
        failed = status.endswith("_FAILED")
        if failed and _CANCELLED not in reason:
            self._failures.append(f"{resource}: {reason or status}")
        if not status.endswith("_IN_PROGRESS"):
            words = status.lower().replace("_", " ")
            self._follower.on_text(f"{resource} {words}" + (f": {reason}" if failed and reason else ""))


def events(cloudformation: Any, stack_id: str) -> Iterator[dict[str, Any]]:
    """The stack's events, the newest first; none for a stack that does not exist."""
    try:
        yield from pages(cloudformation, "describe_stack_events", "StackEvents", StackName=stack_id)
    except ClientError as error:
        if "does not exist" not in str(error):
            raise


def token_of(cloudformation: Any, stack_id: str) -> str:
    """The token of the newest change of a stack, empty if it has none."""
    newest = next(events(cloudformation, stack_id), {})
    return str(newest.get("ClientRequestToken", ""))
