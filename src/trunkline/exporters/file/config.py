"""The settings of the `file` exporter, as the OpenTelemetry Collector has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trunkline.component.settings import setting
from trunkline.quantities import Duration

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context

DEFAULT_MODE: Final = "0755"


@dataclass(frozen=True, kw_only=True)
class RotationConfig:
    """When a file is full, it is renamed and a new one begun."""

    max_megabytes: int = setting(default=100, doc="Size in MiB from which a new file is begun.")
    max_days: int = setting(default=0, doc="Days old files are kept; 0 keeps them.")
    max_backups: int = setting(default=100, doc="How many old files are kept; 0 keeps all.")
    localtime: bool = setting(default=False, doc="Names old files by local time instead of UTC.")

    def check(self) -> Iterator[tuple[str, str]]:
        for name in ("max_megabytes", "max_days", "max_backups"):
            if getattr(self, name) < 0:
                yield name, "must not be negative"


@dataclass(frozen=True, kw_only=True)
class GroupByConfig:
    """One file for each value of a resource attribute."""

    enabled: bool = setting(default=False, doc="Whether files are written by attribute; not supported.")
    resource_attribute: str = setting(default="fileexporter.path_segment", doc="Which attribute.")
    max_open_files: int = setting(default=100, doc="How many files are open at a time.")


@dataclass(frozen=True, kw_only=True)
class FileConfig:
    """Writes samples to a file, as lines of OTLP JSON."""

    path: str = setting(doc="The file.")
    append: bool = setting(default=False, doc="Whether what is in the file stays.")
    rotation: RotationConfig | None = setting(
        default=None, doc="When a new file is begun; never when left out."
    )
    format: str = setting(default="json", doc="Only `json`.")
    compression: str = setting(default="", doc="Only none.")
    flush_interval: Duration = setting(
        default=1.0, doc="How long lines wait in memory before they are written."
    )
    create_directory: bool = setting(
        default=False, doc="Whether the folder is made at the start if it is missing."
    )
    directory_permissions: str = setting(
        default="", doc=f"Its permissions, in octal; `{DEFAULT_MODE}` when empty."
    )
    group_by: GroupByConfig = setting(default_factory=GroupByConfig, doc="Files by attribute; not supported.")
    encoding: Any = setting(default=None, doc="An extension that encodes; not supported.")

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.path:
            yield "path", "path must be non-empty"
        if self.append and self.rotation is not None:
            yield "append", "append and rotation enabled at the same time is not supported"
        if self.flush_interval < 0:
            yield "flush_interval", "flush_interval must be larger than zero"
        if self.rotation is not None:
            yield from ((f"rotation::{name}", message) for name, message in self.rotation.check())
        yield from self._check_form()
        yield from self._check_permissions()

    def _check_form(self) -> Iterator[tuple[str, str]]:
        if self.format == "proto":
            yield "format", "proto is not supported; write json"
        elif self.format != "json":
            yield "format", "format type is not supported; write json"
        if self.compression == "zstd":
            yield "compression", "zstd is not supported: the collector brings no zstd; take the key out"
        elif self.compression:
            yield "compression", "compression is not supported"
        if self.group_by.enabled:
            yield "group_by::enabled", "is not supported: write one exporter for each file"
        if self.encoding is not None:
            yield "encoding", "is not supported: there are no such extensions; take the key out"

    def _check_permissions(self) -> Iterator[tuple[str, str]]:
        if not self.directory_permissions:
            return
        if not self.create_directory:
            yield "directory_permissions", "directory_permissions requires create_directory to be true"
        elif not re.fullmatch("[0-7]+", self.directory_permissions):
            yield "directory_permissions", "directory_permissions value must be a valid octal representation"
        elif int(self.directory_permissions, 8) > 0o777:
            yield "directory_permissions", "directory_permissions contain invalid bits for file access"

    @property
    def directory_mode(self) -> int:
        return int(self.directory_permissions or DEFAULT_MODE, 8)

    def build(self, context: Context) -> Consumer:
        from trunkline.exporters.file.exporter import FileExporter  # noqa: PLC0415

        return FileExporter(self, context)
