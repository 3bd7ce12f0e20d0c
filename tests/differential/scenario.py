"""What a scenario is made of: a target, its pages, and the settings it is scraped with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.differential.targets import Page

ORDINARY = "# HELP a Something.\n# TYPE a counter\na 1\n"
CIRCLE = "/circle"
"""Where a target sends scrapers around and around."""
SCRAPES = 8
"""How many scrapes are compared; where there are fewer pages, the last one stays."""


@dataclass(frozen=True)
class Scenario:
    """A target and how it is scraped; `since` is the first version of Prometheus that knows what it needs.

    `<tls>` in a setting, an address, a header or an aside stands for a place that is known when the servers run:
    `tests/differential/surroundings.py` has them all.
    """

    pages: Sequence[Page]
    job: Mapping[str, Any] = field(default_factory=dict)
    since: tuple[int, int] = (2, 42)
    address: str = "<address>"
    """Where the target is said to be."""
    reached: bool = True
    """Whether scrapes get through to the target; if not they fail, and there is none to count from."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Further labels of the target."""
    aside: Page | None = None
    """What is served at `<aside>` from the start, such as a list of targets, or a token."""
    by_name: bool = False
    """Whether names have to be resolved that only a resolver of our own knows."""


def shown(*bodies: str | bytes, **settings: Any) -> list[Page]:
    """A page for each body."""
    return [Page(body, **settings) for body in bodies]


def rules(*given: Mapping[str, Any]) -> dict[str, Any]:
    """A job that relabels samples."""
    return {"metric_relabel_configs": list(given)}


def target_rules(*given: Mapping[str, Any]) -> dict[str, Any]:
    """A job that relabels its target."""
    return {"relabel_configs": list(given)}


def filled(value: Any, places: Mapping[str, str]) -> Any:
    """`value` with every `<place>` in its texts replaced."""
    match value:
        case "<port>":
            return int(places["port"])
        case str():
            for name, place in places.items():
                value = value.replace(f"<{name}>", place)
            return value
        case Mapping():
            return {key: filled(one, places) for key, one in value.items()}
        case list():
            return [filled(one, places) for one in value]
        case _:
            return value
