"""The process around the pipelines: start, run, reload, drain, and show how it is doing."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from trunkline.aws.clock import ServerClock
from trunkline.aws.credentials import CredentialsFactory
from trunkline.aws.task_metadata import fetch_identity
from trunkline.collector.config import CollectorConfig
from trunkline.collector.pipelines import Assembly, build
from trunkline.collector.routes import lead_on
from trunkline.collector.sender import Sender
from trunkline.collector.takeover import Memories, Takeover, folder_of
from trunkline.component.admission import Admission, refused_samples
from trunkline.component.contract import ComponentId, Consumer, Context, Delivery
from trunkline.component.memory import MemoryCeiling, MemoryLimits, give_back
from trunkline.component.metrics import SelfMetrics
from trunkline.component.schedule import SystemClock
from trunkline.errors import ConfigError, FetchError, TrunklineError, UsageError
from trunkline.extensions.health_check import HealthCheck
from trunkline.model import Resource
from trunkline.net.client import ClientFactory
from trunkline.net.message import Response
from trunkline.net.server import Handler, Server, serve

log = logging.getLogger(__name__)

HEALTH_ADDRESS: Final = "127.0.0.1:13133"
LAST_SCRAPE_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the command line and the environment say about the process itself. Durations in seconds."""

    data_dir: Path
    take_over: tuple[Path, ...] = ()
    """Data directories of collectors that may be gone, or folders of them."""
    metrics_address: str | None = None
    health_address: str | None = None
    shutdown_timeout_s: float = 25.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a configuration was built to, and the credentials it uses."""

    assembly: Assembly
    credentials: CredentialsFactory


class Host:
    """Runs one configuration at a time until SIGTERM or SIGINT; SIGHUP reads it anew."""

    def __init__(
        self,
        read: Callable[[], CollectorConfig],
        settings: HostSettings,
        clients: ClientFactory,
        environment: Mapping[str, str],
    ) -> None:
        self._read = read
        self._settings = settings
        self._clients = clients
        self._environment = environment
        self._metrics = SelfMetrics()
        self._ceiling = MemoryCeiling(MemoryLimits.default())
        self._clock = ServerClock()
        self._estate: dict[str, object] = {}
        self._identity = Resource()
        self._started_s = time.time()
        self._healthy = False
        self._stop = asyncio.Event()
        self._ended = False
        self._memories = Memories()
        self._reload = asyncio.Event()

    async def run(self, config: CollectorConfig) -> None:
        """Run `config` until told to stop. Raises ConfigError or TrunklineError when it cannot be started."""
        self._listen_to_signals()
        self._identity = await self._find_identity()
        parts, previous = self._build(config), None
        self._ended = self._stop.is_set()
        while not self._ended:
            started = False
            try:
                async with self._running(parts):
                    started = True
                    replacement = await self._until_replaced(parts)
                    if replacement is not parts:
                        _end_diverted(parts.assembly, replacement.assembly.config)
            except Exception as error:
                if started or previous is None:
                    raise
                log.error("the new configuration cannot be started, back to the old one: %s", error)  # noqa: TRY400
                parts, previous = self._build(previous), None
            else:
                parts, previous = replacement, parts.assembly.config
                if (
                    not self._ended
                ):  # what replaces the old parts shall not be put behind the holes they leave
                    give_back()

    async def _until_replaced(self, parts: _Parts) -> _Parts:
        """Wait for a stop or for a new configuration that can be built; a wrong one changes nothing."""
        while True:
            await _first(self._stop, self._reload)
            if self._stop.is_set():
                return parts
            self._reload.clear()
            try:
                replacement = self._build(self._read())
            except (ConfigError, UsageError) as error:
                log.error("the new configuration is wrong, the old one stays:\n%s", error)  # noqa: TRY400
            else:
                log.info("new configuration read")
                return replacement

    def check(self, config: CollectorConfig) -> None:
        """Build every part of `config` and start none. Raises ConfigError with everything that is wrong."""
        self._build(config)

    def _build(self, config: CollectorConfig) -> _Parts:
        credentials = CredentialsFactory(self._clients, self._environment, clock=self._clock)

        def lend(id_: ComponentId) -> Context:
            return Context(
                id=id_,
                metrics=self._metrics,
                clients=self._clients,
                credentials=credentials,
                identity=self._identity,
                environment=self._environment,
                memory=self._ceiling,
                estate=self._estate,
            )

        return _Parts(build(config, lend, self._sender, self._guard, self._lose), credentials)

    def _lose(self, name: str, samples: int) -> None:
        self._metrics.refused.add(samples, name, "failed")

    def _guard(self, pipeline: str, head: Consumer) -> Consumer:
        return Admission(self._ceiling, refused_samples(self._metrics), pipeline, head)

    def _sender(self, id_: ComponentId, delivery: Delivery) -> Sender:
        folder = folder_of(self._settings.data_dir, id_, delivery)
        return Sender(
            str(id_),
            delivery,
            lambda lost: self._memories.open_queue(folder, lost, id_, delivery),
            self._metrics,
            SystemClock(),
            open_aside=lambda lost: self._memories.open_aside(folder, lost, id_, delivery),
        )

    @asynccontextmanager
    async def _running(self, parts: _Parts) -> AsyncIterator[None]:
        """Start exporters, then receivers; stop in the reverse order, with a last scrape and a drain between."""
        assembly = parts.assembly
        for warning in assembly.config.warnings:
            log.warning("%s", warning)
        takeover = Takeover(self._settings.data_dir, self._settings.take_over)
        await asyncio.to_thread(takeover.claim, assembly.senders)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._servers(assembly))
            await stack.enter_async_context(parts.credentials)
            for extension in assembly.extensions.values():
                await stack.enter_async_context(extension)
            for sender in assembly.senders.values():
                await stack.enter_async_context(sender)
            self._memories.forget()
            for consumer in assembly.entered:
                await stack.enter_async_context(consumer)
            tasks = [
                asyncio.create_task(receiver.run(), name=f"receive {name}")
                for name, receiver in assembly.receivers.items()
            ]
            for task in tasks:
                task.add_done_callback(_report_end)
            tasks.append(asyncio.create_task(takeover.run(assembly.senders), name="take over"))
            self._healthy = True
            log.info("running: %d receivers, %d senders", len(assembly.receivers), len(assembly.senders))
            try:
                yield
            finally:
                self._healthy = False
                deadline = time.monotonic() + self._settings.shutdown_timeout_s
                # Told to stop later, what replaces these parts starts and ends.
                self._ended = self._stop.is_set()
                self._memories.kept = not self._ended
                if self._ended:
                    await self._scrape_last(assembly)
                await _cancel(tasks)
                if self._ended:
                    await self._drain(assembly, deadline)

    async def _scrape_last(self, assembly: Assembly) -> None:
        log.info("stopping: last scrape, then %d queues", len(assembly.senders))
        drains = [asyncio.ensure_future(receiver.drain()) for receiver in assembly.receivers.values()]
        if drains:
            await asyncio.wait(drains, timeout=LAST_SCRAPE_S)
            await _cancel(drains)

    async def _drain(self, assembly: Assembly, deadline: float) -> None:
        """Everything delivered that can be in time; the rest stays in the queues."""
        remaining_s = max(deadline - time.monotonic(), 0.1)
        emptied = await asyncio.gather(*(sender.drain(remaining_s) for sender in assembly.senders.values()))
        for name, empty in zip(assembly.senders, emptied, strict=True):
            log.info("%s: %s", name, "everything delivered" if empty else "the rest stays in the queue")

    @asynccontextmanager
    async def _servers(self, assembly: Assembly) -> AsyncIterator[None]:
        health = next((ext for ext in assembly.extensions.values() if isinstance(ext, HealthCheck)), None)
        health_at = self._settings.health_address or (health.endpoint if health else HEALTH_ADDRESS)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_serve_at(health_at, {"/": self._show_health}))
            for address in self._metrics_addresses(assembly):
                await stack.enter_async_context(_serve_at(address, {"/metrics": self._show_metrics}))
            yield

    def _metrics_addresses(self, assembly: Assembly) -> list[str]:
        if self._settings.metrics_address:
            return [self._settings.metrics_address]
        endpoints = assembly.config.service.telemetry.metrics.endpoints()
        return [f"{host}:{port}" for host, port in endpoints]

    def _show_metrics(self) -> Response:
        headers = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}
        return Response(200, "OK", headers, self._metrics.render())

    def _show_health(self) -> Response:
        since = datetime.fromtimestamp(self._started_s, UTC).isoformat()
        status = "Server available" if self._healthy else "Server not available"
        body = {"status": status, "upSince": since, "uptime": f"{time.time() - self._started_s:.3f}s"}
        code, reason = (200, "OK") if self._healthy else (503, "Service Unavailable")
        return Response(code, reason, {"content-type": "application/json"}, json.dumps(body).encode())

    async def _find_identity(self) -> Resource:
        """Who this task is. Without that its series could not be told from another task's, so it is worth waiting."""
        client = self._clients.client()
        try:
            return await fetch_identity(client, self._environment) or Resource()
        except FetchError as error:
            raise TrunklineError(
                f"the task metadata endpoint does not say which task this is: {error}. Series of two tasks could not "
                "be told apart; check ECS_CONTAINER_METADATA_URI_V4, or unset it outside ECS"
            ) from error
        finally:
            await client.aclose()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)


def _serve_at(address: str, routes: Mapping[str, Handler]) -> AbstractAsyncContextManager[Server]:
    host, _, port = address.rpartition(":")
    if host == "localhost":  # one address, whatever the name means here
        host = "127.0.0.1"
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{address!r} is not host:port, such as 127.0.0.1:8888")
    return serve(host.strip("[]") or "0.0.0.0", int(port), routes)  # noqa: S104 (what `:8888` asks for)


def _end_diverted(assembly: Assembly, config: CollectorConfig) -> None:
    """End the series that `config` takes elsewhere or nowhere, while the way they went is still there.

    Only exporters to a network count: what others show begins anew with them.
    """
    for id_ in assembly.config.receivers:
        receiver = assembly.receivers.get(str(id_))
        if receiver is None or lead_on(id_, assembly.config, config, assembly.senders):
            continue
        log.info("%s: its series end, as the new configuration takes them elsewhere or has them no more", id_)
        try:
            receiver.end()
        except Exception:
            log.exception("%s: its series could not be ended, in a way nobody foresaw; going on", id_)


def _report_end(task: asyncio.Task[None]) -> None:
    """Say that a receiver has ended by itself, which none should."""
    if not task.cancelled():
        log.critical(
            "%s has ended by itself; this is a defect of Trunkline",
            task.get_name(),
            exc_info=task.exception(),
        )


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    await _cancel(waits)


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
