"""What goes into an image: a folder with a Dockerfile, Trunkline's wheel unpacked, and what it needs at run time.

All of it is fetched and laid out here, so that building needs nothing from the network but the base image, and the base
needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final, Self

import trunkline
from trunkline.errors import FleetError, UsageError
from trunkline.fleet.images.named import ImageKind

_SOURCES: Final = resources.files("trunkline.fleet.images")
# The names of a binary distribution format, PEP 427: name-version(-build)?-python-abi-platform.whl
_WHEEL_NAME: Final = re.compile(
    r"trunkline-(?P<version>[^-]+)(-\d[^-]*)?-(?P<python>[^-]+)-[^-]+-(?P<platform>[^-]+)\.whl"
)
_BUILT_FROM: Final = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src")
_DOCKER_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_GLIBCS: Final = ("2_28", "2_27", "2_26", "2_24", "2_17")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of Trunkline, and what its name says: `python` as in `3.13`, `machine` as in `aarch64`, or empty for any."""

    path: Path
    version: str
    python: str
    machine: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `UsageError` when it is not a file, not a wheel of Trunkline, or not one for Linux."""
        found = _WHEEL_NAME.fullmatch(path.name)
        if not path.is_file() or not found:
            raise UsageError(
                f"--wheel {path}: there is no wheel of Trunkline of that name; {_how_to_make_one()}"
            )
        tag = found["platform"]
        if tag != "any" and "linux" not in tag:
            raise UsageError(
                f"--wheel {path}: it is for {tag}, and images are for Linux; {_how_to_make_one()}"
            )
        python = re.fullmatch(r"cp(\d)(\d+)", found["python"])
        machine = next((name for name in _DOCKER_MACHINES if tag.endswith(name)), "")
        version = f"{python[1]}.{python[2]}" if python else _running_python()
        return cls(path, found["version"], version, machine)

    @property
    def is_for_here(self) -> bool:
        """Whether this very Python could run it."""
        here = sys.platform == "linux" and self.python == _running_python()
        return here and self.machine in ("", _machine())

    @property
    def default_base(self) -> str:
        """Docker Hub's image of the wheel's Python."""
        return f"docker.io/library/python:{self.python}-slim"

    @property
    def docker_platform(self) -> str:
        """As in `linux/arm64`; empty when it is this machine's or any."""
        if self.machine in ("", _machine()):
            return ""
        return f"linux/{_DOCKER_MACHINES[self.machine]}"


def make_wheel(folder: Path) -> Wheel:
    """Build a wheel of the Trunkline that runs here, from its source tree, into `folder`.

    Raises `UsageError` where there is no source tree or this is not Linux, and `FleetError` when the build fails.
    """
    source = source_tree()
    # A copy: what earlier builds have left in the tree would get into the wheel.
    tree = folder / "source"
    tree.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "_kernel.c", "*.egg-info")
    for name in _BUILT_FROM:
        if (source / name).is_dir():
            shutil.copytree(source / name, tree / name, ignore=ignored)
        else:
            shutil.copy2(source / name, tree / name)
    arguments = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(tree))
    _pip(*arguments, remedy="setuptools and cython have to be installed: make setup")
    return Wheel.read(next(folder.glob("trunkline-*.whl")))


def source_tree() -> Path:
    """Where the Trunkline that runs here could be built. Raises `UsageError` where there is none, or not on Linux."""
    source = Path(trunkline.__file__).resolve().parents[2]
    if not (source / "setup.py").is_file() or sys.platform != "linux":
        raise UsageError(f"which wheel? {_how_to_make_one()}, and name it with --wheel")
    return source


def lay_out(
    folder: Path, kind: ImageKind, wheel: Wheel, configuration: str = "", requirements: str = ""
) -> None:
    """Fill `folder` with what the image of `kind` is built from, with no more than `docker build FOLDER` if need be.

    `configuration` is the text of the collector's, `requirements` a pip requirements file with hashes; both have
    defaults that come with Trunkline. Raises `FleetError`, and `UsageError` for a wheel that is broken.
    """
    packages = folder / "opt"
    packages.mkdir(parents=True)
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            archive.extractall(packages)
    except zipfile.BadZipFile as error:
        raise UsageError(f"--wheel {wheel.path}: {error}; {_how_to_make_one()}") from None
    _install(packages, wheel, requirements or _text(_SOURCES / f"{kind}.txt"))
    arguments = {"BASE": wheel.default_base, "VERSION": wheel.version, "WHEEL_PYTHON": wheel.python}
    recipe = _with_defaults(_text(_SOURCES / f"{kind}.Dockerfile"), arguments)
    (folder / "Dockerfile").write_text(recipe, encoding="utf-8")
    if kind == "collector":
        default = _text(resources.files("trunkline.fleet") / "collector.yaml")
        (folder / "collector.yaml").write_text(configuration or default, encoding="utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # whatever the umask is here


def _with_defaults(recipe: str, arguments: Mapping[str, str]) -> str:
    """A Dockerfile whose build arguments have these defaults."""
    for name, value in arguments.items():
        recipe = recipe.replace(f"\nARG {name}\n", f"\nARG {name}={value}\n")
    return recipe


def fingerprint(folder: Path, *more: str) -> str:
    """12 hex digits that change with any file's name or content, or with `more`."""
    digest = hashlib.sha256("\0".join(more).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _install(packages: Path, wheel: Wheel, requirements: str) -> None:
    listed = packages.parent / "requirements.txt"
    listed.write_text(requirements, encoding="utf-8")
    options = (
        "--require-hashes",
        "--no-deps",
        "--no-compile",
        "--only-binary=:all:",
        "--no-warn-script-location",
    )
    _pip(
        "install",
        *options,
        *_target_options(wheel),
        "--target",
        str(packages),
        "--requirement",
        str(listed),
        remedy="pip fetches what the image needs at run time: check its index (`pip config list`) and the way to it; "
        "pins of your own can be given with --requirements",
    )
    listed.unlink()


def _target_options(wheel: Wheel) -> Iterator[str]:
    """What pip has to be told when the image's Python is not this one."""
    if wheel.is_for_here:
        return
    yield from ("--implementation", "cp", "--python-version", wheel.python)
    machine = wheel.machine or _machine()
    for glibc in _GLIBCS:
        yield from ("--platform", f"manylinux_{glibc}_{machine}")
    yield from ("--platform", f"manylinux2014_{machine}")


def _pip(*arguments: str, remedy: str) -> None:
    argv: Sequence[str] = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 (pip)
    if done.returncode:
        said = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        missing = "No module named pip" in said
        remedy = f"install it: {sys.executable} -m ensurepip" if missing else remedy
        raise FleetError(f"`pip {arguments[0]}` ended with exit code {done.returncode}:\n  {said}\n{remedy}")


def _running_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _machine() -> str:
    """This machine's processor by its name on Linux; a Mac says arm64."""
    return {"arm64": "aarch64"}.get(platform.machine(), platform.machine())


def _how_to_make_one() -> str:
    return (
        "make one on Linux, in Trunkline's source tree: pip wheel --no-deps --wheel-dir dist . (with docker: "
        f'docker run --rm -v "$PWD":/src -w /src docker.io/library/python:{_running_python()} '
        "pip wheel --no-deps --wheel-dir dist .)"
    )


def _text(source: Traversable) -> str:
    return source.read_text(encoding="utf-8")
