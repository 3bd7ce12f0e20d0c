"""What the simulator needs to be different in ministack.

Everything here leans on ministack's inner parts, so its version is checked first: docs/decisions/0003-emulator.md
says what each change is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any, Final

from trunkline.errors import SimulatorError
from trunkline.simulator.emulator.cloudformation import tell_of_types
from trunkline.simulator.emulator.door import InternalDoor
from trunkline.simulator.emulator.drift import DriftAware, tell_of_drift
from trunkline.simulator.emulator.grafana import Grafanas
from trunkline.simulator.emulator.network import with_way_out
from trunkline.simulator.emulator.peering import TYPE, PeeringConnections, name_endpoints
from trunkline.simulator.emulator.stacksets import StackSets
from trunkline.simulator.emulator.types import more_types
from trunkline.simulator.emulator.workspaces import Workspaces

VERSION: Final = "1.5.33"
"""The ministack whose inner parts are known here."""

Handlers = dict[str, dict[str, Any]]

_PARTS: Final = ("changesets", "drift", "handlers", "provisioners", "stacks")


def adapt(front_door: InternalDoor) -> None:
    """Change ministack as loaded in this process; raises SimulatorError if it is not the one that is known."""
    if version("ministack") != VERSION:
        raise SimulatorError(
            f"ministack {version('ministack')} is installed, but only {VERSION} is known to the simulator: "
            f"pip install 'ministack=={VERSION}'"
        )
    # By name, because only this process may load the emulator, and because it is untyped.
    responses, ecr, ecs, ec2, iam = (
        import_module(f"ministack.{name}")
        for name in ("core.responses", "services.ecr", "services.ecs", "services.ec2", "services.iam")
    )
    parts = {name: import_module(f"ministack.services.cloudformation.{name}") for name in _PARTS}
    handlers, provisioners, stacks = (parts[name] for name in ("handlers", "provisioners", "stacks"))
    known: Handlers = provisioners._RESOURCE_HANDLERS  # noqa: SLF001 (it has no public way to add a type)
    workspaces = Workspaces(front_door, responses)
    known["AWS::APS::Workspace"] = workspaces.handlers()
    types, kept = more_types(ec2, responses)
    known.update(types)
    known[TYPE] = PeeringConnections(ec2, iam, responses).handlers()
    name_endpoints(known["AWS::EC2::VPCEndpoint"])
    tell_of_types(parts, ecr, workspaces)
    tell_of_drift(parts["drift"], {"iam": iam, "ecs": ecs, "ecr": ecr}, workspaces, kept)
    _replace(stacks, "_runs_on_worker_thread", _on_worker_thread_too)
    # Capabilities are only checked with the emulator's own authorisation on.
    _replace(handlers, "_capabilities_enforced", lambda _: lambda: True)
    actions, organizations = handlers._ACTION_HANDLERS, import_module("ministack.services.organizations")  # noqa: SLF001
    state = import_module("ministack.services.cloudformation")
    actions.update(StackSets(responses, organizations, actions, state._stacks).actions())  # noqa: SLF001
    actions.update(DriftAware(parts["drift"], actions, state._stacks, state._change_sets).actions())  # noqa: SLF001
    Grafanas(kept["AWS::Grafana::Workspace"], responses).join(import_module("ministack.app"))
    _announce_services(front_door, ecs, responses)
    _replace(ec2, "_init_defaults", with_way_out(ec2))
    _complete_roles(known, iam)
    _complete_tasks(known, ecs)
    for kind in (name for name in known if name.startswith("AWS::IAM::")):
        _tell_after(known[kind], front_door)


def _replace(module: ModuleType, name: str, make: Callable[[Any], Any]) -> None:
    setattr(module, name, make(getattr(module, name)))


def _on_worker_thread_too(original: Callable[[str], bool]) -> Callable[[str], bool]:
    """Workspaces wait for the front door, which must not hold up the emulator's other callers."""
    return lambda kind: kind == "AWS::APS::Workspace" or original(kind)


def _tell_after(known: dict[str, Any], front_door: InternalDoor) -> None:
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


def _announce_services(front_door: InternalDoor, ecs: ModuleType, responses: ModuleType) -> None:
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
        if str(props.get("Cluster", "default")).rpartition("/")[2] not in ecs._clusters:  # noqa: SLF001
            raise ValueError(
                "Invalid request provided: CreateService error: Cluster not found. (Service: AmazonECS; "
                "Status Code: 400; Error Code: ClusterNotFoundException)"
            )
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
