"""Child processes that do not outlive us, and ending them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

# Runs in the child before the program: asks the kernel for SIGKILL when the parent dies, and ends at once when
# that has happened already. The settings of prctl survive the exec.
_TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""

_POLL_S = 0.02


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """`command` so that the kernel kills it when this process dies, whatever the reason.

    The kernel means the *thread* that starts it: start it from one that lives as long as the process.
    """
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]


async def end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Terminate `process` and wait; kill it when it is still there after `patience_s`."""
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 10.0)):
        if process.poll() is None:
            process.send_signal(number)
        for _ in range(int(wait_s / _POLL_S)):
            if process.poll() is not None:
                return
            await asyncio.sleep(_POLL_S)
