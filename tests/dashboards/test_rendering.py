"""The files of `trunkline dashboards render`: stable, complete, and within the part of Grafana's model we use."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trunkline.cli.main import main
from trunkline.dashboards.queries import filled, panel_queries, taken, variables
from trunkline.dashboards.rendering import RULES, dashboards, files
from trunkline.dashboards.rules import ALERTS
from trunkline.dashboards.scope import ACCOUNT, CLUSTER, FAMILY, REGION, SERVICE, TASK, VARIABLES

UIDS = ["trunkline-fleet", "trunkline-service", "trunkline-ecs-tasks", "trunkline-collectors"]
DASHBOARDS = dashboards()
CHARTS = {"timeseries", "stat", "bargauge", "table", "state-timeline"}
TRANSFORMATIONS = {"merge", "organize"}
VARIABLE_TYPES = {"datasource", "query", "custom"}
each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each["uid"])


def charts(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_the_uids_stay() -> None:
    assert [each["uid"] for each in DASHBOARDS] == UIDS


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from trunkline.dashboards.rendering import write; write(Path(sys.argv[1]))"
    for seed in ("1", "2"):
        folder = tmp_path / seed
        subprocess.run([sys.executable, "-c", script, str(folder)], env={"PYTHONHASHSEED": seed}, check=True)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files()


def test_render_writes_dashboards_and_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "down"
    assert main(["dashboards", "render", "--out", str(out)]) == 0
    expected = [*(f"{uid}.json" for uid in UIDS), RULES]
    assert capsys.readouterr().out.splitlines() == [str(out / name) for name in expected]
    assert sorted(path.name for path in out.iterdir()) == sorted(expected)
    assert json.loads((out / "trunkline-fleet.json").read_text())["title"] == "Trunkline: Fleet"


def test_the_documentation_names_every_dashboard_and_alert() -> None:
    text = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text()
    for name in (*UIDS, *(alert.alert for alert in ALERTS)):
        assert f"`{name}`" in text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["dashboards", "render", "--out", str(tmp_path / "file")]) == 2
    assert f"--out {tmp_path / 'file'}: File exists" in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['grafana_foundation_sdk'] = None; from trunkline.cli.main import main; "
        f"sys.exit(main(['dashboards', 'render', '--out', {str(tmp_path)!r}]))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "pip install 'trunkline[dashboards]'" in ended.stderr


@each_dashboard
def test_every_panel_is_described_and_measured(dashboard: dict[str, Any]) -> None:
    for panel in charts(dashboard):
        assert panel["type"] in CHARTS
        assert panel["title"]
        assert re.search(r"\.$", panel["description"]), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert {each["id"] for each in panel.get("transformations", ())} <= TRANSFORMATIONS
        if panel["type"] not in {"table", "state-timeline"}:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        if panel["type"] in {"timeseries", "state-timeline"}:
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


@each_dashboard
def test_legends_tell_lines_apart(dashboard: dict[str, Any]) -> None:
    """By every label a query keeps: cluster and family are told by the rest, and so is all that a task's id implies."""
    for query in panel_queries(dashboard):
        grouped = re.search(r"\bby \(([^)]*)\)", query.expr)
        if query.expr.startswith("topk("):  # of series as they are, whose labels nobody knows
            assert query.legend == "__auto", str(query)
        if not query.legend or not grouped:
            continue
        told = set(re.findall(r"\{\{(.+?)\}\}", query.legend)) | {"le", CLUSTER, FAMILY}
        if TASK in told:
            told |= {ACCOUNT, REGION, SERVICE}
        assert set(grouped[1].split(", ")) <= told, str(query)


@each_dashboard
def test_titles_of_figures_fit_a_window_of_1280_pixels(dashboard: dict[str, Any]) -> None:
    for panel in charts(dashboard):
        if panel["type"] == "stat":
            assert len(panel["title"]) <= 4.5 * panel["gridPos"]["w"], panel["title"]


@each_dashboard
def test_panels_lie_side_by_side(dashboard: dict[str, Any]) -> None:
    taken_cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken_cells, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken_cells |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@each_dashboard
def test_every_dashboard_has_the_variables_chained(dashboard: dict[str, Any]) -> None:
    listed = dashboard["templating"]["list"]
    assert [each["name"] for each in listed][:6] == ["datasource", *VARIABLES]
    assert {each["type"] for each in listed} <= VARIABLE_TYPES
    before: list[str] = []
    for each in listed[1:6]:
        assert each["multi"]
        assert each["includeAll"]
        assert [name for name in VARIABLES if f"${name}" in each["query"]] == before
        before.append(each["name"])


@each_dashboard
def test_every_query_obeys_every_choice(dashboard: dict[str, Any]) -> None:
    """Each selector of a metric, so that no part of an expression looks at what was not chosen."""
    for query in panel_queries(dashboard):
        selectors = re.findall(r"\{([^}]*\$account[^}]*|[^}]*)\}", re.sub(r"\$\{\w+\}", "x", query.expr))
        assert selectors, query.expr
        for selector in selectors:
            for name, label in VARIABLES.items():
                assert f'{label}=~"${name}"' in selector, query.expr


@each_dashboard
def test_links_lead_to_dashboards_of_ours_and_keep_what_is_chosen(dashboard: dict[str, Any]) -> None:
    [link] = dashboard["links"]
    assert (link["type"], link["tags"]) == ("dashboards", dashboard["tags"])
    assert link["includeVars"]
    assert link["keepTime"]
    for url in re.findall(r'"(/d/[^"]*)"', json.dumps(dashboard)):
        uid, _, query = url.removeprefix("/d/").partition("?")
        assert uid in UIDS
        assert "${__url_time_range}" in query
        for name in ("datasource", *VARIABLES):
            assert (f"var-{name}=" in query) != (f"${{{name}:queryparam}}" in query), url


def test_variables_are_filled_in_as_grafana_does() -> None:
    assert (
        filled(
            'x{a=~"$account", b="${duration}_sum"}[$__rate_interval]',
            {"account": ".*", "duration": "d", "__rate_interval": "1m"},
        )
        == 'x{a=~".*", b="d_sum"}[1m]'
    )
    with pytest.raises(KeyError):
        filled("$nobody", {})
    assert taken("/(.+)_bucket/", "d_seconds_bucket") == "d_seconds"
    assert taken("/(.+)_bucket/", "d_seconds_sum") == ""
    [account, *_] = variables(DASHBOARDS[0])
    assert (account.selector, account.label) == ('up{cloud_account_id!=""}', "cloud_account_id")
