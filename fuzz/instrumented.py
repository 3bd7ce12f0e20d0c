"""A copy of the package whose kernel is built with a sanitizer or with coverage; the working tree is left alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PACKAGE = ROOT / "src" / "trunkline"
_ASIDE = shutil.ignore_patterns("*.so", "_kernel.c", "__pycache__")


class BuildError(Exception):
    """The instrumented kernel cannot be built."""


def build(name: str, compiler: str, *flags: str) -> Path:
    """The folder `build/NAME`, to be put on PYTHONPATH. Raises BuildError."""
    folder = ROOT / "build" / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_PACKAGE, folder / "trunkline", ignore=_ASIDE)
    kernel = folder / "trunkline" / "wire" / "_kernel"
    source, target = f"{kernel}.c", f"{kernel}{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = f"-I{sysconfig.get_path('include')}"
    _run(sys.executable, "-m", "cython", "-3", f"{kernel}.pyx", "-o", source)
    _run(
        compiler,
        "-shared",
        "-fPIC",
        "-g",
        "-O1",
        "-fno-omit-frame-pointer",
        *flags,
        include,
        source,
        "-o",
        target,
    )
    return folder


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"the kernel could not be built with {command[0]}: {error}") from None
