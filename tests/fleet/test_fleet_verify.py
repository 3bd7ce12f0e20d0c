"""A deployed fleet with real collectors and a real workspace, each link of its chain broken in turn and named."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.simulator.world_live import simulator_up, until

from trunkline.fleet.deploy import deploy_fleet
from trunkline.fleet.forgotten import forgotten
from trunkline.fleet.model import Fleet, MonitoringAccount, Names, Service, WorkloadAccount, Workspace
from trunkline.fleet.sessions import AccessKey, Sessions, key_sessions
from trunkline.fleet.verify import Link, Route, first_broken, links_document, links_text, verify_fleet
from trunkline.simulator.control import ControlClient

MONITORING, WORKLOAD, REGION = "111111111111", "222222222222", "eu-west-1"
NAMES = Names()
CENTRAL = f"arn:aws:iam::{MONITORING}:role/{NAMES.central_role}"
TASK_ROLE = f"arn:aws:iam::{WORKLOAD}:role/{NAMES.task_role}"
SHOP = (WORKLOAD, REGION, "shop")


def workload(*services: str, regions: tuple[str, ...] = (REGION,)) -> WorkloadAccount:
    made = tuple(Service(name=name) for name in services)
    return WorkloadAccount(account_id=WORKLOAD, regions=regions, services=made)


FLEET = Fleet(
    name="chain",
    monitoring=MonitoringAccount(account_id=MONITORING, region=REGION),
    workloads=(workload("shop"),),
)


class World:
    """A simulator with the fleet in it, and services that were broken on purpose beside it."""

    def __init__(self, state_dir: Path) -> None:
        self.control = ControlClient(state_dir)
        keys = json.loads((state_dir / "accounts.json").read_text())
        self.sessions: Sessions = key_sessions(
            {account: AccessKey(**key) for account, key in keys.items()},
            self.control.ask("status")["endpoint"],
        )
        deploy_fleet(FLEET, self.sessions, lambda _: None)
        [workspace] = self.control.ask("workspaces")
        self.route = Route(workspace["resolve"], workspace["ca_bundle"])
        self.workspace = str(workspace["id"])

    def client(self, account: str, service: str) -> Any:
        return self.sessions(account, REGION).client(service)

    def verify(self, fleet: Fleet = FLEET) -> list[Link]:
        told: list[Link] = []
        links = verify_fleet(fleet, self.sessions, told.append, self.route)
        assert sorted(map(str, links)) == sorted(map(str, told))
        return links

    def first(self, fleet: Fleet = FLEET, place: tuple[str, str, str] = SHOP) -> Link:
        found = first_broken(self.verify(fleet))
        assert place in found, links_text(self.verify(fleet))
        return found[place]

    def add_service(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """A service like the fleet's, but for what `change` does to the environment of its collector."""
        ecs = self.client(WORKLOAD, "ecs")
        [shop] = ecs.describe_services(cluster=NAMES.cluster, services=["shop"])["services"]
        found = ecs.describe_task_definition(taskDefinition=shop["taskDefinition"])["taskDefinition"]
        kept = ("taskRoleArn", "executionRoleArn", "networkMode", "volumes", "cpu", "memory")
        definition = {key: found[key] for key in kept}
        containers = found["containerDefinitions"]
        for container in containers:
            container.pop("restartPolicy", None)
            environment = {each["name"]: each["value"] for each in container["environment"]}
            if "AOT_CONFIG_CONTENT" in environment:
                change(environment)
            container["environment"] = [{"name": key, "value": value} for key, value in environment.items()]
        ecs.register_task_definition(
            family=name, containerDefinitions=containers, requiresCompatibilities=["FARGATE"], **definition
        )
        ecs.create_service(
            cluster=NAMES.cluster, serviceName=name, taskDefinition=name, desiredCount=1, launchType="FARGATE"
        )


def crash(environment: dict[str, Any]) -> None:
    environment["AOT_CONFIG_CONTENT"] = "receivers: {nobody-has-this: {}}"


def send_elsewhere(environment: dict[str, Any]) -> None:
    text = environment["AOT_CONFIG_CONTENT"]
    environment["AOT_CONFIG_CONTENT"] = text.replace("aps-workspaces.eu-west-1", "aps-workspaces.us-east-1")


def scrape_nobody(environment: dict[str, Any]) -> None:
    text = environment["AOT_CONFIG_CONTENT"]
    environment["AOT_CONFIG_CONTENT"] = text.replace("0.0.0.0:8000", "127.0.0.1:9")


def write_to_another(environment: dict[str, Any]) -> None:
    environment["WORKSPACE_ID"] = "ws-00000000-0000-0000-0000-000000000000"


BROKEN = {
    "crashed": crash,
    "elsewhere": send_elsewhere,
    "unscraped": scrape_nobody,
    "misled": write_to_another,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with simulator_up(tmp_path_factory) as state_dir:
        world = World(state_dir)
        for name, change in BROKEN.items():
            world.add_service(name, change)
        until(lambda: links_document(world.verify())["ok"], lambda: links_text(world.verify()))
        yield world


def statement(effect: str = "Allow", **parts: object) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": effect, **parts}]}


@contextmanager
def trust(world: World, document: Mapping[str, Any]) -> Iterator[None]:
    """The central role with another trust policy for a while."""
    iam = world.client(MONITORING, "iam")
    before = iam.get_role(RoleName=NAMES.central_role)["Role"]["AssumeRolePolicyDocument"]
    iam.update_assume_role_policy(RoleName=NAMES.central_role, PolicyDocument=json.dumps(document))
    try:
        yield
    finally:
        iam.update_assume_role_policy(RoleName=NAMES.central_role, PolicyDocument=json.dumps(before))


@contextmanager
def without_policy(world: World, account: str, role: str, policy: str) -> Iterator[None]:
    iam = world.client(account, "iam")
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    iam.delete_role_policy(RoleName=role, PolicyName=policy)
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


def test_a_whole_chain_holds_at_every_link(world: World) -> None:
    links = world.verify()
    assert [(link.name, link.state, link.why) for link in links if link.service] == [
        (name, "ok", "") for name in ("service", "task definition", "tasks", "collector", "metrics")
    ]
    assert {link.state for link in links} == {"ok"}
    assert links_document(links)["ok"] is True
    assert links_text(links)[-1] == "1 of 1 services get through"
    until(
        lambda: "metrics: of 2 targets, the newest sample " in "\n".join(links_text(world.verify())),
        world.verify,
    )


def test_an_account_that_the_file_does_not_name_any_more(world: World) -> None:
    other = replace(FLEET.workloads[0], account_id="333333333333")
    fleet = replace(FLEET, workloads=(other,))
    expected = {WORKLOAD: "the central role trusts it and it has sent metrics within a day"}
    deadline = time.monotonic() + 30  # the first metrics may still be on their way
    while (found := forgotten(fleet, world.sessions, world.route).accounts) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert forgotten(FLEET, world.sessions, world.route).accounts == {}


def test_a_role_that_is_not_trusted_any_more(world: World) -> None:
    other = statement(Principal={"AWS": "arn:aws:iam::333333333333:root"}, Action="sts:AssumeRole")
    with trust(world, other):
        link = world.first()
    assert (link.name, link.account_id) == ("trust", WORKLOAD)
    assert link.remedy == "run: trunkline fleet deploy --repair"
    assert link.why == f"the trust policy of {CENTRAL} does not allow sts:AssumeRole to {TASK_ROLE}"


def test_a_trust_that_asks_for_what_is_not_sent(world: World) -> None:
    asking = statement(
        Principal={"AWS": f"arn:aws:iam::{WORKLOAD}:root"},
        Action="sts:AssumeRole",
        Condition={"StringEquals": {"sts:ExternalId": "secret"}},
    )
    with trust(world, asking):
        assert world.first().name == "trust"


def test_a_trust_that_is_wider_than_made_holds_but_is_weak(world: World) -> None:
    wide = statement(Principal={"AWS": f"arn:aws:iam::{WORKLOAD}:root"}, Action="sts:AssumeRole")
    with trust(world, wide):
        links = world.verify()
    [link] = [link for link in links if link.name == "trust"]
    assert link.state == "weak"
    assert link.why == f"the trust policy of {CENTRAL} is not narrowed to {TASK_ROLE}"
    assert first_broken(links) == {}


def test_a_task_role_without_its_policy(world: World) -> None:
    with without_policy(world, WORKLOAD, NAMES.task_role, NAMES.assume_policy):
        link = world.first()
    assert link.name == "task role"
    assert link.why == f"no policy of role {TASK_ROLE} allows sts:AssumeRole on {CENTRAL} (it has none)"


def test_a_task_role_that_is_denied(world: World) -> None:
    iam = world.client(WORKLOAD, "iam")
    deny = statement("Deny", Action="sts:*", Resource="*", Sid="Stop")
    iam.put_role_policy(RoleName=NAMES.task_role, PolicyName="revoked", PolicyDocument=json.dumps(deny))
    try:
        link = world.first()
    finally:
        iam.delete_role_policy(RoleName=NAMES.task_role, PolicyName="revoked")
    assert link.name == "task role"
    assert link.why == f"inline policy revoked of {TASK_ROLE} denies sts:AssumeRole (statement Stop)"
    assert link.remedy == f"aws iam delete-role-policy --role-name {NAMES.task_role} --policy-name revoked"


def test_a_task_role_within_a_boundary(world: World) -> None:
    iam = world.client(WORKLOAD, "iam")
    document = json.dumps(statement(Action="s3:*", Resource="*"))
    arn = iam.create_policy(PolicyName="narrow", PolicyDocument=document)["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName=NAMES.task_role, PermissionsBoundary=arn)
    try:
        link = world.first()
    finally:
        iam.delete_role_permissions_boundary(RoleName=NAMES.task_role)
        iam.delete_policy(PolicyArn=arn)
    assert link.why == f"its permissions boundary {arn} does not allow sts:AssumeRole on {CENTRAL}"


def test_a_central_role_that_may_not_write(world: World) -> None:
    with without_policy(world, MONITORING, NAMES.central_role, "remote-write"):
        link = world.first()
    assert (link.name, link.account_id) == ("central role", MONITORING)
    assert link.why.startswith(f"no policy of role {CENTRAL} allows aps:RemoteWrite on arn:aws:aps:")


def test_a_query_role_that_may_not_read_leaves_the_metrics_unchecked(world: World) -> None:
    with without_policy(world, MONITORING, NAMES.query_role, "query"):
        links = world.verify()
    assert first_broken(links)[SHOP].name == "query role"
    [metrics] = [link for link in links if link.name == "metrics"]
    assert metrics.state == "not checked"
    assert "is not authorized to perform: aps:QueryMetrics" in metrics.why


def test_a_task_role_that_was_deleted(world: World) -> None:
    lost = replace(FLEET, names=replace(NAMES, task_role="gone"))
    with trust(world, statement(Principal={"AWS": f"arn:aws:iam::{WORKLOAD}:root"}, Action="sts:AssumeRole")):
        link = world.first(lost)
    assert (link.name, link.why) == ("task role", f"there is no role arn:aws:iam::{WORKLOAD}:role/gone")


def test_a_role_at_another_path(world: World) -> None:
    link = world.first(replace(FLEET, iam_path="/metrics/"))
    wanted = CENTRAL.replace("role/", "role/metrics/")
    assert (link.name, link.why) == ("central role", f"it is {CENTRAL}, and {wanted} is asked for")


def test_a_service_with_a_role_of_its_own(world: World) -> None:
    own = f"arn:aws:iam::{WORKLOAD}:role/own"
    container = {"name": "application", "image": "nowhere", "essential": True}
    definition = {
        "family": "apart",
        "taskRoleArn": own,
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [container],
    }
    service = Service(name="apart", task_definition=json.dumps(definition))
    fleet = replace(FLEET, workloads=(replace(FLEET.workloads[0], services=(Service(name="shop"), service)),))
    found = first_broken(world.verify(fleet))
    assert found.keys() == {(WORKLOAD, REGION, "apart")}
    link = found[WORKLOAD, REGION, "apart"]
    assert (link.name, link.service, link.why) == ("task role", "apart", f"there is no role {own}")
    assert link.remedy == "create it, or name another role in the service's task definition"


def test_a_service_that_was_scaled_to_nothing(world: World) -> None:
    ecs = world.client(WORKLOAD, "ecs")
    world.add_service("idle", lambda _: None)
    ecs.update_service(cluster=NAMES.cluster, service="idle", desiredCount=0)
    fleet = replace(FLEET, workloads=(workload("shop", "idle"),))
    links = world.verify(fleet)
    assert first_broken(links).keys() == {(WORKLOAD, REGION, "idle")}
    link = first_broken(links)[WORKLOAD, REGION, "idle"]
    assert (link.name, link.why) == ("service", "its desired count is 0, and the fleet's file says 1")
    assert links_text(links)[-1] == (
        f"{WORKLOAD} {REGION} idle is broken first at the service: "
        "its desired count is 0, and the fleet's file says 1"
    )


def test_a_service_that_is_not_there(world: World) -> None:
    link = world.first(replace(FLEET, workloads=(workload("shop", "never"),)), (WORKLOAD, REGION, "never"))
    assert (link.name, link.what) == ("service", "it is not there")
    assert link.why == f"cluster {NAMES.cluster} has no service never in {REGION}"


def test_a_region_in_which_nothing_was_deployed(world: World) -> None:
    fleet = replace(FLEET, workloads=(workload("shop", regions=(REGION, "us-east-1")),))
    found = first_broken(world.verify(fleet))
    assert found.keys() == {(WORKLOAD, "us-east-1", "shop")}
    assert found[WORKLOAD, "us-east-1", "shop"].why == f"there is no cluster {NAMES.cluster} in us-east-1"


def test_an_account_that_cannot_be_entered(world: World) -> None:
    stranger = replace(workload("shop"), account_id="999999999999")
    fleet = replace(FLEET, workloads=(*FLEET.workloads, stranger))
    links = world.verify(fleet)
    [link] = [link for link in links if link.account_id == "999999999999"]
    assert (link.name, link.state) == ("account", "broken")
    assert "there are no credentials for account 999999999999" in link.why


def test_a_collector_that_ends_says_why(world: World) -> None:
    fleet, place = replace(FLEET, workloads=(workload("crashed"),)), (WORKLOAD, REGION, "crashed")
    link = until(lambda: _named(first_broken(world.verify(fleet)).get(place), "collector"), lambda: "")
    assert "stopped with exit code 2" in link.why
    assert "nobody-has-this" in link.why


def _named(link: Link | None, name: str) -> Link | None:
    return link if link and link.name == name and "its log says" in link.why else None


def test_metrics_that_go_to_another_region(world: World) -> None:
    fleet, place = replace(FLEET, workloads=(workload("elsewhere"),)), (WORKLOAD, REGION, "elsewhere")
    link = until(
        lambda: (
            (found := _named(first_broken(world.verify(fleet)).get(place), "metrics"))
            and "us-east-1" in found.why
            and found
        ),
        lambda: links_text(world.verify(fleet)),
    )
    assert link.what == "there are none in the workspace"


def test_a_collector_that_is_led_to_another_workspace(world: World) -> None:
    link = world.first(replace(FLEET, workloads=(workload("misled"),)), (WORKLOAD, REGION, "misled"))
    assert link.name == "task definition"
    assert link.why == (
        "the collector writes to ws-00000000-0000-0000-0000-000000000000, and the workspace is "
        f"{world.workspace}"
    )


def test_an_application_that_does_not_answer(world: World) -> None:
    fleet, place = replace(FLEET, workloads=(workload("unscraped"),)), (WORKLOAD, REGION, "unscraped")
    link = until(
        lambda: (
            (found := first_broken(world.verify(fleet)).get(place)) and found.name == "application" and found
        ),
        lambda: links_text(world.verify(fleet)),
    )
    assert link.why.startswith("the collector cannot scrape prometheus-demo-app 127.0.0.1:9 (up is 0)")


def test_a_workspace_that_is_gone(world: World) -> None:
    """The last, as it cannot be repaired."""
    world.client(MONITORING, "amp").delete_workspace(workspaceId=world.workspace)
    link = until(
        lambda: (found := first_broken(world.verify()).get(SHOP)) and found.name == "workspace" and found,
        lambda: links_text(world.verify()),
    )
    assert link.why == (
        f"account {MONITORING} has no workspace with alias {NAMES.workspace_alias} of this fleet in {REGION}"
    )
    assert link.remedy == "run: trunkline fleet deploy --repair"
    deploy_fleet(FLEET, world.sessions, lambda _: None, repair=True)
    assert {each.state for each in world.verify() if each.name in ("workspace", "central role")} == {"ok"}
    named = replace(FLEET, monitoring=replace(FLEET.monitoring, workspace=Workspace(id_=world.workspace)))
    assert world.workspace in world.first(named).why
