"""A small DNS server for tests: it says what its zone says, by UDP and TCP."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from trunkline.receivers.prometheus.discovery.resolver import Resolver

QUESTIONS = {1: "A", 2: "NS", 15: "MX", 28: "AAAA", 33: "SRV"}
Zone = Mapping[tuple[str, str], Sequence[bytes]]


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name.rstrip(".").split(".")) + b"\0"


class Server(asyncio.DatagramProtocol):
    """Answers by UDP and TCP on one port; a name it does not know does not exist, `fail.` is an error.

    By UDP it says something else first, and cuts short what is longer than `most_bytes`.
    """

    def __init__(self, zone: Zone, most_bytes: int = 4096) -> None:
        self.zone = zone
        self.most_bytes = most_bytes
        self.asked: list[tuple[str, str, str]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(b"\0\0 no answer to anything", addr)
        whole = self.answer(data, "udp")
        if len(whole) > self.most_bytes:
            whole = whole[:2] + struct.pack(">H", 0x8380) + whole[4:40]
        self.transport.sendto(whole, addr)

    async def tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(EOFError):
            [size] = struct.unpack(">H", await reader.readexactly(2))
            whole = self.answer(await reader.readexactly(size), "tcp")
            writer.write(struct.pack(">H", len(whole)) + whole)
        writer.close()

    def answer(self, query: bytes, way: str) -> bytes:
        position, parts = 12, []
        while size := query[position]:
            parts.append(query[position + 1 : position + 1 + size].decode())
            position += size + 1
        [number] = struct.unpack_from(">H", query, position + 1)
        name, kind = ".".join(parts) + ".", QUESTIONS[number]
        self.asked.append((name, kind, way))
        records = self.zone.get((name, kind), ())
        known = any(one == name for one, _ in self.zone)
        code = 2 if name.startswith("fail") else 0 if known else 3
        header = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        return header + query[12 : position + 5] + b"".join(records)


def record(kind: str, data: bytes, name: bytes = b"\xc0\x0c") -> bytes:
    number = {name: number for number, name in QUESTIONS.items()}.get(kind, 5)
    return name + struct.pack(">HHIH", number, 1, 60, len(data)) + data


def address(text: str) -> bytes:
    found = ip_address(text)
    return record("A" if found.version == 4 else "AAAA", found.packed)


@asynccontextmanager
async def name_server(folder: Path, server: Server, *lines: str) -> AsyncIterator[Resolver]:
    loop = asyncio.get_running_loop()
    tcp = await asyncio.start_server(server.tcp, "127.0.0.1", 0)
    port = tcp.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", port))
    file = folder / "resolv.conf"
    file.write_text("\n".join(["nameserver 127.0.0.1", *lines]))
    try:
        yield Resolver(file, port, timeout_s=1.0)
    finally:
        transport.close()
        tcp.close()
        await tcp.wait_closed()


def srv(host: str, port: int) -> bytes:
    return record("SRV", struct.pack(">HHH", 10, 60, port) + encoded(host))
