"""Container images: built and pushed for AWS, or only named for the simulator.

`context` lays out what goes into an image, `build` makes it with whichever of docker, podman, buildah or finch is
there, `registry` signs in to ECR and pushes. `named` pushes a manifest without layers, whose title names the
program that a simulated ECS runs in its place; a real image carries the same title, so the simulator runs both.
"""

from trunkline.fleet.images.named import TITLES, ImageKind, image_manifest, push_image

__all__ = ["TITLES", "ImageKind", "image_manifest", "push_image"]
