"""The floor: what the unavoidable of a load costs by itself, in one process that does nothing else.

For every sample somebody has to ask for its text, copy it out of the kernel, hash and checksum its compressed form,
write that to a file and copy it into the kernel again. This program does just that, paced like a collector, with
plain sockets: it reads bodies without looking at them, and sends as many bytes as samples would have become.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import Final

from zlib_ng.zlib_ng import crc32

from bench.load import Load
from bench.process import mark
from bench.receiver import Receiver
from bench.scenarios import Scenario
from trunkline.simulator.child import tied_to_parent

WIRE_BYTES_PER_SAMPLE: Final = 36
"""What a sample takes in a request, as every collector here shows it within a few percent."""
REQUEST_SAMPLES: Final = 10_000
_BEATS: Final = 10
_WARM_UP_S: Final = 2.0
_WINDOW_S: Final = 10.0


@dataclass(frozen=True)
class Floor:
    """CPU time of one sample, in nanoseconds."""

    scenario: str
    cpu_ns_per_sample: float


async def measure(scenario: Scenario) -> Floor:
    """Run the program against the load of `scenario`."""
    async with AsyncExitStack() as exits:
        load = await exits.enter_async_context(Load(scenario, None))
        receiver = await exits.enter_async_context(Receiver())
        receiver.first_sample_s = time.time()  # what comes here is no snappy
        plan = {
            "targets": [one.address for one in load.targets],
            "series": scenario.series,
            "interval_s": scenario.interval_s,
            "receiver": receiver.url.split("/")[2],
        }
        process = await asyncio.create_subprocess_exec(
            *tied_to_parent([sys.executable, "-m", "bench.floor", json.dumps(plan)])
        )
        try:
            await asyncio.sleep(_WARM_UP_S)
            before = mark(process.pid)
            await asyncio.sleep(_WINDOW_S)
            after = mark(process.pid)
        finally:
            process.kill()
            await process.wait()
    samples = sum(
        scenario.series
        for target in load.targets
        for served_s, _ in target.served
        if before.wall_s <= served_s < after.wall_s
    )
    return Floor(scenario.name, (after.cpu_s - before.cpu_s) / samples * 1e9)


def _run(plan: dict[str, object]) -> None:
    targets, series, interval_s = plan["targets"], plan["series"], plan["interval_s"]
    assert isinstance(targets, list)
    assert isinstance(series, int)
    assert isinstance(interval_s, float)
    sockets = [_connected(str(address)) for address in targets]
    outlet = _Outlet(_connected(str(plan["receiver"])))
    buffer = memoryview(bytearray(4 * 1024 * 1024))
    beat_s = interval_s / _BEATS
    due = time.monotonic()
    for beat in count():
        due += beat_s
        time.sleep(max(0.0, due - time.monotonic()))
        group = sockets[beat % _BEATS :: _BEATS]
        for one in group:
            one.send(b"GET /metrics HTTP/1.1\r\nHost: floor\r\nAccept: text/plain\r\n\r\n")
        for one in group:
            _receive(one, buffer)
            outlet.add(series, buffer)


class _Outlet:
    """Where samples go: a file, and full requests to the receiver."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self._samples = 0

    def add(self, samples: int, anything: memoryview) -> None:
        data = anything[: samples * WIRE_BYTES_PER_SAMPLE]
        crc32(data)
        os.pwrite(self._file.fileno(), data, 0)
        self._samples += samples
        if self._samples >= REQUEST_SAMPLES:
            self._send(anything[: self._samples * WIRE_BYTES_PER_SAMPLE])
            self._samples = 0

    def _send(self, body: memoryview) -> None:
        head = f"POST /write HTTP/1.1\r\nContent-Length: {len(body)}\r\nX-Hash: {sha256(body).hexdigest()}\r\n\r\n"
        self._connection.sendall(head.encode())
        self._connection.sendall(body)
        self._connection.recv(1024)


def _connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


def _receive(connection: socket.socket, buffer: memoryview) -> None:
    """Read one answer; all that is looked at is how long it is."""
    filled = connection.recv_into(buffer)
    head, _, _ = bytes(buffer[:512]).partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while filled < len(head) + 4 + length:
        filled += connection.recv_into(buffer[filled:])


if __name__ == "__main__":
    _run(json.loads(sys.argv[1]))
