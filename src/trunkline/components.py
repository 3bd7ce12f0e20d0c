"""Which components there are: the name a user writes, and where its config lives. Loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

RECEIVERS: Final = {
    "awsecscontainermetrics": "trunkline.receivers.awsecscontainermetrics:EcsContainerMetricsConfig",
    "prometheus": "trunkline.receivers.prometheus:PrometheusConfig",
}
PROCESSORS: Final = {
    "filter": "trunkline.processors.filter:FilterConfig",
}
EXPORTERS: Final = {
    "awsprometheusremotewrite": "trunkline.exporters.prometheusremotewrite:AwsRemoteWriteConfig",
    "debug": "trunkline.exporters.debug:DebugConfig",
    "logging": "trunkline.exporters.debug:LoggingConfig",
    "prometheus_remote_write": "trunkline.exporters.prometheusremotewrite:RemoteWriteConfig",
    "prometheusremotewrite": "trunkline.exporters.prometheusremotewrite:RemoteWriteConfig",
}
EXTENSIONS: Final = {
    "health_check": "trunkline.extensions.health_check:HealthCheckConfig",
    "sigv4auth": "trunkline.extensions.sigv4auth:SigV4AuthConfig",
}
KINDS: Final = {
    "receivers": RECEIVERS,
    "processors": PROCESSORS,
    "exporters": EXPORTERS,
    "extensions": EXTENSIONS,
}


def names(kind: str) -> list[str]:
    """The type names of a kind (`receivers`, …), sorted."""
    return sorted(KINDS[kind])


def config_type(kind: str, type_name: str) -> type[Any] | None:
    """The config dataclass of a component, or None if there is none of that name."""
    location = KINDS[kind].get(type_name)
    if location is None:
        return None
    module, _, name = location.partition(":")
    found: type[Any] = getattr(import_module(module), name)
    return found
