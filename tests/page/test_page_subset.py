"""No dashboard uses more of Grafana's model than the page draws, and more would be found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trunkline.dashboards.rendering import dashboards
from trunkline.page.reading import PANELS, VARIABLES, beyond, panels
from trunkline.page.units import UNITS

DASHBOARDS = {each["uid"]: each for each in dashboards()}
DOCUMENT = Path(__file__).parents[2] / "docs" / "dashboards.md"


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_dashboard_uses_only_what_is_drawn(uid: str) -> None:
    assert beyond(DASHBOARDS[uid]) == []


def check(change: Callable[[dict[str, Any]], None], expected: str) -> None:
    dashboard = copy.deepcopy(DASHBOARDS["trunkline-fleet"])
    change(dashboard)
    assert beyond(dashboard) == [expected]


def panel(dashboard: dict[str, Any], kind: str) -> Any:
    return next(each for each in dashboard["panels"] if each["type"] == kind)


def test_more_would_be_found() -> None:
    def kind(dashboard: dict[str, Any]) -> None:
        panel(dashboard, "stat")["type"] = "gauge"

    def unit(dashboard: dict[str, Any]) -> None:
        panel(dashboard, "stat")["fieldConfig"]["defaults"]["unit"] = "celsius"

    def setting(dashboard: dict[str, Any]) -> None:
        panel(dashboard, "timeseries")["options"]["tooltip"]["maxHeight"] = 300

    def override(dashboard: dict[str, Any]) -> None:
        panel(dashboard, "table")["fieldConfig"]["overrides"][0]["matcher"]["id"] = "byRegexp"

    def transformation(dashboard: dict[str, Any]) -> None:
        panel(dashboard, "table")["transformations"][0]["id"] = "joinByField"

    def variable(dashboard: dict[str, Any]) -> None:
        dashboard["templating"]["list"][0]["type"] = "textbox"

    def annotation(dashboard: dict[str, Any]) -> None:
        dashboard["annotations"] = {"list": [{"name": "Deployments"}]}

    title = "Trunkline: Fleet"
    check(kind, f"{title} / Accounts: gauge is not drawn; there are {', '.join(PANELS)}")
    units = ", ".join(map(repr, UNITS))
    check(unit, f"{title} / Accounts: fieldConfig.defaults.unit 'celsius' is not drawn; it may be {units}")
    check(setting, f"{title} / Tasks: options.tooltip.maxHeight is not drawn")
    matcher = "fieldConfig.overrides[].matcher.id"
    check(override, f"{title} / Services: {matcher} 'byRegexp' is not drawn; it may be 'byName'")
    check(
        transformation,
        f"{title} / Services: transformations[].id 'joinByField' is not drawn; it may be 'merge', 'organize'",
    )
    check(variable, f"{title} / $datasource: textbox is not drawn; there are {', '.join(VARIABLES)}")
    check(annotation, f"{title}: annotations.list[].name is not drawn")


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_panel_is_read(uid: str) -> None:
    found = panels(DASHBOARDS[uid])
    assert len(found) == len(DASHBOARDS[uid]["panels"])
    for each in found:
        assert each.title
        assert bool(each.targets) == (each.kind != "row")
        assert bool(each.columns) == (each.kind == "table")


def test_the_subset_is_written_down() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in (*PANELS, *VARIABLES, *UNITS):
        assert f"`{name}`" in text, f"docs/dashboards.md does not name {name}"
