"""Walks the way of the samples, hop by hop, and says of the first that fails what is wrong and what to change."""

from trunkline.collector.doctor.findings import Chain, Finding, Outcome
from trunkline.collector.doctor.walk import examine

__all__ = ["Chain", "Finding", "Outcome", "examine"]
