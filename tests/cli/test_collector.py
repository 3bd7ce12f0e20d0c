from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from trunkline.cli.main import main

REFERENCE = resources.files("trunkline.fleet") / "collector.yaml"


def run(*arguments: str) -> int:
    return main(["collector", *arguments])


def test_the_reference_configuration_is_valid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKSPACE_ID", "ws-1")
    monkeypatch.setenv("CENTRAL_ACCOUNT_ID", "111111111111")
    assert run("validate", "--config", str(REFERENCE)) == 0
    assert capsys.readouterr().out == "the configuration is valid: pipelines metrics, metrics/ecs\n"


def test_every_mistake_is_shown_with_its_line_and_a_suggestion(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = (
        REFERENCE.read_text().replace("scrape_interval", "scrape_intervall").replace("[filter]", "[filtre]")
    )
    wrong.write_text(text.replace("${env:WORKSPACE_ID}", "ws-1").replace("loglevel: debug", "loglevel: loud"))
    assert run("validate", "--config", str(wrong)) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "invalid configuration: 3 problems"

    def line_of(word: str) -> int:
        return next(number for number, line in enumerate(wrong.read_text().splitlines(), 1) if word in line)

    for word, remedy in (("scrape_intervall", "scrape_interval"), ("loud", "info"), ("filtre", "filter")):
        [line] = [one for one in said[1:] if f"{wrong}:{line_of(word)}:" in one]
        assert remedy in line


def test_a_value_can_be_set_over_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    setting = "receivers.awsecscontainermetrics.collection_interval=0s"
    assert run("validate", "--config", str(REFERENCE), "--set", setting) == 2
    assert "must be greater than zero, such as 20s" in capsys.readouterr().err


def test_no_configuration_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate") == 2
    assert capsys.readouterr().err == (
        "trunkline: no configuration: give --config FILE, or set AOT_CONFIG_CONTENT to its text\n"
    )


def test_components_are_listed_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("components", "--json") == 0
    listing = json.loads(capsys.readouterr().out)
    assert (
        listing["processors"]["filter"] == "Keeps or drops metrics by name, resource attribute or condition."
    )
    assert run("components") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "receivers" in lines
    assert any(line.split()[:3] == ["prometheus", "Scrapes", "targets"] for line in lines)


def test_nobody_listening_is_unhealthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("healthcheck", "--address", "127.0.0.1:9") == 1
    assert capsys.readouterr().err.startswith("trunkline: no health at 127.0.0.1:9: ")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("demo", "collector", "simulator", "query"))
