"""Which components there are: the name a user writes, and where its config lives. Loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

RECEIVERS: Final = {
    "awsecscontainermetrics": "trunkline.receivers.awsecscontainermetrics:EcsContainerMetricsConfig",
    "prometheus": "trunkline.receivers.prometheus:PrometheusConfig",
}
PROCESSORS: Final = {
    "attributes": "trunkline.processors.attributes:AttributesConfig",
    "batch": "trunkline.processors.batch:BatchConfig",
    "filter": "trunkline.processors.filter:FilterConfig",
    "memory_limiter": "trunkline.processors.memory_limiter:MemoryLimiterConfig",
    "metricstransform": "trunkline.processors.metricstransform:MetricsTransformConfig",
    "resource": "trunkline.processors.resource:ResourceConfig",
    "resource_detection": "trunkline.processors.resourcedetection:ResourceDetectionConfig",
    "resourcedetection": "trunkline.processors.resourcedetection:ResourceDetectionConfig",
}
EXPORTERS: Final = {
    "awsprometheusremotewrite": "trunkline.exporters.prometheusremotewrite:AwsRemoteWriteConfig",
    "debug": "trunkline.exporters.debug:DebugConfig",
    "file": "trunkline.exporters.file:FileConfig",
    "logging": "trunkline.exporters.debug:LoggingConfig",
    "prometheus": "trunkline.exporters.prometheus:PrometheusExporterConfig",
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
