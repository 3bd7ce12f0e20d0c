"""A managed Grafana, furnished by a deployment: its API is the emulator's, and Grafana itself a stand-in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.dashboards.grafana_stand_in import Answer, GrafanaStandIn
from tests.dashboards.grafana_stand_in import running as serving
from tests.fleet.conftest import administrators
from tests.simulator.frontdoor_live import Live

from trunkline.errors import GrafanaError
from trunkline.fleet.deploy import deploy_fleet, destroy_fleet
from trunkline.fleet.grafana import DATA_SOURCE_UID, furnish
from trunkline.fleet.model import Fleet, Grafana, MonitoringAccount, Service, WorkloadAccount
from trunkline.fleet.proof import leftovers
from trunkline.fleet.sessions import Sessions

ACCOUNT = "841111111111"
FLEET = Fleet(
    name="seen",
    monitoring=MonitoringAccount(
        account_id=ACCOUNT, region="eu-west-1", grafana=Grafana(admins=("u-1", "u-2"))
    ),
    workloads=(
        WorkloadAccount(
            account_id=ACCOUNT, regions=("eu-west-1",), services=(Service(name="shop", desired_count=0),)
        ),
    ),
)


@dataclass
class WithSources(GrafanaStandIn):
    """With data sources, as https://grafana.com/docs/grafana/v10.4/developers/http_api/data_source/ has them."""

    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, authorization: str, body: Any) -> Answer:
        self.token = authorization.removeprefix("Bearer ")
        self.tokens.append(self.token)
        found = re.fullmatch(r"/api/datasources(?:/uid/([\w-]+))?", path)
        if not found:
            return super().answer(method, path, authorization, body)
        self.asked.append(f"{method} {path}")
        uid = found[1] or body["uid"]
        if method == "GET":
            return (200, self.sources[uid]) if uid in self.sources else (404, {"message": "not found"})
        assert (method == "POST") == (uid not in self.sources)
        self.sources[uid] = {**body, "id": 7, "orgId": 1, "version": 1, "readOnly": False}
        return 200, {"datasource": self.sources[uid], "message": "Datasource added"}


@pytest.fixture(scope="module")
def sessions(live: Live) -> Iterator[Sessions]:
    sessions = administrators(live, (ACCOUNT,))
    deploy_fleet(FLEET, sessions, lambda _: None)
    yield sessions
    destroy_fleet(FLEET, sessions, lambda _: None, images=True, logs=True, data=True)
    proof = leftovers(FLEET, sessions, other_regions=False, patience_s=2)
    assert (proof.left, proof.not_looked) == ((), ())


def test_it_gets_admins_a_data_source_and_dashboards(sessions: Sessions) -> None:
    client, told = sessions(ACCOUNT, "eu-west-1").client("grafana"), list[str]()
    [workspace] = client.list_workspaces()["workspaces"]
    own = {"workspaceId": workspace["id"]}
    # As an interrupted run leaves it.
    client.create_workspace_service_account(name="trunkline-fleet-deploy", grafanaRole="ADMIN", **own)
    grafana = WithSources("")
    with serving(grafana):

        def at(endpoint: str) -> str:
            assert endpoint == workspace["endpoint"]
            return grafana.url

        assert furnish(FLEET, sessions, told.append, at)
        assert told[:2] == ["u-1, u-2 may administer it", "the data source created"]
        assert len(grafana.dashboards) == 4
        source = grafana.sources[DATA_SOURCE_UID]
        assert source["jsonData"]["sigV4AuthType"] == "workspace-iam-role"
        assert re.fullmatch(
            r"https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-[^/]+", source["url"]
        )
        users = [(each["user"]["id"], each["role"]) for each in client.list_permissions(**own)["permissions"]]
        assert users == [("u-1", "ADMIN"), ("u-2", "ADMIN")]
        assert client.list_workspace_service_accounts(**own)["serviceAccounts"] == []
        assert len(set(grafana.tokens)) == 1
        assert grafana.tokens[0].startswith("glsa_")

        told.clear()
        assert not furnish(FLEET, sessions, told.append, at)
        assert told == []
        source["url"] = "https://elsewhere.example"
        assert furnish(FLEET, sessions, told.append, at)
        assert told == ["the data source updated"]


def test_a_grafana_that_does_not_answer_leaves_no_service_account(sessions: Sessions) -> None:
    client = sessions(ACCOUNT, "eu-west-1").client("grafana")
    [workspace] = client.list_workspaces()["workspaces"]
    with pytest.raises(GrafanaError, match="cannot be reached"):
        furnish(FLEET, sessions, lambda _: None, lambda _: "http://127.0.0.1:9")
    found = client.list_workspace_service_accounts(workspaceId=workspace["id"])
    assert found["serviceAccounts"] == []
