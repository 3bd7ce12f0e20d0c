"""What every dashboard has in common: variables, links to the others, time, and how its panels are laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from trunkline.dashboards.panels import SOURCE, PanelBuilder
from trunkline.dashboards.scope import VARIABLES, chosen

TAG: Final = "trunkline"


@dataclass(frozen=True, slots=True)
class Section:
    """A row of a dashboard with the panels below it, left to right and top to bottom."""

    title: str
    panels: Sequence[PanelBuilder]


def page(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    variables: Sequence[Builder[models.VariableModel]] = (),
) -> models.Dashboard:
    """A dashboard. `uid` never changes: links, bookmarks and repeated pushes rely on it. `variables` are its own."""
    dashboard = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(_links())
        .variables([_datasource(), *_choices(), *variables])
    )
    number = 0
    for section in sections:
        number += 1
        dashboard.with_row(builders.Row(section.title).id(number))
        for panel in section.panels:
            number += 1
            dashboard.with_panel(_numbered(panel, number))
    return dashboard.build()


def _numbered(panel: PanelBuilder, number: int) -> PanelBuilder:
    panel.build().id_val = number
    return panel


def _links() -> builders.DashboardLink:
    """All dashboards of ours, with what is chosen and the time kept."""
    return (
        builders.DashboardLink("Trunkline")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(False)
        .include_vars(True)
        .keep_time(True)
    )


def _datasource() -> builders.DatasourceVariable:
    return (
        builders.DatasourceVariable("datasource")
        .label("Workspace")
        .description("The Prometheus data source that the tasks deliver to.")
        .type("prometheus")
    )


def _choices() -> list[builders.QueryVariable]:
    """Account, region, cluster, service, task."""
    found: list[builders.QueryVariable] = []
    before = ""
    for name, label in VARIABLES.items():
        series = chosen("up", up_to=before) if before else f'up{{{label}!=""}}'
        found.append(several(name, f"label_values({series}, {label})"))
        before = name
    return found


def several(name: str, query: str) -> builders.QueryVariable:
    """A variable with any number of values. All matches series without the label too: a task may have no service."""
    return _variable(name, query).multi(True).include_all(True).all_value(".*").current(_everything())


def _everything() -> models.VariableOption:
    return models.VariableOption(selected=True, text=["All"], value=["$__all"])


def one(name: str, label: str, query: str, description: str, regex: str = "") -> builders.QueryVariable:
    """A variable with one value, the first at the start. `regex` takes its group out of what the query finds."""
    variable = _variable(name, query).label(label).description(description)
    return variable.regex(regex) if regex else variable


def _variable(name: str, query: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
