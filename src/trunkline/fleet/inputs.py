"""What a services stack has to be told: parameters by their names, from other stacks, images and the network.

A template declares what it takes; everything known is offered under its name, and what is not asked for is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from trunkline import __version__
from trunkline.errors import FleetError
from trunkline.fleet.images import ImageKind, push_image
from trunkline.fleet.order import declared_parameters
from trunkline.fleet.pace import Place
from trunkline.fleet.templates import BaseOutput, ServicesParameter

PushImage = Callable[[Any, str, str, ImageKind], str]
"""From a client of ECR, a repository, a tag and which image it is to the digest of what is there afterwards."""

# Each image, the outputs of the base stack that say where it goes, and the parameter that hands it on.
IMAGES: Final[tuple[tuple[ImageKind, str, str, str], ...]] = (
    (
        "collector",
        BaseOutput.COLLECTOR_REPOSITORY,
        BaseOutput.COLLECTOR_REPOSITORY_URI,
        ServicesParameter.COLLECTOR_IMAGE,
    ),
    (
        "application",
        BaseOutput.APPLICATION_REPOSITORY,
        BaseOutput.APPLICATION_REPOSITORY_URI,
        ServicesParameter.APPLICATION_IMAGE,
    ),
)


def asked_for(template: str, known: Mapping[str, str]) -> dict[str, str]:
    """Of what is known, what the template takes."""
    return {name: known[name] for name in declared_parameters(template) if name in known}


def missing(template: str, known: Mapping[str, str]) -> tuple[str, ...]:
    """What the template takes, has no default for, and nobody knows."""
    declared = declared_parameters(template)
    return tuple(name for name, each in declared.items() if "Default" not in each and name not in known)


def find_image(ecr: Any, repository: str, tag: str) -> str:
    """The digest of the image with a tag, empty when there is none or no repository."""
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    except (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException):
        return ""
    return str(found[0]["imageDigest"]) if found else ""


def pushed_or_named(ecr: Any, repository: str, tag: str, kind: ImageKind) -> str:
    """The digest of the image that was pushed under the tag; where nothing is pulled, one is named there instead.

    Raises `FleetError` when AWS's own registry has no such image.
    """
    digest = find_image(ecr, repository, tag)
    if digest:
        return digest
    if (urlsplit(ecr.meta.endpoint_url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
        raise FleetError(
            f"repository {repository} has no image of the {kind} with the tag {tag}; "
            f"build and push it with: trunkline images push {kind} --repository {repository} --tag {tag}"
        )
    return push_image(ecr, repository, tag, kind)


def image_values(
    place: Place, template: str, base: Mapping[str, str], push: PushImage, on_text: Callable[[str], None]
) -> dict[str, str]:
    """The images that the services ask for, pushed into the repositories of the base stack, by digest."""
    values = {}
    for kind, repository, uri, parameter in IMAGES:
        if parameter in declared_parameters(template) and repository in base:
            digest = push(place.client("ecr"), base[repository], __version__, kind)
            values[parameter] = f"{base[uri]}@{digest}"
            on_text(f"has the image of the {kind}")
    return values
