from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Place
from trunkline.errors import ConfigError
from trunkline.fleet.model import Container, Names, Network
from trunkline.fleet.services.compose import Composed, read_compose
from trunkline.fleet.services.foreign import Asked, Foreign
from trunkline.fleet.services.interpolation import InterpolationError, interpolate

REFERENCE = Path(__file__).parents[2] / "examples"
NOBODY = Asked(Place("fleet.yaml", 1, 1), "services::0")


def read(
    folder: Path,
    compose: str,
    params: str = "",
    *,
    collector: str = "",
    environment: Mapping[str, str] | None = None,
) -> tuple[Composed, list[str], list[str]]:
    """What the files say, the problems and the notes."""
    (folder / "dc.yml").write_text(compose)
    (folder / "ep.yml").write_text(params)
    findings = Findings()
    found = read_compose(
        (folder / "dc.yml", NOBODY),
        (folder / "ep.yml", NOBODY) if params else None,
        collector=collector,
        names=Names(),
        environment=environment or {},
        foreign=Foreign(findings),
    )
    problems: list[str] = []
    try:
        findings.raise_problems()
    except ConfigError as error:
        problems = str(error).replace(f"{folder}/", "").splitlines()
    return found, problems, [str(note).replace(f"{folder}/", "") for note in findings.warnings()]


def container(folder: Path, text: str, **environment: str) -> Container:
    found, problems, _ = read(folder, f"services:\n  app: {text}", environment=environment)
    assert problems == []
    [one] = found.containers
    return one


def test_the_reference_files_work_as_they_stand(tmp_path: Path) -> None:
    compose, params = ((REFERENCE / name).read_text() for name in ("docker-compose.yml", "ecs-params.yml"))
    found, problems, notes = read(tmp_path, compose, params)
    assert problems == []
    assert found.containers == (Container(name="prometheus-demo-app", ports=(8000,)),)
    assert (found.cpu_units, found.memory_mib) == (256, 512)
    assert found.network == Network(
        kind="existing", subnets=("subnet-11111111", "subnet-22222222"), security_groups=("sg-11111111",)
    )
    assert (found.collector_image, found.collector_environment) == ("", {})
    assert [note.partition(": ")[2].partition(" (")[0] for note in notes] == [
        "services::aws-otel-collector::environment: AWS_REGION of the collector: the fleet sets it",
        "services::aws-otel-collector::logging: is replaced",
        "services::prometheus-demo-app::logging: is replaced",
    ]


def test_images_from_the_environment_take_the_place_of_the_fleet_s(tmp_path: Path) -> None:
    compose = (REFERENCE / "docker-compose.yml").read_text()
    found, _, _ = read(tmp_path, compose, environment={"APP_IMAGE": "app:1", "COLLECTOR_IMAGE": "c:2"})
    assert (found.containers[0].image, found.collector_image) == ("app:1", "c:2")


def test_every_supported_key(tmp_path: Path) -> None:
    (tmp_path / "more.env").write_text("# a comment\nA=file\nexport B='quoted'\nC=c=d\n")
    text = """
    image: app:1
    command: serve --name 'my app'
    entrypoint: [/bin/run]
    environment: {A: 1, E: null, F: "$${x} ${G}"}
    env_file: more.env
    ports: ["8000:8000", 9000, "127.0.0.1:7000:7000/tcp", {target: 6000}]
    user: 1000:1000
    working_dir: /srv
    read_only: true
    healthcheck: {test: curl -f localhost, interval: 1m, timeout: 3s, retries: 5, start_period: 10s}
    stop_grace_period: 1m30s
    cpus: "0.25"
    mem_limit: 128m
    x-mine: {any: thing}
    restart: always
"""
    assert container(tmp_path, text, G="g", E="e") == Container(
        name="app",
        image="app:1",
        command=("serve", "--name", "my app"),
        entry_point=("/bin/run",),
        environment={"A": "1", "B": "quoted", "C": "c=d", "E": "e", "F": "${x} g"},
        ports=(8000, 9000, 7000, 6000),
        user="1000:1000",
        working_directory="/srv",
        read_only=True,
        health_check=("CMD-SHELL", "curl -f localhost"),
        health_interval_s=60,
        health_timeout_s=3,
        health_retries=5,
        health_start_s=10,
        stop_timeout_s=90,
        cpu_units=256,
        memory_mib=128,
    )


def test_variables_named_without_a_value_are_those_of_the_environment(tmp_path: Path) -> None:
    found = container(tmp_path, "{image: x, environment: [HERE, THERE, SET=1]}", HERE="h")
    assert found.environment == {"HERE": "h", "SET": "1"}


def test_deploy_says_how_many_and_how_large(tmp_path: Path) -> None:
    deploy = "{replicas: 3, resources: {limits: {cpus: '0.5', memory: 64M}, reservations: {memory: 1g}}}"
    found, problems, _ = read(tmp_path, f"services: {{app: {{image: x, deploy: {deploy}}}}}")
    assert problems == []
    assert found.desired_count == 3
    assert (found.containers[0].cpu_units, found.containers[0].memory_mib) == (512, 64)


def test_ecs_parameters_of_containers(tmp_path: Path) -> None:
    params = """
version: 1
task_definition:
  task_size: {cpu_limit: 512, mem_limit: 1GB}
  services:
    app:
      essential: false
      cpu_shares: 100
      mem_limit: 256MB
      secrets: [{name: KEY, value_from: "arn:aws:ssm:eu-west-1:1:parameter/key"}]
      depends_on: [{container_name: other, condition: START}]
      healthcheck: {test: ["CMD", "check"]}
"""
    found, problems, _ = read(tmp_path, "services: {app: {image: x}, other: {image: y}}", params)
    assert problems == []
    assert (found.cpu_units, found.memory_mib) == (512, 1024)
    assert found.containers[0] == Container(
        name="app",
        image="x",
        essential=False,
        cpu_units=100,
        memory_mib=256,
        secrets={"KEY": "arn:aws:ssm:eu-west-1:1:parameter/key"},
        depends_on=("other",),
        health_check=("CMD", "check"),
    )


@pytest.mark.parametrize(
    ("services", "given", "expected"),
    [
        ("{trunkline: {image: x}, app: {image: y}}", "", ["app"]),
        ("{a: {image: 'public.ecr.aws/x/aws-otel-collector:v1'}, app: {image: y}}", "", ["app"]),
        ("{a: {image: '${COLLECTOR_IMAGE:-x}'}, app: {image: y}}", "", ["app"]),
        ("{side: {image: x}, app: {image: y}}", "side", ["app"]),
        ("{side: {image: x}, app: {image: y}}", "", ["side", "app"]),
    ],
)
def test_which_service_is_the_collector(
    tmp_path: Path, services: str, given: str, expected: list[str]
) -> None:
    found, problems, _ = read(tmp_path, f"services: {services}", collector=given)
    assert problems == []
    assert [one.name for one in found.containers] == expected


def test_a_collector_that_is_not_clear(tmp_path: Path) -> None:
    _, problems, _ = read(tmp_path, "services: {trunkline: {image: x}, adot-collector: {image: y}}")
    [problem] = problems
    assert problem.startswith(
        "dc.yml:1:35: services: trunkline and adot-collector both look like the collector (say which with "
    )
    _, problems, _ = read(tmp_path, "services: {app: {image: x}}", collector="ap")
    assert problems == ["dc.yml:1:11: services: there is no service 'ap' (did you mean `app`? services: app)"]


def test_the_collector_s_variables_and_configuration(tmp_path: Path) -> None:
    compose = """
services:
  trunkline:
    image: c
    environment:
      AWS_REGION: x
      LEVEL: debug
      AOT_CONFIG_CONTENT: |
        receivers: {}  # $${env:WORKSPACE_ID}
  app: {image: x, depends_on: [trunkline]}
"""
    found, problems, _ = read(tmp_path, compose)
    assert problems == []
    assert found.collector_environment == {"LEVEL": "debug"}
    assert found.collector_configuration == "receivers: {}  # ${env:WORKSPACE_ID}\n"
    assert found.containers[0].depends_on == ()


def test_a_configuration_in_a_parameter_is_refused(tmp_path: Path) -> None:
    params = """
version: 1
task_definition: {services: {trunkline: {secrets: [{name: AOT_CONFIG_CONTENT, value_from: otel}]}}}
"""
    _, problems, _ = read(tmp_path, "services: {trunkline: {image: c}, app: {image: x}}", params)
    assert len(problems) == 1
    assert "a parameter holds 4 KB" in problems[0]


def test_a_file_that_is_no_compose_file(tmp_path: Path) -> None:
    def check(text: str, said: str) -> None:
        assert read(tmp_path, text)[1] == [said]

    check("[]", "dc.yml:1:1: is not a map of keys and values (is it the right file?)")
    check("services: {}", "dc.yml:1:1: services: there is no service (is it a compose file?)")
    check("services: {app: {}}", "dc.yml:1:17: services::app: has no image (write image:)")
    check("services: {app: x}", "dc.yml:1:17: services::app: is not a map (write key: value lines)")


def test_interpolation() -> None:
    environment = {"A": "a", "EMPTY": ""}

    def check(text: str, expected: str, missing: list[str] | None = None) -> None:
        assert interpolate(text, environment) == (expected, missing or [])

    check("no dollar", "no dollar")
    check("$A ${A}", "a a")
    check("$$A $${A}", "$A ${A}")
    check("${B}", "", ["B"])
    check("${B:-x} ${EMPTY:-x} ${EMPTY-x} ${A:-x}", "x x  a")
    check("${B:-${A}}", "a")
    check("${B-}", "")
    check("${A:+x} ${EMPTY:+x} ${EMPTY+x} ${B+x}", "x  x ")
    check("${A:?why}", "a")


def test_interpolation_that_cannot_be() -> None:
    def check(text: str, said: str) -> None:
        with pytest.raises(InterpolationError, match=said):
            interpolate(text, {})

    check("${B:?say which}", "B is not set: say which")
    check("${A", "not closed")
    check("$1", "not followed by a variable's name")
    check("${}", "names no variable")
    check("${A!}", "not a variable with a default")


@given(st.text())
def test_a_text_with_doubled_dollars_comes_back(text: str) -> None:
    assert interpolate(text.replace("$", "$$"), {}) == (text, [])
