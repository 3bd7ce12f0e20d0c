"""What is looked at in the monitoring account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from trunkline.errors import FleetError
from trunkline.fleet.networks import MAX_PEERS, peer_role, peers, workspace_network
from trunkline.fleet.order import peering_stack
from trunkline.fleet.preflight.identities import check_boundary, check_permissions, check_roles, check_trust
from trunkline.fleet.preflight.images import check_images
from trunkline.fleet.preflight.look import Look
from trunkline.fleet.preflight.networks import check_addresses, check_new_vpc
from trunkline.fleet.preflight.quotas import check_quota
from trunkline.fleet.preflight.stacks import check_stacks
from trunkline.fleet.preflight.workspaces import check_workspace

_ACTIONS: Final = (
    "cloudformation:CreateChangeSet",
    "cloudformation:ExecuteChangeSet",
    "iam:CreateRole",
    "iam:PutRolePolicy",
    "aps:CreateWorkspace",
)


class MonitoringLook(Look):
    """The workspace, the roles that write and query, the VPC that others are peered with."""

    @contextmanager
    def listing(self) -> Iterator[None]:
        """Of the organisation's accounts; that the account cannot be entered is said elsewhere."""
        with self.checking("accounts of the units"), suppress(FleetError):
            yield

    def account(self) -> None:
        names = self.fleet.names
        check_boundary(self)
        roles = [names.central_role, names.query_role]
        if peers(self.fleet):
            roles.append(peer_role(self.fleet))
        check_roles(self, *roles, *([names.grafana_role] if self.fleet.monitoring.grafana else []))
        check_trust(self)
        self._check_registries()
        check_permissions(self, _ACTIONS)

    def region(self, region: str) -> None:
        found = peers(self.fleet)
        check_stacks(
            self, region, self.fleet.monitoring_stack, *([peering_stack(self.fleet).name] if found else [])
        )
        check_workspace(self, region)
        if found:
            self._check_peers(region, len(found))
        network = workspace_network(self.fleet) or self.fleet.monitoring.network
        if network and network.kind == "new":
            check_new_vpc(self, region, network)
        elif network and network.vpc_id:
            check_addresses(self, region, network, network.vpc_id)

    def _check_registries(self) -> None:
        """Of the organisation's units, one in each of their regions."""
        organization = self.fleet.organization
        for region in organization.regions if organization and organization.units else ():
            check_images(self, region, organization.services if organization else ())

    def _check_peers(self, region: str, count: int) -> None:
        check_quota(
            self,
            region,
            count,
            f"{count} VPCs are peered with one",
            what="quota of peering connections",
            code="vpc/L-7E9ECCDB",
            remedy=f"have it raised ({MAX_PEERS} at most)",
        )
