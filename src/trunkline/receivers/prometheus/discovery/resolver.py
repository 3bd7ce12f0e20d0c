"""A DNS client for the few questions a discovery asks (RFC 1035, 2782, 6891), on the loop it is asked on.

The system's resolver answers only with addresses; a library for the other records would be the collector's fourth
package. Answers are read defensively: a message that is cut short or points at itself is an error.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, NamedTuple

from trunkline.errors import FetchError

TYPES: Final = {"A": 1, "NS": 2, "MX": 15, "AAAA": 28, "SRV": 33}
"""The records that can be asked for, by name."""

RESOLV_CONF: Final = Path("/etc/resolv.conf")
_NAMES: Final = {number: name for name, number in TYPES.items()}
_INTERNET: Final = 1
_OPT: Final = 41
_UDP_BYTES: Final = 4096
_TRUNCATED: Final = 0x0200
_ANSWER: Final = 0x8000
_RECURSION_WANTED: Final = 0x0100
_NO_ERROR, _NO_SUCH_NAME = 0, 3
_CODES: Final = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}
_MAX_NAME_BYTES: Final = 255


class Record(NamedTuple):
    """One record: `target` is an address, or a name with its last dot; `port` is 0 where there is none."""

    type: str
    target: str
    port: int = 0


class _Message(NamedTuple):
    code: int
    truncated: bool
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class ResolverSettings:
    """What resolv.conf says. Durations in seconds."""

    servers: Sequence[str] = ()
    search: Sequence[str] = ()
    dots: int = 1
    port: int = 53
    timeout_s: float = 2.0

    @classmethod
    def read(cls, path: Path, port: int = 53) -> ResolverSettings:
        """Raises OSError when there is no such file."""
        servers: list[str] = []
        search: list[str] = []
        dots = 1
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split("#")[0].split(";")[0].split()
            if words[:1] == ["nameserver"]:
                servers += words[1:2]
            elif words[:1] in (["search"], ["domain"]):
                search = words[1:]
            elif words[:1] == ["options"]:
                with suppress(ValueError):
                    dots = next((int(one[6:]) for one in words[1:] if one.startswith("ndots:")), dots)
        return cls(servers, search, dots, port)

    def candidates(self, name: str) -> list[str]:
        """The absolute names that `name` may mean, in the order they are tried."""
        if name.endswith("."):
            return [name]
        searched = [f"{name}.{domain.rstrip('.')}." for domain in self.search]
        absolute = [f"{name}."]
        return absolute + searched if name.count(".") + 1 > self.dots else searched + absolute


@dataclass(slots=True)
class Resolver:
    """Asks the servers of resolv.conf, which is read anew each time, as containers' may change."""

    path: Path = RESOLV_CONF
    port: int = 53
    timeout_s: float = field(default=2.0)

    async def lookup(self, name: str, type_: str) -> Sequence[Record]:
        """The records of a name, which may be none. Raises FetchError when no server can say.

        A name without a dot at its end is tried with the search list; that it does not exist counts only if every
        form of it was answered so.
        """
        try:
            settings = ResolverSettings.read(self.path, self.port)
        except OSError as error:
            raise FetchError(f"could not load {self.path}: {error.strerror}") from None
        failed = ""
        for candidate in settings.candidates(name):
            try:
                message = await self._ask_any(settings, candidate, type_)
            except FetchError as error:
                failed = str(error)
                continue
            if message.code == _NO_ERROR:
                return message.records
        if failed:
            raise FetchError(f"could not resolve {name!r}: {failed}")
        return ()

    async def _ask_any(self, settings: ResolverSettings, name: str, type_: str) -> _Message:
        said = "no nameserver in resolv.conf"
        for server in settings.servers:
            try:
                message = await self._ask(server, name, type_)
            except (OSError, ValueError, TimeoutError) as error:
                said = f"{server}: {str(error) or 'no answer in time'}"
                continue
            if message.code in (_NO_ERROR, _NO_SUCH_NAME):
                return message
            said = f"{server} answered {_CODES.get(message.code, message.code)}"
        raise FetchError(said)

    async def _ask(self, server: str, name: str, type_: str) -> _Message:
        query = _query(name, TYPES[type_], extended=True)
        async with asyncio.timeout(self.timeout_s):
            message = _read(await self._over_udp(server, query), query)
        if not message.truncated:
            return message
        query = _query(name, TYPES[type_], extended=False)
        async with asyncio.timeout(self.timeout_s):
            return _read(await self._over_tcp(server, query), query)

    async def _over_udp(self, server: str, query: bytes) -> bytes:
        """The first answer to this very query; what does not look like one is passed over."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, (server, self.port))
            await loop.sock_sendall(sock, query)
            while True:
                answer = await loop.sock_recv(sock, 65535)
                if answer[:2] == query[:2]:
                    return answer

    async def _over_tcp(self, server: str, query: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(server, self.port)
        try:
            writer.write(struct.pack(">H", len(query)) + query)
            [size] = struct.unpack(">H", await reader.readexactly(2))
            return await reader.readexactly(size)
        except EOFError:
            raise ValueError("the connection ended before the answer did") from None
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def _query(name: str, type_: int, *, extended: bool) -> bytes:
    """A question for the records of an absolute name; `extended` allows answers of more than 512 bytes."""
    header = os.urandom(2) + struct.pack(">HHHHH", _RECURSION_WANTED, 1, 0, 0, 1 if extended else 0)
    option = b"\0" + struct.pack(">HHIH", _OPT, _UDP_BYTES, 0, 0) if extended else b""
    return header + _encoded(name) + struct.pack(">HH", type_, _INTERNET) + option


def _encoded(name: str) -> bytes:
    parts = [part.encode("idna" if not part.isascii() else "ascii") for part in name.rstrip(".").split(".")]
    if not all(0 < len(part) < 64 for part in parts) or sum(map(len, parts)) + len(parts) >= _MAX_NAME_BYTES:
        raise ValueError(f"{name!r} is no name that DNS could have")
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def _read(answer: bytes, query: bytes) -> _Message:
    """What an answer says; raises ValueError if it is none, or not to this query."""
    try:
        flags, questions, answers = struct.unpack_from(">HHH", answer, 2)
        if not flags & _ANSWER or answer[:2] != query[:2] or questions != 1:
            raise ValueError("it is no answer to what was asked")
        if flags & _TRUNCATED:
            return _Message(flags & 15, truncated=True, records=())
        _, position = _name(answer, 12)
        records = list(_records(answer, position + 4, answers))
    except (struct.error, IndexError):
        raise ValueError("the answer is cut short") from None
    return _Message(flags & 15, truncated=False, records=records)


def _records(answer: bytes, position: int, count: int) -> Iterator[Record]:
    for _ in range(count):
        _, position = _name(answer, position)
        type_, _, _, size = struct.unpack_from(">HHIH", answer, position)
        position += 10
        if position + size > len(answer):
            raise IndexError
        if type_ in _NAMES:
            yield _record(answer, position, size, _NAMES[type_])
        position += size


def _record(answer: bytes, position: int, size: int, type_: str) -> Record:
    data = answer[position : position + size]
    if type_ == "A":
        return Record(type_, str(IPv4Address(data)))
    if type_ == "AAAA":
        return Record(type_, str(IPv6Address(data)))
    if type_ == "SRV":
        [port] = struct.unpack_from(">H", data, 4)
        return Record(type_, _name(answer, position + 6)[0], port)
    return Record(type_, _name(answer, position + (2 if type_ == "MX" else 0))[0])


def _name(message: bytes, position: int) -> tuple[str, int]:
    """A name with its last dot, and where what follows it begins. A pointer leads to what stands before it."""
    parts: list[bytes] = []
    end, limit = -1, position
    while (length := message[position]) != 0:
        if length >= 0xC0:
            end = position + 2 if end < 0 else end
            position = (length & 0x3F) << 8 | message[position + 1]
            if position >= limit:
                raise ValueError("a name in the answer points at itself")
            limit = position
            continue
        if length > 63 or sum(map(len, parts)) > _MAX_NAME_BYTES:
            raise ValueError("a name in the answer is too long")
        parts.append(message[position + 1 : position + 1 + length])
        position += 1 + length
    return "".join(f"{_shown(part)}." for part in parts) or ".", position + 1 if end < 0 else end


def _shown(part: bytes) -> str:
    r"""A part of a name as zone files write it: `\.` for a dot in it, `\007` for what cannot be printed."""
    return "".join(
        f"\\{chr(byte)}" if byte in b'."\\();@$' else chr(byte) if 0x20 < byte < 0x7F else f"\\{byte:03d}"
        for byte in part
    )
