"""A tree of nodes → the values a component's settings declare, with everything that does not fit.

Typing is strict, as in the OpenTelemetry Collector since v0.105: a quoted number is no number, a bare number is no
string. Values that came out of `${…}` adapt to the field. Messages are the collector's.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from trunkline.collector.config.findings import Findings, suggestion
from trunkline.collector.config.identifiers import parse_id
from trunkline.collector.config.nodes import BROKEN, Node, Place, plain
from trunkline.component.contract import ComponentId
from trunkline.component.settings import Lenient, Setting, settings_of
from trunkline.quantities import Quantity


class Invalid(Enum):
    """What `decode` returns for a value that has problems."""

    VALUE = "invalid"


INVALID: Final = Invalid.VALUE

_GO_NAMES: Final[dict[type, str]] = {
    str: "string",
    bool: "bool",
    int: "int",
    float: "float64",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}
_GO_KINDS: Final[dict[type, str]] = _GO_NAMES | {list: "slice", dict: "map"}
_SCALARS: Final = (str, bool, int, float)


@dataclass(frozen=True, slots=True)
class At:
    """Where decoding stands: `root` are the keys down to the component, `keys` those below it.

    `owner` opens a message about a value that does not fit (`'exporters' error reading …: `).
    """

    place: Place
    root: tuple[str, ...]
    owner: str = ""
    keys: tuple[str | int, ...] = ()

    def down(self, key: str | int, place: Place) -> At:
        """One step below."""
        return At(place, self.root, self.owner, (*self.keys, key))

    @property
    def path(self) -> str:
        """The key path as the collector writes it: `exporters::debug::verbosity`."""
        return "::".join(map(str, (*self.root, *self.keys)))

    @property
    def name(self) -> str:
        """The key path below the component as the collector's decoder writes it: `headers.a` or `list[0].b`."""
        text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys)
        return text.removeprefix(".")


class Decoder:
    """Decodes values and collects what is wrong with them."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._settings: dict[type, Mapping[str, Setting]] = {}

    def decode(self, node: Node, hint: Any, at: At) -> Any:
        """The value of `node` as `hint` wants it, or INVALID after a problem was found.

        `hint` is str, int, float, bool, Any, an Enum, a Literal, ComponentId, a config dataclass, list, tuple, dict
        or Optional of those, a union of scalars, or an annotated quantity. Raises TypeError for anything else.
        """
        if node.value is BROKEN:
            return INVALID
        kind = get_origin(hint) or hint
        if kind in (Annotated, Union, types.UnionType, Literal):
            return self._special(node, kind, hint, at)
        if kind in (Any, object):
            return plain(node)
        if kind in (list, tuple, Sequence):
            return self._sequence(node, kind, get_args(hint), at)
        if kind in (dict, Mapping):
            return self._mapping(node, get_args(hint), at)
        return self._of_class(node, hint, at)

    def _special(self, node: Node, kind: Any, hint: Any, at: At) -> Any:
        if kind is Annotated:
            return self._annotated(node, hint, at)
        if kind is Literal:
            return self._choice(node, {str(word): word for word in get_args(hint)}, at)
        return self._union(node, get_args(hint), at)

    def _of_class(self, node: Node, hint: Any, at: At) -> Any:
        if hint in _SCALARS:
            return self._scalar(node, hint, at)
        if hint is ComponentId:
            return self._component_id(node, at)
        if is_dataclass(hint) and isinstance(hint, type):
            return self._config(node, hint, at)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return self._choice(node, {str(member.value): member for member in hint}, at)
        raise TypeError(f"{at.path}: settings of type {hint!r} cannot be decoded")

    def _refuse(self, at: At, message: str, remedy: str = "", place: Place | None = None) -> Invalid:
        self._findings.problem(place or at.place, at.path, f"{at.owner}'{at.name}' {message}", remedy)
        return INVALID

    def _unconvertible(self, node: Node, wanted: type, at: At) -> Invalid:
        found = "nil" if node.value is None else _GO_NAMES[type(node.value)]
        message = f"expected type '{_GO_NAMES[wanted]}', got unconvertible type '{found}'"
        return self._refuse(at, message, _scalar_remedy(node, wanted))

    # Scalars

    def _scalar(self, node: Node, wanted: type, at: At) -> Any:
        value = node.value
        if type(value) is wanted:
            return value
        if wanted is str and node.expanded and node.text is not None:
            return node.text
        if wanted is float and type(value) is int:
            return float(value)
        if wanted is int and isinstance(value, float) and value.is_integer():
            return int(value)
        return self._unconvertible(node, wanted, at)

    def _annotated(self, node: Node, hint: Any, at: At) -> Any:
        wanted, *marks = get_args(hint)
        for mark in marks:
            if isinstance(mark, Quantity):
                return self._quantity(node, mark, at)
            if (
                isinstance(mark, Lenient)
                and not isinstance(node.value, list | dict)
                and node.value is not None
            ):
                return node.text if node.text is not None else str(node.value)
        return self.decode(node, wanted, at)

    def _quantity(self, node: Node, quantity: Quantity, at: At) -> Any:
        remedy = f"write a {quantity.name} such as {quantity.example}"
        if type(node.value) is int and quantity.bare is not None:
            return self._bare(node.value, quantity, at)
        if isinstance(node.value, list | dict | bool) or node.value is None:
            return self._refuse(at, f"expected a {quantity.name}, got {_kind(node)}", remedy)
        try:
            return quantity.parse(str(node.value) if node.text is None else node.text)
        except ValueError as error:
            return self._refuse(at, str(error), remedy)

    def _bare(self, number: int, quantity: Quantity, at: At) -> float:
        assert quantity.bare is not None
        value = number * quantity.bare
        if number:
            message = (
                f"a {quantity.name} without unit is in nanoseconds: {number} is {quantity.format(value)}"
            )
            self._findings.warning(at.place, at.path, message, f"write a unit, such as {quantity.example}")
        return value

    def _choice(self, node: Node, choices: Mapping[str, Any], at: At) -> Any:
        value = node.text if node.expanded else node.value
        if isinstance(value, str) and value in choices:
            return choices[value]
        if not isinstance(value, str) and value in choices.values():
            return value
        shown = f'"{value}"' if isinstance(value, str) else _kind(node)
        valid = [word for word in choices if word]
        return self._refuse(at, f"unknown value {shown}", suggestion(str(value), valid, "valid values"))

    def _component_id(self, node: Node, at: At) -> Any:
        text = self._scalar(node, str, at)
        if text is INVALID:
            return INVALID
        try:
            return parse_id(text)
        except ValueError as error:
            return self._refuse(at, str(error), "write type or type/name")

    def _union(self, node: Node, members: Sequence[Any], at: At) -> Any:
        wanted = [member for member in members if member is not types.NoneType]
        if node.value is None and len(wanted) < len(members):
            return "" if node.expanded and _is_text(wanted[0]) else None
        if len(wanted) == 1:
            return self.decode(node, wanted[0], at)
        if not all(member in _SCALARS for member in wanted):
            raise TypeError(f"{at.path}: a union of {wanted!r} cannot be decoded")
        if type(node.value) in wanted:
            return node.value
        return self._scalar(node, float if float in wanted else wanted[0], at)

    # Lists and maps

    def _sequence(self, node: Node, kind: type, members: tuple[Any, ...], at: At) -> Any:
        fixed = kind is tuple and members and members[-1] is not Ellipsis
        items = _items(node, members[0] if members else Any)
        if items is None:
            return self._refuse(
                at, f"source data must be an array or slice, got {_kind(node)}", "write a list: [a, b]"
            )
        if fixed and len(items) != len(members):
            return self._refuse(at, f"expected {len(members)} items, got {len(items)}")
        hints = members if fixed else [members[0] if members else Any] * len(items)
        values = [
            self.decode(item, hint, at.down(index, item.place))
            for index, (item, hint) in enumerate(zip(items, hints, strict=True))
        ]
        return INVALID if INVALID in values else tuple(values) if kind is tuple else values

    def _mapping(self, node: Node, members: tuple[Any, ...], at: At) -> Any:
        if node.value is None:
            return {}
        if not isinstance(node.value, dict):
            return self._refuse(
                at, f'expected a map or struct, got "{_kind(node)}"', "write key: value lines"
            )
        hint = members[1] if members else Any
        values = {
            key: self._entry(child, hint, at.down(key, node.spot(key))) for key, child in node.value.items()
        }
        return INVALID if INVALID in values.values() else values

    def _entry(self, node: Node, hint: Any, at: At) -> Any:
        """A map's value; null is an empty string or a config of defaults, as it would be zero in Go."""
        return "" if node.value is None and _is_text(hint) else self.decode(node, hint, at)

    # Config dataclasses

    def _config(self, node: Node, config: type, at: At) -> Any:
        if node.value is not None and not isinstance(node.value, dict):
            return self._refuse(
                at, f'expected a map or struct, got "{_kind(node)}"', "write key: value lines"
            )
        if config not in self._settings:
            self._settings[config] = settings_of(config)
        settings = self._settings[config]
        before = len(self._findings)
        values = self._values(node, settings, at)
        for setting in settings.values():
            if setting.required and setting.name not in values:
                self._findings.problem(at.place, at.path, f"`{setting.key}` is required", setting.doc)
        if len(self._findings) > before or INVALID in values.values():
            return INVALID
        return config(**values)

    def _values(self, node: Node, settings: Mapping[str, Setting], at: At) -> dict[str, Any]:
        """What is given, by the fields' names; a null leaves the default."""
        values: dict[str, Any] = {}
        for key, child in (node.value if isinstance(node.value, dict) else {}).items():
            if key not in settings:
                self._refuse(
                    at,
                    f"has invalid keys: {key}",
                    suggestion(key, list(settings), "valid keys"),
                    node.keys.get(key),
                )
                continue
            setting, below = settings[key], at.down(key, node.spot(key))
            self._note(setting, node.keys.get(key, below.place), below)
            if child.value is not None or (child.expanded and _is_text(setting.type)):
                values[setting.name] = self.decode(child, setting.type, below)
        return values

    def _note(self, setting: Setting, place: Place, at: At) -> None:
        if setting.ignored:
            self._findings.warning(place, at.path, "has no effect", setting.ignored)
        if setting.deprecated:
            self._findings.warning(place, at.path, "is deprecated", setting.deprecated)


def _kind(node: Node) -> str:
    return "nil" if node.value is None else _GO_KINDS[type(node.value)]


def _is_text(hint: Any) -> bool:
    """Whether a value of this type is a string, so that `${…}` of nothing is an empty one."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(map(_is_text, get_args(hint)))
    return hint is str or (
        get_origin(hint) is Annotated and any(isinstance(mark, Lenient) for mark in get_args(hint))
    )


def _items(node: Node, hint: Any) -> list[Node] | None:
    """The items of a list; a string is split on commas, as in the collector; None if there are none to be had."""
    if isinstance(node.value, list):
        return node.value
    text = node.value if isinstance(node.value, str) else node.text if node.expanded and hint is str else None
    if text is None or isinstance(node.value, dict):
        return [] if node.value is None else None
    return [Node(part, node.place, part) for part in text.split(",")] if text else []


_REMEDIES: Final[dict[type, Callable[[Node], str]]] = {
    str: lambda node: f'put it in quotes: "{node.text}"' if node.text else "write text",
    bool: lambda _: "write true or false",
    int: lambda _: "write a whole number, without quotes",
    float: lambda _: "write a number, without quotes",
}


def _scalar_remedy(node: Node, wanted: type) -> str:
    if isinstance(node.value, list | dict):
        return f"write one value here, not a {_kind(node)}"
    return _REMEDIES[wanted](node)
