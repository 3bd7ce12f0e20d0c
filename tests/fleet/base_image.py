"""A base image made of this machine's own Python and the libraries it needs: nothing comes from a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

NAME = "localhost/python-of-this-machine:1"
_LEFT_OUT = shutil.ignore_patterns(
    "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip",
    "lib2to3", "pydoc_data", "config-*", "__pycache__", "_test*.so", "_tkinter*.so", "*.a",
)  # fmt: skip
# What the packages in the image are linked to and Python is not.
_ALSO = ("libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1")
_DOCKERFILE = """\
FROM scratch
COPY root /
ENV PATH=/usr/local/bin:/usr/bin:/bin
"""


def make_base(folder: Path, environment: Mapping[str, str]) -> str:
    """Build it with buildah and return its name; it has no shell and no pip."""
    root = folder / "root"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    stdlib = root / "usr/local/lib" / version
    shutil.copytree(sysconfig.get_path("stdlib"), stdlib, ignore=_LEFT_OUT)
    program = _place(Path(os.path.realpath(sys.executable)), root / "usr/local/bin" / version)
    (program.parent / "python3").symlink_to(version)
    _copy_libraries([program, *stdlib.rglob("*.so")], root)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (folder / "Dockerfile").write_text(_DOCKERFILE)
    command = ["buildah", "build", "--timestamp", "0", "--tag", NAME, str(folder)]
    subprocess.run(command, env=dict(environment), check=True, capture_output=True)
    return NAME


def _copy_libraries(programs: Iterable[Path], root: Path) -> None:
    needed = {_library(name) for name in _ALSO}
    for program in programs:
        printed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        needed |= {Path(word) for word in printed.split() if word.startswith("/")}
    for library in sorted(needed):
        # Where the loader looks without being told; the loader itself stays where programs name it.
        loader = library.name.startswith("ld-linux")
        _place(library, root / str(library)[1:] if loader else root / "usr/lib" / library.name)


def _library(name: str) -> Path:
    compiler = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    return next(Path(line.split()[-1]) for line in compiler.splitlines() if line.split()[:1] == [name])


def _place(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)
    return target
