"""Filling in a dashboard: what its variables offer and have chosen, its queries and links with that in place.

Source: Grafana's documentation of "Variable syntax" and of the Prometheus data source's template variables.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

from trunkline.dashboards.queries import Variable, filled, variables
from trunkline.dashboards.scope import FAMILY, VARIABLES

EVERYTHING: Final = "$__all"
"""What a URL says for All."""
_ALL: Final = "All"

SCRAPE_INTERVAL_S: Final = 15.0
"""Of the fleet's collectors; what a Grafana data source is told as its scrape interval."""

RANGES: Final = {"now-5m": 300, "now-15m": 900, "now-1h": 3600, "now-3h": 10_800}
"""How far back may be looked, as a URL says it → seconds."""

USUAL_RANGE: Final = "now-5m"

_POINTS: Final = 120
_STEPS: Final = (15, 30, 60, 120)
"""Seconds; as in Grafana none is shorter than a scrape."""
_AUTO: Final = "__auto"
_IDENTITY: Final = frozenset({*VARIABLES.values(), FAMILY})
_PART: Final = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True, slots=True)
class Span:
    """A time range that ends now, by its name in a URL."""

    name: str = USUAL_RANGE

    @property
    def length_s(self) -> int:
        return RANGES[self.name]

    @property
    def step_s(self) -> int:
        """`$__interval`: what a range query steps by."""
        return next(step for step in _STEPS if step * _POINTS >= self.length_s)

    @property
    def rate_interval(self) -> str:
        """`$__rate_interval`: never fewer than four scrapes, never less than a step and a scrape."""
        return f"{max(self.step_s + SCRAPE_INTERVAL_S, 4 * SCRAPE_INTERVAL_S):g}s"


@dataclass(slots=True)
class Choices:
    """What is chosen in one dashboard: variable → values, `EVERYTHING` alone for All."""

    dashboard: Mapping[str, Any]
    chosen: dict[str, list[str]]
    span: Span = field(default_factory=Span)

    @classmethod
    def of(cls, dashboard: Mapping[str, Any], query: Sequence[tuple[str, str]]) -> Choices:
        """What a URL's query says; variables it does not name are All, or the first of what is offered.

        A list of its own has nothing but its values: any other is as if it had not been said.
        """
        given: dict[str, list[str]] = {}
        for name, value in query:
            if name.startswith("var-"):
                given.setdefault(name.removeprefix("var-"), []).append(value)
        chosen = {each.name: _asked_for(each, given.get(each.name, [])) for each in variables(dashboard)}
        for name, values in _lists(dashboard):
            chosen[name] = [value for value in given.get(name, ()) if value in values][:1] or values[:1]
        wanted = dict(query).get("from", "")
        return cls(dashboard, chosen, Span(wanted if wanted in RANGES else USUAL_RANGE))

    def settle(self, variable: Variable, offered: Sequence[str]) -> None:
        """Choose the first of what is offered for a variable without All, unless its choice is among them."""
        if variable.everything is None and not set(self.chosen[variable.name]) & set(offered):
            self.chosen[variable.name] = list(offered[:1])

    def filled(self, text: str) -> str:
        """A query or a legend with everything in place."""
        return filled(text, self._values())

    def _values(self) -> dict[str, str]:
        values = {"__rate_interval": self.span.rate_interval, "__interval": f"{self.span.step_s}s"}
        known = {each.name: each for each in variables(self.dashboard)}
        for name, chosen in self.chosen.items():
            everything = known[name].everything if name in known else None
            if everything is None:
                values[name] = _quoted(chosen[0]) if chosen else ""
            else:
                values[name] = everything if EVERYTHING in chosen else _either(chosen)
        return values

    def query(self) -> str:
        """As a URL's query, to come back to."""
        return "&".join([*(self._parameter(name) for name in self.chosen), self._range()])

    def link(self, url: str, row: Mapping[str, str]) -> str:
        """A data link's URL for a row of a table (heading → text)."""

        def put(found: re.Match[str]) -> str:
            name = found[1]
            if name == "__url_time_range":
                return self._range()
            if name.startswith("__data.fields."):
                return quote(row.get(name.removeprefix("__data.fields."), ""), safe="")
            return self._parameter(name.removesuffix(":queryparam"))

        return re.sub(r"[&?]&+", lambda found: found[0][0], _PART.sub(put, url))

    def _parameter(self, name: str) -> str:
        """`var-name=value` for each value; nothing for the data source, of which there is one."""
        return urlencode([(f"var-{name}", value) for value in self.chosen.get(name, ())])

    def _range(self) -> str:
        return f"from={self.span.name}&to=now"


def _lists(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Variables with values of their own, and these."""
    for each in in_order(dashboard):
        if each["type"] == "custom":
            yield each["name"], each["query"].split(",")


def _asked_for(variable: Variable, given: Sequence[str]) -> list[str]:
    """The values of a variable in a URL, where Grafana takes the word All as well."""
    if variable.everything is None:
        return list(given[:1])
    return all_or_some((), [EVERYTHING if value == _ALL else value for value in given])


def _either(values: Sequence[str]) -> str:
    """A regular expression, inside a PromQL string, for any of the values."""
    return "|".join(_quoted(re.escape(value)) for value in values)


def _quoted(text: str) -> str:
    """As it stands between the quotes of a PromQL string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def legend(text: str, labels: Mapping[str, str], letter: str, apart: Collection[str] = ()) -> str:
    """The name of a series: its query's legend with its labels, all labels where there is none.

    `apart` are the labels in which the panel's series differ, which is what Grafana's `__auto` shows; the metric's
    own come first, as the identity of a task is long.
    """
    if text == _AUTO:
        labels = {name: labels[name] for name in _own_first(labels) if name in apart} or labels
    if text in {"", _AUTO}:
        return ", ".join(f"{name}={value}" for name, value in labels.items()) or letter
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), text).strip()


def differing(series: Sequence[Mapping[str, str]]) -> set[str]:
    """The labels that are not the same in all of the series."""
    names = {name for labels in series for name in labels}
    return {name for name in names if len({labels.get(name) for labels in series}) > 1}


def _own_first(labels: Mapping[str, str]) -> list[str]:
    return sorted(labels, key=lambda name: (name in _IDENTITY, name))


def in_order(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The variables a person chooses by, in order, as the model has them."""
    yield from (each for each in dashboard["templating"]["list"] if each["type"] != "datasource")


def all_or_some(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """What somebody has chosen, put right: All stands alone, and nothing means All."""
    if EVERYTHING in now and EVERYTHING not in before:
        return [EVERYTHING]
    return [value for value in now if value != EVERYTHING] or [EVERYTHING]
