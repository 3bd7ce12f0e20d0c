"""Trunkline carries the metrics of every Amazon ECS task to one central Prometheus workspace."""

__version__ = "0.1.0"
