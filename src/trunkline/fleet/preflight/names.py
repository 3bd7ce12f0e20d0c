"""Names in a workload account's region that the base stack wants: cluster, log group, image repositories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.fleet.lists import tag_values
from trunkline.fleet.preflight.look import Look


def check_names(look: Look, region: str) -> None:
    """Whether the names are free, or of something that is the fleet's own."""
    names = look.fleet.names
    _check_cluster(look, region, names.cluster)
    _check_log_group(look, region, names.log_group)
    for name in (names.collector_repository, names.application_repository):
        _check_repository(look, region, name)


def _check_cluster(look: Look, region: str, name: str) -> None:
    with look.checking(f"cluster {name}", region):
        ecs = look.client("ecs", region)
        found = ecs.describe_clusters(clusters=[name], include=["TAGS"])["clusters"]
        active = [each for each in found if each["status"] == "ACTIVE"]
        tags = {each["key"]: each["value"] for each in active[0].get("tags", ())} if active else {}
        _say(look, f"cluster {name}", region, active[0]["clusterArn"] if active else "", tags)


def _check_log_group(look: Look, region: str, name: str) -> None:
    with look.checking(f"log group {name}", region):
        logs = look.client("logs", region)
        groups = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        arns = [each["arn"].removesuffix(":*") for each in groups if each["logGroupName"] == name]
        tags = logs.list_tags_for_resource(resourceArn=arns[0]).get("tags", {}) if arns else {}
        _say(look, f"log group {name}", region, arns[0] if arns else "", tags)


def _check_repository(look: Look, region: str, name: str) -> None:
    with look.checking(f"repository {name}", region):
        ecr = look.client("ecr", region)
        arn = _repository(ecr, name)
        tags = ecr.list_tags_for_resource(resourceArn=arn)["tags"] if arn else ()
        _say(look, f"repository {name}", region, arn, tag_values(tags))


def _repository(ecr: Any, name: str) -> str:
    """The ARN of a repository; empty if there is none."""
    try:
        return str(ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryArn"])
    except ecr.exceptions.RepositoryNotFoundException:
        return ""


def _say(look: Look, what: str, region: str, arn: str, tags: Mapping[str, str]) -> None:
    if arn:
        look.owned(what, region, tags, arn)
    else:
        look.say("ok", region, what)
