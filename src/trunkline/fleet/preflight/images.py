"""The images of collector and application: in the region's registry, or to be built."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline import __version__
from trunkline.fleet.model import Service
from trunkline.fleet.preflight.look import Look
from trunkline.fleet.templates import pushed_images


def check_images(look: Look, region: str, services: Sequence[Service]) -> None:
    """Whether the fleet's own images are in the region, or can be built and pushed."""
    names = look.fleet.names
    repositories = {"collector": names.collector_repository, "application": names.application_repository}
    ecr = look.client("ecr", region)
    if not look.images or not look.images.is_real(ecr):
        return
    for kind in pushed_images(look.fleet, services):
        with look.checking(f"image of the {kind}", region):
            if look.images.there(ecr, repositories[kind], __version__) or not (why := look.images.problem()):
                look.say("ok", region, f"image of the {kind}")
            else:
                why = (
                    f"{repositories[kind]} has none with the tag {__version__}, and none can be built: {why}"
                )
                how = f"{kind} --repository {repositories[kind]} --region {region} --tag {__version__}"
                remedy = f"that, or from a computer that can: trunkline images push {how}"
                look.say("error", region, f"image of the {kind}", why, remedy)
