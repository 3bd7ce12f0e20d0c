"""Service Quotas of an account and region against what the fleet takes."""

from __future__ import annotations

from trunkline.fleet.preflight.look import Look


def check_quota(
    look: Look, region: str, needed: float, why: str, *, what: str, code: str, remedy: str
) -> None:
    """Whether the quota `code`, written `service/L-…`, allows what is needed; `why` says how much that is."""
    with look.checking(what, region):
        limit = quota(look, region, *code.split("/"))
        if needed > limit:
            look.say("error", region, what, f"{why}, and the quota is {limit:g}", remedy)
        else:
            look.say("ok", region, what)


def quota(look: Look, region: str, service: str, code: str) -> float:
    """The quota in effect. Raises `ClientError`."""
    quotas = look.client("service-quotas", region)
    return float(quotas.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"])
