"""Workspaces, their limits and faults: everything about the gateway that can be set, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from trunkline.errors import SimulatorError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one workspace takes.

    Defaults are AMP's as far as they are known (quotas of "Amazon Managed Service for Prometheus service
    quotas", the user guide's troubleshooting and CloudWatch usage pages). Those without a published figure
    say so.
    """

    max_request_bytes: int = 1_000_000
    """Of the body as sent, compressed."""
    max_raw_bytes: int = 16 * 1024 * 1024
    """Of the body decompressed; no published figure, it bounds the gateway's memory."""
    max_labels: int = 70
    max_label_bytes: int = 7 * 1024
    """Of all names and values of a series together."""
    max_label_name_bytes: int = 128
    max_label_value_bytes: int = 2048
    max_sample_age_s: float = 3600.0
    max_sample_ahead_s: float = 600.0
    """How far in the future a sample may lie; no published figure, Cortex's default."""
    out_of_order_window_s: float = 60.0
    """How far behind the workspace's newest sample a late one may lie; 0 refuses every late sample."""
    max_active_series: int = 50_000_000
    """Series with a sample in the last two hours."""
    min_capacity_series: int = 2_000_000
    """What is never throttled, however few series there were 30 minutes ago."""
    samples_per_s: float = 1_666_666.0
    samples_burst: float = 1_666_666.0
    """No published figure: one second's worth."""
    writes_per_s: float = 3000.0
    queries_per_s: float = 300.0
    max_query_s: float = 60.0
    lookups_per_s: float = 10.0
    """Series, labels and metadata together."""
    max_metadata_names: int = 20_000
    max_metadata_bytes: int = 1024
    whole_requests: bool = False
    """Store nothing of a request of which a sample is refused, as some receivers do; AMP stores the rest."""

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Self:
        """Limits from their JSON form; what is not named keeps its default.

        Raises:
            SimulatorError: a name that does not exist.
        """
        return cls(**_known(cls, document))


@dataclass(frozen=True, slots=True)
class LabelSetLimit:
    """At most `max_series` active series that carry all of `labels`; no labels: series no other set matches."""

    labels: tuple[tuple[str, str], ...]
    max_series: int


@dataclass(frozen=True, slots=True)
class Workspace:
    """One workspace as the gateway knows it. `prometheus_url` is the server's root, without a trailing slash."""

    id: str
    account: str
    region: str
    prometheus_url: str
    limits: Limits = field(default_factory=Limits)
    label_sets: tuple[LabelSetLimit, ...] = ()
    resource_policy: str | None = None

    @property
    def arn(self) -> str:
        return f"arn:aws:aps:{self.region}:{self.account}:workspace/{self.id}"

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Self:
        """A workspace from its JSON form, the one `dataclasses.asdict` makes.

        Raises:
            SimulatorError: a name that is missing or does not exist.
        """
        known = _known(cls, document)
        if missing := {"id", "account", "region", "prometheus_url"} - known.keys():
            raise SimulatorError(f"a workspace needs {', '.join(sorted(missing))}")
        known["limits"] = Limits.decode(known.get("limits", {}))
        known["label_sets"] = tuple(
            LabelSetLimit(tuple(sorted((name, value) for name, value in item["labels"])), item["max_series"])
            for item in known.get("label_sets", ())
        )
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong on purpose, for the requests it is aimed at.

    `kind` is one of
    - `throttle`: 429 `Rate exceeded`, with Retry-After when `retry_after_s` is given;
    - `error`: `status` (500), whatever the request;
    - `refuse_series`: samples of series carrying all of `labels` are refused with 400, the rest is stored;
    - `too_large`: 413 for bodies over `max_bytes`;
    - `slow`: answers `delay_s` late;
    - `down`: the connection is closed without an answer;
    - `drop`: the request is carried out, the connection is closed in the middle of the answer;
    - `expire`: 403, as for an expired security token;
    - `skew`: the gateway's clock is `skew_s` ahead, for signatures and the `Date` of answers.

    It is aimed by `workspace` (an id), `source` (the caller's account) and `action` (`aps:RemoteWrite`), each
    empty for all, and ends after `count` requests or `duration_s` when given, otherwise when it is removed.
    """

    kind: str
    workspace: str = ""
    source: str = ""
    action: str = ""
    count: int | None = None
    duration_s: float | None = None
    retry_after_s: float | None = None
    status: int = 500
    labels: Mapping[str, str] = field(default_factory=dict)
    max_bytes: int = 0
    delay_s: float = 1.0
    skew_s: float = 0.0

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Self:
        """A fault from its JSON form.

        Raises:
            SimulatorError: a name or kind that does not exist.
        """
        fault = cls(**_known(cls, document))
        if fault.kind not in FAULT_KINDS:
            raise SimulatorError(f"{fault.kind!r} is no kind of fault; there are {', '.join(FAULT_KINDS)}")
        return fault


FAULT_KINDS = ("throttle", "error", "refuse_series", "too_large", "slow", "down", "drop", "expire", "skew")


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket by the number of its inherited file descriptor."""

    fd: int
    tls: bool


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What the gateway process is started with; paths are absolute."""

    listeners: tuple[Listener, ...]
    control_socket: str
    authorize_socket: str
    certificate: str = ""
    key: str = ""

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Self:
        """Settings from their JSON form.

        Raises:
            SimulatorError: a name that is missing or does not exist.
        """
        known = _known(cls, document)
        known["listeners"] = tuple(Listener(**item) for item in known.get("listeners", ()))
        try:
            return cls(**known)
        except TypeError as error:
            raise SimulatorError(f"the gateway's settings are incomplete: {error}") from error


def _known(cls: type[Any], document: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        raise SimulatorError(f"{cls.__name__} must be an object with named values")
    names = [item.name for item in fields(cls)]
    if unknown := document.keys() - set(names):
        raise SimulatorError(
            f"{cls.__name__} has no {', '.join(sorted(unknown))}; there are {', '.join(names)}",
        )
    return dict(document)
