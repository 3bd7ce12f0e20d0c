"""Keeps or drops metrics: by lists of names, or by conditions."""

from trunkline.processors.filter.config import FilterConfig, Match, MetricFilters, keeper

__all__ = ["FilterConfig", "Match", "MetricFilters", "keeper"]
