"""Writes samples to a file, as lines of OTLP JSON."""

from trunkline.exporters.file.config import FileConfig

__all__ = ["FileConfig"]
