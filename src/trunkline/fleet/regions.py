"""Which regions there are, and what runs where: from the SDK's own data, without asking anybody."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from botocore.session import Session

ROOMIEST: Final = "ec2"
"""A service that is in every region."""


@cache
def partition_of(region: str) -> str:
    """`aws`, `aws-cn`, `aws-us-gov`, …; empty for a region that does not exist."""
    return next((name for name in _partitions() if region in regions_of(ROOMIEST, name)), "")


@cache
def regions_of(service: str, partition: str) -> tuple[str, ...]:
    """The regions of a partition that have a service (`amp`, `grafana`, `ecs`)."""
    return tuple(_session().get_available_regions(service, partition))


def all_regions() -> tuple[str, ...]:
    """Every region of every partition."""
    return tuple(region for name in _partitions() for region in regions_of(ROOMIEST, name))


@cache
def _partitions() -> tuple[str, ...]:
    return tuple(_session().get_available_partitions())


@cache
def _session() -> Session:
    import botocore.session  # noqa: PLC0415 (a fleet's names can be had without the SDK)

    return botocore.session.get_session()
