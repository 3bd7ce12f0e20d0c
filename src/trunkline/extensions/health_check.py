"""Where the collector's health is shown; the host serves it, on 127.0.0.1:13133 when this is not configured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from trunkline.component.settings import setting

if TYPE_CHECKING:
    from trunkline.component.contract import Context, Extension


@dataclass(frozen=True, kw_only=True)
class HealthCheckConfig:
    """Answers 200 while the collector runs, else 503."""

    endpoint: str = setting(default="localhost:13133", doc="`host:port` to listen on.")
    path: str = setting(default="/", doc="Path that is asked; every path answers.")

    def check(self) -> Iterator[tuple[str, str]]:
        _, separator, port = self.endpoint.rpartition(":")
        if not separator or not port.isdecimal() or int(port) > 65535:
            yield "endpoint", f"{self.endpoint!r} is not host:port, such as localhost:13133"
        if not self.path.startswith("/"):
            yield "path", f"{self.path!r} is not a path, such as /"

    def build(self, context: Context) -> Extension:
        del context
        return HealthCheck(self.endpoint, self.path)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Tells the host where to serve its health."""

    endpoint: str
    path: str

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None
