"""The emulator that holds the resources: ministack, as a child process on a private socket.

`Emulator` starts and stops the process. The rest of this module runs inside it
(`python -m trunkline.simulator.emulator SOCKET FRONT_DOOR_SOCKET`): it teaches ministack's CloudFormation what
the simulator needs and ministack lacks, and then serves. docs/decisions/0003-emulator.md says why ministack,
and why each of the changes below.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Self

from trunkline.errors import SimulatorError
from trunkline.simulator.child import end, tied_to_parent
from trunkline.simulator.frontdoor import events

_log = logging.getLogger("trunkline.simulator.emulator")

VERSION: Final = "1.5.33"
"""The ministack whose inner parts `_adapt` knows."""

_START_S: Final = 30.0
_POLL_S: Final = 0.02
_FRONT_DOOR_S: Final = 30.0

_ENVIRONMENT: Final = {
    "AUTH": "false",
    "DOCKER_HOST": "unix:///nonexistent",
    "IOT_MTLS_ENABLED": "0",
    "LOG_LEVEL": "WARNING",
    "PERSIST_STATE": "0",
    "SFTP_ENABLED": "0",
}


class Emulator:
    """The emulator's process; `socket` is where it listens, once started.

    `front_door` is the front door's internal socket, which need not exist yet. Use `start` and `stop`, or as
    an async context manager. Start it from a thread that lives as long as the process.
    """

    def __init__(self, state: Path, front_door: Path | None = None) -> None:
        self.socket = state / "emulator.sock"
        self.log = state / "emulator.log"
        self._front_door = front_door or state / "internal.sock"
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start it and wait until it answers; raises SimulatorError with its last words if it does not."""
        self._process = self._spawn()
        deadline = time.monotonic() + _START_S
        while not _listens(self.socket):
            if self._process.poll() is not None or time.monotonic() > deadline:
                await self.stop()
                raise SimulatorError(f"The emulator did not start. {self._last_words()}")
            await asyncio.sleep(_POLL_S)

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", __name__, str(self.socket), str(self._front_door)]
        environment = {**os.environ, **_ENVIRONMENT, "TMPDIR": str(self._state)}
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                tied_to_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def _last_words(self) -> str:
        return f"Its log, {self.log}, ends with: {self.log.read_bytes()[-2000:].decode(errors='replace')}"

    async def stop(self) -> None:
        """End the process and wait for it."""
        if self._process is not None:
            await end(self._process, 5.0)
            self._process = None
        self.socket.unlink(missing_ok=True)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


class _FrontDoor:
    """The front door as the emulator reaches it: blocking, over its internal socket.

    Blocking is right here: CloudFormation has to know that a role's change has been noticed before it goes on,
    and the front door answers these calls without asking the emulator anything.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def call(
        self, method: str, path: str, document: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Any:
        """The JSON answer to a request; raises ValueError with the front door's text for a refusal."""
        connection = http.client.HTTPConnection("localhost", timeout=_FRONT_DOOR_S)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_FRONT_DOOR_S)
        connection.sock.connect(self._path)
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise ValueError(f"{response.status}: {text.decode(errors='replace')}")
        return json.loads(text) if text else {}

    def tell(self, event: Mapping[str, str]) -> None:
        """Hand an event over; a front door that is not there misses it."""
        try:
            self.call("POST", events.EVENTS_PATH, event, {})
        except OSError as error:
            _log.warning("the front door was not told of %s: %s", event, error)


Handlers = dict[str, dict[str, Any]]


def _adapt(front_door: _FrontDoor) -> None:
    """Change what the simulator needs to be different in ministack; raises if its parts are not as known."""
    # By name, because only this process may load the emulator, and because it is untyped.
    responses, ecs, iam, handlers, provisioners, stacks = (
        import_module(f"ministack.{name}")
        for name in (
            "core.responses",
            "services.ecs",
            "services.iam",
            "services.cloudformation.handlers",
            "services.cloudformation.provisioners",
            "services.cloudformation.stacks",
        )
    )
    known: Handlers = provisioners._RESOURCE_HANDLERS  # noqa: SLF001 (it has no public way to add a type)
    known["AWS::APS::Workspace"] = _Workspaces(front_door, responses).handlers()
    _replace(stacks, "_runs_on_worker_thread", _on_worker_thread_too)
    # Capabilities are only checked with the emulator's own authorisation on.
    _replace(handlers, "_capabilities_enforced", lambda _: lambda: True)
    _announce_services(front_door, ecs, responses)
    _complete_roles(known, iam)
    _complete_tasks(known, ecs)
    for kind in (name for name in known if name.startswith("AWS::IAM::")):
        _tell_after(known[kind], front_door)


def _replace(module: ModuleType, name: str, make: Callable[[Any], Any]) -> None:
    setattr(module, name, make(getattr(module, name)))


def _on_worker_thread_too(original: Callable[[str], bool]) -> Callable[[str], bool]:
    """Workspaces wait for the front door, which must not hold up the emulator's other callers."""
    return lambda kind: kind == "AWS::APS::Workspace" or original(kind)


def _tell_after(known: dict[str, Any], front_door: _FrontDoor) -> None:
    """Tell the front door after every change CloudFormation makes to a resource of IAM."""

    def telling(work: Callable[..., Any]) -> Callable[..., Any]:
        def told(*arguments: Any) -> Any:
            try:
                return work(*arguments)
            finally:
                front_door.tell({"kind": "iam"})

        return told

    for step in ("create", "update", "delete"):
        if step in known:
            known[step] = telling(known[step])


def _announce_services(front_door: _FrontDoor, ecs: ModuleType, responses: ModuleType) -> None:
    """Where ministack would start and stop tasks of its own, tell the front door: the task runner does it."""

    def announce(cluster: str, service: str) -> None:
        place = {"account": responses.get_account_id(), "region": responses.get_region()}
        front_door.tell({"kind": "service", **place, "cluster": cluster, "service": service})

    def reconcile(cluster: str, key: str) -> None:
        announce(cluster, key.rpartition("/")[2])

    def deleting(original: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        def delete(request: dict[str, Any]) -> Any:
            answer = original(request)
            announce(
                *(str(request.get(name) or "default").rpartition("/")[2] for name in ("cluster", "service"))
            )
            return answer

        return delete

    _replace(ecs, "_reconcile_service_tasks", lambda _: reconcile)
    _replace(ecs, "_delete_service", deleting)


def _complete_roles(known: Handlers, iam: ModuleType) -> None:
    """Roles keep their permissions boundary, and a name that is taken is refused."""
    role = known["AWS::IAM::Role"]
    create, update = role["create"], role["update"]

    def creating(logical_id: str, props: dict[str, Any], stack: str) -> Any:
        name = props.get("RoleName")
        if name and name in iam._roles:  # noqa: SLF001 (ministack offers no other way to look)
            raise ValueError(f"Role with name {name} already exists.")
        made = create(logical_id, props, stack)
        return _with_boundary(iam, made, props)

    def updating(physical_id: str, old: dict[str, Any], new: dict[str, Any], *rest: Any) -> Any:
        return _with_boundary(iam, update(physical_id, old, new, *rest), new)

    role.update(create=creating, update=updating)


def _with_boundary(iam: ModuleType, made: Any, props: Mapping[str, Any]) -> Any:
    boundary = props.get("PermissionsBoundary")
    iam._roles[made[0]]["PermissionsBoundary"] = boundary  # noqa: SLF001
    return made


def _complete_tasks(known: Handlers, ecs: ModuleType) -> None:
    """Task definitions and services keep all their properties, with numbers where parameters gave texts."""
    definition, service = known["AWS::ECS::TaskDefinition"], known["AWS::ECS::Service"]
    create_definition, create_service = definition["create"], service["create"]
    update_definition, update_service = definition["update"], service["update"]

    def creating_definition(logical_id: str, props: dict[str, Any], stack: str) -> Any:
        made = create_definition(logical_id, props, stack)
        record = ecs._task_defs[made[0].rpartition("/")[2]]  # noqa: SLF001
        record.update(definition_fields(props))
        return made

    def updating_definition(physical_id: str, old: dict[str, Any], new: dict[str, Any], *rest: Any) -> Any:
        made = update_definition(physical_id, old, new, *rest)
        ecs._task_defs[made[0].rpartition("/")[2]].update(definition_fields(new))  # noqa: SLF001
        return made

    def creating_service(logical_id: str, props: dict[str, Any], stack: str) -> Any:
        made = create_service(logical_id, _with_count(props), stack)
        ecs._services[made[0].partition(":service/")[2]].update(service_fields(props))  # noqa: SLF001
        return made

    def updating_service(physical_id: str, old: dict[str, Any], new: dict[str, Any], *rest: Any) -> Any:
        return update_service(physical_id, _with_count(old), _with_count(new), *rest)

    definition.update(create=creating_definition, update=updating_definition)
    service.update(create=creating_service, update=updating_service)


def _with_count(props: dict[str, Any]) -> dict[str, Any]:
    return {**props, "DesiredCount": int(props["DesiredCount"])} if "DesiredCount" in props else props


_FREE_KEYS: Final = frozenset(("options", "dockerLabels", "driverOpts", "labels"))
"""Maps of ECS whose keys are the user's own."""

_NUMBERS: Final = frozenset(
    (
        "containerPort",
        "hostPort",
        "interval",
        "retries",
        "startPeriod",
        "timeout",
        "startTimeout",
        "stopTimeout",
    )
)
_TRUTHS: Final = frozenset(("essential", "readOnly", "readonlyRootFilesystem", "privileged", "interactive"))


def camel(value: Any, name: str = "") -> Any:
    """CloudFormation's form of an ECS document in ECS's own: names in camelCase, numbers and truths as such."""
    if isinstance(value, Mapping):
        if name in _FREE_KEYS:
            return dict(value)
        named = ((key[:1].lower() + key[1:], item) for key, item in value.items())
        return {key: camel(item, key) for key, item in named}
    if isinstance(value, list):
        return [camel(item) for item in value]
    if name in _NUMBERS:
        return int(value)
    return str(value).lower() == "true" if name in _TRUTHS else value


def _container(props: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "cpu": 0,
        "essential": True,
        "environment": [],
        "mountPoints": [],
        "volumesFrom": [],
    }
    made.update(camel(props))
    for size in ("cpu", "memory", "memoryReservation"):
        if size in made:
            made[size] = int(made[size])
    made["environment"] = [
        {"name": item["name"], "value": str(item["value"])} for item in made["environment"]
    ]
    return made


def definition_fields(props: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a task definition, as ECS describes them, that CloudFormation's properties give."""
    fields = {
        "containerDefinitions": [_container(item) for item in props.get("ContainerDefinitions", [])],
        "volumes": camel(props.get("Volumes", [])),
        "placementConstraints": camel(props.get("PlacementConstraints", [])),
    }
    for name in ("EphemeralStorage", "RuntimePlatform", "ProxyConfiguration"):
        if name in props:
            fields[name[:1].lower() + name[1:]] = camel(props[name])
    sizes = {name.lower(): str(props[name]) for name in ("Cpu", "Memory") if name in props}
    return {**fields, **sizes}


def service_fields(props: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a service that ministack's CloudFormation leaves at their defaults."""
    texts = ("PropagateTags", "PlatformVersion", "SchedulingStrategy")
    truths = (
        ("EnableECSManagedTags", "enableECSManagedTags"),
        ("EnableExecuteCommand", "enableExecuteCommand"),
    )
    return {
        **{name[:1].lower() + name[1:]: props[name] for name in texts if name in props},
        **{field: str(props[name]).lower() == "true" for name, field in truths if name in props},
    }


class _Workspaces:
    """`AWS::APS::Workspace`: made, changed and removed through AMP's own API at the front door.

    Source: the resource's schema. Ref is the ARN; KmsKeyArn replaces; attributes are Arn, WorkspaceId and
    PrometheusEndpoint.
    """

    def __init__(self, front_door: _FrontDoor, responses: ModuleType) -> None:
        self._front_door = front_door
        self._responses = responses

    def handlers(self) -> dict[str, Callable[..., Any]]:
        """As ministack's table of types wants them."""
        return {"create": self.create, "update": self.update, "delete": self.delete}

    def create(self, _logical_id: str, props: dict[str, Any], stack: str) -> tuple[str, dict[str, str]]:
        """Create the workspace; answers its ARN and attributes."""
        asked = {"alias": props.get("Alias"), "kmsKeyArn": props.get("KmsKeyArn"), "tags": _tags(props)}
        made = self._aps("POST", "/workspaces", {name: value for name, value in asked.items() if value})
        try:
            self._configure(made["workspaceId"], props)
            return self._described(made["workspaceId"])
        except ValueError:
            _log.warning("workspace %s of stack %s is removed again", made["workspaceId"], stack)
            self.delete(made["arn"], props)
            raise

    def update(
        self, physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str
    ) -> tuple[str, dict[str, str]]:
        """Bring the workspace to its new properties, or replace it when its key changes."""
        if old.get("KmsKeyArn") != new.get("KmsKeyArn"):
            made = self.create("", new, stack)
            self.delete(physical_id, old)
            return made
        workspace = _id(physical_id)
        if old.get("Alias") != new.get("Alias"):
            self._aps("POST", f"/workspaces/{workspace}/alias", {"alias": new.get("Alias") or ""})
        if old.get("WorkspaceConfiguration") != new.get("WorkspaceConfiguration"):
            self._configure(workspace, new)
        if _tags(old) != _tags(new):
            self._aps(
                "POST", f"/tags/{physical_id.replace(':', '%3A').replace('/', '%2F')}", {"tags": _tags(new)}
            )
        return self._described(workspace)

    def delete(self, physical_id: str, _props: dict[str, Any]) -> None:
        """Remove the workspace; one that is gone already is as good."""
        try:
            self._aps("DELETE", f"/workspaces/{_id(physical_id)}")
        except ValueError as error:
            if not str(error).startswith("404"):
                raise

    def _configure(self, workspace: str, props: Mapping[str, Any]) -> None:
        if configuration := props.get("WorkspaceConfiguration"):
            self._aps("PATCH", f"/workspaces/{workspace}/configuration", configuration_fields(configuration))

    def _described(self, workspace: str) -> tuple[str, dict[str, str]]:
        deadline = time.monotonic() + _FRONT_DOOR_S
        while True:
            found = self._aps("GET", f"/workspaces/{workspace}")["workspace"]
            status = found["status"]["statusCode"]
            if status == "ACTIVE":
                endpoint = str(found.get("prometheusEndpoint", ""))
                attributes = {"Arn": found["arn"], "WorkspaceId": workspace, "PrometheusEndpoint": endpoint}
                return str(found["arn"]), attributes
            if status == "CREATION_FAILED" or time.monotonic() > deadline:
                raise ValueError(f"workspace {workspace} is {status}")
            time.sleep(_POLL_S)

    def _aps(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        place = {
            events.ACCOUNT_HEADER: self._responses.get_account_id(),
            events.REGION_HEADER: self._responses.get_region(),
        }
        return self._front_door.call(method, path, document, place)


def configuration_fields(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """`WorkspaceConfiguration` as AMP's API has it: one name differs, and label sets are maps there."""
    numbers = ("RetentionPeriodInDays", "OutOfOrderTimeWindowInSeconds", "RuleQueryOffsetInSeconds")
    fields: dict[str, Any] = {
        name[:1].lower() + name[1:]: int(configuration[name]) for name in numbers if name in configuration
    }
    if "LimitsPerLabelSets" in configuration:
        fields["limitsPerLabelSet"] = [
            {
                "labelSet": {label["Name"]: label["Value"] for label in item["LabelSet"]},
                "limits": {"maxSeries": int(item["Limits"]["MaxSeries"])}
                if "MaxSeries" in item["Limits"]
                else {},
            }
            for item in configuration["LimitsPerLabelSets"]
        ]
    return fields


def _id(arn: str) -> str:
    return arn.rpartition("/")[2]


def _tags(props: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in props.get("Tags", [])}


def _serve(socket_path: str, front_door: str) -> None:
    """Run the emulator on `socket_path` until it is terminated."""
    from hypercorn.asyncio import serve  # noqa: PLC0415 (only the child process may load the emulator)
    from hypercorn.config import Config  # noqa: PLC0415

    _adapt(_FrontDoor(front_door))
    config = Config()
    config.bind = [f"unix:{socket_path}"]
    config.umask = 0o077
    config.loglevel = "WARNING"
    config.graceful_timeout = 1.0
    asyncio.run(serve(import_module("ministack.app").app, config))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _serve(*sys.argv[1:])
