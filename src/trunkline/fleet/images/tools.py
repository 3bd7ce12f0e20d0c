"""The programs that build and push images, and how to run them.

They take the same commands (`build`, `tag`, `login`, `push`), and differ in a few options.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from trunkline.errors import FleetError, UsageError

LAST_LINES: Final = 12
_PROBE_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What is special about one program.

    `probe` is a command that succeeds when it can be used. `is_oci` says that it writes OCI images, with annotations
    and with one time stamp for everything. `insecure` makes it speak plain HTTP to a registry, where it has to be told.
    """

    name: str
    probe: tuple[str, ...]
    remedy: str
    is_oci: bool = False
    insecure: tuple[str, ...] = ()


_INSECURE: Final = ("--tls-verify=false",)
KINDS: Final = (
    Kind("docker", ("version",), "start its daemon, or sign in as a user who may use it"),
    Kind(
        "podman",
        ("info",),
        "run `podman info` and repair what it says (on a Mac: podman machine start)",
        is_oci=True,
        insecure=_INSECURE,
    ),
    Kind("buildah", ("info",), "run `buildah info` and repair what it says", is_oci=True, insecure=_INSECURE),
    Kind("finch", ("info",), "start its machine: finch vm start", insecure=("--insecure-registry",)),
)
"""In the order in which they are looked for."""
NAMES: Final = tuple(kind.name for kind in KINDS)


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that was found and answers."""

    kind: Kind
    environment: Mapping[str, str] = field(repr=False)

    def run(self, *arguments: str, remedy: str, text: str = "") -> str:
        """Run one of its commands with `text` on standard input; what it prints.

        Raises `FleetError` with the command, its last lines and the remedy.
        """
        argv = [self.kind.name, *arguments]
        try:
            done = _start(argv, self.environment, text)
        except OSError as error:
            raise FleetError(f"`{shlex.join(argv)}` cannot be run: {error.strerror or error}") from None
        if done.returncode:
            raise FleetError(_failure(argv, done, remedy))
        return done.stdout


def find_tool(wanted: str = "", environment: Mapping[str, str] | None = None) -> Tool:
    """The program named, or else the first of docker, podman, buildah and finch that is there and answers.

    Raises `FleetError` saying of each why it cannot be used, and `UsageError` for a name that is none of them.
    """
    environment = os.environ if environment is None else environment
    if wanted and wanted not in NAMES:
        raise UsageError(f"--with {wanted}: Trunkline knows {', '.join(NAMES)}")
    reasons = []
    for kind in KINDS:
        if wanted in ("", kind.name):
            reason = _why_not(kind, environment)
            if not reason:
                return Tool(kind, environment)
            reasons.append(f"{kind.name}: {reason}")
    raise FleetError(
        "images are built with docker, podman, buildah or finch, and none of those looked for can be used. "
        f"{'; '.join(reasons)}. On Debian or Ubuntu: apt-get install buildah"
    )


def _why_not(kind: Kind, environment: Mapping[str, str]) -> str:
    if shutil.which(kind.name, path=environment.get("PATH")) is None:
        return "not on the PATH"
    argv = [kind.name, *kind.probe]
    try:
        done = _start(argv, environment, timeout_s=_PROBE_TIMEOUT_S)
    except OSError as error:
        return f"`{shlex.join(argv)}` cannot be run: {error.strerror or error}"
    except subprocess.TimeoutExpired:
        return f"`{shlex.join(argv)}` did not end within {_PROBE_TIMEOUT_S:g}s; {kind.remedy}"
    return f"{_last_lines(done, 1)} ({kind.remedy})" if done.returncode else ""


def _start(
    argv: Sequence[str], environment: Mapping[str, str], text: str = "", timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (the programs named above)
        argv,
        input=text,
        env=dict(environment),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout_s,
    )


def _failure(argv: Sequence[str], done: subprocess.CompletedProcess[str], remedy: str) -> str:
    said = _last_lines(done, LAST_LINES).replace("\n", "\n  ")
    return f"`{shlex.join(argv)}` ended with exit code {done.returncode}:\n  {said}\n{remedy}"


def _last_lines(done: subprocess.CompletedProcess[str], count: int) -> str:
    lines = [line.rstrip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    return "\n".join(lines[-count:]) or "it printed nothing"
