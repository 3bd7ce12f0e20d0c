"""Building an image from what `context` lays out.

The tag is made of Trunkline's version and of a fingerprint of everything that goes in, so the same contents have the same
tag, and other contents another, as immutable tags demand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trunkline.fleet.images.context import Wheel, fingerprint, lay_out, make_wheel
from trunkline.fleet.images.named import TITLES, ImageKind
from trunkline.fleet.images.tools import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What can be chosen about an image; empty means what comes with Trunkline.

    `base` is the name of the base image, by default python:<version>-slim of the wheel's Python version. `wheel` is a
    wheel of Trunkline for Linux, by default made from the source tree. `configuration` is the collector's, as text.
    `requirements` is a pip requirements file with hashes, as text.
    """

    base: str = ""
    wheel: Path | None = None
    configuration: str = ""
    requirements: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Built:
    """An image in the local store of `tool`; `name` is how it is called there, tag included."""

    kind: ImageKind
    name: str
    tag: str
    base: str
    tool: Tool


def build_images(kinds: Sequence[ImageKind], tool: Tool, recipe: Recipe) -> list[Built]:
    """Build the images of `kinds` in the local store of `tool`.

    Raises `FleetError` with the command that failed, its last lines and the remedy, and `UsageError` for a wheel that
    cannot be used.
    """
    with _folder() as folder:
        wheel = Wheel.read(recipe.wheel) if recipe.wheel else make_wheel(folder / "wheel")
        return [_build(kind, tool, recipe, wheel, folder / kind) for kind in kinds]


def _build(kind: ImageKind, tool: Tool, recipe: Recipe, wheel: Wheel, context: Path) -> Built:
    base = recipe.base or wheel.default_base
    lay_out(context, kind, wheel, recipe.configuration, recipe.requirements)
    tag = recipe.tag or f"{wheel.version}-{fingerprint(context, base, wheel.docker_platform)}"
    name = f"localhost/{TITLES[kind]}:{tag}"
    tool.run("build", *_options(kind, tool, wheel, base), "--tag", name, str(context), remedy=_remedy(base))
    return Built(kind, name, tag, base, tool)


def _options(kind: ImageKind, tool: Tool, wheel: Wheel, base: str) -> Iterator[str]:
    yield from ("--build-arg", f"BASE={base}")
    if wheel.docker_platform:
        yield from ("--platform", wheel.docker_platform)
    if tool.kind.is_oci:
        # One time for every file: the same contents have the same digest, whoever builds them and when.
        yield from ("--timestamp", "0")
        for key, value in {"title": TITLES[kind], "version": wheel.version}.items():
            yield from ("--annotation", f"org.opencontainers.image.{key}={value}")


def _remedy(base: str) -> str:
    return (
        f"The base image {base} has to be there or to be had, with python3 on its PATH; another is named with --base, "
        "another program with --with"
    )


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="trunkline-images-") as name:
        yield Path(name)
