"""Run by the base image's Python while an image is built: proves that it can run what was copied, and finishes it.

It ends with one line that says what to do where the base does not fit; `WHEEL_PYTHON` is the version that the copied
packages are made for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from compileall import compile_dir
from importlib import import_module
from pathlib import Path
from py_compile import PycInvalidationMode

PACKAGES = Path("/opt/trunkline")
COMMAND = Path("/usr/local/bin/trunkline")
DATA_DIR = Path("/var/lib/trunkline")
USER = 10001


def main(kind: str) -> None:
    """Finish the image of the `collector` or the `application`."""
    _check_python()
    # Nobody may write into the image later: what is not compiled now would be compiled at each start and health check.
    compile_dir(PACKAGES, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    if kind == "collector":
        _check_kernel()
        _check_collector()
        _make_command()
        _make_data_dir()
    else:
        _run("-c", "import trunkline.simulator.demo_application")


def _check_python() -> None:
    wanted, found = os.environ["WHEEL_PYTHON"], f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted != found:
        sys.exit(
            f"the base has Python {found} and the packages are made for {wanted}: name another base with --base, "
            f"or a wheel of Trunkline made with Python {found} with --wheel"
        )


def _check_kernel() -> None:
    built = list(Path(PACKAGES, "trunkline", "wire").glob("_kernel*.so"))
    modules = ["re2", "yaml", "zlib_ng", *(["trunkline.wire._kernel"] if built else [])]
    try:
        for module in modules:
            import_module(module)
    except ImportError as error:
        sys.exit(
            f"the base cannot load what is compiled: {error}. It needs the same processor, a C library (glibc) not older "
            "than where the wheel was made, and libstdc++; name another with --base"
        )


def _check_collector() -> None:
    """Read the configuration that comes with Trunkline; what is imported on the way is compiled, Python's own too."""
    os.environ.setdefault("CENTRAL_ACCOUNT_ID", "111111111111")
    os.environ.setdefault("WORKSPACE_ID", "ws-00000000-0000-0000-0000-000000000000")
    reference = str(PACKAGES / "trunkline" / "fleet" / "collector.yaml")
    _run("-m", "trunkline", "collector", "validate", "--config", reference)
    # Nobody is there, and it says so with 1.
    _run("-m", "trunkline", "collector", "healthcheck", "--address", "127.0.0.1:9", expected=1)


def _run(*arguments: str, expected: int = 0) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != expected:
        sys.exit(f"{done.stdout}{done.stderr}\nit does not run on this base; what it says is above")


def _make_command() -> None:
    """`trunkline` on the PATH, for the entry point and ECS's health check; its first line names this very Python."""
    COMMAND.parent.mkdir(parents=True, exist_ok=True)
    COMMAND.write_text(
        f"#!{sys.executable}\nimport sys\n\nfrom trunkline.cli.main import main\n\nsys.exit(main())\n"
    )
    COMMAND.chmod(0o755)
    if shutil.which("trunkline") != str(COMMAND):
        sys.exit(
            f"{COMMAND.parent} is not on the base's PATH ({os.environ.get('PATH')}); name another with --base"
        )


def _make_data_dir() -> None:
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    DATA_DIR.chmod(0o700)
    os.chown(DATA_DIR, USER, USER)


if __name__ == "__main__":
    main(sys.argv[1])
