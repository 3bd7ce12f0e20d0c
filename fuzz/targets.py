"""Every target: a function that takes any bytes and a kernel and raises when something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from fuzz import answer, exposition, label_sets, labels, number, remote_write, snappy, template
from fuzz.kernels import Kernel

CORPUS: Final = Path(__file__).parent / "corpus"


class Target(NamedTuple):
    """`mutate` knows what an input looks like; without it only bytes are changed.

    What is Python alone (`uses_kernel` is false) runs without the address sanitizer, several times as fast.
    """

    check: Callable[[bytes, Kernel], None]
    mutate: Callable[[bytes, Random], bytes] | None = None
    max_bytes: int = 2048
    uses_kernel: bool = True


TARGETS: Final = {
    "answer": Target(answer.check, uses_kernel=False),
    "exposition": Target(exposition.check, exposition.mutate),
    "label_sets": Target(label_sets.check, label_sets.mutate, max_bytes=512),
    "labels": Target(labels.check, max_bytes=512),
    "number": Target(number.check, number.mutate, max_bytes=64),
    "remote_write": Target(remote_write.check, max_bytes=1024, uses_kernel=False),
    "snappy": Target(snappy.check, max_bytes=1024, uses_kernel=False),
    "template": Target(template.check, template.mutate, max_bytes=1024),
}


def corpus(target: str) -> list[Path]:
    """The kept inputs of a target, in order."""
    return sorted((CORPUS / target).iterdir())
