"""Ids of components and pipelines: `type` or `type/name` (components.md 7.3)."""

from __future__ import annotations

import re
from typing import Final

from trunkline.component.contract import ComponentId

SIGNALS: Final = ("metrics", "traces", "logs", "profiles")
_TYPE: Final = re.compile(r"[a-zA-Z][0-9a-zA-Z_]{0,62}")
_LONGEST_NAME: Final = 1024


def parse_id(text: str) -> ComponentId:
    """The id written as `text`; spaces around both parts do not count. Raises ValueError with the collector's words."""
    kind, slash, name = text.partition("/")
    kind, name = kind.strip(), name.strip()
    if not kind:
        raise ValueError(
            f'in "{text}" id: the part before / should not be empty' if slash else "id must not be empty"
        )
    if slash and not name:
        raise ValueError(f'in "{text}" id: the part after / should not be empty')
    if not _TYPE.fullmatch(kind):
        raise ValueError(f'in "{text}" id: invalid character(s) in type "{kind}"')
    if len(name) > _LONGEST_NAME:
        raise ValueError(
            f'in "{kind}/…" id: name is longer than {_LONGEST_NAME} characters ({len(name)} characters)'
        )
    if any(map(_is_forbidden, name)):
        raise ValueError(f'in "{text}" id: invalid character(s) in name "{name}"')
    return ComponentId(kind, name)


def _is_forbidden(character: str) -> bool:
    """White space, control characters and symbols, by Unicode's categories."""
    if character.isalnum():
        return False
    import unicodedata  # noqa: PLC0415 (rarely needed)

    return unicodedata.category(character)[0] in "ZCS"
