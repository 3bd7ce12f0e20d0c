"""Which hops each exporter has, walked in their order until one fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, TypeAlias

from trunkline.aws.credentials import CredentialsFactory
from trunkline.collector.doctor import hops, trial
from trunkline.collector.doctor.findings import Chain, Finding, Outcome
from trunkline.collector.doctor.visit import Visit, shown
from trunkline.component.contract import ComponentId, Context, Extension
from trunkline.component.metrics import SelfMetrics
from trunkline.component.signing import Signer
from trunkline.exporters.prometheusremotewrite.config import RemoteWriteConfig
from trunkline.model import Resource

if TYPE_CHECKING:
    from trunkline.collector.config import CollectorConfig
    from trunkline.net.client import ClientFactory

Hop: TypeAlias = Callable[[Visit], Awaitable[Finding]]


async def examine(
    config: CollectorConfig, clients: ClientFactory, environment: Mapping[str, str]
) -> list[Chain]:
    """Walk the way of every exporter that a pipeline uses. Raises ConfigError for parts that cannot be built."""
    task, identity = await hops.task_metadata(clients, environment)
    doctor = _Doctor(config, clients, environment, identity)
    return await doctor.examine(task)


def hops_of(visit: Visit) -> Iterator[Hop]:
    """The hops behind the task itself."""
    signs = isinstance(visit.authenticator, Signer)
    if signs:
        yield hops.credentials
        yield hops.sts
        if visit.signer.role:
            yield hops.role
    yield hops.name
    yield hops.connection
    if signs:
        yield hops.clock
    yield trial.write
    yield trial.query


class _Doctor:
    """Examines the exporters of one configuration, one after the other."""

    def __init__(
        self,
        config: CollectorConfig,
        clients: ClientFactory,
        environment: Mapping[str, str],
        identity: Resource,
    ) -> None:
        self._config = config
        self._clients = clients
        self._environment = environment
        self._identity = identity
        self._metrics = SelfMetrics()

    async def examine(self, task: Finding) -> list[Chain]:
        pipelines = self._config.service.pipelines.values()
        ids = dict.fromkeys(id_ for pipeline in pipelines for id_ in pipeline.exporters)
        async with AsyncExitStack() as stack:
            factory = await stack.enter_async_context(CredentialsFactory(self._clients, self._environment))
            extensions: dict[str, Extension] = {}
            for id_ in self._config.service.extensions:
                context = self._context(id_, factory, extensions)
                extensions[str(id_)] = self._config.extensions[id_].config.build(context)
            return [await self._exporter(id_, self._context(id_, factory, extensions), task) for id_ in ids]

    def _context(
        self, id_: ComponentId, factory: CredentialsFactory, extensions: dict[str, Extension]
    ) -> Context:
        return Context(
            id=id_,
            metrics=self._metrics,
            clients=self._clients,
            credentials=factory,
            identity=self._identity,
            extensions=extensions,
            environment=self._environment,
        )

    async def _exporter(self, id_: ComponentId, context: Context, task: Finding) -> Chain:
        config = self._config.exporters[id_].config
        if not isinstance(config, RemoteWriteConfig):
            text = "it writes to no workspace, so there is no way to walk"
            return Chain(str(id_), "", [Finding("destination", Outcome.NOTE, text)])
        chain = Chain(str(id_), shown(config.endpoint), [task])
        if task.outcome is not Outcome.WRONG:
            await _walk(chain, config, context)
        return chain


async def _walk(chain: Chain, config: RemoteWriteConfig, context: Context) -> None:
    async with AsyncExitStack() as stack:
        authenticator = config.authenticator(context)
        if isinstance(authenticator, AbstractAsyncContextManager):
            await stack.enter_async_context(authenticator)
        client = config.client(context)
        stack.push_async_callback(client.aclose)
        visit = Visit(config, context, client, authenticator)
        for hop in hops_of(visit):
            finding = await hop(visit)
            chain.findings.append(finding.veiled(set(visit.secrets())))
            if finding.outcome is Outcome.WRONG:
                break
        if visit.written_ms and (left := await trial.mark_ended(visit)):
            chain.findings.append(left.veiled(set(visit.secrets())))
