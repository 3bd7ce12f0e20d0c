"""The managed Grafana of a fleet, furnished: who administers it, its data source, and the dashboards.

CloudFormation makes the workspace and can do none of this. The way in is a service account that is there only
meanwhile. Sources: Amazon Managed Grafana API reference and user guide, "Use service accounts to authenticate with the
Grafana HTTP APIs" and "Connect to an Amazon Managed Service for Prometheus data source".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from trunkline.dashboards.grafana import Grafana
from trunkline.errors import FleetError
from trunkline.fleet.lists import pages
from trunkline.fleet.model import Fleet
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.stacks import stack_outputs
from trunkline.fleet.templates import MonitoringOutput

DATA_SOURCE_UID: Final = "trunkline"
_SERVICE_ACCOUNT: Final = "trunkline-fleet-deploy"
_TOKEN_S: Final = 900


def https(endpoint: str) -> str:
    """Where the Grafana of an endpoint is."""
    return f"https://{endpoint}"


def furnish(
    fleet: Fleet, sessions: Sessions, tell: Callable[[str], None], at: Callable[[str], str] = https
) -> bool:
    """Bring the fleet's Grafana to what it should have, and say whether anything was changed.

    `at` says where an endpoint is served. Raises `FleetError`, `GrafanaError`, and what the SDK raises; needs
    grafana:UpdatePermissions, ListPermissions and the actions of service accounts, besides sso permissions where there
    are `admins`.
    """
    from trunkline.dashboards.rendering import dashboards  # noqa: PLC0415 (needs an extra)

    asked, monitoring = fleet.monitoring.grafana, fleet.monitoring
    if asked is None:
        return False
    session = sessions(monitoring.account_id, monitoring.region)
    outputs = stack_outputs(session.client("cloudformation"), fleet.monitoring_stack)
    client, workspace = session.client("grafana"), outputs[MonitoringOutput.GRAFANA_ID]
    changed = _admit(client, workspace, asked.admins, tell)
    with _token(client, workspace) as token:
        grafana = Grafana(at(outputs[MonitoringOutput.GRAFANA_ENDPOINT]), token)
        outcomes = {"the data source": grafana.have_data_source(data_source(fleet, outputs))}
        outcomes |= {f"dashboard {each.title}": each.outcome for each in grafana.push(dashboards())}
    for what, outcome in outcomes.items():
        if outcome != "unchanged":
            tell(f"{what} {outcome}")
    return changed or set(outcomes.values()) != {"unchanged"}


def data_source(fleet: Fleet, outputs: Mapping[str, str]) -> dict[str, Any]:
    """The workspace as Grafana asks it: signed, as the role of the Grafana workspace.

    `timeInterval` is how often the collectors scrape, from which Grafana computes the windows of its queries.
    """
    return {
        "uid": DATA_SOURCE_UID,
        "name": f"Trunkline {fleet.name}",
        "type": "prometheus",
        "access": "proxy",
        "isDefault": True,
        # Grafana adds the path of the API itself.
        "url": outputs[MonitoringOutput.PROMETHEUS_ENDPOINT].removesuffix("/").removesuffix("/api/v1"),
        "jsonData": {
            "httpMethod": "POST",
            "timeInterval": "15s",
            "sigV4Auth": True,
            "sigV4AuthType": "workspace-iam-role",
            "sigV4Region": fleet.monitoring.region,
        },
    }


def _admit(client: Any, workspace: str, admins: tuple[str, ...], tell: Callable[[str], None]) -> bool:
    """Let those administer it who do not yet; others keep what they have."""
    if not admins:
        return False
    granted = pages(client, "list_permissions", "permissions", workspaceId=workspace)
    known = {each["user"]["id"] for each in granted if each["role"] == "ADMIN"}
    users = [{"id": each, "type": "SSO_USER"} for each in admins if each not in known]
    if not users:
        return False
    batch = [{"action": "ADD", "role": "ADMIN", "users": users}]
    errors = client.update_permissions(workspaceId=workspace, updateInstructionBatch=batch)["errors"]
    if errors:
        said = "; ".join(f"{each['code']} {each['message']}" for each in errors)
        raise FleetError(
            f"Grafana did not take its admins: {said}; they have to be ids of users of IAM Identity Center"
        )
    tell(f"{', '.join(user['id'] for user in users)} may administer it")
    return True


@contextmanager
def _token(client: Any, workspace: str) -> Iterator[str]:
    """A token of a service account, which goes with it; one that an interrupted run left goes first."""
    own = {"workspaceId": workspace}
    for each in pages(client, "list_workspace_service_accounts", "serviceAccounts", **own):
        if each["name"] == _SERVICE_ACCOUNT:
            client.delete_workspace_service_account(serviceAccountId=each["id"], **own)
    made = client.create_workspace_service_account(name=_SERVICE_ACCOUNT, grafanaRole="ADMIN", **own)
    own["serviceAccountId"] = made["id"]
    try:
        answer = client.create_workspace_service_account_token(
            name=_SERVICE_ACCOUNT, secondsToLive=_TOKEN_S, **own
        )
        yield answer["serviceAccountToken"]["key"]
    finally:
        client.delete_workspace_service_account(**own)
