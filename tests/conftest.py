"""What holds for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# A deadline for each example is a timed test, and this machine may be busy.
settings.register_profile("trunkline", deadline=None)
settings.load_profile("trunkline")

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers the tests of a folder stay together: they share servers and demos that take a while to start."""
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        item.add_marker(pytest.mark.xdist_group(folder))
