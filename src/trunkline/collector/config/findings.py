"""What is found while a configuration is read: problems that refuse it, warnings that do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trunkline.collector.config.nodes import Place
from trunkline.errors import ConfigError, Problem

Found = tuple[Place, Problem]

SHORT_LIST = 10
"""Up to so many valid keys are listed in full."""


class Findings:
    """Collects problems and warnings, and puts them in the order of the sources."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._problems: list[Found] = []
        self._warnings: list[Found] = []

    def __len__(self) -> int:
        """How many problems there are."""
        return len(self._problems)

    def source(self, file: str) -> None:
        """Take note that `file` comes next."""
        self._files.setdefault(file, len(self._files))

    def problem(self, place: Place, path: str, message: str, remedy: str = "") -> None:
        """Something for which the configuration is refused."""
        self._problems.append((place, Problem(str(place), path, message, remedy)))

    def warning(self, place: Place, path: str, message: str, remedy: str = "") -> None:
        """Something to tell, for which the configuration is not refused."""
        self._warnings.append((place, Problem(str(place), path, message, remedy)))

    def warnings(self) -> tuple[Problem, ...]:
        """All warnings by place, each once."""
        return self._sorted(self._warnings)

    def raise_problems(self) -> None:
        """Raise ConfigError if there are problems, with all of them by place."""
        if self._problems:
            raise ConfigError(self._sorted(self._problems))

    def _sorted(self, found: Iterable[Found]) -> tuple[Problem, ...]:
        def order(one: Found) -> tuple[int, int, int]:
            place = one[0]
            return self._files.get(place.file, len(self._files)), place.line, place.column

        return tuple(dict.fromkeys(problem for _, problem in sorted(found, key=order)))


def nearest(word: str, valid: Sequence[str]) -> str:
    """A remedy that names the one of `valid` that `word` looks like, or an empty string."""
    import difflib  # noqa: PLC0415 (only needed when something is wrong)

    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""


def suggestion(word: str, valid: Sequence[str], noun: str) -> str:
    """A remedy for a word that is none of `valid`: the nearest one, and all of them when they are few."""
    listed = f"{noun}: {', '.join(valid) or 'none'}" if len(valid) <= SHORT_LIST else ""
    return " ".join(part for part in (nearest(word, valid), listed) if part)
