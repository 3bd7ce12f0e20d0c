"""The workspaces the gateway serves, each with what it has taken and refused so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from trunkline.simulator.gateway.admission import Admission, Verdict
from trunkline.simulator.gateway.series import TokenBucket
from trunkline.simulator.gateway.settings import Workspace

WRITE = "aps:RemoteWrite"
QUERY = "aps:QueryMetrics"


@dataclass(slots=True)
class Counts:
    """What a workspace has seen since it was registered."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    requests: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    body_bytes: int = 0


class ServedWorkspace:
    """One workspace: its settings, the state of its rules, its counts."""

    def __init__(self, workspace: Workspace, now_s: float) -> None:
        self.admission = Admission(workspace, now_s)
        self.counts = Counts()
        self.configure(workspace)

    def configure(self, workspace: Workspace) -> None:
        """Take over changed settings; series and counts are kept."""
        self.workspace = workspace
        limits = workspace.limits
        self.admission.configure(workspace)
        self._writes = TokenBucket(limits.writes_per_s, limits.writes_per_s)
        self._queries = TokenBucket(limits.queries_per_s, limits.queries_per_s)
        self._lookups = TokenBucket(limits.lookups_per_s, limits.lookups_per_s)

    def may_call(self, action: str, now_s: float) -> bool:
        """Whether the rate of calls allows one more."""
        bucket = {WRITE: self._writes, QUERY: self._queries}.get(action, self._lookups)
        return bucket.take(1, now_s)

    def count(self, verdict: Verdict) -> None:
        """Count the samples of a write that has been carried out."""
        self.counts.accepted.update(verdict.accepted)
        self.counts.refused.update(verdict.refused)

    def stats(self) -> dict[str, Any]:
        """The JSON form of the counts; see `GatewayClient.stats`."""
        counts = self.counts
        active = self.admission.active_series()
        refused: Counter[str] = Counter()
        by_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for (source, reason), samples in counts.refused.items():
            refused[reason] += samples
            by_source[source][reason] += samples
        return {
            "account": self.workspace.account,
            "region": self.workspace.region,
            "active_series": len(self.admission.memory),
            "accepted": counts.accepted.total(),
            "refused": dict(refused),
            "requests": {
                action: {str(status): number for status, number in statuses.items()}
                for action, statuses in counts.requests.items()
            },
            "body_bytes": counts.body_bytes,
            "metadata_names": len(self.admission.metadata),
            "sources": {
                source: {
                    "accepted": counts.accepted[source],
                    "refused": dict(by_source[source]),
                    "active_series": active[source],
                }
                for source in sorted({*counts.accepted, *by_source, *active})
            },
        }


class Workspaces:
    """All workspaces by id; ids are unique across accounts and regions."""

    def __init__(self) -> None:
        self._served: dict[str, ServedWorkspace] = {}

    def register(self, workspace: Workspace, now_s: float) -> None:
        """Serve a workspace, or serve it with changed settings."""
        if served := self._served.get(workspace.id):
            served.configure(workspace)
        else:
            self._served[workspace.id] = ServedWorkspace(workspace, now_s)

    def remove(self, workspace_id: str) -> bool:
        """Serve a workspace no longer; False when it was not served."""
        return self._served.pop(workspace_id, None) is not None

    def find(self, workspace_id: str) -> ServedWorkspace | None:
        """The workspace of this id, in whatever region it is."""
        return self._served.get(workspace_id)

    def stats(self) -> dict[str, Any]:
        """The counts of all workspaces by id."""
        return {workspace_id: served.stats() for workspace_id, served in self._served.items()}
