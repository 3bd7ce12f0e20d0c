"""The folders and the environment a container's processes find.

There is no file system of its own: a container sees this computer's files. A volume is a folder; where a container
mounts it (or the image declares one), every argument and variable that names that path, or a path below it, names the
folder instead, and `TRUNKLINE_DATA_DIR` is the folder of the image's own `data_dir`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trunkline.simulator.tasks.definition import ContainerDefinition
from trunkline.simulator.tasks.images import Image
from trunkline.simulator.tasks.namespaces import TaskNetwork

INHERITED: Final = re.compile(r"LANG|LC_\w+|LD_LIBRARY_PATH|PYTHONPATH|SSL_CERT_FILE|TZ|VIRTUAL_ENV")
"""What an image needs of this computer to run its programs here; nothing of AWS's."""

DATA_DIR: Final = "TRUNKLINE_DATA_DIR"
RESOLVE: Final = "TRUNKLINE_RESOLVE"


@dataclass(frozen=True)
class ContainerFolders:
    """Folders of one container, all below its task's folder."""

    home: Path
    """Its home, and its working directory unless it asks for one."""
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Path in the container → folder, longest path first."""

    @classmethod
    def create(cls, task_folder: Path, definition: ContainerDefinition, image: Image) -> ContainerFolders:
        home = task_folder / "containers" / definition.name
        mounts = {path: task_folder / "volumes" / volume for path, volume in definition.mount_points.items()}
        if image.data_dir:
            mounts.setdefault(image.data_dir, home / "data")
        for folder in (home / "tmp", *mounts.values()):
            folder.mkdir(parents=True, exist_ok=True)
        return cls(home, dict(sorted(mounts.items(), key=lambda each: -len(each[0]))))

    def translate(self, text: str) -> str:
        """Put the folders in place of the paths they are mounted at, wherever such a path begins in the text."""
        if not self.mounts:
            return text
        paths = "|".join(re.escape(path) for path in self.mounts)
        return re.sub(rf"(?<![\w./-])({paths})(?![\w.-])", lambda match: str(self.mounts[match[1]]), text)

    def working_directory(self, definition: ContainerDefinition) -> Path:
        return (
            Path(self.translate(definition.working_directory)) if definition.working_directory else self.home
        )


def host_environment() -> dict[str, str]:
    """The part of this process' own environment that containers get, with this Python first on the PATH."""
    kept = {name: value for name, value in os.environ.items() if INHERITED.fullmatch(name)}
    if "PYTHONPATH" in kept:
        kept["PYTHONPATH"] = os.pathsep.join(
            str(Path(each).absolute()) for each in kept["PYTHONPATH"].split(os.pathsep) if each
        )
    path = os.environ.get("PATH", os.defpath)
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{path}"}


@dataclass(frozen=True)
class TaskSurroundings:
    """What all containers of a task find alike. `ports` maps container ports to this computer's, without namespaces."""

    region: str
    hostname: str
    network: TaskNetwork
    credentials_path: str
    extra: Mapping[str, str]
    ports: Mapping[int, int]


def container_environment(
    around: TaskSurroundings,
    definition: ContainerDefinition,
    image: Image,
    folders: ContainerFolders,
    metadata_path: str,
    secrets: Mapping[str, str],
) -> dict[str, str]:
    """Every variable a container gets; later sources win: image, ECS, the simulator, task definition, secrets."""
    environment = host_environment() | {"HOME": str(folders.home), "TMPDIR": str(folders.home / "tmp")}
    environment |= image.environment
    environment |= _of_ecs(around, metadata_path)
    environment |= around.extra
    if image.data_dir:
        environment[DATA_DIR] = str(folders.mounts[image.data_dir])
    led = environment.get(RESOLVE, "")
    environment |= {name: folders.translate(value) for name, value in definition.environment.items()}
    if led:
        environment[RESOLVE] = ways_in(led, environment[RESOLVE])
    return environment | _of_ports(around, definition, environment) | dict(secrets)


def ways_in(ours: str, given: str) -> str:
    """The ways that the task definition gives, or the simulator's, which stand for those to a VPC's endpoint, too."""
    return ours if ".vpce.amazonaws.com:" in given else given


def _of_ecs(around: TaskSurroundings, metadata_path: str) -> dict[str, str]:
    environment = {
        "AWS_DEFAULT_REGION": around.region,
        "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        "AWS_REGION": around.region,
        "ECS_CONTAINER_METADATA_URI_V4": around.network.endpoint + metadata_path,
        "HOSTNAME": around.hostname,
    }
    if around.credentials_path and around.network.namespace is not None:
        environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = around.credentials_path
    elif around.credentials_path:
        environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = around.network.endpoint + around.credentials_path
    return environment


def _of_ports(
    around: TaskSurroundings, definition: ContainerDefinition, environment: Mapping[str, str]
) -> dict[str, str]:
    """Without namespaces: where to listen (`PORT` the first, `PORT_<n>` each), and where the task's others do."""
    if not around.ports:
        return {}
    own = [(port, around.ports[port]) for port in definition.ports]
    told = {f"PORT_{port}": str(local) for port, local in own}
    if own:
        told["PORT"] = str(own[0][1])
    leads = [
        f"{host}:{port}=127.0.0.1:{local}"
        for port, local in around.ports.items()
        for host in ("0.0.0.0", "127.0.0.1", "localhost")  # noqa: S104 (names to be led elsewhere)
    ]
    given = environment.get(RESOLVE, "")
    return told | {RESOLVE: ",".join([*leads, *([given] if given else [])])}
