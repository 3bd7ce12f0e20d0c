"""Takes samples from the pipelines, and shows the latest to whoever fetches them."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

from trunkline.errors import ConfigError, Problem, TrunklineError
from trunkline.exporters.prometheus.certificates import context_of
from trunkline.exporters.prometheus.exposition import Exposition
from trunkline.exporters.prometheus.latest import LatestSamples
from trunkline.exporters.prometheus.negotiation import format_for, wants_gzip
from trunkline.net.message import Response
from trunkline.net.server import Negotiated, serve

if TYPE_CHECKING:
    from trunkline.component.contract import Context, Inlet
    from trunkline.exporters.prometheus.config import PrometheusExporterConfig
    from trunkline.exporters.prometheus.text import Format
    from trunkline.model import Table

log = logging.getLogger(__name__)

PATH: Final = "/metrics"
GZIP_LEVEL: Final = 1
"""The fastest, because everything else waits while a body is compressed."""
TOLD_TEXTS: Final = 1000
"""How many different explanations are logged before it would be too much."""


class PrometheusExporter:
    """A consumer that the host enters: it listens while entered, and takes samples always."""

    def __init__(
        self,
        config: PrometheusExporterConfig,
        context: Context,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.exposition = Exposition(
            openmetrics=config.enable_open_metrics, send_timestamps=config.send_timestamps
        )
        self.monotonic = monotonic
        self.address: tuple[str, int] = ("", 0)
        """Where it listens."""
        self._name = str(context.id)
        self._metrics = context.metrics
        self._inlets: list[LatestSamples] = []
        self._bodies: dict[Format, bytes] = {}
        self._told: set[str] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to listen. Raises ConfigError when that is not possible."""
        host, port = self.config.address
        try:
            tls = context_of(self.config.tls) if self.config.tls is not None else None
            listening = serve(host, port, {PATH: Negotiated(self.answer)}, tls=tls)
            server = await self._stack.enter_async_context(listening)
        except TrunklineError as error:
            raise ConfigError([Problem("", f"exporters::{self._name}::endpoint", str(error))]) from error
        self.address = server.address
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    def open(self, table: Table) -> Inlet:
        del table  # its series come with every batch
        inlet = LatestSamples(self)
        self._inlets.append(inlet)
        return inlet

    def answer(self, headers: Mapping[str, str]) -> Response:
        """Everything there is to show, as a client with these request headers wants it."""
        wanted = format_for(headers.get("accept", ""), openmetrics=self.config.enable_open_metrics)
        said = {name.lower(): value for name, value in self.config.response_headers.items()}
        said |= {"content-type": wanted.content_type, "vary": "accept, accept-encoding"}
        body = self._body(wanted)
        if wants_gzip(headers.get("accept-encoding", "")):
            said["content-encoding"] = "gzip"
            body = _gzip(body)
        return Response(200, "OK", said, body)

    def _body(self, wanted: Format) -> bytes:
        """Kept for the next client as long as nothing comes or expires."""
        now_s = self.monotonic()
        for inlet in self._inlets:
            inlet.expire(now_s - self.config.metric_expiration)
        body = self._bodies.get(wanted)
        if body is None:
            body = self._bodies[wanted] = self.exposition.render(wanted, now_s).encode(errors="replace")
        return body

    def changed(self) -> None:
        """What is shown has changed."""
        self._bodies.clear()

    def closed(self, inlet: LatestSamples) -> None:
        """Nothing comes through `inlet` any more."""
        self._inlets.remove(inlet)
        self.changed()

    def refused(self, reason: str, why: str) -> None:
        """Count and log, once, that a series is not shown."""
        self._metrics.refused.add(1, self._name, reason)
        if why not in self._told and len(self._told) < TOLD_TEXTS:
            self._told.add(why)
            log.warning("%s: a series is not shown: %s", self._name, why)


def _gzip(body: bytes) -> bytes:
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()
