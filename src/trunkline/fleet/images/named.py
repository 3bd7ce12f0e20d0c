"""An image that is only a manifest naming its program: what a simulated ECS needs, which runs the program itself.

The manifest is the same on every machine, and so is its digest.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Literal

from trunkline import __version__
from trunkline.errors import FleetError

ImageKind = Literal["collector", "application"]

TITLES: Final[dict[ImageKind, str]] = {
    "collector": "trunkline-collector",
    "application": "trunkline-demo-application",
}
"""What the annotation `org.opencontainers.image.title` of each image says."""

_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
# OCI image specification 1.1, "Guidance for an Empty Descriptor": the two bytes {}.
_EMPTY: Final[dict[str, Any]] = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2,
    "data": "e30=",
}


def image_manifest(kind: ImageKind) -> str:
    """The OCI manifest of the image, as the bytes its digest is made of."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "artifactType": "application/vnd.trunkline.program.v1",
        "config": _EMPTY,
        "layers": [_EMPTY],
        "annotations": {
            "org.opencontainers.image.title": TITLES[kind],
            "org.opencontainers.image.version": __version__,
        },
    }
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"))


def push_image(ecr: Any, repository: str, tag: str, kind: ImageKind) -> str:
    """Put the image into a repository under a tag and return its digest, `sha256:` and 64 hex digits.

    Pushing the same image again changes nothing. Raises `FleetError` when the tag, which is immutable, is
    that of another image.
    """
    manifest = image_manifest(kind)
    digest = "sha256:" + hashlib.sha256(manifest.encode()).hexdigest()
    already_there = (
        ecr.exceptions.ImageAlreadyExistsException,
        ecr.exceptions.ImageTagAlreadyExistsException,
    )
    try:
        ecr.put_image(
            repositoryName=repository,
            imageManifest=manifest,
            imageManifestMediaType=_MANIFEST_TYPE,
            imageTag=tag,
        )
    except already_there as error:
        found = _digest(ecr, repository, tag)
        if found != digest:
            raise FleetError(
                f"the tag {tag} in repository {repository} is that of another image ({found}), and tags "
                "there are immutable; choose another tag"
            ) from error
    return digest


def _digest(ecr: Any, repository: str, tag: str) -> str:
    images = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    return str(images[0]["imageDigest"])
