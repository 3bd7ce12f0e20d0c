"""`python -m fuzz --target exposition --for 60s`: look for inputs on which the kernel and its twin disagree.

Exit code 0 if nothing was found, 1 if something was (the input is in `build/fuzz-found/`), 2 for wrong usage or a
kernel that cannot be built.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fuzz.instrumented import ROOT, BuildError, build
from fuzz.targets import CORPUS, TARGETS
from trunkline.quantities import parse_go_duration

FLAGS: Final = (
    "-fsanitize=address,undefined,fuzzer-no-link",
    # Cython adds 0 to a null pointer, and Python calls functions through pointers of other types.
    "-fno-sanitize=function,pointer-overflow",
    "-fno-sanitize-recover=undefined",
)
WORK: Final = ROOT / "build" / "fuzz-corpus"
FOUND: Final = ROOT / "build" / "fuzz-found"
_WITHOUT_CLANG: Final = """\
fuzz: there is no clang, so the installed kernel is taken: its branches do not guide the search (those of the Python
      twin still do), and reading out of bounds is only seen when it crashes. On Debian: clang libclang-rt-dev
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        environment = _environment()
    except BuildError as error:
        print(f"fuzz: {error}", file=sys.stderr)
        return 2
    names = options.target or list(TARGETS)
    failed = [name for name in names if not _fuzz(name, environment, options)]
    for name in failed:
        print(
            f"fuzz: {name}: something was found, see above; the input is in {FOUND / name}", file=sys.stderr
        )
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz what reads foreign bytes.")
    parser.add_argument(
        "--target", action="append", choices=sorted(TARGETS), help="may be given again; without it: all"
    )
    parser.add_argument(
        "--for", dest="seconds", type=_seconds, default=60, metavar="60s", help="how long for each target"
    )
    parser.add_argument("--keep", action="store_true", help="take what was new into fuzz/corpus afterwards")
    return parser


def _seconds(text: str) -> int:
    try:
        return max(1, round(parse_go_duration(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; say for example 60s or 5m") from None


def _fuzz(name: str, environment: dict[str, str], options: argparse.Namespace) -> bool:
    """Whether nothing was found."""
    work, found, kept = WORK / name, FOUND / name, CORPUS / name
    for each in (work, found, kept):
        each.mkdir(parents=True, exist_ok=True)
    limits = (f"-max_total_time={options.seconds}", "-timeout=20", "-rss_limit_mb=2048")
    reports = ("-print_final_stats=1", f"-artifact_prefix={found}{os.sep}")
    code = _harness(name, environment, *limits, *reports, str(work), str(kept))
    if code == 0 and options.keep:
        code = _harness(name, environment, "-merge=1", "-use_counters=0", str(kept), str(work))
    return code == 0


def _harness(name: str, environment: dict[str, str], *arguments: str) -> int:
    if not TARGETS[name].uses_kernel:
        environment = environment | {"LD_PRELOAD": "", "PYTHONMALLOC": ""}
    command = [sys.executable, "-m", "fuzz.harness", name, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _environment() -> dict[str, str]:
    """Where Python finds the kernel, and what has to be loaded before it. Raises BuildError.

    Each object gets its own allocation, so that one byte too far is seen. CPython leaks by design.
    """
    if shutil.which("clang") is None:
        print(_WITHOUT_CLANG, file=sys.stderr)
        return os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    import atheris  # noqa: PLC0415 (only for the library it brings)

    return os.environ | {
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=16:malloc_context_size=5",
        "LD_PRELOAD": str(Path(atheris.path()) / "asan_with_fuzzer.so"),
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join((str(build("fuzz", "clang", *FLAGS)), str(ROOT))),
    }


if __name__ == "__main__":
    sys.exit(main())
