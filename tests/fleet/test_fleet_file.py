from __future__ import annotations

import re
from pathlib import Path

import pytest

from trunkline.errors import ConfigError
from trunkline.fleet.file import read_fleet, read_fleet_file
from trunkline.fleet.model import Container, Credentials, Fleet, Network, SeriesLimit
from trunkline.fleet.templates import collector_configuration

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BAD = sorted((HERE / "fleet_files" / "bad").glob("*[!l].yaml"))
HEAD = """
monitoring: {account: "111111111111", region: eu-west-1}
services: [{name: shop}]
"""


def read(folder: Path, text: str, **files: str) -> Fleet:
    """The fleet of a text, with other files beside it; names of files have `_` for a dot."""
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    (folder / "fleet.yaml").write_text(text)
    return read_fleet(folder / "fleet.yaml")


def one(folder: Path, text: str, **files: str) -> Fleet:
    return read(folder, f'{HEAD}workloads: [{{account: "222222222222"}}]\n{text}', **files)


def network(folder: Path, text: str) -> Network:
    return one(folder, f"network: {text}").workloads[0].network("eu-west-1")


def refused(folder: Path, text: str, **files: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(folder, text, **files)
    return [str(problem).replace(f"{folder}/", "") for problem in raised.value.problems]


def bad_files() -> list[Path]:
    return [file for file in BAD if not file.name.endswith(".collector.yaml")]


@pytest.mark.parametrize("file", bad_files(), ids=lambda file: file.stem)
def test_what_is_wrong_is_said_with_its_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(ConfigError) as raised:
        read_fleet_file(Path(file.name), {})
    said = [str(problem) for problem in raised.value.problems]
    assert said == file.with_suffix(".txt").read_text().splitlines()


def test_the_example_is_the_reference_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP_IMAGE", raising=False)
    monkeypatch.delenv("COLLECTOR_IMAGE", raising=False)
    fleet = read_fleet(ROOT / "examples" / "fleet.yaml")
    assert (fleet.monitoring.account_id, fleet.monitoring.region) == ("111111111111", "eu-west-1")
    assert fleet.monitoring.credentials == Credentials(profile="111111111111")
    assert [account.account_id for account in fleet.workloads] == ["222222222222", "333333333333"]
    for account in fleet.workloads:
        assert account.regions == ("eu-west-1",)
        assert account.network("eu-west-1") == Network()
        assert account.credentials == Credentials(profile=account.account_id)
        [service] = account.services
        assert (service.cpu_units, service.memory_mib, service.desired_count) == (256, 512, 1)
        assert service.containers == (Container(name="prometheus-demo-app", ports=(8000,)),)


def test_the_example_is_short_and_has_the_reference_files_as_they_stand() -> None:
    lines = (ROOT / "examples" / "fleet.yaml").read_text().splitlines()
    assert len(lines) <= 18
    assert lines[0] == "# yaml-language-server: $schema=fleet.schema.json"
    reference = ROOT.parent / "shared" / "reference"
    for name in ("docker-compose.yml", "ecs-params.yml"):
        if reference.is_dir():
            assert (ROOT / "examples" / name).read_bytes() == (reference / name).read_bytes()


def test_subnets_of_the_ecs_parameters_are_used_where_the_file_names_no_network(tmp_path: Path) -> None:
    files = {
        "dc_yml": "services: {app: {image: x}}",
        "ep_yml": (ROOT / "examples/ecs-params.yml").read_text(),
    }
    text = (
        "workloads: [{account: '222222222222', services: [{name: s, compose: dc.yml, ecs_params: ep.yml}]}]"
    )
    fleet = read(tmp_path, HEAD + text, **files)
    assert fleet.workloads[0].network("eu-west-1") == Network(
        kind="existing", subnets=("subnet-11111111", "subnet-22222222"), security_groups=("sg-11111111",)
    )
    own = read(tmp_path, f"{HEAD}{text}\nnetwork: {{vpc: default}}", **files)
    assert own.workloads[0].network("eu-west-1") == Network()


def test_accounts_share_what_they_do_not_say(tmp_path: Path) -> None:
    fleet = read(
        tmp_path,
        """
monitoring: {account: 111111111111, region: eu-west-1}
regions: [eu-west-1, us-east-1]
services: [{name: shop}]
credentials: {role: Access, profile: "p-{account}", external_id: "5"}
network: {vpc: new}
workloads:
  - account: 000000000002
  - account: "333333333333"
    regions: [eu-central-1]
    services: [{name: own, desired_count: 3, cpu: 512, memory: 1GiB}]
    credentials: {profile: x}
    networks: {eu-central-1: {vpc: new, nat: true}}
""",
    )
    first, second = fleet.workloads
    assert first.account_id == "000000000002"
    assert first.regions == ("eu-west-1", "us-east-1")
    assert [service.name for service in first.services] == ["shop"]
    assert first.credentials == Credentials(profile="p-000000000002", role="Access", external_id="5")
    assert first.network("us-east-1") == Network(kind="new", cidr="10.40.0.0/16")
    assert second.services[0].desired_count == 3
    assert (second.services[0].cpu_units, second.services[0].memory_mib) == (512, 1024)
    assert second.credentials == Credentials(profile="x")
    assert second.network("eu-central-1").nat
    assert not second.network("eu-central-1").public_ip
    assert fleet.monitoring.credentials == Credentials(profile="p-111111111111")


def test_the_workspace_and_its_limits(tmp_path: Path) -> None:
    fleet = read(
        tmp_path,
        """
monitoring:
  account: "111111111111"
  region: eu-west-1
  workspace:
    alias: metrics
    retention: 150d
    out_of_order_window: 30m
    max_series_per_account: 1000
    limits: [{labels: {job: noisy}, max_series: 5}]
  grafana: {admins: [u-1]}
services: [{name: shop}]
workloads: [{account: "222222222222"}]
""",
    )
    workspace = fleet.monitoring.workspace
    assert (workspace.retention_days, workspace.out_of_order_window_s) == (150, 1800)
    assert workspace.limits == (
        SeriesLimit(labels={"job": "noisy"}, max_series=5),
        SeriesLimit(labels={"cloud_account_id": "222222222222"}, max_series=1000),
    )
    assert fleet.names.workspace_alias == "metrics"
    assert fleet.monitoring.grafana
    assert fleet.monitoring.grafana.admins == ("u-1",)


def test_what_organisations_demand(tmp_path: Path) -> None:
    text = """
iam_path: /metrics/
permissions_boundary: arn:aws:iam::aws:policy/PowerUserAccess
tags: {owner: 007}
names: {cluster: mine}
log_retention: 30d
name: metrics
"""
    fleet = one(tmp_path, text)
    assert fleet.iam_path == "/metrics/"
    assert fleet.permissions_boundary == "arn:aws:iam::aws:policy/PowerUserAccess"
    assert fleet.tags == {"owner": "007", "trunkline:fleet": "metrics"}
    assert fleet.names.cluster == "mine"
    assert fleet.log_retention_days == 30


def test_units_run_the_fleet_s_services(tmp_path: Path) -> None:
    fleet = read(tmp_path, HEAD + "organization: {id: o-a1b2c3d4e5, units: [ou-a1b2-c3d4e5f6]}")
    assert fleet.workloads == ()
    assert fleet.organization
    assert fleet.organization.regions == ("eu-west-1",)
    assert [service.name for service in fleet.organization.services] == ["shop"]


def test_the_external_id_is_sent_by_the_collector(tmp_path: Path) -> None:
    fleet = one(tmp_path, "external_id: our-fleet")
    assert fleet.external_id == "our-fleet"
    assert "external_id: our-fleet" in collector_configuration(fleet, fleet.workloads[0].services[0])


def test_networks(tmp_path: Path) -> None:
    endpoints = "[aps-workspaces, sts, ecr.api, ecr.dkr, logs, s3]"
    found = network(tmp_path, f"{{vpc: new, endpoints: {endpoints}}}")
    assert (found.kind, found.public_ip, found.cidr) == ("new", False, "10.40.0.0/16")
    found = network(tmp_path, "{vpc: vpc-11111111, subnets: [subnet-11111111], public_ip: false}")
    assert (found.kind, found.vpc_id, found.public_ip) == ("existing", "vpc-11111111", False)
    found = network(tmp_path, "{subnets: [subnet-11111111], security_groups: [sg-11111111]}")
    assert (found.kind, found.vpc_id) == ("existing", "")


def test_a_task_definition_that_exists(tmp_path: Path) -> None:
    task = """{"taskDefinition": {"family": "old", "revision": 3, "networkMode": "awsvpc", "cpu": "512",
      "memory": "1024", "containerDefinitions": [{"name": "aws-otel-collector", "image": "old"},
      {"name": "app", "image": "x", "dependsOn": [{"containerName": "aws-otel-collector", "condition": "START"}]}]}}"""
    text = (
        "workloads: [{account: '222222222222', services: [{name: s, task_definition: t.json, memory: 2GiB}]}]"
    )
    [service] = read(tmp_path, HEAD + text, t_json=task).workloads[0].services
    assert (service.cpu_units, service.memory_mib) == (512, 2048)
    assert '"memory": "2048"' in service.task_definition
    assert "old" not in re.sub('"family": "old"', "", service.task_definition)
    assert '"dependsOn": []' in service.task_definition
    assert "revision" not in service.task_definition


def test_a_collector_configuration_of_ones_own(tmp_path: Path) -> None:
    own = (ROOT / "src/trunkline/fleet/collector.yaml").read_text()
    fleet = one(tmp_path, "collector_config: own.yaml", own_yaml=own)
    assert fleet.collector_configuration == own


def test_one_task_may_go_without_identity(tmp_path: Path) -> None:
    own = (HERE / "fleet_files/bad/without_identity.collector.yaml").read_text()
    assert one(tmp_path, "collector_config: own.yaml", own_yaml=own).collector_configuration == own


def test_tasks_that_name_themselves_may_go_without_identity(tmp_path: Path) -> None:
    own = (HERE / "fleet_files/bad/without_identity.collector.yaml").read_text()
    conversion = "identity_labels: false\n    resource_to_telemetry_conversion: {enabled: true}"
    own = own.replace("identity_labels: false", conversion)
    text = "collector_config: own.yaml\nregions: [eu-west-1, us-east-1]"
    workload = f'{HEAD}workloads: [{{account: "222222222222"}}]\n{text}'
    [problem] = refused(tmp_path, workload, own_yaml=own)
    assert problem.startswith(
        "own.yaml:7:22: exporters::awsprometheusremotewrite::identity_labels: 2 tasks would"
    )
    named = own.replace("exporters:", "processors: {resourcedetection: {detectors: [ecs]}}\nexporters:", 1)
    named = named.replace(
        "receivers: [prometheus]", "receivers: [prometheus], processors: [resourcedetection]"
    )
    assert one(tmp_path, text, own_yaml=named).collector_configuration == named


def test_a_configuration_the_collector_refuses(tmp_path: Path) -> None:
    text = f'{HEAD}workloads: [{{account: "222222222222"}}]\ncollector_config: own.yaml'
    own = (
        (ROOT / "src/trunkline/fleet/collector.yaml")
        .read_text()
        .replace("  prometheus:", "  prometheous:", 1)
    )
    problem, *_ = refused(tmp_path, text, own_yaml=own)
    assert re.match(r"own.yaml:\d+:3: receivers::prometheous: .*did you mean `prometheus`\?", problem)


def test_what_does_not_fit_into_a_task_definition(tmp_path: Path) -> None:
    own = (ROOT / "src/trunkline/fleet/collector.yaml").read_text() + "#" * 64_000
    text = f'{HEAD}workloads: [{{account: "222222222222"}}]\ncollector_config: own.yaml'
    [problem] = refused(tmp_path, text, own_yaml=own)
    assert problem.startswith("fleet.yaml:3:12: services: the task definition of shop would have about 6")


def test_an_absent_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: No such file .*trunkline fleet init"):
        read_fleet(tmp_path / "fleet.yaml")


def test_images_of_the_collector_have_to_agree(tmp_path: Path) -> None:
    compose = "services: {trunkline: {image: '%s'}, app: {image: x}}"
    text = """
monitoring: {account: "111111111111", region: eu-west-1}
services: [{name: a, compose: a.yml}, {name: b, compose: b.yml}]
workloads: [{account: "222222222222"}]
"""
    same = read(tmp_path, text, a_yml=compose % "c:1", b_yml=compose % "c:1")
    assert same.collector_image == "c:1"
    [problem] = refused(tmp_path, text, b_yml=compose % "c:2")
    assert "the compose files name different collectors: c:1 and c:2" in problem
    chosen = read(tmp_path, f"{text}collector_image: c:3")
    assert chosen.collector_image == "c:3"
