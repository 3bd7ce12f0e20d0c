"""The life of one task, from its roles to the last trace of it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from trunkline.errors import SimulatorError
from trunkline.simulator.tasks.container import Container, Program
from trunkline.simulator.tasks.credentials import ContainerCredentials, IssueSession, unable_to_assume
from trunkline.simulator.tasks.environment import ContainerFolders, TaskSurroundings, container_environment
from trunkline.simulator.tasks.images import Image, ImageReference, Images, find_image
from trunkline.simulator.tasks.logs import LogCollector, LogStream, PutLogs
from trunkline.simulator.tasks.metadata import TaskEndpoint, metadata_path
from trunkline.simulator.tasks.namespaces import Hub, TaskNetwork, free_port
from trunkline.simulator.tasks.sandbox import Sandbox
from trunkline.simulator.tasks.state import ContainerState, Status, TaskState
from trunkline.simulator.tasks.stats import Stats

log = logging.getLogger(__name__)

T = TypeVar("T")

ESSENTIAL_EXITED: Final = "Essential container in task exited"

Session = Mapping[str, Any]
Pull = Callable[[str, Session | None], Awaitable[str | None]]
"""Image reference, session of the execution role (None when there is no such role) → the image's digest, or None when
it is not known. Raises with the registry's words when the image cannot be pulled."""
ReadSecret = Callable[[str, Session | None], Awaitable[str]]
"""`valueFrom`, session of the execution role → the secret. Raises when it may not be read."""


@dataclass(frozen=True)
class World:
    """What tasks need of the simulator around them."""

    hub: Hub
    state_dir: Path
    images: Images
    issue: IssueSession
    pull: Pull
    put_logs: PutLogs
    secret: ReadSecret
    environment: Mapping[str, str] = field(default_factory=dict)
    sample_interval_s: float = 5.0
    ports: set[int] = field(default_factory=set)
    """Loopback ports given away, where tasks have no namespaces."""


class StartError(SimulatorError):
    """A task that could not start; the message is its stopped reason."""


class Task:
    """A task of a service. `changed` is called whenever its state is another."""

    def __init__(self, state: TaskState, world: World, changed: Callable[[], None]) -> None:
        self.state = state
        self.unable_to_assume = ""
        """ECS's words, when a role could not be assumed."""
        self.sandbox: Sandbox | None = None
        self.stats = Stats(state)
        self._world = world
        self._changed = changed
        self._woken = asyncio.Event()
        self._unwanted = asyncio.Event()
        self._stop_limit_s: float | None = None
        self._containers: dict[str, Container] = {}
        self._credentials: ContainerCredentials | None = None
        self._session: Session | None = None
        self._folder = world.state_dir / "tasks" / state.id

    def stop(self, reason: str, code: str, limit_s: float | None = None) -> None:
        """Have the task stopped; `limit_s` caps the containers' stop timeouts."""
        if self.state.desired is Status.STOPPED:
            return
        self.state.desired = Status.STOPPED
        self.state.stopped_reason, self.state.stop_code = reason, code
        self._stop_limit_s = limit_s
        self._unwanted.set()
        self._wake()

    def kill(self) -> None:
        """SIGKILL to everything the task runs, without waiting for any stop timeout."""
        if self.sandbox:
            for container in self.state.containers:
                self.sandbox.kill(container.name)

    async def run(self) -> None:
        """The whole life; ends when nothing of the task is left, and never raises."""
        try:
            async with AsyncExitStack() as held:
                await self._prepare(held)
                await self._run_containers()
                self._become(Status.DEPROVISIONING)
        except StartError as error:
            self.stop(str(error), "TaskFailedToStart")
        except (SimulatorError, OSError) as error:
            log.warning("task %s: %s", self.state.id, error)
            self.stop(f"Task failed to start: {error}", "TaskFailedToStart")
        finally:
            for container in self.state.containers:
                container.status = Status.STOPPED
            self.state.stopping_ns = self.state.stopping_ns or time.time_ns()
            self.state.stopped_ns = time.time_ns()
            self._become(Status.STOPPED)

    def _become(self, status: Status) -> None:
        self.state.status = status
        self._changed()

    def _wake(self) -> None:
        self._woken.set()
        self._changed()

    async def _prepare(self, held: AsyncExitStack) -> None:
        images, secrets = await self._while_wanted(self._ask_aws())
        network = await asyncio.to_thread(self._world.hub.attach)
        held.callback(network.close)
        self.state.address, self.state.mac = network.address, network.mac
        held.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        outputs = {each.name: await self._output(each, held) for each in self.state.containers}
        around = self._surroundings(network, held)
        sandbox = self.sandbox = await Sandbox.open(self._folder, network, around.hostname)
        held.push_async_callback(sandbox.close)
        endpoint = await TaskEndpoint(self.state, self.stats, self._credentials).open(network.listener)
        held.push_async_callback(endpoint.close)
        for each in self.state.containers:
            program = self._program(each, images[each.name], around, secrets[each.name], outputs[each.name])
            each.created_ns = time.time_ns()
            self._containers[each.name] = Container(each, sandbox, program, self._wake)

    async def _while_wanted(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what others may take long for, unless the task is stopped meanwhile."""
        working = asyncio.create_task(work)
        unwanted = asyncio.create_task(self._unwanted.wait())
        await asyncio.wait([working, unwanted], return_when=asyncio.FIRST_COMPLETED)
        for each in (working, unwanted):
            each.cancel()
        await asyncio.gather(working, unwanted, return_exceptions=True)
        if working.cancelled():
            raise StartError(self.state.stopped_reason)
        return working.result()

    async def _ask_aws(self) -> tuple[dict[str, Image], dict[str, dict[str, str]]]:
        """Roles, images and secrets."""
        await self._assume_roles()
        self._become(Status.PENDING)
        return await self._pull_images(), await self._read_secrets()

    async def _assume_roles(self) -> None:
        definition = self.state.definition
        if role := definition.task_role_arn:
            self._credentials = ContainerCredentials(self._world.issue, role, self.state.id)
            await self._assume(role, self._credentials.current())
        if role := definition.execution_role_arn:
            self._session = await self._assume(role, self._world.issue(role, self.state.id))

    async def _assume(self, role: str, session: Awaitable[Session]) -> Session:
        try:
            return await session
        except Exception as error:
            log.warning("task %s: %s cannot be assumed: %s", self.state.id, role, error)
            self.unable_to_assume = unable_to_assume(role)
            raise StartError(self.unable_to_assume) from error

    async def _pull_images(self) -> dict[str, Image]:
        self.state.pull_started_ns = time.time_ns()
        images = {each.name: await self._pull(each) for each in self.state.containers}
        self.state.pull_stopped_ns = time.time_ns()
        return images

    async def _pull(self, container: ContainerState) -> Image:
        reference = container.definition.image
        try:
            digest = await self._world.pull(reference, self._session)
            image = find_image(self._world.images, reference)
        except Exception as error:
            container.reason = (
                f"CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
                f"{reference}: {error}"
            )
            raise StartError(container.reason) from error
        container.image_digest = digest or ImageReference.parse(reference).stated_digest
        return image

    async def _read_secrets(self) -> dict[str, dict[str, str]]:
        try:
            return {
                each.name: {
                    name: await self._world.secret(source, self._session)
                    for name, source in each.definition.secrets.items()
                }
                for each in self.state.containers
            }
        except Exception as error:
            raise StartError(
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval "
                f"failed: unable to retrieve secret: {error}"
            ) from error

    async def _output(self, container: ContainerState, held: AsyncExitStack) -> int:
        """A descriptor for what the container prints; as on Fargate, nothing is kept without a log driver."""
        options = container.definition.log_options
        if container.definition.log_driver != "awslogs":
            silence = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            held.callback(os.close, silence)
            return silence
        service = self.state.service
        prefix = options.get("awslogs-stream-prefix")
        container.log_stream = f"{prefix}/{container.name}/{self.state.id}" if prefix else container.docker_id
        stream = LogStream(
            service.account,
            options.get("awslogs-region", service.region),
            options["awslogs-group"],
            container.log_stream,
        )
        collector = LogCollector(stream, stream.file(self._world.state_dir / "logs"), self._world.put_logs)
        try:
            await collector.open()
        except Exception as error:
            raise StartError(
                "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
                f"failed to create Cloudwatch log stream: {error}"
            ) from error
        held.push_async_callback(collector.close)
        return collector.writer

    def _surroundings(self, network: TaskNetwork, held: AsyncExitStack) -> TaskSurroundings:
        region = self.state.service.region
        wanted = {port for each in self.state.definition.containers for port in each.ports}
        namespaced = network.namespace is not None
        ports = {} if namespaced else {port: free_port(self._world.ports) for port in sorted(wanted)}
        held.callback(self._world.ports.difference_update, ports.values())
        return TaskSurroundings(
            region=region,
            hostname=f"ip-{network.address.replace('.', '-')}.{region}.compute.internal",
            network=network,
            credentials_path=self._credentials.path if self._credentials else "",
            extra=self._world.environment,
            ports=ports,
        )

    def _program(
        self,
        container: ContainerState,
        image: Image,
        around: TaskSurroundings,
        secrets: Mapping[str, str],
        output: int,
    ) -> Program:
        definition = container.definition
        folders = ContainerFolders.create(self._folder, definition, image)
        environment = container_environment(
            around, definition, image, folders, metadata_path(container), secrets
        )
        if around.network.namespace is None:
            own = {name: f"127.0.0.1:{free_port(self._world.ports)}" for name in image.addresses}
            environment |= own
        entry_point = image.resolve(definition.entry_point) or [*image.entry_point]
        # As Docker has it: an entry point of the definition's own drops the image's command.
        command = definition.command or (() if definition.entry_point else image.command)
        health = image.resolve(definition.health_check.argv) if definition.health_check else []
        return Program(
            argv=[*entry_point, *map(folders.translate, command)],
            health_argv=[folders.translate(word) for word in health],
            environment=environment,
            working_directory=folders.working_directory(definition),
            output=output,
        )

    async def _run_containers(self) -> None:
        for container in self._containers.values():
            container.begin(self._containers)
        sampling: asyncio.Task[None] | None = None
        while not self._is_over():
            started = [each.started.is_set() for each in self._containers.values()]
            if sampling is None and any(started):
                sampling = asyncio.create_task(self._sample(), name=f"figures of {self.state.id}")
            if self.state.status is Status.PENDING and all(started):
                self.state.started_ns = time.time_ns()
                self._become(Status.RUNNING)
            await self._woken.wait()
            self._woken.clear()
        self.state.stopping_ns = time.time_ns()
        self._become(Status.STOPPING)
        await asyncio.gather(*(self._stop_in_order(each) for each in self._containers.values()))
        if sampling:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)

    def _is_over(self) -> bool:
        for container in self._containers.values():
            if container.finished.is_set() and container.state.definition.essential:
                if container.started.is_set():
                    self.stop(ESSENTIAL_EXITED, "EssentialContainerExited")
                else:
                    self.stop(container.state.reason, "TaskFailedToStart")
        return self.state.desired is Status.STOPPED

    async def _stop_in_order(self, container: Container) -> None:
        """A container is stopped when those that depend on it have finished."""
        for other in self._containers.values():
            if any(each.container == container.name for each in other.state.definition.depends_on):
                await other.finished.wait()
        await container.stop(self._stop_limit_s)

    async def _sample(self) -> None:
        assert self.sandbox
        while True:
            try:
                self.stats.record(await self.sandbox.sample())
            except SimulatorError:
                return
            await asyncio.sleep(self._world.sample_interval_s)
