from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from trunkline.errors import UsageError
from trunkline.fleet.file import read_fleet
from trunkline.fleet.init import Answers, Workload, fleet_text, parse_workload, write_fleet
from trunkline.fleet.model import Credentials

ANSWERS = Answers(
    monitoring="111111111111",
    region="eu-west-1",
    workloads=(Workload("222222222222"), Workload("333333333333", ("us-east-1", "eu-west-1"))),
)


def test_it_reads_back(tmp_path: Path) -> None:
    answers = replace(ANSWERS, service="billing", role="Access", profile="{account}", grafana=True)
    paths = write_fleet(answers, tmp_path / "fleet.yaml")
    assert [path.name for path in paths] == ["fleet.yaml", "fleet.schema.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fleet.schema.json", "fleet.yaml"]
    fleet = read_fleet(paths[0])
    first, second = fleet.workloads
    assert (first.account_id, first.regions) == ("222222222222", ("eu-west-1",))
    assert (second.account_id, second.regions) == ("333333333333", ("us-east-1", "eu-west-1"))
    assert [service.name for service in first.services] == ["billing"]
    assert second.credentials == Credentials(profile="333333333333", role="Access")
    assert fleet.monitoring.grafana


def test_what_is_commented_out_can_be_used(tmp_path: Path) -> None:
    lines = fleet_text(ANSWERS).splitlines()
    wanted = ("workspace:", "  retention:", "  max_series_per_account:", "iam_path:", "tags:")
    used = [
        line.replace("# ", "", 1) if any(f"# {one}" in line for one in wanted) else line for line in lines
    ]
    (tmp_path / "fleet.yaml").write_text("\n".join(used))
    fleet = read_fleet(tmp_path / "fleet.yaml")
    assert fleet.monitoring.workspace.retention_days == 150
    assert len(fleet.monitoring.workspace.limits) == 2
    assert (fleet.iam_path, fleet.extra_tags) == ("/metrics/", {"owner": "platform"})


def test_it_is_mostly_comments_and_names_its_schema() -> None:
    text = fleet_text(ANSWERS)
    assert text.startswith("# yaml-language-server: $schema=fleet.schema.json\n")
    assert set(yaml.safe_load(text)) == {"monitoring", "services", "workloads"}


def test_a_compose_file_is_named_and_read(tmp_path: Path) -> None:
    (tmp_path / "dc.yml").write_text("services: {app: {image: x}}")
    path, _ = write_fleet(replace(ANSWERS, compose="dc.yml"), tmp_path / "fleet.yaml")
    assert read_fleet(path).workloads[0].services[0].containers[0].name == "app"


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("mine")
    with pytest.raises(UsageError, match="is there already; say --force"):
        write_fleet(ANSWERS, path)
    assert path.read_text() == "mine"
    write_fleet(ANSWERS, path, force=True)
    assert read_fleet(path).monitoring.account_id == "111111111111"


def test_answers_that_make_no_fleet_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    with pytest.raises(
        UsageError, match=rf"make no fleet:\n{path}:7:11: monitoring::region: there is no region"
    ):
        write_fleet(replace(ANSWERS, region="eu-west-9"), path)
    assert list(tmp_path.iterdir()) == []


def test_accounts_on_the_command_line() -> None:
    assert parse_workload("222222222222") == Workload("222222222222")
    assert parse_workload("2:eu-west-1, us-east-1") == Workload("2", ("eu-west-1", "us-east-1"))
    for text in ("", ":", "2:", "2:,"):
        with pytest.raises(UsageError, match="is no account"):
            parse_workload(text)
