"""What the command line asks of a running simulator, over `<state>/control.sock`.

One request per connection: a line of JSON `{"ask": name, ...arguments}`. Answered by lines `{"item": ...}` and at last
`{"done": true}` or `{"error": text}`. Whoever can open the socket may do everything; the folder around it is its
owner's alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from trunkline.errors import SimulatorError, TrunklineError

log = logging.getLogger(__name__)

Operation = Callable[..., AsyncIterator[Any]]
"""Yields what is answered; called with the request's arguments by name. Raises TrunklineError for a refusal."""

SOCKET: Final = "control.sock"
_LINE_BYTES: Final = 1 << 20
_TIMEOUT_S: Final = 60.0
_PING: Final = "ping"
_PING_TIMEOUT_S: Final = 5.0


async def _nothing() -> AsyncIterator[Any]:
    nothing: tuple[Any, ...] = ()
    for item in nothing:
        yield item


def default_state_dir() -> Path:
    """`$XDG_RUNTIME_DIR/trunkline`, or `trunkline-<uid>` in the folder for temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "trunkline") if runtime else Path(tempfile.gettempdir(), f"trunkline-{os.getuid()}")


class ControlServer:
    """Answers on the socket while it is entered."""

    def __init__(self, path: Path, operations: Mapping[str, Operation]) -> None:
        self._path = path
        self._operations = {**operations, _PING: _nothing}
        self._answering: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self._path, limit=_LINE_BYTES)
        self._path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for answering in self._answering:
            answering.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        await asyncio.sleep(0)  # lets the closed connections end
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering = asyncio.ensure_future(self._answer(reader, writer))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                await _say(writer, await self._outcome(line, writer))
        except OSError:
            pass  # whoever asked is gone
        finally:
            writer.close()

    async def _outcome(self, line: bytes, writer: asyncio.StreamWriter) -> dict[str, Any]:
        """Answer with items; the last line is returned."""
        try:
            await self._carry_out(line, writer)
        except (TrunklineError, ValueError, TypeError) as error:
            return {"error": str(error)}
        except OSError:
            raise
        except Exception:
            log.exception("a question of the command line")
            return {"error": "the simulator failed at this; its log has the details"}
        return {"done": True}

    async def _carry_out(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        arguments = json.loads(line)
        name = arguments.pop("ask", "")
        if name not in self._operations:
            raise SimulatorError(f"the simulator knows no {name!r}; it may be of another version")
        async for item in self._operations[name](**arguments):
            await _say(writer, {"item": item})


async def _say(writer: asyncio.StreamWriter, document: Mapping[str, Any]) -> None:
    writer.write(json.dumps(document).encode() + b"\n")
    await writer.drain()


class ControlClient:
    """Asks the simulator whose folder is `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir

    def is_running(self) -> bool:
        """Whether a simulator answers there."""
        try:
            list(self.stream(_PING, timeout_s=_PING_TIMEOUT_S))
        except SimulatorError:
            return False
        return True

    def ask(self, name: str, **arguments: object) -> Any:
        """The last item of the answer, None when there is none; raises SimulatorError."""
        items = list(self.stream(name, timeout_s=_TIMEOUT_S, **arguments))
        return items[-1] if items else None

    def stream(self, name: str, *, timeout_s: float | None = None, **arguments: object) -> Iterator[Any]:
        """The items of the answer as they come; raises SimulatorError."""
        try:
            with self._connect(timeout_s) as connection, connection.makefile("rb") as lines:
                connection.sendall(json.dumps({"ask": name, **arguments}).encode() + b"\n")
                yield from _items(lines)
        except OSError as error:
            raise SimulatorError(self._absent(error)) from error

    def _connect(self, timeout_s: float | None) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(self.state_dir / SOCKET))
        except OSError:
            connection.close()
            raise
        return connection

    def _absent(self, error: OSError) -> str:
        if isinstance(error, TimeoutError):
            return f"the simulator in {self.state_dir} did not answer in time"
        return (
            f"no simulator runs in {self.state_dir} ({error.strerror}); start one with: trunkline simulator up, "
            "or say where one runs with --state-dir"
        )


def _items(lines: Any) -> Iterator[Any]:
    for line in lines:
        document = json.loads(line)
        if "error" in document:
            raise SimulatorError(document["error"])
        if "done" in document:
            return
        yield document["item"]
    raise SimulatorError("the simulator ended while it was answering")
