"""Whom the central role trusts, in the narrowest form that fits into IAM's quota.

A role as the principal itself would have to exist first, and trust in it would not survive its being recreated.
So accounts are trusted, narrowed by `aws:PrincipalArn`: for a session that is the role's ARN, path included.
Whoever may create a role of that name in such an account gets in; a path that an organisation guards helps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from troposphere import Ref  # type: ignore[import-untyped]

from trunkline.errors import FleetError
from trunkline.fleet.model import Fleet
from trunkline.fleet.regions import partition_of
from trunkline.fleet.templates.document import Json, arn, document
from trunkline.fleet.templates.existing import own_task_role

TrustForm = Literal["roles", "pattern", "organization"]

_MAX_QUOTA: Final = 4096


@dataclass(frozen=True, slots=True)
class TrustSize:
    """How the central role's trust is written, and how much of IAM's quota it takes, white space aside.

    `roles` names each account and each role, `pattern` each account and the roles' common path and name,
    `organization` the organisation and that pattern.
    """

    form: TrustForm
    characters: int
    limit: int


def trust_size(fleet: Fleet) -> TrustSize:
    """The size of the central role's trust policy. Raises `FleetError` when no form of it fits."""
    return _narrowest(fleet)[0]


def central_trust(fleet: Fleet) -> Json:
    """The central role's trust policy. Raises `FleetError` when no form of it fits."""
    return _narrowest(fleet)[1]


def ecs_trust() -> Json:
    """Trust in ECS, on behalf of this very account only (against the confused deputy)."""
    return service_trust("ecs-tasks.amazonaws.com", "ecs:*:${AWS::AccountId}:*")


def service_trust(service: str, source: str) -> Json:
    """Trust in a service of AWS acting for a resource of this account; `source` follows `arn:aws:`."""
    return document(
        [
            {
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": "sts:AssumeRole",
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")},
                    "ArnLike": {"aws:SourceArn": arn(source)},
                },
            }
        ]
    )


def account_trust() -> Json:
    """Trust in this very account, whose own policies then say who."""
    principal = {"AWS": arn("iam::${AWS::AccountId}:root")}
    return document([{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}])


def _narrowest(fleet: Fleet) -> tuple[TrustSize, Json]:
    sizes = []
    for form, trust in _forms(fleet):
        size = TrustSize(form, _characters(fleet, trust), fleet.trust_characters)
        if size.characters <= size.limit:
            return size, trust
        sizes.append(size)
    raise FleetError(_refusal(fleet, sizes))


def _refusal(fleet: Fleet, sizes: Sequence[TrustSize]) -> str:
    size = min(sizes, key=lambda size: size.characters)
    remedies = []
    if fleet.organization is None:
        remedies.append("name the organization of the accounts, which is then trusted as a whole")
    if size.limit < size.characters <= _MAX_QUOTA:
        remedies.append(
            "have the quota 'Role trust policy length' (IAM, up to 4096) of the monitoring account raised and say "
            f"trust_characters: {_MAX_QUOTA}"
        )
    return (
        f"the trust policy of the central role would have {size.characters} characters for {len(fleet.workloads)} "
        f"workload accounts, and IAM takes {size.limit}; {', or '.join([*remedies, 'use several fleets'])}"
    )


def _forms(fleet: Fleet) -> Iterator[tuple[TrustForm, Json]]:
    """From the narrowest to the widest."""
    patterns = sorted({f"iam::*:{role}" for _, role in _roles(fleet)})
    if not _in_units(fleet):
        accounts = {"AWS": [arn(f"iam::{account.account_id}:root") for account in fleet.workloads]}
        yield "roles", _trust(fleet, accounts, [f"iam::{account}:{role}" for account, role in _roles(fleet)])
        yield "pattern", _trust(fleet, accounts, patterns)
    if fleet.organization:
        yield "organization", _trust(fleet, "*", patterns, {"aws:PrincipalOrgID": fleet.organization.id_})


def _in_units(fleet: Fleet) -> bool:
    """Whether there are accounts that nobody has named."""
    return fleet.organization is not None and bool(fleet.organization.units)


def _roles(fleet: Fleet) -> list[tuple[str, str]]:
    """Account and `role/path/name` of every role that tasks with a collector have."""
    common = f"role{fleet.iam_path}{fleet.names.task_role}"
    places = [(account.account_id, account.services) for account in fleet.workloads]
    if fleet.organization and fleet.organization.units:
        places.append(("*", fleet.organization.services))
    found = []
    for account, services in places:
        own = (own_task_role(service, account.strip("*")) for service in services)
        found += [(account, role) for role in (common, *own) if role]
    return list(dict.fromkeys(found))


def _trust(fleet: Fleet, principal: Any, arns: Sequence[str], equal: dict[str, str] | None = None) -> Json:
    condition: Json = {"ArnLike": {"aws:PrincipalArn": _one_or_all([arn(each) for each in arns])}}
    equals = {**(equal or {}), **({"sts:ExternalId": fleet.external_id} if fleet.external_id else {})}
    if equals:
        condition["StringEquals"] = equals
    statement = {
        "Effect": "Allow",
        "Principal": principal,
        "Action": "sts:AssumeRole",
        "Condition": condition,
    }
    return document([statement])


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _characters(fleet: Fleet, trust: Json) -> int:
    """As IAM counts it, without white space, once CloudFormation has put the partition in."""
    text = json.dumps(trust, default=lambda value: value.data["Fn::Sub"], separators=(",", ":"))
    partition = partition_of(fleet.monitoring.region) or "aws"
    return len(text.replace("${AWS::Partition}", partition))
