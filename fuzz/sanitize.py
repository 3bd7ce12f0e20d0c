"""`python -m fuzz.sanitize`: the tests of `wire/` on a kernel with the address and undefined-behaviour sanitizers.

Arguments are pytest's. Exit code 0 if the tests pass and no sanitizer has anything to say, 1 if not, 2 if the kernel
could not be built. Needs gcc, which brings the sanitizers' libraries.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fuzz.instrumented import ROOT, BuildError, build

FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


def main(arguments: Sequence[str]) -> int:
    try:
        folder = build("sanitize", "gcc", *FLAGS)
        library = _library()
    except BuildError as error:
        print(f"sanitize: {error}", file=sys.stderr)
        return 2
    tests = arguments or [str(ROOT / "tests" / "wire")]
    # A report is the last thing a process says, so pytest must not hold it back.
    command = [sys.executable, "-m", "pytest", "-q", "--capture=sys", "-p", "no:cacheprovider", *tests]
    code = subprocess.run(command, cwd=ROOT, env=_environment(folder, library), check=False).returncode
    if code:
        print(
            f"\nsanitize: FAILED: pytest ended with {code}; what a sanitizer found is above", file=sys.stderr
        )
        return 1
    print("sanitize: the tests pass and the sanitizers have nothing to say")
    return 0


def _library() -> str:
    """What has to be loaded before Python is, because Python itself is not built with it."""
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    if not Path(found.stdout.strip()).is_absolute():
        raise BuildError(
            "gcc has no libasan.so: install libasan of the same version (on Debian it comes with gcc)"
        )
    return found.stdout.strip()


def _environment(folder: Path, library: str) -> dict[str, str]:
    """Each object gets its own allocation, so that one byte too far is seen. CPython leaks by design."""
    return os.environ | {
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "LD_PRELOAD": library,
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(folder),
        "TRUNKLINE_KERNEL": "compiled",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
