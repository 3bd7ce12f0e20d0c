"""Sends samples by Prometheus remote write 1.0, to Amazon Managed Prometheus or anything else that takes it."""

from trunkline.exporters.prometheusremotewrite.config import AwsRemoteWriteConfig, RemoteWriteConfig

__all__ = ["AwsRemoteWriteConfig", "RemoteWriteConfig"]
