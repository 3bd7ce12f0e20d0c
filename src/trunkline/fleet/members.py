"""The accounts of an organisation's units, which the fleet's file does not name, as the organisation lists them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from trunkline.fleet.lists import pages
from trunkline.fleet.model import Fleet, Organization, WorkloadAccount
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.templates.organization import UNITS_NETWORK


def with_members(fleet: Fleet, sessions: Sessions) -> Fleet:
    """The fleet with the active accounts of its units among the workload accounts, after those that are named.

    Where there are no units it is the same. The organisation is asked in the monitoring account, which is its
    management account or a delegated administrator; service-managed StackSets leave the management account out.
    Raises what the SDK raises, and `FleetError` when the account cannot be entered.
    """
    organization = fleet.organization
    if organization is None or not organization.units:
        return fleet
    client = sessions(fleet.monitoring.account_id, fleet.monitoring.region).client("organizations")
    management = client.describe_organization()["Organization"]["MasterAccountId"]
    found = dict.fromkeys(each for unit in organization.units for each in _accounts(client, unit))
    named = {management, *(account.account_id for account in fleet.workloads)}
    members = [_member(organization, each) for each in found if each not in named]
    return replace(fleet, workloads=(*fleet.workloads, *members))


def member_ids(fleet: Fleet, whole: Fleet) -> frozenset[str]:
    """The ids of the accounts that `with_members` added."""
    return frozenset(each.account_id for each in whole.workloads[len(fleet.workloads) :])


def _member(organization: Organization, account_id: str) -> WorkloadAccount:
    return WorkloadAccount(
        account_id=account_id,
        regions=organization.regions,
        services=organization.services,
        networks=dict.fromkeys(organization.regions, UNITS_NETWORK),
    )


def _accounts(client: Any, unit: str) -> Iterator[str]:
    """Of a unit and of those below it."""
    for each in pages(client, "list_accounts_for_parent", "Accounts", ParentId=unit):
        if each["Status"] == "ACTIVE":
            yield each["Id"]
    for each in pages(client, "list_organizational_units_for_parent", "OrganizationalUnits", ParentId=unit):
        yield from _accounts(client, each["Id"])
