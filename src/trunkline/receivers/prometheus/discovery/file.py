"""`file_sd_configs`: target groups in JSON or YAML files, read again when they change."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trunkline.component.schedule import Clock
from trunkline.component.settings import setting
from trunkline.net.files import Fingerprint, fingerprint
from trunkline.quantities import PrometheusDuration
from trunkline.receivers.prometheus.discovery.groups import TargetGroup, Trouble, groups_of

if TYPE_CHECKING:
    from yaml import SafeLoader

LOOK_EVERY_S: Final = 1.0
"""How often the files are looked at; they are read only when something has changed."""

_NAME: Final = re.compile(r"[^*]*(?:\*[^/]*)?\.(?:json|yml|yaml|JSON|YML|YAML)")


@dataclass(frozen=True, kw_only=True)
class FileSdConfig:
    """Targets listed in files."""

    files: list[str] = setting(
        default_factory=list, doc="Paths ending in .json, .yml or .yaml; one `*` may stand in the last part."
    )
    refresh_interval: PrometheusDuration = setting(
        default=300.0, doc="How often they are read even if nothing seems to have changed."
    )

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.files:
            yield "files", "file service discovery config must contain at least one path name"
        for index, name in enumerate(self.files):
            if not _NAME.fullmatch(name):
                yield f"files::{index}", f'path name "{name}" is not valid for file discovery'
        if self.refresh_interval <= 0:
            yield "refresh_interval", "must be greater than zero, such as 5m"


class FileDiscovery:
    """Reads the files of one section; one that cannot be read keeps the targets it had."""

    def __init__(self, config: FileSdConfig) -> None:
        self._patterns = config.files
        self._interval_s = config.refresh_interval
        self._known: dict[str, list[TargetGroup]] = {}
        self._troubles: dict[str, Trouble] = {}

    async def updates(self, clock: Clock) -> AsyncIterator[Sequence[TargetGroup]]:
        seen: dict[str, Fingerprint] | None = None
        read_s = 0.0
        while True:
            found = {path: fingerprint(path) for path in self._paths()}
            if found != seen or clock.monotonic() - read_s >= self._interval_s:
                seen, read_s = found, clock.monotonic()
                self._read(found)
                yield [group for groups in self._known.values() for group in groups]
            await clock.sleep(min(LOOK_EVERY_S, self._interval_s))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _paths(self) -> list[str]:
        found = (sorted(glob.glob(pattern, include_hidden=True)) for pattern in self._patterns)  # noqa: PTH207 (paths as written)
        return list(dict.fromkeys(path for paths in found for path in paths))

    def _read(self, paths: Sequence[str] | dict[str, Fingerprint]) -> None:
        before, self._known = self._known, {}
        for path in paths:
            trouble = self._troubles.setdefault(path, Trouble(f"the targets file {path} cannot be read"))
            try:
                self._known[path] = _groups(path)
            except (OSError, ValueError) as error:
                trouble.began(error)
                self._known[path] = before.get(path, [])
            else:
                trouble.ended()
        for gone in self._troubles.keys() - self._known.keys():
            del self._troubles[gone]


def _groups(path: str) -> list[TargetGroup]:
    """What a file holds; raises OSError or ValueError."""
    text, extra = Path(path).read_text(encoding="utf-8"), {"__meta_filepath": path}
    if path.lower().endswith(".json"):
        return groups_of(json.loads(text), extra, any_case=True)
    import yaml  # noqa: PLC0415 (loaded already where the configuration was a file)

    try:
        return groups_of(yaml.load(text, _texts()), extra)  # noqa: S506 (nothing but texts, nulls, lists and maps)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


@cache
def _texts() -> type[SafeLoader]:
    """How YAML is read: every scalar is a text, as it is written, but for null; a key stands once in a map."""
    from yaml import MappingNode, SafeLoader  # noqa: PLC0415
    from yaml.constructor import ConstructorError  # noqa: PLC0415

    class Texts(SafeLoader):
        def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key.value, str) and key.value in seen:
                    raise ConstructorError(
                        None, None, f'key "{key.value}" already set in map', key.start_mark
                    )
                seen.add(str(key.value))
            return super().construct_mapping(node, deep)

    Texts.yaml_implicit_resolvers = {}
    Texts.add_implicit_resolver(
        "tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]
    )
    Texts.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<\Z"), ["<"])
    return Texts
