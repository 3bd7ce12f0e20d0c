"""Where the series of a receiver go, and whether a new configuration takes them there, too."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TypeAlias

from trunkline.collector.config import CollectorConfig
from trunkline.component.contract import ComponentId

Route: TypeAlias = tuple[tuple[object, ...], ComponentId, object]
"""The settings of the processors on the way, in order, the exporter at its end, and its settings."""


def lead_on(
    receiver: ComponentId, old: CollectorConfig, new: CollectorConfig, exporters: Container[str]
) -> bool:
    """Whether every series that `old` takes to one of `exporters` gets there under `new` as well, and as the same.

    Settings are compared, not what they do: one that changes nothing about a series counts, too.
    """
    kept = list(_routes(receiver, new))
    return all(route in kept for route in _routes(receiver, old) if str(route[1]) in exporters)


def _routes(receiver: ComponentId, config: CollectorConfig) -> Iterator[Route]:
    for pipeline in config.service.pipelines.values():
        if receiver in pipeline.receivers:
            through = tuple(config.processors[id_].config for id_ in pipeline.processors)
            for id_ in pipeline.exporters:
                yield through, id_, config.exporters[id_].config
