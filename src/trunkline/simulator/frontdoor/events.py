"""What the emulator tells the front door over the private socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

ACCOUNT_HEADER: Final = "x-trunkline-account"
REGION_HEADER: Final = "x-trunkline-region"
SERVICE_HEADER: Final = "x-trunkline-service"
EVENTS_PATH: Final = "/events"


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """An ECS service was created, updated or deleted, by whomever; `cluster` and `service` are names."""

    account: str
    region: str
    cluster: str
    service: str


ServiceListener: TypeAlias = Callable[[ServiceChange], Awaitable[None]]
