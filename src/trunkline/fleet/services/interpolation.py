"""`${VAR}` in a compose file (Compose specification, "Interpolation")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS: Final = (":-", "-", ":?", "?", ":+", "+")


class InterpolationError(ValueError):
    """Text that cannot be expanded; says why."""


def interpolate(text: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text with variables put in, and the names of those that are not set and have no default.

    `$$` is a dollar sign. Raises InterpolationError for what is not closed or named, and where `${VAR:?why}` says so.
    """
    return _Expansion(environment).expand(text)


class _Expansion:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._missing: list[str] = []

    def expand(self, text: str) -> tuple[str, list[str]]:
        return self._text(text), self._missing

    def _text(self, text: str) -> str:
        parts, position = [], 0
        while (dollar := text.find("$", position)) >= 0:
            parts.append(text[position:dollar])
            value, position = self._reference(text, dollar + 1)
            parts.append(value)
        return "".join([*parts, text[position:]])

    def _reference(self, text: str, start: int) -> tuple[str, int]:
        """What stands behind a dollar sign, and where the text goes on."""
        if text.startswith("$", start):
            return "$", start + 1
        if text.startswith("{", start):
            end = _closing(text, start)
            return self._braced(text[start + 1 : end]), end + 1
        name = _NAME.match(text, start)
        if not name:
            raise InterpolationError(f"a dollar sign in {text!r} is not followed by a variable's name")
        return self._value(name[0]), name.end()

    def _braced(self, inner: str) -> str:
        name = _NAME.match(inner)
        if not name:
            raise InterpolationError(f"${{{inner}}} names no variable")
        rest = inner[name.end() :]
        if not rest:
            return self._value(name[0])
        operator = next((one for one in _OPERATORS if rest.startswith(one)), None)
        if operator is None:
            raise InterpolationError(f"${{{inner}}} is not a variable with a default")
        return self._with(name[0], operator, rest[len(operator) :])

    def _with(self, name: str, operator: str, word: str) -> str:
        value = self._environment.get(name)
        there = bool(value) if operator.startswith(":") else value is not None
        if operator.endswith("+"):
            return self._text(word) if there else ""
        if there:
            return value or ""
        if operator.endswith("?"):
            raise InterpolationError(f"{name} is not set: {word or 'it is required'}")
        return self._text(word)

    def _value(self, name: str) -> str:
        if name not in self._environment:
            self._missing.append(name)
        return self._environment.get(name, "")


def _closing(text: str, start: int) -> int:
    """Where the brace at `start` is closed."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if not depth:
                return position
    raise InterpolationError(f"{text!r} has a ${{ that is not closed")
