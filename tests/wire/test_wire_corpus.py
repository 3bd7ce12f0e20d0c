"""Every kept input of the fuzzer, on both kernels: what was found once stays found. See "Fuzzing" in CONTRIBUTING.md."""

import pytest
from fuzz.kernels import TWIN, Kernel, compiled
from fuzz.targets import TARGETS, corpus
from tests.wire.conftest import BOTH, kernel


@pytest.fixture(scope="module", params=BOTH)
def taken(request: pytest.FixtureRequest) -> Kernel:
    if request.param == "python":
        return TWIN
    kernel()  # skips or fails where there is none
    return compiled()


@pytest.mark.parametrize("target", TARGETS)
def test_the_kept_inputs(taken: Kernel, target: str) -> None:
    inputs = corpus(target)
    assert inputs
    for path in inputs:
        try:
            TARGETS[target].check(path.read_bytes(), taken)
        except Exception as error:
            error.add_note(f"the input is {path}")
            raise
