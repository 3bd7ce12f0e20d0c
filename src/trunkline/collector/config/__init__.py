"""The collector's configuration: read, expand, merge, decode and check, with every error and its place at once."""

from trunkline.collector.config.decoding import INVALID, At, Decoder
from trunkline.collector.config.reading import KINDS, CollectorConfig, Components, Declared, read, render
from trunkline.collector.config.service import Pipeline, Service, Telemetry, TelemetryLogs, TelemetryMetrics

__all__ = [
    "INVALID",
    "KINDS",
    "At",
    "CollectorConfig",
    "Components",
    "Declared",
    "Decoder",
    "Pipeline",
    "Service",
    "Telemetry",
    "TelemetryLogs",
    "TelemetryMetrics",
    "read",
    "render",
]
