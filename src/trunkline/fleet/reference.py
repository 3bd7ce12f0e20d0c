"""The reference of `fleet.yaml` as Markdown, made from the declarations.

`python -m trunkline.fleet.reference docs/fleet.md` writes it into the page, below what is written by hand; without a
file it is printed.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from trunkline.component.settings import Setting, settings_of
from trunkline.fleet.declarations import FleetSettings
from trunkline.quantities import Quantity

BEGIN: Final = "<!-- generated: python -m trunkline.fleet.reference docs/fleet.md -->\n"
"""The line in docs/fleet.md from which on it is generated."""


def render() -> str:
    """The whole reference, from its first line on."""
    sections: dict[type, str] = {FleetSettings: "fleet.yaml"}
    done: list[str] = []
    while len(done) < len(sections):
        config = list(sections)[len(done)]
        done.append("\n".join(_section(config, sections)))
    return BEGIN + "\n" + "\n".join(done)


def _section(config: type, sections: dict[type, str]) -> Iterator[str]:
    yield f"### {sections[config]}\n"
    yield f"{' '.join((config.__doc__ or '').split())}\n"
    yield "| key | default | meaning |"
    yield "| --- | --- | --- |"
    for key, setting in settings_of(config).items():
        inner, suffix = _inner(setting.type)
        meaning = setting.doc + _choices(setting)
        if inner:
            title = sections.setdefault(inner, f"{key}{suffix}")
            meaning += f" See [{title}](#{_anchor(title)})."
        yield f"| `{key}{suffix}` | {_default(setting)} | {meaning.replace('|', chr(92) + '|')} |"
    yield ""


def _inner(hint: Any) -> tuple[type | None, str]:
    """The settings that a key holds, alone or many of them, and how that is written behind the key."""
    if is_dataclass(hint) and isinstance(hint, type):
        return hint, ""
    origin, members = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _inner(members[0])
    if origin is tuple:
        return _inner(members[0])[0], "[]"
    if origin is dict:
        return _inner(members[1])[0], "::<name>"
    return None, ""


def _choices(setting: Setting) -> str:
    words = _literals(setting.type)
    return f" Some of {', '.join(f'`{word}`' for word in words)}." if words else ""


def _literals(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next(filter(None, map(_literals, get_args(hint))), ())


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    value = setting.default()
    if is_dataclass(value) or value in (None, "", (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    hint = setting.type
    quantity = next((mark for mark in get_args(hint) if isinstance(mark, Quantity)), None)
    if get_origin(hint) is Annotated and quantity:
        return f"`{quantity.format(value)}`" if value else ""
    return f"`[{', '.join(value)}]`" if isinstance(value, tuple) else f"`{value}`"


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower() if letter.isalnum() or letter in "-_")


def put_into(page: str) -> str:
    """A page whose end is the reference as it is now."""
    return page.partition(BEGIN)[0] + render()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(put_into(Path(name).read_text("utf-8")), encoding="utf-8")
    if not sys.argv[1:]:
        sys.stdout.write(render())
