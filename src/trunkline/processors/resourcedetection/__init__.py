"""Adds what can be found out about the place the collector runs in to every resource."""

from trunkline.processors.resourcedetection.config import ResourceDetectionConfig

__all__ = ["ResourceDetectionConfig"]
