"""The reference of every component's settings as Markdown, made from their declarations.

`python -m trunkline.collector.config.reference` prints it; docs/configuration.md is what it prints.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum
from itertools import groupby
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

from trunkline import components
from trunkline.collector.config.service import Telemetry
from trunkline.component.settings import Setting, settings_of
from trunkline.quantities import Quantity

_HEAD: Final = """\
# Settings

Every component, and every key it knows. A key that is not here is refused when the collector starts, with its line and
the nearest one there is. `[]` is an item of a list, `<name>` a name of your own. A key *without effect* and a
*deprecated* one are accepted with a warning that says so.

This page is generated from the settings' declarations: `python -m trunkline.collector.config.reference`. What differs
from the AWS Distro for OpenTelemetry and from Prometheus is in [compatibility](compatibility.md).
"""
_TITLES: Final = {
    "receivers": "Receivers",
    "processors": "Processors",
    "exporters": "Exporters",
    "extensions": "Extensions",
}
_SMALL: Final = 4
"""A section of at most so many keys stands in the table of the one it belongs to."""
_MERGED: Final = 3
"""From so many keys in a row on that have the same words, they share one row."""


class _Row(NamedTuple):
    key: str
    default: str
    meaning: str


class _Section(NamedTuple):
    """A config dataclass inside others, and the first key it is found under."""

    config: type
    key: str
    title: str


def render() -> str:
    """The whole page."""
    parts = [_HEAD]
    for kind in components.KINDS:
        parts.append(f"## {_TITLES[kind]}\n")
        shown: dict[type, str] = {}
        parts += [_component(names, config, shown) for names, config in _by_config(kind)]
    parts += ["## Service\n", _component(("service::telemetry",), Telemetry, {})]
    return "\n".join(parts)


def _by_config(kind: str) -> list[tuple[Sequence[str], type]]:
    """Every config of a kind with all the names it goes by, the usual one first; one made of another follows it."""
    found: dict[type, list[str]] = {}
    for name in components.names(kind):
        config = components.config_type(kind, name)
        assert config is not None
        found.setdefault(config, []).append(name)
    made_of = {config: [base for base in config.__mro__ if base in found] for config in found}
    ordered = sorted(found, key=lambda config: (found[made_of[config][-1]], len(made_of[config])))
    return [(sorted(found[config], key=lambda name: "_" in name), config) for config in ordered]


def _component(names: Sequence[str], config: type, shown: dict[type, str]) -> str:
    title = " or ".join(f"`{name}`" for name in names)
    page = _Page(names[0], shown)
    lines = [f"### {title}\n", f"{_summary(config)}\n", *page.table(config, title)]
    for section in page.sections():
        lines += [
            f"#### {section.title}\n",
            f"{_summary(section.config)}\n",
            *page.table(section.config, section.title),
        ]
    return "\n".join(lines)


class _Page:
    """The tables of one component: its own, and one for each larger section, where it is found first.

    `shown` are the configs that have a table already, with its title: what is made of one refers to it.
    """

    def __init__(self, component: str, shown: dict[type, str]) -> None:
        self._component = component
        self._shown = shown
        self._title = ""
        self._known: dict[type, _Section] = {}
        self._queue: list[_Section] = []

    def sections(self) -> Iterator[_Section]:
        while self._queue:
            yield self._queue.pop(0)

    def table(self, config: type, title: str) -> list[str]:
        self._title = title
        rows = list(self._rows_of_bases(config)) + list(_merged(list(self._rows(config, ""))))
        if not rows:
            return ["No settings.\n"]
        lines = [f"| {row.key} | {row.default} | {row.meaning} |" for row in rows]
        return ["| key | default | meaning |", "| --- | --- | --- |", *lines, ""]

    def _rows_of_bases(self, config: type) -> Iterator[_Row]:
        """One row for all the settings that are those of a table further up."""
        for base, title in self._bases(config).items():
            keys = ", ".join(f"`{key}`" for key in settings_of(base))
            yield _Row(keys, "", f"As in [{title}](#{_anchor(title)}).")

    def _bases(self, config: type) -> dict[type, str]:
        """What `config` is made of that has a table; not what those are made of."""
        found = {base: self._shown[base] for base in config.__mro__[1:] if base in self._shown}
        return {
            base: title
            for base, title in found.items()
            if not any(base is not other and issubclass(other, base) for other in found)
        }

    def _rows(self, config: type, prefix: str) -> Iterator[_Row]:
        known = {key for base in self._bases(config) for key in settings_of(base)}
        for base in config.__mro__:
            if dataclasses.is_dataclass(base):
                self._shown.setdefault(base, self._title)
        for setting in settings_of(config).values():
            if setting.key in known:
                continue
            key = f"{prefix}{setting.key}"
            inner, suffix = _inner(setting.type)
            if inner is None or setting.ignored:
                yield _Row(f"`{key}`", _default(setting), _meaning(setting))
            elif len(settings_of(inner)) <= _SMALL:
                yield from self._rows(inner, f"{key}{suffix}::")
            else:
                section = self._section(inner, f"{key}{suffix}")
                where = f"[{section.title}](#{_anchor(section.title)})"
                yield _Row(f"`{key}{suffix}`", _default(setting), f"{_meaning(setting)} See {where}.")

    def _section(self, config: type, key: str) -> _Section:
        if config not in self._known:
            section = _Section(config, key, f"{self._component}: {key}")
            self._known[config] = section
            self._queue.append(section)
        return self._known[config]


def _merged(rows: Sequence[_Row]) -> Iterator[_Row]:
    for (default, meaning), group in groupby(rows, lambda row: (row.default, row.meaning)):
        members = list(group)
        if len(members) < _MERGED:
            yield from members
        else:
            yield _Row(", ".join(row.key for row in members), default, meaning)


def _meaning(setting: Setting) -> str:
    words = _choices(setting.type)
    parts = [] if setting.ignored and setting.doc.startswith("No effect") else [setting.doc]
    if words and not any(f"`{word}`" in setting.doc for word in words):
        parts.append("One of " + ", ".join(f"`{word}`" for word in words) + ".")
    if setting.ignored:
        parts.append(f"*Without effect*: {setting.ignored}.")
    if setting.deprecated:
        parts.append(f"*Deprecated*: {setting.deprecated}.")
    return _cell(" ".join(parts))


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    text = _written(setting.default(), setting.type)
    return _cell(f"`{text}`") if text else ""


def _written(value: Any, hint: Any) -> str:
    """A default as YAML; empty for what is the same as leaving the key out."""
    if value is None or value == "" or dataclasses.is_dataclass(value):
        return ""
    if isinstance(value, Mapping | list | tuple):
        return "[" + ", ".join(_written(one, Any) for one in value) + "]" if value else ""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if quantity := _quantity(hint):
        return quantity.format(value) if value else "0"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quantity(hint: Any) -> Quantity | None:
    if get_origin(hint) is Annotated:
        return next((mark for mark in get_args(hint)[1:] if isinstance(mark, Quantity)), None)
    found = map(_quantity, get_args(hint)) if _is_union(hint) else ()
    return next((quantity for quantity in found if quantity is not None), None)


def _choices(hint: Any) -> list[str]:
    """The words a setting may have, where they are few and fixed."""
    if get_origin(hint) is Literal:
        return [str(word) for word in get_args(hint) if word not in ("", None)]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return [str(member.value) for member in hint if member.value != ""]
    if _is_union(hint) or get_origin(hint) in (list, tuple):
        found = [_choices(member) for member in get_args(hint)]
        return next((words for words in found if words), [])
    return []


def _inner(hint: Any) -> tuple[type | None, str]:
    """The config dataclass a setting holds, alone or many of it, and how that is written behind the key."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint, ""
    origin, members = get_origin(hint), get_args(hint)
    if _is_union(hint):
        found = [_inner(member) for member in members]
        return next((one for one in found if one[0] is not None), (None, ""))
    if origin in (list, tuple, Sequence, Collection) and members:
        inner, suffix = _inner(members[0])
        return inner, f"[]{suffix}"
    if origin in (dict, Mapping):
        inner, suffix = _inner(members[1])
        return inner, f"::<name>{suffix}"
    return None, ""


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _summary(config: type) -> str:
    return (config.__doc__ or "").strip().partition("\n")[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _anchor(title: str) -> str:
    """What a heading is called in a link, as GitHub makes it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


if __name__ == "__main__":
    sys.stdout.write(render())
