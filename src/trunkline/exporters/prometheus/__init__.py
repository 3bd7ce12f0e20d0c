"""Shows the latest samples to whoever fetches them, in the formats of Prometheus."""

from trunkline.exporters.prometheus.config import PrometheusExporterConfig

__all__ = ["PrometheusExporterConfig"]
