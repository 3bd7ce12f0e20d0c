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
        laid_out = (lay_out_image(folder / kind, kind, recipe, wheel) for kind in kinds)
        return [build_image(each, tool) for each in laid_out]


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A folder from which an image can be built, under a tag that says what is in it."""

    kind: ImageKind
    folder: Path
    tag: str
    base: str
    wheel: Wheel


def lay_out_image(folder: Path, kind: ImageKind, recipe: Recipe, wheel: Wheel, tag: str = "") -> LaidOut:
    """Fill `folder` with what the image is built from; `tag` over the one that is made of the contents.

    Raises `FleetError`, and `UsageError` for a wheel that is broken.
    """
    base = recipe.base or wheel.default_base
    lay_out(folder, kind, wheel, recipe.configuration, recipe.requirements)
    tag = tag or recipe.tag or f"{wheel.version}-{fingerprint(folder, base, wheel.docker_platform)}"
    return LaidOut(kind, folder, tag, base, wheel)


def build_image(laid_out: LaidOut, tool: Tool) -> Built:
    """Build it in the local store of `tool`. Raises `FleetError`."""
    kind, base = laid_out.kind, laid_out.base
    name = f"localhost/{TITLES[kind]}:{laid_out.tag}"
    options = _options(kind, tool, laid_out.wheel, base)
    tool.run("build", *options, "--tag", name, str(laid_out.folder), remedy=_remedy(base))
    return Built(kind, name, laid_out.tag, base, tool)


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
