"""Process 1 of a task: starts, measures and ends the processes of its containers.

Run as a script by `sandbox.Sandbox`, one per task, with the standard library alone, so that it stays small. It obeys
JSON messages on a socket and ends, taking every process of the task and the task's folder with it, as soon as the
socket closes or the simulator's process ends. In a PID namespace the kernel does the same should this process be
killed; without one it is the reaper of all its descendants, and containers carry a parent death signal.

Messages in:   {"do": "start", "run", "container", "argv", "env", "cwd"} with the output's file descriptor,
               {"do": "signal", "run", "signal"}, {"do": "kill", "container"}, {"do": "sample"}
Messages out:  {"said": "started", "run", "pid"}, {"said": "failed", "run", "error"},
               {"said": "exited", "run", "container", "code"}, {"said": "sample", ...}

`run` numbers one started process; a container has several over time (restarts, health checks).
"""

# No pathlib, dataclasses or typing: what they import would make this process larger and later.
# ruff: noqa: PTH106, PTH108, PTH114, PTH118, PTH123, PTH208
from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MESSAGE_BYTES: Final = 1 << 20
MARKER: Final = b"ECS_CONTAINER_METADATA_URI_V4="
"""Every process of a container inherits this variable, whatever session or parent it has given itself."""

TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Call a function of the C library; raises OSError with its errno."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


class Usage:
    """What processes used: CPU in nanoseconds, storage in bytes."""

    def __init__(
        self, user_ns: int = 0, system_ns: int = 0, read_bytes: int = 0, write_bytes: int = 0
    ) -> None:
        self.user_ns = user_ns
        self.system_ns = system_ns
        self.read_bytes = read_bytes
        self.write_bytes = write_bytes

    def add(self, other: Usage) -> None:
        self.user_ns += other.user_ns
        self.system_ns += other.system_ns
        self.read_bytes += other.read_bytes
        self.write_bytes += other.write_bytes


class Container:
    def __init__(self, marker: bytes) -> None:
        self.marker = marker
        self.ended = Usage()
        """Of processes that were ours to reap and are gone."""


class Run:
    def __init__(self, number: int, container: str) -> None:
        self.number = number
        self.container = container


class Stat:
    """Fields of /proc/<pid>/stat, see proc(5); times in clock ticks."""

    def __init__(self, words: list[bytes]) -> None:
        self.parent = int(words[1])
        self.session = int(words[3])
        self.user, self.system, self.children_user, self.children_system = map(int, words[11:15])


def stat(pid: int) -> Stat | None:
    """`None` when there is no such process any more."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return Stat(file.read().rpartition(b")")[2].split())
    except OSError:
        return None


def storage(pid: int) -> tuple[int, int]:
    """Bytes read from and written to storage by a process and the children it has waited for."""
    figures: dict[str, int] = {}
    with contextlib.suppress(OSError), open(f"/proc/{pid}/io", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            figures[name] = int(value)
    return figures.get("read_bytes", 0), figures.get("write_bytes", 0)


def usage(pid: int, now: Stat) -> Usage:
    """CPU of a living process and of the children it has waited for; its own with the precision of its CPU clock."""
    own_ticks = now.user + now.system
    try:
        own_ns = time.clock_gettime_ns((~pid << 3) | 2)  # the clock clock_getcpuclockid(3) gives
    except OSError:
        own_ns = own_ticks * TICK_NS
    user_ns = own_ns * now.user // own_ticks if own_ticks else own_ns
    return Usage(
        user_ns + now.children_user * TICK_NS, own_ns - user_ns + now.children_system * TICK_NS, *storage(pid)
    )


def memory(pid: int) -> dict[str, int]:
    """Bytes: proportional set size and its parts, or the resident set where the kernel does not tell."""
    figures: dict[str, int] = {}
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem"):
                    figures[name] = int(value.split()[0]) * 1024
    except OSError:
        return {"Pss": resident(pid)}
    return figures


def resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


def network() -> dict[str, dict[str, int]]:
    """Counters of this network namespace's interfaces, the loopback left out."""
    names = ("bytes", "packets", "errors", "dropped")
    interfaces = {}
    with open("/proc/net/dev", encoding="ascii") as file:
        for line in file.readlines()[2:]:
            name, _, rest = line.partition(":")
            words = [int(word) for word in rest.split()]
            if name.strip() != "lo":
                received = {f"rx_{key}": words[place] for place, key in enumerate(names)}
                interfaces[name.strip()] = received | {
                    f"tx_{key}": words[8 + place] for place, key in enumerate(names)
                }
    return interfaces


def machine_cpu_ns() -> int:
    """CPU time of the whole machine, all states but guests', in nanoseconds (what Docker calls system_cpu_usage)."""
    with open("/proc/stat", "rb") as file:
        return sum(int(word) for word in file.readline().split()[1:9]) * TICK_NS


def disk_bytes(folder: str) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


def remove_folder(folder: str) -> None:
    for parent, folders, names in os.walk(folder, topdown=False):
        for name in (*names, *folders):
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError):
                os.unlink(path) if os.path.islink(path) or name in names else os.rmdir(path)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def descendants() -> dict[int, Stat]:
    """Every process below this one."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (now := stat(int(entry))):
            found[int(entry)] = now
    here = os.getpid()

    def is_below(pid: int) -> bool:
        while pid != here and pid in found:
            pid = found[pid].parent
        return pid == here

    return {pid: now for pid, now in found.items() if pid != here and is_below(pid)}


class Init:
    def __init__(self, control: socket.socket, simulator: int, folder: str, *, namespaced: bool) -> None:
        self.control = control
        self.simulator = simulator
        self.folder = folder
        self.namespaced = namespaced
        self.containers: dict[str, Container] = {}
        self.runs: dict[int, Run] = {}
        self.owners: dict[int, str] = {}
        """Container of each process seen, for the time when it is reaped."""

    def serve(self) -> None:
        woken, wake = socket.socketpair()
        wake.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        for watched in (self.control.fileno(), self.simulator, woken.fileno()):
            poll.register(watched, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll()}
            if self.simulator in ready:
                return
            if woken.fileno() in ready:
                woken.recv(4096)
                self.reap()
            if self.control.fileno() in ready and not self.obey():
                return

    def say(self, **message: object) -> None:
        with contextlib.suppress(OSError):
            self.control.send(json.dumps(message).encode())

    def obey(self) -> bool:
        """One message; False when the other end has closed."""
        data, passed, _, _ = self.control.recvmsg(
            MESSAGE_BYTES, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return False
        descriptors = array.array("i")
        for _, _, part in passed:
            descriptors.frombytes(part)
        message = json.loads(data)
        match message.pop("do"):
            case "start":
                self.start(output=descriptors[0], **message)
            case "signal":
                self.signal(**message)
            case "kill":
                self.kill(**message)
            case "sample":
                self.sample()
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def start(
        self, *, run: int, container: str, argv: list[str], env: dict[str, str], cwd: str, output: int
    ) -> None:
        uri = env.get(MARKER.decode()[:-1], "")
        self.containers.setdefault(container, Container(MARKER + uri.encode() + b"\0"))
        heard, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            self.become(argv, env, cwd, output, told)
        os.close(told)
        with open(heard, "rb") as errors:
            error = errors.read().decode()
        if error:
            os.waitpid(pid, 0)
            self.say(said="failed", run=run, error=error)
            return
        self.runs[pid] = Run(run, container)
        self.owners[pid] = container
        self.say(said="started", run=run, pid=pid)

    def become(self, argv: list[str], env: dict[str, str], cwd: str, output: int, told: int) -> None:
        """In the child: turn into the program, or write why not to `told`."""
        try:
            os.setsid()
            if not self.namespaced:
                call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
            for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(ignored_by_python, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(cwd)
            os.execvpe(argv[0], argv, env)  # noqa: S606 (a program without a shell is what an image is)
        except BaseException as error:  # noqa: BLE001 (whatever it is, this copy of the process must not go on)
            os.write(told, str(error).encode() or b"cannot start")
        os._exit(127)

    def signal(self, *, run: int, signal: int) -> None:
        for pid, known in self.runs.items():
            if known.number == run:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal)

    def kill(self, *, container: str) -> None:
        for pid, (owner, _) in self.members().items():
            if owner == container:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def members(self) -> dict[int, tuple[str, Stat]]:
        """Every process of a container, with that container."""
        living = descendants()
        self.owners = {pid: owner for pid, owner in self.owners.items() if pid in living}
        for pid in living:
            if pid not in self.owners and (owner := self.owner(pid, living)):
                self.owners[pid] = owner
        return {pid: (self.owners[pid], now) for pid, now in living.items() if pid in self.owners}

    def owner(self, pid: int, living: dict[int, Stat]) -> str | None:
        ancestor: int | None = pid
        while ancestor in living:
            if ancestor in self.owners:
                return self.owners[ancestor]
            ancestor = living[ancestor].parent
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
            return next((name for name, each in self.containers.items() if each.marker in environment), None)
        return None

    def reap(self) -> None:
        """Collect every process that has ended, and what it used."""
        for pid in self.ended():
            now, (read, written) = stat(pid), storage(pid)
            _, status, used = os.wait4(pid, 0)
            run = self.runs.pop(pid, None)
            owner = self.owners.pop(pid, None) or (self.owners.get(now.session) if now else None)
            if owner:
                cpu = (round(used.ru_utime * 1e9), round(used.ru_stime * 1e9))
                self.containers[owner].ended.add(Usage(*cpu, read, written))
            if run:
                code = os.waitstatus_to_exitcode(status)
                # A shell's and Docker's way to tell a signal.
                self.say(
                    said="exited",
                    run=run.number,
                    container=run.container,
                    code=128 - code if code < 0 else code,
                )

    @staticmethod
    def ended() -> Iterator[int]:
        with contextlib.suppress(ChildProcessError):
            while info := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                yield info.si_pid

    def sample(self) -> None:
        """Figures of all containers at one moment."""
        self.reap()
        members = self.members()
        containers = {}
        for name, container in self.containers.items():
            total = Usage()
            total.add(container.ended)
            held: dict[str, int] = {}
            own = {pid: now for pid, (owner, now) in members.items() if owner == name}
            for pid, now in own.items():
                total.add(usage(pid, now))
                for key, value in memory(pid).items():
                    held[key] = held.get(key, 0) + value
            containers[name] = {
                "user_ns": total.user_ns,
                "system_ns": total.system_ns,
                "read_bytes": total.read_bytes,
                "write_bytes": total.write_bytes,
                "memory": held,
                "processes": len(own),
            }
        self.say(
            said="sample",
            time_ns=time.time_ns(),
            containers=containers,
            network=network() if self.namespaced else None,
            machine_ns=machine_cpu_ns(),
            cpus=len(os.sched_getaffinity(0)),
            disk_bytes=disk_bytes(self.folder),
        )

    def leave(self) -> None:
        """Nothing of the task stays: no process, no file."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while True:
            if self.namespaced:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)  # everything in this PID namespace but its process 1
            else:
                for pid in descendants():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            try:
                os.wait()
            except ChildProcessError:
                break
        remove_folder(self.folder)


def enter_namespaces(hostname: str) -> None:
    """A /proc that shows this task alone, and a host name of its own; the PID namespace is there already."""
    call("unshare", CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    call("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)
    socket.sethostname(hostname)


def main() -> None:
    settings: dict[str, Any] = json.loads(sys.argv[1])
    control = socket.socket(fileno=settings["control"])
    for inherited in (settings["control"], settings["simulator"]):
        os.set_inheritable(inherited, False)
    init = Init(control, settings["simulator"], settings["folder"], namespaced=settings["namespaced"])
    try:
        if init.namespaced:
            enter_namespaces(settings["hostname"])
        else:
            call("prctl", PR_SET_CHILD_SUBREAPER, 1)
        init.say(said="ready")
        init.serve()
    except OSError as error:
        init.say(said="broken", error=str(error))
    finally:
        init.leave()


if __name__ == "__main__":
    main()
