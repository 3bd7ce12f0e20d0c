"""The rule file is what Prometheus' own tool takes, and its alerts speak when they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from trunkline.dashboards.rendering import RULES
from trunkline.dashboards.rules import ALERTS, rules

TESTS = Path(__file__).with_name("alerts.test.yaml")
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / RULES).write_text(rules())
    shutil.copy(TESTS, tmp_path)
    return tmp_path


def promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False)


@needs_promtool
def test_promtool_accepts_the_rules(folder: Path) -> None:
    checked = promtool("check", "rules", RULES, folder=folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_the_alerts_speak_when_they_should(folder: Path) -> None:
    tested = promtool("test", "rules", TESTS.name, folder=folder)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
def test_a_changed_threshold_would_be_found(folder: Path) -> None:
    (folder / RULES).write_text(rules().replace("ratio > 0.9", "ratio > 0.99"))
    assert promtool("test", "rules", TESTS.name, folder=folder).returncode == 1


def test_every_alert_is_tested() -> None:
    tested = set(re.findall(r"alertname: (\w+)", TESTS.read_text()))
    assert tested == {alert.alert for alert in ALERTS}


def test_every_alert_says_what_happened_and_what_to_look_at() -> None:
    [group] = yaml.safe_load(rules())["groups"]
    for rule in group["rules"]:
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert rule["annotations"]["summary"].endswith(".")
            assert rule["annotations"]["description"].endswith(".")
