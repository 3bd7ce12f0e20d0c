"""What the `resource` and `attributes` processors do to attributes: one list of actions, run in order.

Follows OpenTelemetry's attribute actions; hashes are SHA-256, as in its current releases.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from trunkline.component.patterns import compiled, group_names, problem_of
from trunkline.component.points import Attributes, text_of
from trunkline.component.settings import setting
from trunkline.model import AttributeValue

Working: TypeAlias = dict[str, AttributeValue]
Change: TypeAlias = Callable[[Working], None]

SETTING: Final = ("insert", "update", "upsert")
ACTIONS: Final = (*SETTING, "delete", "hash", "extract", "convert")
TYPES: Final = ("int", "double", "string")


@dataclass(frozen=True, kw_only=True)
class Action:
    """One change of the attributes."""

    key: str = setting(default="", doc="The attribute it is about.")
    action: str = setting(default="", doc=f"What is done: {', '.join(f'`{action}`' for action in ACTIONS)}.")
    value: AttributeValue | None = setting(default=None, doc="For `insert`, `update`, `upsert`: the value.")
    from_attribute: str = setting(default="", doc="For these: another attribute whose value is taken.")
    from_context: str = setting(
        default="",
        doc="For these: a value of the client that sent the data.",
        ignored="collected metrics have no client; default_value is taken where there is one",
    )
    default_value: AttributeValue | None = setting(
        default=None, doc="For these: the value when the source gives none."
    )
    pattern: str = setting(
        default="",
        doc="For `delete` and `hash`: names of attributes; for `extract`: its named groups become attributes.",
    )
    converted_type: str = setting(default="", doc="For `convert`: `int`, `double` or `string`.")

    def check(self, path: str, index: int) -> Iterator[tuple[str, str]]:
        """What is wrong with this action, the `index`-th of its list, in the words of the collector."""
        action = self.action.lower()
        if action not in ACTIONS:
            text = f'unsupported action "{self.action}" at the {index}-th actions; valid actions: {", ".join(ACTIONS)}'
            yield f"{path}::action", f"error creating AttrProc due to {text}"
        elif not self.key and not (self.pattern and action in ("delete", "hash")):
            yield (
                path,
                f'error creating AttrProc due to missing required field "key" at the {index}-th actions',
            )
        else:
            for key, wrong in self._wrong(action):
                yield (
                    f"{path}::{key}" if key else path,
                    f"error creating AttrProc. {wrong} at the {index}-th actions",
                )
            if self.pattern and (wrong := problem_of(self.pattern)):
                yield f"{path}::pattern", wrong

    def _wrong(self, action: str) -> Iterator[tuple[str, str]]:
        sources = {
            "value": self.value is not None,
            "from_attribute": self.from_attribute,
            "from_context": self.from_context,
        }
        given = [key for key, there in sources.items() if there]
        if action in SETTING and len(given) > 1:
            yield given[1], "Multiple value sources are set"
        if action in SETTING and not given and self.default_value is None:
            yield "", 'Either field "value", "from_attribute" or "from_context" setting must be specified'
        if action not in SETTING:
            yield from ((key, f'Action "{action}" does not use the "{key}" field') for key in given)
        if self.pattern and action not in ("delete", "hash", "extract"):
            yield "pattern", f'Action "{action}" does not use the "pattern" field'
        if self.converted_type and action != "convert":
            yield "converted_type", f'Action "{action}" does not use the "converted_type" field'
        if action == "convert" and self.converted_type not in TYPES:
            yield "converted_type", f'Field "converted_type" must be one of {", ".join(TYPES)}'
        if action == "extract":
            yield from self._wrong_groups()

    def _wrong_groups(self) -> Iterator[tuple[str, str]]:
        if not self.pattern:
            yield "pattern", 'Action "extract" needs the field "pattern"'
        elif not problem_of(self.pattern):
            names = group_names(compiled(self.pattern))
            if not names:
                yield "pattern", 'Field "pattern" contains no named matcher groups'
            elif not all(names):
                yield "pattern", 'Field "pattern" contains at least one unnamed matcher group'


def changer(actions: Sequence[Action]) -> Callable[[Attributes], Working]:
    """All of `actions`, as one function from attributes to the changed ones."""
    changes = [_change(action) for action in actions]

    def change(attributes: Attributes) -> Working:
        working = dict(attributes)
        for one in changes:
            one(working)
        return working

    return change


def _change(action: Action) -> Change:
    verb = action.action.lower()
    if verb in SETTING:
        return _set(action, missing=verb != "update", present=verb != "insert")
    if verb == "delete":
        return _each(action, lambda attributes, key: attributes.pop(key, None))
    if verb == "hash":
        return _each(action, _hash)
    return _extract(action) if verb == "extract" else _convert(action)


def _set(action: Action, *, missing: bool, present: bool) -> Change:
    key, source, fallback = action.key, action.from_attribute, action.default_value

    def change(attributes: Working) -> None:
        value = action.value if action.value is not None else attributes.get(source)
        value = fallback if value is None else value
        if value is not None and (present if key in attributes else missing):
            attributes[key] = value

    return change


def _each(action: Action, apply: Callable[[Working, str], object]) -> Change:
    search = compiled(action.pattern).search if action.pattern else None

    def change(attributes: Working) -> None:
        for name in list(attributes):
            if name == action.key or (search is not None and search(name)):
                apply(attributes, name)

    return change


def _hash(attributes: Working, key: str) -> None:
    data = _bytes(attributes[key])
    attributes[key] = hashlib.sha256(data).hexdigest() if data else ""


def _bytes(value: AttributeValue) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return bytes([value])
    return struct.pack("<d" if isinstance(value, float) else "<q", value)


def _extract(action: Action) -> Change:
    pattern = compiled(action.pattern)
    names = group_names(pattern)

    def change(attributes: Working) -> None:
        value = attributes.get(action.key)
        match = pattern.search(value) if isinstance(value, str) else None
        if match is not None:
            attributes.update((name, match.group(index) or "") for index, name in enumerate(names, 1))

    return change


def _convert(action: Action) -> Change:
    def change(attributes: Working) -> None:
        if action.key in attributes:
            attributes[action.key] = _converted(attributes[action.key], action.converted_type)

    return change


def _converted(value: AttributeValue, wanted: str) -> AttributeValue:
    """`value` as the type wanted, or unchanged where it cannot be that."""
    if wanted == "string":
        return text_of(value)
    if isinstance(value, str) and ("_" in value or value != value.strip()):  # Python's taste, not Go's
        return value
    try:
        return int(value) if wanted == "int" else float(value)
    except (ValueError, OverflowError):
        return value
