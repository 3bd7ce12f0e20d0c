"""Scrapes targets as Prometheus does, from Prometheus' own scrape configuration."""

from trunkline.receivers.prometheus.config import PrometheusConfig

__all__ = ["PrometheusConfig"]
