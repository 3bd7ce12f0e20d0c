"""What ministack's default VPC lacks: the route to the internet that AWS gives it.

Source: Amazon VPC user guide, "Default VPC components".
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


def with_way_out(ec2: ModuleType) -> Callable[[Any], Any]:
    """Wraps ministack's making of a region's default VPC, so that its main route table has a default route."""

    def completing(original: Callable[[], None]) -> Callable[[], None]:
        def complete() -> None:
            original()
            # ministack has no public names for these.
            table = ec2._route_tables.get(ec2._DEFAULT_RTB_ID, {"Routes": []})  # noqa: SLF001
            if not any(route.get("DestinationCidrBlock") == "0.0.0.0/0" for route in table["Routes"]):
                table["Routes"].append(
                    {
                        "DestinationCidrBlock": "0.0.0.0/0",
                        "GatewayId": ec2._DEFAULT_IGW_ID,  # noqa: SLF001
                        "State": "active",
                        "Origin": "CreateRoute",
                    }
                )

        return complete

    return completing
