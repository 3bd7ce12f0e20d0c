"""Whether a configuration of one's own can be used by the collectors of a fleet.

It is passed in the task definition itself: a parameter of SSM's standard tier holds 4 KB, and a longer one would fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trunkline.collector.config.document import parse_document
from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Node, nearest_place
from trunkline.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trunkline.collector.config import CollectorConfig, Pipeline
    from trunkline.component.contract import ComponentId

MAX_TASK_DEFINITION_BYTES: Final = 64 * 1024
"""The largest task definition ECS takes ("Amazon ECS service quotas")."""
RESERVED_BYTES: Final = 4 * 1024
"""What is in a task definition besides configuration and variables: roles, sizes, logs, health checks."""

_FILE_REFERENCE: Final = re.compile(r"\$\{file:")


def configuration_problems(
    file: Path, text: str, external_id: str, environment: Mapping[str, str], tasks: int
) -> Iterator[Problem]:
    """What is wrong with a configuration of one's own, a file's text, for that many tasks that run it.

    `environment` has the variables the collector is given beside the fleet's own.
    """
    yield from _files(file, text)
    try:
        config = _read(file, environment)
    except ConfigError as error:
        yield from error.problems
        return
    if tasks > 1:
        yield from _collisions(config, parse_document(text, str(file), Findings()), tasks)
    if external_id and external_id not in text:
        yield Problem(
            "",
            "external_id",
            f"the central role demands it, and the collector configuration {file} does not send it",
            "add a sigv4auth extension with assume_role: external_id, and name it as the exporter's authenticator",
        )


def _files(file: Path, text: str) -> Iterator[Problem]:
    for number, line in enumerate(text.splitlines(), 1):
        if match := _FILE_REFERENCE.search(line.partition("#")[0]):
            yield Problem(
                f"{file}:{number}:{match.start() + 1}",
                "",
                "refers to a file, which no task has",
                "write its content here",
            )


def _read(file: Path, environment: Mapping[str, str]) -> CollectorConfig:
    """As the collector in a task reads it. Raises ConfigError."""
    from trunkline import components  # noqa: PLC0415 (only for a configuration of one's own)
    from trunkline.collector.config import read  # noqa: PLC0415
    from trunkline.collector.host import Host, HostSettings  # noqa: PLC0415
    from trunkline.net.client import ClientFactory  # noqa: PLC0415
    from trunkline.net.resolve import Resolve  # noqa: PLC0415

    given = {
        "AWS_REGION": "eu-west-1",
        "CENTRAL_ACCOUNT_ID": "111111111111",
        "WORKSPACE_ID": "ws-00000000-0000-0000-0000-000000000000",
        "TRUNKLINE_DATA_DIR": "/var/lib/trunkline",
        "ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/any",
        **environment,
    }
    config = read([str(file)], given, components)
    host = Host(
        lambda: config,
        HostSettings(data_dir=Path("/var/lib/trunkline")),
        ClientFactory(Resolve.parse("")),
        given,
    )
    host.check(config)
    return config


def _collisions(config: CollectorConfig, root: Node | None, tasks: int) -> Iterator[Problem]:
    """Two tasks with one configuration write the same series, unless something in them names the task."""
    for name, pipeline in config.service.pipelines.items():
        for exporter in pipeline.exporters:
            declared = config.exporters[exporter]
            if getattr(declared.config, "identity_labels", True) or _names_its_task(
                config, pipeline, exporter
            ):
                continue
            keys = ("exporters", str(exporter), "identity_labels")
            yield Problem(
                str(nearest_place(root, keys, root.place)) if root else declared.place,
                "::".join(keys),
                f"{tasks} tasks would write the same series through the pipeline {name}, each over the others'",
                "take `identity_labels: false` out",
            )


def _names_its_task(config: CollectorConfig, pipeline: Pipeline, exporter: ComponentId) -> bool:
    """Whether attributes that name the task become labels instead."""
    settings: Any = config.exporters[exporter].config
    if not settings.resource_to_telemetry_conversion.enabled:
        return False
    if all(receiver.type == "awsecscontainermetrics" for receiver in pipeline.receivers):
        return True
    return any(
        processor.type in ("resourcedetection", "resource_detection")
        and "ecs" in config.processors[processor].config.detectors
        for processor in pipeline.processors
    )
