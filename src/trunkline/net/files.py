"""Secrets and certificates in files that others replace while we run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from trunkline.errors import FetchError

Fingerprint: TypeAlias = tuple[int, int, int] | None


def fingerprint(path: str | PathLike[str]) -> Fingerprint:
    """What changes when a file is written or replaced; None when it cannot be looked at. About 2 µs."""
    try:
        found = os.stat(path)  # noqa: PTH116 (Path.stat costs three times as much, for each request)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass(slots=True)
class _Kept:
    seen: Fingerprint = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Secret:
    """A text written in the configuration, or a file that holds it; at most one of both.

    The file is read when first needed and again when it has changed. White space around its text is not part of it.
    """

    text: str = field(default="", repr=False)
    file: str = ""
    _kept: _Kept = field(default_factory=_Kept, init=False, repr=False, compare=False)

    def read(self) -> str:
        """The text as of now; empty if there is neither. Raises FetchError, naming the file."""
        if not self.file:
            return self.text
        seen = fingerprint(self.file)
        if seen is None or seen != self._kept.seen:
            self._kept.text = self._load()
            self._kept.seen = seen
        return self._kept.text

    def _load(self) -> str:
        try:
            return Path(self.file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise FetchError(
                f"cannot read {self.file}: {why}; the file must be there and readable for the collector"
            ) from None
