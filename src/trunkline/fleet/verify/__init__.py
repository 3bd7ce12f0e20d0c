"""The chain of a deployed fleet, walked from outside: does every service's metric get to the workspace?

    monitoring account   monitoring account (can be entered) → workspace → central role (may write)
    workload account     account (can be entered) → task role (may ask) → trust (is taken)
    region               cluster
    service              service → task definition → tasks → collector → metrics → application

The query role, by which the metrics are asked for, comes just before them.

What comes first explains what comes later, so that the first broken link of a service is the one to repair. All is
read and judged here; nothing is changed. A session that was issued before a trust was taken away outlives it, so a
broken trust is found while metrics still arrive.
"""

from trunkline.fleet.metrics import Route
from trunkline.fleet.model import Fleet
from trunkline.fleet.sessions import Sessions
from trunkline.fleet.verify.links import (
    Link,
    OnLink,
    State,
    first_broken,
    links_document,
    links_text,
    through,
)
from trunkline.fleet.verify.walk import Walk

__all__ = [
    "Link",
    "OnLink",
    "Route",
    "State",
    "first_broken",
    "links_document",
    "links_text",
    "through",
    "verify_fleet",
]


def verify_fleet(
    fleet: Fleet, sessions: Sessions, on_progress: OnLink, route: Route | None = None
) -> list[Link]:
    """Every link of the chain of every service, in the order of accounts, regions, services and the chain.

    `on_progress` is told of each as it is known, from several threads, one call at a time. `route` is how the
    workspace is reached, by default as the environment says. What is broken is the answer, and nothing is raised;
    `FleetError` is for a fleet that could not be deployed anyway, as a task definition in its file cannot be used.
    """
    return Walk(fleet, sessions, on_progress, route or Route()).all()
