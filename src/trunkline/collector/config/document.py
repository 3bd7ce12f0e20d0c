"""YAML text → a tree of nodes with places.

Built from the parser's events, without recursion, so that the text decides neither the depth of our stack nor the
amount of memory: nesting and what anchors expand to are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Node, Place
from trunkline.collector.config.scalars import resolve

DEEPEST: Final = 64
MOST_VALUES: Final = 250_000
"""How many values a document with anchors may stand for; the "billion laughs" stop here."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_TABS: Final = "indent with spaces; YAML does not allow tabs there"


class DocumentError(Exception):
    """Text that is not a YAML document we take."""

    def __init__(self, place: Place, message: str, remedy: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message
        self.remedy = remedy


@dataclass(slots=True)
class _Open:
    """A map or list whose end has not come yet."""

    place: Place
    anchor: str | None
    is_map: bool
    children: list[Node] = field(default_factory=list)
    merge_keys: set[int] = field(default_factory=set)
    """Which children are a plain `<<` in the place of a key."""


def parse_document(text: str, file: str, findings: Findings, at: Place | None = None) -> Node | None:
    """The tree of the first document in `text`, or None with problems in `findings`.

    Places name `file`, or are all `at` where the text has no lines of its own (a variable's content).
    """
    try:
        root = _Builder(file, findings, at).build(text)
    except DocumentError as error:
        findings.problem(error.place, "", error.message, error.remedy)
        return None
    return root


class _Builder:
    def __init__(self, file: str, findings: Findings, at: Place | None) -> None:
        self._file = file
        self._findings = findings
        self._at = at
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._aliased = False

    def build(self, text: str) -> Node:
        """Raises DocumentError."""
        root: Node | None = None
        for event in self._events(text):
            if root is not None:
                if isinstance(event, yaml.DocumentStartEvent):
                    self._findings.warning(self._place(event), "", "only the first YAML document is read")
                    break
                continue
            root = self._take(event)
        return Node(None, self._at or Place(self._file, 1, 1), "") if root is None else root

    def _events(self, text: str) -> Iterator[Any]:
        """PyYAML's parsers fail in many ways on text that is not YAML; all of them become DocumentError."""
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(text, error) from None
        except yaml.reader.ReaderError as error:
            reason = error.reason if isinstance(error.reason, str) else "not valid text"
            raise self._unreadable(text, error.position, reason) from None
        except UnicodeError as error:
            raise self._unreadable(text, getattr(error, "start", 0), "not valid Unicode") from None
        except (ValueError, OverflowError):
            raise self._unreadable(text, 0, "an escape in a quoted string is out of range") from None

    def _syntax_error(self, text: str, error: yaml.MarkedYAMLError) -> DocumentError:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines = text.splitlines()
        source = lines[line] if line < len(lines) else ""
        begun = error.context_mark.line if error.context_mark else line
        context = f"{error.context} (begun at line {begun + 1})" if begun != line else error.context
        message = ", ".join(part for part in (context, error.problem) if part)
        return DocumentError(
            self._at or Place(self._file, line + 1, column + 1),
            f"not valid YAML: {message}",
            _remedy(source, column),
        )

    def _unreadable(self, text: str, position: int, reason: str) -> DocumentError:
        before = text[:position]
        line = before.count("\n") + 1
        place = self._at or Place(self._file, line, position - (before.rfind("\n") + 1) + 1)
        return DocumentError(place, f"not valid YAML: {reason}", "save the file as UTF-8 text")

    def _place(self, event: Any) -> Place:
        return self._at or Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _take(self, event: Any) -> Node | None:
        """Handle one event; returns the root when it is complete."""
        if isinstance(event, yaml.ScalarEvent):
            self._note_merge_key(event)
            return self._add(self._named(_scalar(event, self._place(event)), event.anchor))
        if isinstance(event, yaml.AliasEvent):
            return self._add(self._alias(event))
        if isinstance(event, yaml.CollectionStartEvent):
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._stack.pop()
            return self._add(self._named(self._close(done), done.anchor))
        return None

    def _open(self, event: Any) -> None:
        place = self._place(event)
        if len(self._stack) >= DEEPEST:
            raise DocumentError(place, f"nested more than {DEEPEST} levels deep", "flatten the document")
        self._stack.append(_Open(place, event.anchor, isinstance(event, yaml.MappingStartEvent)))

    def _note_merge_key(self, event: Any) -> None:
        if event.value == "<<" and event.implicit[0] and self._stack:
            top = self._stack[-1]
            if top.is_map and len(top.children) % 2 == 0:
                top.merge_keys.add(len(top.children))

    def _add(self, node: Node) -> Node | None:
        if not self._stack:
            return node
        self._stack[-1].children.append(node)
        return None

    def _named(self, node: Node, anchor: str | None) -> Node:
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        self._aliased = True
        name, place = event.anchor, self._place(event)
        if any(one.anchor == name for one in self._stack):
            raise DocumentError(place, f"anchor '{name}' value contains itself", "remove the alias")
        if name not in self._anchors:
            raise DocumentError(place, f"unknown anchor '{name}' referenced", f"define it first with &{name}")
        return self._anchors[name]

    def _close(self, done: _Open) -> Node:
        size = 1 + sum(child.size for child in done.children)
        if self._aliased and size > MOST_VALUES:
            raise DocumentError(
                done.place,
                "document contains excessive aliasing",
                f"its anchors stand for over {MOST_VALUES} values",
            )
        if not done.is_map:
            return Node(done.children, done.place, size=size)
        return self._map(done, size)

    def _map(self, done: _Open, size: int) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        merged: list[Node] = []
        for index in range(0, len(done.children), 2):
            key, value = done.children[index : index + 2]
            if index in done.merge_keys:
                merged += self._merge_sources(value)
                continue
            name = self._key(key)
            if name in values:
                self._duplicate(name, key.place, keys[name])
            values[name], keys[name] = value, key.place
        for source in merged:
            assert isinstance(source.value, dict)
            for name, value in source.value.items():
                values.setdefault(name, value)
                keys.setdefault(name, source.keys[name])
        return Node(values, done.place, keys=keys, size=size)

    def _key(self, key: Node) -> str:
        if key.text is None:
            raise DocumentError(key.place, "invalid map key: a list or map", "a key has to be text")
        return key.text

    def _duplicate(self, name: str, place: Place, first: Place) -> None:
        self._findings.problem(
            place, "", f'mapping key "{name}" already defined at line {first.line}', "remove one of the two"
        )

    def _merge_sources(self, value: Node) -> list[Node]:
        sources = value.value if isinstance(value.value, list) else [value]
        if not all(isinstance(source.value, dict) for source in sources):
            raise DocumentError(
                value.place, "map merge requires map or sequence of maps as the value", "write <<: *anchor"
            )
        return sources


def _scalar(event: Any, place: Place) -> Node:
    text: str = event.value
    is_plain = event.implicit[0] or (event.tag or "").removeprefix(_TAG) in ("null", "bool", "int", "float")
    return Node(resolve(text) if is_plain else text, place, text)


def _remedy(source: str, column: int) -> str:
    if "\t" in source[: column + 1]:
        return _TABS
    if source[column : column + 1] in ("@", "`", "%"):
        return "put the value in quotes"
    return "check indentation and quotes there and on the line above; a value that contains `: ` needs quotes"
