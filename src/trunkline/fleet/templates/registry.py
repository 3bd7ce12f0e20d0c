"""Image repositories: those of an account and region, or the monitoring account's for a whole organisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from troposphere import GetAtt, Ref, Template, ecr  # type: ignore[import-untyped]

from trunkline.errors import FleetError
from trunkline.fleet.model import Fleet, Organization, Service
from trunkline.fleet.templates.document import Json, add_outputs, document, new_template, rendered
from trunkline.fleet.templates.interface import BaseOutput

PushedImage = Literal["collector", "application"]

PULL_ACTIONS: Final = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


def pushed_images(fleet: Fleet, services: Sequence[Service]) -> tuple[PushedImage, ...]:
    """The images of the fleet's own that these services need; only these have repositories and parameters."""
    collector: tuple[PushedImage, ...] = () if fleet.collector_image else ("collector",)
    return (*collector, "application") if any(map(runs_the_demo, services)) else collector


def runs_the_demo(service: Service) -> bool:
    """Whether one of its containers is the demo application."""
    if service.task_definition:
        return False
    return not service.containers or any(not container.image for container in service.containers)


def registry_template(fleet: Fleet) -> str:
    """The repositories that a whole organisation pulls from: one stack in each region, in the monitoring account.

    Not replication: a registry has one configuration of it, which is not the fleet's alone, and what it copies
    has neither the policy nor the tags of its source.
    """
    if fleet.organization is None:
        raise FleetError("a registry for an organization needs its id; name the organization")
    template = new_template(fleet, "the images that the organisation's accounts pull")
    images = pushed_images(fleet, fleet.organization.services)
    add_outputs(template, add_repositories(template, fleet, images, _organization_pulls(fleet.organization)))
    place = f"account {fleet.monitoring.account_id}, the registry of the organization"
    return rendered(fleet, template, place, "use shorter names of repositories")


def add_repositories(
    template: Template, fleet: Fleet, images: Sequence[PushedImage], policy: Json | None = None
) -> Json:
    """Add a repository for each image, and return the outputs that tell of them."""
    outputs: Json = {}
    if "collector" in images:
        made = template.add_resource(
            _repository("CollectorRepository", fleet.names.collector_repository, policy)
        )
        outputs[BaseOutput.COLLECTOR_REPOSITORY] = Ref(made)
        outputs[BaseOutput.COLLECTOR_REPOSITORY_URI] = GetAtt(made, "RepositoryUri")
    if "application" in images:
        made = template.add_resource(
            _repository("ApplicationRepository", fleet.names.application_repository, policy)
        )
        outputs[BaseOutput.APPLICATION_REPOSITORY] = Ref(made)
        outputs[BaseOutput.APPLICATION_REPOSITORY_URI] = GetAtt(made, "RepositoryUri")
    return outputs


def _repository(title: str, name: str, policy: Json | None) -> Any:
    more = {"RepositoryPolicyText": policy} if policy else {}
    return ecr.Repository(
        title,
        RepositoryName=name,
        ImageTagMutability="IMMUTABLE",
        ImageScanningConfiguration=ecr.ImageScanningConfiguration(ScanOnPush=True),
        # Images are removed when told so, and not with the stack.
        DeletionPolicy="RetainExceptOnCreate",
        UpdateReplacePolicy="Retain",
        **more,
    )


def _organization_pulls(organization: Organization) -> Json:
    return document(
        [
            {
                "Effect": "Allow",
                "Principal": "*",
                "Action": list(PULL_ACTIONS),
                "Condition": {"StringEquals": {"aws:PrincipalOrgID": organization.id_}},
            }
        ]
    )
