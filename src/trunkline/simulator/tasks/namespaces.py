"""Where tasks live: network namespaces around a hub, or ports of this computer's loopback.

With root, every task has a network namespace, joined by a veth pair to the *hub*, one more namespace that is joined to
nothing else: what a task can reach is itself, and the sockets that were opened in the hub for it. Namespaces have no
names; they are held by file descriptors of this process and vanish with them, the pairs too.

Without root, tasks share the loopback (`LoopbackHub`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Literal, Self, TypeVar

from trunkline.errors import SimulatorError
from trunkline.simulator.tasks import netlink
from trunkline.simulator.tasks.init import CLONE_NEWNS, MS_PRIVATE, MS_REC, call
from trunkline.simulator.tasks.netlink import Netlink

CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
METADATA_ADDRESS: Final = IPv4Address("169.254.170.2")
HUB_ADDRESS: Final = IPv4Address("169.254.171.1")
FIRST_TASK: Final = IPv4Address("169.254.172.1")
TASKS: Final = 1000
INTERFACE: Final = "eth1"
"""The name of a Fargate task's interface."""
INTERFACE_INDEX: Final = 1000
"""Above what the kernel may put into a new namespace by itself (tunl0, sit0)."""

Mode = Literal["auto", "namespaces", "ports"]
T = TypeVar("T")


def in_own_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own and wait: the namespaces it enters are left with the thread."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 (raised again by the caller)
            errors.append(error)

    thread = threading.Thread(target=run, name="namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def enter(namespace: int) -> None:
    """Move the calling thread into a network namespace."""
    call("setns", namespace, CLONE_NEWNET)


def new_network_namespace() -> int:
    """A file descriptor that holds a new network namespace with its loopback up; the calling thread is in it."""
    call("unshare", CLONE_NEWNET)
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with Netlink() as links:
        links.up(netlink.LOOPBACK)
    with contextlib.suppress(OSError):
        # Router solicitations and the like would be counted as the task's traffic.
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", encoding="ascii")
    return namespace


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def open_listener(namespace: int, address: str, port: int) -> socket.socket:
    """A listening TCP socket inside a network namespace, given by file descriptor; non-blocking, not inheritable."""

    def work() -> socket.socket:
        enter(namespace)
        return _listen(address, port)

    return in_own_thread(work)


@dataclass
class TaskNetwork:
    """One task's place in the network.

    `namespace` is a file descriptor, or None on the loopback. `listener` is the socket of the task's metadata and
    credentials endpoint, at `endpoint` as the task's containers see it.
    """

    address: str
    mac: str
    listener: socket.socket
    endpoint: str
    namespace: int | None = None
    leave: Callable[[], None] = field(default=lambda: None, repr=False)

    def close(self) -> None:
        self.listener.close()
        if self.namespace is not None:
            os.close(self.namespace)
            self.namespace = None
        self.leave()


class NamespaceHub:
    """The namespace in which everything waits that tasks can reach. Needs CAP_SYS_ADMIN; raises OSError without."""

    mode: Final = "namespaces"
    address: Final = str(HUB_ADDRESS)

    def __init__(self) -> None:
        self._free = list(range(TASKS))
        self._created = 0
        self._lock = threading.Lock()
        self.namespace, self._links = in_own_thread(self._create)

    @staticmethod
    def _create() -> tuple[int, Netlink]:
        namespace = new_network_namespace()
        try:
            links = Netlink()
            links.add_address(netlink.LOOPBACK, HUB_ADDRESS)
        except OSError:
            os.close(namespace)
            raise
        return namespace, links

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Sockets given by `listen` belong to their takers; the namespace goes with the last of them."""
        self._links.close()
        os.close(self.namespace)

    def listen(self, port: int) -> socket.socket:
        """A listening socket that every task reaches at `169.254.171.1:<port>`; the caller closes it."""
        return open_listener(self.namespace, self.address, port)

    def attach(self) -> TaskNetwork:
        """A new task's network: `lo`, `eth1`, and the metadata address. Takes a few milliseconds."""
        with self._lock:
            place = self._free.pop(0)
            self._created += 1
            index = 10 + self._created
        address = FIRST_TASK + place
        mac = b"\x02\x0a" + address.packed

        def leave() -> None:
            with self._lock:
                with contextlib.suppress(OSError):
                    self._links.delete(index)
                self._free.append(place)

        try:
            namespace, listener = in_own_thread(lambda: self._join(index, address, mac))
        except OSError:
            leave()
            raise
        return TaskNetwork(
            str(address), mac.hex(":"), listener, f"http://{METADATA_ADDRESS}", namespace, leave
        )

    def _join(self, index: int, address: IPv4Address, mac: bytes) -> tuple[int, socket.socket]:
        namespace = new_network_namespace()
        try:
            with self._lock:
                self._links.create_pair(
                    f"task{index}",
                    index,
                    peer=INTERFACE,
                    peer_index=INTERFACE_INDEX,
                    peer_namespace=namespace,
                    peer_mac=mac,
                )
                self._links.up(index)
                self._links.add_route(index, address, source=HUB_ADDRESS)
            with Netlink() as inside:
                inside.add_address(netlink.LOOPBACK, METADATA_ADDRESS)
                inside.add_address(INTERFACE_INDEX, address)
                inside.up(INTERFACE_INDEX)
                inside.add_route(INTERFACE_INDEX, HUB_ADDRESS, source=address)
            return namespace, _listen(str(METADATA_ADDRESS), 80)
        except OSError:
            os.close(namespace)
            raise


class LoopbackHub:
    """Tasks on this computer's loopback: no namespaces, a port of its own for everything."""

    mode: Final = "ports"
    address: Final = "127.0.0.1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held."""

    def listen(self, port: int) -> socket.socket:
        """A listening socket in place of `port`; which port it has is said by its `getsockname()`."""
        del port
        return _listen(self.address, 0)

    def attach(self) -> TaskNetwork:
        listener = _listen(self.address, 0)
        return TaskNetwork(
            self.address, "00:00:00:00:00:00", listener, f"http://127.0.0.1:{listener.getsockname()[1]}"
        )


Hub = NamespaceHub | LoopbackHub


def _try_namespaces() -> None:
    """Everything a task needs, tried in a thread that goes away; raises OSError."""
    call("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    call("mount", b"proc", b"/proc", b"proc", 0, None)


def open_hub(mode: Mode = "auto") -> Hub:
    """A hub of the wished mode; `auto` takes namespaces where they can be had.

    Raises SimulatorError when namespaces are demanded and cannot be had.
    """
    if mode == "ports":
        return LoopbackHub()
    try:
        in_own_thread(_try_namespaces)
        hub = NamespaceHub()
        try:
            hub.attach().close()
        except OSError:
            hub.close()
            raise
    except (OSError, AttributeError) as error:  # AttributeError: a C library without unshare or setns
        if mode == "auto":
            return LoopbackHub()
        raise SimulatorError(
            f"tasks cannot have network namespaces of their own ({error}): this needs root (CAP_SYS_ADMIN and "
            "CAP_NET_ADMIN) and a kernel with veth; run as root, or choose the mode 'ports'"
        ) from error
    return hub


def free_port(taken: set[int]) -> int:
    """A loopback port nobody listens on, not in `taken`, which gets it added."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            taken.add(port)
            return port
