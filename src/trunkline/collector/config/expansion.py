"""`${…}` in string values: references to environment variables, files and inline YAML (components.md 7.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from trunkline.collector.config.document import parse_document
from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import BROKEN, Node, Place

MOST_ROUNDS: Final = 1_000
"""How often one string is expanded again; a cycle ends here."""
DEEPEST: Final = 50
"""How deep a list or map that came out of `${…}` may refer to further ones."""
MOST_REFERENCES: Final = 100_000
MOST_CHARACTERS: Final = 1 << 20
"""How long one string may become."""
MOST_CHARACTERS_IN_ALL: Final = 64 << 20

_SUPPORTED: Final = ("env", "file", "yaml")
_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_REMOTE: Final = ("http", "https", "s3")
_EXCEEDED: Final = "too many recursive expansions"


class ExpansionError(Exception):
    """A reference that cannot be resolved."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What a reference stands for: a value, and the text it was read from."""

    node: Node
    text: str


def split_uri(uri: str) -> tuple[str, str] | None:
    """Scheme and rest of `scheme:rest`, or None if `uri` does not look like one."""
    match = _URI.fullmatch(uri)
    return (match[1], match[2]) if match else None


class Expander:
    """Expands the strings of a tree; what goes wrong is found, and its value marked as broken."""

    def __init__(self, environment: Mapping[str, str], findings: Findings) -> None:
        self._environment = environment
        self._findings = findings
        self._references_left = MOST_REFERENCES
        self._characters_left = MOST_CHARACTERS_IN_ALL

    def expand(self, node: Node, path: str = "") -> Node:
        """`node` with everything below it expanded and `$$` turned into `$`; keys are left alone."""
        if isinstance(node.value, dict):
            children = {
                key: self.expand(child, f"{path}::{key}" if path else key)
                for key, child in node.value.items()
            }
            unchanged = all(child is node.value[key] for key, child in children.items())
            return node if unchanged else replace(node, value=children)
        if isinstance(node.value, list):
            items = [self.expand(child, f"{path}::{index}") for index, child in enumerate(node.value)]
            return node if all(map(_same, items, node.value)) else replace(node, value=items)
        if not isinstance(node.value, str) or "$" not in node.value:
            return node
        try:
            return self._string(node.value, node.place, path, 0)
        except ExpansionError as error:
            self._findings.problem(node.place, path, error.message, error.remedy)
            return Node(BROKEN, node.place)

    def _retrieve(self, scheme: str, rest: str, place: Place, path: str) -> Retrieved:
        """What `scheme:rest` stands for; raises ExpansionError."""
        if scheme == "env":
            return self._variable(rest, place, path)
        if scheme == "file":
            return self._file(rest, place)
        if scheme == "yaml":
            return self._parsed(rest, place.file, place)
        raise unsupported_scheme(scheme, rest)

    def _inner(self, node: Node, path: str, depth: int) -> Node:
        """Expand what came out of `${…}`; raises ExpansionError for everything in it."""
        if depth > DEEPEST:
            raise ExpansionError(_EXCEEDED, "a reference leads back to itself")
        if isinstance(node.value, dict):
            children = {key: self._inner(child, path, depth + 1) for key, child in node.value.items()}
            return replace(node, value=children)
        if isinstance(node.value, list):
            return replace(node, value=[self._inner(child, path, depth + 1) for child in node.value])
        if isinstance(node.value, str):
            return self._string(node.value, node.place, path, depth)
        return replace(node, expanded=True)

    def _string(self, text: str, place: Place, path: str, depth: int) -> Node:
        for _ in range(MOST_ROUNDS):
            reference = find_reference(text)
            if reference is None:
                return _finished(text, place)
            found = self._resolve(reference, place, path)
            if reference != text:
                text = self._embed(text, reference, found)
            elif isinstance(found.node.value, str):
                text = found.node.value
            else:
                return self._value(found, place, path, depth)
        raise ExpansionError(_EXCEEDED, "a reference leads back to itself")

    def _value(self, found: Retrieved, place: Place, path: str, depth: int) -> Node:
        """A value that is not a string, with its text expanded too in case the field wants a string."""
        node = self._inner(found.node, path, depth + 1)
        return replace(node, text=self._text_of(found, place, path, depth), expanded=True)

    def _text_of(self, found: Retrieved, place: Place, path: str, depth: int) -> str | None:
        if "${" not in found.text:
            return _unescape(found.text)
        try:
            value = self._string(found.text, place, path, depth + 1).value
        except ExpansionError:
            return None
        return value if isinstance(value, str) else None

    def _embed(self, text: str, reference: str, found: Retrieved) -> str:
        if isinstance(found.node.value, dict | list):
            raise ExpansionError(
                f"expanding {reference}: retrieved value does not have unambiguous string representation",
                "a list or map cannot stand inside other text",
            )
        length = len(text) + text.count(reference) * (len(found.text) - len(reference))
        self._characters_left -= length
        if length > MOST_CHARACTERS or self._characters_left < 0:
            raise ExpansionError(f"expanding {reference}: the text grows past {MOST_CHARACTERS} characters")
        return text.replace(reference, found.text)

    def _resolve(self, reference: str, place: Place, path: str) -> Retrieved:
        self._references_left -= 1
        if self._references_left < 0:
            raise ExpansionError(_EXCEEDED, "a reference leads back to itself")
        uri = reference[2:-1]
        parts = split_uri(uri if ":" in uri else f"env:{uri}")
        if parts is None:
            raise ExpansionError(f'invalid uri: "{uri}"', f"write `${reference}` for a literal `{reference}`")
        if "$" in parts[1]:
            raise ExpansionError(f"the uri \"{uri}\" contains unsupported characters ('$')")
        return self._retrieve(*parts, place, path)

    def variable(self, reference: str, place: Place, path: str = "") -> str | None:
        """The text of `NAME` or `NAME:-default`; None, with a warning, if unset. Raises ExpansionError."""
        name, has_default, default = reference.partition(":-")
        if not _VARIABLE.fullmatch(name):
            raise ExpansionError(
                f'environment variable "{name}" has invalid name: must match regex ^{_VARIABLE.pattern}$',
                f"write `$${{{name}}}` for a literal `${{{name}}}`",
            )
        if name in self._environment:
            return self._environment[name]
        if has_default:
            return default
        self._findings.warning(
            place,
            path,
            f'configuration references unset environment variable "{name}"',
            f"it is taken as empty; set {name}, or give a default: ${{env:{name}:-…}}",
        )
        return None

    def _variable(self, reference: str, place: Place, path: str) -> Retrieved:
        text = self.variable(reference, place, path)
        if text == "" and reference.endswith(":-"):  # an empty default is text; an empty variable is null
            name = reference.removesuffix(":-")
            return Retrieved(Node(None if name in self._environment else "", place), "")
        return self._parsed(text or "", place.file, place)

    def _file(self, path: str, place: Place) -> Retrieved:
        text = read_file(path)
        found = self._parsed(text, path, None)
        if isinstance(found.node.value, str):  # a secret in a file ends with a newline that is no part of it
            text = text.removesuffix("\n").removesuffix("\r")
            return Retrieved(Node(text, place), text)
        self._findings.source(path)
        return found

    def _parsed(self, text: str, file: str, at: Place | None) -> Retrieved:
        """As YAML, but text that is a string or not YAML at all is taken as it is."""
        own = Findings()
        node = parse_document(text, file, own, at)
        if node is None or len(own) or isinstance(node.value, str):
            node = Node(text, at or Place(file, 1, 1))
        return Retrieved(node, text)


def read_file(path: str) -> str:
    """The text of a file; raises ExpansionError if it cannot be read or is not UTF-8."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExpansionError(
            f"unable to read the file {path}: byte {error.start} is not UTF-8", "save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ExpansionError(
            f"unable to read the file {path}: {reason}", "check the path and its permissions"
        ) from None


def find_reference(text: str) -> str | None:
    """The first `${…}` to expand, innermost first, or None.

    An escaped one (`$${…}`) ends the search: the rest of that string is not expanded.
    """
    start = 0
    while (close := text.find("}", start)) >= 0:
        opening = text.rfind("${", start, close)
        if opening >= 0:
            dollars = len(text[start:opening]) - len(text[start:opening].rstrip("$"))
            return None if dollars % 2 else text[opening : close + 1]
        start = close + 1
    return None


def _same(left: Node, right: Node) -> bool:
    return left is right


def _finished(text: str, place: Place) -> Node:
    unescaped = _unescape(text)
    return Node(unescaped, place, unescaped)


def _unescape(text: str) -> str:
    return text.replace("$$", "$")


def unsupported_scheme(scheme: str, rest: str) -> ExpansionError:
    """The error for a scheme that cannot be read from."""
    remedy = f"schemes: {', '.join(_SUPPORTED)}; write `$${{` for a literal `${{`"
    if rest.startswith("-"):
        remedy = f"write ${{env:{scheme}:{rest}}}"
    if scheme in _REMOTE:
        remedy = "Trunkline fetches no configuration over the network; give it as a file or an environment variable"
    return ExpansionError(f'scheme "{scheme}" is not supported for uri "{scheme}:{rest}"', remedy)
