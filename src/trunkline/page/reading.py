"""What is drawn of Grafana's classic model: a table of what a dashboard may use, and panels read from it.

Source: the JSON that `dashboards.rendering` gives, which Grafana's own library writes; the meaning of its fields is
Grafana's documentation of "Dashboard JSON model" and of each panel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from trunkline.page.units import UNITS

ANY: Final = None
_SOURCE: Final = {"datasource.type": ("prometheus",), "datasource.uid": ("${datasource}",)}
_COLOURS: Final = ("green", "orange", "red")
_UNIT: Final = {"fieldConfig.defaults.unit": UNITS}
_STEPS: Final = {
    "fieldConfig.defaults.thresholds.mode": ("absolute",),
    "fieldConfig.defaults.thresholds.steps[].color": _COLOURS,
    "fieldConfig.defaults.thresholds.steps[].value": ANY,
}
_NEWEST: Final = {"options.reduceOptions.calcs[]": ("lastNotNull",), "options.reduceOptions.values": (False,)}
_EVERY: Final[dict[str, Sequence[Any] | None]] = {
    **dict.fromkeys(("id", "type", "title", "description"), ANY),
    **{f"gridPos.{name}": ANY for name in "hwxy"},
    **{f"targets[].{name}": ANY for name in ("expr", "refId", "legendFormat", "instant", "range")},
    **{f"targets[].{name}": allowed for name, allowed in _SOURCE.items()},
    **_SOURCE,
    "transparent": (False,),
    "repeatDirection": ("h",),  # of no effect: nothing is repeated
}

PANELS: Final[Mapping[str, Mapping[str, Sequence[Any] | None]]] = {
    "row": {**{f"gridPos.{name}": ANY for name in "hwxy"}, "id": ANY, "type": ANY, "title": ANY, "collapsed": (False,)},
    "text": {**_EVERY, "options.mode": ("markdown",), "options.content": ANY},
    "timeseries": {
        **_EVERY, **_UNIT, **_STEPS,
        "fieldConfig.defaults.min": ANY,
        "fieldConfig.defaults.max": ANY,
        "fieldConfig.defaults.custom.fillOpacity": ANY,
        "fieldConfig.defaults.custom.lineWidth": ANY,
        "fieldConfig.defaults.custom.showPoints": ("never",),
        "fieldConfig.defaults.custom.stacking.group": ("A",),
        "fieldConfig.defaults.custom.stacking.mode": ("normal",),
        "fieldConfig.defaults.custom.thresholdsStyle.mode": ("dashed",),
        "options.legend.calcs[]": ("mean", "lastNotNull"),
        "options.legend.displayMode": ("table",),
        "options.legend.placement": ("bottom",),
        "options.legend.showLegend": (True,),
        "options.tooltip.mode": ("multi",),
        "options.tooltip.sort": ("desc",),
    },
    "stat": {
        **_EVERY, **_UNIT, **_STEPS, **_NEWEST,
        "options.colorMode": ("value", "none"),
        "options.graphMode": ("none",),
        "options.justifyMode": ("auto",),
        "options.orientation": ("auto",),
        "options.textMode": ("auto",),
        "options.showPercentChange": (False,),
        "options.wideLayout": (True,),
    },
    "bargauge": {
        **_EVERY, **_UNIT, **_STEPS, **_NEWEST,
        "fieldConfig.defaults.min": (0,),
        "fieldConfig.defaults.max": ANY,
        "options.displayMode": ("basic",),
        "options.orientation": ("horizontal",),
        "options.maxVizHeight": ANY,
        "options.minVizHeight": ANY,
        "options.minVizWidth": ANY,
        "options.namePlacement": ("auto",),
        "options.showUnfilled": (True,),
        "options.sizing": ("auto",),
        "options.valueMode": ("color",),
    },
    "state-timeline": {
        **_EVERY,
        "fieldConfig.defaults.mappings[].type": ("value",),
        "fieldConfig.defaults.mappings[].options.*.color": _COLOURS,
        "fieldConfig.defaults.mappings[].options.*.index": ANY,
        "fieldConfig.defaults.mappings[].options.*.text": ANY,
        "options.alignValue": ("left",),
        "options.legend.displayMode": ("list",),
        "options.legend.placement": ("bottom",),
        "options.legend.showLegend": (True,),
        "options.mergeValues": (True,),
        "options.rowHeight": ANY,
        "options.showValue": ("never",),
        "options.tooltip.mode": ("single",),
        "options.tooltip.sort": ("asc",),
    },
    "table": {
        **_EVERY,
        "targets[].format": ("table",),
        "transformations[].id": ("merge", "organize"),
        "transformations[].options.excludeByName.*": (True,),
        "transformations[].options.indexByName.*": ANY,
        "transformations[].options.renameByName.*": ANY,
        "fieldConfig.overrides[].matcher.id": ("byName",),
        "fieldConfig.overrides[].matcher.options": ANY,
        "fieldConfig.overrides[].properties[].id": ("unit", "thresholds", "links", "custom.cellOptions"),
        "fieldConfig.overrides[].properties[].value": UNITS,
        "fieldConfig.overrides[].properties[].value.type": ("color-text",),
        "fieldConfig.overrides[].properties[].value.mode": ("absolute",),
        "fieldConfig.overrides[].properties[].value.steps[].color": _COLOURS,
        "fieldConfig.overrides[].properties[].value.steps[].value": ANY,
        "fieldConfig.overrides[].properties[].value[].title": ANY,
        "fieldConfig.overrides[].properties[].value[].url": ANY,
    },
}  # fmt: skip
"""Kind of panel → where in it there may be something → the values that are drawn, or any."""

_UNUSED: Final[dict[str, Sequence[Any] | None]] = {
    "auto": (False,),
    "auto_count": (30,),
    "auto_min": ("10s",),
    "skipUrlSync": (False,),
}
_VARIABLE: Final[dict[str, Sequence[Any] | None]] = {
    **_UNUSED,
    **dict.fromkeys(("name", "label", "description", "type", "query", "options", "multi", "includeAll"), ANY),
    **{f"current.{name}": ANY for name in ("selected", "text", "value", "text[]", "value[]")},
}

VARIABLES: Final[Mapping[str, Mapping[str, Sequence[Any] | None]]] = {
    "datasource": {**_VARIABLE, "query": ("prometheus",)},
    "custom": {**_VARIABLE, "multi": (False,), "includeAll": (False,)},
    "query": {**_VARIABLE, **_SOURCE, "allValue": (".*",), "regex": ANY, "refresh": (2,), "sort": (1,)},
}  # fmt: skip
"""Kind of variable → the same."""

DASHBOARD: Final[Mapping[str, Sequence[Any] | None]] = {
    **dict.fromkeys(("uid", "title", "description", "tags[]", "refresh", "schemaVersion", "editable"), ANY),
    "fiscalYearStartMonth": (0,),
    "graphTooltip": (1,),
    "timezone": ("browser",),
    "time.from": ANY,
    "time.to": ("now",),
    "links[].type": ("dashboards",),
    "links[].tags[]": ANY,
    "links[].title": ANY,
    "links[].icon": ("",),
    "links[].tooltip": ("",),
    "links[].asDropdown": (False,),
    "links[].includeVars": (True,),
    "links[].keepTime": (True,),
    "links[].targetBlank": (False,),
}
"""The dashboard itself, without panels and variables."""


def beyond(dashboard: Mapping[str, Any]) -> list[str]:
    """What a dashboard uses of Grafana's model that is not drawn; each names the panel, the place and the value."""
    own = {name: value for name, value in dashboard.items() if name not in {"panels", "templating"}}
    found = list(_beyond(own, DASHBOARD, dashboard["title"]))
    for panel in dashboard["panels"]:
        found += _beyond_kind(panel, PANELS, f"{dashboard['title']} / {panel.get('title')}")
    for variable in dashboard["templating"]["list"]:
        found += _beyond_kind(variable, VARIABLES, f"{dashboard['title']} / ${variable['name']}")
    return found


def _beyond_kind(
    part: Mapping[str, Any], kinds: Mapping[str, Mapping[str, Sequence[Any] | None]], where: str
) -> Iterator[str]:
    if part["type"] not in kinds:
        yield f"{where}: {part['type']} is not drawn; there are {', '.join(kinds)}"
        return
    yield from _beyond(part, kinds[part["type"]], where)


def _beyond(part: Mapping[str, Any], drawn: Mapping[str, Sequence[Any] | None], where: str) -> Iterator[str]:
    for place, value in _leaves("", part):
        name = place if place in drawn else _starred(place)
        if name not in drawn:
            yield f"{where}: {place} is not drawn"
        elif (allowed := drawn[name]) is not None and value not in allowed:
            yield f"{where}: {place} {value!r} is not drawn; it may be {', '.join(map(repr, allowed))}"


def _leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(f"{place}.{name}" if place else name, each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(f"{place}[]", each)
    else:
        yield place, value


_NAMED: Final = (
    "fieldConfig.defaults.mappings[].options.",
    "transformations[].options.excludeByName.",
    "transformations[].options.indexByName.",
    "transformations[].options.renameByName.",
)
"""Below these, names are free: values that are mapped, columns."""


def _starred(place: str) -> str:
    for prefix in _NAMED:
        if place.startswith(prefix):
            rest = place.removeprefix(prefix)
            return f"{prefix}*{'.' + rest.partition('.')[2] if 'mappings' in prefix else ''}"
    return place


@dataclass(frozen=True, slots=True)
class Steps:
    """Thresholds: from which value on which colour; the first counts from the lowest."""

    steps: tuple[tuple[float, str], ...] = ()

    def colour(self, value: float) -> str:
        """The colour of a value; empty when there are no thresholds."""
        return next((colour for least, colour in reversed(self.steps) if value >= least), "")

    @property
    def lines(self) -> tuple[tuple[float, str], ...]:
        """Those above the first, which a graph shows as lines."""
        return self.steps[1:]

    @classmethod
    def read(cls, found: Mapping[str, Any] | None) -> Steps:
        steps = (found or {}).get("steps", ())
        return cls(
            tuple(
                (float("-inf") if each["value"] is None else each["value"], each["color"]) for each in steps
            )
        )


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel."""

    letter: str
    expr: str
    legend: str
    instant: bool


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, in its place: the label or letter it shows, and how."""

    source: str
    heading: str
    unit: str = ""
    steps: Steps = field(default_factory=Steps)
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel as far as it is drawn. `width` is of 24, `height` in Grafana's units of some 30 pixels."""

    number: int
    kind: str
    title: str
    description: str
    width: int
    height: int
    targets: tuple[Target, ...]
    unit: str
    steps: Steps
    least: float | None
    most: float | None
    fill: float
    stacked: bool
    coloured: bool
    mapped: Mapping[float, tuple[str, str]]
    columns: tuple[Column, ...]
    text: str


def panels(dashboard: Mapping[str, Any]) -> list[Panel]:
    """The panels of a dashboard that `beyond` finds nothing in."""
    return [_panel(each) for each in dashboard["panels"]]


def _panel(found: Mapping[str, Any]) -> Panel:
    defaults = found.get("fieldConfig", {}).get("defaults", {})
    options, custom = found.get("options", {}), defaults.get("custom", {})
    steps = Steps.read(defaults.get("thresholds"))
    dashed = custom.get("thresholdsStyle") or found["type"] != "timeseries"
    return Panel(
        number=found["id"],
        kind=found["type"],
        title=found.get("title", ""),
        description=found.get("description", ""),
        width=found["gridPos"]["w"],
        height=found["gridPos"]["h"],
        targets=tuple(_target(each) for each in found.get("targets", ())),
        unit=defaults.get("unit", "short"),
        steps=steps if dashed else Steps(),
        least=defaults.get("min"),
        most=defaults.get("max"),
        fill=custom.get("fillOpacity", 0) / 100,
        stacked=custom.get("stacking", {}).get("mode") == "normal",
        coloured=options.get("colorMode", "value") == "value",
        mapped=_mapped(defaults.get("mappings", ())),
        columns=tuple(_columns(found)) if found["type"] == "table" else (),
        text=options.get("content", ""),
    )


def _target(found: Mapping[str, Any]) -> Target:
    return Target(found["refId"], found["expr"], found.get("legendFormat", ""), bool(found.get("instant")))


def _mapped(found: Sequence[Mapping[str, Any]]) -> dict[float, tuple[str, str]]:
    return {
        float(value): (how["text"], how["color"]) for each in found for value, how in each["options"].items()
    }


def _columns(found: Mapping[str, Any]) -> Iterator[Column]:
    [organized] = [each["options"] for each in found["transformations"] if each["id"] == "organize"]
    names, places = organized["renameByName"], organized["indexByName"]
    looks: dict[str, dict[str, Any]] = {}
    for each in found["fieldConfig"]["overrides"]:  # there may be several for one column
        own = {one["id"]: one["value"] for one in each["properties"]}
        looks.setdefault(each["matcher"]["options"], {}).update(own)
    for source in sorted(places, key=lambda name: int(places[name])):
        if source in organized.get("excludeByName", {}):
            continue
        heading = names.get(source, source)
        look = looks.get(heading, {})
        links = tuple((link["title"], link["url"]) for link in look.get("links", ()))
        unit = look.get("unit", "short" if source.startswith("Value #") else "")
        yield Column(source, heading, unit, Steps.read(look.get("thresholds")), links)
