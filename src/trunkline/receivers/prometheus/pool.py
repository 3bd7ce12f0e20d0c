"""The targets of one job as discoveries come and go: which are scraped, which are ending, which are refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from trunkline.model import Labels
from trunkline.receivers.prometheus.discovery.groups import TargetGroup
from trunkline.receivers.prometheus.loop import TargetLoop
from trunkline.receivers.prometheus.owners import Owner, Owners
from trunkline.receivers.prometheus.rules import left
from trunkline.receivers.prometheus.target import HOSTS_FILE, Target, make_target, own_hosts

log = logging.getLogger(__name__)


class Rhythm(Protocol):
    """Who says when targets are scraped."""

    def add(self, loop: TargetLoop) -> None:
        """Begin to scrape."""
        ...

    def remove(self, loop: TargetLoop) -> None:
        """Scrape no more."""
        ...

    def finish(self, loop: TargetLoop, then: Callable[[], None]) -> Callable[[], None]:
        """End the series of a target that is gone, in a while, and then call `then`; what is returned calls that off."""
        ...


class JobTargets:
    """Keeps the loops of a job in step with its target groups.

    `owners` says whose the series of each target key are, for all jobs that write to the same place, those of other
    receivers, too: two targets with the same labels would write the same series, so only the first one is scraped,
    and the second refused by name.
    """

    def __init__(
        self,
        owner: Owner,
        start: Callable[[Target], TargetLoop],
        rhythm: Rhythm,
        owners: Owners,
        own_addresses: frozenset[str] = frozenset(),
        hosts_file: Path = HOSTS_FILE,
    ) -> None:
        self._owner = owner
        self._job = owner.job
        self._start = start
        self._rhythm = rhythm
        self._owners = owners
        self._own_addresses = own_addresses
        self._hosts_file = hosts_file
        self._groups: dict[int, Sequence[TargetGroup]] = {}
        self._loops: dict[str, TargetLoop] = {}
        self._ending: dict[str, tuple[TargetLoop, Callable[[], None]]] = {}
        self._complaints: set[str] = set()
        self._alike = ""
        self.refused = False
        """Whether a target waits for another one with the same labels to go."""

    @property
    def loops(self) -> list[TargetLoop]:
        return list(self._loops.values())

    @property
    def ending(self) -> list[TargetLoop]:
        """Those of targets that are gone, whose series have not ended yet."""
        return [loop for loop, _ in self._ending.values()]

    def update(self, source: int, groups: Sequence[TargetGroup]) -> None:
        """Take what one discovery knows now, in place of what it knew before."""
        if self._groups.get(source) != groups:
            self._groups[source] = groups
            self.sync()

    def sync(self) -> None:
        """Start, move and stop loops until they are those of the targets there are."""
        wanted = self._wanted()
        self._compare(wanted)
        for key in [key for key in self._loops if key not in wanted]:
            self._vanish(key)
        for key, target in wanted.items():
            self._appear(key, target)
        limit, count = self._job.target_limit, len(wanted)
        exceeded = f"target_limit exceeded (number of targets: {count}, limit: {limit})"
        if limit:
            for loop in self._loops.values():
                loop.refuse(exceeded if count > limit else "")

    def _wanted(self) -> dict[str, Target]:
        """The targets to scrape by key; what is wrong with others is said, once as long as it lasts."""
        wanted: dict[str, Target] = {}
        complaints: set[str] = set()
        self.refused = False
        for target in self._targets(complaints):
            first = wanted.setdefault(target.key, target)
            owner = self._owners.of(target.key) or self._owner
            if owner is not self._owner:
                del wanted[target.key]
                self.refused = True
                elsewhere = (
                    "" if owner.receiver == self._owner.receiver else f" in the receiver {owner.receiver}"
                )
                complaints.add(
                    f"job {self._job.name}: target {target.url} is not scraped: a target of job {owner.job.name}"
                    f"{elsewhere} has the same labels {target.key}, and their series could not be told apart; give one "
                    "of them another label"
                )
            elif _differ(first, target):
                complaints.add(
                    f"job {self._job.name}: target {target.url} is not scraped: {first.url} has the same labels "
                    f"{target.key}, and their series could not be told apart; give one of them another label"
                )
        for complaint in sorted(complaints - self._complaints):
            log.error("%s", complaint)
        self._complaints = complaints
        return wanted

    def _compare(self, wanted: Mapping[str, Target]) -> None:
        """Say once which targets `metric_relabel_configs` make alike; they are scraped, as they may show other series."""
        seen: dict[Labels, Target] = {}
        pairs = (
            (target, seen.setdefault(labels, target))
            for target in wanted.values()
            if (labels := left(target))
        )
        one, other = next(((one, other) for one, other in pairs if one is not other), (None, None))
        alike = f"{one.url} and {other.url}" if one and other else ""
        if alike and not self._alike:
            log.warning(
                "job %s: metric_relabel_configs leave nothing that tells the series of %s apart: where both show the same "
                "series their samples clash, and the workspace refuses some; keep instance, or give the targets a label "
                "of their own",
                self._job.name,
                alike,
            )
        self._alike = alike

    def _targets(self, complaints: set[str]) -> Iterator[Target]:
        own = own_hosts(self._own_addresses, self._hosts_file)
        for source in sorted(self._groups):
            for group in self._groups[source]:
                for labels in group.targets:
                    try:
                        target = make_target(self._job, labels, group.labels, own)
                    except ValueError as error:
                        complaints.add(
                            f"job {self._job.name}: the target {dict(labels)} cannot be scraped: {error}"
                        )
                    else:
                        if target is not None:
                            yield target

    def _vanish(self, key: str) -> None:
        loop = self._loops.pop(key)
        self._rhythm.remove(loop)

        def ended() -> None:
            del self._ending[key]
            self._owners.give(key)

        self._ending[key] = loop, self._rhythm.finish(loop, ended)

    def _appear(self, key: str, target: Target) -> None:
        loop = self._loops.get(key)
        if loop is None and key in self._ending:
            loop, call_off = self._ending.pop(key)
            call_off()
            loop.aim(target)
            self._rhythm.add(loop)
        elif loop is None:
            loop = self._start(target)
            self._rhythm.add(loop)
        elif _differ(loop.target, target):
            self._rhythm.remove(loop)
            loop.aim(target)
            self._rhythm.add(loop)
        self._loops[key] = loop
        self._owners.take(key, self._owner)


def _differ(one: Target, other: Target) -> bool:
    """Whether two targets with the same labels are not the same."""
    return (one.url, one.interval_s, one.timeout_s) != (other.url, other.interval_s, other.timeout_s)
