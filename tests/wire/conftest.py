"""Every test of the parser and the template runs on the pure-Python twin and on the compiled kernel."""

import os
from types import ModuleType

import pytest

from trunkline.wire import exposition, template
from trunkline.wire.exposition import ExpositionParser
from trunkline.wire.template import Template

BOTH = ("python", "compiled")


def kernel() -> ModuleType:
    """The compiled kernel; without it the test is skipped, or fails where TRUNKLINE_KERNEL=compiled."""
    try:
        from trunkline.wire import _kernel
    except ImportError:
        if os.environ.get("TRUNKLINE_KERNEL") == "compiled":
            raise
        pytest.skip("the kernel is not compiled")
    return _kernel


@pytest.fixture(scope="module", params=BOTH)
def parser_type(request: pytest.FixtureRequest) -> type[ExpositionParser]:
    module = kernel() if request.param == "compiled" else exposition
    found: type[ExpositionParser] = module.ExpositionParser
    return found


@pytest.fixture(scope="module", params=BOTH)
def template_type(request: pytest.FixtureRequest) -> type[Template]:
    module = kernel() if request.param == "compiled" else template
    found: type[Template] = module.Template
    return found
