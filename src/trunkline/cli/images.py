"""`trunkline images`: build the collector's and the demo application's image, and push them to Amazon ECR."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trunkline.errors import FleetError, UsageError

if TYPE_CHECKING:
    from trunkline.fleet.images.build import Built
    from trunkline.fleet.images.named import ImageKind

KINDS: Final[tuple[ImageKind, ...]] = ("collector", "application")


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="ACTION", required=True)
    build = commands.add_parser("build", help="build an image, or both, in the local store")
    build.add_argument("kinds", nargs="*", metavar="KIND", help="collector, application (default: both)")
    _add_recipe(build)
    build.set_defaults(run=_build)
    push = commands.add_parser("push", help="build an image, push it to a repository and say its digest")
    push.add_argument("kind", choices=KINDS, metavar="KIND", help="collector or application")
    push.add_argument(
        "--repository", required=True, metavar="NAME", help="the repository's name, such as shop/collector"
    )
    push.add_argument("--region", help="the repository's region (default: AWS_REGION, or the profile's)")
    push.add_argument(
        "--profile", help="whose credentials to use (default: AWS_PROFILE, or the standard chain)"
    )
    push.add_argument(
        "--endpoint-url", metavar="URL", help="ECR's address, if it is not AWS's (AWS_ENDPOINT_URL)"
    )
    _add_recipe(push)
    push.set_defaults(run=_push)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--with",
        dest="tool",
        default="",
        metavar="PROGRAM",
        help="docker, podman, buildah or finch (default: the first that can be used)",
    )
    parser.add_argument(
        "--base",
        default="",
        metavar="IMAGE",
        help="the base image (default: python:<version>-slim of Docker Hub)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the collector's configuration (default: the reference one)",
    )
    parser.add_argument(
        "--wheel", type=Path, metavar="FILE", help="Trunkline's wheel (default: made from its sources)"
    )
    parser.add_argument(
        "--requirements",
        type=Path,
        metavar="FILE",
        help="what else goes in, pinned with hashes (default: Trunkline's own)",
    )
    parser.add_argument("--tag", default="", help="default: the version and a fingerprint of the contents")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _build(options: argparse.Namespace) -> int:
    kinds = [_kind(name) for name in options.kinds] or KINDS
    built = _built(kinds, options)
    if options.json:
        print(json.dumps({each.kind: _as_data(each) for each in built}, indent=2))
    else:
        for each in built:
            print(f"{each.kind:<11}  {each.name}")
    return 0


def _push(options: argparse.Namespace) -> int:
    from trunkline.fleet.images.registry import push_built

    registry = _registry(options)
    [built] = _built([options.kind], options)
    pushed = push_built(built, registry, options.repository)
    if options.json:
        place = {"uri": pushed.uri, "digest": pushed.digest, "was_there": pushed.was_there}
        print(json.dumps({**_as_data(built), **place}, indent=2))
    else:
        print(pushed.uri)
    return 0


def _registry(options: argparse.Namespace) -> Any:
    """Asked for first: who may not push need not wait for a build."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise UsageError(
            f"{error.name} is missing, which signs in to ECR: pip install 'trunkline[fleet]'"
        ) from None
    from trunkline.fleet.images.registry import ecr_registry

    try:
        session = boto3.Session(profile_name=options.profile, region_name=options.region)
        return ecr_registry(session.client("ecr", endpoint_url=options.endpoint_url))
    except (BotoCoreError, ClientError) as error:
        raise FleetError(
            f"cannot sign in to ECR: {error}. The identity needs ecr:GetAuthorizationToken; name a profile with "
            "--profile and a region with --region"
        ) from error


def _built(kinds: Sequence[ImageKind], options: argparse.Namespace) -> list[Built]:
    from trunkline.fleet.images.build import Recipe, build_images
    from trunkline.fleet.images.tools import find_tool

    recipe = Recipe(
        base=options.base,
        wheel=options.wheel,
        configuration=_read("--config", options.config),
        requirements=_read("--requirements", options.requirements),
        tag=options.tag,
    )
    return build_images(kinds, find_tool(options.tool), recipe)


def _read(option: str, path: Path | None) -> str:
    try:
        return path.read_text(encoding="utf-8") if path else ""
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {path}: {getattr(error, 'strerror', None) or error}") from None


def _kind(name: str) -> ImageKind:
    for kind in KINDS:
        if kind == name:
            return kind
    raise UsageError(f"there is no image {name!r}: say {' or '.join(KINDS)}, or nothing for both")


def _as_data(built: Built) -> dict[str, str]:
    return {"name": built.name, "tag": built.tag, "base": built.base, "built_with": built.tool.kind.name}
