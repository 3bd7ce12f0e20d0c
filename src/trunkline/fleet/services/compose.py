"""Compose files, versions 2 and 3 and the Compose specification, as far as they make sense for a task on Fargate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from trunkline.collector.config.findings import suggestion
from trunkline.collector.config.nodes import Node, Place
from trunkline.fleet.model import Container, Names, Network
from trunkline.fleet.services.ecs_params import EcsParams, health_check, read_ecs_params
from trunkline.fleet.services.foreign import Asked, Foreign
from trunkline.fleet.services.interpolation import InterpolationError, interpolate

OWN_IMAGES: Final = ("COLLECTOR_IMAGE", "APP_IMAGE")
"""Variables that, while they are not set or empty, stand for the fleet's own images."""
COLLECTORS: Final = ("aws-otel-collector", "trunkline", "trunkline-collector", "adot-collector")
"""Names of services and images that are collectors."""
SET_BY_THE_FLEET: Final = ("AWS_REGION", "CENTRAL_ACCOUNT_ID", "TRUNKLINE_DATA_DIR", "WORKSPACE_ID")
CONFIGURATION: Final = "AOT_CONFIG_CONTENT"

_TOP: Final = ("version", "name", "services")
_TOP_REFUSED: Final = {
    "volumes": "give the service as a task definition that has them: task_definition: file.json",
    "networks": "the containers of a task share one network; take it out",
    "secrets": "name secrets in the ECS parameters: services::<name>::secrets",
    "configs": "put the file into the image",
    "include": "give one file; docker compose config writes it",
}
_LOGGING, _LIMITS = ("driver", "options"), ("cpus", "memory")
_SERVICE: Final = (
    *("image", "command", "entrypoint", "environment", "env_file", "ports", "depends_on", "user"),
    *("working_dir", "read_only", "healthcheck", "stop_grace_period", "logging", "cpus", "cpu_shares"),
    *("mem_limit", "deploy", "container_name", "restart"),
)
_SERVICE_REFUSED: Final = {
    "build": "build and push the image, and name it with image:",
    "volumes": "give the service as a task definition that has them: task_definition: file.json",
    "networks": "the containers of a task share one network; take it out",
    "network_mode": "tasks on Fargate have awsvpc; take it out",
    "links": "the containers of a task reach each other at 127.0.0.1; take it out",
    "expose": "the containers of a task reach each other at 127.0.0.1; take it out, or write ports:",
    "privileged": "Fargate has none; take it out",
    "secrets": "name them in the ECS parameters: services::<name>::secrets",
    "configs": "put the file into the image",
    "extends": "write it out; docker compose config does",
    "profiles": "give a file with what runs; docker compose --profile … config writes it",
    "labels": "tags are the fleet's: tags:",
}
_PORT: Final = re.compile(r"(?:(?:\d+\.[\d.]+|\[[\da-f:]+\]):)?(?:(\d+):)?(\d+)(?:/(\w+))?", re.IGNORECASE)


@dataclass(slots=True)
class Composed:
    """A service as the files say it; None is what they do not say."""

    containers: tuple[Container, ...] = ()
    cpu_units: int | None = None
    memory_mib: int | None = None
    desired_count: int | None = None
    network: Network | None = None
    collector_image: str = ""
    collector_environment: dict[str, str] = field(default_factory=dict)
    collector_configuration: str = ""


def read_compose(
    path: tuple[Path, Asked],
    params: tuple[Path, Asked] | None,
    *,
    collector: str,
    names: Names,
    environment: Mapping[str, str],
    foreign: Foreign,
) -> Composed:
    """The service in a compose file and its ECS parameters, each with where it is asked for.

    What cannot be taken becomes problems in `foreign`.

    `collector` names the compose service that ours replaces, if its name or image does not tell.
    """
    root = foreign.document(*path)
    found = read_ecs_params(*params, names, foreign) if params else EcsParams()
    reading = _Reading(path[0].parent, environment, foreign)
    if root is not None:
        reading.root(root, collector, found)
    composed = reading.found
    composed.cpu_units, composed.memory_mib, composed.network = (
        found.cpu_units,
        found.memory_mib,
        found.network,
    )
    return composed


class _Reading:
    def __init__(self, folder: Path, environment: Mapping[str, str], foreign: Foreign) -> None:
        self.found = Composed()
        self._folder = folder
        self._environment = environment
        self._foreign = foreign

    def root(self, root: Node, collector: str, params: EcsParams) -> None:
        services: Node | None = None
        extensions = {key: child for key, child in (root.value or {}).items() if not key.startswith("x-")}  # type: ignore[union-attr]
        for key, node in self._foreign.entries(replace(root, value=extensions), "", _TOP, _TOP_REFUSED):
            services = node if key == "services" else services
        by_name = dict(self._foreign.pairs(services, "services")) if services else {}
        if not by_name:
            self._foreign.problem(root.place, "services", "there is no service", "is it a compose file?")
            return
        assert services is not None
        chosen = self._collector(by_name, collector, services)
        self._check_params(params, by_name)
        if chosen:
            self._take_collector(chosen, by_name[chosen], params.containers.get(chosen, {}))
        self.found.containers = tuple(
            self._container(name, node, chosen, params.containers.get(name, {}))
            for name, node in by_name.items()
            if name != chosen
        )

    # Which one is the collector

    def _collector(self, services: Mapping[str, Node], given: str, parent: Node) -> str:
        if given:
            if given not in services:
                remedy = suggestion(given, list(services), "services")
                self._foreign.problem(parent.place, "services", f"there is no service {given!r}", remedy)
            return given if given in services else ""
        found = [name for name, node in services.items() if self._is_collector(name, node)]
        if len(found) > 1:
            said = f"{' and '.join(found)} both look like the collector"
            remedy = "say which with `collector:` in the fleet's file"
            self._foreign.problem(parent.keys[found[1]], "services", said, remedy)
        return found[0] if found else ""

    def _is_collector(self, name: str, node: Node) -> bool:
        image = node.value.get("image") if isinstance(node.value, dict) else None
        text = (image.text or "") if image else ""
        last = text.rpartition("/")[2].partition("@")[0].partition(":")[0]
        return name in COLLECTORS or last in COLLECTORS or "COLLECTOR_IMAGE" in text

    def _check_params(self, params: EcsParams, services: Mapping[str, Node]) -> None:
        for name, place in params.places.items():
            if name not in services:
                path = f"task_definition::services::{name}"
                remedy = suggestion(name, list(services), "services")
                self._foreign.problem(place, path, "is no service of the compose file", remedy)

    # Containers

    def _container(self, name: str, service: Node, collector: str, changes: Mapping[str, Any]) -> Container:
        fields: dict[str, Any] = {"name": name}
        path = f"services::{name}"
        for key, node in self._entries(service, path):
            fields.update(self._field(key, node, f"{path}::{key}"))
        if isinstance(service.value, dict) and "image" not in fields:
            self._foreign.problem(service.place, path, "has no image", "write image:")
        fields["environment"] = {**fields.pop("env_file", {}), **fields.get("environment", {})}
        fields.update(changes)
        # Every container starts after the collector anyway.
        fields["depends_on"] = tuple(one for one in fields.get("depends_on", ()) if one != collector)
        return Container(**fields)

    def _entries(self, service: Node, path: str) -> Iterator[tuple[str, Node]]:
        if isinstance(service.value, dict):
            kept = {key: child for key, child in service.value.items() if not key.startswith("x-")}
            service = replace(service, value=kept)
        yield from self._foreign.entries(service, path, _SERVICE, _SERVICE_REFUSED)

    def _field(self, key: str, node: Node, path: str) -> dict[str, Any]:
        """A key of a compose service as fields of a container."""
        readers = {
            "image": self._image,
            "command": self._command,
            "entrypoint": self._entry_point,
            "environment": self._environment_of,
            "env_file": self._environment_files,
            "ports": self._ports,
            "depends_on": self._depends_on,
            "user": lambda node, path: {"user": self._text(node, path)},
            "working_dir": lambda node, path: {"working_directory": self._text(node, path)},
            "read_only": lambda node, path: {
                "read_only": self._foreign.truth(self._put_in(node, path), path)
            },
            "healthcheck": lambda node, path: health_check(self._all_put_in(node, path), path, self._foreign),
            "stop_grace_period": self._stop_grace_period,
            "cpus": self._cpus,
            "cpu_shares": lambda node, path: {
                "cpu_units": self._foreign.count(self._put_in(node, path), path)
            },
            "mem_limit": self._memory,
            "deploy": self._deploy,
            "logging": self._logging,
        }
        return readers[key](node, path) if key in readers else self._no_effect(key, node, path)

    def _no_effect(self, key: str, node: Node, path: str) -> dict[str, Any]:
        why = {"restart": "ECS starts a task again", "container_name": "a container is called as its service"}
        self._foreign.note(node.place, path, "has no effect", why[key])
        return {}

    def _image(self, node: Node, path: str) -> dict[str, Any]:
        written = node.text or ""
        image, missing = self._interpolated(node, path)
        own = any(name in written for name in OWN_IMAGES)
        if not image and not own:
            remedy = f"set {missing[0]}" if missing else "write the image's name"
            self._foreign.problem(node.place, path, f"{written!r} is no image", remedy)
        return {"image": image}

    def _command(self, node: Node, path: str) -> dict[str, Any]:
        return {"command": self._foreign.words(self._all_put_in(node, path), path)}

    def _entry_point(self, node: Node, path: str) -> dict[str, Any]:
        return {"entry_point": self._foreign.words(self._all_put_in(node, path), path)}

    def _environment_of(self, node: Node, path: str) -> dict[str, Any]:
        """What is named without a value has that of our own environment, or is not set."""
        found: dict[str, str] = {}
        if isinstance(node.value, list):
            for item in node.value:
                name, equals, value = self._text(item, path).partition("=")
                self._set(found, name, value if equals else None)
        else:
            for name, child in self._foreign.pairs(node, path):
                self._set(found, name, None if child.value is None else self._text(child, f"{path}::{name}"))
        return {"environment": found}

    def _set(self, found: dict[str, str], name: str, value: str | None) -> None:
        value = self._environment.get(name) if value is None else value
        if value is not None:
            found[name] = value

    def _environment_files(self, node: Node, path: str) -> dict[str, Any]:
        files = node.value if isinstance(node.value, list) else [node]
        found: dict[str, str] = {}
        for file in files:
            name = self._text(file, path)
            try:
                lines = (self._folder / name).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeError) as error:
                self._foreign.problem(file.place, path, f"cannot read {name}: {error}")
                continue
            found.update(_variables(lines))
        return {"env_file": found}

    def _ports(self, node: Node, path: str) -> dict[str, Any]:
        return {"ports": tuple(self._port(item, path) for item in self._foreign.items(node, path))}

    def _port(self, item: Node, path: str) -> int:
        if isinstance(item.value, dict):
            found = {key: self._text(child, path) for key, child in item.value.items()}
            host, port, kind = (
                found.get("published", ""),
                found.get("target", ""),
                found.get("protocol", "tcp"),
            )
        else:
            match = _PORT.fullmatch(self._text(item, path))
            host, port, kind = (match[1] or "", match[2], match[3] or "tcp") if match else ("", "", "tcp")
        if not port.isdigit():
            remedy = 'write one port for each line: "8000", "8000:8000"'
            self._foreign.problem(item.place, path, f"{item.text!r} is not a port", remedy)
            return 1
        if kind.lower() != "tcp":
            self._foreign.problem(item.place, path, f"{kind} ports are not supported", "take it out")
        if host and host != port:
            message = f"on Fargate port {port} cannot be shown as {host}"
            self._foreign.problem(item.place, path, message, f'write "{port}:{port}"')
        return int(port)

    def _depends_on(self, node: Node, path: str) -> dict[str, Any]:
        if not isinstance(node.value, dict):
            return {"depends_on": self._foreign.texts(node, path)}
        for name, child in node.value.items():
            for key, condition in self._foreign.entries(child, f"{path}::{name}", ("condition", "required")):
                if key == "condition" and condition.text != "service_started":
                    remedy = "write service_started; for others give the service as a task definition"
                    message = f"the condition {condition.text!r} is not supported"
                    self._foreign.problem(condition.place, f"{path}::{name}", message, remedy)
        return {"depends_on": tuple(node.value)}

    def _stop_grace_period(self, node: Node, path: str) -> dict[str, Any]:
        seconds = self._foreign.seconds(self._put_in(node, path), path)
        if seconds > 120:
            self._foreign.problem(node.place, path, "Fargate waits 120s at most", "write 120s or less")
        return {"stop_timeout_s": seconds}

    def _cpus(self, node: Node, path: str) -> dict[str, Any]:
        return {"cpu_units": round(self._foreign.number(self._put_in(node, path), path) * 1024)}

    def _memory(self, node: Node, path: str) -> dict[str, Any]:
        return {"memory_mib": self._foreign.mebibytes(self._put_in(node, path), path)}

    def _deploy(self, node: Node, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        remedy = {"update_config": "the fleet deploys with a circuit breaker; take it out"}
        for key, child in self._foreign.entries(node, path, ("replicas", "resources"), remedy):
            if key == "replicas":
                replicas = self._foreign.count(self._put_in(child, path), f"{path}::replicas")
                self.found.desired_count = max(self.found.desired_count or 0, replicas)
                continue
            for part, limits in self._foreign.entries(
                child, f"{path}::resources", ("limits", "reservations")
            ):
                below = f"{path}::resources::{part}"
                for what, limit in self._foreign.entries(limits, below, _LIMITS):
                    read = self._cpus if what == "cpus" else self._memory
                    found.update(read(limit, f"{below}::{what}") if part == "limits" else {})
        return found

    def _logging(self, node: Node, path: str) -> dict[str, Any]:
        driver = ""
        for key, child in self._foreign.entries(node, path, _LOGGING):
            driver = self._text(child, path) if key == "driver" else driver
        if driver not in ("", "awslogs"):
            remedy = "write awslogs, or take it out: logs go to the fleet's log group"
            self._foreign.problem(node.place, path, f"the driver {driver!r} is not supported", remedy)
        else:
            self._foreign.note(
                node.place, path, "is replaced", "logs go to the fleet's log group, non-blocking"
            )
        return {}

    # The collector

    def _take_collector(self, name: str, service: Node, changes: Mapping[str, Any]) -> None:
        path = f"services::{name}"
        found: dict[str, dict[str, str]] = {}
        for key, node in self._entries(service, path):
            below = f"{path}::{key}"
            if key == "image":
                self.found.collector_image = self._image(node, below)["image"]
            elif key in ("environment", "env_file"):
                found.update(self._field(key, node, below))
            elif key == "logging":
                self._logging(node, below)
            elif key in ("command", "entrypoint"):
                remedy = "name the configuration with collector_config: in the fleet's file"
                self._foreign.problem(node.place, below, "the fleet starts its collector itself", remedy)
            else:
                self._foreign.note(node.place, below, "has no effect", "the fleet's collector has its own")
        if CONFIGURATION in changes.get("secrets", {}):
            remedy = "name the file with collector_config: a parameter holds 4 KB, and ends in the middle"
            message = f"the collector's {CONFIGURATION} is not taken from a secret"
            self._foreign.problem(service.place, path, message, remedy)
        self._keep({**found.get("env_file", {}), **found.get("environment", {})}, service.place, path)

    def _keep(self, environment: dict[str, str], place: Place, path: str) -> None:
        self.found.collector_configuration = environment.pop(CONFIGURATION, "")
        replaced = [name for name in SET_BY_THE_FLEET if environment.pop(name, None) is not None]
        if replaced:
            said = f"{', '.join(replaced)} of the collector: the fleet sets it"
            self._foreign.note(place, f"{path}::environment", said)
        self.found.collector_environment = environment

    # Variables

    def _text(self, node: Node, path: str) -> str:
        return self._put_in(node, path).text or ""

    def _put_in(self, node: Node, path: str) -> Node:
        """A scalar with its variables put in."""
        if isinstance(node.value, list | dict):
            return node
        text, missing = self._interpolated(node, path)
        for name in missing:
            self._foreign.note(node.place, path, f"{name} is not set, and counts as empty", f"set {name}")
        return Node(text, node.place, text) if "$" in (node.text or "") else node

    def _all_put_in(self, node: Node, path: str) -> Node:
        if isinstance(node.value, list):
            return replace(node, value=[self._all_put_in(item, path) for item in node.value])
        if isinstance(node.value, dict):
            children = {key: self._all_put_in(child, path) for key, child in node.value.items()}
            return replace(node, value=children)
        return self._put_in(node, path)

    def _interpolated(self, node: Node, path: str) -> tuple[str, list[str]]:
        try:
            return interpolate(self._foreign.text(node, path), self._environment)
        except InterpolationError as error:
            self._foreign.problem(node.place, path, str(error), "write $$ for a dollar sign")
            return "-", []


def _variables(lines: list[str]) -> Iterator[tuple[str, str]]:
    """The `NAME=value` lines of an env_file; quotes around a value are not part of it."""
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            stripped = value.strip()
            quoted = len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "'\""
            yield name.strip(), stripped[1:-1] if quoted else stripped
