"""What a rendered dashboard asks: its queries and variables, and how Grafana fills a query in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")
_LABEL_VALUES: Final = re.compile(r"label_values\((?:(.+), *)?(\w+)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One query of one panel."""

    dashboard: str
    panel: str
    expr: str
    legend: str

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel}: {self.expr}"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that is filled from the workspace: the values of `label` in `selector`."""

    name: str
    selector: str
    label: str
    regex: str
    everything: str | None
    """What All stands for; None when there is no All and one value is chosen."""


def panel_queries(dashboard: Mapping[str, Any]) -> Iterator[PanelQuery]:
    """Every query of a dashboard, as written."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield PanelQuery(
                dashboard["title"], panel["title"], target["expr"], target.get("legendFormat", "")
            )


def variables(dashboard: Mapping[str, Any]) -> Iterator[Variable]:
    """The variables that ask the workspace, in order: a later one may depend on those before it."""
    for each in dashboard["templating"]["list"]:
        if each["type"] != "query":
            continue
        found = _LABEL_VALUES.fullmatch(each["query"])
        assert found, each["query"]
        everything = each.get("allValue") if each.get("includeAll") else None
        yield Variable(each["name"], found[1], found[2], each.get("regex", ""), everything)


def constants(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """Variables with values of their own → the first of them."""
    listed = dashboard["templating"]["list"]
    return {each["name"]: each["query"].partition(",")[0] for each in listed if each["type"] == "custom"}


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with its variables replaced; raises KeyError for one that nobody declares."""
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], text)


def taken(regex: str, value: str) -> str:
    """What a variable's `/regex/` takes out of a value: its first group."""
    if not regex:
        return value
    found = re.search(regex.strip("/"), value)
    return found[1] if found else ""
