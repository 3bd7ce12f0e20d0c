"""Writes what passes to the collector's log or another output."""

from trunkline.exporters.debug.config import DebugConfig, LoggingConfig

__all__ = ["DebugConfig", "LoggingConfig"]
