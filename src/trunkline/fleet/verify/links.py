"""The links of a fleet's chain, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from trunkline.fleet.drift import REPAIR
from trunkline.fleet.explain import Refusal
from trunkline.fleet.metrics import Place

DEPLOY: Final = f"run: {REPAIR}"
"""Makes what is missing, and puts back what somebody else changed."""

State = Literal["ok", "weak", "broken", "not checked"]
"""`weak` holds, but wider than it should; `not checked` says why in `what`."""

ORDER: Final = (
    "monitoring account",
    "workspace",
    "central role",
    "account",
    "task role",
    "trust",
    "cluster",
    "service",
    "task definition",
    "tasks",
    "collector",
    "query role",
    "metrics",
    "application",
)


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain. `region` and `service` are empty for what a whole account shares.

    `what` is the state of it in a sentence, `why` the exact reason when it does not hold, `remedy` what to change.
    """

    account_id: str
    region: str
    service: str
    name: str
    state: State
    what: str
    why: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        where = " ".join(part for part in (self.account_id, self.region, self.service) if part)
        text = f"{where}: {self.name}: {self.what}"
        text += f"; {self.why}" if self.why else ""
        return text + (f". To do: {self.remedy}" if self.remedy else "")


OnLink = Callable[[Link], None]


def first_broken(links: Iterable[Link]) -> dict[Place, Link]:
    """For each service that does not get through, the first link of its chain that is broken."""
    links = list(links)
    first = {
        place: next((link for link in _chain(links, place) if link.state == "broken"), None)
        for place in sorted(_services(links))
    }
    return {place: link for place, link in first.items() if link}


def _chain(links: Sequence[Link], place: Place) -> list[Link]:
    """The links of one service from the first to the last; what is its own stands for what its account shares."""
    account, region, service = place
    mine = {
        link.name: link
        for link in sorted(links, key=lambda link: (bool(link.service), bool(link.region)))
        if is_shared(link)
        or (link.account_id == account and link.region in {"", region} and link.service in {"", service})
    }
    return sorted(mine.values(), key=lambda link: (not is_shared(link), ORDER.index(link.name)))


def is_shared(link: Link) -> bool:
    """Whether it is the monitoring account's, and so a link of every chain."""
    return link.name in {"monitoring account", "workspace", "central role", "query role"}


def _place(link: Link) -> Place:
    return link.account_id, link.region, link.service


def through(links: Iterable[Link]) -> set[Place]:
    """The services whose metrics are in the workspace, every link of their chain holding."""
    links = list(links)
    arrive = {_place(link) for link in links if link.name == "metrics" and link.state == "ok"}
    return arrive - first_broken(links).keys()


def links_document(links: Sequence[Link]) -> dict[str, Any]:
    """As it is written for machines; `ok` is that every service gets through and nothing is broken."""
    broken = [asdict(link) for link in first_broken(links).values()]
    whole = through(links) == _services(links) and not any(link.state == "broken" for link in links)
    return {"ok": whole, "first_broken": broken, "links": [asdict(link) for link in links]}


def links_text(links: Sequence[Link]) -> list[str]:
    """A line for each link, and at last the first broken one of each service."""
    lines = [f"{link.state:<11}  {link}" for link in links]
    lines += ["", f"{len(through(links))} of {len(_services(links))} services get through"]
    for (account, region, service), link in first_broken(links).items():
        lines.append(
            f"{account} {region} {service} is broken first at the {link.name}: {link.why or link.what}"
        )
    return lines


def _services(links: Iterable[Link]) -> set[Place]:
    return {_place(link) for link in links if link.service and link.region}


class Judge:
    """Says what became of a link."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def ok(self, what: str) -> None:
        self.link = replace(self.link, state="ok", what=what)

    def weak(self, what: str, why: str, remedy: str) -> None:
        self.link = replace(self.link, state="weak", what=what, why=why, remedy=remedy)

    def broken(self, what: str, why: str = "", remedy: str = "") -> None:
        self.link = replace(self.link, state="broken", what=what, why=why, remedy=remedy)

    def not_checked(self, why: str) -> None:
        self.link = replace(self.link, state="not checked", what="not checked", why=why)

    def holds_unless(self, refusal: Refusal | None, good: str, bad: str) -> None:
        if refusal:
            self.broken(bad, refusal.why, refusal.remedy or DEPLOY)
        else:
            self.ok(good)
