"""Files of other tools, read as loosely as those tools read them: `"8"` and `8` are one number.

Whatever does not fit is a problem with a place; the reader goes on, so that all of them are found at once.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from trunkline.collector.config.document import parse_document
from trunkline.collector.config.findings import Findings, suggestion
from trunkline.collector.config.nodes import Node, Place
from trunkline.quantities import parse_go_duration

_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_MIB: Final = {"": 1 / 2**20, "k": 1 / 1024, "m": 1, "g": 1024, "t": 1024**2}


class Asked(NamedTuple):
    """Where a file is named: what is said if it cannot be read points there."""

    place: Place
    path: str


class Foreign:
    """Reads values out of nodes; `path` is the key path that problems name."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def read(self, path: Path, asked: Asked) -> str | None:
        """The file's text; None after a problem at the place where it was asked for."""
        self.findings.source(str(path))
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            remedy = "check the path; it begins at the folder of the fleet's file"
            self.problem(asked.place, asked.path, f"{path} cannot be read: {why}", remedy)
            return None

    def document(self, path: Path, asked: Asked) -> Node | None:
        """The file's tree, a map; None after a problem."""
        text = self.read(path, asked)
        if text is None:
            return None
        node = parse_document(text, str(path), self.findings)
        if node is None or isinstance(node.value, dict):
            return node
        self.problem(node.place, "", "is not a map of keys and values", "is it the right file?")
        return None

    def problem(self, place: Place, path: str, message: str, remedy: str = "") -> None:
        self.findings.problem(place, path, message, remedy)

    def note(self, place: Place, path: str, message: str, remedy: str = "") -> None:
        """Something to tell, for which nothing is refused."""
        self.findings.warning(place, path, message, remedy)

    def entries(
        self, node: Node, path: str, known: Sequence[str], refused: Mapping[str, str] | None = None
    ) -> Iterator[tuple[str, Node]]:
        """The keys of a map that are `known` and not empty; others are problems, `refused` with what to do."""
        if node.value is None:
            return
        if not isinstance(node.value, dict):
            self.problem(node.place, path, "is not a map", "write key: value lines")
            return
        for key, child in node.value.items():
            if key in known:
                if child.value is not None:
                    yield key, child
                continue
            remedy = (refused or {}).get(key) or suggestion(key, known, "supported keys")
            self.problem(node.keys[key], f"{path}::{key}" if path else key, "is not supported", remedy)

    def pairs(self, node: Node, path: str) -> Iterator[tuple[str, Node]]:
        """All entries of a map with names of one's own."""
        if isinstance(node.value, dict):
            yield from node.value.items()
        elif node.value is not None:
            self.problem(node.place, path, "is not a map", "write key: value lines")

    def items(self, node: Node, path: str) -> list[Node]:
        """The items of a list; nothing is an empty one."""
        if isinstance(node.value, list):
            return node.value
        if node.value is not None:
            self.problem(node.place, path, "is not a list", "write [a, b], or a line with - for each")
        return []

    def text(self, node: Node, path: str) -> str:
        """A scalar as it is written."""
        if isinstance(node.value, list | dict):
            self.problem(node.place, path, "is not one value", "write text or a number")
            return ""
        return node.text or ""

    def texts(self, node: Node, path: str) -> tuple[str, ...]:
        return tuple(self.text(item, path) for item in self.items(node, path))

    def words(self, node: Node, path: str) -> tuple[str, ...]:
        """A command: a list, or one line taken apart as a shell does."""
        if isinstance(node.value, list):
            return self.texts(node, path)
        try:
            return tuple(shlex.split(self.text(node, path)))
        except ValueError as error:
            self.problem(node.place, path, f"cannot be taken apart: {error}", "write it as a list")
            return ()

    def number(self, node: Node, path: str) -> float:
        try:
            return float(self.text(node, path))
        except ValueError:
            self.problem(node.place, path, f"{node.text!r} is not a number")
            return 0.0

    def count(self, node: Node, path: str) -> int:
        number = self.number(node, path)
        if number != int(number) or number < 0:
            self.problem(node.place, path, f"{node.text!r} is not a whole number")
        return int(number)

    def truth(self, node: Node, path: str) -> bool:
        value = self.text(node, path).lower()
        if value not in ("true", "false"):
            self.problem(node.place, path, f"{node.text!r} is neither true nor false")
        return value == "true"

    def seconds(self, node: Node, path: str) -> int:
        """A compose duration, `1m30s`."""
        try:
            return round(parse_go_duration(self.text(node, path)))
        except ValueError:
            self.problem(node.place, path, f"{node.text!r} is not a duration", "write it like 30s or 1m30s")
            return 0

    def mebibytes(self, node: Node, path: str, *, bare: str = "") -> int:
        """A size such as `128m` or `0.5GB`; a bare number counts `bare`, bytes or (`m`) mebibytes."""
        match = _SIZE.fullmatch(self.text(node, path).strip())
        if not match:
            self.problem(node.place, path, f"{node.text!r} is not a size", "write it like 512m or 0.5GB")
            return 0
        unit = match[2].lower()
        plain = match[0].strip().replace(".", "").isdigit()
        size = float(match[1]) * _MIB[bare if plain else unit]
        if size < 1:
            self.problem(node.place, path, f"{node.text!r} is less than 1 MiB", "write a unit: 512m, 0.5GB")
        return int(size)
