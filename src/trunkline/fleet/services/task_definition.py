"""Task definitions that exist, as `aws ecs describe-task-definition` prints them or `register-task-definition` reads them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from trunkline.collector.config.document import parse_document
from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Node, Place, empty_map, nearest_place
from trunkline.fleet.checks import COLLECTOR_NAME
from trunkline.fleet.services.compose import COLLECTORS
from trunkline.fleet.services.foreign import Asked, Foreign

_DESCRIBED: Final = (
    *("taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities", "registeredAt"),
    *("registeredBy", "deregisteredAt", "tags", "enableFaultInjection"),
)
"""What ECS says of a definition and does not take."""


@dataclass(slots=True)
class Existing:
    """A definition without its collector, and the size of its tasks."""

    definition: dict[str, Any] = field(default_factory=dict)
    cpu_units: int | None = None
    memory_mib: int | None = None

    def sized(self, cpu_units: int | None, memory_mib: int | None) -> str:
        """It as JSON, with the sizes that the fleet's file gives over its own; empty for none."""
        sizes = {"cpu": cpu_units, "memory": memory_mib}
        given = {key: str(value) for key, value in sizes.items() if value is not None}
        return json.dumps({**self.definition, **given}) if self.definition else ""


def read_task_definition(path: Path, asked: Asked, collector: str, foreign: Foreign) -> Existing:
    """The definition in a file; what cannot be taken becomes problems in `foreign`.

    A container called `collector`, or else one that is called as collectors are, is taken out: ours replaces it.
    """
    document = _document(path, asked, foreign)
    if document is None:
        return Existing()
    definition = document.get("taskDefinition", document)
    reading = _Reading(_tree(path, "taskDefinition" in document), foreign)
    if not isinstance(definition, dict) or not reading.fits(definition):
        return Existing()
    found = {key: value for key, value in definition.items() if key not in _DESCRIBED}
    found["containerDefinitions"] = reading.without_collector(found["containerDefinitions"], collector)
    return Existing(found, reading.size(found, "cpu"), reading.size(found, "memory"))


def _document(path: Path, asked: Asked, foreign: Foreign) -> dict[str, Any] | None:
    text = foreign.read(path, asked)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        place = Place(str(path), error.lineno, error.colno)
        foreign.problem(
            place, "", f"is not JSON: {error.msg}", "write what aws ecs describe-task-definition prints"
        )
        return None
    if not isinstance(found, dict):
        foreign.problem(Place(str(path)), "", "is not a task definition", "it has to be a JSON object")
        return None
    return found


def _tree(path: Path, is_described: bool) -> Node:
    """The definition with its places: JSON is YAML, but for tabs, without which there are none."""
    file = Place(str(path))
    root = parse_document(path.read_text(encoding="utf-8"), str(path), Findings()) or empty_map(file)
    if not is_described or not isinstance(root.value, dict):
        return root
    return root.value.get("taskDefinition", root)


class _Reading:
    def __init__(self, tree: Node, foreign: Foreign) -> None:
        self._tree = tree
        self._foreign = foreign

    def fits(self, definition: dict[str, Any]) -> bool:
        before = len(self._foreign.findings)
        containers = definition.get("containerDefinitions")
        if not isinstance(containers, list) or not all(isinstance(one, dict) for one in containers):
            self._problem("containerDefinitions", "there are no containers", "is it a task definition?")
        if definition.get("networkMode") != "awsvpc":
            self._problem("networkMode", "is not awsvpc", "the fleet's services run on Fargate")
        kinds = definition.get("requiresCompatibilities", ["FARGATE"])
        if isinstance(kinds, list) and kinds and "FARGATE" not in kinds:
            self._problem("requiresCompatibilities", "has no FARGATE", "the fleet's services run on Fargate")
        return len(self._foreign.findings) == before

    def size(self, definition: dict[str, Any], key: str) -> int | None:
        value = definition.get(key)
        if value is None:
            return None
        if not str(value).isdigit():
            unit = "CPU units" if key == "cpu" else "MiB"
            self._problem(key, f"{value!r} is not a number", f"write {unit}, such as 512")
            return None
        return int(value)

    def without_collector(self, containers: list[dict[str, Any]], collector: str) -> list[dict[str, Any]]:
        names = [str(one.get("name", "")) for one in containers]
        if collector and collector not in names:
            remedy = f"containers: {', '.join(names)}"
            self._problem("containerDefinitions", f"there is no container {collector!r}", remedy)
        for index, name in enumerate(names):
            if name in names[:index]:
                where = ("containerDefinitions", str(index), "name")
                self._problem("::".join(where), f"two containers are called {name!r}", "rename one")
        ours = {collector} if collector else {name for name in names if name in (*COLLECTORS, COLLECTOR_NAME)}
        kept = [dict(one) for one in containers if str(one.get("name", "")) not in ours]
        for one in kept:
            depends_on = one.get("dependsOn")
            if isinstance(depends_on, list):
                one["dependsOn"] = [each for each in depends_on if each.get("containerName") not in ours]
        if not kept:
            self._problem("containerDefinitions", "there is only the collector", "add what is to be measured")
        return kept

    def _problem(self, path: str, message: str, remedy: str) -> None:
        place = nearest_place(self._tree, path.split("::"), self._tree.place)
        self._foreign.problem(place, path, message, remedy)
