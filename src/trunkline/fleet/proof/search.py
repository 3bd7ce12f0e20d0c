"""The search in one account and region: every list is asked once, and each hit is read again before it counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.errors import FleetError
from trunkline.fleet.proof.leftover import Hit, Leftover, Read
from trunkline.fleet.proof.names import grafanas, log_groups, repositories, roles, workspaces
from trunkline.fleet.proof.place import SearchedPlace
from trunkline.fleet.proof.stacks import described_stack, stack_sets, stacks
from trunkline.fleet.proof.tags import ec2_tags, tagged
from trunkline.fleet.proof.task_definitions import task_definitions

_FIRST_PAUSE_S: Final = 0.1
_NOT_THERE: Final = (
    "NotFound",
    "NoSuchEntity",
    "not found",
    "does not exist",
    "Unable to describe task definition",
)


class Search:
    """What is global to an account is looked for in one region of it; `not_looked` says what nobody could look at."""

    def __init__(self, place: SearchedPlace, *, is_named: bool = True) -> None:
        self.place = place
        self.is_named = is_named
        self.not_looked: list[str] = []

    def enabled_regions(self) -> list[str]:
        """The regions the account may use, by what EC2 says."""
        found: list[str] = []
        with self._looking("regions"):
            found += [each["RegionName"] for each in self.place.client("ec2").describe_regions()["Regions"]]
        return found

    def all(self, deadline: float) -> list[Leftover]:
        """Everything that is there, and stays; `deadline` is on the monotonic clock."""
        hits: list[Hit] = []
        for title, look in self._looks():
            with self._looking(title):
                hits += look(self.place)
        left = [hit for hit, read in hits if self._stays(hit, read, deadline)]
        self.place.forget_clients()
        return left

    def tagged(self) -> list[Leftover]:
        """What carries the tag and is there now."""
        found: list[Leftover] = []
        with self._looking("the Tagging API"):
            found += [hit for hit, read in tagged(self.place) if self._stays(hit, read, 0.0)]
        self.place.forget_clients()
        return found

    def _looks(self) -> Iterator[tuple[str, Callable[[SearchedPlace], Iterable[Hit]]]]:
        yield "stacks", stacks
        yield "the Tagging API", tagged
        if not self.is_named:
            return
        yield "EC2's tags", ec2_tags
        yield "task definitions", task_definitions
        yield "log groups", log_groups
        yield "repositories", repositories
        if self.place.is_home():
            yield "roles", roles
        if self.place.is_monitoring():
            yield "workspaces", workspaces
            if self.place.fleet.monitoring.grafana:
                yield "Grafana", grafanas
            if self.place.fleet.organization:
                yield "stack sets", stack_sets

    @contextmanager
    def _looking(self, title: str) -> Iterator[None]:
        """Once; what AWS does not let see is said."""
        try:
            yield
        except (ClientError, BotoCoreError, FleetError) as error:
            self._blind(title, error)

    def _blind(self, title: str, error: Exception) -> None:
        self.not_looked.append(f"{self.place}: {title}: {error}")

    def _stays(self, hit: Leftover, read: Read, deadline: float) -> bool:
        pause_s = _FIRST_PAUSE_S
        try:
            while read():
                if time.monotonic() + pause_s > deadline:
                    return True
                if not self._is_passing(hit):
                    return True
                time.sleep(pause_s)
                pause_s *= 2
        except (ClientError, BotoCoreError) as error:
            if any(words in str(error) for words in _NOT_THERE):
                return False
            self._blind(f"{hit.kind} {hit.name}", error)
            return True
        return False

    def _is_passing(self, hit: Leftover) -> bool:
        """Whether reading once more may make a difference: what only a list of tags knows, or is being deleted."""
        return (
            hit.found_by == "tag"
            or self._status(hit).endswith("DELETING")
            or "DELETE_IN" in self._status(hit)
        )

    def _status(self, hit: Leftover) -> str:
        if hit.kind == "stack":
            return str(described_stack(self.place, hit.arn)["StackStatus"])
        if hit.kind == "workspace":
            found = self.place.client("amp").describe_workspace(workspaceId=hit.arn.rpartition("/")[2])
            return str(found["workspace"]["status"]["statusCode"])
        return ""
