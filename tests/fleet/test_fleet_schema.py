"""What is generated from the declarations: the schema for editors, and the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from tests.fleet.test_fleet_file import HEAD, ROOT

from trunkline.errors import ConfigError
from trunkline.fleet.declarations import FleetSettings
from trunkline.fleet.file import read_fleet
from trunkline.fleet.reference import put_into
from trunkline.fleet.schema import fleet_schema, schema_text

GENERATED = "write it anew: python -m trunkline.fleet.reference docs/fleet.md; trunkline fleet schema > examples/fleet.schema.json"


@pytest.fixture(scope="module")
def validator() -> Any:
    Draft202012Validator.check_schema(fleet_schema())
    return Draft202012Validator(fleet_schema())


def test_what_is_generated_is_not_stale() -> None:
    assert (ROOT / "examples" / "fleet.schema.json").read_text() == schema_text(), GENERATED
    page = (ROOT / "docs" / "fleet.md").read_text()
    assert put_into(page) == page, GENERATED


def test_the_page_shows_the_example_as_it_is() -> None:
    page = (ROOT / "docs" / "fleet.md").read_text()
    shown = page.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "examples" / "fleet.yaml").read_text())


def test_the_example_is_valid(validator: Any) -> None:
    validator.validate(yaml.safe_load((ROOT / "examples" / "fleet.yaml").read_text()))


def test_every_key_is_described() -> None:
    schema = fleet_schema()
    for part in (schema, *schema["$defs"].values()):
        assert part["description"]
        assert part["additionalProperties"] is False
        assert all(one.get("description") for one in part["properties"].values())
    assert json.dumps(schema).count("$ref") > len(schema["$defs"])
    assert set(schema["properties"]) >= {"monitoring", "workloads", "services", "organization"}
    assert FleetSettings.__doc__


@pytest.mark.parametrize(
    "text",
    [
        "servces: []",
        "iam_path: metrics",
        "name: 1st",
        "external_id: 'with space'",
        "log_retention: soon",
        "log_retention: 14",
        "collector_image: 5",
        "trust_characters: 100",
        "regions: [Ireland]",
        "network: {vpc: mine}",
        "network: {endpoints: [sns]}",
        "network: {nat: 'yes'}",
        "services: [{compose: x}]",
        "services: [{name: x, memory: 512}]",
        "services: [{name: x, memory: much}]",
        "services: [{name: x, desired_count: -1}]",
        "services: [{name: x, containers: [{name: y, ports: ['80']}]}]",
        "organization: {}",
        "workloads: [{account: 2222}]",
        "workloads: [{account: '22222222222x'}]",
        "monitoring: {account: '111111111111'}",
        "monitoring: {account: '111111111111', region: eu-west-1, workspace: {max_series_per_account: 0}}",
        "monitoring: {account: '111111111111', region: eu-west-1, grafana: {authentication: [PASSWORD]}}",
    ],
)
def test_it_refuses_what_the_reader_refuses(validator: Any, tmp_path: Path, text: str) -> None:
    whole = {**yaml.safe_load(HEAD), "workloads": [{"account": "222222222222"}], **yaml.safe_load(text)}
    assert list(validator.iter_errors(whole)), "the schema takes it"
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(whole))
    with pytest.raises(ConfigError):
        read_fleet(tmp_path / "fleet.yaml")
