"""The JSON schema of `fleet.yaml`, for editors, made from the declarations.

`trunkline fleet schema` prints it, and examples/fleet.schema.json is what it prints. JSON Schema 2020-12.
"""

from __future__ import annotations

import json
import types
from dataclasses import is_dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from trunkline.component.settings import Lenient, Setting, settings_of
from trunkline.fleet.declarations import AtLeast, FleetSettings, Form
from trunkline.quantities import Quantity

Json = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_SCALARS: Final[dict[type, str]] = {str: "string", bool: "boolean", int: "integer", float: "number"}
_DURATION: Final = r"^0$|^([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"
_SIZE: Final = r"^[0-9]+(\.[0-9]+)?([KMGT]i?)?B$"


def fleet_schema() -> Json:
    """The schema as a document."""
    definitions: dict[str, Json] = {}
    root = _object(FleetSettings, definitions)
    return {
        "$schema": DIALECT,
        "title": "A Trunkline fleet",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """The schema as it is written to a file."""
    return json.dumps(fleet_schema(), indent=2, ensure_ascii=False) + "\n"


def _object(config: type, definitions: dict[str, Json]) -> Json:
    settings = settings_of(config)
    found: Json = {
        "description": (config.__doc__ or "").strip().partition("\n")[0],
        "type": "object",
        "additionalProperties": False,
        "properties": {key: _property(setting, definitions) for key, setting in settings.items()},
    }
    required = [key for key, setting in settings.items() if setting.required]
    return {**found, "required": required} if required else found


def _property(setting: Setting, definitions: dict[str, Json]) -> Json:
    found = {"description": setting.doc, **_value(setting.type, definitions)}
    default = None if setting.required else _default(setting)
    return found if default is None else {**found, "default": default}


def _default(setting: Setting) -> Any:
    """The default where there is something to show."""
    value = setting.default()
    if is_dataclass(value) or value in (None, "", (), {}):
        return None
    quantity = next((mark for mark in get_args(setting.type) if isinstance(mark, Quantity)), None)
    if quantity:
        return quantity.format(value) if value else None
    return list(value) if isinstance(value, tuple) else value


def _value(hint: Any, definitions: dict[str, Json]) -> Json:
    origin, members = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(members[0], members[1:], definitions)
    if origin is Literal:
        return {"enum": list(members)}
    if origin in (Union, types.UnionType):
        return _value(next(one for one in members if one is not types.NoneType), definitions)
    if origin is tuple:
        return {"type": "array", "items": _value(members[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _value(members[1], definitions)}
    return _reference(hint, definitions) if is_dataclass(hint) else {"type": _SCALARS[hint]}


def _reference(config: Any, definitions: dict[str, Json]) -> Json:
    name = config.__name__.removesuffix("Settings")
    if name not in definitions:
        definitions[name] = {}  # before what is below, which may refer to it
        definitions[name] = _object(config, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _annotated(wanted: Any, marks: tuple[Any, ...], definitions: dict[str, Json]) -> Json:
    found = _value(wanted, definitions)
    for mark in marks:
        if isinstance(mark, Lenient):
            found = {**found, "type": ["string", "number", "boolean"]}
        elif isinstance(mark, Form):
            found = {**found, "type": "string", "pattern": mark.pattern}
            if mark.numbers:
                least, most = mark.numbers
                found = {**found, "type": ["string", "integer"], "minimum": least, "maximum": most}
        elif isinstance(mark, AtLeast):
            found = {**found, "minimum": mark.least}
        elif isinstance(mark, Quantity):
            pattern = _SIZE if mark.name == "size" else _DURATION
            found = {"type": "string", "pattern": pattern, "examples": [mark.example]}
    return found
