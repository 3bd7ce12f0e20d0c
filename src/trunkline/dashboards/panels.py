"""The kinds of panels we use, each with the looks they share. What a dashboard says beyond that is in its own module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus as queries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"

PanelBuilder: TypeAlias = Builder[models.Panel]
Steps: TypeAlias = Sequence[tuple[float, str]]
"""From this value on that colour; below the first, green."""


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: a query with one value for each row.

    `link` is a URL, in Grafana's words for the row's fields, behind the value.
    """

    title: str
    expr: str
    unit: str = "short"
    steps: Steps = ()


def graph(
    title: str,
    description: str,
    *found: Query,
    unit: str = "short",
    steps: Steps = (),
    span: int = 12,
    least: float | None = 0,
    most: float | None = None,
    stacked: bool = False,
) -> PanelBuilder:
    """Lines over time. `steps` are drawn as dashed lines; `span` is of 24 columns."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(8)
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(looks.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(_tooltip())
    )
    if least is not None:
        panel.min(least)
    if most is not None:
        panel.max(most)
    if stacked:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if steps:
        dashed = common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(_thresholds(steps)).thresholds_style(dashed)
    return panel.targets(_targets(found))


def figure(
    title: str, description: str, expr: str, *, unit: str = "short", steps: Steps = (), span: int = 4
) -> PanelBuilder:
    """One number as it is now, in the colour of its step, or in no colour when there are none."""
    colour = looks.BigValueColorMode.VALUE if steps else looks.BigValueColorMode.NONE
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(4)
        .graph_mode(looks.BigValueGraphMode.NONE)
        .color_mode(colour)
        .thresholds(_thresholds(steps))
        .reduce_options(_newest())
        .targets([_query("A", Query(expr)).instant()])
    )


def bars(
    title: str, description: str, query: Query, *, unit: str, steps: Steps = (), span: int = 12, most: float
) -> PanelBuilder:
    """A bar for each series, the longest first if the query sorts them, from 0 to `most`."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(8)
        .min(0)
        .max(most)
        .orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .thresholds(_thresholds(steps))
        .reduce_options(_newest())
        .targets([_query("A", query).instant()])
    )


def states(title: str, description: str, query: Query, words: Mapping[int, tuple[str, str]]) -> PanelBuilder:
    """A band for each series over time; `words` says what a value is called, and its colour."""
    results = {
        str(value): models.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .span(24)
        .height(8)
        .mappings([models.ValueMap(options=results)])
        .show_value(looks.VisibilityMode.NEVER)
        .row_height(0.8)
        .legend(common.VizLegendOptions().show_legend(True).placement(looks.LegendPlacement.BOTTOM))
        .targets([_query("A", query)])
    )


def listing(
    title: str,
    description: str,
    keys: Mapping[str, str],
    columns: Sequence[Column],
    *,
    links: Mapping[str, tuple[str, str]],
) -> PanelBuilder:
    """A table with a row for each combination of the labels in `keys` (label → heading).

    `links` are heading → title and URL, behind the cells of that column.
    """
    panel = table.Panel().title(title).description(description).datasource(SOURCE).span(24).height(9)
    letters = [chr(ord("A") + index) for index in range(len(columns))]
    panel.targets(
        [
            _query(letter, Query(column.expr)).instant().format(prometheus.PromQueryFormat.TABLE)
            for letter, column in zip(letters, columns, strict=True)
        ]
    )
    headings = {
        **keys,
        **{f"Value #{letter}": column.title for letter, column in zip(letters, columns, strict=True)},
    }
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=_organized(headings)))
    for column in columns:
        panel.override_by_name(column.title, _column_looks(column))
    for heading, (text, url) in links.items():
        panel.override_by_name(heading, [_value("links", [{"title": text, "url": url}])])
    return panel


def _organized(headings: Mapping[str, str]) -> dict[str, Any]:
    return {
        "excludeByName": {"Time": True},
        "indexByName": {name: index for index, name in enumerate(headings)},
        "renameByName": dict(headings),
    }


def _column_looks(column: Column) -> list[models.DynamicConfigValue]:
    found = [_value("unit", column.unit)]
    if column.steps:
        found += [
            _value("thresholds", _thresholds(column.steps).build()),
            _value("custom.cellOptions", {"type": "color-text"}),
        ]
    return found


def _value(name: str, value: object) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(id_val=name, value=value)


def _thresholds(steps: Steps) -> builders.ThresholdsConfig:
    found = [models.Threshold(value=None, color=GREEN)]
    found += [models.Threshold(value=value, color=colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def _targets(found: Sequence[Query]) -> list[Any]:
    return [_query(chr(ord("A") + index), query) for index, query in enumerate(found)]


def _query(letter: str, query: Query) -> queries.Dataquery:
    target = queries.Dataquery().ref_id(letter).expr(query.expr).datasource(SOURCE).range()
    return target.legend_format(query.legend) if query.legend else target


def _legend() -> common.VizLegendOptions:
    """Mean and newest beside each name, below the lines, where long names have room."""
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(looks.LegendDisplayMode.TABLE)
        .placement(looks.LegendPlacement.BOTTOM)
        .calcs(["mean", "lastNotNull"])
    )


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING)


def _newest() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
