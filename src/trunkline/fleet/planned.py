"""A plan as it is shown: as data, as JSON, and in lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from trunkline.fleet.changes import ResourceAction, ResourceChange
from trunkline.fleet.order import Kind

StackAction = Literal["create", "update", "unchanged", "blocked", "leftover"]


@dataclass(frozen=True, slots=True)
class StackPlan:
    """What happens to one stack. `reason` is why it is blocked; `unknown` and `notes` are sentences."""

    kind: Kind
    account_id: str
    region: str
    stack: str
    action: StackAction
    resources: tuple[ResourceChange, ...] = ()
    reason: str = ""
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What deploying the fleet would do; the stacks in the order of deployment, leftovers last."""

    fleet: str
    stacks: tuple[StackPlan, ...]

    @property
    def changes(self) -> bool:
        """Whether deploying would change anything."""
        return any(stack.action in ("create", "update") for stack in self.stacks)

    @property
    def blocked(self) -> tuple[StackPlan, ...]:
        """The stacks that deploying would fail at."""
        return tuple(stack for stack in self.stacks if stack.action == "blocked")

    def counts(self) -> dict[ResourceAction, int]:
        """How many resources each thing would happen to."""
        found: dict[ResourceAction, int] = {}
        for stack in self.stacks:
            for resource in stack.resources:
                found[resource.action] = found.get(resource.action, 0) + 1
        return found

    def to_document(self) -> dict[str, Any]:
        stacks = [asdict(stack) for stack in self.stacks]
        for stack in stacks:
            for resource in stack["resources"]:
                resource["type"] = resource.pop("type_")
        head = {"fleet": self.fleet, "changes": self.changes, "blocked": bool(self.blocked)}
        return {**head, "resources": self.counts(), "stacks": stacks}

    def to_json(self) -> str:
        return json.dumps(self.to_document(), indent=2)


_SIGNS: Final[Mapping[str, tuple[str, int]]] = {
    "create": ("+", 32),
    "update": ("~", 33),
    "unchanged": ("=", 90),
    "blocked": ("!", 31),
    "leftover": ("?", 35),
    "change": ("~", 33),
    "replace": ("±", 31),
    "may replace": ("±", 33),
    "delete": ("-", 31),
    "keep": ("o", 90),
    "take up": ("^", 36),
}
"""What begins a line, and its colour on a terminal (SGR)."""


def render(plan: Plan, color: bool) -> str:
    """The plan in lines, by account and region; accounts in which nothing happens in one line together."""
    lines, place = [f"fleet {plan.fleet}"], ("", "")
    quiet = [stack for stack in plan.stacks if stack.action == "unchanged" and not stack.notes]
    for stack in plan.stacks:
        if stack in quiet:
            continue
        if place != (stack.account_id, stack.region):
            place = (stack.account_id, stack.region)
            lines += ["", f"account {stack.account_id}, {stack.region}"]
        lines += _stack_lines(stack, color)
    if quiet:
        lines += ["", _painted("unchanged", f"{len(quiet)} stacks are as they should be", color)]
    return "\n".join([*lines, "", _sum(plan)])


def _stack_lines(stack: StackPlan, color: bool) -> Iterator[str]:
    reason = f": {stack.reason}" if stack.reason else ""
    yield "  " + _painted(stack.action, f"{stack.stack} ({stack.action}){reason}", color)
    yield from (f"      {note}" for note in stack.notes)
    for each in stack.resources:
        what = f"{each.logical_id} ({each.type_})"
        properties = f": {', '.join(each.properties)}" if each.properties else ""
        drift = f" ({each.drift} by somebody else)" if each.drift else ""
        yield "    " + _painted(each.action, f"{each.action} {what}{properties}{drift}", color)
    yield from (f"      not known before: {each}" for each in stack.unknown)


def _painted(action: str, text: str, color: bool) -> str:
    sign, code = _SIGNS[action]
    return f"\x1b[{code}m{sign} {text}\x1b[0m" if color else f"{sign} {text}"


def _sum(plan: Plan) -> str:
    counts = plan.counts()
    said = [f"{number} to {action}" for action, number in counts.items()]
    text = ", ".join(said) if said else "nothing to change"
    blocked = len(plan.blocked)
    return f"{text}; {blocked} stacks are blocked" if blocked else text
