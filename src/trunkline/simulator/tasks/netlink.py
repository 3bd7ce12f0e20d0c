"""The few requests of rtnetlink(7) that join a task's network namespace to the hub; `ip` need not be installed."""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address
from typing import Final, Self

REQUEST, ACKNOWLEDGE, EXCLUSIVE, CREATE = 0x1, 0x4, 0x200, 0x400
NEW_LINK, DELETE_LINK, NEW_ADDRESS, NEW_ROUTE = 16, 17, 20, 24
ERROR: Final = 2
IFF_UP: Final = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_PREFSRC = 1, 4, 7
TABLE_MAIN, PROTOCOL_BOOT, SCOPE_LINK, UNICAST = 254, 3, 253, 1
LOOPBACK: Final = 1
"""Index of `lo`, the same in every network namespace."""


def _attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(padding)


def _link(index: int, flags: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _name(name: str) -> bytes:
    return _attribute(IFLA_IFNAME, name.encode() + b"\0")


class Netlink:
    """A netlink socket; speaks about the network namespace its creating thread was in.

    Every method raises OSError with the kernel's errno when it refuses.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        header = struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACKNOWLEDGE | flags, 1, 0)
        self._socket.send(header + body)
        answer = self._socket.recv(8192)
        _, answered, _, _, _, error = struct.unpack_from("=IHHIIi", answer)
        if answered == ERROR and error:
            raise OSError(-error, f"netlink request {kind}: {os.strerror(-error)}")

    def create_pair(
        self, name: str, index: int, *, peer: str, peer_index: int, peer_namespace: int, peer_mac: bytes
    ) -> None:
        """Create a veth pair: `name` here, `peer` in the namespace behind the file descriptor `peer_namespace`."""
        other = (
            _link(peer_index)
            + _name(peer)
            + _attribute(IFLA_ADDRESS, peer_mac)
            + _attribute(IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        )
        kind = _attribute(IFLA_INFO_KIND, b"veth") + _attribute(
            IFLA_INFO_DATA, _attribute(VETH_INFO_PEER, other)
        )
        body = _link(index) + _name(name) + _attribute(IFLA_LINKINFO, kind)
        self._request(NEW_LINK, CREATE | EXCLUSIVE, body)

    def delete(self, index: int) -> None:
        self._request(DELETE_LINK, 0, _link(index))

    def up(self, index: int) -> None:
        self._request(NEW_LINK, 0, _link(index, IFF_UP))

    def add_address(self, index: int, address: IPv4Address) -> None:
        """Give an interface one address, on no network (/32)."""
        body = struct.pack("=BBBBi", socket.AF_INET, 32, 0, 0, index)
        body += _attribute(IFA_LOCAL, address.packed) + _attribute(IFA_ADDRESS, address.packed)
        self._request(NEW_ADDRESS, CREATE | EXCLUSIVE, body)

    def add_route(self, index: int, to: IPv4Address, *, source: IPv4Address) -> None:
        """Reach one address directly through an interface."""
        body = struct.pack(
            "=BBBBBBBBI", socket.AF_INET, 32, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, SCOPE_LINK, UNICAST, 0
        )
        body += _attribute(RTA_DST, to.packed)
        body += _attribute(RTA_OIF, struct.pack("=I", index)) + _attribute(RTA_PREFSRC, source.packed)
        self._request(NEW_ROUTE, CREATE | EXCLUSIVE, body)
