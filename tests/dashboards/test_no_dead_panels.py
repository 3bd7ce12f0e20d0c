"""Every query of every dashboard, and every rule, finds something in a workspace filled by real components, and
names only what these declare."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.dashboards.live import Workspace, filled_workspace
from tests.dashboards.promql import names_in

from trunkline.component.metrics import SelfMetrics
from trunkline.dashboards.queries import constants, filled, panel_queries, taken, variables
from trunkline.dashboards.rendering import dashboards
from trunkline.dashboards.rules import ALERTS, RECORDINGS

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs Prometheus: apt-get install prometheus"
)

DASHBOARDS = {each["uid"]: each for each in dashboards()}
GRAFANA = {"__rate_interval": "10s"}


@dataclass(frozen=True)
class Declared:
    metrics: frozenset[str]
    labels: frozenset[str]

    def problems(self, expr: str) -> list[str]:
        used = names_in(expr)
        return sorted(
            [f"no component declares the metric {name}" for name in used.metrics - self.metrics]
            + [f"no component declares the label {name}" for name in used.labels - self.labels]
        )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with filled_workspace(tmp_path_factory.mktemp("filled")) as found:
        yield found


@pytest.fixture(scope="module")
def declared(workspace: Workspace) -> Declared:
    """What was delivered, what the collector would add on occasion (a refusal), and what our rules record."""
    series = workspace.series()
    metrics = {each["__name__"] for each in series} | {rule.record for rule in RECORDINGS}
    labels = {name for each in series for name in each}
    for metric in SelfMetrics()._metrics.values():
        metrics.add(metric.name)
        labels |= set(metric.label_names)
    return Declared(frozenset(metrics), frozenset(labels))


def choices(workspace: Workspace, dashboard: dict[str, Any], *, everything: bool) -> dict[str, str]:
    """What its variables stand for: All where there is All, or the first of what is offered."""
    values = {**GRAFANA, **constants(dashboard)}
    for variable in variables(dashboard):
        offered = [
            value
            for raw in workspace.values(variable.label, filled(variable.selector, values))
            if (value := taken(variable.regex, raw))
        ]
        assert offered, f"nothing is offered for ${variable.name} of {dashboard['title']}"
        values[variable.name] = variable.everything if everything and variable.everything else offered[0]
    return values


@pytest.mark.parametrize("everything", [True, False], ids=["all", "one"])
@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_query_finds_something_that_is_declared(
    workspace: Workspace, declared: Declared, uid: str, everything: bool
) -> None:
    values = choices(workspace, DASHBOARDS[uid], everything=everything)
    asked = list(panel_queries(DASHBOARDS[uid]))
    dead = [str(each) for each in asked if not workspace.query(filled(each.expr, values))]
    unknown = [
        f"{each}: {problem}" for each in asked for problem in declared.problems(filled(each.expr, values))
    ]
    assert asked
    assert dead == []
    assert unknown == []


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_legend_names_labels_of_its_series(workspace: Workspace, uid: str) -> None:
    values = choices(workspace, DASHBOARDS[uid], everything=True)
    for each in panel_queries(DASHBOARDS[uid]):
        legend = filled(each.legend, values)
        wanted = {name for part in legend.split("{{")[1:] for name in [part.partition("}}")[0]]}
        for series in workspace.query(filled(each.expr, values)):
            assert wanted - set(series["metric"]) <= {"reason"}, str(each)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_tables_find_the_labels_they_show(workspace: Workspace, uid: str) -> None:
    values = choices(workspace, DASHBOARDS[uid], everything=True)
    for panel in DASHBOARDS[uid]["panels"]:
        if panel["type"] != "table":
            continue
        [organized] = [each["options"] for each in panel["transformations"] if each["id"] == "organize"]
        shown = {name for name in organized["renameByName"] if not name.startswith("Value #")}
        for target in panel["targets"]:
            for series in workspace.query(filled(target["expr"], values)):
                assert set(series["metric"]) == shown, panel["title"]


@pytest.mark.parametrize("rule", RECORDINGS, ids=lambda rule: rule.record)
def test_every_recording_rule_finds_something_that_is_declared(
    workspace: Workspace, declared: Declared, rule: Any
) -> None:
    expr = rule.expr.replace("[5m]", "[10s]")
    assert workspace.query(expr)
    assert declared.problems(expr) == []


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule.alert)
def test_every_alert_names_what_is_declared_and_is_silent_when_all_is_well(
    workspace: Workspace, declared: Declared, rule: Any
) -> None:
    """That it speaks when it should is shown by promtool, in alerts.test.yaml."""
    assert workspace.query(rule.expr) == []
    assert declared.problems(rule.expr) == []


def test_a_mistake_would_be_found(workspace: Workspace, declared: Declared) -> None:
    assert declared.problems(
        'sum by (zone) (rate(trunkline_deliverd_samples_total{accunt="1"}[5m])) or vector(0)'
    ) == [
        "no component declares the label accunt",
        "no component declares the label zone",
        "no component declares the metric trunkline_deliverd_samples_total",
    ]
    assert declared.problems('rate({__name__="shop_request_total"}[5m])') == [
        "no component declares the metric shop_request_total"
    ]
    assert workspace.query("trunkline_deliverd_samples_total") == []


def test_a_collector_that_ends_as_it_should_takes_up_with_it(workspace: Workspace) -> None:
    """The last of these tests, as it ends what fills the workspace: the alert about silent tasks relies on it."""
    assert workspace.query("up")
    workspace.collector.send_signal(signal.SIGTERM)
    assert workspace.collector.wait(timeout=10) == 0
    assert workspace.query("up") == []
    assert workspace.query("last_over_time(up[1m])")
