"""`python -m fuzz.harness TARGET ARGUMENTS…`: one target under atheris; the arguments are libFuzzer's.

Run by `fuzz.__main__`, which builds the kernel and sets the environment.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random

import atheris

with atheris.instrument_imports(include=["trunkline"]):
    from fuzz.kernels import TWIN, compiled
    from fuzz.targets import TARGETS, Target


def _mutator(target: Target) -> Callable[[bytes, int, int], bytes]:
    """Half of the changes are the target's own."""

    def mutated(data: bytes, max_bytes: int, seed: int) -> bytes:
        random = Random(seed)
        if target.mutate is None or random.random() < 0.5:
            found: bytes = atheris.Mutate(data, max_bytes)
            return found
        for _ in range(random.choice((1, 1, 2, 4))):
            data = target.mutate(data, random)
        return data[:max_bytes]

    return mutated


def main() -> None:
    name, *arguments = sys.argv[1:]
    target = TARGETS[name]
    kernel = compiled() if target.uses_kernel else TWIN
    # What libFuzzer starts again, when it merges, is this first word, through a shell.
    program = f"{sys.executable} -m fuzz.harness {name}"
    atheris.Setup(
        [
            program,
            f"-max_len={target.max_bytes}",
            "-len_control=0",
            "-entropic_scale_per_exec_time=1",
            *arguments,
        ],
        lambda data: target.check(data, kernel),
        custom_mutator=_mutator(target),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
