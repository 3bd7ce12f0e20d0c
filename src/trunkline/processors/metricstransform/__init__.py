"""Renames metrics, changes their labels, scales, combines and aggregates them."""

from trunkline.processors.metricstransform.config import (
    MetricsTransformConfig,
    Operation,
    Transform,
    ValueAction,
)

__all__ = ["MetricsTransformConfig", "Operation", "Transform", "ValueAction"]
