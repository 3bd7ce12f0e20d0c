"""Service Quotas: AWS's defaults for what a fleet asks about; the same in every account and region.

Source: the Service Quotas API reference (GetServiceQuota, ListServiceQuotas), and each service's page of quotas.
"""

from __future__ import annotations

import json
from typing import Any, Final

from trunkline.simulator.frontdoor.calls import Answer, Call
from trunkline.simulator.frontdoor.errors import AwsError
from trunkline.simulator.gateway.control import MAX_WORKSPACES

QUOTAS: Final = {
    ("aps", "L-SIMULATED"): ("Workspaces per region per account", float(MAX_WORKSPACES)),
    ("fargate", "L-3032A538"): ("Fargate On-Demand vCPU resource count", 6.0),
    ("iam", "L-C07B4B0D"): ("Role trust policy length", 2048.0),
    ("vpc", "L-7E9ECCDB"): ("Active VPC peering connections per VPC", 50.0),
    ("vpc", "L-F678F1CE"): ("VPCs per Region", 5.0),
}
"""(service code, quota code) → name and value. The code of AMP's quota is not AWS's: it is asked for by name."""


async def answer_quotas(call: Call) -> Answer | None:
    """Answer GetServiceQuota and ListServiceQuotas; raises AwsError for what is not known."""
    service = str(call.parameters.get("ServiceCode", ""))
    if call.operation == "ListServiceQuotas":
        return _json({"Quotas": [_quota(*key) for key in QUOTAS if key[0] == service]})
    if call.operation == "GetServiceQuota":
        code = str(call.parameters.get("QuotaCode", ""))
        if (service, code) not in QUOTAS:
            raise AwsError("NoSuchResourceException", "The simulator does not know this quota.")
        return _json({"Quota": _quota(service, code)})
    return None


def _quota(service: str, code: str) -> dict[str, Any]:
    name, value = QUOTAS[service, code]
    return {"ServiceCode": service, "QuotaCode": code, "QuotaName": name, "Value": value}


def _json(document: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/x-amz-json-1.1"})
