from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import yaml
from tests.fleet.test_fleet_file import ROOT

from trunkline.fleet.file import read_fleet, read_fleet_file
from trunkline.fleet.model import Container, Fleet, Network, Organization, Service, WorkloadAccount
from trunkline.fleet.order import Templates, fleet_stacks
from trunkline.fleet.render import fleet_files, write_files
from trunkline.fleet.templates import collector_configuration

APP = Container(
    name="app",
    image="app:$tag",
    command=("run", "$HOME"),
    environment={"PRICE": "$5", "LINES": "a\nb\n"},
    secrets={"KEY": "arn:aws:ssm:eu-west-1:1:parameter/key"},
    ports=(8000, 9000),
    cpu_units=64,
    memory_mib=128,
    user="1000",
    read_only=True,
    health_check=("CMD-SHELL", "check $x"),
    depends_on=("other",),
    stop_timeout_s=45,
)
OTHER = Container(name="other", image="other:1", essential=False)
SERVICE = Service(name="shop", containers=(APP, OTHER), cpu_units=512, memory_mib=1024)


def with_service(fleet: Fleet, service: Service, **changes: object) -> Fleet:
    account = WorkloadAccount(account_id="222222222222", regions=("eu-west-1",), services=(service,))
    return replace(fleet, workloads=(replace(account, **changes),))  # type: ignore[arg-type]


def test_everything_a_fleet_is_made_of(fleet: Fleet, tmp_path: Path) -> None:
    names = {str(path.relative_to(tmp_path)) for path in write_files(fleet, tmp_path)}
    stacks = {f"templates/{one.account_id}/{one.region}/{one.name}.json" for one in fleet_stacks(fleet)}
    assert len(stacks) == 9
    assert stacks <= names
    services = {"web-shop", "web-shop-333333333333", "billing"}
    for service in services:
        expected = ("collector.yaml", "docker-compose.yml", "ecs-params.yml")
        assert {f"services/{service}/{name}" for name in expected} <= names
    others = {name for name in names - stacks if not name.startswith(("services/", "dashboards/"))}
    assert others == {"README.md", "images/collector.Dockerfile", "images/application.Dockerfile"}
    assert "dashboards/trunkline.rules.yaml" in names
    assert names == {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}


def test_templates_are_those_that_are_deployed(fleet: Fleet) -> None:
    files, templates = dict(fleet_files(fleet)), Templates(fleet)
    for stack in fleet_stacks(fleet):
        name = f"templates/{stack.account_id}/{stack.region}/{stack.name}.json"
        assert files[name].decode() == templates[stack]
        assert f"`{stack.name}.json`" in files["README.md"].decode()


def test_the_same_fleet_gives_the_same_bytes(fleet: Fleet) -> None:
    assert list(fleet_files(fleet)) == list(fleet_files(fleet))


def test_compose_files_read_back_as_the_service_they_were_made_of(fleet: Fleet, tmp_path: Path) -> None:
    network = Network(
        kind="existing", subnets=("subnet-11111111",), security_groups=("sg-11111111",), public_ip=False
    )
    made = with_service(fleet, SERVICE, networks={"eu-west-1": network})
    write_files(made, tmp_path)
    folder = tmp_path / "services" / "shop"
    (folder / "fleet.yaml").write_text(
        'monitoring: {account: "111111111111", region: eu-west-1}\n'
        "services: [{name: shop, compose: docker-compose.yml, ecs_params: ecs-params.yml}]\n"
        'workloads: [{account: "222222222222"}]\n'
    )
    environment = {"COLLECTOR_IMAGE": "", "WORKSPACE_ID": "ws-1", "AWS_REGION": "eu-west-1"}
    found = read_fleet_file(folder / "fleet.yaml", environment).fleet.workloads[0]
    [service] = found.services
    assert service.containers == SERVICE.containers
    assert (service.cpu_units, service.memory_mib) == (512, 1024)
    assert found.network("eu-west-1") == network
    assert service.collector_configuration == collector_configuration(made, SERVICE)


def test_the_demo_application_is_left_to_the_fleet_s_image(tmp_path: Path) -> None:
    write_files(read_fleet(ROOT / "examples" / "fleet.yaml"), tmp_path)
    services = yaml.safe_load((tmp_path / "services/web-shop/docker-compose.yml").read_text())["services"]
    assert services["prometheus-demo-app"]["image"] == "${APP_IMAGE}"
    assert services["aws-otel-collector"]["image"] == "${COLLECTOR_IMAGE}"
    assert services["aws-otel-collector"]["read_only"] is True


def test_a_task_definition_stays_one(fleet: Fleet) -> None:
    task = {
        "cpu": "256",
        "memory": "512",
        "networkMode": "awsvpc",
        "containerDefinitions": [{"name": "a", "image": "b"}],
    }
    service = Service(name="old", task_definition=json.dumps(task))
    files = dict(fleet_files(with_service(fleet, service)))
    assert json.loads(files["services/old/task-definition.json"]) == task
    assert "services/old/docker-compose.yml" not in files


def test_units_have_templates_for_stack_sets(fleet: Fleet) -> None:
    units = Organization(
        id_="o-a1b2c3d4e5", units=("ou-a1b2-c3d4e5f6",), regions=("eu-west-1",), services=(SERVICE,)
    )
    names = [name for name, _ in fleet_files(replace(fleet, workloads=(), organization=units))]
    assert "templates/organization/tests-services.json" in names
    assert "services/shop/collector.yaml" in names
