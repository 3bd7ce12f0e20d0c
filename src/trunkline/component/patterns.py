"""Regular expressions as Go has them: RE2, loaded only by a configuration that has patterns (3 MB)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Protocol, TypeAlias, cast

Matches: TypeAlias = Callable[[str], bool]

_REFERENCE: Final = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>\w+)\}|(?P<plain>\w+))", re.ASCII)


class Match(Protocol):
    """Where a pattern was found."""

    def group(self, index: int, /) -> str | None: ...


class Pattern(Protocol):
    """A compiled pattern; `search` looks anywhere in the text."""

    @property
    def groups(self) -> int: ...

    @property
    def groupindex(self) -> Mapping[str, int]: ...

    def search(self, text: str, /) -> Match | None: ...


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Pattern:
    """`pattern` ready for use. Raises ValueError with RE2's words."""
    import re2  # noqa: PLC0415

    options = re2.Options()
    options.log_errors = False
    try:
        return cast("Pattern", re2.compile(pattern, options))
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"error parsing regexp: {reason} in {pattern!r}; RE2 syntax is expected") from None


def problem_of(pattern: str) -> str:
    """What is wrong with `pattern`, empty if nothing is."""
    try:
        compiled(pattern)
    except ValueError as error:
        return str(error)
    return ""


def searcher(pattern: str) -> Matches:
    """Whether `pattern` is found anywhere in a text."""
    search = compiled(pattern).search
    return lambda text: search(text) is not None


def group_names(pattern: Pattern) -> list[str]:
    """The names of the pattern's groups in order, empty for those that have none."""
    names = {index: name for name, index in pattern.groupindex.items()}
    return [names.get(index, "") for index in range(1, pattern.groups + 1)]


def expand(template: str, pattern: Pattern, match: Match) -> str:
    """`template` with `$1`, `${1}`, `$name` and `${name}` replaced as Go's `Regexp.Expand` does.

    The longest word after `$` is the name, so `$1x` is the group `1x`; unknown groups are empty; `$$` is a dollar.
    """

    def value(reference: re.Match[str]) -> str:
        if reference["dollar"]:
            return "$"
        name = reference["braced"] or reference["plain"]
        index = int(name) if name.isdecimal() else pattern.groupindex.get(name, -1)
        return (match.group(index) or "") if 0 <= index <= pattern.groups else ""

    return _REFERENCE.sub(value, template)
