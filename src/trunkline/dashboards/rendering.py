"""All dashboards and rules as files. The same source gives the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from trunkline.dashboards.rules import rules

RULES: Final = "trunkline.rules.yaml"


def dashboards() -> list[dict[str, Any]]:
    """Every dashboard in Grafana's classic model, Fleet first.

    Raises ImportError without the extra `dashboards`.
    """
    from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: PLC0415 (rules need no extra)

    from trunkline.dashboards.collectors import collectors  # noqa: PLC0415
    from trunkline.dashboards.ecs_tasks import ecs_tasks  # noqa: PLC0415
    from trunkline.dashboards.fleet import fleet  # noqa: PLC0415
    from trunkline.dashboards.service import service  # noqa: PLC0415

    pages = (fleet(), service(), ecs_tasks(), collectors())
    return [json.loads(json.dumps(each, cls=JSONEncoder)) for each in pages]


def files() -> dict[str, bytes]:
    """File name → content, of everything; raises ImportError without the extra `dashboards`."""
    found = {f"{each['uid']}.json": _json(each) for each in dashboards()}
    return {**found, RULES: rules().encode()}


def write(folder: Path) -> list[Path]:
    """Put all files into a folder, which is created; other files there stay. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in files().items():
        path = folder / name
        path.write_bytes(content)
        paths.append(path)
    return paths


def _json(dashboard: dict[str, Any]) -> bytes:
    return (json.dumps(dashboard, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
