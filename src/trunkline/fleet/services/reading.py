"""The services of a `fleet.yaml`, wherever their containers are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from trunkline.collector.config.nodes import Place
from trunkline.fleet.checks import repeated_services, service_problems
from trunkline.fleet.declarations import ContainerSettings, ServiceSettings
from trunkline.fleet.forms import Keys, Report, place_of
from trunkline.fleet.model import Container, Names, Network, Service
from trunkline.fleet.services.compose import Composed, read_compose
from trunkline.fleet.services.foreign import Asked, Foreign
from trunkline.fleet.services.task_definition import Existing, read_task_definition

_MIB: Final = 2**20
_DEFAULT_CPU: Final = 256
_DEFAULT_MEMORY_MIB: Final = 512


class ServicesReading:
    """Reads services and what they refer to; problems go into the report.

    `configurations` are the collector configurations that were named anywhere, by file.
    """

    def __init__(self, folder: Path, names: Names, report: Report, environment: Mapping[str, str]) -> None:
        self.configurations: dict[Path, str] = {}
        self._folder = folder
        self._names = names
        self._report = report
        self._environment = environment
        self._foreign = Foreign(report.findings)
        self._networks: dict[str, Network] = {}
        """Of the ECS parameters, by the service's place."""
        self._images: dict[str, Place] = {}

    def services(self, given: Sequence[ServiceSettings], keys: Keys) -> tuple[Service, ...]:
        found = tuple(self._service(one, (*keys, str(index))) for index, one in enumerate(given))
        for problem in repeated_services("", found):
            self._report.add(problem, keys)
        return found

    def configuration(self, name: str, keys: Keys) -> str:
        """The text of a collector's configuration; empty for none."""
        if not name:
            return ""
        path, asked = self._named(name, keys)
        text = self._foreign.read(path, asked)
        if text is not None:
            self.configurations[path] = text
        return text or ""

    def network(self, services: Iterable[Service]) -> Network | None:
        """What the ECS parameters of the services say."""
        places = [one.place for one in services if one.place in self._networks]
        found = {place: self._networks[place] for place in places}
        if len({str(network) for network in found.values()}) > 1:
            self._report.findings.problem(
                place_of(places[1]),
                "services",
                "the ECS parameters of the services name different networks",
                "write `network:` in the fleet's file, which all services of an account share",
            )
        return next(iter(found.values()), None)

    def collector_image(self) -> str:
        """The one that compose files name; empty for the fleet's own."""
        images = list(self._images)
        if len(images) > 1:
            self._report.findings.problem(
                self._images[images[1]],
                "services",
                f"the compose files name different collectors: {' and '.join(images)}",
                "write collector_image: in the fleet's file, which all services share",
            )
        return images[0] if images else ""

    def _service(self, given: ServiceSettings, keys: Keys) -> Service:
        before = len(self._report.findings)
        self._check_sources(given, keys)
        composed, existing = self._composed(given, keys), self._existing(given, keys)
        own = self.configuration(given.collector_config, (*keys, "collector_config"))
        memory = None if given.memory is None else self._mebibytes(given.memory, (*keys, "memory"))
        place = self._report.place(keys)
        service = Service(
            name=given.name,
            desired_count=_first(given.desired_count, composed.desired_count, 1),
            cpu_units=_first(given.cpu, composed.cpu_units, existing.cpu_units, _DEFAULT_CPU),
            memory_mib=_first(memory, composed.memory_mib, existing.memory_mib, _DEFAULT_MEMORY_MIB),
            containers=self._containers(given.containers, keys) or composed.containers,
            task_definition=existing.sized(given.cpu, memory),
            collector_configuration=own or composed.collector_configuration,
            collector_environment=composed.collector_environment,
            place=str(place),
        )
        if composed.network:
            self._networks[service.place] = composed.network
        if composed.collector_image:
            self._images.setdefault(composed.collector_image, place)
        if len(self._report.findings) == before:
            for problem in service_problems(service):
                self._report.add(problem, keys)
        return service

    def _check_sources(self, given: ServiceSettings, keys: Keys) -> None:
        written = [key for key in ("containers", "compose", "task_definition") if getattr(given, key)]
        if len(written) > 1:
            message = f"has {' and '.join(written)}: each of them names the containers"
            self._report.problem((*keys, written[1]), message, "keep one of them")
        if given.ecs_params and not given.compose:
            message = "goes with a compose file, and there is none"
            self._report.problem((*keys, "ecs_params"), message, "add compose: docker-compose.yml")
        if given.collector and not (given.compose or given.task_definition):
            message = "names a container of a compose file or task definition, and there is none"
            remedy = "take it out: every task has a collector"
            self._report.problem((*keys, "collector"), message, remedy)

    def _composed(self, given: ServiceSettings, keys: Keys) -> Composed:
        if not given.compose:
            return Composed()
        return read_compose(
            self._named(given.compose, (*keys, "compose")),
            self._named(given.ecs_params, (*keys, "ecs_params")) if given.ecs_params else None,
            collector=given.collector,
            names=self._names,
            environment=self._environment,
            foreign=self._foreign,
        )

    def _existing(self, given: ServiceSettings, keys: Keys) -> Existing:
        if not given.task_definition:
            return Existing()
        path, asked = self._named(given.task_definition, (*keys, "task_definition"))
        return read_task_definition(path, asked, given.collector, self._foreign)

    def _named(self, name: str, keys: Keys) -> tuple[Path, Asked]:
        """A file that is named at `keys`."""
        return self._folder / name, Asked(self._report.place(keys), "::".join(keys))

    def _containers(self, given: Sequence[ContainerSettings], keys: Keys) -> tuple[Container, ...]:
        return tuple(
            Container(
                **same(one, Container),
                cpu_units=one.cpu,
                memory_mib=self._mebibytes(one.memory, (*keys, "containers", str(index), "memory")),
                stop_timeout_s=round(one.stop_timeout),
            )
            for index, one in enumerate(given)
        )

    def _mebibytes(self, size_bytes: int, keys: Keys) -> int:
        if size_bytes % _MIB or size_bytes < 0:
            self._report.problem(keys, "is not a number of whole MiB", "write it like 512MiB")
        return size_bytes // _MIB


def same(written: Any, model: Any) -> dict[str, Any]:
    """The fields that a declaration and a class of the model have in common, as keyword arguments."""
    names = {one.name for one in fields(model)}
    return {one.name: getattr(written, one.name) for one in fields(written) if one.name in names}


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
