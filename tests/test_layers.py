"""Imports point only downwards, and no component imports another."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trunkline

SOURCE = Path(trunkline.__file__).parent

LAYERS = [
    {"__main__"},
    {"cli"},
    {"page"},
    {"fleet", "simulator"},
    {"dashboards"},
    {"collector", "testing"},
    {"components"},
    {"receivers", "processors", "exporters", "extensions"},
    {"component"},
    {"aws"},
    {"net"},
    {"wire"},
    {"model"},
    {"quantities"},
    {"errors", "__init__"},
]
"""From top to bottom. The demo in `simulator` deploys with `fleet`; apart from it, layers of one row are strangers."""

LEVEL = {package: level for level, row in enumerate(LAYERS) for package in row}
PROCESS = {
    "cli",
    "collector",
    "components",
    "component",
    "receivers",
    "processors",
    "exporters",
    "extensions",
}
COMPONENTS = {"receivers", "processors", "exporters", "extensions"}


def package_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        relative = path.relative_to(SOURCE).with_suffix("")
        yield ".".join(("trunkline", *relative.parts)).removesuffix(".__init__"), path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trunkline"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("trunkline"))


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=str)
def test_imports_point_downwards(module: str, path: Path) -> None:
    own = package_of(module)
    for name in imported(path):
        other = package_of(name) if package_of(name) in LEVEL else "__init__"
        if own == other or (own, other) == ("simulator", "fleet"):
            continue
        assert LEVEL[own] < LEVEL[other], f"{module} imports {name}"


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=str)
def test_no_component_imports_another(module: str, path: Path) -> None:
    if package_of(module) not in COMPONENTS:
        return
    own = module.split(".")[1:3]
    for name in imported(path):
        if package_of(name) in COMPONENTS:
            assert name.split(".")[1:3] == own, f"{module} imports {name}"


def test_the_collector_loads_nothing_it_does_not_need() -> None:
    script = (
        "import sys, trunkline.collector.host, trunkline.receivers.prometheus.receiver, "
        "trunkline.exporters.prometheusremotewrite.delivery; print(*sorted(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"aiohttp", "boto3", "botocore", "numpy", "prometheus_client", "re2", "rich", "cramjam", "psutil"}
    assert heavy.isdisjoint(loaded)
    assert "grafana_foundation_sdk" not in loaded
    above = ("trunkline.simulator", "trunkline.fleet", "trunkline.dashboards")
    assert not [module for module in loaded if module.startswith(above)]
