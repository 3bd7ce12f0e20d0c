"""What a job does to each series before it counts: metric relabelling, valid names, label limits (components.md 5.5, 5.6).

Asked once per series, and only by jobs that have any of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trunkline.errors import ExpositionError
from trunkline.model import Kind, Labels, make_labels
from trunkline.receivers.prometheus.job import Job
from trunkline.receivers.prometheus.relabel import is_label_name, is_metric_name, relabel
from trunkline.receivers.prometheus.target import Target, merged_labels
from trunkline.wire.exposition import Exposed

_NAME: Final = "__name__"
_PROBE: Final = "a"
_SHOWN: Final = 50
_WITH_PARTS: Final = frozenset((Kind.HISTOGRAM, Kind.GAUGE_HISTOGRAM, Kind.SUMMARY))


class SeriesRules:
    """The rules of one target's job."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._job = target.job

    @staticmethod
    def needed(job: Job) -> bool:
        """Whether a job says anything about its series."""
        return bool(job.metric_relabel or any(job.label_limits) or job.validation != "utf8")

    def labels(self, exposed: Exposed) -> dict[str, str] | None:
        """The final labels of a series but for external ones; None if it is dropped.

        Raises ExpositionError, in Prometheus' words, for a series that fails the whole scrape.
        """
        merged = merged_labels(exposed.name, exposed.labels, self._target)
        labels = {name: merged[name] for name in sorted(merged) if merged[name]}
        if not relabel(labels, self._job.metric_relabel) or not labels:
            return None
        if _NAME not in labels:
            raise ExpositionError("missing metric name (__name__ label)")
        if not self._are_valid(labels):
            raise ExpositionError(f"invalid metric name or label names: {_shown_labels(labels)}")
        self._check_limits(labels)
        return labels

    def _are_valid(self, labels: Mapping[str, str]) -> bool:
        scheme = self._job.validation
        return is_metric_name(labels[_NAME], scheme) and all(is_label_name(name, scheme) for name in labels)

    def _check_limits(self, labels: Mapping[str, str]) -> None:
        most, name_bytes, value_bytes = self._job.label_limits
        metric = labels[_NAME][:_SHOWN]
        if most and len(labels) > most:
            raise ExpositionError(
                f"label_limit exceeded (metric: {metric}, number of labels: {len(labels)}, limit: {most})"
            )
        if not name_bytes and not value_bytes:
            return
        for name, value in labels.items():
            length = len(name.encode())
            if name_bytes and length > name_bytes:
                raise ExpositionError(
                    f"label_name_length_limit exceeded (metric: {metric}, label name: {name[:_SHOWN]}, "
                    f"length: {length}, limit: {name_bytes})"
                )
            length = len(value.encode())
            if value_bytes and length > value_bytes:
                raise ExpositionError(
                    f"label_value_length_limit exceeded (metric: {metric}, label name: {name[:_SHOWN]}, "
                    f'value: "{value[:_SHOWN]}", length: {length}, limit: {value_bytes})'
                )


def left(target: Target) -> Labels:
    """What the job's rules leave of a target's labels in a series without labels of its own; nothing if it has no rules.

    Rules that keep or drop by name are passed over, as some series get through.
    """
    job = target.job
    if not job.metric_relabel or job.honor_labels:
        return ()
    labels = {**target.labels, _NAME: _PROBE}
    return make_labels({**labels, **target.external_labels}) if relabel(labels, job.identity_rules) else ()


def renamed(exposed: Exposed, name: str) -> Exposed:
    """What is known of a series that relabelling has given this name.

    It stays a part of its family (`_bucket`, `_sum`, …) if its new name has the same ending; otherwise it is a family
    of its own, whose kind is known only where one series is all there is of it.
    """
    if name == exposed.name:
        return exposed
    part = exposed.name.removeprefix(exposed.family) if exposed.name.startswith(exposed.family) else ""
    if part and name.endswith(part) and len(name) > len(part):
        return exposed._replace(name=name, family=name.removesuffix(part))
    kind = Kind.UNKNOWN if exposed.kind in _WITH_PARTS else exposed.kind
    return exposed._replace(name=name, family=name, kind=kind)


def _shown_labels(labels: Mapping[str, str]) -> str:
    text = ", ".join(f'{name}="{value[:_SHOWN]}"' for name, value in labels.items())
    return f"{{{text}}}"
